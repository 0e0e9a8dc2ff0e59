"""What reading gives: requests, nodes and deliveries as they are stored, with plain values.

Attributes are named as in `TraceStore.insert_node_trace`. Times are kept as integer nanoseconds (`start_ns`) and given
as ISO 8601 UTC text with microseconds (`start_time`); `as_dict` gives what JSON can hold.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, ClassVar, Final

import msgspec

_EPOCH: Final = datetime(1970, 1, 1)


def iso_time(ns: int | None) -> str | None:
    """Nanoseconds since the epoch as ISO 8601 UTC text with microseconds, as the database's views give it.

    None for None, and for a time that no calendar holds.
    """
    if ns is None:
        return None
    try:
        when = _EPOCH + timedelta(microseconds=ns // 1000)
    except OverflowError:
        return None
    return f"{when.isoformat(timespec='microseconds')}Z"  # strftime takes seven times as long: twice a node, when sent


class _Stored(msgspec.Struct, kw_only=True):
    #: Fields that are hush's own, and no part of what a user is given.
    _internal: ClassVar[frozenset[str]] = frozenset()

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as JSON has them; times as text."""
        plain: dict[str, Any] = {}
        for name in self.__struct_fields__:
            if name not in self._internal:
                value = getattr(self, name)
                if name.endswith("_ns"):
                    plain[f"{name[:-3]}_time"] = iso_time(value)
                else:
                    plain[name] = _plain(value)
        return plain


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.as_dict() if isinstance(value, _Stored) else value


class StoredRequest(_Stored, kw_only=True):
    """One request, with the sums over its nodes that the writer keeps."""

    _internal = frozenset({"id", "recorded_ns"})

    id: int  #: of the row; grows with the order in which the store first saw requests
    request_id: str
    workflow_name: str | None
    user_id: str | None
    session_id: str | None
    status: str  #: one of `hush_core.model.REQUEST_STATUSES`
    start_ns: int | None
    end_ns: int | None
    duration_ms: float | None
    error: str | None
    tags: list[str]
    node_count: int
    error_count: int
    prompt_tokens: int | None
    completion_tokens: int | None
    total_tokens: int | None
    cost_usd: float | None
    recorded_ns: int

    @property
    def start_time(self) -> str | None:
        return iso_time(self.start_ns)

    @property
    def end_time(self) -> str | None:
        return iso_time(self.end_ns)


class StoredNode(_Stored, kw_only=True):
    """One node, with its payload where it was asked for."""

    _internal = frozenset({"span", "parent_span"})

    id: int
    parent_id: int | None = None  #: the node that encloses it, as `hush_core.store.tree` resolves it
    node_name: str | None
    parent_name: str | None
    context_id: str | None
    execution_order: int | None
    status: str  #: one of `hush_core.model.NODE_STATUSES`
    start_ns: int | None
    end_ns: int | None
    duration_ms: float | None
    node_type: str | None
    level: str | None
    model: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    total_tokens: int | None
    cached_tokens: int | None
    reasoning_tokens: int | None
    cost_usd: float | None
    time_to_first_token_ms: float | None
    contain_generation: bool
    error: str | None
    span: int | None
    parent_span: int | None
    input_data: Any = None
    output_data: Any = None
    metadata: Any = None
    media: Any = None

    @property
    def start_time(self) -> str | None:
        return iso_time(self.start_ns)

    @property
    def end_time(self) -> str | None:
        return iso_time(self.end_ns)


class StoredDelivery(_Stored, kw_only=True):
    """What became of one request at one tracer."""

    tracer_name: str
    tracer_type: str
    status: str  #: one of `hush_core.model.DELIVERY_STATUSES`
    attempts: int
    last_error: str | None


class RequestTrace(StoredRequest, kw_only=True):
    """A request with all its nodes, parents before children, and its deliveries."""

    nodes: list[StoredNode]
    deliveries: list[StoredDelivery]
