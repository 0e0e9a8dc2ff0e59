"""`hush prune`: delete old requests now."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from hush_core.cli.options import db_option, json_option, parsed
from hush_core.config import parse_duration, parse_size

if TYPE_CHECKING:
    from hush_core.config import StoreSettings

_START_TIMEOUT_S: Final = 10.0
_TIMEOUT_S: Final = 3600.0
_LOOK_S: Final = 0.2


@click.command()
@click.option(
    "--keep", "keep_s", metavar="AGE", callback=parsed(parse_duration), help="Delete what is older: 30d, 12h."
)
@click.option(
    "--max-size",
    "max_bytes",
    metavar="SIZE",
    callback=parsed(parse_size),
    help="Delete the oldest until the data fits: 5GB.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be deleted, and delete nothing.")
@json_option("one JSON object")
@db_option
def prune(keep_s: float | None, max_bytes: int | None, dry_run: bool, as_json: bool, db_path: Path) -> None:
    """Delete whole requests: the delivered ones first, and of those the oldest first.

    The writer does this by itself, by `keep` and `max_size` in the settings; without an option, this does it by the
    same settings now. A request that runs is never deleted, and one that is still due to a tracer only to make room.

    \b
    Examples:
      hush prune --keep 7d --dry-run  what a week would leave
      hush prune --keep 7d
      hush prune --max-size 500MB
    """
    from hush_core.cli.render import print_json
    from hush_core.store.queries import open_reader

    open_reader(db_path).close()  # says what is wrong with the database, before a writer is started for it
    if keep_s is None and max_bytes is None:
        keep_s, max_bytes = _from_settings()
    request = {"verb": "prune", "keep_s": keep_s, "max_size_bytes": max_bytes, "dry_run": dry_run}
    result = _ask(db_path, request)
    if as_json:
        print_json(result)
    else:
        _print(result)


def _from_settings() -> tuple[float | None, int | None]:
    from hush_core.config import load_config

    settings: StoreSettings = load_config().store
    click.echo(f"By the settings: keep = {settings.keep}, max_size = {settings.max_size}.", err=True)
    return settings.keep.seconds, settings.max_size.bytes


def _ask(db_path: Path, request: dict[str, Any]) -> dict[str, Any]:
    """Have the writer do it. On a terminal, show meanwhile how many requests are left."""
    from hush_core.background.supervisor import control
    from hush_core.cli.render import make_console

    control(db_path, {"verb": "status"}, timeout=_START_TIMEOUT_S)  # a writer that cannot start is told soon
    console = make_console(stderr=True)
    if not console.is_terminal:
        return control(db_path, request, timeout=_TIMEOUT_S)
    from concurrent.futures import ThreadPoolExecutor, wait

    with ThreadPoolExecutor(1) as pool, console.status("Pruning") as status:
        answer = pool.submit(control, db_path, request, _TIMEOUT_S)
        while not wait([answer], timeout=_LOOK_S).done:
            status.update(f"Pruning: {_requests_left(db_path):,} requests are left")
        return answer.result()


def _requests_left(db_path: Path) -> int:
    from hush_core.store.queries import reading

    with reading(db_path) as connection:
        return int(connection.execute("SELECT count(*) FROM request").fetchone()[0])


def _print(result: dict[str, Any]) -> None:
    from hush_core.cli.render import make_console, plural, say, size

    console = make_console()
    deleted = f"{plural(result['requests'], 'request')} with {plural(result['nodes'], 'node')}"
    verb, became = ("Would delete", "would become") if result["dry_run"] else ("Deleted", "became")
    say(console, f"{verb} {deleted}; {size(result['bytes_before'])} of data {became} {size(result['bytes_after'])}.")
    if result["undelivered"]:
        say(
            console,
            f"Of them, {plural(result['undelivered'], 'request')} had not been delivered to every tracer.",
            "yellow",
        )
