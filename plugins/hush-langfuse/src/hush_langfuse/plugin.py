"""What hush finds through the entry point: the hook of this plugin, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

from hush_core import hookimpl


@hookimpl
def hush_register_tracers(register: Callable[..., None]) -> None:
    register("langfuse", "hush_langfuse.tracer:LangfuseTracer", summary="Langfuse, cloud or self-hosted")
