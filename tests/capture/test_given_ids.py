"""Nodes that another tracing system has given their ids: kept with the record, found by their parents, and safe."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from waiting import wait_until

from hush_core.errors import StoreError
from hush_core.model import NODE, NODE_END, NODE_START, REQUEST_START
from hush_core.store.trace_store import TraceStore, get_store
from hush_core.tracers.fan_out import FanOutTracer
from hush_core.tracers.local import LocalTracer

TRACE = "0af7651916cd43dd8448eb211c80319c"
ROOT, CHILD = "b7ad6b7169203331", "00f067aa0ba902b7"  # the first is negative as the store holds it
IDS = {"trace_id": TRACE, "span_id": CHILD, "parent_span_id": ROOT}


def test_a_start_and_its_end_have_the_ids_as_numbers_and_in_the_metadata(store: TraceStore, recording: Any) -> None:
    store.begin_span("r", TRACE, CHILD, ROOT, node_name="call", start_time=1)
    store.end_span("r", TRACE, CHILD, ROOT, node_name="call", end_time=2, metadata={"k": 1}, tags=["a"])
    start, end = recording.nodes(NODE_START, NODE_END)
    for node in (start, end):
        assert (node["request_id"], node["node_name"]) == ("r", "call")
        assert node["span"] == int(CHILD, 16)
        assert node["parent_span"] == int(ROOT, 16) - 2**64
    assert (start["metadata"], end["metadata"]) == ({"otel": IDS}, {"k": 1, "otel": IDS})
    assert (start["start_time"], end["end_time"], end["tags"]) == (1, 2, ["a"])


def test_what_the_caller_says_under_the_same_key_is_kept_beside_the_ids(store: TraceStore, recording: Any) -> None:
    said = {"otel": {"kind": "CLIENT", "span_id": "other"}}
    store.end_span("r", TRACE, CHILD, ROOT, metadata=said)
    assert recording.nodes()[0]["metadata"] == {"otel": {"kind": "CLIENT", **IDS}}
    assert said == {"otel": {"kind": "CLIENT", "span_id": "other"}}


def test_without_start_records_the_end_is_the_whole_node(store: TraceStore, recording: Any) -> None:
    recording.start_records = False
    store.begin_span("r", TRACE, ROOT)
    store.end_span("r", TRACE, ROOT, start_time=1, end_time=2)
    (record,) = recording.records()
    assert record[0] == NODE


@pytest.mark.parametrize("span_id", ["", "b7ad", "b7ad6b7169203331ff", "no hex at all..!"])
def test_an_id_of_another_form_is_an_error(store: TraceStore, recording: Any, span_id: str) -> None:
    with pytest.raises(ValueError, match="hex"):
        store.end_span("r", TRACE, span_id)
    assert recording.records() == []


def test_a_field_that_does_not_exist_is_an_error_that_names_it(store: TraceStore) -> None:
    with pytest.raises(TypeError, match="a node has no colour"):
        store.end_span("r", TRACE, ROOT, colour="red")


def test_a_request_that_has_begun_is_due_to_each_tracer_if_it_is_interrupted(store: TraceStore, recording: Any) -> None:
    tracer = FanOutTracer([LocalTracer(tags=["a"]), LocalTracer(tags=["b"])])
    store.mark_request_started("r", tracer, workflow_name="flow", user_id="u", tags=["b", "c"], start_time=7)
    ((kind, *fields),) = recording.records()
    assert kind == REQUEST_START
    assert fields[:6] == ["r", "flow", "u", None, 7, ["a", "b", "c"]]
    assert [each[:2] for each in fields[6]] == [["LocalTracer", "LocalTracer"]] * 2


def test_nodes_are_stored_under_the_parents_whose_ids_they_name() -> None:
    store = get_store()
    for span_id, parent, name in ((ROOT, None, "root"), (CHILD, ROOT, "call"), ("ffffffffffffffff", CHILD, "call")):
        store.begin_span("r", TRACE, span_id, parent, node_name=name, start_time=1_000)
    for span_id, parent in (("ffffffffffffffff", CHILD), (CHILD, ROOT), (ROOT, None)):
        store.end_span("r", TRACE, span_id, parent, end_time=3_000_000)
    assert store.sync(30)
    root, call, inner = store.get_request("r").nodes
    assert (root.node_name, call.parent_id, inner.parent_id) == ("root", root.id, call.id)
    assert {node.status for node in (root, call, inner)} == {"ok"}
    assert inner.duration_ms == 2.999


CHILD_PROCESS = """
import sys, time
from hush_core import LocalTracer, get_store
store = get_store()
store.mark_request_started("r", LocalTracer(tags=["a"]), workflow_name="flow")
store.begin_span("r", sys.argv[1], sys.argv[2], node_name="root", start_time=1)
print("begun", flush=True)
time.sleep(60)
"""


def test_what_has_begun_in_a_process_that_is_killed_is_interrupted(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CHILD_PROCESS, TRACE, ROOT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "begun\n"
        os.kill(child.pid, signal.SIGKILL)
    store = get_store()

    def is_interrupted() -> bool:
        try:
            return any(each.status == "interrupted" for each in store.iter_requests())
        except StoreError:  # there is no database yet
            return False

    wait_until(is_interrupted, "the request to be interrupted")
    request = store.get_request("r")
    assert (request.workflow_name, request.tags) == ("flow", ["a"])
    assert [(node.node_name, node.status) for node in request.nodes] == [("root", "interrupted")]
    assert [(each.tracer_name, each.status) for each in request.deliveries] == [("LocalTracer", "flushed")]
