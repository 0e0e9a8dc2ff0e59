"""`hush replay`: what is stored is sent to a tracer, a new one or again."""

from __future__ import annotations

import os
import subprocess
import textwrap
from pathlib import Path

import pytest
from box import Box, record
from hush_command import COMMAND, Hush, on_terminal, without_colours
from trace_database import NOON_NS, TraceDatabase

from hush_core import LocalTracer, get_store
from hush_core.cli import replay


def keep_local(*request_ids: str, **trace: str | list[str]) -> None:
    """Record requests that no backend gets."""
    for request_id in request_ids:
        with LocalTracer().trace(**{"workflow_name": "flow", **trace, "request_id": request_id}):  # type: ignore[arg-type]
            pass
    assert get_store().sync(30)


def test_what_was_recorded_before_a_backend_was_there_is_sent_to_it(hush: Hush, box: Box) -> None:
    keep_local("a", "b", "c")
    assert "prod: 3 requests due." in hush.output("replay", "--tracer", "prod")
    hush.output("flush", "--wait")
    assert box.requests == ["a", "b", "c"]


def test_what_it_got_is_not_sent_again_unless_that_is_asked_for(hush: Hush, box: Box) -> None:
    record("prod", "a")
    keep_local("b")
    shown = hush.output("replay", "--tracer", "prod")
    assert "prod: 1 of 2 requests due." in shown
    assert "1 request had been due to it before; --again sends that too." in shown
    hush.output("flush", "--wait")
    assert box.requests == ["a", "b"]
    assert hush.json("replay", "--tracer", "prod", "--again")["tracers"] == [
        {"name": "prod", "type": "BoxTracer", "queued": 2, "seen": 2}
    ]
    hush.output("flush", "--wait")
    assert sorted(box.requests) == ["a", "a", "b", "b"]


def test_several_tracers_each_get_their_own(hush: Hush, box: Box) -> None:
    record("prod", "a")
    sent = hush.json("replay", "--tracer", "prod", "--tracer", "other")["tracers"]
    assert [(each["name"], each["queued"]) for each in sent] == [("prod", 0), ("other", 1)]
    hush.output("flush", "--wait")
    assert box.requests == ["a", "a"]


def test_conditions_choose_what_is_sent(hush: Hush, box: Box) -> None:
    keep_local("a", tags=["vip", "x"], user_id="ann")
    keep_local("b", tags=["vip"], session_id="s", workflow_name="chat")
    for options, number in {
        ("--tag", "vip"): 2,
        ("--tag", "vip", "--tag", "x"): 1,
        ("--user", "ann"): 1,
        ("--session", "s", "--workflow", "chat"): 1,
        ("--status", "failed"): 0,
        ("--since", "1h"): 2,
        ("--since", "2100-01-01"): 0,
    }.items():
        [sent] = hush.json("replay", "--tracer", "prod", "--dry-run", *options)["tracers"]
        assert sent["queued"] == number, options


def test_a_dry_run_says_how_much_it_would_be_and_sends_nothing(hush: Hush, box: Box) -> None:
    keep_local("a", "b")
    assert "prod: 2 requests would be due." in hush.output("replay", "--tracer", "prod", "--dry-run")
    assert hush.output("flush", "--wait") == "Nothing waits to be delivered.\n"
    assert box.requests == []


def test_what_still_runs_is_left_out(hush: Hush, box: Box) -> None:
    with LocalTracer().trace("flow", request_id="runs"):
        assert get_store().sync(30)
        assert hush.json("replay", "--tracer", "prod")["tracers"][0]["queued"] == 0


def test_pages_neither_repeat_nor_skip_a_request(
    hush: Hush, box: Box, database: TraceDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    box_ids = [f"r{number:02d}" for number in range(23)]
    for number, request_id in enumerate(box_ids):
        database.request(request_id, at_ms=number // 3, recorded_ns=NOON_NS + number // 3)
    Path("hush.toml").write_text(box.settings("prod") + "[store]\nkeep = 'forever'\n")
    monkeypatch.setattr(replay, "_PAGE", 5)
    assert hush.json("replay", "--tracer", "prod")["tracers"][0]["queued"] == 23
    hush.output("flush", "--wait")
    assert sorted(box.requests) == box_ids


def test_sample_and_when_do_not_count(hush: Hush, box: Box) -> None:
    Path("hush.toml").write_text(f"{box.settings('prod')}sample = 0.0\n")
    keep_local("a")
    hush.output("replay", "--tracer", "prod")
    hush.output("flush", "--wait")
    assert box.requests == ["a"]


def test_a_name_that_stands_for_a_class_of_the_working_folder_is_found_there(
    hush: Hush, box: Box, tmp_path: Path
) -> None:
    source = """
    from hush_core import BaseTracer
    class Mine(BaseTracer):
        def _get_tracer_config(self): return {}
        @staticmethod
        def flush(flush_data): open("mine.txt", "a").write(flush_data["request_id"])
    """
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "my_tracers.py").write_text(textwrap.dedent(source))
    keep_local("a")
    for command in (["replay", "--tracer", "my_tracers:Mine"], ["flush", "--wait"]):
        subprocess.run([*COMMAND, *command], cwd=tmp_path / "own", check=True)
    assert (tmp_path / "own" / "mine.txt").read_text() == "a"


def test_a_variable_comes_from_the_commands_environment(hush: Hush, box: Box) -> None:
    Path("hush.toml").write_text("[tracers.prod]\ntype = 'box'\naddress = '${BOX_ADDRESS}'\n")
    keep_local("a")
    environment = {**os.environ, "BOX_ADDRESS": str(box.folder)}
    for command in (["replay", "--tracer", "prod"], ["flush", "--wait"]):
        subprocess.run([*COMMAND, *command], env=environment, check=True)
    assert box.requests == ["a"]


def test_an_unknown_tracer_names_what_there_is(hush: Hush, box: Box) -> None:
    keep_local("a")
    result = hush("replay", "--tracer", "prd")
    assert result.exit_code == 1
    assert "Did you mean 'prod'?" in result.stderr and "Installed: box (hush-box 1.2.3), local" in result.stderr


def test_the_local_tracer_has_nothing_to_be_sent(hush: Hush, database: TraceDatabase) -> None:
    result = hush("replay", "--tracer", "local")
    assert result.exit_code == 1 and "there is nothing to send" in result.stderr


def test_it_needs_a_tracer_and_a_database(hush: Hush, box: Box, tmp_path: Path) -> None:
    assert "Missing option '--tracer'" in hush("replay").stderr
    result = hush("replay", "--tracer", "prod", "--db", str(tmp_path / "none.db"))
    assert result.exit_code == 1 and "There is no database" in result.stderr
    assert not (tmp_path / "none.db.journal").exists()


def test_on_a_terminal_it_shows_that_it_works(box: Box) -> None:
    keep_local("a", "b")
    shown = without_colours(on_terminal("replay", "--tracer", "prod"))
    assert "Replaying to prod" in shown and "prod: 2 requests due." in shown
