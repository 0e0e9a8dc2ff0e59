"""`hush tracers`: who gets what is recorded, and whether they do."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hush_core.cli.options import db_option, json_option

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from hush_core.cli.roster import Destination, Roster


@click.command()
@json_option("a JSON array")
@db_option
def tracers(as_json: bool, db_path: Path) -> None:
    """List tracers: which plugin they come from, what is due to them, sent and failed, and what is in the way.

    Those that requests have been due to in this database, those of [tracers] in the settings, and those that are
    installed. "sent" and "skipped" count for ever, "failed" the dead letters that are there now. A tracer whose
    configuration has changed is one line, and in JSON has its `configurations`.

    \b
    Examples:
      hush tracers
      hush tracers --json | jq '.[] | select(.paused) | {name, paused}'
    """
    from hush_core.cli.leftover import store_leftovers
    from hush_core.cli.render import print_json
    from hush_core.cli.roster import load_roster

    problem = store_leftovers(db_path)
    roster = load_roster(db_path)
    if as_json:
        print_json([each.as_dict() for each in roster.destinations])
    else:
        _print(roster)
    if roster.settings_problem is not None:
        click.echo(f"What is configured and installed is not known: {roster.settings_problem}", err=True)
    if problem is not None:
        click.echo(f"Some records are not stored yet: {problem}", err=True)


def _print(roster: Roster) -> None:
    from rich.text import Text

    from hush_core.cli.render import QUIET, make_console, plural, say
    from hush_core.cli.table import Column, Layout, width_of

    console = make_console()
    columns = (
        Column("tracer", least=8),
        Column("type", least=8, leave_out=2),
        Column("package", least=10, leave_out=3),
        Column("due", "right"),
        Column("sent", "right"),
        Column("failed", "right"),
        Column("skipped", "right", leave_out=1),
        Column("", least=10, leave_out=4),
    )
    now_ns = time.time_ns()
    rows = [_row(each, now_ns) for each in roster.destinations]
    layout = Layout(columns, rows, width_of(console))
    console.print(layout.header(QUIET))
    for each, row in zip(roster.destinations, rows, strict=True):
        console.print(layout.line(row))
        for detail in _details(each, now_ns):
            _print_wrapped(console, detail)
    notes = []
    if roster.host is not None and roster.host.broken:
        notes.append(f"{plural(len(roster.host.broken), 'plugin')} cannot be used; `hush plugins` says why")
    if layout.left_out and console.is_terminal:
        named = ", ".join(title for title in layout.left_out if title)
        notes.append(f"no room for: {named or 'what is configured'} (a wider terminal, or --json, shows all)")
    for note in notes:
        say(console, Text(note), QUIET)


def _row(each: Destination, now_ns: int) -> list[Text]:
    from rich.text import Text

    from hush_core.cli.render import QUIET, count, safe

    used = bool(each.states)
    return [
        Text(safe(each.name), "bold" if used or each.settings is not None else ""),
        Text(safe(each.type)),
        Text(safe(each.package), QUIET),
        Text(count(each.due) if used else "", "yellow" if each.waits_for(now_ns) is not None else ""),
        Text(count(each.total("sent")) if used else ""),
        Text(count(each.total("dead") or None), "red"),
        Text(count(each.total("skipped") or None), QUIET),
        Text("" if each.settings is not None else "not configured" if used else "installed, not configured", QUIET),
    ]


def _details(each: Destination, now_ns: int) -> Iterator[Text]:
    """What is to be known of a tracer beside its numbers, each as a paragraph below its line."""
    from rich.text import Text

    from hush_core.cli.render import QUIET, moment, safe

    if each.problem is not None:
        yield Text(safe(each.problem), "red")
    paused, waits_for, failed = each.paused, each.waits_for(now_ns), each.last_failed
    if waits_for is not None:
        yield Text(safe(waits_for), "red" if paused is not None else "yellow")
    elif paused is not None:
        yield Text(f"paused: {safe(paused.paused)}", "red")
    said = f"{waits_for}{paused.paused if paused is not None else ''}"
    if failed is not None and str(failed.last_error) not in said:
        recovered = (failed.last_error_ns or 0) < (each.latest("last_sent_ns") or 0)
        since = ", and has been sent to since" if recovered else ""
        when = f"last error, {moment(failed.last_error_ns)}{since}: "
        yield Text.assemble((when, QUIET), (safe(failed.last_error), QUIET if recovered else "red"))


def _print_wrapped(console: Console, detail: Text) -> None:
    from rich.text import Text

    from hush_core.cli.table import width_of

    width = width_of(console)
    for line in [detail] if width is None else detail.wrap(console, max(width - 2, 30)):
        line.rstrip()
        console.print(Text("  ") + line)
