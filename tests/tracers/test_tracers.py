"""A tracer in the app: it traces requests, marks them complete, and never gets in the way."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import logging
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from hush_core import BaseTracer, LocalTracer, MemoryState, code_node, get_store
from hush_core.capture.place import current


class HttpTracer(BaseTracer):
    def __init__(self, url: str, tags: list[str] | None = None) -> None:
        super().__init__(tags=tags)
        self.url = url

    def _get_tracer_config(self) -> dict[str, Any]:
        return {"url": self.url}

    @staticmethod
    def flush(flush_data: dict[str, Any]) -> None:
        raise NotImplementedError


class Broken(HttpTracer):
    def _get_tracer_config(self) -> dict[str, Any]:
        raise RuntimeError("no configuration")


class EngineState:
    """The state of another engine: not hush's class, only the attributes that it promises."""

    def __init__(self, **more: Any) -> None:
        self.request_id = "legacy"
        self.user_id = "u"
        self.session_id = "s"
        self.tags = ["dynamic"]
        self.has_trace_store = False
        self._trace_store = None
        self.execution_order: list[dict[str, Any]] = []
        self.trace_metadata: dict[str, dict[str, Any]] = {}
        self.__dict__.update(more)


@code_node
def rank(question: str) -> dict[str, Any]:
    return {"answer": question, "$tags": ["ranked"], "$usage": {"prompt_tokens": 3, "completion_tokens": 4}}


def stored(request_id: str) -> Any:
    assert get_store().sync(30)
    return get_store().get_request(request_id)


# -- tags -------------------------------------------------------------------------------------------------------------


def test_static_tags_come_first_and_new_dynamic_ones_after_them_in_order() -> None:
    tracer = LocalTracer(tags=["prod", "team"])
    assert tracer._merge_tags(MemoryState(tags=["b", "prod", "a", "b"])) == ["prod", "team", "b", "a"]


def test_the_tags_of_a_tracer_are_given_as_a_copy() -> None:
    given = ["prod"]
    tracer = LocalTracer(tags=given)
    given.append("later")
    tracer.tags.append("mine")
    assert tracer.tags == ["prod"]
    assert LocalTracer().tags == []


def test_a_tracer_must_say_how_it_is_configured_and_how_it_delivers() -> None:
    class Half(BaseTracer):
        pass

    with pytest.raises(TypeError, match="abstract"):
        Half()  # type: ignore[abstract]
    assert inspect.getattr_static(BaseTracer, "flush").__isabstractmethod__
    assert isinstance(inspect.getattr_static(BaseTracer, "flush"), staticmethod)


def test_the_local_tracer_delivers_nothing_and_needs_nothing() -> None:
    assert LocalTracer()._get_tracer_config() == {}
    LocalTracer.flush({"nodes": []})


# -- a trace ----------------------------------------------------------------------------------------------------------


def test_a_trace_is_stored_with_its_root_its_nodes_and_its_tags() -> None:
    tracer = LocalTracer(tags=["prod"])
    with tracer.trace("flow", inputs={"q": 1}, user_id="u", session_id="s", tags=["given"]) as state:
        assert isinstance(state, MemoryState)
        rank("q")
        state.set_output({"a": 2})
    request = stored(state.request_id)
    assert (request.workflow_name, request.status, request.user_id, request.session_id) == (
        "flow",
        "completed",
        "u",
        "s",
    )
    assert request.tags == ["prod", "given", "ranked"]
    assert request.total_tokens == 7
    root, node = request.nodes
    assert (root.node_name, root.node_type, root.input_data, root.output_data) == (
        "flow",
        "workflow",
        {"q": 1},
        {"a": 2},
    )
    assert (node.node_name, node.parent_id, node.parent_name) == ("rank", root.id, "flow")
    assert node.input_data == {"question": "q"}
    assert node.output_data == {"answer": "q"}
    assert [(each.tracer_name, each.tracer_type) for each in request.deliveries] == [("LocalTracer", "LocalTracer")]


def test_a_request_id_of_the_callers_own_is_kept() -> None:
    with LocalTracer().trace("flow", request_id="order-17"):
        pass
    assert stored("order-17").status == "completed"


def test_a_request_is_visible_while_it_runs() -> None:
    with LocalTracer().trace("flow") as state:
        request = stored(state.request_id)
        assert request.status == "running"
        assert [(node.node_name, node.status) for node in request.nodes] == [("flow", "running")]


def test_an_exception_fails_the_request_and_goes_on_unchanged() -> None:
    problem = ValueError("no such document")
    with pytest.raises(ValueError, match="no such document") as caught, LocalTracer().trace("flow") as state:
        raise problem
    assert caught.value is problem
    request = stored(state.request_id)
    assert (request.status, request.error) == ("failed", "ValueError: no such document")
    assert request.nodes[0].error.startswith("ValueError: no such document\nTraceback")
    assert request.nodes[0].status == "error"


@pytest.mark.parametrize(("code", "status"), [(0, "completed"), (None, "completed"), (3, "failed")])
def test_leaving_by_sys_exit_is_a_failure_only_with_a_code(code: int | None, status: str) -> None:
    with pytest.raises(SystemExit), LocalTracer().trace("flow") as state:
        sys.exit(code)
    assert stored(state.request_id).status == status


def test_a_trace_may_be_async() -> None:
    async def one(n: int) -> str:
        async with LocalTracer().trace("flow", inputs={"n": n}) as state:
            await asyncio.sleep(0)
            rank(str(n))
            return state.request_id

    async def main() -> list[str]:
        return await asyncio.gather(*map(one, range(3)))

    for n, request_id in enumerate(asyncio.run(main())):
        root, node = stored(request_id).nodes
        assert root.input_data == {"n": n}
        assert node.input_data == {"question": str(n)}


def test_a_trace_within_a_trace_is_a_request_of_its_own() -> None:
    with LocalTracer().trace("outer") as outer:
        with LocalTracer().trace("inner") as inner:
            rank("inner")
        rank("outer")
    assert [node.node_name for node in stored(inner.request_id).nodes] == ["inner", "rank"]
    assert [node.node_name for node in stored(outer.request_id).nodes] == ["outer", "rank"]
    assert current.get() is None


def test_a_tracer_traces_many_requests() -> None:
    tracer = LocalTracer()
    ids = []
    for _ in range(3):
        with tracer.trace("flow") as state:
            ids.append(state.request_id)
    assert len(set(ids)) == 3
    assert {stored(request_id).status for request_id in ids} == {"completed"}


def test_start_records_can_be_turned_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hush.toml").write_text("[capture]\nstart_records = false\n")
    with LocalTracer().trace("flow", inputs={"q": 1}) as state:
        rank("q")
        assert stored(state.request_id).nodes[0].node_name == "rank"
    root, node = stored(state.request_id).nodes
    assert (root.node_name, root.input_data) == ("flow", {"q": 1})
    assert (node.input_data, node.parent_id) == ({"question": "q"}, root.id)


def test_a_request_whose_process_was_killed_has_the_static_tags(tmp_path: Path) -> None:
    script = (
        "import os, signal\n"
        "from hush_core import LocalTracer\n"
        "with LocalTracer(tags=['prod']).trace('flow', request_id='killed', tags=['given']):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    store = get_store()
    store.insert_node_trace("other", "w", "n", None, None, 0, None, None, None, None, None)
    assert store.sync(30)
    import time

    deadline = time.monotonic() + 10
    while not [each for each in store.iter_requests() if each.request_id == "killed" and each.status == "interrupted"]:
        assert time.monotonic() < deadline, "waited for the request to be interrupted"
        time.sleep(0.01)
    assert store.get_request("killed").tags == ["prod", "given"]


# -- flush_in_background ----------------------------------------------------------------------------------------------


def test_a_request_with_a_trace_store_is_only_marked_complete() -> None:
    store = get_store()
    store.insert_node_trace("legacy", "flow", "written before", None, None, 0, None, None, None, None, None)
    state = EngineState(has_trace_store=True, _trace_store=store, execution_order=[{"node": "ignored"}])
    HttpTracer("http://x", tags=["static"]).flush_in_background("flow", state)
    request = stored("legacy")
    assert [node.node_name for node in request.nodes] == ["written before"]
    assert (request.status, request.tags, request.user_id) == ("completed", ["static", "dynamic"], "u")
    assert [(each.tracer_name, each.tracer_type) for each in request.deliveries] == [("HttpTracer", "HttpTracer")]


def test_an_engine_may_say_afterwards_when_a_request_ended() -> None:
    store = get_store()
    store.insert_node_trace("legacy", "engine", "n", None, None, 0, 1_000_000_000, None, None, {}, {})
    state = EngineState(has_trace_store=True, _trace_store=store, end_time_ns=3_000_000_000)
    LocalTracer().flush_in_background("engine", state)
    assert store.sync(30)
    assert store.get_request("legacy").duration_ms == 2000.0


def test_a_request_without_a_trace_store_has_its_traces_inserted_in_a_batch() -> None:
    state = EngineState(
        execution_order=[
            {"node": "root", "parent": None, "context_id": None, "contain_generation": False},
            {"node": "llm", "parent": "root", "context_id": "[0]", "contain_generation": True},
            {"node": "llm", "parent": "root", "context_id": "[1]", "contain_generation": True},
        ],
        trace_metadata={
            "root": {
                "name": "root",
                "start_time": "2025-01-31T12:00:00Z",
                "end_time": "2025-01-31T12:00:02Z",
                "duration_ms": 2000.0,
                "input_vars": {"q": 1},
                "output_vars": {"a": 2},
                "custom": "kept",
            },
            "llm:[0]": {
                "start_time": datetime(2025, 1, 31, 12, tzinfo=timezone.utc),
                "input_data": {"prompt": "p"},
                "output_data": "text",
                "model": "gpt",
                "usage": {"prompt_tokens": 3, "completion_tokens": 4},
                "cost": 0.5,
                "metadata": {"temperature": 0.1},
            },
            "llm:[1]": {"usage": {"input_tokens": 1, "output_tokens": 2}, "cost": {"total": 0.25}, "error": "E: no"},
        },
    )
    LocalTracer(tags=["static"]).flush_in_background("flow", state)
    request = stored("legacy")
    assert (request.workflow_name, request.status, request.tags) == ("flow", "completed", ["static", "dynamic"])
    assert (request.total_tokens, request.cost_usd) == (10, 0.75)
    root, first, second = request.nodes
    assert (root.duration_ms, root.input_data, root.output_data) == (2000.0, {"q": 1}, {"a": 2})
    assert root.metadata == {"metadata": None, "custom": "kept"}
    assert (first.context_id, first.model, first.total_tokens, first.cost_usd) == ("[0]", "gpt", 7, 0.5)
    assert (first.input_data, first.output_data, first.metadata) == ({"prompt": "p"}, "text", {"temperature": 0.1})
    assert (first.parent_name, first.parent_id, first.contain_generation) == ("root", root.id, True)
    assert (second.context_id, second.status, second.error, second.total_tokens) == ("[1]", "error", "E: no", 3)


def test_variables_that_are_listed_by_name_are_looked_up_in_the_state() -> None:
    class Variables(EngineState):
        def __getitem__(self, key: tuple[str, str, str | None]) -> Any:
            return {("n", "x", None): 1, ("n", "y", None): 2}[key]

    state = Variables(
        execution_order=[{"node": "n"}, {"node": "m"}],
        trace_metadata={"n": {"input_vars": ["x"], "output_vars": ["y"]}, "m": {"input_vars": ["x"]}},
    )
    LocalTracer().flush_in_background("flow", state)
    first, second = stored("legacy").nodes
    assert (first.input_data, first.output_data) == ({"x": 1}, {"y": 2})
    assert second.input_data == ["x"]


def test_a_run_that_nothing_is_known_of_is_stored_too() -> None:
    state = EngineState(execution_order=[{"node": "n", "parent": None}])
    LocalTracer().flush_in_background("flow", state)
    assert [node.node_name for node in stored("legacy").nodes] == ["n"]


@pytest.mark.expects_report
def test_a_run_that_makes_no_sense_is_counted_and_stops_no_other() -> None:
    state = EngineState(execution_order=[5, {"node": "n"}])
    LocalTracer().flush_in_background("flow", state)
    assert [node.node_name for node in stored("legacy").nodes] == ["n"]
    assert get_store().background.dropped == {"other": 1}  # type: ignore[attr-defined]


@pytest.mark.expects_report
@pytest.mark.parametrize("state", [None, object(), EngineState(has_trace_store=True), EngineState(execution_order=7)])
def test_a_state_that_makes_no_sense_is_reported_and_raises_nothing(state: Any, reports: list[str]) -> None:
    LocalTracer().flush_in_background("flow", state)
    assert len(reports) <= 1


@pytest.mark.expects_report
def test_a_tracer_that_cannot_say_its_configuration_is_due_all_the_same(reports: list[str]) -> None:
    with Broken("x").trace("flow") as state:
        pass
    assert [each.tracer_type for each in stored(state.request_id).deliveries] == ["Broken"]
    assert {"no configuration" in report for report in reports} == {True}


@pytest.mark.expects_report
def test_a_workflow_whose_database_path_cannot_be_told_runs_without_a_trace(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HUSH_TRACES_DB", "~nobody-of-that-name/traces.db")
    with caplog.at_level(logging.ERROR), LocalTracer().trace("flow") as state:
        assert not state.has_trace_store
        for question in state.loop("ab"):
            assert rank(question) == {
                "answer": question,
                "$tags": ["ranked"],
                "$usage": {"prompt_tokens": 3, "completion_tokens": 4},
            }
    assert "opening the trace store" in caplog.text


# -- shutdown_worker --------------------------------------------------------------------------------------------------


def test_shutdown_worker_waits_until_all_is_stored() -> None:
    with LocalTracer().trace("flow") as state:
        rank("q")
    assert BaseTracer.shutdown_worker(timeout=10.0) is True
    assert get_store().get_request(state.request_id).status == "completed"


def test_shutdown_worker_of_a_process_that_recorded_nothing_returns_at_once() -> None:
    script = (
        "import sys; from hush_core import BaseTracer\n"
        "print(BaseTracer.shutdown_worker(), 'hush_core.background.supervisor' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


SENDING = """
import sys, time
from hush_core import BaseTracer

class Sending(BaseTracer):
    def __init__(self, path, fails=False):
        super().__init__()
        self.config = {"path": str(path), "fails": fails}

    def _get_tracer_config(self):
        return self.config

    @staticmethod
    def flush(flush_data):
        config = flush_data["tracer_config"]
        with open(config["path"], "a") as file:
            file.write(flush_data["request_id"] + "\\n")
        if config["fails"]:
            raise RuntimeError("the backend is down")
"""


@pytest.fixture
def sending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A tracer class that a delivery process can import."""
    (tmp_path / "sending_tracer.py").write_text(SENDING)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("sending_tracer").Sending
    del sys.modules["sending_tracer"]


@pytest.mark.parametrize("fails", [False, True])
def test_shutdown_worker_waits_until_what_is_due_was_tried(fails: bool, sending: Any, tmp_path: Path) -> None:
    with sending(tmp_path / "sent", fails).trace("flow", request_id="r-1"):
        pass
    assert BaseTracer.shutdown_worker(timeout=30.0) is True
    sent = (tmp_path / "sent").read_text().split()
    [delivery] = get_store().get_request("r-1").deliveries
    if fails:  # and is tried again, perhaps by now
        assert set(sent) == {"r-1"}
        assert delivery.status in ("pending", "flushing")
        assert delivery.attempts >= 1
    else:
        assert (delivery.status, delivery.attempts, sent) == ("flushed", 1, ["r-1"])


def test_shutdown_worker_that_has_no_time_says_so(sending: Any, tmp_path: Path) -> None:
    with sending(tmp_path / "sent").trace("flow"):
        pass
    assert BaseTracer.shutdown_worker(timeout=0.0) is False


def test_recording_goes_on_after_shutdown_worker() -> None:
    with LocalTracer().trace("flow"):
        pass
    assert BaseTracer.shutdown_worker(timeout=10.0)
    with LocalTracer().trace("flow") as state:
        pass
    assert stored(state.request_id).status == "completed"
