"""`hush traces`: the list, its conditions, its two faces, and what it says when there is nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hush_command import Hush, on_terminal, without_colours
from rich.cells import cell_len
from trace_database import TraceDatabase


def test_requests_are_listed_newest_first_in_columns(hush: Hush, database: TraceDatabase) -> None:
    database.request("old", total_tokens=1234, cost_usd=0.5, duration_ms=4213)
    database.request("new", at_ms=1000, status="failed", error_count=2, tags=["a", "b"], user_id="ann")
    lines = hush.output("traces").splitlines()
    assert re.split(r"\s{2,}", lines[0]) == [
        "id", "started", "workflow", "status", "took", "nodes", "errors", "tokens", "cost", "tags", "user",
    ]  # fmt: skip
    assert lines[1].split()[0] == "new"
    assert "failed" in lines[1] and "a, b" in lines[1] and "ann" in lines[1]
    assert "4.21 s" in lines[2] and "1,234" in lines[2] and "$0.5" in lines[2]


def test_a_request_that_runs_has_taken_as_long_as_it_runs_and_is_not_over(hush: Hush, database: TraceDatabase) -> None:
    database.request("r", status="running", duration_ms=0.019)  # the end of its last node so far
    assert re.search(r"running  \d+ d \d\d h…", hush.output("traces"))
    assert hush.json("traces")[0]["duration_ms"] is None
    assert database.connection.execute("SELECT duration_ms FROM requests").fetchall() == [(None,)]


def test_conditions_are_options(hush: Hush, database: TraceDatabase) -> None:
    database.request("one", tags=["a"], user_id="ann", session_id="s", workflow_name="w")
    database.request("two", tags=["a", "b"], status="failed")
    for options, expected in {
        ("--tag", "a"): ["two", "one"],
        ("--tag", "a", "--tag", "b"): ["two"],
        ("--status", "failed"): ["two"],
        ("--workflow", "w", "--user", "ann", "--session", "s"): ["one"],
        ("--since", "2020-01-01"): ["two", "one"],
        ("--since", "1m"): [],
        ("-n", "1"): ["two"],
        ("-n", "0"): ["two", "one"],
    }.items():
        assert [request["request_id"] for request in hush.json("traces", *options)] == expected, options


def test_json_has_every_column_and_nothing_internal(hush: Hush, database: TraceDatabase) -> None:
    database.request("r", tags=["日本"])
    [request] = hush.json("traces")
    assert request["request_id"] == "r"
    assert request["tags"] == ["日本"]
    assert request["start_time"] == "2025-01-31T12:00:00.000000Z"
    assert not {"id", "recorded_ns"} & set(request)


def test_nothing_to_list_says_why(hush: Hush, database: TraceDatabase) -> None:
    assert "No request has been recorded in" in hush.output("traces")
    database.request("r")
    assert "No request meets these conditions" in hush.output("traces", "--tag", "none")
    assert hush.json("traces", "--tag", "none") == []


def test_a_missing_database_is_an_error_that_says_what_to_do(hush: Hush, tmp_path: Path) -> None:
    result = hush("traces", "--db", str(tmp_path / "none.db"))
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "There is no database" in result.stderr and "--db" in result.stderr
    assert not (tmp_path / "none.db").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--status", "done"], "'running', 'completed', 'failed', 'interrupted'"),
        (["--since", "soon"], "neither an age such as 10m"),
        (["--limit", "-1"], "x>=0"),
        (["extra"], "unexpected extra argument"),
    ],
)
def test_a_wrong_option_says_what_would_be_right(hush: Hush, options: list[str], said: str) -> None:
    result = hush("traces", *options)
    assert result.exit_code == 2
    assert said in result.stderr


def test_the_database_of_the_environment_is_the_default(
    hush: Hush, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = TraceDatabase(tmp_path / "elsewhere.db")
    elsewhere.request("there")
    monkeypatch.setenv("HUSH_TRACES_DB", str(elsewhere.path))
    assert [request["request_id"] for request in hush.json("traces")] == ["there"]
    elsewhere.close()


@pytest.mark.parametrize("columns", [80, 120, 200])
def test_on_a_terminal_no_line_is_wider_than_it_and_every_cut_is_marked(database: TraceDatabase, columns: int) -> None:
    for number in range(5):
        database.request(
            f"{number}f9c7d41e2b04c0b8a4f7a3e2c9d5b1{number}", workflow_name="a workflow with a rather long name",
            tags=["production", "very-important", "日本語"], user_id="someone@example.com", session_id="s" * 36,
            total_tokens=12345, cost_usd=1.5,
        )  # fmt: skip
    lines = [without_colours(line) for line in on_terminal("traces", columns=columns).splitlines()]
    assert max(cell_len(line) for line in lines) <= columns
    assert lines[1].startswith("4f9c7d41")
    if columns == 80:
        assert "…" in lines[1]
        assert "no room for: user, session, cost" in " ".join(lines)


def test_ids_are_cut_to_no_less_than_tells_them_apart(database: TraceDatabase) -> None:
    for ending in ("aaaa", "bbbb"):
        database.request(f"0123456789abcdef{ending}{'0' * 12}", workflow_name="w" * 60, tags=["t" * 60])
    lines = [without_colours(line) for line in on_terminal("traces").splitlines()]
    assert {line.split("…")[0] for line in lines[1:3]} == {"0123456789abcdefa", "0123456789abcdefb"}


def test_what_a_trace_says_cannot_command_the_terminal(
    hush: Hush,
    database: TraceDatabase,
) -> None:
    database.request(
        "r\x1b[2J", workflow_name="\x9b31mw\x07", tags=["\u202etag", "two\nlines"], user_id="\x1b]0;title\x07"
    )
    plain = hush.output("traces")
    assert not set("\x1b\x9b\x07\u202e") & set(plain)
    assert "r\\x1b[2J" in plain and "two\\nlines" in plain
    assert "\\x1b[2J" in on_terminal("traces", columns=200)
    assert "\x1b[2J" not in on_terminal("traces", columns=200)
