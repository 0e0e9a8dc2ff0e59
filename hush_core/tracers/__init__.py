"""Stage 6 of 6: tracers. `flush` delivers one finished request to one backend; returning means delivered.

`base` is what every tracer is made of, for the app and for the delivery process; `local` is the tracer whose backend is
the store itself; `named` finds tracers by name and `fan_out` makes one of several; `legacy` records what an engine kept
in memory; `flush_data` is what `flush` is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hush_core.tracers.base import BaseTracer
    from hush_core.tracers.local import LocalTracer

__all__ = ["BaseTracer", "LocalTracer"]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import a class on first use: who needs one module alone does not load the app's half."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import hush_core

        return getattr(hush_core, name)
