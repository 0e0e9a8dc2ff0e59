"""Requests as `flush` is given them, made by hand."""

from __future__ import annotations

from typing import Any

from hush_core import FlushData, NodeData

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
ROOT_ID = "00000000000000aa"
START = "2025-01-31T12:00:00.000001Z"
END = "2025-01-31T12:00:01.500000Z"
START_NS = 1_738_324_800_000_001_000
END_NS = 1_738_324_801_500_000_000


def node(name: str | None = "answer", number: int = 1, **values: Any) -> NodeData:
    """A node under the root, with these values in the place of the usual ones."""
    made: Any = {
        "span_id": f"{number:016x}",
        "parent_span_id": ROOT_ID,
        "node_name": name,
        "node_type": "code",
        "parent_name": "geography",
        "context_id": None,
        "execution_order": None,
        "start_time": START,
        "end_time": END,
        "duration_ms": 1499.999,
        "status": "ok",
        "level": None,
        "error": None,
        "input_data": None,
        "output_data": None,
        "metadata": None,
        "media": None,
        "model": None,
        "prompt_tokens": None,
        "completion_tokens": None,
        "total_tokens": None,
        "cached_tokens": None,
        "reasoning_tokens": None,
        "cost_usd": None,
        "time_to_first_token_ms": None,
        "contain_generation": False,
        **values,
    }
    return made  # type: ignore[no-any-return]


def root(**values: Any) -> NodeData:
    return node("geography", **{"span_id": ROOT_ID, "parent_span_id": None, "node_type": "workflow", **values})


def request(*nodes: NodeData, config: dict[str, Any] | None = None, **values: Any) -> FlushData:
    """A request of these nodes, or of a root and one; with these values in the place of the usual ones."""
    made: Any = {
        "request_id": "r-1",
        "trace_id": TRACE_ID,
        "workflow_name": "geography",
        "user_id": None,
        "session_id": None,
        "tags": [],
        "tracer_name": "prod",
        "tracer_type": "OTelTracer",
        "tracer_config": config or {},
        "status": "completed",
        "start_time": START,
        "end_time": END,
        "attempt": 1,
        "nodes": list(nodes) or [root(), node()],
        **values,
    }
    return made  # type: ignore[no-any-return]
