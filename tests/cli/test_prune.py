"""`hush prune`: the writer deletes whole requests; the command says what it did."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hush_command import Hush, on_terminal, without_colours
from trace_database import NOON_NS, TraceDatabase

from hush_core import LocalTracer, get_store


@pytest.fixture
def requests(tmp_path: Path) -> Path:
    """Ten requests, one recorded on each of the last ten days, of two nodes each."""
    Path("hush.toml").write_text("[store]\nkeep = 'forever'\nmax_size = 'unlimited'\n")
    database = TraceDatabase(tmp_path / "traces.db")
    now_ms = time.time_ns() / 1e6 - NOON_NS / 1e6
    for age in range(10):
        row = database.request(f"age-{age}", at_ms=now_ms - (age * 24 + 1) * 3_600_000)
        for name in ("a", "b"):
            database.node(row, name, payload={"output_data": "x" * 50_000})
    database.close()
    return database.path


def left(hush: Hush) -> list[str]:
    return [request["request_id"] for request in hush.json("traces", "-n", "0")]


def test_what_is_older_is_deleted(hush: Hush, requests: Path) -> None:
    assert "Deleted 7 requests with 14 nodes" in hush.output("prune", "--keep", "3d")
    assert left(hush) == ["age-0", "age-1", "age-2"]


def test_a_dry_run_says_what_would_be_deleted_and_deletes_nothing(hush: Hush, requests: Path) -> None:
    assert "Would delete 7 requests with 14 nodes" in hush.output("prune", "--keep", "3d", "--dry-run")
    assert len(left(hush)) == 10


def test_the_oldest_go_until_the_data_fits(hush: Hush, requests: Path) -> None:
    result = hush.json("prune", "--max-size", "600KB")
    assert 0 < result["requests"] < 10
    assert result["bytes_after"] <= 600_000 < result["bytes_before"]
    assert left(hush) == [f"age-{age}" for age in range(10 - result["requests"])]


def test_without_an_option_the_settings_count(hush: Hush, requests: Path) -> None:
    Path("hush.toml").write_text("[store]\nkeep = '5d'\n")
    result = hush("prune")
    assert result.exit_code == 0
    assert "By the settings: keep = 5d, max_size = 5GB" in result.stderr
    assert len(left(hush)) == 5


def test_a_request_that_runs_is_never_deleted(hush: Hush, tmp_path: Path) -> None:
    with LocalTracer().trace("flow", request_id="runs"):
        assert get_store().sync(30)
        hush.output("prune", "--keep", "0s")
        assert left(hush) == ["runs"]


def test_what_had_not_been_delivered_is_named(hush: Hush, requests: Path) -> None:
    database = TraceDatabase(requests)
    for (row,) in database.connection.execute("SELECT id FROM request").fetchall():
        database.delivery(row)
    database.close()
    assert "Deleted 0 requests" in hush.output("prune", "--keep", "1d")
    assert "had not been delivered to every tracer" in hush.output("prune", "--max-size", "100KB")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--keep", "soon"], "'soon' is not a duration such as '30d'; units: ms, s, m, h, d, w."),
        (["--max-size", "big"], "'big' is not a size such as '5GB'; units: B, KB"),
    ],
)
def test_a_wrong_bound_says_what_would_be_right(hush: Hush, requests: Path, options: list[str], said: str) -> None:
    result = hush("prune", *options)
    assert result.exit_code == 2
    assert said in result.stderr
    assert len(left(hush)) == 10


def test_a_missing_database_is_not_made_in_order_to_be_pruned(hush: Hush, tmp_path: Path) -> None:
    result = hush("prune", "--keep", "1d", "--db", str(tmp_path / "none.db"))
    assert result.exit_code == 1
    assert "There is no database" in result.stderr
    assert not (tmp_path / "none.db.journal").exists()


def test_on_a_terminal_it_shows_that_it_works(requests: Path) -> None:
    shown = without_colours(on_terminal("prune", "--keep", "3d"))
    assert "Pruning" in shown
    assert "Deleted 7 requests" in shown
