"""What a user's type checker sees of hush. Checked with mypy --strict against the installed wheel; never run.

A wrong type here is an error of mypy's, and so is an ignore that is no longer needed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import hush_core
from hush_core import (
    BaseTracer,
    FlushData,
    LocalTracer,
    MemoryState,
    PermanentFlushError,
    RetryableFlushError,
    TraceStore,
    code_node,
    error_for_status,
    get_background,
    get_registered_tracers,
    get_store,
    get_tracer,
    hookimpl,
    shutdown_background,
)


class MyTracer(BaseTracer):
    """A tracer as a plugin's author writes one."""

    def __init__(self, api_key: str, tags: list[str] | None = None) -> None:
        super().__init__(tags=tags)
        self.api_key = api_key

    def _get_tracer_config(self) -> dict[str, Any]:
        return {"api_key": self.api_key}

    @staticmethod
    def flush(flush_data: dict[str, Any]) -> None:
        if not flush_data["nodes"]:
            raise PermanentFlushError("nothing to send")
        raise RetryableFlushError("busy", retry_after_s=1.5)


class TypedTracer(LocalTracer):
    """A tracer that says what it is given."""

    @staticmethod
    def flush(flush_data: FlushData) -> None:
        print(flush_data["request_id"].upper(), [node["span_id"] for node in flush_data["nodes"]])


@code_node
def rank(question: str, documents: list[str], *, most: int = 3) -> list[str]:
    return sorted(documents)[:most]


@code_node(name="answer")
async def answer(question: str) -> dict[str, str]:
    return {"answer": question}


@code_node
def stream(text: str) -> Iterator[str]:
    yield from text.split()


@code_node
async def stream_later(text: str) -> AsyncIterator[str]:
    yield text


class Pipeline:
    """A method is a node too, and keeps its type."""

    @code_node
    def run(self, question: str) -> int:
        return len(question)


def a_wrapped_function_keeps_its_type() -> None:
    ranked: list[str] = rank("q", ["a"], most=2)
    rank("q", 3)  # type: ignore[arg-type]
    rank("q", ["a"], mots=2)  # type: ignore[call-arg]
    words: Iterator[str] = stream("a b")
    length: int = Pipeline().run("q")
    print(ranked, words, length)


async def an_async_function_keeps_its_type() -> None:
    answered: dict[str, str] = await answer("q")
    async for word in stream_later("a"):
        print(word.upper(), answered)


def a_trace_gives_a_state() -> None:
    with LocalTracer(tags=["a"]).trace("w", inputs={"q": 1}, user_id="u", session_id="s") as state:
        request_id: str = state.request_id
        for question in state.loop(["a", "b"]):
            print(question.upper(), request_id)
        with state.iteration(2):
            state.set_output({"answer": 42})


async def a_trace_may_be_async() -> None:
    async with MyTracer("key").trace("w") as state:
        seen: MemoryState = state
        print(seen)


def a_store_records_and_reads(path: Path) -> None:
    store: TraceStore = get_store(path)
    store.insert_node_trace(
        request_id="r",
        workflow_name="w",
        node_name="n",
        parent_name=None,
        context_id=None,
        execution_order=0,
        start_time=None,
        end_time=None,
        duration_ms=None,
        input_data={"a": 1},
        output_data=None,
    )
    store.mark_request_complete(request_id="r", tracer_type="LocalTracer", tracer_config={}, tags=["a"])
    stored: bool = store.sync(1.0)
    for request in store.iter_requests():
        print(request.request_id.upper(), stored)


def a_background_can_be_asked() -> None:
    background = get_background()
    running: bool = background.is_running
    stored: bool = shutdown_background(timeout=1.0)
    path: Path = background.db_path
    print(running, stored, path, hush_core.__version__.upper())


def a_private_name_is_not_offered() -> None:
    hush_core.get_tracr  # type: ignore[attr-defined]  # noqa: B018


@hookimpl
def hush_register_tracers(register: Any) -> None:
    register("mine", "my_package.tracer:MyTracer", summary="Mine")


@hookimpl(tryfirst=True)
def hush_before_flush(tracer_name: str, flush_data: FlushData) -> bool:
    return not flush_data["tags"]


def a_hook_keeps_its_type(data: FlushData) -> None:
    sends: bool = hush_before_flush("prod", data)
    hush_before_flush("prod")  # type: ignore[call-arg]
    print(sends)


def a_tracer_is_had_by_name(name: str | None) -> None:
    tracer: BaseTracer = get_tracer("prod", "local", tags=["a"])
    same: BaseTracer = get_tracer(name) or get_tracer()
    classes: dict[str, type[BaseTracer]] = get_registered_tracers()
    get_tracer(3)  # type: ignore[arg-type]
    error = error_for_status(503, headers={"Retry-After": "3"}, body=b"busy")
    if error is not None:
        raise error
    print(tracer.name, same.tags, classes)
