"""The work that every contender does: the same nodes, handed over by the same calls.

"small" is a node with two small dicts, "llm" one with about 2.5 KB of messages and usage. Ten nodes make a request, as
in a workflow of a usual size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

SMALL: Final = "small"
LLM: Final = "llm"
CODE_NODE: Final = "code_node"

NODES_PER_REQUEST: Final = 10
#: Execution orders begin here, so that each takes the same number of bytes when it is encoded.
FIRST_ORDER: Final = 65_536

WORKFLOW: Final = "answer-question"
PARENT: Final = "answer"
START: Final = "2026-01-31T12:00:00.123456+00:00"
END: Final = "2026-01-31T12:00:00.124956+00:00"
DURATION_MS: Final = 1.5
START_NS: Final = 1_769_860_800_123_456_000
END_NS: Final = 1_769_860_800_124_956_000

SMALL_NODE: Final = "rank"
SMALL_INPUT: Final[dict[str, Any]] = {"question": "What does hush promise after kill -9?", "k": 3}
SMALL_OUTPUT: Final[dict[str, Any]] = {"document": "promises.md", "score": 0.93}

LLM_NODE: Final = "generate"
LLM_INPUT: Final[dict[str, Any]] = {
    "messages": [
        {"role": "system", "content": "Answer from the documents alone, and name the one you used. " * 9},
        {"role": "user", "content": "Given these passages, what survives when the process is killed? " * 12},
    ],
    "temperature": 0.2,
    "max_tokens": 512,
}
LLM_OUTPUT: Final[dict[str, Any]] = {
    "content": "Every record whose call had returned is stored, once, and the request is interrupted. " * 11,
    "finish_reason": "stop",
}
MODEL: Final = "gpt-4o"
PROMPT_TOKENS: Final = 512
COMPLETION_TOKENS: Final = 128
TOTAL_TOKENS: Final = 640
COST_USD: Final = 0.00256
LLM_METADATA: Final[dict[str, Any]] = {"provider": "openai", "attempt": 1}

#: A function with the signature of `TraceStore.insert_node_trace`.
InsertNodeTrace = Callable[..., object]


def insert_nodes(workload: str, insert: InsertNodeTrace, calls: int, run: str) -> None:
    """Call ``insert`` for each of ``calls`` nodes. Whatever takes the place of `insert_node_trace` is called the same.

    The loop is part of what is measured, so it is the least there can be.

    :param run: makes the request ids of this run its own.
    """
    loop = {SMALL: _insert_small, LLM: _insert_llm}[workload]
    order = FIRST_ORDER
    for number in range(-(-calls // NODES_PER_REQUEST)):
        nodes = min(NODES_PER_REQUEST, calls - number * NODES_PER_REQUEST)
        loop(insert, f"{run}-{number:08d}", order, nodes)
        order += nodes


def _insert_small(insert: InsertNodeTrace, request_id: str, first: int, nodes: int) -> None:
    for order in range(first, first + nodes):
        insert(
            request_id=request_id,
            workflow_name=WORKFLOW,
            node_name=SMALL_NODE,
            parent_name=PARENT,
            context_id=None,
            execution_order=order,
            start_time=START,
            end_time=END,
            duration_ms=DURATION_MS,
            input_data=SMALL_INPUT,
            output_data=SMALL_OUTPUT,
        )


def _insert_llm(insert: InsertNodeTrace, request_id: str, first: int, nodes: int) -> None:
    for order in range(first, first + nodes):
        insert(
            request_id=request_id,
            workflow_name=WORKFLOW,
            node_name=LLM_NODE,
            parent_name=PARENT,
            context_id=None,
            execution_order=order,
            start_time=START,
            end_time=END,
            duration_ms=DURATION_MS,
            input_data=LLM_INPUT,
            output_data=LLM_OUTPUT,
            model=MODEL,
            prompt_tokens=PROMPT_TOKENS,
            completion_tokens=COMPLETION_TOKENS,
            total_tokens=TOTAL_TOKENS,
            cost_usd=COST_USD,
            contain_generation=True,
            metadata=LLM_METADATA,
        )


def score(question: str, k: int) -> dict[str, Any]:
    """The function that each contender decorates: next to no work of its own."""
    return SMALL_OUTPUT


def call_nodes(decorated: Callable[[str, int], Any], calls: int) -> None:
    """Call a decorated `score` with two small arguments."""
    for number in range(calls):
        decorated("What does hush promise after kill -9?", number)
