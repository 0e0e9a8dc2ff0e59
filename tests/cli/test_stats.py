"""`hush stats`: three tables, what is in them, and which requests they are of."""

from __future__ import annotations

import re

import pytest
from hush_command import Hush, on_terminal, without_colours
from rich.cells import cell_len
from trace_database import TraceDatabase

from hush_core.cli import stats


@pytest.fixture
def traffic(database: TraceDatabase) -> TraceDatabase:
    """Twenty requests of two workflows; each calls a model, whose price is known for one of them."""
    for number in range(20):
        workflow = "rag" if number % 4 else "chat"
        row = database.request(
            f"r{number}", workflow_name=workflow, at_ms=number, duration_ms=100.0 + number,
            status="failed" if number == 6 else "completed", total_tokens=50, cost_usd=0.01 if number % 4 else None,
            tags=["vip"] if number < 5 else [],
        )  # fmt: skip
        model, cost = ("gpt-4o", 0.01) if workflow == "rag" else ("our-own", None)
        status = "error" if number == 6 else "ok"
        database.node(
            row, "call", model=model, total_tokens=50, cost_usd=cost, status=status, duration_ms=40.0 + number
        )
    return database


def cells(line: str) -> list[str]:
    return re.split(r"\s{2,}", line.strip())


def test_three_tables_sum_up_workflows_nodes_and_models(hush: Hush, traffic: TraceDatabase) -> None:
    head, workflows, nodes, models = (part.splitlines() for part in hush.output("stats").strip().split("\n\n"))
    assert head[0].startswith("20 requests with 20 nodes, recorded ")
    assert [cells(line) for line in workflows] == [
        ["workflow", "requests", "errors", "p50", "p95", "p99", "tokens", "cost"],
        ["rag", "15", "1", "110 ms", "119 ms", "119 ms", "750", "$0.15"],
        ["chat", "5", "108 ms", "116 ms", "116 ms", "250"],
    ]
    assert cells(nodes[1]) == ["call", "rag", "15", "1", "50.0 ms", "59.0 ms", "59.0 ms", "750", "$0.15"]
    assert cells(models[2]) == ["our-own", "5", "48.0 ms", "56.0 ms", "56.0 ms", "250"]


def test_a_cost_that_is_not_known_is_said_and_is_null(hush: Hush, traffic: TraceDatabase) -> None:
    assert "The cost of 5 calls is not known, and in no sum." in hush.output("stats")
    known, unknown = hush.json("stats")["models"]
    assert (known["cost_usd"], known["unpriced"]) == (0.15, 0)
    assert (unknown["cost_usd"], unknown["unpriced"]) == (None, 5)


def test_json_has_every_figure(hush: Hush, traffic: TraceDatabase) -> None:
    found = hush.json("stats")
    assert (found["request_count"], found["node_count"], found["is_whole"]) == (20, 20, True)
    assert found["oldest_time"] == "2025-01-31T12:00:00.000000Z"
    assert found["workflows"][0] == {
        "workflow_name": "rag", "requests": 15, "errors": 1, "interrupted": 0, "running": 0, "unpriced": 0,
        "prompt_tokens": None, "completion_tokens": None, "total_tokens": 750, "cost_usd": 0.15,
        "p50_ms": 110.0, "p95_ms": 119.0, "p99_ms": 119.0,
    }  # fmt: skip
    assert [(node["workflow_name"], node["node_name"]) for node in found["nodes"]] == [
        ("rag", "call"),
        ("chat", "call"),
    ]


def test_one_table_is_shown_when_it_is_asked_for(hush: Hush, traffic: TraceDatabase) -> None:
    assert "gpt-4o" in hush.output("stats", "--by", "model")
    assert "rag" not in hush.output("stats", "--by", "model")
    assert set(hush.json("stats", "--by", "node")) & {"workflows", "nodes", "models"} == {"nodes"}


def test_conditions_choose_the_requests(hush: Hush, traffic: TraceDatabase) -> None:
    assert hush.json("stats", "--tag", "vip", "--workflow", "rag")["request_count"] == 3
    assert hush.json("stats", "--status", "failed")["request_count"] == 1
    assert hush.json("stats", "--since", "1h")["request_count"] == 0


def test_a_long_table_names_how_to_see_the_rest(hush: Hush, database: TraceDatabase) -> None:
    row = database.request("r")
    for number in range(13):
        database.node(row, f"node-{number}")
    shown = hush.output("stats")
    assert shown.count("node-") == 10 and "and 3 more; --by node shows all" in shown
    assert hush.output("stats", "--by", "node").count("node-") == 13


def test_without_more_being_asked_for_the_newest_are_read_and_it_says_so(
    hush: Hush, traffic: TraceDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stats, "_MOST", 12)
    assert "The newest 6 requests with 6 nodes" in hush.output("stats")
    assert "--since 7d or --all reads more" in hush.output("stats")
    assert hush.json("stats")["is_whole"] is False
    assert hush.json("stats", "--all")["request_count"] == 20
    assert hush.json("stats", "--since", "2020-01-01")["request_count"] == 20


def test_nothing_to_sum_up_says_why(hush: Hush, database: TraceDatabase) -> None:
    assert "No request has been recorded in" in hush.output("stats")
    database.request("r")
    assert "No request meets these conditions in" in hush.output("stats", "--user", "nobody")
    assert "None of their nodes names a model" in hush.output("stats", "--by", "model")


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_on_a_terminal_no_line_is_wider_than_it(database: TraceDatabase, columns: int) -> None:
    row = database.request("r", workflow_name="日本語のワークフロー" * 3, total_tokens=10**9, cost_usd=1234.5)
    database.node(row, "a node with a name\x1b[2J" * 4, model="m" * 70, total_tokens=10**9, status="error")
    for arguments in ([], ["--by", "node"], ["--all"]):
        shown = on_terminal("stats", *arguments, columns=columns)
        assert "\x1b[2J" not in shown
        assert max(map(cell_len, without_colours(shown).splitlines())) <= columns
