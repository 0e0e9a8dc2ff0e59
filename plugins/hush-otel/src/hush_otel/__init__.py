"""Delivers what hush recorded to any backend that takes OpenTelemetry traces, over OTLP/HTTP or gRPC.

`plugin.py` is what hush finds; `tracer.py` is what an app makes; the rest is loaded by the delivery process alone, and
so is everything of OpenTelemetry. The way in is apart: an app that has OpenTelemetry's SDK records its spans with
`HushSpanProcessor`, which is loaded when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hush_otel.processor import HushSpanProcessor

__all__ = ["HushSpanProcessor"]


if not TYPE_CHECKING:  # a type checker that saw it would accept every name

    def __getattr__(name: str) -> Any:
        if name != "HushSpanProcessor":
            raise AttributeError(f"module 'hush_otel' has no attribute {name!r}")
        from hush_otel.processor import HushSpanProcessor

        return HushSpanProcessor
