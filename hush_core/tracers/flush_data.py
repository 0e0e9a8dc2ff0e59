"""What a tracer's `flush` is given: one finished request as plain JSON types, nodes in the order of the tree.

The shape alone, for a plugin's code and its type checker; `hush_core.delivery.flush_data` fills it.
"""

from __future__ import annotations

from typing import Any, TypedDict


class NodeData(TypedDict):
    """One node. Times are ISO 8601 UTC text with microseconds; what was not recorded is None, and is not zero."""

    span_id: str  #: 16 hex digits
    parent_span_id: str | None  #: None for a root; of one that another process called: the caller's, not in `nodes`
    node_name: str | None
    node_type: str | None  #: as it was recorded; "iteration" for a turn of a loop, made from `context_id`
    parent_name: str | None
    context_id: str | None  #: the loop position: "[0].[2]"
    execution_order: int | None
    start_time: str | None
    end_time: str | None
    duration_ms: float | None
    status: str  #: "ok", "error", "interrupted", or "running" for a node that had not ended with its request
    level: str | None  #: as it was recorded: "ERROR", "WARNING", ...
    error: str | None
    input_data: Any
    output_data: Any
    metadata: Any
    media: Any
    model: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    total_tokens: int | None
    cached_tokens: int | None  #: of the prompt's
    reasoning_tokens: int | None  #: of the completion's
    cost_usd: float | None
    time_to_first_token_ms: float | None
    contain_generation: bool  #: whether it called a model


class FlushData(TypedDict):
    """One finished request. Its own inputs and outputs are those of its root node."""

    request_id: str
    trace_id: str  #: 32 hex digits: of the SHA-256 of `request_id`, or as OpenTelemetry gave it
    workflow_name: str | None
    user_id: str | None
    session_id: str | None
    tags: list[str]
    tracer_name: str  #: its name in the settings, else its class's
    tracer_type: str
    tracer_config: dict[str, Any]  #: with references resolved: it may hold secrets
    status: str  #: "completed", "failed" or "interrupted"
    start_time: str | None
    end_time: str | None
    attempt: int  #: 1 for the first
    nodes: list[NodeData]  #: parents before children
