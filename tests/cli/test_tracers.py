"""`hush tracers`: who gets what is recorded, by the database, the settings and the plugins that are installed."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
from fake_plugin import install, install_tracer
from hush_command import Hush, on_terminal, without_colours
from rich.cells import cell_len
from trace_database import NOON_NS, TraceDatabase

SECOND_NS = 1_000_000_000


def cells(line: str) -> list[str]:
    return re.split(r"\s{2,}", line.strip())


def listed(hush: Hush) -> dict[str, Any]:
    return {each["name"]: each for each in hush.json("tracers")}


def configure(text: str) -> None:
    Path("hush.toml").write_text(text)


def test_a_tracer_is_shown_with_its_package_and_counts(hush: Hush, database: TraceDatabase, plugins: Path) -> None:
    install_tracer(plugins, "box", "return None")
    configure("[tracers.prod]\ntype = 'box'\nsample = 0.5\n")
    database.tracer("prod", tracer_type="FakeTracer", target="fake_box:FakeTracer", sent=1200, failed=3, skipped=7)
    for number, status in enumerate(["pending", "pending", "flushing", "failed", "skipped", "flushed"]):
        database.delivery(database.request(f"r{number}"), "prod", status=status)
    lines = hush.output("tracers").splitlines()
    assert cells(lines[0]) == ["tracer", "type", "package", "due", "sent", "failed", "skipped"]
    assert cells(lines[1]) == ["prod", "box", "hush-box 1.2.3", "3", "1,200", "1", "7"]
    prod = listed(hush)["prod"]
    assert (prod["type"], prod["package"], prod["version"], prod["configured"]) == ("box", "hush-box", "1.2.3", True)
    assert (prod["due"], prod["pending"], prod["flushing"], prod["failed"]) == (3, 2, 1, 1)
    assert (prod["target"], prod["policy"]) == ("fake_box:FakeTracer", {"sample": 0.5})


def test_what_is_installed_and_not_configured_is_listed_last(
    hush: Hush, database: TraceDatabase, plugins: Path
) -> None:
    install_tracer(plugins, "aaa", "return None")
    database.tracer("prod", target="somewhere:Mine")
    lines = [cells(line) for line in hush.output("tracers").splitlines()]
    assert lines[1:] == [
        ["prod", "somewhere:Mine", "0", "0", "not configured"],
        ["aaa", "aaa", "hush-aaa 1.2.3", "installed, not configured"],
        ["local", "local", "built in", "installed, not configured"],
    ]


def test_without_a_database_what_is_configured_and_installed_is_listed(hush: Hush) -> None:
    configure("[tracers.here]\ntype = 'local'\n")
    assert set(listed(hush)) == {"here"}
    assert listed(hush)["here"]["configured"] is True


def test_a_class_that_its_records_name_alone_is_found_among_the_plugins(
    hush: Hush, database: TraceDatabase, plugins: Path
) -> None:
    install_tracer(plugins, "box", "return None", kind="BoxTracer")
    database.tracer("BoxTracer", tracer_type="BoxTracer")
    assert listed(hush)["BoxTracer"]["type"] == "box"
    assert "box" not in listed(hush)


def test_a_tracer_whose_plugin_is_not_installed_says_so(hush: Hush, database: TraceDatabase) -> None:
    configure("[tracers.prod]\ntype = 'langfuse'\n")
    database.delivery(database.request("r"), "prod", attempts=1)
    assert "No tracer named 'langfuse'. Installed: local (built in)." in hush.output("tracers")
    assert listed(hush)["prod"]["problem"].startswith("No tracer named 'langfuse'")


def test_several_configurations_are_one_line_and_each_in_json(hush: Hush, database: TraceDatabase) -> None:
    old = database.tracer("prod", tracer_config='{"key": "${OLD}"}', sent=5, last_error="401 no", last_error_ns=NOON_NS)
    new = database.tracer("prod", tracer_config='{"key": "${NEW}", "x": 1}', sent=7, last_sent_ns=NOON_NS + 1)
    database.delivery(database.request("a"), tracer=old)
    database.delivery(database.request("b"), tracer=new)
    prod = listed(hush)["prod"]
    assert (prod["due"], prod["sent"], prod["last_error"]) == (2, 12, "401 no")
    assert [each["options"] for each in prod["configurations"]] == [["key"], ["key", "x"]]
    assert [each["sent"] for each in prod["configurations"]] == [5, 7]
    assert hush.output("tracers").count("prod") == 1


def test_what_waits_with_an_older_configuration_says_so(hush: Hush, database: TraceDatabase) -> None:
    old = database.tracer("prod", tracer_config='{"url": "old"}', paused="HTTP 404")
    database.tracer("prod", tracer_config='{"url": "new"}')
    database.delivery(database.request("a"), tracer=old)
    assert "1 of an older configuration: paused: HTTP 404" in hush.output("tracers")


def test_the_values_of_a_configuration_are_shown_nowhere(hush: Hush, database: TraceDatabase) -> None:
    database.tracer("prod", tracer_config='{"key": "s3cret"}')
    database.tracer("odd", tracer_config="s3cret, and no JSON")
    assert "s3cret" not in hush.output("tracers") + hush.output("tracers", "--json")


def test_a_paused_tracer_says_why_and_when_it_is_tried_again(hush: Hush, database: TraceDatabase) -> None:
    retry_ns = time.time_ns() + 200 * SECOND_NS
    database.tracer("prod", paused="HTTP 401: wrong key", retry_ns=retry_ns, failures=1)
    assert "paused: HTTP 401: wrong key" in hush.output("tracers")
    database.delivery(database.request("r"), "prod")
    assert re.search(r"paused: HTTP 401: wrong key; tried again in 3 m \d\d s, at ", hush.output("tracers"))
    assert listed(hush)["prod"]["paused"] == "HTTP 401: wrong key"


def test_an_old_configuration_that_is_paused_and_due_to_nobody_is_of_no_interest(
    hush: Hush, database: TraceDatabase
) -> None:
    database.tracer("prod", tracer_config='{"key": "old"}', paused="HTTP 401")
    database.tracer("prod", tracer_config='{"key": "new"}')
    assert listed(hush)["prod"]["paused"] is None
    assert "paused" not in hush.output("tracers")


def test_an_open_breaker_and_a_wait_say_until_when(hush: Hush, database: TraceDatabase) -> None:
    later = time.time_ns() + 90 * SECOND_NS
    database.tracer("down", failures=12, retry_ns=later, last_error="refused")
    database.tracer("busy", failures=1, retry_ns=later, last_error="HTTP 429")
    database.tracer("soon", failures=1, last_error="reset")
    for name in ("down", "busy", "soon"):
        database.delivery(database.request(name), name, next_attempt_ns=later)
    shown = " ".join(hush.output("tracers").split())
    assert re.search(r"its backend failed 12 times in a row, tried again in 1 m [123]\d s, at .+? \(refused\)", shown)
    assert re.search(r"its backend asked to wait, tried again in 1 m [123]\d s, at .+? \(HTTP 429\)", shown)
    assert re.search(r"the next attempt is in 1 m [123]\d s, at .+? \(reset\)", shown)
    assert listed(hush)["down"]["retry_time"] is not None


def test_the_last_error_says_when_and_whether_it_is_over(hush: Hush, database: TraceDatabase) -> None:
    database.tracer("bad", last_error="HTTP 400", last_error_ns=NOON_NS + 5, last_sent_ns=NOON_NS)
    database.tracer("good", last_error="HTTP 503", last_error_ns=NOON_NS, last_sent_ns=NOON_NS + 5)
    shown = hush.output("tracers")
    assert "last error, 2025-01-31: HTTP 400" in shown
    assert "last error, 2025-01-31, and has been sent to since: HTTP 503" in shown


def test_wrong_settings_hide_nothing_of_the_database(hush: Hush, database: TraceDatabase) -> None:
    database.tracer("prod", sent=3)
    configure("[store]\nkep = '1d'\n")
    result = hush("tracers")
    assert result.exit_code == 0 and "prod" in result.stdout
    assert "What is configured and installed is not known" in result.stderr and "store.kep" in result.stderr


def test_a_broken_plugin_is_said_to_be_there(hush: Hush, database: TraceDatabase, plugins: Path) -> None:
    install(plugins, "bad", "1 / 0")
    assert "1 plugin cannot be used; `hush plugins` says why" in hush.output("tracers")


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_on_a_terminal_no_line_is_wider_than_it(database: TraceDatabase, columns: int) -> None:
    configure(f"[tracers.{'n' * 40}]\ntype = 'langfuse'\n")
    database.tracer("日本" * 20, tracer_type="T" * 50, paused="why\x1b[2J " * 40, last_error="e " * 100)
    database.delivery(database.request("r"), "日本" * 20)
    shown = on_terminal("tracers", columns=columns)
    assert "\x1b[2J" not in shown
    assert max(map(cell_len, without_colours(shown).splitlines())) <= columns
