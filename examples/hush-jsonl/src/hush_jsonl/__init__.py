"""Delivers what hush recorded as lines of JSON, one a request: appended to a file, or posted to a URL.

`plugin.py` is what hush finds; `tracer.py` is what an app makes; the rest is loaded by the delivery process alone.
"""
