"""What the app holds of the store: records go to the journal; reading loads SQLite when it is asked for."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from time import time_ns
from typing import TYPE_CHECKING, Any, Final, Protocol

from hush_core.capture.record import Encode, encoder, rescuer, value_encoder
from hush_core.interrupt import is_interrupt
from hush_core.model import (
    GIVEN_IDS,
    LOCAL_TRACER,
    NODE,
    NODE_END,
    NODE_FIELDS,
    NODE_START,
    REQUEST_COMPLETE,
    REQUEST_START,
)

if TYPE_CHECKING:
    from datetime import datetime

    from hush_core.capture.mask import Mask
    from hush_core.store.queries import RequestTrace, StoredRequest
    from hush_core.tracers.base import BaseTracer

    Time = str | datetime | int | None


class Recorder(Protocol):
    """What a store needs of the background: `hush_core.background.supervisor.Background` has it."""

    @property
    def append(self) -> Callable[[bytes], None]: ...
    @property
    def start_records(self) -> bool: ...
    @property
    def mask(self) -> Mask | None: ...
    def drop(self, reason: str) -> None: ...
    def report(self, problem: BaseException, doing: str) -> None: ...
    def secure(self, *, delivers: bool = False) -> None: ...
    def sync(self, timeout: float = 5.0) -> bool: ...


class TraceStore:
    """Records nodes and requests into one database, and reads them back.

    Recording never raises into the workflow, but what is the app's own (see `hush_core.interrupt`), and never waits for
    the writer or the database. Safe over threads and forks; pickles as its path. Nothing is opened or started before
    the first record.

    :param db_path: the database; `HUSH_TRACES_DB`, else `~/.hush/traces.db`, as they are at this call.
    :param background: where records go, if not to the background of that path.
    """

    __slots__ = ("__weakref__", "_append", "_background", "_db_path", "_encode", "_rescue", "_too_deep")

    def __init__(self, db_path: Path | str | None = None, *, background: Recorder | None = None) -> None:
        from hush_core.config import resolve_db_path

        self._db_path = resolve_db_path(db_path)
        # Loaded now: a signal handler that records while the first record is loading it would meet half of it.
        import_module("hush_core.background.supervisor")
        self._background = background
        # Until the background is there, and with it the settings, nobody knows whether there is a mask.
        self._append: Callable[[bytes], None] = self._append_first
        self._encode: Encode = self._encode_first
        self._rescue: Encode = self._rescue_first
        if background is not None:
            self._record_to(background)
        self._too_deep = 0

    @property
    def db_path(self) -> Path:
        return self._db_path

    def __repr__(self) -> str:
        return f"TraceStore({str(self._db_path)!r})"

    def __reduce__(self) -> tuple[Callable[[Path], TraceStore], tuple[Path]]:
        return get_store, (self._db_path,)

    # -- recording ----------------------------------------------------------------------------------------------------

    def insert_node_trace(
        self,
        request_id: str,
        workflow_name: str,
        node_name: str,
        parent_name: str | None,
        context_id: str | None,
        execution_order: int,
        start_time: Time,
        end_time: Time,
        duration_ms: float | None,
        input_data: dict[str, Any] | None,
        output_data: dict[str, Any] | None,
        user_id: str | None = None,
        session_id: str | None = None,
        model: str | None = None,
        prompt_tokens: int | None = None,
        completion_tokens: int | None = None,
        total_tokens: int | None = None,
        cost_usd: float | None = None,
        contain_generation: bool = False,
        metadata: dict[str, Any] | None = None,
        *,
        node_type: str | None = None,
        error: str | None = None,
        level: str | None = None,
        media: Any = None,
        time_to_first_token_ms: float | None = None,
        cached_tokens: int | None = None,
        reasoning_tokens: int | None = None,
    ) -> None:
        """Record a node that has ended.

        When this returns, the record survives the death of the process. Values are copied now, and any type will do;
        what cannot be kept says so in its place.

        :param start_time: and ``end_time``: ISO 8601 text, a datetime, or int nanoseconds since the epoch.
        :param parent_name: of the node it ran in.
        :param context_id: its place in loops: `[0].[2]`.
        """
        # The hot path, see benchmarks/: no call but these two. A `try` costs nothing until it is needed.
        try:
            # Fields at the end that are None are left out: the reader takes them so.
            fields = (
                NODE, request_id, workflow_name, node_name, parent_name, context_id, execution_order, start_time,
                end_time, duration_ms, input_data, output_data, user_id, session_id, model, prompt_tokens,
                completion_tokens, total_tokens, cost_usd, contain_generation, metadata, node_type, error, level, media,
                time_to_first_token_ms, cached_tokens, reasoning_tokens,
            )  # fmt: skip
            try:
                payload = self._encode(fields)
            except BaseException as problem:
                if is_interrupt(problem):
                    raise
                payload = self._rescue(fields)
            self._append(payload)
        except RecursionError:  # the workflow is within a few frames of its limit
            self._too_deep += 1

    def mark_request_complete(
        self,
        request_id: str,
        tracer_type: str,
        tracer_config: dict[str, Any],
        tags: list[str] | None = None,
        *,
        tracer_name: str | None = None,
        workflow_name: str | None = None,
        user_id: str | None = None,
        session_id: str | None = None,
        status: str | None = None,
        error: str | None = None,
        end_time: Time = None,
        target: str | None = None,
        policy: dict[str, Any] | None = None,
    ) -> None:
        """Record that a request is complete and due to a tracer; call it once for each tracer.

        When this returns, the record survives the death of the process; with `durability = "power"` it survives a power
        cut, and so does all that was recorded before it.

        :param tracer_name: what the delivery is known by; ``tracer_type`` if not given.
        :param status: `completed`, `failed` or `interrupted`; anything else counts as completed.
        :param end_time: now if not given.
        :param target: "module:Class" of the tracer; if not given, it is found among the plugins by its type.
        :param policy: which requests the tracer wants, see `hush_core.store.policy`; all if not given.
        """
        if target is None and tracer_config:  # not of a BaseTracer, which has taken its secrets out
            tracer_config = self._without_secrets(tracer_config)
        self.record((
            REQUEST_COMPLETE, request_id, tracer_type, tracer_config, tags,
            tracer_type if tracer_name is None else tracer_name, workflow_name, user_id, session_id, status, error,
            time_ns() if end_time is None else end_time, target, policy,
        ))  # fmt: skip
        if self._too_deep:
            self._count_lost()
        self.background.secure(delivers=tracer_type != LOCAL_TRACER)

    def mark_request_started(
        self,
        request_id: str,
        tracer: BaseTracer,
        *,
        workflow_name: str | None = None,
        user_id: str | None = None,
        session_id: str | None = None,
        tags: list[str] | None = None,
        start_time: Time = None,
    ) -> None:
        """Record that a request has begun: should its process die, it is interrupted, and due to the tracer so.

        When this returns, the record survives the death of the process. `BaseTracer.trace` does it by itself; the end
        is said with `BaseTracer.flush_in_background`.

        :param tags: of the request; the tracer's own go before them.
        :param start_time: now if not given.
        """
        static = tracer.tags
        self.record((
            REQUEST_START, request_id, workflow_name, user_id, session_id,
            time_ns() if start_time is None else start_time,
            [*static, *(tag for tag in tags or () if tag not in static)], tracer._due(self._db_path),
        ))  # fmt: skip

    def begin_span(
        self, request_id: str, trace_id: str, span_id: str, parent_span_id: str | None = None, **fields: Any
    ) -> None:
        """Record that a node has begun that another tracing system has given its ids. `end_span` records its end.

        When this returns, the record survives the death of the process: the node is then known to have begun. Without
        start records (the setting `start_records`) this does nothing, and `end_span` records the node whole.

        The ids are what tracers are given, as they are: OpenTelemetry's, in hex. A parent that is not recorded is the
        caller of another process.

        :param trace_id: 32 hex digits; the same for all nodes of the request.
        :param span_id: and ``parent_span_id``: 16 hex digits, unique within the database.
        :param fields: the fields of `insert_node_trace`, and `tags`, a list of the request's. What the start says, the
            end need not say again, but that of `metadata` the end's is all that is kept.

        Raises ValueError for the id of a span that is not of that form, and TypeError for a field that does not exist.
        """
        if self.background.start_records:
            self.record(_span_record(NODE_START, request_id, trace_id, span_id, parent_span_id, fields))

    def end_span(
        self, request_id: str, trace_id: str, span_id: str, parent_span_id: str | None = None, **fields: Any
    ) -> None:
        """Record the end of a node that another tracing system has given its ids; all of it, if nothing recorded its
        start.

        When this returns, the record survives the death of the process. Parameters and errors as of `begin_span`.
        """
        kind = NODE_END if self.background.start_records else NODE
        self.record(_span_record(kind, request_id, trace_id, span_id, parent_span_id, fields))

    def _without_secrets(self, config: dict[str, Any]) -> dict[str, Any]:
        """A tracer's configuration as it may be stored: literal secrets are kept apart."""
        from hush_core.secret import seal, secrets_folder, withhold

        try:
            return seal(config, secrets_folder(self._db_path))
        except Exception as problem:
            if is_interrupt(problem):
                raise
            self.background.report(
                problem, "keeping a tracer's secrets (what is recorded meanwhile cannot be delivered)"
            )
        try:
            return withhold(config)
        except Exception as problem:
            if is_interrupt(problem):
                raise
            return {}  # nothing that could be looked through for secrets

    def record(self, fields: tuple[Any, ...]) -> None:
        """Record anything that `hush_core.model` lays out. When this returns, it survives the death of the process."""
        try:
            try:
                payload = self._encode(fields)
            except BaseException as problem:
                if is_interrupt(problem):
                    raise
                payload = self._rescue(fields)
            self._append(payload)
        except RecursionError:
            self._too_deep += 1

    @property
    def background(self) -> Recorder:
        """Where records go. The first to ask for it makes it known to this store."""
        background = self._background
        if background is None:
            from hush_core.background.supervisor import get_background

            background = get_background(self._db_path)
            self._record_to(background)
            self._background = background  # last: an interrupt may have come in between
        return background

    def _record_to(self, background: Recorder) -> None:
        """Take the ways to encode and to append from the background: from now on they are called directly."""
        self._encode, self._rescue = encoder(background.mask), rescuer(background.mask)
        self._append = background.append

    @property
    def start_records(self) -> bool:
        """Whether a node is recorded when it starts, too: the setting `start_records` of `[capture]`."""
        return self.background.start_records

    @property
    def encode_value(self) -> Encode:
        """The way to encode a value that will be part of a record, as `msgspec.Raw`."""
        return value_encoder(self.background.mask)

    def _encode_first(self, fields: tuple[Any, ...]) -> bytes:
        return encoder(self.background.mask)(fields)

    def _rescue_first(self, fields: tuple[Any, ...]) -> bytes:
        return rescuer(self.background.mask)(fields)

    def _append_first(self, payload: bytes) -> None:
        self.background.append(payload)

    def sync(self, timeout: float = 5.0) -> bool:
        """Wait until what this process recorded before the call is in SQLite. False if the time ran out first."""
        self._count_lost()
        return self.background.sync(timeout)

    def _count_lost(self) -> None:
        """Count what was lost within a few frames of the stack's end, where counting itself had no room."""
        lost, self._too_deep = self._too_deep, 0
        for _ in range(lost):
            self.background.drop("encoding failed")

    # -- reading ------------------------------------------------------------------------------------------------------

    def get_request(self, request_id: str) -> RequestTrace:
        """A stored request with its nodes. An unambiguous prefix of the id is enough.

        Raises UnknownRequestError if none or several fit, StoreError if the database cannot be read.
        """
        from hush_core.store import queries

        return queries.get_request(self._db_path, request_id)

    def iter_requests(self, **filters: Any) -> Iterator[StoredRequest]:
        """Stored requests, newest first, without their nodes; filters as in `hush_core.store.queries.iter_requests`.

        Reads in short pages while it is iterated over. Raises StoreError if the database cannot be read.
        """
        from hush_core.store import queries

        return queries.iter_requests(self._db_path, **filters)


_NO_FIELDS: Final[dict[str, Any]] = dict.fromkeys(NODE_FIELDS)


def _span_record(
    kind: int, request_id: str, trace_id: str, span_id: str, parent_span_id: str | None, fields: dict[str, Any]
) -> tuple[Any, ...]:
    """The record of a node whose ids were given: its span as a number, and all of them in its metadata."""
    metadata = dict(fields.get("metadata") or ())
    ids = {"trace_id": trace_id, "span_id": span_id, "parent_span_id": parent_span_id}
    metadata[GIVEN_IDS] = {**metadata.get(GIVEN_IDS, {}), **ids}
    values = {
        **_NO_FIELDS,
        **fields,
        "request_id": request_id,
        "metadata": metadata,
        "span": _as_integer(span_id),
        "parent_span": None if parent_span_id is None else _as_integer(parent_span_id),
    }
    if len(values) != len(_NO_FIELDS):
        raise TypeError(f"a node has no {', '.join(name for name in fields if name not in _NO_FIELDS)}")
    return (kind, *values.values())


def _as_integer(span_id: str) -> int:
    """The id of a span as the store holds it: eight bytes as a signed integer."""
    found = bytes.fromhex(span_id)
    if len(found) != 8:
        raise ValueError(f"the id of a span is 16 hex digits, not {span_id!r}")
    return int.from_bytes(found, "big", signed=True)


#: The one store of each path, of this process.
_stores: Final[dict[Path, TraceStore]] = {}


def get_store(db_path: Path | str | None = None) -> TraceStore:
    """The store of a database, the same one for the same file. Safe over threads and forks."""
    from hush_core.config import resolve_db_path

    path = resolve_db_path(db_path)
    return _stores.get(path) or _stores.setdefault(path, TraceStore(path))


#: Everything that recording may load after the first store was made, rare ways included (a traceback loads the parser).
_LOADED_LATER: Final = (
    "ast",
    "base64",
    "hashlib",
    "hush_core.background.doorbell",
    "hush_core.background.election",
    "hush_core.background.supervisor",
    "hush_core.capture.mask",
    "hush_core.capture.snapshot",
    "hush_core.config",
    "hush_core.secret",
    "subprocess",
    "tokenize",
    "traceback",
)


def _before_fork() -> None:
    """Have everything loaded that recording may load, but `logging`, which must not first be loaded in a fork.

    A module that another thread is importing at the fork stays locked in the child for ever: no thread there finishes
    it, so the first record of the child would wait without end. What is loaded is not locked; and loaded here once, it
    costs the children nothing.
    """
    if "hush_core.config" in sys.modules:  # the first that making a store loads; without a store nothing is under way
        for name in _LOADED_LATER:
            import_module(name)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork)
