"""The plugin that hush brings itself: the local tracer comes through the same door as everybody's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hush_core.plugins.marker import hookimpl

if TYPE_CHECKING:
    from hush_core.plugins.hookspecs import Register


@hookimpl
def hush_register_tracers(register: Register) -> None:
    register("local", "hush_core.tracers.local:LocalTracer", summary="The local database, for `hush` to look at")
