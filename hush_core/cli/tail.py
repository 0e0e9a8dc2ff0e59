"""`hush tail`: what happens now."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from hush_core.cli.options import db_option, filter_options, json_option

if TYPE_CHECKING:
    from rich.text import Text

    from hush_core.store.queries.feed import Event, Feed

_LOOK_S: Final = 0.1
_ID_CELLS: Final = 13
#: What a look at a node does not read: `hush show --json` has it.
_NOT_READ: Final = frozenset({"parent_id", "input_data", "output_data", "metadata", "media"})


@click.command()
@filter_options(status=False)
@click.option(
    "--limit",
    "-n",
    metavar="N",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    help="Begin with so many nodes.",
)
@json_option("one JSON object per line")
@db_option
def tail(limit: int, as_json: bool, db_path: Path, **conditions: Any) -> None:
    """Watch nodes as they begin and end, in every process that records into the database. Ctrl+C ends it.

    Begins with what runs now and the newest nodes; waits for the database if there is none yet. Watching costs the
    recording processes nothing.

    \b
    Examples:
      hush tail                      everything, as it happens
      hush tail --workflow rag -n 0  one workflow, from now on
      hush tail --json | jq -r 'select(.event == "node_ended") | .node_name'
    """
    from hush_core.cli.leftover import store_leftovers
    from hush_core.store.queries import RequestFilter
    from hush_core.store.queries.feed import Feed

    problem = store_leftovers(db_path)
    if problem is not None:
        click.echo(f"Some records are not stored yet: {problem}", err=True)
    if not os.path.exists(db_path):
        click.echo(f"Waiting for {db_path}: nothing has been recorded there yet.", err=True)
    feed = Feed(db_path, RequestFilter(**conditions))
    try:
        _follow(feed, limit, as_json)
    except KeyboardInterrupt:
        pass  # the way to end it
    finally:
        feed.close()


def _follow(feed: Feed, limit: int, as_json: bool) -> None:
    printer = _JsonLines() if as_json else _Lines()
    printer.print(feed.begin(limit))
    while True:
        printer.print(feed.poll())
        time.sleep(_LOOK_S)  # a look costs two system calls; nothing tells a reader of SQLite that there is news


class _JsonLines:
    """Each event as a JSON object on a line of its own."""

    def print(self, events: list[Event]) -> None:
        from hush_core.cli.render import print_json

        for event in events:
            what = event.node or event.request
            assert what is not None
            line = {"event": event.kind, "request_id": event.request_id, "workflow_name": event.workflow_name}
            line |= {name: value for name, value in what.as_dict().items() if name not in _NOT_READ}
            print_json(line, indent=False)


class _Lines:
    """Each event as a line: when, which request, which node, how long it took."""

    def __init__(self) -> None:
        from hush_core.cli.render import make_console

        self._console = make_console()

    def print(self, events: list[Event]) -> None:
        from rich.text import Text

        if events:
            self._console.print(Text("\n").join(_line(event) for event in events))


def _line(event: Event) -> Text:
    from rich.text import Text

    from hush_core.cli.render import (
        QUIET,
        STATUS_STYLES,
        clock,
        cost,
        count,
        duration,
        first_line,
        padded,
        plural,
        safe,
    )
    from hush_core.model import NODE_OK, NODE_RUNNING

    short = event.request_id if len(event.request_id) <= _ID_CELLS else f"{event.request_id[: _ID_CELLS - 1]}…"
    line = Text.assemble((f"{clock(event.at_ns)}  {padded(safe(short), _ID_CELLS)}  ", QUIET))
    line.append(safe(event.workflow_name or "(no workflow)"), QUIET if event.node else "bold")
    what = event.node or event.request
    assert what is not None
    if event.node is not None:
        line.append(" › ", QUIET).append(safe(event.node.node_name or "(no name)"))
        line.append(f" {safe(event.node.context_id)}" if event.node.context_id else "", QUIET)
    if what.status != NODE_OK:
        line.append(f"  {safe(what.status)}", STATUS_STYLES.get(what.status, ""))
    if what.status != NODE_RUNNING:
        tokens = f"{count(what.total_tokens)} tokens" if what.total_tokens is not None else ""
        sums = [duration(what.duration_ms), tokens, cost(what.cost_usd)]
        if event.request is not None:
            sums.insert(1, plural(event.request.node_count, "node"))
        line.append("".join(f"  {text}" for text in sums if text))
    line.append(f"  {first_line(what.error)}" if what.error else "", "red")
    return line
