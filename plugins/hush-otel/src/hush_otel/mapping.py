"""From a finished request to its spans, as plain values: pure, so that every attempt makes the same ones.

A node is a span with the ids that hush gave it, a turn of a loop too. What a span says is in `hush_otel.convention`;
what a value may be, in `hush_otel.plain`. Nothing here raises for what a request holds, or knows how it is sent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from hush_core import FlushData, NodeData
from hush_otel import convention as names
from hush_otel.convention import Kind
from hush_otel.message import finish_reasons, input_messages, output_messages
from hush_otel.plain import NAME_MAX, TEXT, TEXT_MAX, Value, to_content, to_count, to_json, to_ns, to_number, to_text

# Numbers as OTLP has them.
INTERNAL: Final = 1
CLIENT: Final = 3
UNSET: Final = 0
OK: Final = 1
ERROR: Final = 2

Attributes = dict[str, Value]

#: Content that is longer is sent under one name, though both conventions have one for it.
_TWICE_MAX: Final = 256 * 1024
_MEDIA_MAX: Final = 16 * 1024
_MESSAGE_MAX: Final = 4096
_ITERATION: Final = "iteration"
_TRACEPARENT: Final = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
#: What stands before the traceback of a recorded error: its class, a colon and its text.
_TRACEBACK: Final = re.compile(r"\n(?=(?:Traceback \(most recent call last\)|  \+ Exception Group Traceback))")
_ERROR_TYPE: Final = re.compile(r"([A-Za-z_][\w.]*)(?::|$)")
_ERRORS: Final = {
    "interrupted": "interrupted: its process ended before it did",
    "error": "error",
}


class Link(NamedTuple):
    """To a span of another trace."""

    trace_id: bytes
    span_id: bytes
    flags: int
    state: str = ""


class Event(NamedTuple):
    """Something that happened within a span."""

    name: str
    time_ns: int
    attributes: Attributes


class Span(NamedTuple):
    """One span, whole."""

    trace_id: bytes
    span_id: bytes
    parent_span_id: bytes | None
    name: str
    kind: int
    start_ns: int
    end_ns: int
    attributes: Attributes
    status: int
    message: str = ""
    events: tuple[Event, ...] = ()
    links: tuple[Link, ...] = ()
    is_parent_remote: bool = False  #: whether another process has the parent


def to_spans(data: FlushData, *, content: bool = True) -> list[Span]:
    """The spans of a request, parents before children.

    :param content: whether inputs, outputs, metadata, media and the texts of errors are part of them.
    """
    trace_id = bytes.fromhex(data["trace_id"])
    of_all = _of_request(data)
    of_root = _of_root(data, content)
    start_ns = to_ns(data["start_time"])
    end_ns = to_ns(data["end_time"])
    start_ns = start_ns if start_ns is not None else end_ns or 0
    end_ns = end_ns if end_ns is not None else start_ns
    here = {None, *(node["span_id"] for node in data["nodes"])}
    return [
        _span(node, trace_id, of_all, of_root, start_ns, end_ns, content, node["parent_span_id"] not in here)
        for node in data["nodes"]
    ]


def _span(
    node: NodeData,
    trace_id: bytes,
    of_all: Attributes,
    of_root: Attributes,
    request_start_ns: int,
    request_end_ns: int,
    content: bool,
    is_parent_remote: bool,
) -> Span:
    parent = node["parent_span_id"]
    kind = _kind(node)
    attributes: Attributes = {names.KIND: kind.openinference, **of_all}
    is_root = parent is None or is_parent_remote
    if is_root:
        attributes.update(of_root)
    if kind.operation is not None:
        attributes[names.OPERATION] = kind.operation
    _add_identity(attributes, node, kind)
    _add_figures(attributes, node)
    if content:
        _add_content(attributes, node, kind)
    else:
        _add_parameters(attributes, node, kind)
    start_ns = to_ns(node["start_time"])
    end_ns = to_ns(node["end_time"])
    if start_ns is None:
        start_ns = request_start_ns if end_ns is None else min(request_start_ns or end_ns, end_ns)
    if end_ns is None:  # it had not ended
        end_ns = max(request_end_ns, start_ns)
    end_ns = max(start_ns, end_ns)
    status, message, events = _outcome(attributes, node, end_ns, content)
    return Span(
        trace_id,
        bytes.fromhex(node["span_id"]),
        None if parent is None else bytes.fromhex(parent),
        to_text(node["node_name"] or node["node_type"] or "unnamed", NAME_MAX),
        CLIENT if kind.is_call else INTERNAL,
        start_ns,
        end_ns,
        attributes,
        status,
        message,
        events,
        _links(node, is_root),
        is_parent_remote,
    )


# -- the request ------------------------------------------------------------------------------------------------------


def _of_request(data: FlushData) -> Attributes:
    """What every span says of its request: backends look at spans one by one."""
    attributes: Attributes = {}
    if data["session_id"] is not None:
        attributes[names.SESSION] = to_text(data["session_id"], NAME_MAX)
    if data["user_id"] is not None:
        attributes[names.USER] = to_text(data["user_id"], NAME_MAX)
    return attributes


def _of_root(data: FlushData, content: bool) -> Attributes:
    attributes: Attributes = {
        names.CONVENTION: names.VERSION,
        names.REQUEST_ID: to_text(data["request_id"], NAME_MAX),
        names.REQUEST_STATUS: to_text(data["status"], NAME_MAX),
    }
    if data["workflow_name"] is not None:
        attributes[names.WORKFLOW] = to_text(data["workflow_name"], NAME_MAX)
    if data["tags"]:
        attributes[names.TAGS] = [to_text(tag, NAME_MAX) for tag in data["tags"]]
    if not content:
        attributes[names.CONTENT] = False
    return attributes


# -- the node ---------------------------------------------------------------------------------------------------------


def _kind(node: NodeData) -> Kind:
    recorded = node["node_type"]
    known = names.KIND_OF_TYPE.get(recorded.lower()) if isinstance(recorded, str) else None
    if known is not None:
        return known
    return names.LLM if node["contain_generation"] or node["model"] is not None else names.CHAIN


def _add_identity(attributes: Attributes, node: NodeData, kind: Kind) -> None:
    fields: Mapping[str, Any] = node
    for field, name in names.OWN.items():
        value = fields[field]
        if value is not None:
            number = to_number(value)
            attributes[name] = number if number is not None else to_text(value, NAME_MAX)
    if node["model"] is not None:
        model = to_text(node["model"], NAME_MAX)
        for name in names.EMBEDDING_MODEL if kind is names.EMBEDDING else names.MODEL:
            attributes[name] = model
    if kind.is_call:
        metadata = node["metadata"]
        provider = metadata.get("provider") if isinstance(metadata, dict) else None
        if isinstance(provider, str) and provider:
            for name in names.PROVIDER:
                attributes[name] = to_text(provider, NAME_MAX)
    if names.SESSION in attributes and kind in (names.LLM, names.AGENT):
        attributes[names.CONVERSATION] = attributes[names.SESSION]
    if kind in (names.TOOL, names.AGENT) and node["node_name"]:
        for name in names.TOOL_NAME if kind is names.TOOL else names.AGENT_NAME:
            attributes[name] = to_text(node["node_name"], NAME_MAX)


def _add_figures(attributes: Attributes, node: NodeData) -> None:
    fields: Mapping[str, Any] = node
    if node["node_type"] == _ITERATION:
        for field, name in names.SUMS.items():
            total = to_number(fields[field])
            if total is not None:
                attributes[name] = total
        return
    for field, both in names.TOKENS.items():
        value = fields[field]
        if value is not None:
            count = to_count(value)
            for name in both if count is not None else (f"hush.{field}",):
                attributes[name] = count if count is not None else to_text(value, NAME_MAX)
    cost = to_number(node["cost_usd"])
    if cost is not None:
        for name in names.COST:
            attributes[name] = float(cost)
    first_ms = to_number(node["time_to_first_token_ms"])
    if first_ms is not None:
        attributes[names.TIME_TO_FIRST] = first_ms / 1000


# -- content ----------------------------------------------------------------------------------------------------------


def _add_content(attributes: Attributes, node: NodeData, kind: Kind) -> None:
    given, got = node["input_data"], node["output_data"]
    cut: list[str] = []
    if given is not None:
        text = _add_value(attributes, cut, given, names.INPUT, names.INPUT_TYPE)
        if kind is names.TOOL and len(text) <= _TWICE_MAX:
            attributes[names.TOOL_ARGUMENTS] = text
        if kind is names.LLM and len(text) <= _TWICE_MAX:
            messages = input_messages(given)
            if messages is not None:
                attributes[names.INPUT_MESSAGES] = to_text(to_json(messages))
    if got is not None:
        text = _add_value(attributes, cut, got, names.OUTPUT, names.OUTPUT_TYPE)
        if kind is names.TOOL and len(text) <= _TWICE_MAX:
            attributes[names.TOOL_RESULT] = text
        if kind is names.LLM and len(text) <= _TWICE_MAX:
            _add_answer(attributes, got)
    _add_parameters(attributes, node, kind)
    for name, value, length_max in (
        (names.METADATA, node["metadata"], TEXT_MAX),
        (names.MEDIA, node["media"], _MEDIA_MAX),
    ):
        if value is not None:
            text = to_json(value)
            attributes[name] = to_text(text, length_max)
            if len(text) > length_max:
                cut.append(name)
    if cut:
        attributes[names.TRUNCATED] = cut


def _add_value(attributes: Attributes, cut: list[str], value: object, name: str, type_name: str) -> str:
    text, kind = to_content(value)
    if len(text) > TEXT_MAX:
        cut.append(name)
        kind = TEXT  # half a document is no JSON
    attributes[name] = text = to_text(text)
    attributes[type_name] = kind
    return text


def _add_answer(attributes: Attributes, got: object) -> None:
    messages = output_messages(got)
    if messages is None:
        return
    attributes[names.OUTPUT_MESSAGES] = to_text(to_json(messages))
    reasons = finish_reasons(messages)
    if reasons:
        attributes[names.FINISH_REASONS] = [to_text(each, NAME_MAX) for each in reasons]
        attributes[names.FINISH_REASON] = to_text(reasons[0], NAME_MAX)


def _add_parameters(attributes: Attributes, node: NodeData, kind: Kind) -> None:
    """The parameters of a model's call that are numbers: no content."""
    given = node["input_data"]
    if kind is not names.LLM or not isinstance(given, dict):
        return
    found = {key: number for key in names.PARAMETERS if (number := to_number(given.get(key))) is not None}
    if found:
        for key, number in found.items():
            attributes[names.PARAMETERS[key]] = number
        attributes[names.INVOCATION_PARAMETERS] = to_json(found)


# -- how it ended -----------------------------------------------------------------------------------------------------


def _outcome(attributes: Attributes, node: NodeData, end_ns: int, content: bool) -> tuple[int, str, tuple[Event, ...]]:
    """The status of a span, its message, and the exception that ended it, as an event."""
    status, error = node["status"], node["error"]
    if status in ("interrupted", "running"):
        attributes[names.NODE_STATUS] = status
    if error is None and status not in _ERRORS:
        return (UNSET if status == "running" else OK), "", ()
    if error is None:
        return ERROR, _ERRORS[status], ()
    text = to_text(error)
    message, trace = _split(text)
    found = _ERROR_TYPE.match(message)
    kind = found[1] if found else "error"
    attributes[names.ERROR_TYPE] = kind
    said: Attributes = {names.EXCEPTION_TYPE: kind}
    if content:
        said[names.EXCEPTION_MESSAGE] = message[len(kind) + 1 :].lstrip() if found and found[0] != kind else message
        if trace:
            said[names.EXCEPTION_STACKTRACE] = trace
    event = Event(names.EXCEPTION, end_ns, said)
    return ERROR, to_text(message, _MESSAGE_MAX) if content else kind, (event,)


def _split(error: str) -> tuple[str, str]:
    """The text of an error, and its traceback if it has one."""
    at = _TRACEBACK.search(error)
    return (error, "") if at is None else (error[: at.start()], error[at.end() :])


def _links(node: NodeData, is_root: bool) -> tuple[Link, ...]:
    """To the span that called: `traceparent`, as W3C has it, in the metadata of a node, or in the root's inputs."""
    for place in (node["metadata"], node["input_data"]) if is_root else (node["metadata"],):
        if isinstance(place, dict) and "traceparent" in place:
            link = _link(place["traceparent"], place.get("tracestate"))
            if link is not None:
                return (link,)
    return ()


def _link(parent: object, state: object) -> Link | None:
    found = _TRACEPARENT.fullmatch(parent) if isinstance(parent, str) else None
    if found is None:
        return None
    trace_id, span_id, flags = (bytes.fromhex(each) for each in found.groups())
    if not any(trace_id) or not any(span_id):  # all zeros stand for none
        return None
    return Link(trace_id, span_id, flags[0], to_text(state, 512) if isinstance(state, str) else "")
