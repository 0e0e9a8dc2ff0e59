"""The options that several commands share, and what their values may look like."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from hush_core.config import default_db_path, parse_duration
from hush_core.model import REQUEST_STATUSES

_Command = TypeVar("_Command", bound=Callable[..., Any])
_Value = TypeVar("_Value")


def _moment(_: click.Context, __: click.Parameter, value: str | None) -> int | None:
    """An age ("10m", "2d") or ISO 8601 text, as nanoseconds since the epoch."""
    from hush_core.store.rows import to_ns

    if value is None:
        return None
    try:
        return time.time_ns() - int(parse_duration(value) * 1e9)
    except ValueError:
        moment = to_ns(value)
    if moment is None:
        raise click.BadParameter(
            f"{value!r} is neither an age such as 10m, 2h or 3d nor a time such as 2025-01-31T12:00."
        )
    return moment


def parsed(parse: Callable[[str], _Value]) -> Callable[[click.Context, click.Parameter, str | None], _Value | None]:
    """A callback of an option: its value as a setting is parsed, and what is wrong with it as a message."""

    def convert(_: click.Context, __: click.Parameter, value: str | None) -> _Value | None:
        try:
            return None if value is None else parse(value)
        except ValueError as problem:
            raise click.BadParameter(f"{problem}.") from problem

    return convert


def _database(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path:
    return value.expanduser().absolute() if value is not None else default_db_path()


db_option = click.option(
    "--db",
    "db_path",
    type=click.Path(path_type=Path),
    callback=_database,
    help="The database.  [default: HUSH_TRACES_DB, else ~/.hush/traces.db]",
)


def json_option(what: str) -> Callable[[_Command], _Command]:
    return click.option("--json", "as_json", is_flag=True, help=f"Print {what}, for programs.")


def filter_options(*, status: bool = True) -> Callable[[_Command], _Command]:
    """The conditions on requests: `tags, status, workflow, user, session, since_ns`, as of a `RequestFilter`."""
    options = [
        click.option(
            "--tag", "tags", multiple=True, metavar="TAG", help="With this tag; given again, with all of them."
        ),
        click.option("--status", type=click.Choice(REQUEST_STATUSES), help="In this state."),
        click.option("--workflow", metavar="NAME", help="Of this workflow."),
        click.option("--user", metavar="ID", help="Of this user."),
        click.option("--session", metavar="ID", help="Of this session."),
        click.option(
            "--since",
            "since_ns",
            metavar="WHEN",
            callback=_moment,
            help="Recorded since then: 10m, 2h, 3d ago, or an ISO time.",
        ),
    ]
    if not status:
        del options[1]

    def add(command: _Command) -> _Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add
