"""Several tracers as one: a request is traced once, and due to each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hush_core.errors import ConfigurationFlushError
from hush_core.tracers.base import BaseTracer


class FanOutTracer(BaseTracer):
    """Traces each request for several tracers. Each of them has its own delivery, and so its own status and retries.

    :param tracers: whose requests these are; each adds its own tags.
    """

    def __init__(self, tracers: Sequence[BaseTracer]) -> None:
        super().__init__(tags=list(dict.fromkeys(tag for tracer in tracers for tag in tracer.tags)))
        self._members = [member for tracer in tracers for member in tracer._tracers()]

    @property
    def name(self) -> str:
        """The names of all of them. No delivery bears it."""
        return ", ".join(member.name for member in self._members)

    def _tracers(self) -> Sequence[BaseTracer]:
        return self._members

    def _get_tracer_config(self) -> dict[str, Any]:
        return {}

    @staticmethod
    def flush(flush_data: Any) -> None:
        raise ConfigurationFlushError("Several tracers in one deliver nothing themselves: each of them does.")
