"""hush records what an LLM workflow did, keeps it through `kill -9`, and delivers it to any backend.

The public names. Each is imported when first asked for, so that `import hush_core` costs next to nothing and a command
or a writer process loads only the half it needs. A name that is not in `__all__` is not public.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from hush_core.background.supervisor import get_background, shutdown_background
    from hush_core.capture.node import code_node
    from hush_core.capture.state import MemoryState
    from hush_core.delivery.http import error_for_status
    from hush_core.errors import (
        ConfigError,
        ConfigurationFlushError,
        DuplicateTracerError,
        FlushError,
        HushError,
        JournalError,
        MissingVariableError,
        PermanentFlushError,
        PluginError,
        PluginLoadError,
        RetryableFlushError,
        SchemaTooNewError,
        StoreError,
        UnknownRequestError,
        UnknownTracerError,
    )
    from hush_core.interrupt import is_interrupt
    from hush_core.plugins.marker import hookimpl
    from hush_core.store.trace_store import TraceStore, get_store
    from hush_core.tracers.base import BaseTracer
    from hush_core.tracers.flush_data import FlushData, NodeData
    from hush_core.tracers.local import LocalTracer
    from hush_core.tracers.named import get_registered_tracers, get_tracer
    from hush_core.tracers.option import OptionCheck

__version__ = "0.1.0"

__all__ = [
    "BaseTracer",
    "ConfigError",
    "ConfigurationFlushError",
    "DuplicateTracerError",
    "FlushData",
    "FlushError",
    "HushError",
    "JournalError",
    "LocalTracer",
    "MemoryState",
    "MissingVariableError",
    "NodeData",
    "OptionCheck",
    "PermanentFlushError",
    "PluginError",
    "PluginLoadError",
    "RetryableFlushError",
    "SchemaTooNewError",
    "StoreError",
    "TraceStore",
    "UnknownRequestError",
    "UnknownTracerError",
    "__version__",
    "code_node",
    "error_for_status",
    "get_background",
    "get_registered_tracers",
    "get_store",
    "get_tracer",
    "hookimpl",
    "is_interrupt",
    "shutdown_background",
]

#: The public names that are not errors, by the module that defines them; mypy checks the imports above, and
#: tests/meta checks that both lists and `__all__` agree.
_HOME: Final = {
    "BaseTracer": "hush_core.tracers.base",
    "FlushData": "hush_core.tracers.flush_data",
    "LocalTracer": "hush_core.tracers.local",
    "MemoryState": "hush_core.capture.state",
    "NodeData": "hush_core.tracers.flush_data",
    "OptionCheck": "hush_core.tracers.option",
    "TraceStore": "hush_core.store.trace_store",
    "code_node": "hush_core.capture.node",
    "error_for_status": "hush_core.delivery.http",
    "get_background": "hush_core.background.supervisor",
    "get_registered_tracers": "hush_core.tracers.named",
    "get_store": "hush_core.store.trace_store",
    "get_tracer": "hush_core.tracers.named",
    "hookimpl": "hush_core.plugins.marker",
    "is_interrupt": "hush_core.interrupt",
    "shutdown_background": "hush_core.background.supervisor",
}


if not TYPE_CHECKING:  # a type checker that saw it would accept every name

    def __getattr__(name: str) -> Any:
        """Import a public name on first use. Thread-safe; two threads at once get the same object."""
        if name not in __all__:
            raise AttributeError(f"module 'hush_core' has no attribute {name!r}")
        value = getattr(importlib.import_module(_HOME.get(name, "hush_core.errors")), name)
        globals()[name] = value  # the next use is a plain attribute
        return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
