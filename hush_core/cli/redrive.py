"""`hush redrive`: dead letters become due again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from hush_core.cli.options import db_option, json_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hush_core.cli.roster import Destination

_ASK_S: Final = 60.0


@click.command()
@click.argument("request_id", required=False, metavar="[ID]")
@click.option("--tracer", "name", metavar="NAME", help="Only those of this tracer.")
@json_option("one JSON object")
@db_option
def redrive(request_id: str | None, name: str | None, as_json: bool, db_path: Path) -> None:
    """Make dead letters due again: what a tracer's backend refused for good, after what it refused was put right.

    All of them, or those of a tracer, or of the request whose id is ID or begins so. They are tried as if they were
    new, and are dead letters again if they are refused again.

    \b
    Examples:
      hush redrive
      hush redrive --tracer prod
      hush redrive 3f2a
    """
    from hush_core.background.supervisor import control
    from hush_core.cli.render import print_json
    from hush_core.cli.roster import check_name, group
    from hush_core.store.queries import find_request, reading
    from hush_core.store.queries.tracers import read_tracers

    with reading(db_path) as connection:
        having = group(read_tracers(connection))
        if name is not None:
            check_name(name, having)
        if request_id is not None:
            request_id = find_request(connection, request_id).request_id
    asked = {"verb": "redrive", "tracer": name, "request_id": request_id}
    answer = control(db_path, asked, _ASK_S) if any(each.total("dead") for each in having) else {"redriven": 0}
    if as_json:
        print_json({"redriven": answer["redriven"], "tracer": name, "request_id": request_id})
    else:
        _print(answer["redriven"], name, request_id, having)


def _print(redriven: int, name: str | None, request_id: str | None, having: Sequence[Destination]) -> None:
    from rich.text import Text

    from hush_core.cli.render import QUIET, make_console, plural, safe, say

    console = make_console()
    which = f"{f' of {name}' if name else ''}{f' for the request {request_id}' if request_id else ''}"
    if redriven:
        say(console, Text(safe(f"{plural(redriven, 'dead letter')}{which}: due again.")))
        say(console, "`hush flush --wait` follows what becomes of them.", QUIET)
        return
    others: dict[str, Any] = {each.name: each.total("dead") for each in having if each.total("dead")}
    named = ", ".join(f"{tracer} {number:,}" for tracer, number in others.items())
    say(console, Text(safe(f"There is no dead letter{which}.{f' There are: {named}.' if named else ''}")))
