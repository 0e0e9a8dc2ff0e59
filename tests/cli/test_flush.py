"""`hush flush`: what waits is tried now, followed to its end, and what is left says why."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

from box import Box, record
from hush_command import COMMAND, Hush, on_terminal, without_colours
from trace_database import TraceDatabase
from waiting import wait_until


def flushed(hush: Hush, *arguments: str) -> tuple[int, Any]:
    result = hush("flush", "--json", *arguments)
    return result.exit_code, json.loads(result.stdout)


def test_what_waits_is_tried_now_and_followed_until_it_is_delivered(hush: Hush, box: Box) -> None:
    box.be("locked")
    record("prod", *(f"r{number}" for number in range(8)))
    box.be()
    result = hush("flush", "--wait")
    assert (result.exit_code, "prod: 8 delivered" in result.stdout) == (0, True), result.output
    assert sorted(box.requests) == [f"r{number}" for number in range(8)]


def test_nothing_to_deliver_is_said_and_is_well(hush: Hush, box: Box) -> None:
    record("prod", "r")
    for options in ([], ["--wait"]):
        assert hush.output("flush", *options) == "Nothing waits to be delivered.\n"
    assert flushed(hush, "--wait") == (
        0,
        {
            "due": 0, "delivered": 0, "failed": 0, "skipped": 0, "left": 0, "dead_letters": 0,
            "tracers": [
                {"name": "prod", "delivered": 0, "failed": 0, "skipped": 0, "left": 0, "waits_for": None,
                 "dead_letters": 0}
            ],
        },
    )  # fmt: skip


def test_a_backend_that_is_down_ends_the_wait_with_the_reason_and_exit_code_1(hush: Hush, box: Box) -> None:
    box.be("down")
    record("prod", *(f"r{number}" for number in range(8)))
    result = hush("flush", "--wait")
    assert result.exit_code == 1
    assert re.search(
        r"prod: 8 left: its backend failed \d+ times in a row, tried again in .* \(the box is down\)", result.stdout
    )
    code, said = flushed(hush, "--wait")
    assert (code, said["left"], said["delivered"]) == (1, 8, 0)
    assert "the box is down" in said["tracers"][0]["waits_for"]


def test_a_tracer_that_waits_for_somebody_is_tried_once_and_says_for_what(hush: Hush, box: Box) -> None:
    box.be("locked")
    record("prod", "a", "b")
    result = hush("flush", "--wait")
    assert result.exit_code == 1
    assert re.search(r"prod: 2 left: paused: the box is locked; tried again in \d m \d\d s", result.stdout)
    box.be()
    assert hush("flush", "--wait").exit_code == 0
    assert sorted(box.requests) == ["a", "b"]


def test_dead_letters_are_named_and_do_not_count_as_left(hush: Hush, box: Box) -> None:
    box.be("locked")
    record("prod", "a")
    box.be("refusing")
    result = hush("flush", "--wait")
    assert result.exit_code == 0
    assert "prod: 1 failed" in result.stdout
    assert "prod: 1 dead letter; `hush redrive --tracer prod` makes them due again" in result.stdout
    code, said = flushed(hush, "--wait")
    assert (code, said["dead_letters"], said["left"]) == (0, 1, 0)


def test_without_wait_it_says_what_is_due_and_ends_at_once(hush: Hush, box: Box) -> None:
    box.be("down")
    record("prod", *(f"r{number}" for number in range(8)))
    shown = hush.output("flush")
    assert "8 deliveries due now: 8 to prod." in shown and "`hush flush --wait`" in shown


def test_only_one_tracer_is_flushed_when_one_is_named(hush: Hush, box: Box) -> None:
    box.be("locked")
    record("prod", "a")
    record("other", "b")
    box.be()
    code, said = flushed(hush, "--wait", "--tracer", "other")
    assert (code, said["delivered"], [each["name"] for each in said["tracers"]]) == (0, 1, ["other"])
    assert box.requests == ["b"]


def test_an_unknown_tracer_names_those_that_are_there(hush: Hush, database: TraceDatabase) -> None:
    result = hush("flush", "--tracer", "prd")
    assert result.exit_code == 1
    assert "nothing has been due to any tracer" in result.stderr
    database.tracer("prod")
    database.tracer("other")
    result = hush("flush", "--tracer", "prd")
    assert "Did you mean 'prod'? Its tracers, and those of the settings: prod, other." in result.stderr


def test_a_tracer_of_the_settings_that_nothing_was_due_to_is_no_mistake(hush: Hush, box: Box) -> None:
    record("prod", "a")
    assert hush.output("flush", "--tracer", "other", "--wait") == "Nothing waits to be delivered.\n"
    assert "Its tracers, and those of the settings: prod, other." in hush("flush", "--tracer", "nosuch").stderr


def test_a_missing_database_is_an_error_and_none_is_made(hush: Hush, tmp_path: Path) -> None:
    result = hush("flush", "--db", str(tmp_path / "none.db"))
    assert result.exit_code == 1 and "There is no database" in result.stderr
    assert not (tmp_path / "none.db.journal").exists()


def test_the_time_to_follow_is_limited(hush: Hush, box: Box) -> None:
    box.be("down")
    record("prod", "a")
    box.be("slow")
    result = hush("flush", "--wait", "--timeout", "300ms")
    assert result.exit_code == 1
    assert "prod: 1 left: not done within 300 ms" in result.stdout
    box.be()
    wait_until(lambda: box.requests == ["a"], "the delivery")


def test_a_wrong_time_says_what_would_be_right(hush: Hush, database: TraceDatabase) -> None:
    result = hush("flush", "--wait", "--timeout", "soon")
    assert result.exit_code == 2 and "'soon' is not a duration such as '30d'" in result.stderr


def test_where_nobody_watches_progress_is_a_line_now_and_then(hush: Hush, box: Box) -> None:
    box.be("locked")
    record("prod", "a")
    box.be()
    result = hush("flush", "--wait")
    assert "Delivering: 0 done, left: 1 to prod" in result.stderr
    assert "Delivering" not in result.stdout


def test_on_a_terminal_it_shows_that_it_works(box: Box) -> None:
    box.be("locked")
    record("prod", "a")
    box.be()
    shown = without_colours(on_terminal("flush", "--wait"))
    assert re.search(r"Delivering: \d done", shown) and "prod: 1 delivered" in shown


def test_a_name_is_shown_as_it_is(box: Box) -> None:
    Path("hush.toml").write_text(box.settings("'[/odd]'"))
    box.be("locked")
    record("[/odd]", "a")
    box.be()
    assert "Replaying to [/odd]" in without_colours(on_terminal("replay", "--tracer", "[/odd]"))
    assert "left: 1 to [/odd]" in without_colours(on_terminal("flush", "--wait"))


def test_a_variable_that_was_missing_is_brought_by_the_command(hush: Hush, box: Box, tmp_path: Path) -> None:
    Path("hush.toml").write_text("[tracers.prod]\ntype = 'box'\naddress = '${BOX_ADDRESS}'\n")
    record("prod", "a")
    result = hush("flush", "--wait")
    assert result.exit_code == 1 and "BOX_ADDRESS" in result.stdout
    done = subprocess.run(
        [*COMMAND, "flush", "--wait"],
        env={**os.environ, "BOX_ADDRESS": str(box.folder)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert (done.returncode, "prod: 1 delivered" in done.stdout) == (0, True), done.stdout
    assert box.requests == ["a"]
