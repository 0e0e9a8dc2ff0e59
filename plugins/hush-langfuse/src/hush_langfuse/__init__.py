"""Delivers what hush recorded to Langfuse, cloud or self-hosted.

`plugin.py` is what hush finds; `tracer.py` is what an app makes; the rest is loaded by the delivery process alone.
"""
