"""The `hush` group: finds a command's module when it is called, and turns expected faults into messages."""

from __future__ import annotations

import importlib
from typing import Any, Final

import click

from hush_core.cli.streams import outputs
from hush_core.errors import HushError, closest

#: The commands in the order in which a new user meets them, and what `hush --help` says of each without importing it.
_SUMMARIES: Final = {
    "demo": "Run a small retrieval workflow over real text, and look at its trace.",
    "traces": "List requests, newest first.",
    "show": "Show one request as a tree of its nodes.",
    "tail": "Watch nodes as they begin and end.",
    "stats": "Sum up requests by workflow, node and model: durations, errors, tokens, cost.",
    "tracers": "List tracers: what is due to them, sent, failed, and what is in the way.",
    "plugins": "List plugins: what each offers, and why one is broken.",
    "flush": "Deliver now what waits.",
    "redrive": "Make dead letters due again.",
    "replay": "Send stored requests to a tracer: to a new one, or again.",
    "doctor": "Check that every record is accounted for, and what to do if not.",
    "prune": "Delete old requests.",
}


class Commands(click.Group):
    """A group whose commands are modules of `hush_core.cli`, imported on use.

    Commands of plugins come after them; plugins are loaded for them only when the group's help is shown, or a command
    is asked for that hush does not have. A `HushError` in a command becomes its message on stderr and exit code 1; a
    wrong option, exit code 2; what comes of an output that cannot be written, `streams` says. Anything else is a defect
    of hush and keeps its traceback.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings, context_settings={"help_option_names": ["-h", "--help"]})
        self.params.append(
            click.Option(["--version"], is_flag=True, expose_value=False, is_eager=True, callback=_print_version,
                         help="Show the version and exit.")
        )  # fmt: skip

    def list_commands(self, ctx: click.Context | None) -> list[str]:
        return [*_SUMMARIES, *(name for name in self.commands if name not in _SUMMARIES)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in _SUMMARIES and cmd_name not in self.commands:
            module = importlib.import_module(f"hush_core.cli.{cmd_name}")
            self.add_command(getattr(module, cmd_name))
        return super().get_command(ctx, cmd_name) or _of_plugins().get(cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            names = [*self.list_commands(ctx), *_of_plugins()]
            meant = closest(args[0], names)
            ctx.fail(
                f"No command {args[0]!r}. {f'Did you mean {meant!r}? ' if meant else ''}Commands: {', '.join(names)}."
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        others = [(name, command.get_short_help_str(80)) for name, command in self.commands.items()]
        with formatter.section("Commands"):
            formatter.write_dl([*_SUMMARIES.items(), *(row for row in others if row[0] not in _SUMMARIES)])
        added = _of_plugins()
        if added:
            with formatter.section("Commands of plugins"):
                formatter.write_dl([(name, command.get_short_help_str(80)) for name, command in added.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except HushError as problem:
            raise click.ClickException(str(problem)) from problem

    def main(self, *args: Any, **extra: Any) -> Any:
        with outputs():
            return super().main(*args, **extra)

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        return super().make_context("hush", args, parent, **extra)  # whatever started it: a script, `python -c`, a test


def names() -> tuple[str, ...]:
    """The commands that hush has itself."""
    return tuple(_SUMMARIES)


def _of_plugins() -> dict[str, click.Command]:
    """The commands that plugins add. None where the settings are wrong: whoever needs them says so."""
    from hush_core.plugins.host import get_host

    try:
        by_plugin = get_host().commands(taken=names())
    except HushError:
        return {}
    return {name: command for commands in by_plugin.values() for name, command in commands.items()}


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from hush_core import __version__

        click.echo(f"hush-core {__version__}")
        ctx.exit()
