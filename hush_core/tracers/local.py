"""The tracer whose backend is the store itself."""

from __future__ import annotations

from typing import Any

from hush_core.tracers.base import BaseTracer


class LocalTracer(BaseTracer):
    """Keeps requests in the local database, for `hush traces` and `hush show`, and sends them nowhere."""

    def _get_tracer_config(self) -> dict[str, Any]:
        return {}

    @staticmethod
    def flush(flush_data: Any) -> None:
        """A request is delivered when it is stored, and it is."""
