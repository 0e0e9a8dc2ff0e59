"""`hush show`: one request as a tree."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hush_core.cli.options import db_option, json_option

if TYPE_CHECKING:
    from hush_core.store.stored import RequestTrace


@click.command()
@click.argument("request_id", required=False, metavar="[ID]")
@click.option("--full", is_flag=True, help="Unfold loops and repeated nodes, and print errors whole.")
@click.option("--io", "with_payloads", is_flag=True, help="With the beginning of each node's inputs and outputs.")
@json_option("the request with all its nodes, inputs and outputs as JSON")
@db_option
def show(request_id: str | None, full: bool, with_payloads: bool, as_json: bool, db_path: Path) -> None:
    """Show one request as a tree of its nodes: how long each took, tokens, cost, errors.

    ID is a request's id or the beginning of it; without one, the newest request is shown. The turns of a loop are
    folded into one line with their count and the slowest turn, and so are five or more nodes of one name side by side.

    \b
    Examples:
      hush show               the newest request
      hush show 3f2a          the one whose id begins so
      hush show 3f2a --io     with inputs and outputs
      hush show 3f2a --full   every iteration by itself
      hush show 3f2a --json | jq '.nodes[] | select(.status == "error")'
    """
    from hush_core.cli.leftover import store_leftovers
    from hush_core.cli.render import QUIET, make_console, print_json, say

    problem = store_leftovers(db_path)
    request = _load(db_path, request_id, payloads=with_payloads or as_json)
    if as_json:
        print_json(request.as_dict())
    else:
        folded = print_request(request, full=full, with_payloads=with_payloads)
        console = make_console()
        if folded and console.is_terminal:
            say(console, f"\n{folded:,} nodes are folded; --full shows each", QUIET)
    if problem is not None:
        click.echo(f"Some records are not stored yet: {problem}", err=True)


def _load(db_path: Path, request_id: str | None, *, payloads: bool) -> RequestTrace:
    from hush_core.errors import UnknownRequestError
    from hush_core.store.queries import find_request, iter_requests, load_trace, reading

    if request_id is None:
        newest = next(iter_requests(db_path, limit=1), None)
        if newest is None:
            raise UnknownRequestError(f"The database {db_path} holds no request yet. Run a workflow, or `hush demo`.")
        request_id = newest.request_id
    with reading(db_path) as connection:
        return load_trace(connection, find_request(connection, request_id), payloads=payloads)


def print_request(request: RequestTrace, *, full: bool = False, with_payloads: bool = False) -> int:
    """Draw a request: what it is, then its tree. Gives how many nodes are not drawn by themselves."""
    from hush_core.cli.fold import fold
    from hush_core.cli.picture import Picture, heading
    from hush_core.cli.render import QUIET, make_console, say
    from hush_core.store.tree import build

    console = make_console()
    now_ns = time.time_ns()
    for line in heading(request, now_ns):
        say(console, line)
    lines = fold(build(request.nodes), unfold=full)
    if not lines:
        say(console, "No node has been recorded for it.", QUIET)
        return 0
    console.print()
    picture = Picture(console, lines, now_ns, whole_errors=full, with_payloads=with_payloads)
    picture.print()
    return picture.folded_nodes
