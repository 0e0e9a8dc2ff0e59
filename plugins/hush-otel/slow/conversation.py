"""A request with something of everything, and what a backend has to know of it, field by field."""

from __future__ import annotations

from typing import Any

from hush_core import FlushData, NodeData

_DAY = "2025-01-31T12:00:"
#: 2025-01-31T12:00:00Z
_NOON_NS = 1_738_324_800_000_000_000
_QUESTION = {"messages": [{"role": "user", "content": "Where is Zürich? 🗺"}], "temperature": 0.5}
_ANSWER = {"choices": [{"message": {"role": "assistant", "content": "東"}, "finish_reason": "stop"}]}
_ERROR = "TimeoutError: too slow\nTraceback (most recent call last):\n  at search\nTimeoutError: too slow\n"


def trace_id(which: int) -> str:
    return f"{which:032x}"


def span_id(which: int, number: int) -> str:
    """Of the request's n-th node. No two requests share one: Phoenix knows a span by it alone."""
    return f"{which:08x}{number:08x}"


def _node(number: int, parent: int | None, name: str, start: str, end: str, **values: Any) -> dict[str, Any]:
    made: Any = dict.fromkeys(NodeData.__annotations__)
    made.update(
        span_id=number,
        parent_span_id=parent,
        node_name=name,
        node_type="code",
        start_time=f"{_DAY}{start}Z",
        end_time=f"{_DAY}{end}Z",
        status="ok",
        contain_generation=False,
    )
    made.update(values)
    return dict(made)


def conversation(config: dict[str, Any], which: int) -> FlushData:
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "total_tokens": 120,
        "cached_tokens": 40,
        "reasoning_tokens": 5,
        "cost_usd": 0.0125,
    }
    made: Any = {
        "request_id": "r-1",
        "trace_id": trace_id(which),
        "workflow_name": "geography",
        "user_id": "ann",
        "session_id": "s-1",
        "tags": ["prod", "vip"],
        "tracer_name": "prod",
        "tracer_type": "OTelTracer",
        "tracer_config": config,
        "status": "completed",
        "start_time": f"{_DAY}00.000000Z",
        "end_time": f"{_DAY}03.000000Z",
        "attempt": 1,
        "nodes": [
            _node(
                1,
                None,
                "geography",
                "00.000000",
                "03.000000",
                node_type="workflow",
                input_data="where?",
                output_data="there",
            ),
            _node(
                2, 1, "iteration[0]", "00.100000", "02.000000", node_type="iteration", total_tokens=120, cost_usd=0.0125
            ),
            _node(
                *(3, 2, "answer", "00.100000", "01.123456"),
                node_type="llm",
                model="a-model-without-a-price",
                metadata={"provider": "openai"},
                input_data=_QUESTION,
                output_data=_ANSWER,
                **usage,
            ),
            _node(
                *(4, 2, "search", "01.200000", "02.000000"),
                node_type="tool",
                status="error",
                error=_ERROR,
                input_data={"q": "Zürich"},
            ),
            _node(5, 1, "odd \ud800", "02.000000", "03.000000", input_data="\udfff", output_data={"deep": [[[1]]]}),
        ],
    }
    for node in made["nodes"]:
        for name in ("span_id", "parent_span_id"):
            node[name] = None if node[name] is None else span_id(which, node[name])
    return made  # type: ignore[no-any-return]


#: Of each node: its name, its parent, its times in nanoseconds, its status and the status's message.
_TREE: dict[int, tuple[str, int | None, int, int, str, str]] = {
    1: ("geography", None, _NOON_NS, _NOON_NS + 3_000_000_000, "OK", ""),
    2: ("iteration[0]", 1, _NOON_NS + 100_000_000, _NOON_NS + 2_000_000_000, "OK", ""),
    3: ("answer", 2, _NOON_NS + 100_000_000, _NOON_NS + 1_123_456_000, "OK", ""),
    4: (
        "search",
        2,
        _NOON_NS + 1_200_000_000,
        _NOON_NS + 2_000_000_000,
        "ERROR",
        "TimeoutError: too slow",
    ),
    5: ("odd \\ud800", 1, _NOON_NS + 2_000_000_000, _NOON_NS + 3_000_000_000, "OK", ""),
}
SPANS = len(_TREE)


def tree(which: int) -> dict[str, tuple[str, str | None, int, int, str, str]]:
    """The same by the ids of the request's spans."""
    return {
        span_id(which, number): (name, None if parent is None else span_id(which, parent), *more)
        for number, (name, parent, *more) in _TREE.items()
    }  # type: ignore[return-value]


KINDS = {1: "CHAIN", 2: "CHAIN", 3: "LLM", 4: "TOOL", 5: "CHAIN"}
#: Of the model's call, whatever else a backend adds to it.
FIGURES = {
    "llm.token_count.prompt": 100,
    "llm.token_count.completion": 20,
    "llm.token_count.total": 120,
    "llm.token_count.prompt_details.cache_read": 40,
    "llm.token_count.completion_details.reasoning": 5,
    "gen_ai.usage.input_tokens": 100,
    "gen_ai.usage.output_tokens": 20,
    "llm.cost.total": 0.0125,
    "gen_ai.usage.cost": 0.0125,
    "llm.model_name": "a-model-without-a-price",
    "gen_ai.request.model": "a-model-without-a-price",
}
QUESTION, ANSWER, ERROR = _QUESTION, _ANSWER, _ERROR
