"""The way in: what OpenTelemetry's spans say becomes records of hush, in the process and at the moment they are made.

A trace is a request: it begins with a span that has no parent, or whose parent is not known here (another process has
it), and has the spans below that one as its nodes, whatever thread, task or forked child they are in. It is complete
when its first span ends.
"""

from __future__ import annotations

import os
import weakref
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.trace import StatusCode

from hush_core import BaseTracer, ConfigError, TraceStore, get_store, get_tracer, is_interrupt
from hush_otel.incoming.fields import to_fields, workflow_name

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, Span

_SAMPLED: Final = 1
_FAILED: Final = "failed"
_COMPLETED: Final = "completed"


class HushSpanProcessor(SpanProcessor):
    """Records the spans of an OpenTelemetry provider: `provider.add_span_processor(HushSpanProcessor("prod"))`.

    When a span has begun or ended, that survives the death of the process; the request is due to the tracer when its
    first span ends, or when the process dies. Spans keep their ids. Those that are not sampled, and those that began
    before the processor was added, are left out.

    It starts no thread, exports nothing and raises nothing into the app, but what a signal's handler of the app raises
    meanwhile. Safe over threads and forks; a forked child ends only the spans that began in it.

    :param tracer: to whom the requests are due: a tracer, the name of one as for `get_tracer`, or None for the default.

    Raises what `get_tracer` raises.
    """

    def __init__(self, tracer: BaseTracer | str | None = None) -> None:
        if not (tracer is None or isinstance(tracer, (BaseTracer, str))):
            raise ConfigError(f"HushSpanProcessor takes a tracer, the name of one or None, not {tracer!r}.")
        self._tracer = tracer if isinstance(tracer, BaseTracer) else get_tracer(tracer)
        self._store = get_store()
        self._known: dict[int, _Known] = {}
        self._is_shut = False

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Record that a span has begun. When this returns, that survives the death of the process."""
        try:
            self._begin(span)
        except Exception as problem:
            self._contain(problem, "recording the start of a span")

    def on_end(self, span: ReadableSpan) -> None:
        """Record the end of a span. When this returns, that survives the death of the process."""
        try:
            known = self._known.get(span.context.span_id)
            if known is None or known.has_ended or known.process is not _this.process:
                return
            known.has_ended = True
            fields = self._fields(span, known.is_first, known.name)
            try:
                self._record_end(known, fields)
            finally:
                if known.is_first:
                    self._complete(known.request, span, fields)
        except Exception as problem:
            self._contain(problem, "recording the end of a span")

    def shutdown(self) -> None:
        """Record no span that begins from now on; those that are open may end. There is nothing to wait for."""
        self._is_shut = True

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Wait until all that was recorded is in the database. Nothing is lost without it. True if so in time."""
        try:
            return self._store.sync(timeout_millis / 1000)
        except Exception as problem:
            self._contain(problem, "waiting for the writer")
            return False

    # -- one span -----------------------------------------------------------------------------------------------------

    def _begin(self, span: Span) -> None:
        context, parent = span.get_span_context(), span.parent
        if self._is_shut or not context.trace_flags & _SAMPLED:
            return
        above = None if parent is None else self._known.get(parent.span_id)
        if above is not None and above.request.trace_number != context.trace_id:
            above = None
        request = _Request(self._store, span) if above is None else above.request
        known = _Known(span, self._forget)
        known.span_id = context.span_id
        known.request = request
        known.is_first = above is None
        known.has_ended = False
        known.process = _this.process
        known.inputs = None
        known.identity = {
            "request_id": request.request_id,
            "trace_id": request.trace_id,
            "span_id": f"{context.span_id:016x}",
            "parent_span_id": None if parent is None else f"{parent.span_id:016x}",
            "workflow_name": request.workflow_name,
            "parent_name": None if above is None else above.name,
            "execution_order": request.next_order(),
        }
        known.name = span.name
        # Before anything is recorded: what begins below it is of its request, whatever goes wrong here.
        self._known[context.span_id] = known
        fields = self._fields(span, known.is_first, None)
        known.name = fields["node_name"]
        if known.is_first:
            self._start(request, span, fields)
        self._store.begin_span(**known.identity, **fields)
        known.inputs = fields.get("input_data")  # now that the start has said it

    def _fields(self, span: ReadableSpan, is_first: bool, name: str | None) -> dict[str, Any]:
        """What there is to say of a span; at least that it was there."""
        try:
            return to_fields(span, is_first=is_first, name=name)
        except Exception as problem:
            self._contain(problem, "reading the attributes of a span")
            least = {"node_name": name or span.name, "start_time": span.start_time, "end_time": span.end_time}
            if span.status.status_code is StatusCode.ERROR:
                least |= {"error": span.status.description or "error", "level": "ERROR"}
            return least

    def _start(self, request: _Request, span: Span, fields: dict[str, Any]) -> None:
        """The first span of a request has begun."""
        request.learn(fields)
        self._store.mark_request_started(
            request.request_id,
            self._tracer,
            workflow_name=request.workflow_name,
            user_id=request.user_id,
            session_id=request.session_id,
            tags=request.tags,
            start_time=span.start_time,
        )

    def _record_end(self, known: _Known, fields: dict[str, Any]) -> None:
        if self._store.start_records and known.inputs is not None and fields.get("input_data") == known.inputs:
            del fields["input_data"]  # the start has said it
        self._store.end_span(**known.identity, **fields)

    def _complete(self, request: _Request, span: ReadableSpan, fields: dict[str, Any]) -> None:
        """The first span of a request has ended: it is due to the tracer."""
        request.learn(fields)
        request.status = _COMPLETED
        request.end_time_ns = span.end_time
        if span.status.status_code is StatusCode.ERROR:
            request.status = _FAILED
            request.error = str(fields.get("error") or "error").partition("\n")[0]
        self._tracer.flush_in_background(request.workflow_name, request)

    def _forget(self, known: _Known) -> None:
        """The app has let go of a span: nothing can begin under it or end it."""
        if self._known.get(known.span_id) is known:
            del self._known[known.span_id]

    def _contain(self, problem: Exception, doing: str) -> None:
        """Report what must not reach the app; what is the app's own goes on. Within the handler of the exception."""
        if is_interrupt(problem):
            raise
        with suppress(Exception):
            self._store.background.report(problem, doing)


class _Known(weakref.ref["Span"]):
    """A span that the app holds, open or ended: a span may begin under one that has ended.

    It is forgotten when the app lets go of it, so a span that nobody ever ends costs no memory for ever.
    """

    __slots__ = ("has_ended", "identity", "inputs", "is_first", "name", "process", "request", "span_id")

    has_ended: bool
    identity: dict[str, Any]  #: what its start and its end both say
    inputs: Any  #: that its start has said
    is_first: bool  #: of its request
    name: str  #: of its node
    process: object  #: that it began in
    request: _Request
    span_id: int


class _Request:
    """What is known of a request while its first span is held; a state for `flush_in_background`."""

    has_trace_store: Final = True

    def __init__(self, store: TraceStore, first: Span) -> None:
        self._trace_store = store
        self.trace_number = first.get_span_context().trace_id
        self.trace_id = f"{self.trace_number:032x}"
        self.request_id = self.trace_id
        if first.parent is not None:
            # A part of a trace, of which there may be several, here and in other processes. Under one id, the first
            # that ends would be all that is delivered.
            self.request_id += f"-{first.get_span_context().span_id:016x}"
        self.workflow_name = workflow_name(first)
        self.user_id: str | None = None
        self.session_id: str | None = None
        self.tags: list[str] = []
        self.status: str | None = None
        self.error: str | None = None
        self.end_time_ns: int | None = None
        self.next_order = count().__next__

    def learn(self, fields: dict[str, Any]) -> None:
        """What its first span says of the whole."""
        self.user_id = fields.get("user_id") or self.user_id
        self.session_id = fields.get("session_id") or self.session_id
        self.tags = fields.get("tags") or self.tags


class _Process:
    """Which process this is: a forked child is another one."""

    def __init__(self) -> None:
        self.process = object()

    def renew(self) -> None:
        self.process = object()


_this: Final = _Process()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_this.renew)
