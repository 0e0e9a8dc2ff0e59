"""`hush traces`: the list of requests."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hush_core.cli.options import db_option, filter_options, json_option

if TYPE_CHECKING:
    from rich.text import Text

    from hush_core.store.stored import StoredRequest


@click.command()
@filter_options()
@click.option(
    "--limit",
    "-n",
    metavar="N",
    type=click.IntRange(min=0),
    default=20,
    show_default=True,
    help="At most so many; 0: all.",
)
@json_option("a JSON array")
@db_option
def traces(limit: int, as_json: bool, db_path: Path, **conditions: Any) -> None:
    """List requests, newest first.

    A request is listed when it meets all conditions that are given. The bright beginning of an id is enough for
    `hush show`.

    \b
    Examples:
      hush traces                             the newest 20
      hush traces --status failed --since 2h  what failed in the last two hours
      hush traces --tag prod --tag vip        requests with both tags
      hush traces --workflow rag -n 0 --json  all of one workflow, for programs
    """
    from hush_core.cli.leftover import store_leftovers
    from hush_core.cli.render import print_json
    from hush_core.store.queries import RequestFilter, iter_filtered

    problem = store_leftovers(db_path)
    wanted = RequestFilter(**conditions)
    found = iter_filtered(db_path, wanted, limit or None)
    if as_json:
        print_json([request.as_dict() for request in found])
    else:
        _print_table(list(found), db_path, limit, wanted != RequestFilter())
    if problem is not None:
        click.echo(f"Some records are not stored yet: {problem}", err=True)


def _print_table(found: list[StoredRequest], db_path: Path, limit: int, filtered: bool) -> None:
    from hush_core.cli.render import QUIET, make_console, plural, say
    from hush_core.cli.table import Column, Layout, width_of
    from hush_core.store.queries import reading, shortest_beginnings

    console = make_console()
    if not found:
        why = "No request meets these conditions" if filtered else "No request has been recorded"
        say(console, f"{why} in {db_path}.", QUIET)
        return
    with reading(db_path) as connection:
        enough = shortest_beginnings(connection, [request.request_id for request in found])
    longest = max(enough.values())
    columns = (
        Column("id", least=longest + 1),
        Column("started"),
        Column("workflow", least=8),
        Column("status"),
        Column("took", "right"),
        Column("nodes", "right", leave_out=4),
        Column("errors", "right", leave_out=2),
        Column("tokens", "right", leave_out=3),
        Column("cost", "right", leave_out=5),
        Column("tags", least=8, leave_out=1),
        Column("user", least=6, leave_out=7),
        Column("session", least=6, leave_out=6),
    )
    now_ns = time.time_ns()
    rows = [_row(request, enough[request.request_id], now_ns) for request in found]
    layout = Layout(columns, rows, width_of(console))
    console.print(layout.header(QUIET))
    for row in rows:
        console.print(layout.line(row))
    notes = []
    if len(found) == limit:
        notes.append(f"the newest {plural(limit, 'request')}; -n {limit * 5} lists more")
    if layout.left_out:
        notes.append(f"no room for: {', '.join(layout.left_out)} (a wider terminal, or --json, shows all)")
    if notes and console.is_terminal:
        say(console, "; ".join(notes), QUIET)


def _row(request: StoredRequest, enough: int, now_ns: int) -> list[Text]:
    from rich.text import Text

    from hush_core.cli.render import QUIET, STATUS_STYLES, age, cost, count, duration, moment, safe
    from hush_core.model import RUNNING

    took = Text(duration(request.duration_ms))
    if request.status == RUNNING:
        took = Text(age(request.start_ns, now_ns), STATUS_STYLES[RUNNING])
    return [
        Text.assemble(safe(request.request_id[:enough]), (safe(request.request_id[enough:]), QUIET)),
        Text(moment(request.start_ns), QUIET),
        Text(safe(request.workflow_name or "")),
        Text(safe(request.status), STATUS_STYLES.get(request.status, "")),
        took,
        Text(count(request.node_count), QUIET),
        Text(count(request.error_count or None), "red"),
        Text(count(request.total_tokens)),
        Text(cost(request.cost_usd)),
        Text(safe(", ".join(request.tags)), "cyan"),
        Text(safe(request.user_id or ""), QUIET),
        Text(safe(request.session_id or ""), QUIET),
    ]
