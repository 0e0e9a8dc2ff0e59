"""What libraries say in the attributes of their spans, as the fields of a node; attributes are as they send them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from hush_otel.incoming import dialect
from hush_otel.incoming.fields import to_fields, workflow_name

PROVIDER = TracerProvider(resource=Resource({"service.name": "shop"}), shutdown_on_exit=False)
TRACER = PROVIDER.get_tracer("some.library", "1.2")


def span_of(attributes: Mapping[str, Any] | None = None, name: str = "call", **more: Any) -> Any:
    return TRACER.start_span(name, attributes=attributes, start_time=1_000_000, **more)


def ended(attributes: Mapping[str, Any] | None = None, name: str = "call", **more: Any) -> ReadableSpan:
    span: Any = span_of(attributes, name, **more)
    span.end(end_time=5_000_000)
    return span  # type: ignore[no-any-return]


def fields(attributes: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return to_fields(ended(attributes, **more), is_first=False)


def content(attributes: Mapping[str, Any], **more: Any) -> tuple[Any, Any]:
    found = fields(attributes, **more)
    return found.get("input_data"), found.get("output_data")


def usage(attributes: Mapping[str, Any]) -> list[Any]:
    found = fields(attributes)
    names = ("prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens", "reasoning_tokens")
    return [found.get(name) for name in names]


# -- any span ---------------------------------------------------------------------------------------------------------


def test_a_span_that_says_nothing_of_what_it_is() -> None:
    assert fields({"http.method": "GET", "n": 1}, name="GET /", kind=SpanKind.SERVER) == {
        "node_name": "GET /",
        "node_type": "span",
        "start_time": 1_000_000,
        "end_time": 5_000_000,
        "metadata": {
            "otel": {"kind": "SERVER", "scope": {"name": "some.library", "version": "1.2"}},
            "attributes": {"http.method": "GET", "n": 1},
        },
    }


def test_a_span_that_has_not_ended_says_what_it_can() -> None:
    found = to_fields(span_of({"openinference.span.kind": "TOOL", "input.value": "x"}), is_first=False)
    assert found == {
        "node_name": "call",
        "node_type": "tool",
        "start_time": 1_000_000,
        "input_data": "x",
        "contain_generation": False,
        "metadata": {"otel": {"scope": {"name": "some.library", "version": "1.2"}}},
    }


def test_the_first_span_of_a_request_says_where_it_all_comes_from() -> None:
    found = to_fields(ended(), is_first=True)
    assert found["metadata"]["otel"]["resource"]["service.name"] == "shop"


def test_links_events_and_the_state_of_the_trace_are_kept() -> None:
    state = TraceState([("vendor", "x")])
    linked = SpanContext(0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331, is_remote=True)
    parent = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(1), trace_state=state)
    span = span_of(links=[Link(linked, {"why": "batch"})], context=_context(parent))
    span.add_event("cache missed", {"key": "k"}, timestamp=2)
    span.end(end_time=5_000_000)
    otel = to_fields(span, is_first=False)["metadata"]["otel"]
    assert otel["trace_state"] == "vendor=x"
    assert otel["events"] == [{"name": "cache missed", "time_ns": 2, "attributes": {"key": "k"}}]
    assert otel["links"] == [
        {
            "trace_id": "0af7651916cd43dd8448eb211c80319c",
            "span_id": "b7ad6b7169203331",
            "attributes": {"why": "batch"},
        }
    ]


def _context(parent: SpanContext) -> Any:
    from opentelemetry.trace import NonRecordingSpan, set_span_in_context

    return set_span_in_context(NonRecordingSpan(parent))


def test_what_the_sdk_has_dropped_is_counted() -> None:
    from opentelemetry.sdk.trace import SpanLimits

    limited = TracerProvider(span_limits=SpanLimits(max_span_attributes=1), shutdown_on_exit=False)
    span: Any = limited.get_tracer("t").start_span("s", attributes={"a": 1, "b": 2})
    span.end()
    assert to_fields(span, is_first=False)["metadata"]["otel"]["dropped_attributes"] == 1


def test_a_name_stays_and_what_the_span_is_called_later_is_kept_beside_it() -> None:
    span = span_of(name="GET")
    span.update_name("GET /users/{id}")
    span.end()
    found = to_fields(span, is_first=False, name="GET")
    assert (found["node_name"], found["metadata"]["otel"]["name"]) == ("GET", "GET /users/{id}")


@given(
    st.dictionaries(
        st.text(min_size=1).filter(lambda name: name not in dialect.KNOWN and not name.startswith(dialect.BEGINNINGS)),
        st.one_of(st.text(), st.integers(), st.floats(), st.booleans(), st.binary(), st.lists(st.text(), max_size=3)),
    )
)
def test_no_attribute_is_lost(attributes: dict[str, Any]) -> None:
    span = ended(attributes)  # an older SDK leaves bytes out
    kept = to_fields(span, is_first=False)["metadata"].get("attributes", {})
    assert set(kept) == set(span.attributes or {})


@given(
    st.dictionaries(
        st.one_of(
            st.sampled_from(sorted(dialect.KNOWN)),
            st.builds("".join, st.tuples(st.sampled_from(dialect.BEGINNINGS), st.text("0123.messagerolecontents."))),
        ),
        st.one_of(
            st.text(),
            st.integers(-(2**63), 2**63 - 1),
            st.floats(),
            st.lists(st.text(), max_size=3),
            st.sampled_from(
                ["{}", "[]", "[1]", '{"a":', '{"messages": 1}', "[" * 2000, '{"role": 1}', '[{"role": 1}]']
            ),
        ),
        max_size=12,
    )
)
def test_no_value_of_a_known_attribute_makes_it_raise(attributes: dict[str, Any]) -> None:
    found = fields(attributes)
    assert isinstance(found["node_type"], str)


def test_every_name_of_the_dialect_is_known() -> None:
    named = set()
    for name, value in vars(dialect).items():
        if name.isupper() and name not in ("LLM", "EMBEDDING", "TOOL", "SPAN", "JSON", "KNOWN", "BEGINNINGS"):
            texts = {value} if isinstance(value, str) else {each for each in value if isinstance(each, str)}
            named |= {text for text in texts if "." in text}
    beside = {*dialect.BEGINNINGS, *dialect.WHOLE, *dialect.FIRST_PIECE, *dialect.CACHE_WRITTEN_TOKENS}
    only_with_others = {"input.mime_type", "output.mime_type", "gen_ai.system_instructions", "logfire.msg"}
    only_with_others |= {"pydantic_ai.new_message_index", "error.type"}
    assert named - beside - only_with_others <= dialect.KNOWN


# -- what it is -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attributes", "kind"),
    [
        ({"openinference.span.kind": "LLM"}, "llm"),
        ({"openinference.span.kind": "RETRIEVER"}, "retriever"),
        ({"openinference.span.kind": "UNKNOWN", "gen_ai.operation.name": "chat"}, "llm"),
        ({"gen_ai.operation.name": "execute_tool"}, "tool"),
        ({"gen_ai.operation.name": "invoke_agent"}, "agent"),
        ({"gen_ai.operation.name": "embeddings"}, "embedding"),
        ({"gen_ai.operation.name": "summarise"}, "summarise"),
        ({"traceloop.span.kind": "task"}, "task"),
        ({"llm.request.type": "completion"}, "llm"),
        ({"langfuse.observation.type": "generation"}, "llm"),
        ({"langfuse.observation.type": "guardrail"}, "guardrail"),
        ({"gen_ai.request.model": "gpt-4o"}, "llm"),
        ({"llm.token_count.total": 3}, "llm"),
        ({"openinference.span.kind": 7}, "span"),
    ],
)
def test_what_kind_of_thing_it_is(attributes: dict[str, Any], kind: str) -> None:
    assert fields(attributes)["node_type"] == kind


def test_a_template_of_logfires_is_shown_as_what_it_came_to() -> None:
    said = {"logfire.msg_template": "hello {name}", "logfire.msg": "hello bob"}
    found = fields(said, name="hello {name}")
    assert (found["node_name"], found["metadata"]["otel"]["name"]) == ("hello bob", "hello {name}")
    assert fields({**said, "logfire.msg_template": "other"}, name="hello {name}")["node_name"] == "hello {name}"


@pytest.mark.parametrize("name", ["langfuse.trace.name", "traceloop.workflow.name", "gen_ai.workflow.name"])
def test_a_request_is_called_as_the_library_says(name: str) -> None:
    assert workflow_name(ended({name: "checkout"})) == "checkout"
    assert workflow_name(ended({name: 7})) == "call"


@pytest.mark.parametrize(
    ("attributes", "user", "session", "tags"),
    [
        ({"user.id": "u", "session.id": "s", "tag.tags": ("a", "b", "a")}, "u", "s", ["a", "b"]),
        ({"enduser.id": "u", "gen_ai.conversation.id": "s", "logfire.tags": ["a"]}, "u", "s", ["a"]),
        ({"langfuse.trace.tags": '["a"]', "tag.tags": "b"}, None, None, ["b", "a"]),
        (
            {
                "traceloop.association.properties.user_id": "u",
                "traceloop.association.properties.session_id": "s",
                "traceloop.association.properties.plan": "free",
            },
            "u",
            "s",
            None,
        ),
    ],
)
def test_whose_it_is(attributes: dict[str, Any], user: str | None, session: str | None, tags: list[str] | None) -> None:
    found = fields(attributes)
    assert (found.get("user_id"), found.get("session_id"), found.get("tags")) == (user, session, tags)
    assert "attributes" not in found["metadata"]


def test_what_users_say_beside_is_metadata() -> None:
    found = fields(
        {
            "metadata": '{"plan": "free", "n": 1}',
            "langfuse.observation.metadata.deep": '{"b": 1}',
            "langfuse.trace.metadata.k": '"v"',
            "traceloop.association.properties.chat": "c",
        }
    )
    del found["metadata"]["otel"]
    assert found["metadata"] == {"plan": "free", "n": 1, "deep": {"b": 1}, "k": "v", "chat": "c"}


def test_metadata_of_the_users_that_is_called_like_ours_is_apart() -> None:
    metadata = fields({"metadata": '{"otel": 1, "k": 2}', "x": 3})["metadata"]
    assert metadata["metadata"] == {"otel": 1, "k": 2}
    assert metadata["attributes"] == {"x": 3}


def test_metadata_that_is_no_json_is_an_attribute() -> None:
    assert fields({"metadata": "free text"})["metadata"]["attributes"] == {"metadata": "free text"}


# -- models -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "attributes",
    [
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.usage.input_tokens": 10,
            "gen_ai.usage.output_tokens": 7,
            "gen_ai.usage.cache_read.input_tokens": 3,
            "gen_ai.usage.reasoning.output_tokens": 5,
        },
        {  # OpenLLMetry
            "llm.request.type": "chat",
            "gen_ai.usage.prompt_tokens": 10,
            "gen_ai.usage.completion_tokens": 7,
            "llm.usage.total_tokens": 17,
            "gen_ai.usage.cache_read_input_tokens": 3,
            "gen_ai.usage.reasoning_tokens": 5,
        },
        {
            "openinference.span.kind": "LLM",
            "llm.token_count.prompt": 10,
            "llm.token_count.completion": 7,
            "llm.token_count.total": 17,
            "llm.token_count.prompt_details.cache_read": 3,
            "llm.token_count.completion_details.reasoning": 5,
        },
        {
            "langfuse.observation.type": "generation",
            "langfuse.observation.usage_details": json.dumps(
                {"input": 7, "input_cached_tokens": 3, "output": 2, "output_reasoning_tokens": 5}
            ),
        },
    ],
)
def test_cached_and_reasoning_tokens_are_parts_of_the_prompts_and_the_completions(attributes: dict[str, Any]) -> None:
    assert usage(attributes) == [10, 7, 17, 3, 5]
    assert fields(attributes)["contain_generation"]
    assert "attributes" not in fields(attributes)["metadata"]


def test_what_a_library_counts_apart_from_the_prompt_is_added_to_it() -> None:
    said = {
        "gen_ai.operation.name": "chat",
        "gen_ai.usage.input_tokens": 4,
        "gen_ai.usage.output_tokens": 1,
        "gen_ai.usage.cache_read.input_tokens": 100,
        "gen_ai.usage.cache_creation.input_tokens": 20,
    }
    assert usage(said) == [124, 1, 125, 100, None]


@pytest.mark.parametrize("kind", ["invoke_agent", "invoke_workflow", "execute_tool"])
def test_what_an_agents_calls_used_together_is_not_counted_again(kind: str) -> None:
    said = {"gen_ai.operation.name": kind, "gen_ai.usage.input_tokens": 10, "gen_ai.request.model": "gpt-4o"}
    found = fields(said)
    assert usage(said) == [None] * 5
    assert not found["contain_generation"]
    assert found["metadata"]["attributes"] == {"gen_ai.usage.input_tokens": 10, "gen_ai.request.model": "gpt-4o"}


def test_an_agent_of_langfuses_says_what_it_used_itself() -> None:
    said = {"langfuse.observation.type": "agent", "langfuse.observation.model.name": "m"}
    assert fields({**said, "langfuse.observation.usage_details": '{"input": 1, "output": 2}'})["total_tokens"] == 3
    assert fields(said)["model"] == "m"


@pytest.mark.parametrize(
    ("attributes", "model"),
    [
        ({"gen_ai.request.model": "gpt-4o", "gen_ai.response.model": "gpt-4o-2024"}, "gpt-4o-2024"),
        ({"gen_ai.request.model": "gpt-4o"}, "gpt-4o"),
        ({"llm.model_name": "m"}, "m"),
        ({"openinference.span.kind": "EMBEDDING", "embedding.model_name": "e"}, "e"),
        ({"openinference.span.kind": "LLM", "llm.invocation_parameters": '{"model": "asked"}'}, "asked"),
        ({"langfuse.observation.model.name": "m"}, "m"),
        ({"gen_ai.request.model": "gpt-4o", "gen_ai.response.model": "unknown"}, "gpt-4o"),
        ({"gen_ai.request.model": "unknown"}, None),
    ],
)
def test_the_model_is_the_one_that_answered_or_else_that_was_asked(
    attributes: dict[str, Any], model: str | None
) -> None:
    assert fields(attributes).get("model") == model


def test_the_model_that_was_asked_is_kept_where_another_one_answered() -> None:
    said = {"gen_ai.request.model": "gpt-4o", "gen_ai.response.model": "gpt-4o-2024", "llm.model_name": "gpt-4o-2024"}
    assert fields(said)["metadata"]["attributes"] == {"gen_ai.request.model": "gpt-4o"}


@pytest.mark.parametrize(
    ("attributes", "cost"),
    [
        ({"gen_ai.operation.name": "chat", "gen_ai.usage.cost": 0.25}, 0.25),
        ({"openinference.span.kind": "LLM", "llm.cost.total": 1}, 1),
        ({"gen_ai.operation.name": "chat", "operation.cost": 0.5}, 0.5),
        ({"langfuse.observation.cost_details": '{"total": 0.5, "input": 0.2}'}, 0.5),
        ({"langfuse.observation.cost_details": '{"output": 0.5, "input": 0.25}'}, 0.75),
        ({"langfuse.observation.cost_details": "{}"}, None),
    ],
)
def test_the_cost(attributes: dict[str, Any], cost: float | None) -> None:
    assert fields(attributes).get("cost_usd") == cost


def test_provider_and_parameters_are_together_in_the_metadata() -> None:
    metadata = fields(
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.system": "openai",
            "gen_ai.request.temperature": 0.2,
            "gen_ai.request.stop_sequences": ("x",),
            "llm.invocation_parameters": '{"top_p": 1}',
        }
    )["metadata"]
    assert metadata["provider"] == "openai"
    assert metadata["model_parameters"] == {"temperature": 0.2, "stop_sequences": ("x",), "top_p": 1}
    assert "attributes" not in metadata


def test_how_long_the_first_piece_of_a_stream_took() -> None:
    assert fields({"gen_ai.response.time_to_first_chunk": 0.25})["time_to_first_token_ms"] == 250
    for event in ("First Token Stream Event", "gen_ai.content.completion.chunk"):
        span = span_of()
        span.add_event(event, timestamp=3_000_000)
        span.add_event(event, timestamp=4_000_000)
        span.end(end_time=5_000_000)
        found = to_fields(span, is_first=False)
        assert found["time_to_first_token_ms"] == 2.0
        assert "events" not in found["metadata"]["otel"]
    began = "1970-01-01T00:00:00.004Z"
    assert fields({"langfuse.observation.completion_start_time": f'"{began}"'})["time_to_first_token_ms"] == 3.0


# -- inputs and outputs -----------------------------------------------------------------------------------------------

ASKED = {"model": "gpt-4o", "messages": [{"role": "user", "content": "why?"}]}
ANSWERED = {"choices": [{"message": {"role": "assistant", "content": "because"}}]}


def test_a_request_to_a_model_is_kept_as_its_api_has_it_and_its_messages_not_once_more() -> None:
    said = {
        "openinference.span.kind": "LLM",
        "input.value": json.dumps(ASKED),
        "input.mime_type": "application/json",
        "output.value": json.dumps(ANSWERED),
        "output.mime_type": "application/json",
        "llm.input_messages.0.message.role": "user",
        "llm.input_messages.0.message.content": "why?",
        "llm.output_messages.0.message.content": "because",
    }
    assert content(said) == (ASKED, ANSWERED)
    assert "attributes" not in fields(said)["metadata"]


def test_messages_come_before_a_request_in_a_form_of_the_librarys_own() -> None:
    said = {
        "openinference.span.kind": "LLM",
        "input.value": '{"messages": [[{"lc": 1}]]}',
        "input.mime_type": "application/json",
        "output.value": '{"generations": []}',
        "output.mime_type": "application/json",
        **{
            f"llm.input_messages.{at}.message.{key}": text
            for at, message in enumerate([{"role": "system", "content": "be brief"}, {"role": "user"}])
            for key, text in message.items()
        },
        "llm.output_messages.0.message.role": "assistant",
        "llm.output_messages.0.message.tool_calls.0.tool_call.id": "c-1",
        "llm.output_messages.0.message.tool_calls.0.tool_call.function.name": "search",
        "llm.output_messages.0.message.tool_calls.0.tool_call.function.arguments": '{"q": 1}',
    }
    asked, answered = content(said)
    assert asked == {"messages": [{"role": "system", "content": "be brief"}, {"role": "user"}]}
    call = {"id": "c-1", "type": "function", "function": {"name": "search", "arguments": '{"q": 1}'}}
    assert answered == {"role": "assistant", "tool_calls": [call]}


def test_messages_of_the_genai_conventions_with_their_instructions() -> None:
    asked = [{"role": "user", "parts": [{"type": "text", "content": "why?"}]}]
    answered = [{"role": "assistant", "parts": [{"type": "text", "content": "because"}], "finish_reason": "stop"}]
    said = {
        "gen_ai.operation.name": "chat",
        "gen_ai.system_instructions": '[{"type": "text", "content": "be brief"}]',
        "gen_ai.input.messages": json.dumps(asked),
        "gen_ai.output.messages": json.dumps(answered),
    }
    system = [{"type": "text", "content": "be brief"}]
    assert content(said) == ({"system": system, "messages": asked}, answered[0])
    assert content({**said, "gen_ai.output.messages": json.dumps(answered * 2)})[1] == answered * 2


def test_numbered_messages_of_openllmetry() -> None:
    said = {
        "llm.request.type": "chat",
        "gen_ai.prompt.0.role": "user",
        "gen_ai.prompt.0.content": "why?",
        "gen_ai.prompt.10.role": "assistant",
        "gen_ai.prompt.10.tool_calls.0.id": "c-1",
        "gen_ai.prompt.10.tool_calls.0.name": "search",
        "gen_ai.prompt.10.tool_calls.0.arguments": "{}",
        "gen_ai.prompt.2.role": "tool",
        "gen_ai.completion.0.role": "assistant",
        "gen_ai.completion.0.content": "because",
        "gen_ai.completion.0.finish_reason": "stop",
    }
    asked, answered = content(said)
    assert [each["role"] for each in asked["messages"]] == ["user", "tool", "assistant"]
    assert asked["messages"][2]["tool_calls"] == [
        {"id": "c-1", "type": "function", "function": {"name": "search", "arguments": "{}"}}
    ]
    assert answered == {"role": "assistant", "content": "because", "finish_reason": "stop"}


def test_messages_that_are_events_in_an_attribute_or_on_the_span() -> None:
    events = [
        {"event.name": "gen_ai.system.message", "content": "be brief"},
        {"event.name": "gen_ai.user.message", "content": "why?", "gen_ai.message.index": 0},
        {"event.name": "gen_ai.choice", "index": 0, "message": {"role": "assistant", "content": "because"}},
    ]
    asked = {"messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "why?"}]}
    answered = {"role": "assistant", "content": "because", "index": 0}
    assert content({"gen_ai.operation.name": "chat", "events": json.dumps(events)}) == (asked, answered)
    span = span_of({"gen_ai.operation.name": "chat"})
    for each in events:
        name = each["event.name"]
        span.add_event(str(name), {"gen_ai.event.content": json.dumps({**each, "event.name": name})})
    span.add_event("other")
    span.end()
    found = to_fields(span, is_first=False)
    assert (found["input_data"], found["output_data"]) == (asked, answered)
    assert [each["name"] for each in found["metadata"]["otel"]["events"]] == ["other"]


def test_an_agent_was_asked_what_comes_before_its_first_answer() -> None:
    whole = [
        {"role": "user", "parts": [{"type": "text", "content": "before"}]},
        {"role": "assistant", "parts": []},
        {"role": "user", "parts": [{"type": "text", "content": "why?"}]},
        {"role": "assistant", "parts": []},
        {"role": "user", "parts": [{"type": "tool_call_response"}]},
        {"role": "assistant", "parts": []},
    ]
    said = {
        "gen_ai.operation.name": "invoke_agent",
        "pydantic_ai.all_messages": json.dumps(whole),
        "pydantic_ai.new_message_index": 2,
        "final_result": "because",
    }
    assert content(said) == ({"messages": whole[:3]}, "because")
    assert fields(said)["metadata"]["attributes"]["pydantic_ai.all_messages"] == whole
    events = [{"event.name": "gen_ai.user.message", "content": "why?"}, {"event.name": "gen_ai.assistant.message"}]
    said = {"gen_ai.operation.name": "invoke_agent", "all_messages_events": json.dumps(events)}
    assert content(said)[0] == {"messages": [{"role": "user", "content": "why?"}]}


@pytest.mark.parametrize(
    ("attributes", "given", "got"),
    [
        ({"input.value": "text", "output.value": "[1]"}, "text", "[1]"),
        ({"input.value": "[1]", "input.mime_type": "application/json"}, [1], None),
        ({"input.value": "{broken", "input.mime_type": "application/json"}, "{broken", None),
        ({"input.value": '"\\ud800"', "input.mime_type": "application/json"}, '"\\ud800"', None),
        ({"input.value": "[" * 100_000, "input.mime_type": "application/json"}, "[" * 100_000, None),
        ({"traceloop.entity.input": '{"args": [1]}', "traceloop.entity.output": '"x"'}, {"args": [1]}, '"x"'),
        ({"gen_ai.tool.call.arguments": '{"q": 1}', "gen_ai.tool.call.result": "found"}, {"q": 1}, "found"),
        ({"tool_arguments": '{"q": 1}', "tool_response": "found"}, {"q": 1}, "found"),
        ({"langfuse.observation.input": '{"q": 1}', "langfuse.observation.output": "5"}, {"q": 1}, "5"),
        ({"traceloop.entity.input": "[1]", "gen_ai.task.input": "[1]"}, [1], None),
        ({"langfuse.trace.input": '{"q": 1}', "langfuse.trace.output": "x"}, {"q": 1}, "x"),
        ({"request_data": '{"model": "m"}', "response_data": '{"message": 1}'}, {"model": "m"}, {"message": 1}),
    ],
)
def test_what_a_node_was_given_and_what_it_gave(attributes: dict[str, Any], given: Any, got: Any) -> None:
    assert content(attributes) == (given, got)
    assert "attributes" not in fields(attributes)["metadata"]


def test_documents_of_a_retriever() -> None:
    said = {
        "openinference.span.kind": "RETRIEVER",
        "input.value": "why?",
        "output.value": '{"documents": ["..."]}',
        "retrieval.documents.0.document.content": "because",
        "retrieval.documents.0.document.score": 0.5,
        "retrieval.documents.1.document.content": "why not",
    }
    assert content(said) == ("why?", [{"content": "because", "score": 0.5}, {"content": "why not"}])


def test_the_vectors_of_an_embedding_are_not_kept_beside_its_output() -> None:
    said = {
        "openinference.span.kind": "EMBEDDING",
        "input.value": "hello",
        "embedding.embeddings.0.embedding.vector": (0.1, 0.2),
    }
    assert "attributes" not in fields(said)["metadata"]
    del said["input.value"]
    assert fields(said)["metadata"]["attributes"] == {"embedding.embeddings.0.embedding.vector": (0.1, 0.2)}


def test_json_in_any_attribute_is_a_structure_so_that_a_mask_finds_its_keys() -> None:
    found = fields({"request": '{"api_key": "k"}', "text": "{no json", "number": "5"})
    assert found["metadata"]["attributes"] == {"request": {"api_key": "k"}, "text": "{no json", "number": "5"}


# -- how it ended -----------------------------------------------------------------------------------------------------


def test_an_exception_is_the_error_with_its_traceback() -> None:
    span = span_of()
    try:
        raise ValueError("no such thing")
    except ValueError as error:
        span.record_exception(error)
        span.set_status(Status(StatusCode.ERROR, "ValueError: no such thing"))
    span.end()
    found = to_fields(span, is_first=False)
    first, _, trace = found["error"].partition("\n")
    assert first == "ValueError: no such thing"
    assert trace.startswith("Traceback (most recent call last):")
    assert found["level"] == "ERROR"
    assert "events" not in found["metadata"]["otel"]


def test_an_exception_that_did_not_end_the_span_is_an_event() -> None:
    span = span_of()
    span.record_exception(ValueError("caught"))
    span.end()
    found = to_fields(span, is_first=False)
    assert "error" not in found
    (event,) = found["metadata"]["otel"]["events"]
    assert event["attributes"]["exception.message"] == "caught"


@pytest.mark.parametrize(
    ("attributes", "description", "error"),
    [
        ({}, "it broke", "it broke"),
        ({"error.type": "Timeout"}, None, "Timeout"),
        ({"langfuse.observation.status_message": "too slow"}, None, "too slow"),
        ({}, None, "error"),
    ],
)
def test_an_error_without_an_exception(attributes: dict[str, Any], description: str | None, error: str) -> None:
    span = span_of(attributes)
    span.set_status(Status(StatusCode.ERROR, description))
    span.end()
    found = to_fields(span, is_first=False)
    assert (found["error"], found["level"]) == (error, "ERROR")


@pytest.mark.parametrize(
    ("attributes", "level", "error"),
    [
        ({"logfire.level_num": 9}, "INFO", None),
        ({"logfire.level_num": 13}, "WARNING", None),
        ({"logfire.level_num": 21}, "ERROR", None),
        ({"langfuse.observation.level": "DEBUG"}, "DEBUG", None),
        ({"langfuse.observation.level": "ERROR", "langfuse.observation.status_message": "no"}, "ERROR", "no"),
        ({"langfuse.observation.level": "WARNING", "langfuse.observation.status_message": "slow"}, "WARNING", None),
    ],
)
def test_a_level_that_the_library_says(attributes: dict[str, Any], level: str, error: str | None) -> None:
    found = fields(attributes)
    assert (found.get("level"), found.get("error")) == (level, error)
