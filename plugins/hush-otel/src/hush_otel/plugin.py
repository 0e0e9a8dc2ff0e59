"""What hush finds through the entry point: the hook of this plugin, and nothing else.

It is loaded by the `hush` command, by delivery processes and by an app that asks for a tracer by name.
"""

from __future__ import annotations

from collections.abc import Callable

from hush_core import hookimpl


@hookimpl
def hush_register_tracers(register: Callable[..., None]) -> None:
    register("otel", "hush_otel.tracer:OTelTracer", summary="Any backend that takes OpenTelemetry traces (OTLP)")
