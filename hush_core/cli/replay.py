"""`hush replay`: send what is stored to a tracer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from hush_core.cli.options import db_option, filter_options, json_option

if TYPE_CHECKING:
    from rich.status import Status

_ASK_S: Final = 60.0
_PAGE: Final = 500


@click.command()
@click.option(
    "--tracer", "names", metavar="NAME", required=True, multiple=True,
    help="To whom: a name as `get_tracer` takes it; given again, to each.",
)  # fmt: skip
@filter_options()
@click.option("--again", is_flag=True, help="Also what the tracer was sent before, refused or did not want.")
@click.option("--dry-run", is_flag=True, help="Say how much it would be, and send nothing.")
@json_option("one JSON object")
@db_option
def replay(names: tuple[str, ...], again: bool, dry_run: bool, as_json: bool, db_path: Path, **conditions: Any) -> None:
    """Send stored requests to a tracer: to a new backend what was recorded before it was there, or to an old one again.

    Those that meet all conditions that are given and that the tracer never got, the oldest first; what still runs is
    left out. The tracer is the one that an app would have here, with these settings and these environment variables;
    its `sample` and `when` do not count, since the conditions here say what is wanted. This command hands over; the
    writer delivers, also after it has ended.

    \b
    Examples:
      hush replay --tracer prod --since 7d --dry-run
      hush replay --tracer prod --since 7d --tag vip
      hush replay --tracer prod --status failed --again
    """
    from hush_core.cli.leftover import store_leftovers
    from hush_core.cli.render import print_json
    from hush_core.store.queries import open_reader

    open_reader(db_path).close()  # says what is wrong with the database, before a writer is started for it
    targets = _targets(names, db_path)
    problem = store_leftovers(db_path)
    if problem is not None:
        click.echo(f"Some records are not stored yet: {problem}", err=True)
    where = {**conditions, "tags": list(conditions["tags"])}
    sent = [_replay(target, db_path, where, again=again, dry_run=dry_run) for target in targets]
    if as_json:
        print_json({"dry_run": dry_run, "tracers": sent})
    else:
        _print(sent, again, dry_run)


def _targets(names: tuple[str, ...], db_path: Path) -> list[list[Any]]:
    """To whom: [name, type, config, target] of the tracer, or of each if the name stands for several."""
    from hush_core.cli.present import present_tracers
    from hush_core.errors import ConfigError

    targets = present_tracers(names, db_path)
    if not targets:
        raise ConfigError(
            f"The tracer {' '.join(names)!r} keeps requests in this database, where they are: there is nothing to send."
        )
    return targets


def _replay(target: list[Any], db_path: Path, where: dict[str, Any], *, again: bool, dry_run: bool) -> dict[str, Any]:
    """Have the writer make it due to one tracer, page by page, and show meanwhile how far it is."""
    from rich.text import Text

    from hush_core.cli.render import make_console, safe

    console = make_console(stderr=True)
    doing = f"Replaying to {safe(target[0])}"
    request = {"verb": "replay", "tracer": target, "where": where, "again": again, "dry_run": dry_run, "limit": _PAGE}
    total = {"name": target[0], "type": target[1], "queued": 0, "seen": 0}
    status: Status | nullcontext[None] = console.status(Text(doing)) if console.is_terminal else nullcontext()
    with status as shown:
        for page in _pages(db_path, request):
            total["queued"] += page["queued"]
            total["seen"] += page["seen"]
            if shown is not None:
                shown.update(Text(f"{doing}: {total['queued']:,} of {total['seen']:,} requests"))
    return total


def _pages(db_path: Path, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    from hush_core.background.supervisor import control, origin
    from hush_core.config import find_config

    # The variables go until something was made due with them: from then on the writer has them.
    cursor: list[int] | None = None
    variables: dict[str, str] | None = dict(os.environ)
    while True:
        more = {"origin": origin(find_config()), "variables": variables, "cursor": cursor}
        page = control(db_path, {**request, **more}, _ASK_S)
        yield page
        cursor, variables = page["cursor"], None if page["queued"] else variables
        if cursor is None:
            return


def _print(sent: list[dict[str, Any]], again: bool, dry_run: bool) -> None:
    from rich.text import Text

    from hush_core.cli.render import QUIET, make_console, plural, safe, say

    console = make_console()
    for each in sent:
        queued, seen = each["queued"], each["seen"]
        verb = "would be due" if dry_run else "due"
        of = "" if queued == seen else f" of {seen:,}"
        say(console, Text(safe(f"{each['name']}: {queued:,}{of} {'request' if seen == 1 else 'requests'} {verb}.")))
        if queued < seen and not again:
            had = plural(seen - queued, "request")
            say(console, Text(safe(f"{had} had been due to it before; --again sends that too.")), QUIET)
    if not dry_run and any(each["queued"] for each in sent):
        say(console, "`hush flush --wait` follows them.", QUIET)
