"""What every tracer is made of: its side in the app, and `flush` for the delivery process."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from hush_core.capture.trace import Trace
from hush_core.model import COMPLETED, FAILED
from hush_core.store.trace_store import get_store
from hush_core.tracers.legacy import record_legacy_traces

if TYPE_CHECKING:
    from hush_core.store.trace_store import TraceStore


class BaseTracer(ABC):
    """A destination for finished requests. A subclass says how it is configured and how it delivers one request.

    In the app a tracer only records: nothing here raises into a workflow, or waits for a network. `flush` runs in a
    process of its own, with data alone.

    :param tags: of every request of this tracer.
    """

    _tags: list[str]
    _name: str | None = None

    def __init__(self, tags: list[str] | None = None) -> None:
        self._tags = list(tags or ())

    @property
    def tags(self) -> list[str]:
        """The tags of every request of this tracer; a copy."""
        return list(self._tags)

    @property
    def name(self) -> str:
        """What deliveries to this tracer are known by: its name in the settings, else its class's."""
        return self._name or type(self).__name__

    @abstractmethod
    def _get_tracer_config(self) -> dict[str, Any]:
        """What `flush` needs, as plain JSON. Secrets as references: `${LANGFUSE_SECRET_KEY}`."""

    @staticmethod
    @abstractmethod
    def flush(flush_data: dict[str, Any]) -> None:
        """Deliver one finished request. Returning means delivered; raising means not.

        Raise RetryableFlushError or PermanentFlushError to say which; anything else counts as retryable.
        """

    def trace(
        self,
        workflow_name: str,
        *,
        inputs: Any = None,
        user_id: str | None = None,
        session_id: str | None = None,
        request_id: str | None = None,
        tags: Iterable[str] | None = None,
    ) -> Trace:
        """Trace one request: `with tracer.trace("answer") as state:`, or `async with`. Nodes that run inside are its.

        When the block is left, the request is due to this tracer, as failed if an exception left it.
        """
        return Trace(
            workflow_name,
            store=_open_store(),
            tracers=[[self.name, type(self).__name__, self._config()]],
            finish=lambda state: self.flush_in_background(workflow_name, state),
            inputs=inputs,
            user_id=user_id,
            session_id=session_id,
            request_id=request_id,
            tags=tags,
            static_tags=self._tags,
        )

    def flush_in_background(self, workflow_name: str, state: Any) -> None:
        """The request is complete, and due to this tracer. When this returns, that survives the death of the process.

        For any state with `request_id, user_id, session_id, tags, has_trace_store, _trace_store`. Without a trace
        store, the nodes that it keeps in `execution_order` and `trace_metadata` are recorded first. Never raises.
        """
        try:
            store = state._trace_store if state.has_trace_store else None
            if store is None:
                store = get_store()
                record_legacy_traces(store, workflow_name, state)
            status = getattr(state, "status", None)
            store.mark_request_complete(
                request_id=state.request_id,
                tracer_type=type(self).__name__,
                tracer_config=self._config(),
                tags=self._merge_tags(state),
                tracer_name=self.name,
                workflow_name=workflow_name,
                user_id=state.user_id,
                session_id=state.session_id,
                status=status if status in (COMPLETED, FAILED) else None,
                error=getattr(state, "error", None),
            )
        except Exception as problem:
            _report(problem, f"completing a request of {workflow_name!r}")

    def _config(self) -> dict[str, Any]:
        """The tracer's own configuration; a tracer that cannot say it is still due."""
        try:
            return self._get_tracer_config()
        except Exception as problem:
            _report(problem, f"asking {type(self).__name__} for its configuration")
            return {}

    def _merge_tags(self, state: Any) -> list[str]:
        """The tracer's tags, then those of the request that are new, in order."""
        merged = list(self._tags)
        for tag in state.tags or ():
            if tag not in merged:
                merged.append(tag)
        return merged

    @classmethod
    def shutdown_worker(cls, timeout: float = 5.0) -> bool:
        """Wait until all that this process recorded is stored. True if in time. It delivers nothing yet."""
        supervisor = sys.modules.get("hush_core.background.supervisor")
        return True if supervisor is None else bool(supervisor.shutdown_background(timeout))


def _open_store() -> TraceStore | None:
    """The default store; None if its path cannot be told. The workflow goes on without a trace."""
    try:
        store = get_store()
        store.background  # noqa: B018 - made here, where a problem can be reported
        return store
    except Exception as problem:
        _report(problem, "opening the trace store")
        return None


def _report(problem: BaseException, doing: str) -> None:
    """The funnel, also where there is no background to be had."""
    try:
        from hush_core.background.supervisor import get_background

        get_background().report(problem, doing)
    except Exception:
        import logging

        logging.getLogger("hush").error("hush: %s failed: %s. The workflow goes on.", doing, problem)
