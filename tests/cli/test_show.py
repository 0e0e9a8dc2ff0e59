"""`hush show`: the tree."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hush_command import Hush, on_terminal, without_colours
from rich.cells import cell_len
from trace_database import TraceDatabase


@pytest.fixture
def loops(database: TraceDatabase) -> TraceDatabase:
    """A request with a loop of three turns: in each a rank, a fetch that fails in turns 0 and 2, and a call."""
    row = database.request(
        "0f9c7d41", tags=["prod", "vip"], user_id="ann", session_id="s1", duration_ms=412, total_tokens=900,
        prompt_tokens=800, completion_tokens=100, cost_usd=0.009, error_count=2,
    )  # fmt: skip
    database.node(row, "rag", execution_order=0, duration_ms=412, payload={"input_data": {"question": "why?"}})
    for turn in range(3):
        at = {"parent_name": "rag", "context_id": f"[{turn}]", "at_ms": 100 * turn}
        database.node(row, "rank", execution_order=10 * turn + 1, duration_ms=10 + turn, **at)
        error = "TimeoutError: cold\x1b[2J\nTraceback:\n  File x" if turn != 1 else None
        status = "error" if error else "ok"
        database.node(row, "fetch", execution_order=10 * turn + 2, status=status, error=error, **at)
        payload: dict[str, Any] = {"input_data": {"turn": turn}, "output_data": "o" * 1000}
        database.node(
            row, "call", execution_order=10 * turn + 3, model="gpt-4o", total_tokens=300, cost_usd=0.003,
            duration_ms=50, payload=payload, **at,
        )  # fmt: skip
    return database


def test_the_head_says_what_the_request_is(hush: Hush, loops: TraceDatabase) -> None:
    head = hush.output("show", "0f").split("\n\n")[0]
    for part in (
        "rag  completed  in 412 ms", "request 0f9c7d41", "user ann", "session s1", "10 nodes", "2 errors",
        "900 tokens (800 in, 100 out)", "$0.009", "tags prod, vip",
    ):  # fmt: skip
        assert part in head


def test_a_loop_is_folded_with_its_count_and_its_slowest_turn(hush: Hush, loops: TraceDatabase) -> None:
    lines = [" ".join(line.split()) for line in hush.output("show").split("\n\n")[1].splitlines()]
    assert lines[1:] == [
        "rag 412 ms",
        "└─ 3 iterations 250 ms 900 $0.009 slowest [0] 50.0 ms",
        "├─ rank ×3 33.0 ms slowest [2] 12.0 ms",
        "├─ fetch ×3 3.00 ms 2 errors, slowest [0] 1.00 ms",
        "│ ✗ TimeoutError: cold\\x1b[2J ×2 ([0], [2])",
        "└─ call ×3 150 ms 900 $0.009 slowest [0] 50.0 ms, gpt-4o",
    ]


def test_full_unfolds_and_prints_errors_whole(hush: Hush, loops: TraceDatabase) -> None:
    shown = hush.output("show", "0f", "--full")
    assert all(f"─ iteration[{turn}]" in shown for turn in range(3))
    assert shown.count("call") == 3
    assert shown.count("Traceback:") == 2
    assert "×" not in shown


def test_io_shows_what_went_in_and_came_out_and_how_much_is_not_shown(hush: Hush, loops: TraceDatabase) -> None:
    shown = hush.output("show", "--io")
    assert 'in   {"question":"why?"}' in shown
    assert re.search(r"out  of \[0\] o+… \+8\d\d characters", shown)


def test_json_has_all_nodes_with_their_parents_and_payloads(hush: Hush, loops: TraceDatabase) -> None:
    trace = hush.json("show", "0f9c7d41")
    root, *inner = trace["nodes"]
    assert (root["node_name"], root["parent_id"], len(inner)) == ("rag", None, 9)
    assert {node["parent_id"] for node in inner} == {root["id"]}
    assert trace["nodes"][3]["output_data"] == "o" * 1000
    assert trace["nodes"][2]["error"].startswith("TimeoutError")
    assert trace["deliveries"] == []


def test_the_newest_request_is_shown_when_no_id_is_given(hush: Hush, loops: TraceDatabase) -> None:
    loops.request("newest", at_ms=1)
    assert hush.json("show")["request_id"] == "newest"


def test_an_unknown_id_names_others(hush: Hush, loops: TraceDatabase) -> None:
    result = hush("show", "zzz")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "No request id begins with 'zzz'" in result.stderr and "'0f9c7d41'" in result.stderr


def test_an_id_that_no_database_can_hold_is_an_error_like_any(hush: Hush, loops: TraceDatabase) -> None:
    result = hush("show", "\udcff")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "No request can meet these conditions" in result.stderr


def test_an_ambiguous_id_names_those_that_fit(hush: Hush, loops: TraceDatabase) -> None:
    loops.request("0f9c0000")
    result = hush("show", "0f9c")
    assert result.exit_code == 1
    assert "'0f9c0000'" in result.stderr and "'0f9c7d41'" in result.stderr


def test_no_request_at_all_says_how_to_get_one(hush: Hush, database: TraceDatabase) -> None:
    result = hush("show")
    assert result.exit_code == 1
    assert "hush demo" in result.stderr


def test_a_running_request_shows_what_runs_and_for_how_long(hush: Hush, database: TraceDatabase) -> None:
    row = database.request("r", status="running", duration_ms=0.019)  # the end of its last node so far
    database.node(row, "agent", status="running")
    database.node(row, "rank", parent_name="agent", duration_ms=0.019)
    shown = hush.output("show")
    assert re.search(r"rag  running  for \d+ d \d\d h…", shown)
    assert re.search(r"agent +\d+ d \d\d h…  running", shown)
    assert re.search(r"rank +0\.019 ms", shown)
    assert hush.json("show")["duration_ms"] is None


def test_an_interrupted_request_says_so(hush: Hush, database: TraceDatabase) -> None:
    row = database.request("r", status="interrupted")
    database.node(row, "agent", status="interrupted")
    shown = hush.output("show")
    assert "its process ended without completing it" in shown
    assert re.search(r"agent.*interrupted", shown)


def test_a_delivery_that_is_not_done_is_named(hush: Hush, database: TraceDatabase) -> None:
    row = database.request("r")
    database.delivery(row, "prod", attempts=2, last_error="503 busy")
    database.delivery(row, "local", status="flushed", attempts=2)
    shown = hush.output("show")
    assert "prod: pending after 2 attempts 503 busy" in shown
    assert "local" not in shown


def test_a_delivery_that_was_skipped_is_named_quietly_with_its_reason(database: TraceDatabase) -> None:
    row = database.request("r")
    database.delivery(row, "prod", status="skipped", last_error="sample: not among the 0.2 of all")
    database.delivery(row, "backup", status="failed", attempts=1, last_error="HTTP 400")
    shown = on_terminal("show")
    assert "\x1b[90mprod: skipped sample: not among the 0.2 of all" in shown
    assert "\x1b[31mbackup: failed after 1 attempt HTTP 400" in shown


def test_a_request_without_nodes_says_so(hush: Hush, database: TraceDatabase) -> None:
    database.request("r")
    assert "No node has been recorded for it" in hush.output("show")


def test_nodes_without_a_name_or_a_number_are_shown(hush: Hush, database: TraceDatabase) -> None:
    row = database.request("r", workflow_name=None, start_ns=None, end_ns=None)
    database.node(row, None, at_ms=None, duration_ms=None)
    shown = hush.output("show")
    assert "(no workflow)" in shown and "(no name)" in shown


def test_a_tree_of_any_depth_is_drawn(hush: Hush, database: TraceDatabase) -> None:
    row = database.request("r")
    with database.connection:
        for depth in range(1500):
            parent = f"n{depth - 1}" if depth else None
            database.node(row, f"n{depth}", parent_name=parent, execution_order=depth, duration_ms=9999)
    lines = hush.output("show").splitlines()
    assert any("(1498 deep) └─ n1499" in line for line in lines)


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_on_a_terminal_no_line_is_wider_than_it(loops: TraceDatabase, columns: int) -> None:
    row = loops.request(
        "日本-1", workflow_name="日本語のワークフロー" * 3, tags=["x" * 30, "y" * 30, "z" * 30], at_ms=1
    )
    loops.node(row, "日本語のワークフロー" * 4, model="m" * 50, error="ValueError: " + "w " * 200, status="error")
    for request in ("0f", "日本"):
        lines = without_colours(on_terminal("show", request, "--io", columns=columns)).splitlines()
        assert max(cell_len(line) for line in lines) <= columns


def test_on_a_terminal_it_says_how_to_unfold(loops: TraceDatabase) -> None:
    assert "9 nodes are folded; --full shows each" in on_terminal("show")


def test_colours_are_for_terminals_and_can_be_turned_off(
    hush: Hush,
    loops: TraceDatabase,
) -> None:
    assert "\x1b[" in on_terminal("show")
    assert "\x1b[" not in on_terminal("show", environment={"NO_COLOR": "1", "TERM": "dumb"})
    assert "\x1b[" not in hush.output("show")


def test_a_terminal_that_knows_only_ascii_gets_a_tree_of_ascii(loops: TraceDatabase) -> None:
    shown = on_terminal("show", environment={"PYTHONIOENCODING": "ascii"})
    assert "`- 3 iterations" in without_colours(shown)
    assert "x TimeoutError" in without_colours(shown)
    assert shown.isascii()
