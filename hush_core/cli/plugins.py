"""`hush plugins`: what is installed beside hush, what each offers, and why one is not used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from hush_core.cli.options import json_option

if TYPE_CHECKING:
    from rich.text import Text

    from hush_core.plugins.entry import Entry
    from hush_core.plugins.host import Broken, Plugin


class _Seen(NamedTuple):
    """Every plugin that is installed, in one of three states."""

    loaded: list[Plugin]
    commands: dict[str, list[str]]  #: that each adds
    broken: list[Broken]
    left_out: list[Entry]


@click.command()
@json_option("one JSON object")
@click.pass_context
def plugins(context: click.Context, as_json: bool) -> None:
    """List the plugins that are installed: what each offers, and what is wrong with those that are broken.

    All of them are loaded, and the classes of their tracers imported. The exit code is 1 when something is broken.

    \b
    Examples:
      hush plugins
      hush plugins --json | jq '.broken[] | {distribution, reason}'
    """
    seen = _look()
    if as_json:
        from hush_core.cli.render import print_json

        print_json(_as_dict(seen))
    else:
        _print(seen)
    context.exit(1 if seen.broken else 0)


def _look() -> _Seen:
    from hush_core.cli.group import names
    from hush_core.errors import HushError
    from hush_core.plugins.host import Broken, get_host

    host = get_host()
    commands = {name: sorted(added) for name, added in host.commands(taken=names()).items()}
    broken = list(host.broken)
    for plugin in host.plugins:
        for tracer in plugin.tracers:
            try:
                host.load(tracer.target)
            except HushError as problem:
                broken.append(Broken(*plugin[:3], str(problem)))
    return _Seen(host.plugins, commands, sorted(broken), host.left_out)


def _as_dict(seen: _Seen) -> dict[str, Any]:
    return {
        "plugins": [
            {
                **each._asdict(),
                "tracers": [{"name": one.name, "target": one.target, "summary": one.summary} for one in each.tracers],
                "commands": seen.commands.get(each.name, []),
            }
            for each in seen.loaded
        ],
        "broken": [each._asdict() for each in seen.broken],
        "left_out": [{"name": each.name, "distribution": each.distribution, "version": each.version}
                     for each in seen.left_out],
    }  # fmt: skip


def _print(seen: _Seen) -> None:
    from hush_core.cli.render import QUIET, make_console, safe, say
    from hush_core.cli.table import Column, Layout, width_of

    console = make_console()
    columns = (
        Column("plugin", least=8),
        Column("package", least=10),
        Column("tracers", least=8),
        Column("commands", least=8, leave_out=2),
        Column("hooks", least=8, leave_out=1),
    )
    rows = [_row(each, seen.commands.get(each.name, [])) for each in seen.loaded]
    layout = Layout(columns, rows, width_of(console))
    console.print(layout.header(QUIET))
    for row in rows:
        console.print(layout.line(row))
    for line in _broken(seen.broken):
        say(console, line)
    for entry in seen.left_out:
        say(
            console,
            f"{safe(entry.name)} ({safe(entry.origin)}): left out by HUSH_PLUGINS, HUSH_BLOCK_PLUGINS or [plugins]",
            QUIET,
        )


def _row(plugin: Plugin, commands: list[str]) -> list[Text]:
    from rich.text import Text

    from hush_core.cli.render import QUIET, safe

    return [
        Text(safe(plugin.name)),
        Text(safe(f"{plugin.distribution} {plugin.version}"), QUIET),
        Text(safe(", ".join(each.name for each in plugin.tracers)), "cyan"),
        Text(safe(", ".join(commands)), "cyan"),
        Text(safe(", ".join(plugin.hooks)), QUIET),
    ]


def _broken(broken: list[Broken]) -> Iterator[Text]:
    from rich.text import Text

    from hush_core.cli.render import safe

    for each in broken:
        origin = f"{each.distribution} {each.version}".strip()
        yield Text.assemble((f"{safe(each.name)} ({safe(origin)}) is broken: ", "bold red"), safe(each.reason))
