"""What `flush` is given: every field, ids that never change, turns of loops as nodes with sums, and no recursion."""

from __future__ import annotations

import hashlib
import json
import random
import re
import subprocess
import sys
from typing import Any

import pytest
from trace_database import NOON_NS, TraceDatabase

from hush_core.delivery.flush_data import FlushData, NodeData, Tracer, build, load, payload_size
from hush_core.store.queries import reading
from hush_core.store.stored import StoredNode, StoredRequest

MS = 1_000_000
TRACER = Tracer("prod", "LangfuseTracer", {"host": "https://backend"})


def request(request_id: str = "r-1", **more: Any) -> StoredRequest:
    values: dict[str, Any] = dict.fromkeys(StoredRequest.__struct_fields__)
    values |= {"id": 7, "request_id": request_id, "status": "completed", "tags": ["a"], "start_ns": NOON_NS}
    return StoredRequest(**values | {"end_ns": NOON_NS + 250 * MS, "workflow_name": "rag", **more})


def node(
    number: int, name: str | None, parent: str | None = None, context: str | None = None, **more: Any
) -> StoredNode:
    values: dict[str, Any] = dict.fromkeys(StoredNode.__struct_fields__)
    values |= {
        "id": number,
        "node_name": name,
        "parent_name": parent,
        "context_id": context,
        "execution_order": number,
        "status": "ok",
        "contain_generation": False,
        "start_ns": NOON_NS + number * MS,
        "end_ns": NOON_NS + (number + 1) * MS,
        "duration_ms": 1.0,
        **more,
    }
    return StoredNode(**values)


def built(*nodes: StoredNode, **more: Any) -> FlushData:
    return build(request(**more), nodes, TRACER)


def drawn(data: FlushData) -> list[str]:
    """The tree as indented lines, by the ids alone."""
    depth: dict[str | None, int] = {None: -1}
    lines = []
    for each in data["nodes"]:
        depth[each["span_id"]] = depth[each["parent_span_id"]] + 1  # KeyError: a child before its parent
        lines.append("  " * depth[each["span_id"]] + str(each["node_name"]))
    return lines


def test_a_request_has_exactly_the_fields_that_are_documented() -> None:
    data = build(request(user_id="u", session_id="s"), [node(0, "flow")], TRACER, attempt=3)
    nodes = data.pop("nodes")  # type: ignore[misc]
    assert data == {
        "request_id": "r-1",
        "trace_id": hashlib.sha256(b"r-1").digest()[:16].hex(),
        "workflow_name": "rag",
        "user_id": "u",
        "session_id": "s",
        "tags": ["a"],
        "tracer_name": "prod",
        "tracer_type": "LangfuseTracer",
        "tracer_config": {"host": "https://backend"},
        "status": "completed",
        "start_time": "2025-01-31T12:00:00.000000Z",
        "end_time": "2025-01-31T12:00:00.250000Z",
        "attempt": 3,
    }
    assert set(data) | {"nodes"} == set(FlushData.__annotations__)
    assert set(nodes[0]) == set(NodeData.__annotations__)


def test_a_node_carries_all_that_was_recorded_of_it() -> None:
    recorded: dict[str, Any] = {
        "status": "error",
        "level": "ERROR",
        "error": "boom",
        "node_type": "llm",
        "model": "m-1",
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 15,
        "cached_tokens": 4,
        "reasoning_tokens": 2,
        "cost_usd": 0.25,
        "time_to_first_token_ms": 12.5,
        "contain_generation": True,
        "input_data": {"q": 1},
        "output_data": ["a"],
        "metadata": {"k": "v"},
        "media": [{"type": "image/png"}],
        "duration_ms": 1.25,
    }
    [root] = built(node(0, "call", "nobody", **recorded))["nodes"]
    assert {name: root[name] for name in recorded} == recorded  # type: ignore[literal-required]
    assert (root["node_name"], root["parent_name"], root["execution_order"]) == ("call", "nobody", 0)
    assert (root["start_time"], root["end_time"]) == ("2025-01-31T12:00:00.000000Z", "2025-01-31T12:00:00.001000Z")
    assert (root["parent_span_id"], root["context_id"]) == (None, None)


def test_what_was_not_recorded_is_none_and_not_zero() -> None:
    [root] = built(node(0, None, start_ns=None, end_ns=None, duration_ms=None, execution_order=None))["nodes"]
    kept = {name for name, value in root.items() if value is not None}
    assert kept == {"span_id", "status", "contain_generation"}


def test_parents_come_before_children_whatever_the_order_of_the_rows() -> None:
    nodes = [
        node(0, "flow", end_ns=NOON_NS + 99 * MS),
        node(1, "rank", "flow"),
        node(2, "score", "rank"),
        node(3, "b", "flow"),
    ]
    random.Random(4).shuffle(nodes)
    assert drawn(built(*nodes)) == ["flow", "  rank", "    score", "  b"]


# -- ids --------------------------------------------------------------------------------------------------------------


def ids(data: FlushData) -> dict[str, str]:
    return {str(each["node_name"]): each["span_id"] for each in data["nodes"]}


LOOP = [
    node(0, "flow", end_ns=NOON_NS + 99 * MS, span=5_000_000_007),
    node(1, "plan", "flow", span=5_000_000_009, parent_span=5_000_000_007),
    node(2, "step", "flow", "[0]"),
    node(3, "step", "flow", "[1]"),
]


def test_ids_have_the_form_that_backends_expect_and_differ() -> None:
    data = built(*LOOP)
    spans = [each["span_id"] for each in data["nodes"]]
    assert re.fullmatch("[0-9a-f]{32}", data["trace_id"])
    assert all(re.fullmatch("[0-9a-f]{16}", span) for span in spans)
    assert len(set(spans)) == len(spans) == 6


def test_ids_are_the_same_in_every_attempt() -> None:
    first, second = build(request(), LOOP, TRACER, attempt=1), build(request(), LOOP, TRACER, attempt=2)
    assert first | {"attempt": 2} == second


def test_ids_are_the_same_in_every_process_and_version() -> None:
    """Written down here: a change of them would make every backend show what is sent again a second time."""
    assert ids(built(*LOOP)) == {
        "flow": "4455b1879ca9e383",
        "plan": "368d05f4c8df026e",
        "iteration[0]": "f74b136a53c83e3a",
        "iteration[1]": "7d8a26184e7aac33",
        "step": "a9ae15dec953b59e",
    }


def test_ids_do_not_depend_on_row_numbers() -> None:
    moved = [node(0, "flow"), node(1, "plan", "flow")]
    elsewhere = [node(0, "flow", id=900), node(1, "plan", "flow", id=901)]
    assert ids(built(*moved)) == ids(build(request(id=44), elsewhere, TRACER))


def test_ids_of_another_request_are_others() -> None:
    assert not set(ids(built(*LOOP)).values()) & set(ids(built(*LOOP, request_id="r-2")).values())


def test_equal_nodes_have_ids_of_their_own_that_a_later_one_does_not_change() -> None:
    same: dict[str, Any] = {"execution_order": None, "start_ns": NOON_NS}
    two = built(node(0, "tick", **same), node(1, "tick", **same))
    three = built(node(0, "tick", **same), node(1, "tick", **same), node(2, "tick", **same))
    spans = [each["span_id"] for each in three["nodes"]]
    assert len(set(spans)) == 3
    assert [each["span_id"] for each in two["nodes"]] == spans[:2]


def test_names_that_run_together_do_not_share_an_id() -> None:
    same: dict[str, Any] = {"execution_order": None, "start_ns": None}
    spans = [each["span_id"] for each in built(node(0, "a", context="b", **same), node(1, "ab", **same))["nodes"]]
    assert len(set(spans)) == len(spans)


# -- turns of loops ---------------------------------------------------------------------------------------------------


def test_turns_of_a_loop_are_nodes_with_the_sums_of_what_ran_in_them() -> None:
    data = built(
        node(0, "flow", end_ns=NOON_NS + 99 * MS),
        node(1, "call", "flow", "[0]", prompt_tokens=10, total_tokens=15, completion_tokens=5, cost_usd=0.25),
        node(3, "call", "flow", "[0]", prompt_tokens=1, cost_usd=0.5),
        node(7, "call", "flow", "[1]"),
    )
    assert drawn(data) == ["flow", "  iteration[0]", "    call", "    call", "  iteration[1]", "    call"]
    turn, other = data["nodes"][1], data["nodes"][4]
    assert (turn["node_type"], turn["context_id"], turn["parent_name"]) == ("iteration", "[0]", "flow")
    assert (turn["prompt_tokens"], turn["completion_tokens"], turn["total_tokens"]) == (11, 5, 15)
    assert (turn["cost_usd"], turn["duration_ms"]) == (0.75, 3.0)
    assert (turn["start_time"], turn["end_time"]) == ("2025-01-31T12:00:00.001000Z", "2025-01-31T12:00:00.004000Z")
    assert (other["prompt_tokens"], other["cost_usd"]) == (None, None)
    assert turn["contain_generation"] is False


def test_turns_within_turns_add_up_and_have_ids_by_their_place() -> None:
    data = built(
        node(0, "flow", end_ns=NOON_NS + 99 * MS),
        node(1, "call", "flow", "[0].[0]", total_tokens=1),
        node(2, "call", "flow", "[0].[1]", total_tokens=2),
        node(3, "call", "flow", "[1].[0]", total_tokens=4),
    )
    turns = [each for each in data["nodes"] if each["node_type"] == "iteration"]
    assert [(each["context_id"], each["total_tokens"]) for each in turns] == [
        ("[0]", 3), ("[0].[0]", 1), ("[0].[1]", 2), ("[1]", 4), ("[1].[0]", 4)
    ]  # fmt: skip
    assert len({each["span_id"] for each in turns}) == 5


def test_a_turn_is_as_bad_as_the_worst_that_ran_directly_in_it() -> None:
    data = built(
        node(0, "flow", end_ns=NOON_NS + 99 * MS),
        node(1, "step", "flow", "[0].[0]", status="error"),
        node(2, "step", "flow", "[0].[1]"),
        node(3, "step", "flow", "[1]", status="interrupted"),
        node(4, "step", "flow", "[2]"),
    )
    status = {each["context_id"]: each["status"] for each in data["nodes"] if each["node_type"] == "iteration"}
    assert status == {"[0]": "error", "[0].[0]": "error", "[0].[1]": "ok", "[1]": "interrupted", "[2]": "ok"}


def test_the_turns_of_a_loop_keep_their_ids_when_another_turn_is_added() -> None:
    root = node(0, "flow", end_ns=NOON_NS + 99 * MS)
    one = built(root, node(1, "step", "flow", "[0]"))
    two = built(root, node(1, "step", "flow", "[0]"), node(2, "step", "flow", "[1]"))
    assert set(ids(one).items()) <= {(name, span) for name, span in ids(two).items() if name != "step"} | set(
        ids(one).items()
    )
    assert ids(one)["iteration[0]"] == ids(two)["iteration[0]"]


# -- size -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("context", [None, "turns"])
def test_a_chain_of_ten_thousand_nodes_is_built_without_recursion(context: str | None) -> None:
    count = 10_000
    chain = [
        node(0, "n", span=1, end_ns=None, duration_ms=None),
        *(
            node(number, "n", span=number + 1, parent_span=number, context=context and ".".join(["[0]"] * (number % 9)))
            for number in range(1, count)
        ),
    ]
    data = built(*chain)
    nodes = [each for each in data["nodes"] if each["node_type"] != "iteration"]
    assert len(nodes) == count
    assert len({each["span_id"] for each in data["nodes"]}) == len(data["nodes"])
    assert drawn(data)[0] == "n"


# -- ids that were given ----------------------------------------------------------------------------------------------

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"


def given(number: int, span_id: str, parent_span_id: str | None = None, **more: Any) -> StoredNode:
    """A node as `TraceStore.begin_span` records it."""

    def as_stored(value: str | None) -> int | None:
        return None if value is None else int.from_bytes(bytes.fromhex(value), "big", signed=True)

    ids = {"trace_id": TRACE_ID, "span_id": span_id, "parent_span_id": parent_span_id}
    values = {"span": as_stored(span_id), "parent_span": as_stored(parent_span_id), "metadata": {"otel": ids}}
    return node(number, f"n{number}", **values | more)


def test_ids_that_another_system_gave_are_kept_as_they_are() -> None:
    data = built(given(1, "b7ad6b7169203331"), given(2, "00f067aa0ba902b7", "b7ad6b7169203331"))
    assert data["trace_id"] == TRACE_ID
    assert [(each["span_id"], each["parent_span_id"]) for each in data["nodes"]] == [
        ("b7ad6b7169203331", None),
        ("00f067aa0ba902b7", "b7ad6b7169203331"),
    ]


def test_a_root_that_another_process_called_has_its_caller_as_parent() -> None:
    data = built(given(1, "b7ad6b7169203331", "00f067aa0ba902b7"), given(2, "1111111111111111", "b7ad6b7169203331"))
    assert [each["parent_span_id"] for each in data["nodes"]] == ["00f067aa0ba902b7", "b7ad6b7169203331"]


def test_nodes_with_ids_of_their_own_and_nodes_without_are_one_tree() -> None:
    outer, inner = given(1, "b7ad6b7169203331"), node(2, "inner", "n1")
    data = built(outer, inner)
    assert [each["parent_span_id"] for each in data["nodes"]] == [None, "b7ad6b7169203331"]
    assert data["nodes"][1]["span_id"] == built(inner)["nodes"][0]["span_id"]


def test_an_id_that_was_given_twice_is_kept_once() -> None:
    """A node that ended twice: a fork that ended its parent's node, or an app that recorded it so."""
    data = built(given(1, "b7ad6b7169203331"), given(2, "b7ad6b7169203331"))
    first, second = (each["span_id"] for each in data["nodes"])
    assert first == "b7ad6b7169203331" != second
    assert data == built(given(2, "b7ad6b7169203331"), given(1, "b7ad6b7169203331"))


@pytest.mark.parametrize(
    "more",
    [
        {"span": None},
        {"span": 7},
        {"metadata": None},
        {"metadata": "[masked]"},
        {"metadata": {"otel": "[masked]"}},
        {"metadata": {"otel": {"trace_id": TRACE_ID}}},
        {"metadata": {"otel": {"trace_id": "[masked]", "span_id": "b7ad6b7169203331"}}},
        {"metadata": {"otel": {"trace_id": "0" * 32, "span_id": "b7ad6b7169203331"}}},
        {"metadata": {"otel": {"trace_id": TRACE_ID, "span_id": "B7AD6B7169203331"}}},
        {"span": 0, "metadata": {"otel": {"trace_id": TRACE_ID, "span_id": "0" * 16}}},
    ],
)
def test_what_only_looks_like_given_ids_is_metadata_like_any_other(more: dict[str, Any]) -> None:
    data = built(given(1, "b7ad6b7169203331", **more))
    assert data["trace_id"] == hashlib.sha256(b"r-1").digest()[:16].hex()
    assert data["nodes"][0]["span_id"] not in ("b7ad6b7169203331", "0" * 16)
    assert data["nodes"][0]["parent_span_id"] is None


def test_a_parent_that_is_no_id_is_none() -> None:
    ids = {"trace_id": TRACE_ID, "span_id": "b7ad6b7169203331", "parent_span_id": ["x"]}
    assert built(given(1, "b7ad6b7169203331", metadata={"otel": ids}))["nodes"][0]["parent_span_id"] is None


# -- reading ----------------------------------------------------------------------------------------------------------


def test_a_request_is_loaded_by_its_row_with_its_payloads(database: TraceDatabase) -> None:
    database.request("other")
    row = database.request("r-1", tags=["x", "y"])
    database.node(row, "flow", payload={"input_data": {"q": "why"}, "output_data": [1, None], "metadata": {"k": 1}})
    with reading(database.path) as reader:
        found = load(reader, row)
        assert payload_size(reader, row) == len('{"q": "why"}' + "[1, null]" + '{"k": 1}')
    assert found is not None
    data = build(*found, TRACER)
    assert (data["request_id"], data["tags"]) == ("r-1", ["x", "y"])
    assert data["nodes"][0]["input_data"] == {"q": "why"}
    assert data["nodes"][0]["output_data"] == [1, None]


def test_a_request_that_was_pruned_is_none(database: TraceDatabase) -> None:
    with reading(database.path) as reader:
        assert load(reader, 99) is None
        assert payload_size(reader, 99) == 0


def test_a_payload_nested_deeper_than_python_walks_is_given_as_its_text(database: TraceDatabase) -> None:
    row = database.request("r-1")
    number = database.node(row, "flow", payload={"input_data": 1})
    deep = "[" * 100_000 + "]" * 100_000
    database.connection.execute("UPDATE node_payload SET input_data = ? WHERE node = ?", (deep, number))
    with reading(database.path) as reader:
        found = load(reader, row)
    assert found is not None
    assert build(*found, TRACER)["nodes"][0]["input_data"] == deep


def test_a_process_of_its_own_gives_the_same_bytes(database: TraceDatabase) -> None:
    row = database.request("r-1")
    for at, turn in enumerate([None, "[0]", "[0]", "[1]"]):
        database.node(row, f"n{at % 2}", at_ms=at, context_id=turn, parent_name=at and "n0", execution_order=at)
    code = (
        "import json; from hush_core.delivery.flush_data import *; from hush_core.store.queries import open_reader;"
        f"found = load(open_reader({str(database.path)!r}), {row});"
        "print(json.dumps(build(*found, Tracer('prod', 'LangfuseTracer', {'host': 'https://backend'}))))"
    )
    with reading(database.path) as reader:
        found = load(reader, row)
    assert found is not None
    said = [
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, stdout=subprocess.PIPE, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    ]
    assert said[0] == said[1]
    assert json.loads(said[0]) == build(*found, TRACER)
