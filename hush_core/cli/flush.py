"""`hush flush`: deliver now what waits."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from hush_core.cli.options import db_option, json_option, parsed
from hush_core.config import parse_duration

if TYPE_CHECKING:
    from rich.text import Text

    from hush_core.cli.roster import Destination

_ASK_S: Final = 10.0
_LOOK_S: Final = 0.05
#: A wait as short as this is waited for: one attempt that failed is no reason to give up.
_MOMENT_NS: Final = 2_000_000_000
#: How often a line is written where nobody watches, and how often the writer is asked whether it is still there.
_SAY_AGAIN_S: Final = 1.0
#: The counts of a tracer that only grow, and what they are called here.
_SETTLED: Final = {"sent": "delivered", "failed": "failed", "skipped": "skipped"}
_SUMS: Final = (*_SETTLED.values(), "left", "dead_letters")


@click.command()
@click.option("--tracer", "name", metavar="NAME", help="Only what is due to this tracer.")
@click.option("--wait", is_flag=True, help="Follow until all is delivered, or nothing more can be done now.")
@click.option(
    "--timeout", "timeout_s", metavar="TIME", default="60s", show_default=True, callback=parsed(parse_duration),
    help="With --wait: follow no longer than this.",
)  # fmt: skip
@json_option("one JSON object")
@db_option
@click.pass_context
def flush(context: click.Context, name: str | None, wait: bool, timeout_s: float, as_json: bool, db_path: Path) -> None:
    """Have everything that waits for a tracer tried now, whatever it waits for: its next attempt, a backend that was
    down, somebody who had to put something right.

    The tracers are those of the settings as they are now, also for what was recorded before they were changed; and what
    this command has in its environment variables is there for the deliveries, so it can bring a key that was missing.
    With --wait the exit code is 1 while something is left undelivered; dead letters do not count as left, and
    are named.

    \b
    Examples:
      hush flush
      hush flush --tracer prod --wait --timeout 5m
      API_KEY=... hush flush --wait
    """
    from hush_core.background.supervisor import control
    from hush_core.cli.leftover import store_leftovers
    from hush_core.cli.render import print_json
    from hush_core.cli.roster import check_name, group
    from hush_core.config import find_config
    from hush_core.store.queries.tracers import load_tracers

    problem = store_leftovers(db_path)
    if problem is not None:
        click.echo(f"Some records are not stored yet: {problem}", err=True)
    before = group(load_tracers(db_path))
    if name is not None:
        check_name(name, before)
    request = {"verb": "flush", "tracer": name, "variables": dict(os.environ), "present": _present(name, db_path)}
    request["config"] = str(find_config() or "") or None
    answer = control(db_path, request, _ASK_S)
    following = _Following(db_path, name, before)
    due = max(int(answer["due"]), following.left)  # the one leaves out what is under way, the other what is done by now
    if wait:
        _follow(following, db_path, timeout_s)
    if as_json:
        print_json(_as_dict(following, due))
    else:
        _print(following, due, wait, timeout_s)
    context.exit(1 if wait and following.left else 0)


def _present(name: str | None, db_path: Path) -> list[list[Any]]:
    """The tracers of the settings as they are now. One that is wrong is named, and stops none of the others."""
    from hush_core.cli.present import present_tracers
    from hush_core.config import load_config
    from hush_core.errors import HushError

    found = []
    for each in load_config().tracers:
        if name in (None, each):
            try:
                found += present_tracers((each,), db_path)
            except HushError as problem:
                click.echo(f"What waits for {each} goes by its settings of before: {problem}", err=True)
    return found


class _Following:
    """What has become of the deliveries since the command began."""

    def __init__(self, db_path: Path, name: str | None, before: list[Destination]) -> None:
        self._db_path = db_path
        self._name = name
        self._before = {each.name: each for each in before}
        self.is_late = False  #: the time was up before it was over
        self.look()

    def look(self) -> None:
        """Read how things are."""
        from hush_core.cli.roster import group
        from hush_core.store.queries.tracers import load_tracers

        found = group(load_tracers(self._db_path))
        self.destinations = [each for each in found if self._name in (None, each.name)]

    @property
    def left(self) -> int:
        """What is still to be delivered."""
        return sum(each.due for each in self.destinations)

    def gained(self, each: Destination, field: str) -> int:
        """How much a count that only grows has grown."""
        before = self._before.get(each.name)
        return each.total(field) - (before.total(field) if before is not None else 0)

    @property
    def is_over(self) -> bool:
        """Whether nothing is left that is tried now, or in a moment."""
        soon_ns = time.time_ns() + _MOMENT_NS
        return all(each.waits_for(soon_ns) is not None for each in self.destinations if each.due)

    def progress(self) -> Text:
        from rich.text import Text

        from hush_core.cli.render import safe

        settled = sum(self.gained(each, field) for each in self.destinations for field in _SETTLED)
        left = ", ".join(f"{each.due:,} to {each.name}" for each in self.destinations if each.due)
        return Text(safe(f"Delivering: {settled:,} done" + (f", left: {left}" if left else "")))


def _follow(following: _Following, db_path: Path, timeout_s: float) -> None:
    """Look until it is over or the time is up, and show meanwhile how far it is."""
    from contextlib import nullcontext

    from hush_core.cli.render import make_console

    console = make_console(stderr=True)
    deadline = time.monotonic() + timeout_s
    say_at = 0.0
    with console.status(following.progress()) if console.is_terminal else nullcontext() as status:
        while not following.is_over:
            now = time.monotonic()
            if now > deadline:
                following.is_late = True
                return
            if status is not None:
                status.update(following.progress())
            if now > say_at:
                say_at = now + _SAY_AGAIN_S
                if status is None:
                    click.echo(following.progress().plain, err=True)
                _keep_writer(db_path)
            time.sleep(_LOOK_S)  # a reader of SQLite is told by nothing that there is news
            following.look()


def _keep_writer(db_path: Path) -> None:
    """Ask the writer something, which starts one if it is gone: nobody else may be about who does."""
    from hush_core.background.supervisor import control
    from hush_core.errors import StoreError

    with suppress(StoreError):  # it is busy, or cannot start: the time that the command has will show
        control(db_path, {"verb": "status"}, _SAY_AGAIN_S)


# -- what is said -----------------------------------------------------------------------------------------------------


def _as_dict(following: _Following, due: int) -> dict[str, Any]:
    now_ns = time.time_ns()
    tracers: list[dict[str, Any]] = [
        {
            "name": each.name,
            **{what: following.gained(each, field) for field, what in _SETTLED.items()},
            "left": each.due,
            "waits_for": each.waits_for(now_ns),
            "dead_letters": each.total("dead"),
        }
        for each in following.destinations
    ]
    return {"due": due, **{name: sum(each[name] for each in tracers) for name in _SUMS}, "tracers": tracers}


def _print(following: _Following, due: int, wait: bool, timeout_s: float) -> None:
    from rich.text import Text

    from hush_core.cli.render import QUIET, duration, make_console, plural, safe, say

    console = make_console()
    if not due:
        say(console, "Nothing waits to be delivered.")
    elif not wait:
        to = ", ".join(f"{each.due:,} to {each.name}" for each in following.destinations if each.due)
        say(console, Text(safe(f"{plural(due, 'delivery')} due now{f': {to}' if to else ''}.")))
        say(console, "`hush flush --wait` follows them, `hush tracers` says how it went.", QUIET)
    now_ns = time.time_ns()
    for each in following.destinations:
        lines: list[tuple[str, str]] = []
        settled = [
            f"{number:,} {what}" for field, what in _SETTLED.items() if (number := following.gained(each, field))
        ]
        if wait and settled:
            lines.append((", ".join(settled), "green"))
        if wait and each.due:
            otherwise = f"not done within {duration(timeout_s * 1000)}" if following.is_late else "under way"
            lines.append((f"{each.due:,} left: {each.waits_for(now_ns) or otherwise}", "yellow"))
        if each.total("dead"):
            again = f"`hush redrive --tracer {each.name}` makes them due again"
            lines.append((f"{plural(each.total('dead'), 'dead letter')}; {again}", "red"))
        for line, style in lines:
            say(console, Text(safe(f"{each.name}: {line}"), style))
