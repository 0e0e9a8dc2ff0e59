"""`hush redrive`: dead letters become due again."""

from __future__ import annotations

from pathlib import Path

import pytest
from box import Box, record
from hush_command import Hush
from trace_database import TraceDatabase


def test_dead_letters_are_due_again_and_are_delivered(hush: Hush, box: Box) -> None:
    box.be("refusing")
    record("prod", "a", "b")
    box.be()
    assert "2 dead letters: due again." in hush.output("redrive")
    hush.output("flush", "--wait")
    assert sorted(box.requests) == ["a", "b"]


def test_only_those_of_a_tracer_or_of_a_request(hush: Hush, box: Box) -> None:
    box.be("refusing")
    record("prod", "first-1", "first-2", "second")
    record("other", "first-3")
    box.be()
    assert "1 dead letter of other: due again." in hush.output("redrive", "--tracer", "other")
    assert "1 dead letter for the request second: due again." in hush.output("redrive", "sec")
    assert hush.json("redrive", "--tracer", "prod", "first-2") == {
        "redriven": 1, "tracer": "prod", "request_id": "first-2"
    }  # fmt: skip
    hush.output("flush", "--wait")
    assert sorted(box.requests) == ["first-2", "first-3", "second"]


def test_no_dead_letter_is_said_and_those_of_others_are_named(hush: Hush, database: TraceDatabase) -> None:
    database.tracer("prod")
    database.delivery(database.request("r"), "other", status="failed")
    assert hush.output("redrive", "--tracer", "prod") == "There is no dead letter of prod. There are: other 1.\n"


def test_where_there_is_no_dead_letter_no_writer_is_asked(
    hush: Hush, database: TraceDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hush_core.background.supervisor.control", lambda *_, **__: pytest.fail("asked a writer"))
    database.delivery(database.request("r"))
    assert hush.output("redrive") == "There is no dead letter.\n"
    assert hush.json("redrive") == {"redriven": 0, "tracer": None, "request_id": None}


def test_an_unknown_tracer_names_those_that_are_there(hush: Hush, database: TraceDatabase) -> None:
    database.tracer("prod")
    result = hush("redrive", "--tracer", "prd")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Did you mean 'prod'? Its tracers, and those of the settings: prod." in result.stderr


def test_an_ambiguous_id_names_those_that_fit(hush: Hush, database: TraceDatabase) -> None:
    for request_id in ("0f9c1", "0f9c2"):
        database.delivery(database.request(request_id), status="failed")
    result = hush("redrive", "0f9")
    assert result.exit_code == 1 and "'0f9c1'" in result.stderr and "'0f9c2'" in result.stderr
    assert "No request id begins with 'zz'" in hush("redrive", "zz").stderr


def test_a_missing_database_is_an_error_and_none_is_made(hush: Hush, tmp_path: Path) -> None:
    result = hush("redrive", "--db", str(tmp_path / "none.db"))
    assert result.exit_code == 1 and "There is no database" in result.stderr
    assert not (tmp_path / "none.db.journal").exists()
