"""Stage 6 of 6: tracers. `flush` delivers one finished request to one backend; returning means delivered.

`base` is what every tracer is made of, for the app and for the delivery process; `local` is the tracer whose backend is
the store itself; `legacy` records what an engine kept in memory.
"""

from __future__ import annotations

from hush_core.tracers.base import BaseTracer
from hush_core.tracers.local import LocalTracer

__all__ = ["BaseTracer", "LocalTracer"]
