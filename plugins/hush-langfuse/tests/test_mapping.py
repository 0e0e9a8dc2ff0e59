"""A request becomes the spans that Langfuse's SDK would send for it, the same in every attempt."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hush_core import FlushData, NodeData, PermanentFlushError
from hush_langfuse.mapping import Labels, to_resource_spans, to_spans, usage_details

from .conftest import make_request, node
from .langfuse_server import read_attributes, read_span

LABELS = Labels("staging", "abc123", "7")


def spans(request: FlushData, labels: Labels = LABELS) -> list[dict[str, Any]]:
    return [read_span(span) for span in to_spans(request, labels)]


def span_of(labels: Labels = Labels(), **values: Any) -> dict[str, Any]:  # noqa: B008 - a tuple
    [span] = spans(make_request(node(**values)), labels)
    return span


def attributes_of(**values: Any) -> dict[str, Any]:
    found: dict[str, Any] = span_of(**values)["attributes"]
    return found


# -- the whole --------------------------------------------------------------------------------------------------------


def test_a_request_becomes_these_spans() -> None:
    request = make_request(
        node("geography", 1, input_data={"question": "capital?"}, output_data={"answer": "Paris"}),
        node(
            "answer", 2, 1, node_type="llm", contain_generation=True, model="gpt-4o", context_id="[0]",
            execution_order=3,
            input_data=[{"role": "user", "content": "capital?"}], output_data="Paris",
            prompt_tokens=20, cached_tokens=5, completion_tokens=9, reasoning_tokens=2, total_tokens=29, cost_usd=0.25,
            time_to_first_token_ms=120.5, start_time="2025-01-31T12:00:00.250000Z",
            metadata={"provider": "openai", "model_parameters": {"temperature": 0.5}, "retries": 2},
        ),
        user_id="ann", session_id="s-1", tags=["prod", "vip"],
    )  # fmt: skip
    of_trace = {
        "user.id": "ann",
        "session.id": "s-1",
        "langfuse.trace.metadata.hush": '{"request_id":"r-1"}',
        "langfuse.version": "7",
        "langfuse.trace.tags": ["prod", "vip"],
        "langfuse.trace.name": "geography",
        "langfuse.environment": "staging",
        "langfuse.release": "abc123",
    }
    assert spans(request) == [
        {
            "traceId": "0af7651916cd43dd8448eb211c80319c",
            "spanId": "0000000000000001",
            "name": "geography",
            "kind": 1,
            "startTimeUnixNano": "1738324800000000000",
            "endTimeUnixNano": "1738324801500000000",
            "attributes": {
                **of_trace,
                "langfuse.internal.is_app_root": True,
                "langfuse.observation.type": "span",
                "langfuse.observation.input": '{"question":"capital?"}',
                "langfuse.observation.output": '{"answer":"Paris"}',
            },
            "status": {},
        },
        {
            "traceId": "0af7651916cd43dd8448eb211c80319c",
            "spanId": "0000000000000002",
            "parentSpanId": "0000000000000001",
            "name": "answer",
            "kind": 1,
            "startTimeUnixNano": "1738324800250000000",
            "endTimeUnixNano": "1738324801500000000",
            "attributes": {
                **of_trace,
                "langfuse.observation.type": "generation",
                "langfuse.observation.metadata.provider": '"openai"',
                "langfuse.observation.metadata.retries": "2",
                "langfuse.observation.metadata.hush": '{"node_type":"llm","context_id":"[0]","execution_order":3}',
                "langfuse.observation.model.name": "gpt-4o",
                "langfuse.observation.usage_details": (
                    '{"input":15,"input_cached_tokens":5,"output":7,"output_reasoning_tokens":2,"total":29}'
                ),
                "langfuse.observation.cost_details": '{"total":0.25}',
                "langfuse.observation.completion_start_time": '"2025-01-31T12:00:00.370500Z"',
                "langfuse.observation.model.parameters": '{"temperature":0.5}',
                "langfuse.observation.input": '[{"role":"user","content":"capital?"}]',
                "langfuse.observation.output": "Paris",
            },
            "status": {},
        },
    ]


def test_an_export_has_the_resource_and_the_scope_of_the_sdk() -> None:
    [resource] = to_resource_spans([], LABELS, public_key="pk-lf-1", sdk_version="5.0.4")
    attributes = read_attributes(resource["resource"]["attributes"])
    assert attributes["langfuse.environment"] == "staging"
    assert attributes["langfuse.release"] == "abc123"
    [scope] = resource["scopeSpans"]
    assert (scope["scope"]["name"], scope["scope"]["version"]) == ("langfuse-sdk", "5.0.4")
    assert read_attributes(scope["scope"]["attributes"]) == {"public_key": "pk-lf-1"}


def test_every_attempt_makes_the_same_spans() -> None:
    first, second = (make_request(node(input_data={"b": 1, "a": 2}), attempt=attempt) for attempt in (1, 7))
    assert json.dumps(to_spans(first, LABELS)) == json.dumps(to_spans(second, LABELS))


def test_nothing_of_the_tracer_is_in_a_span() -> None:
    request = make_request(node(), tracer_config={"secret_key": "sk-lf-s3cret"})
    assert "s3cret" not in json.dumps(to_spans(request, LABELS))


def test_a_root_that_another_process_called_is_a_root_with_a_parent() -> None:
    root, inner = spans(make_request(node("answer", 1, parent=99), node("work", 2, 1)))
    assert root["parentSpanId"] == f"{99:016x}"
    assert root["attributes"]["langfuse.internal.is_app_root"] and root["attributes"]["langfuse.internal.as_root"]
    assert not [key for key in inner["attributes"] if key.startswith("langfuse.internal")]


def test_a_request_without_a_node_is_a_trace_of_one_span() -> None:
    [span] = spans(make_request(status="failed", tags=["a"]))
    assert (span["name"], span["attributes"]["langfuse.trace.tags"]) == ("geography", ["a"])
    assert span["attributes"]["langfuse.observation.level"] == "ERROR"
    assert (span["startTimeUnixNano"], span["endTimeUnixNano"]) == ("1738324800000000000", "1738324802000000000")
    assert spans(make_request(status="failed", tags=["a"])) == [span]


def test_how_a_request_ended_is_in_the_traces_metadata() -> None:
    [span] = spans(make_request(node(), status="interrupted"))
    about = json.loads(span["attributes"]["langfuse.trace.metadata.hush"])
    assert about == {"request_id": "r-1", "status": "interrupted"}


# -- types ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("node_type", "contain_generation", "kind"),
    [
        ("code", False, "span"),
        ("code", True, "generation"),
        (None, False, "span"),
        (None, True, "generation"),
        ("something else", True, "generation"),
        ("llm", False, "generation"),
        ("Generation", True, "generation"),
        ("embedding", True, "embedding"),
        ("agent", True, "agent"),
        ("tool", False, "tool"),
        ("workflow", False, "chain"),
        ("chain", False, "chain"),
        ("retriever", False, "retriever"),
        ("evaluator", True, "evaluator"),
        ("guardrail", False, "guardrail"),
        ("event", False, "event"),
        ("iteration", False, "span"),
    ],
)
def test_an_observation_is_what_its_node_says_else_whether_it_called_a_model(
    node_type: str | None, contain_generation: bool, kind: str
) -> None:
    values = {"node_type": node_type, "contain_generation": contain_generation}
    assert attributes_of(**values)["langfuse.observation.type"] == kind


def test_turns_of_a_loop_hold_their_nodes_and_none_of_their_usage() -> None:
    turn = node("iteration[0]", 2, 1, node_type="iteration", prompt_tokens=9, total_tokens=9, cost_usd=1.0,
                status="error", context_id="[0]")  # fmt: skip
    inner = node("answer", 3, 2, prompt_tokens=9, total_tokens=9, cost_usd=1.0, status="error", error="E: no",
                 contain_generation=True)  # fmt: skip
    _, turned, answered = spans(make_request(node("loop", 1), turn, inner))
    assert answered["parentSpanId"] == turned["spanId"]
    kept = {"langfuse.observation.usage_details", "langfuse.observation.cost_details", "langfuse.observation.level"}
    assert not kept & set(turned["attributes"])
    assert kept <= set(answered["attributes"])


# -- usage ------------------------------------------------------------------------------------------------------------

_COUNT = st.none() | st.integers(0, 10**9)


@given(_COUNT, _COUNT, _COUNT, _COUNT)
def test_no_token_is_in_two_buckets_and_none_is_lost(
    prompt: int | None, cached: int | None, completion: int | None, reasoning: int | None
) -> None:
    counted = node(prompt_tokens=prompt, cached_tokens=cached, completion_tokens=completion, reasoning_tokens=reasoning)
    usage = usage_details(counted)
    assert sum(usage.values()) == max(prompt or 0, cached or 0) + max(completion or 0, reasoning or 0)
    assert all(count >= 0 for count in usage.values())
    assert ("input" in usage) == (prompt is not None)
    assert ("input_cached_tokens" in usage) == (cached is not None)


def test_what_is_not_known_is_left_out_and_zero_is_kept() -> None:
    assert not {key for key in attributes_of(contain_generation=True) if "usage" in key or "cost" in key}
    attributes = attributes_of(prompt_tokens=0, cost_usd=0.0)
    assert attributes["langfuse.observation.usage_details"] == '{"input":0}'
    assert attributes["langfuse.observation.cost_details"] == '{"total":0.0}'


# -- trouble ----------------------------------------------------------------------------------------------------------


def test_an_error_is_a_level_a_message_and_a_status() -> None:
    span = span_of(status="error", error="ValueError: no\nTraceback ...", level="ERROR")
    assert span["attributes"]["langfuse.observation.level"] == "ERROR"
    assert span["attributes"]["langfuse.observation.status_message"] == "ValueError: no\nTraceback ..."
    assert span["status"] == {"code": 2, "message": "ValueError: no"}


@pytest.mark.parametrize(
    ("recorded", "level"),
    [
        ("WARNING", "WARNING"),
        ("warn", "WARNING"),
        ("DEBUG", "DEBUG"),
        ("critical", "ERROR"),
        ("INFO", None),
        ("?", None),
    ],
)
def test_a_level_is_one_of_langfuses(recorded: str, level: str | None) -> None:
    assert attributes_of(level=recorded).get("langfuse.observation.level") == level


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("interrupted", "interrupted: its process ended before it did"),
        ("running", "had not ended when its request did"),
    ],
)
def test_a_node_that_did_not_end_is_a_warning_that_says_so(status: str, said: str) -> None:
    span = span_of(status=status, end_time=None, duration_ms=None)
    assert span["attributes"]["langfuse.observation.level"] == "WARNING"
    assert span["attributes"]["langfuse.observation.status_message"] == said
    assert span["endTimeUnixNano"] == "1738324802000000000"  # when its request did


# -- times ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("times", "start", "end"),
    [
        ({"start_time": None}, 0, 1500),
        ({"start_time": None, "end_time": None}, 0, 1500),
        ({"start_time": None, "end_time": None, "duration_ms": None}, 0, 2000),
        ({"end_time": None}, 0, 1500),
        ({"end_time": "2025-01-31T11:59:59.000000Z"}, 0, 0),
        ({"start_time": "2025-01-31T12:00:03.000000Z", "end_time": None, "duration_ms": None}, 3000, 3000),
    ],
)
def test_a_time_that_was_not_recorded_is_taken_from_those_that_were(
    times: dict[str, Any], start: int, end: int
) -> None:
    span = span_of(**times)
    since_ms = [(int(span[f"{edge}TimeUnixNano"]) - 1738324800 * 10**9) // 10**6 for edge in ("start", "end")]
    assert since_ms == [start, end]


def test_without_any_time_every_attempt_still_says_the_same() -> None:
    nowhen = node(start_time=None, end_time=None, duration_ms=None)
    request = make_request(nowhen, start_time=None, end_time=None)
    assert spans(request) == spans(request)


# -- metadata ---------------------------------------------------------------------------------------------------------


def test_metadata_is_an_attribute_a_key() -> None:
    attributes = attributes_of(metadata={"a": "x", "b": {"c": [1]}, "d": None, "e": 2**60})
    found = {key: value for key, value in attributes.items() if "observation.metadata" in key}
    assert found == {
        "langfuse.observation.metadata.a": '"x"',
        "langfuse.observation.metadata.b": '{"c":[1]}',
        "langfuse.observation.metadata.e": '"1152921504606846976"',
    }


def test_langfuse_4_takes_texts_in_metadata_as_they_are() -> None:
    attributes = attributes_of(labels=Labels(encodes_metadata=False), metadata={"a": "x", "b": {"c": 1}})
    assert attributes["langfuse.observation.metadata.a"] == "x"
    assert attributes["langfuse.observation.metadata.b"] == '{"c":1}'


def test_metadata_that_is_no_dict_is_kept_under_a_key() -> None:
    assert attributes_of(metadata=["a", 1])["langfuse.observation.metadata.value"] == '["a",1]'


def test_metadata_of_many_keys_is_one_attribute_with_all_of_them() -> None:
    metadata = {f"key {number}": number for number in range(1_000)}
    assert json.loads(attributes_of(metadata=metadata)["langfuse.observation.metadata"]) == metadata


def test_metadata_that_is_too_large_is_cut_visibly() -> None:
    attributes = attributes_of(metadata={"a": "x" * 800_000, "b": "y" * 800_000, "c": 1})
    text = attributes["langfuse.observation.metadata"]
    assert len(text) <= 1_000_000
    assert json.loads(text)["c"] == 1
    assert "… [truncated: 800000 chars]" in text


def test_media_are_in_the_metadata_beside_what_is_there() -> None:
    attributes = attributes_of(media=["@@@reference@@@"], metadata={"media": "film"})
    assert attributes["langfuse.observation.metadata.media"] == '"film"'
    assert attributes["langfuse.observation.metadata.hush_media"] == '["@@@reference@@@"]'


def test_what_hush_knows_of_a_node_is_beside_what_the_node_says() -> None:
    attributes = attributes_of(metadata={"hush": "be quiet"}, execution_order=3)
    assert attributes["langfuse.observation.metadata.hush"] == '"be quiet"'
    assert attributes["langfuse.observation.metadata.hush_node"] == '{"execution_order":3}'


def test_parameters_of_a_model_are_found_among_the_metadata_of_a_generation() -> None:
    metadata = {"temperature": 0.2, "max_tokens": 100, "provider": "openai"}
    key = "langfuse.observation.model.parameters"
    assert json.loads(attributes_of(contain_generation=True, metadata=metadata)[key]) == {
        "temperature": 0.2,
        "max_tokens": 100,
    }
    assert key not in attributes_of(metadata=metadata)


def test_a_prompt_of_langfuse_is_linked() -> None:
    attributes = attributes_of(contain_generation=True, metadata={"langfuse_prompt": {"name": "answer", "version": 3}})
    assert attributes["langfuse.observation.prompt.name"] == "answer"
    assert attributes["langfuse.observation.prompt.version"] == 3
    assert "langfuse.observation.metadata.langfuse_prompt" not in attributes


# -- odd values -------------------------------------------------------------------------------------------------------


def test_ids_that_are_too_long_are_shortened_and_stay_distinct() -> None:
    users = ["u" * 300, "u" * 301]
    found = [spans(make_request(node(), user_id=user))[0]["attributes"]["user.id"] for user in users]
    assert len(set(found)) == 2
    assert all(len(user) <= 200 for user in found)


def test_an_empty_name_or_id_is_none() -> None:
    [span] = spans(make_request(node(name=""), user_id="", session_id="", workflow_name="", tags=["", "a"]))
    assert not {"user.id", "session.id", "langfuse.trace.name"} & set(span["attributes"])
    assert (span["name"], span["attributes"]["langfuse.trace.tags"]) == ("code", ["a"])


def test_what_cannot_be_mapped_is_refused_with_the_request_named() -> None:
    with pytest.raises(PermanentFlushError, match="request r-1 cannot be made a trace"):
        to_spans(make_request(node(start_time="yesterday")), LABELS)


_ODD = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=()))
_PAYLOAD = st.recursive(_ODD, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10)
_TEXT = st.none() | st.text(st.characters(exclude_categories=()))
_NODES: st.SearchStrategy[NodeData] = st.builds(
    node, name=_TEXT, node_type=_TEXT, error=_TEXT, level=_TEXT, model=_TEXT, context_id=_TEXT, metadata=_PAYLOAD,
    input_data=_PAYLOAD, output_data=_PAYLOAD, media=_PAYLOAD, contain_generation=st.booleans(),
    status=st.sampled_from(["ok", "error", "interrupted", "running"]), prompt_tokens=st.none() | st.integers(),
    cached_tokens=st.none() | st.integers(), cost_usd=st.none() | st.floats(),
    time_to_first_token_ms=st.none() | st.floats(-1e300, 1e300),
)  # fmt: skip


@settings(max_examples=50)
@given(st.builds(make_request, _NODES, _NODES, user_id=_TEXT, session_id=_TEXT, workflow_name=_TEXT,
                 tags=st.lists(st.text(st.characters(exclude_categories=())))))  # fmt: skip
def test_any_request_becomes_spans_of_the_right_shape(request: FlushData) -> None:
    for span in to_spans(request, LABELS):
        json.dumps(span, ensure_ascii=False, allow_nan=False).encode()
        for attribute in span["attributes"]:
            [(kind, value)] = attribute["value"].items()
            expected = {"stringValue": str, "boolValue": bool, "intValue": str, "arrayValue": dict}
            assert type(value) is expected[kind]
        assert span["name"]
        assert int(span["startTimeUnixNano"]) <= int(span["endTimeUnixNano"])
