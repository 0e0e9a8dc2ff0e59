"""What a span says of a node, in both conventions; and what it says of one that holds what no attribute can."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hush_core import NodeData
from hush_otel.mapping import CLIENT, ERROR, INTERNAL, OK, UNSET, Link, Span, to_spans

from .made import END_NS, ROOT_ID, START_NS, TRACE_ID, node, request, root


def span_of(made: NodeData, **values: Any) -> Span:
    """The span of one node under a root."""
    return to_spans(request(root(), made, **values))[1]


def said(made: NodeData, **values: Any) -> dict[str, Any]:
    return span_of(made, **values).attributes


def test_a_model_call_says_all_in_both_conventions() -> None:
    made = node(
        "answer",
        node_type="llm",
        model="gpt-4o",
        contain_generation=True,
        context_id="[0].[2]",
        execution_order=3,
        prompt_tokens=100,
        completion_tokens=20,
        total_tokens=120,
        cached_tokens=40,
        reasoning_tokens=5,
        cost_usd=0.0025,
        time_to_first_token_ms=250,
        metadata={"provider": "openai", "attempt": 1},
        input_data={"messages": [{"role": "user", "content": "Where is Zürich?"}], "temperature": 0.2, "stop": ["."]},
        output_data={"choices": [{"message": {"role": "assistant", "content": "Here"}, "finish_reason": "stop"}]},
    )
    assert span_of(made, user_id="ann", session_id="s-1") == Span(
        trace_id=bytes.fromhex(TRACE_ID),
        span_id=bytes.fromhex("0000000000000001"),
        parent_span_id=bytes.fromhex(ROOT_ID),
        name="answer",
        kind=CLIENT,
        start_ns=START_NS,
        end_ns=END_NS,
        status=OK,
        attributes={
            "openinference.span.kind": "LLM",
            "gen_ai.operation.name": "chat",
            "session.id": "s-1",
            "gen_ai.conversation.id": "s-1",
            "user.id": "ann",
            "hush.node_type": "llm",
            "hush.context_id": "[0].[2]",
            "hush.execution_order": 3,
            "gen_ai.request.model": "gpt-4o",
            "llm.model_name": "gpt-4o",
            "gen_ai.provider.name": "openai",
            "llm.provider": "openai",
            "llm.system": "openai",
            "gen_ai.usage.input_tokens": 100,
            "llm.token_count.prompt": 100,
            "gen_ai.usage.output_tokens": 20,
            "llm.token_count.completion": 20,
            "llm.token_count.total": 120,
            "gen_ai.usage.cache_read.input_tokens": 40,
            "llm.token_count.prompt_details.cache_read": 40,
            "gen_ai.usage.reasoning.output_tokens": 5,
            "llm.token_count.completion_details.reasoning": 5,
            "gen_ai.usage.cost": 0.0025,
            "llm.cost.total": 0.0025,
            "gen_ai.response.time_to_first_chunk": 0.25,
            "input.value": '{"messages":[{"role":"user","content":"Where is Zürich?"}],"temperature":0.2,"stop":["."]}',
            "input.mime_type": "application/json",
            "gen_ai.input.messages": '[{"role":"user","parts":[{"type":"text","content":"Where is Zürich?"}]}]',
            "output.value": '{"choices":[{"message":{"role":"assistant","content":"Here"},"finish_reason":"stop"}]}',
            "output.mime_type": "application/json",
            "gen_ai.output.messages": (
                '[{"role":"assistant","parts":[{"type":"text","content":"Here"}],"finish_reason":"stop"}]'
            ),
            "gen_ai.response.finish_reasons": ["stop"],
            "llm.finish_reason": "stop",
            "gen_ai.request.temperature": 0.2,
            "llm.invocation_parameters": '{"temperature":0.2}',
            "metadata": '{"provider":"openai","attempt":1}',
        },
    )


def test_the_root_says_what_the_request_was() -> None:
    made = request(root(), tags=["prod", "vip"], user_id="ann", session_id="s-1", status="failed")
    [span] = to_spans(made)
    assert (span.name, span.kind, span.parent_span_id) == ("geography", INTERNAL, None)
    assert span.attributes == {
        "openinference.span.kind": "CHAIN",
        "session.id": "s-1",
        "user.id": "ann",
        "hush.convention": 1,
        "hush.request_id": "r-1",
        "hush.request_status": "failed",
        "hush.workflow_name": "geography",
        "hush.node_type": "workflow",
        "tag.tags": ["prod", "vip"],
    }


def test_so_does_a_span_that_another_process_called() -> None:
    [span, below] = to_spans(request(root(parent_span_id="00000000000000bb"), node()))
    assert span.parent_span_id == bytes.fromhex("00000000000000bb")
    assert span.is_parent_remote and not below.is_parent_remote
    assert span.attributes["hush.request_id"] == "r-1"
    assert "hush.request_id" not in below.attributes


@pytest.mark.parametrize(
    ("values", "kind", "operation"),
    [
        ({"node_type": "code"}, "CHAIN", None),
        ({"node_type": None}, "CHAIN", None),
        ({"node_type": "code", "contain_generation": True}, "LLM", "chat"),
        ({"node_type": "code", "model": "gpt-4o"}, "LLM", "chat"),
        ({"node_type": "Generation"}, "LLM", "chat"),
        ({"node_type": "tool"}, "TOOL", "execute_tool"),
        ({"node_type": "agent"}, "AGENT", "invoke_agent"),
        ({"node_type": "retriever"}, "RETRIEVER", "retrieval"),
        ({"node_type": "embedding", "model": "e-1"}, "EMBEDDING", "embeddings"),
        ({"node_type": "rerank"}, "RERANKER", None),
        ({"node_type": "workflow", "contain_generation": True}, "CHAIN", None),
    ],
)
def test_a_node_is_of_the_kind_that_its_type_says(values: dict[str, Any], kind: str, operation: str | None) -> None:
    attributes = said(node(**values))
    assert (attributes["openinference.span.kind"], attributes.get("gen_ai.operation.name")) == (kind, operation)


def test_a_tool_is_named_and_its_arguments_are_there_twice() -> None:
    attributes = said(node("search", node_type="tool", input_data={"q": "x"}, output_data=["a"]))
    assert attributes["gen_ai.tool.name"] == attributes["tool.name"] == "search"
    assert attributes["gen_ai.tool.call.arguments"] == attributes["input.value"] == '{"q":"x"}'
    assert attributes["gen_ai.tool.call.result"] == attributes["output.value"] == '["a"]'


def test_an_agent_and_an_embedding_go_by_their_own_names() -> None:
    agent = said(node("planner", node_type="agent"))
    assert agent["gen_ai.agent.name"] == agent["agent.name"] == "planner"
    embedding = said(node("embed", node_type="embedding", model="e-1"))
    assert embedding["embedding.model_name"] == embedding["gen_ai.request.model"] == "e-1"
    assert "llm.model_name" not in embedding


def test_a_turn_of_a_loop_is_a_span_whose_sums_nobody_adds_up_again() -> None:
    turn = node("iteration[0]", node_type="iteration", prompt_tokens=100, total_tokens=120, cost_usd=0.5)
    attributes = said(turn)
    assert attributes["openinference.span.kind"] == "CHAIN"
    assert attributes["hush.sum.prompt_tokens"] == 100
    assert attributes["hush.sum.total_tokens"] == 120
    assert attributes["hush.sum.cost_usd"] == 0.5
    assert not [name for name in attributes if "token_count" in name or name.endswith((".cost", "usage.input_tokens"))]


def test_nothing_known_is_no_attribute_and_zero_is_one() -> None:
    attributes = said(node(prompt_tokens=0, cost_usd=0.0, output_data=None))
    assert attributes["gen_ai.usage.input_tokens"] == 0
    assert attributes["llm.cost.total"] == 0.0
    assert not [name for name in attributes if "completion" in name or "output" in name]


# -- how it ended -----------------------------------------------------------------------------------------------------


def test_an_error_is_a_status_and_an_exception_event() -> None:
    error = (
        "errors.RateLimit: slow down: please\nTraceback (most recent call last):\n  File ...\nerrors.RateLimit: slow"
    )
    span = span_of(node(status="error", error=error))
    assert (span.status, span.message) == (ERROR, "errors.RateLimit: slow down: please")
    assert span.attributes["error.type"] == "errors.RateLimit"
    [event] = span.events
    assert (event.name, event.time_ns) == ("exception", END_NS)
    assert event.attributes == {
        "exception.type": "errors.RateLimit",
        "exception.message": "slow down: please",
        "exception.stacktrace": error.partition("\n")[2],
    }


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        ("ValueError", "ValueError", "ValueError"),
        ("ValueError: a\nb", "ValueError", "a\nb"),
        ("the model is not there", "error", "the model is not there"),
        ("", "error", ""),
        ("429: slow", "error", "429: slow"),
    ],
)
def test_an_error_of_any_form_has_a_type_and_a_message(error: str, kind: str, message: str) -> None:
    [event] = span_of(node(status="error", error=error)).events
    assert event.attributes == {"exception.type": kind, "exception.message": message}


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        ("ok", OK, ""),
        ("error", ERROR, "error"),
        ("interrupted", ERROR, "interrupted: its process ended before it did"),
        ("running", UNSET, ""),
    ],
)
def test_a_status_without_an_error_is_said_as_well(status: str, code: int, message: str) -> None:
    span = span_of(node(status=status))
    assert (span.status, span.message, span.events) == (code, message, ())
    assert span.attributes.get("hush.status") == (status if status in ("interrupted", "running") else None)


@pytest.mark.parametrize(
    ("start", "end", "times"),
    [
        (None, None, (START_NS, END_NS)),
        ("2025-01-31T12:00:01.000000Z", None, (START_NS + 999_999_000, END_NS)),
        (None, "2025-01-31T12:00:01.000000Z", (START_NS, START_NS + 999_999_000)),
        ("2025-01-31T12:00:01.000000Z", "2025-01-31T12:00:00.000001Z", (START_NS + 999_999_000,) * 2),
        ("2025-01-31T12:00:02Z", None, (START_NS + 1_999_999_000,) * 2),
        ("2025-01-31T13:00:00.000001+01:00", "nonsense", (START_NS, END_NS)),
        ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", (START_NS, END_NS)),
    ],
)
def test_a_span_has_both_times_and_ends_no_sooner_than_it_starts(
    start: str | None, end: str | None, times: tuple[int, int]
) -> None:
    span = span_of(node(start_time=start, end_time=end))
    assert (span.start_ns, span.end_ns) == times


def test_a_request_without_any_time_begins_where_time_does() -> None:
    made = request(root(start_time=None, end_time=None), start_time=None, end_time=None)
    assert [(span.start_ns, span.end_ns) for span in to_spans(made)] == [(0, 0)]


# -- links ------------------------------------------------------------------------------------------------------------

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_a_traceparent_in_metadata_becomes_a_link() -> None:
    span = span_of(node(metadata={"traceparent": PARENT, "tracestate": "a=b"}))
    trace_id, span_id = bytes.fromhex("4bf92f3577b34da6a3ce929d0e0e4736"), bytes.fromhex("00f067aa0ba902b7")
    assert span.links == (Link(trace_id, span_id, 1, "a=b"),)


def test_so_does_one_in_the_inputs_of_the_request() -> None:
    [span, below] = to_spans(
        request(root(input_data={"traceparent": PARENT}), node(input_data={"traceparent": PARENT}))
    )
    assert len(span.links) == 1 and below.links == ()


@pytest.mark.parametrize(
    "parent",
    ["", "00", 3, PARENT.upper(), PARENT.replace("00-4", "ff-4"), f"00-{'0' * 32}-00f067aa0ba902b7-01", PARENT[:-1]],
)
def test_what_is_no_traceparent_links_nothing(parent: Any) -> None:
    assert span_of(node(metadata={"traceparent": parent})).links == ()


# -- content ----------------------------------------------------------------------------------------------------------


def test_a_text_is_sent_as_it_is_and_all_else_as_json() -> None:
    attributes = said(node(input_data="plain", output_data=[1, None, {"a": True}]))
    assert (attributes["input.value"], attributes["input.mime_type"]) == ("plain", "text/plain")
    assert (attributes["output.value"], attributes["output.mime_type"]) == ('[1,null,{"a":true}]', "application/json")


def test_without_content_nothing_of_it_is_left() -> None:
    secret = "xyzzy"
    made = node(
        "answer",
        node_type="llm",
        model="gpt-4o",
        prompt_tokens=1,
        status="error",
        error=f"ValueError: {secret}\nTraceback (most recent call last):\n{secret}",
        input_data={"messages": [{"role": "user", "content": secret}], "temperature": 1, "stop": secret},
        output_data={"content": secret},
        metadata={"note": secret, "provider": "openai", "traceparent": PARENT},
        media=[{"data": secret}],
    )
    spans = to_spans(
        request(root(input_data=secret), made, node("t", 2, node_type="tool", input_data=secret)), content=False
    )
    assert secret not in repr(spans)
    assert spans[0].attributes["hush.content"] is False
    assert spans[1].attributes["gen_ai.usage.input_tokens"] == 1
    assert spans[1].attributes["gen_ai.request.temperature"] == 1
    assert (spans[1].status, spans[1].message) == (ERROR, "ValueError")
    assert spans[1].events[0].attributes == {"exception.type": "ValueError"}
    assert len(spans[1].links) == 1


def test_what_is_too_long_is_cut_and_says_so() -> None:
    attributes = said(
        node(input_data={"text": "x" * 2_000_000}, output_data="é" * 1_048_576, media={"data": "y" * 20_000})
    )
    assert attributes["input.value"].endswith("… [truncated: 2000011 chars]")
    assert attributes["input.mime_type"] == "text/plain"
    assert len(attributes["output.value"]) == 1_048_576
    assert attributes["hush.media"].endswith("… [truncated: 20011 chars]")
    assert attributes["hush.truncated"] == ["input.value", "hush.media"]


def test_long_content_is_there_once() -> None:
    messages = [{"role": "user", "content": "x" * 300_000}]
    attributes = said(node(node_type="llm", input_data={"messages": messages}))
    assert json.loads(attributes["input.value"]) == {"messages": messages}
    assert "gen_ai.input.messages" not in attributes


# -- what no attribute can hold ---------------------------------------------------------------------------------------


def test_lone_surrogates_become_escapes_everywhere() -> None:
    bad = "a\ud800b"
    made = node(bad, node_type=bad, model=bad, input_data=bad, output_data={bad: bad}, metadata={"k": bad}, error=bad)
    spans = to_spans(
        request(
            root(), made, request_id=bad, workflow_name=bad, user_id=bad, session_id=bad, tags=[bad], status="completed"
        )
    )
    repr(spans).encode()  # every text in it is one that UTF-8 can say
    assert spans[1].name == "a\\ud800b"
    assert spans[1].attributes["input.value"] == "a\\ud800b"
    assert json.loads(str(spans[1].attributes["output.value"])) == {bad: bad}


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, -1, 1.5, "many", True, float("nan")])
def test_a_count_that_is_none_is_said_under_another_name(value: Any) -> None:
    attributes = said(node(prompt_tokens=value))
    assert "gen_ai.usage.input_tokens" not in attributes and "llm.token_count.prompt" not in attributes
    assert isinstance(attributes["hush.prompt_tokens"], str)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "dear", None, 10**400])
def test_a_cost_that_is_none_is_left_out(value: Any) -> None:
    attributes = said(node(cost_usd=value, time_to_first_token_ms=value))
    assert not [name for name in attributes if "cost" in name or "first" in name]


def test_an_execution_order_beyond_64_bits_is_a_text() -> None:
    assert said(node(execution_order=2**70))["hush.execution_order"] == str(2**70)


def test_300_levels_of_nesting_are_kept() -> None:
    deep: Any = "bottom"
    for _ in range(300):
        deep = {"down": [deep]}
    attributes = said(node(input_data=deep))
    assert json.loads(attributes["input.value"]) == deep


def test_a_nesting_that_no_walk_gets_through_says_so() -> None:
    deep: Any = "bottom"
    for _ in range(100_000):
        deep = [deep]
    assert "unrecordable list: RecursionError" in said(node(input_data=deep))["input.value"]


def test_every_attempt_makes_the_same_spans() -> None:
    assert to_spans(request(attempt=7)) == to_spans(request(attempt=1))


def test_nothing_of_the_tracer_is_in_a_span() -> None:
    assert "s3cret" not in repr(to_spans(request(config={"headers": {"Authorization": "s3cret"}})))
