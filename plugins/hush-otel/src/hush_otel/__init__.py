"""Delivers what hush recorded to any backend that takes OpenTelemetry traces, over OTLP/HTTP or gRPC.

`plugin.py` is what hush finds; `tracer.py` is what an app makes; the rest is loaded by the delivery process alone, and
so is everything of OpenTelemetry.
"""
