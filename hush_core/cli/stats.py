"""`hush stats`: how many, how long, how much."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from hush_core.cli.options import db_option, filter_options, json_option

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from hush_core.store.queries import RequestFilter
    from hush_core.store.queries.statistics import Figures, Statistics

#: Requests and nodes that are read when nobody says how much: what is read in a blink.
_MOST: Final = 12_000
_ROWS_SHOWN: Final = 10
_TABLES: Final = ("workflow", "node", "model")


@click.command()
@filter_options()
@click.option("--by", type=click.Choice(_TABLES), help="Only this table, with all of its rows.")
@click.option("--all", "everything", is_flag=True, help="Of all that is stored, however much it is.")
@json_option("one JSON object")
@db_option
def stats(by: str | None, everything: bool, as_json: bool, db_path: Path, **conditions: Any) -> None:
    """Sum up requests by workflow, node and model: how many, errors, durations, tokens, cost.

    Of the newest requests, as many as are read in a blink, unless --since or --all asks for more; the first line says
    which. p95 is the time that 95 of 100 did not exceed, and exact. A cost that is not known is in no sum.

    \b
    Examples:
      hush stats                            the newest requests
      hush stats --since 24h                all of the last day
      hush stats --workflow rag --by node   where the time of one workflow goes
      hush stats --tag prod --by model      what models cost in production
      hush stats --all --json | jq '.models[] | {model, cost_usd}'
    """
    from hush_core.cli.leftover import store_leftovers
    from hush_core.cli.render import print_json
    from hush_core.store.queries import RequestFilter

    problem = store_leftovers(db_path)
    wanted = RequestFilter(**conditions)
    found = _load(db_path, wanted, None if everything or wanted.since_ns is not None else _MOST)
    if as_json:
        print_json(_as_dict(found, by))
    else:
        _print(found, by, db_path, wanted != RequestFilter())
    if problem is not None:
        click.echo(f"Some records are not stored yet: {problem}", err=True)


def _load(db_path: Path, wanted: RequestFilter, most: int | None) -> Statistics:
    from hush_core.cli.render import make_console
    from hush_core.store.queries.statistics import load_statistics

    console = make_console(stderr=True)
    if most is not None or not console.is_terminal:
        return load_statistics(db_path, wanted, most=most)
    with console.status("Reading") as status:
        return load_statistics(
            db_path, wanted, progress=lambda requests: status.update(f"Reading: {requests:,} requests")
        )


def _as_dict(found: Statistics, by: str | None) -> dict[str, Any]:
    from hush_core.store.stored import iso_time

    keys = {"workflow": ("workflow_name",), "node": ("workflow_name", "node_name"), "model": ("model",)}
    tables = {
        f"{table}s": [_figures_dict(figures, names, "requests" if table == "workflow" else "calls") for figures in rows]
        for (table, names), rows in zip(keys.items(), _rows(found), strict=True)
        if by in (None, table)
    }
    return {
        "request_count": found.requests,
        "node_count": found.nodes,
        "oldest_time": iso_time(found.oldest_ns),
        "newest_time": iso_time(found.newest_ns),
        "is_whole": found.is_whole,
        **tables,
    }


def _rows(found: Statistics) -> tuple[list[Figures], ...]:
    return found.workflows, found.nodes_by_name, found.models


def _figures_dict(figures: Figures, names: tuple[str, ...], counted: str) -> dict[str, Any]:
    import msgspec

    plain = msgspec.structs.asdict(figures)
    unused = {"workflow_name", "node_name", "model", "count"}
    return {
        **{name: plain[name] for name in names},
        counted: figures.count,
        **{name: value for name, value in plain.items() if name not in unused},
    }


# -- drawn ------------------------------------------------------------------------------------------------------------


def _print(found: Statistics, by: str | None, db_path: Path, filtered: bool) -> None:
    from hush_core.cli.render import QUIET, make_console, moment, plural, say

    console = make_console()
    if not found.requests:
        why = "No request meets these conditions" if filtered else "No request has been recorded"
        say(console, f"{why} in {db_path}.", QUIET)
        return
    which = plural(found.requests, "request") if found.is_whole else f"The newest {plural(found.requests, 'request')}"
    times = list(dict.fromkeys([moment(found.oldest_ns), moment(found.newest_ns)]))
    more = "" if found.is_whole else "; --since 7d or --all reads more"
    say(console, f"{which} with {plural(found.nodes, 'node')}, recorded {' to '.join(times)}{more}.", QUIET)
    unpriced = sum(figures.unpriced for figures in found.workflows)
    if unpriced:
        say(console, f"The cost of {plural(unpriced, 'call')} is not known, and in no sum.", QUIET)
    for table, rows in zip(_TABLES, _rows(found), strict=True):
        if by in (None, table) and rows:
            console.print()
            _print_table(console, table, rows, len(rows) if by else _ROWS_SHOWN)
    if by == "model" and not found.models:
        say(console, "None of their nodes names a model.", QUIET)


def _print_table(console: Console, table: str, rows: list[Figures], shown: int) -> None:
    from hush_core.cli.render import QUIET, say
    from hush_core.cli.table import Column, Layout, width_of

    columns = (
        Column(table, least=12),
        Column("of workflow", least=8, leave_out=3),
        Column("requests" if table == "workflow" else "calls", "right"),
        Column("errors", "right"),
        Column("interrupted", "right", leave_out=4),
        Column("running", "right", leave_out=5),
        Column("p50", "right"),
        Column("p95", "right"),
        Column("p99", "right"),
        Column("tokens", "right", leave_out=2),
        Column("cost", "right", leave_out=1),
    )
    lines = [_row(table, figures) for figures in rows[:shown]]
    layout = Layout(columns, lines, width_of(console))
    console.print(layout.header(QUIET))
    for line in lines:
        console.print(layout.line(line))
    notes = []
    if len(rows) > shown:
        notes.append(f"and {len(rows) - shown:,} more; --by {table} shows all")
    if layout.left_out and console.is_terminal:
        notes.append(f"no room for: {', '.join(layout.left_out)} (a wider terminal, or --json, shows all)")
    if notes:
        say(console, "; ".join(notes), QUIET)


def _row(table: str, figures: Figures) -> list[Text]:
    from rich.text import Text

    from hush_core.cli.render import QUIET, cost, count, duration, safe

    workflow = safe(figures.workflow_name or "(no workflow)")
    name = {"workflow": workflow, "node": safe(figures.node_name or "(no name)"), "model": safe(figures.model)}[table]
    return [
        Text(name),
        Text(workflow if table == "node" else "", QUIET),
        Text(count(figures.count)),
        Text(count(figures.errors or None), "red"),
        Text(count(figures.interrupted or None), "yellow"),
        Text(count(figures.running or None), "cyan"),
        Text(duration(figures.p50_ms)),
        Text(duration(figures.p95_ms), "bold"),
        Text(duration(figures.p99_ms)),
        Text(count(figures.total_tokens)),
        Text(cost(figures.cost_usd)),
    ]
