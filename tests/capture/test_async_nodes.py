"""Async functions are nodes over `await`, tasks and cancellation."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hush_core.capture.node import code_node
from hush_core.capture.place import current
from hush_core.capture.state import MemoryState


@code_node
async def fetch(n: int) -> int:
    await asyncio.sleep(0)
    return n


@code_node
def parse(n: int) -> int:
    return n


@code_node
async def both(n: int) -> int:
    await fetch(n)
    return parse(n)


class Client:
    @code_node
    async def get(self, n: int) -> int:
        return n


def test_inspect_still_sees_a_coroutine_function() -> None:
    assert inspect.iscoroutinefunction(fetch)
    assert inspect.iscoroutinefunction(Client.get)
    assert inspect.iscoroutinefunction(Client().get)
    assert inspect.iscoroutinefunction(fetch.under())


def test_outside_of_a_trace_it_is_the_plain_function(recording: Any) -> None:
    assert asyncio.run(both(1)) == 1
    assert recording.payloads == []


def test_the_enclosing_node_is_the_parent_over_await(state: MemoryState, recording: Any) -> None:
    assert asyncio.run(both(7)) == 7
    assert recording.tree() == [("both", None, None), ("fetch", "both", None), ("parse", "both", None)]


def test_tasks_that_interleave_keep_their_own_parents(state: MemoryState, recording: Any) -> None:
    @code_node
    async def fan_out() -> list[int]:
        return await asyncio.gather(*(both(n) for n in range(5)))

    assert asyncio.run(fan_out()) == [0, 1, 2, 3, 4]
    starts = {node["span"]: node for node in recording.nodes(2)}
    for node in starts.values():
        if node["node_name"] in ("fetch", "parse"):
            parent = starts[node["parent_span"]]
            assert (parent["node_name"], parent["input_data"]) == ("both", node["input_data"])


def test_a_task_that_outlives_its_node_keeps_it_as_parent(state: MemoryState, recording: Any) -> None:
    tasks: list[asyncio.Task[int]] = []

    @code_node
    async def start() -> None:
        tasks.append(asyncio.create_task(fetch(1)))

    async def main() -> None:
        await start()
        parse(2)
        await tasks[0]
        parse(3)

    asyncio.run(main())
    assert recording.tree() == [
        ("start", None, None),
        ("parse", None, None),
        ("fetch", "start", None),
        ("parse", None, None),
    ]


def test_to_thread_keeps_the_place_and_an_executor_takes_it_by_under(state: MemoryState, recording: Any) -> None:
    @code_node
    async def work() -> None:
        await asyncio.to_thread(parse, 1)
        await asyncio.get_running_loop().run_in_executor(None, parse.under(), 2)

    asyncio.run(work())
    assert recording.tree() == [("work", None, None), ("parse", "work", None), ("parse", "work", None)]


def test_an_async_function_is_bound_to_a_place(state: MemoryState, recording: Any) -> None:
    bound = both.under(state)
    current.set(None)
    assert asyncio.run(bound(3)) == 3
    assert recording.tree() == [("both", None, None), ("fetch", "both", None), ("parse", "both", None)]
    assert current.get() is None


def test_a_cancelled_node_is_recorded_as_such_and_stays_cancelled(state: MemoryState, recording: Any) -> None:
    @code_node
    async def hang() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(hang())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    asyncio.run(main())
    assert recording.node("hang")["error"].startswith("CancelledError: ")


def test_a_timeout_ends_the_node(state: MemoryState, recording: Any) -> None:
    @code_node
    async def hang() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(hang(), 0.01)

    asyncio.run(main())
    assert "CancelledError" in recording.node("hang")["error"]


def test_an_error_passes_through_await_unchanged(state: MemoryState, recording: Any) -> None:
    problem = ValueError("no")

    @code_node
    async def fails() -> None:
        raise problem

    with pytest.raises(ValueError, match="no") as caught:
        asyncio.run(fails())
    assert caught.value is problem
    assert recording.node("fails")["error"].startswith("ValueError: no")


def test_a_coroutine_that_is_dropped_half_way_ends_its_node_and_no_other_place(
    state: MemoryState, recording: Any
) -> None:
    @code_node
    async def half() -> None:
        await asyncio.Event().wait()

    async def drop() -> None:
        coroutine = half()
        coroutine.send(None)
        current.set(None)
        del coroutine
        gc.collect()
        assert current.get() is None

    asyncio.run(drop())
    assert recording.node("half")["error"].startswith("GeneratorExit")


def test_reserved_keys_of_an_async_result_go_to_the_trace(state: MemoryState, recording: Any) -> None:
    @code_node
    async def answer() -> dict[str, Any]:
        return {"a": 1, "$usage": {"input_tokens": 3, "output_tokens": 4}}

    assert asyncio.run(answer()) == {"a": 1}
    assert recording.node("answer")["total_tokens"] == 7


# -- what is async and does not look so -------------------------------------------------------------------------------


async def ask(question: str, n: int = 1) -> dict[str, Any]:
    await asyncio.sleep(0)
    parse(n)
    return {"a": question, "$model": "m"}


class Asker:
    async def __call__(self, question: str) -> dict[str, Any]:
        return await ask(question)


def plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator that knows nothing of coroutines."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


DISGUISES: dict[str, Callable[..., Any]] = {
    "partial": functools.partial(ask, n=3),
    "partial of a partial": functools.partial(functools.partial(ask), n=3),
    "object": Asker(),
    "partial of an object": functools.partial(Asker()),
    "plain decorator": plain(ask),
}


@pytest.fixture(params=DISGUISES)
def disguised(request: pytest.FixtureRequest) -> Callable[..., Any]:
    return DISGUISES[request.param]


def test_an_async_callable_of_any_kind_is_a_node_until_its_coroutine_ends(
    state: MemoryState, recording: Any, disguised: Callable[..., Any]
) -> None:
    node = code_node(name="asked")(disguised)
    coroutine = node("why?")
    assert recording.nodes() == []
    assert current.get() is state.root

    async def main() -> Any:
        answer = await coroutine
        assert current.get() is state.root
        return answer

    assert asyncio.run(main()) == {"a": "why?"}
    assert recording.tree() == [("asked", None, None), ("parse", "asked", None)]
    asked = recording.node("asked")
    assert (asked["output_data"], asked["model"]) == ({"a": "why?"}, "m")


def test_an_error_in_an_async_callable_of_any_kind_ends_its_node(
    state: MemoryState, recording: Any, disguised: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(n: int) -> None:
        raise ValueError("no")

    monkeypatch.setitem(globals(), "parse", fail)
    with pytest.raises(ValueError, match="no"):
        asyncio.run(code_node(name="asked")(disguised)("why?"))
    error = recording.node("asked")["error"]
    assert error.startswith("ValueError: no\nTraceback") and "in fail" in error
    assert current.get() is state.root


def test_tasks_of_async_callables_of_any_kind_keep_their_own_places(
    state: MemoryState, recording: Any, disguised: Callable[..., Any]
) -> None:
    node = code_node(name="asked")(disguised)

    async def main() -> None:
        await asyncio.gather(*(node(f"{n}") for n in range(3)))

    asyncio.run(main())
    assert [parent for name, parent, _ in recording.tree() if name == "parse"] == ["asked"] * 3
    assert len({node["parent_span"] for node in recording.nodes() if node["node_name"] == "parse"}) == 3


def test_an_async_callable_of_any_kind_runs_where_it_is_bound(
    state: MemoryState, recording: Any, disguised: Callable[..., Any]
) -> None:
    bound = state.under(disguised)
    current.set(None)
    assert asyncio.run(bound("why?"))["a"] == "why?"
    assert recording.tree() == [("parse", None, None)]


def test_generators_behind_a_partial_or_an_object_are_nodes_until_they_end(state: MemoryState, recording: Any) -> None:
    class Counter:
        def __call__(self, n: int) -> Iterator[int]:
            yield from range(n)

    for function in (Counter(), functools.partial(Counter(), 2), functools.partial(Counter().__call__, 2)):
        node = code_node(name="counted")(function)
        assert list(node(2) if isinstance(function, Counter) else node()) == [0, 1]
    assert [node["output_data"] for node in recording.nodes()] == [[0, 1]] * 3
