"""The store as the app holds it: what is inserted is in SQLite a moment later, and nothing is ever raised."""

from __future__ import annotations

import inspect
import multiprocessing
import os
import pickle
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest
from canary import CANARY
from disk import files_below

from hush_core.background.supervisor import get_background, shutdown_background
from hush_core.errors import UnknownRequestError
from hush_core.model import COMPLETED, NODE, NODE_FIELDS, REQUEST_COMPLETE
from hush_core.store.trace_store import TraceStore, get_store

SEED_PARAMETERS = (
    "request_id", "workflow_name", "node_name", "parent_name", "context_id", "execution_order", "start_time",
    "end_time", "duration_ms", "input_data", "output_data", "user_id", "session_id", "model", "prompt_tokens",
    "completion_tokens", "total_tokens", "cost_usd", "contain_generation", "metadata",
)  # fmt: skip


def small(**more: Any) -> dict[str, Any]:
    node: dict[str, Any] = {
        "request_id": "r",
        "workflow_name": "flow",
        "node_name": "rank",
        "parent_name": None,
        "context_id": "[0]",
        "execution_order": 1,
        "start_time": "2025-01-31T12:00:00+00:00",
        "end_time": "2025-01-31T12:00:01+00:00",
        "duration_ms": 1000.0,
        "input_data": {"question": "q"},
        "output_data": {"answer": "a"},
    }
    return {**node, **more}


def test_the_signature_is_the_seeds_with_keyword_fields_after_it() -> None:
    parameters = list(inspect.signature(TraceStore.insert_node_trace).parameters.values())[1:]
    assert tuple(each.name for each in parameters[: len(SEED_PARAMETERS)]) == SEED_PARAMETERS
    assert all(each.kind is each.POSITIONAL_OR_KEYWORD for each in parameters[: len(SEED_PARAMETERS)])
    assert all(each.kind is each.KEYWORD_ONLY for each in parameters[len(SEED_PARAMETERS) :])
    assert [each.name for each in parameters if each.default is each.empty] == list(SEED_PARAMETERS[:11])


def test_a_record_has_the_fields_in_the_order_of_the_contract(store: TraceStore, recording: Any) -> None:
    values: dict[str, Any] = {name: f"<{name}>" for name in SEED_PARAMETERS}
    more = NODE_FIELDS[len(SEED_PARAMETERS) : NODE_FIELDS.index("span")]
    store.insert_node_trace(**values, **{name: f"<{name}>" for name in more})
    (record,) = recording.records()
    assert record == [NODE, *(f"<{name}>" for name in NODE_FIELDS[: len(record) - 1])]
    assert record[-1] == "<reasoning_tokens>"


def test_a_completed_request_has_the_fields_of_the_contract(store: TraceStore, recording: Any) -> None:
    store.mark_request_complete("r", "LangfuseTracer", {"key": "${KEY}"}, ["a"])
    (record,) = recording.records()
    assert record[:6] == [REQUEST_COMPLETE, "r", "LangfuseTracer", {"key": "${KEY}"}, ["a"], "LangfuseTracer"]
    assert record[6:11] == [None] * 5
    assert isinstance(record[11], int)
    assert recording.secured == 1


def test_what_is_inserted_is_in_the_database_after_sync() -> None:
    store = get_store()
    store.insert_node_trace(
        **small(
            user_id="u", session_id="s", model="gpt", prompt_tokens=3, completion_tokens=4, total_tokens=7,
            cost_usd=0.5, contain_generation=True, metadata={"m": 1}, node_type="llm", level="ERROR", error="E: no",
            media=["x"], time_to_first_token_ms=1.5, cached_tokens=1, reasoning_tokens=2,
        )
    )  # fmt: skip
    store.mark_request_complete("r", "LocalTracer", {}, ["a"], status=COMPLETED)
    assert store.sync(30)
    request = store.get_request("r")
    assert (request.status, request.tags, request.user_id, request.session_id) == ("completed", ["a"], "u", "s")
    assert [(delivery.tracer_type, delivery.status) for delivery in request.deliveries] == [("LocalTracer", "flushed")]
    (node,) = request.nodes
    assert (node.input_data, node.output_data) == ({"question": "q"}, {"answer": "a"})
    assert (node.start_time, node.duration_ms) == ("2025-01-31T12:00:00.000000Z", 1000.0)
    assert (node.model, node.total_tokens, node.cached_tokens, node.reasoning_tokens) == ("gpt", 7, 1, 2)
    assert (node.metadata, node.media, node.error) == ({"m": 1}, ["x"], "E: no")
    assert [each.request_id for each in store.iter_requests()] == ["r"]


def test_the_secrets_of_an_engines_own_tracer_are_kept_apart_from_the_database(tmp_path: Path) -> None:
    store = get_store()
    store.mark_request_complete("r", "LocalTracer", {"url": "http://x", "api_key": CANARY})
    assert store.sync(30)
    files = [path for path, content in files_below(tmp_path).items() if CANARY.encode() in content]
    assert [path.parent.name for path in files] == ["secrets"]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in files)


@pytest.mark.parametrize(
    "when",
    [
        "2025-01-31T12:00:00Z",
        datetime(2025, 1, 31, 12, tzinfo=timezone.utc),
        1_738_324_800_000_000_000,
    ],
)
def test_a_time_is_text_a_datetime_or_nanoseconds(when: Any) -> None:
    store = get_store()
    store.insert_node_trace(**small(start_time=when, end_time=when))
    assert store.sync(30)
    assert store.get_request("r").nodes[0].start_time == "2025-01-31T12:00:00.000000Z"


def test_odd_values_reach_the_database() -> None:
    ring: list[Any] = []
    ring.append(ring)

    class Broken:
        def __repr__(self) -> str:
            raise SystemExit

    store = get_store()
    inputs = {"ring": ring, "big": "x" * 5_000_000, (1, 2): Broken(), "bytes": b"\xff", "nan": float("nan"), "last": 1}
    store.insert_node_trace(**small(input_data=inputs, execution_order="third", prompt_tokens="many"))
    assert store.sync(30)
    (node,) = store.get_request("r").nodes
    assert node.input_data["ring"] == ["… [cycle]"]
    assert node.input_data["big"].endswith("… [truncated: 5000000 chars]")
    assert node.input_data["[1,2]"] == "… [unrecordable Broken: SystemExit]"
    assert node.input_data["last"] == 1
    assert node.node_name == "rank"


@pytest.mark.parametrize("where", ["key", "value"])
def test_a_record_that_a_plain_decoder_refuses_reaches_the_database(where: str) -> None:
    deep: Any = 1
    for _ in range(300):
        deep = [deep]

    class Frozen(msgspec.Struct, frozen=True):
        a: int

    store = get_store()
    store.insert_node_trace(
        **small(input_data={Frozen(1): "found"} if where == "key" else {"deep": deep, "k": "found"})
    )
    assert store.sync(30)
    (node,) = store.get_request("r").nodes
    assert "found" in node.input_data.values()


def test_a_large_record_is_cut_and_reaches_the_database() -> None:
    store = get_store()
    store.insert_node_trace(**small(input_data={"text": "x" * 20_000_000}, error="E"))
    assert store.sync(30)
    (node,) = store.get_request("r").nodes
    assert node.input_data["text"].endswith("… [truncated: 20000000 chars]")
    assert node.error == "E"


def test_recording_at_the_end_of_the_stack_raises_nothing(recording: Any, store: TraceStore) -> None:
    node = small()
    calls = 0

    def dive() -> None:
        nonlocal calls
        try:
            dive()
        except RecursionError:
            calls += 1
            try:
                store.insert_node_trace(**node)
            except RecursionError as problem:  # the call itself: there is no frame left for it
                assert problem.__traceback__ is not None
                assert problem.__traceback__.tb_next is None
                calls -= 1
            raise

    with pytest.raises(RecursionError):
        dive()
    assert store.sync()
    assert len(recording.payloads) + len(recording.dropped) == calls
    assert set(recording.dropped) <= {"encoding failed"}


# -- which database ---------------------------------------------------------------------------------------------------


def test_one_store_per_path_and_not_the_first_for_ever(tmp_path: Path) -> None:
    one, other = get_store(tmp_path / "a.db"), get_store(tmp_path / "b.db")
    assert one is not other
    assert get_store(tmp_path / "a.db") is one
    assert get_store(str(tmp_path / "x" / ".." / "a.db")) is one
    assert (one.db_path, other.db_path) == (tmp_path / "a.db", tmp_path / "b.db")


def test_a_link_to_a_database_is_the_same_store(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    assert get_store(tmp_path / "link" / "a.db") is get_store(tmp_path / "a.db")


def test_the_default_path_is_read_when_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert get_store().db_path == tmp_path / "traces.db"
    monkeypatch.setenv("HUSH_TRACES_DB", str(tmp_path / "other.db"))
    assert get_store().db_path == TraceStore().db_path == tmp_path / "other.db"


def test_making_a_store_touches_no_file_and_starts_no_process(tmp_path: Path) -> None:
    store = TraceStore(tmp_path / "new" / "a.db")
    assert str(store.db_path) in repr(store)
    assert not (tmp_path / "new").exists()


def test_a_store_pickles_as_its_path(tmp_path: Path) -> None:
    store = get_store(tmp_path / "a.db")
    assert pickle.loads(pickle.dumps(store)) is store


def test_a_request_that_is_not_there_is_an_error_that_says_so() -> None:
    store = get_store()
    store.insert_node_trace(**small())
    assert store.sync(30)
    with pytest.raises(UnknownRequestError):
        store.get_request("nothing")


def test_the_background_records_as_the_store_does(tmp_path: Path) -> None:
    background = get_background(tmp_path / "traces.db")
    background.write_trace(**small())
    background.mark_complete("r", "LocalTracer", {})
    assert shutdown_background(timeout=10)
    assert [node.node_name for node in get_store().get_request("r").nodes] == ["rank"]


# -- processes --------------------------------------------------------------------------------------------------------


def _insert(store: TraceStore, name: str) -> None:
    store.insert_node_trace(**small(node_name=name))


def test_a_child_that_is_spawned_records_with_the_store_it_is_given() -> None:
    store = get_store()
    _insert(store, "parent")
    child = multiprocessing.get_context("spawn").Process(target=_insert, args=(store, "child"))
    child.start()
    child.join()
    assert child.exitcode == 0
    assert store.sync(30)
    _wait_for_nodes(store, {"parent", "child"})


def test_a_forked_child_records_with_the_store_it_inherits() -> None:
    store = get_store()
    _insert(store, "parent")
    child = os.fork()
    if child == 0:
        try:
            _insert(store, "child")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert store.sync(30)
    _wait_for_nodes(store, {"parent", "child"})


def _wait_for_nodes(store: TraceStore, names: set[str]) -> None:
    import time

    deadline = time.monotonic() + 10
    while {node.node_name for node in store.get_request("r").nodes} != names:
        assert time.monotonic() < deadline, f"waited for {names}"
        time.sleep(0.01)


def test_recording_loads_neither_sqlite_nor_what_is_slow_to_import(tmp_path: Path) -> None:
    script = (
        "import sys; from hush_core import TraceStore, LocalTracer, code_node\n"
        "with LocalTracer().trace('flow'): code_node(len)('a')\n"
        "heavy = {'sqlite3', 'pluggy', 'click', 'rich', 'logging', 'traceback', 'hush_core.capture.snapshot'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_keys_of_one_text_are_both_read_back() -> None:
    store = get_store()
    keys = {True: 1, "true": 2, None: 3, "null": 4, 7: 5, "7": 6}
    store.insert_node_trace(**small(input_data={"kept": keys}, output_data={"careful": [keys, object]}))
    assert store.sync(30)
    (node,) = store.get_request("r").nodes
    both = {"true": 1, "true (str)": 2, "null": 3, "null (str)": 4, "7": 5, "7 (str)": 6}
    assert node.input_data == {"kept": both}
    assert node.output_data["careful"][0] == both
