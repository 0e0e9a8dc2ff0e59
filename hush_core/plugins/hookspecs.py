"""The hooks of hush: what a plugin can implement, each called for one plugin at a time, so that none stops another's.

A plugin names the parameters that it wants. A hook that is not here, or a parameter that a hook does not have, is a
mistake that quarantines the plugin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import pluggy

if TYPE_CHECKING:
    import click

hookspec = pluggy.HookspecMarker("hush")


class Register(Protocol):
    """Offers a tracer under a name."""

    def __call__(self, name: str, target: str, *, summary: str = "") -> None: ...


@hookspec
def hush_register_tracers(register: Register) -> None:
    """Offer tracers: `register("langfuse", "hush_langfuse.tracer:LangfuseTracer", summary="Langfuse, cloud or own")`.

    The target is text, imported when the tracer is first used. Its module is loaded in the app too: what the vendor
    offers is to be imported inside `flush`.
    """


@hookspec
def hush_register_commands(cli: click.Group) -> None:
    """Add commands to `hush`: `cli.add_command(...)`, or `@cli.command()`. One that hush has itself stays as it is."""


@hookspec
def hush_mask(record: dict[str, Any]) -> dict[str, Any] | None:
    """Take out of a record what must not reach the disk, in the app: change it in place, or return another.

    Called only for the plugins that the setting `mask.plugins` names. One that raises withholds the record's values.
    """


@hookspec
def hush_before_flush(tracer_name: str, flush_data: dict[str, Any]) -> dict[str, Any] | bool | None:
    """Change what a tracer is about to be given, in place or by returning another; return False to deliver nothing.

    Called in the delivery process, before each attempt. One that raises puts the delivery off.
    """


@hookspec
def hush_after_flush(tracer_name: str, request_id: str, outcome: str) -> None:
    """Learn what an attempt came to: "delivered", "skipped", "retry", "permanent" or "configuration".

    Called in the delivery process. One that raises is logged, and changes nothing.
    """
