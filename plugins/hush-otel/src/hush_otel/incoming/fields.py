"""From a span of OpenTelemetry to the fields of a node: pure.

Which attribute says what is in `dialect.py`. Each is taken once: into a field, or, where no field is for it, into the
metadata under `attributes`. What only OpenTelemetry has is there under `otel`. Nothing here raises for what a span
holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.trace import SpanKind, StatusCode

from hush_otel.incoming import dialect as names
from hush_otel.incoming.content import take_input, take_output
from hush_otel.incoming.said import Said, decoded, from_json
from hush_otel.incoming.usage import Usage, of_langfuse, sound
from hush_otel.plain import to_ns

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import Event, ReadableSpan

Fields = dict[str, Any]

_EXCEPTION: Final = "exception"
_ERROR: Final = "ERROR"
_OWN_KEYS: Final = frozenset({"attributes", "otel"})


def to_fields(span: ReadableSpan, *, is_first: bool, name: str | None = None) -> Fields:
    """What a node's record says of a span, as keywords of `TraceStore.begin_span` and `end_span`.

    At its start a span has few attributes or none; at its end it has all of them.

    :param is_first: whether it is the first of its request: then it says where it all comes from, too.
    :param name: of the node, where it has one already: a name stays, whatever the span is called later.
    """
    said = Said(span.attributes)
    events = list(span.events)
    fields: Fields = {"node_name": name or span.name, "node_type": names.SPAN, "start_time": span.start_time}
    metadata: dict[str, Any] = {}
    if said.has_known_names() or events:
        metadata = _read(fields, said, span, events, name)
    if span.end_time is not None:
        fields["end_time"] = span.end_time
        if span.status.status_code is StatusCode.ERROR:
            fields["error"] = _error(said, span, events)
            fields["level"] = _ERROR
    metadata["otel"] = _origin(span, events, fields["node_name"], is_first)
    if said.rest:
        metadata["attributes"] = {key: from_json(value) for key, value in said.rest.items()}
    fields["metadata"] = metadata
    return fields


def _read(fields: Fields, said: Said, span: ReadableSpan, events: list[Event], name: str | None) -> dict[str, Any]:
    """Everything that hush has a field for; gives what the user has said beside, for the metadata."""
    kind = _type(said)
    found: Fields = {
        "node_name": _name(span, said) if name is None else name,
        "node_type": kind,
        "user_id": said.text(names.USER),
        "session_id": said.text(names.SESSION),
        "tags": said.words(names.TAGS),
    }
    metadata = _own_metadata(said)
    _add_call(found, metadata, said, kind)
    _add_first_piece(found, said, span, events)
    found["input_data"] = take_input(said, kind, events)
    found["output_data"] = take_output(said, kind, events)
    said.put_back()
    _add_level(found, said)
    fields.update({field: value for field, value in found.items() if value is not None})
    return {"metadata": metadata} if metadata.keys() & _OWN_KEYS else metadata


def workflow_name(span: ReadableSpan) -> str:
    """What a request is called whose first span this is: as the library says, else like the span."""
    return Said(span.attributes).text(names.WORKFLOW) or span.name


# -- what it is -------------------------------------------------------------------------------------------------------


def _type(said: Said) -> str:
    for name in names.TYPE:
        value = said.rest.get(name)
        if isinstance(value, str) and value.lower() not in names.NO_TYPE:
            del said.rest[name]
            return names.TYPE_OF.get(value.lower(), value.lower())
    return names.LLM if any(name in said.rest for name in names.OF_A_CALL) else names.SPAN


def _name(span: ReadableSpan, said: Said) -> str:
    """The span's name; where that is a template of Logfire's, what it came to."""
    template, message = said.rest.get(names.TEMPLATE), said.rest.get(names.MESSAGE)
    if template == span.name and "{" in span.name and isinstance(message, str) and message:
        return message
    return span.name


def _own_metadata(said: Said) -> dict[str, Any]:
    """What the user has said beside the span's work."""
    found: dict[str, Any] = {}
    for name in names.METADATA:
        value = said.rest.get(name)
        structure = from_json(value)
        if isinstance(structure, dict):
            del said.rest[name]
            found |= structure
    for prefix in names.METADATA_PREFIXES:
        for name, value in said.flat.pop(prefix, {}).items():
            found[name] = decoded(value, value) if isinstance(value, str) else value
    return found


def _origin(span: ReadableSpan, events: Sequence[Event], name: str, is_first: bool) -> dict[str, Any]:
    """What only OpenTelemetry has of a span; its ids are added by the store."""
    scope, context = span.instrumentation_scope, span.get_span_context()
    found: dict[str, Any] = {}
    if span.name != name:
        found["name"] = span.name
    if span.kind is not SpanKind.INTERNAL:
        found["kind"] = span.kind.name
    if scope is not None and scope.name:
        found["scope"] = {"name": scope.name, "version": scope.version} if scope.version else {"name": scope.name}
    if is_first:
        found["resource"] = dict(span.resource.attributes)
    if context is not None and context.trace_state:
        found["trace_state"] = context.trace_state.to_header()
    if span.links:
        found["links"] = [
            {
                "trace_id": f"{link.context.trace_id:032x}",
                "span_id": f"{link.context.span_id:016x}",
                "attributes": dict(link.attributes or {}),
            }
            for link in span.links
        ]
    if events:
        found["events"] = [
            {"name": event.name, "time_ns": event.timestamp, "attributes": dict(event.attributes or {})}
            for event in events
        ]
    if span.end_time is not None:
        for what in ("dropped_attributes", "dropped_events", "dropped_links"):
            dropped = getattr(span, what)
            if dropped:
                found[what] = dropped
    return found


# -- models -----------------------------------------------------------------------------------------------------------


def _add_call(fields: Fields, metadata: dict[str, Any], said: Said, kind: str) -> None:
    """Model, tokens and cost of a call. Those of Langfuse's own names are of this span, whatever it is."""
    is_call = kind in names.CALLS
    parameters = _parameters(said)
    usage, model, cost = _usage(said, is_call), _model(said, is_call), _cost(said, metadata, is_call)
    if is_call and model is None and isinstance(parameters.get("model"), str):
        model = parameters["model"]
    if usage is not None:
        fields.update(usage._asdict())
    fields["model"] = model
    fields["cost_usd"] = cost
    fields["contain_generation"] = is_call or model is not None or usage is not None
    provider = said.text(names.PROVIDER)
    if provider is not None:
        metadata["provider"] = provider
    if parameters:
        metadata["model_parameters"] = parameters


def _model(said: Said, is_call: bool) -> str | None:
    wanted = names.MODEL if is_call else names.MODEL[:1]
    found = said.text(wanted)
    while found in names.NO_MODEL:
        found = said.text(wanted)
    return found


def _usage(said: Said, is_call: bool) -> Usage | None:
    found = of_langfuse(from_json(said.rest.get(names.USAGE_DETAILS)))
    if found is not None:
        del said.rest[names.USAGE_DETAILS]
        return found
    if not is_call:
        return None
    prompt, completion = said.count(names.PROMPT_TOKENS), said.count(names.COMPLETION_TOKENS)
    total = said.count(names.TOTAL_TOKENS)
    cached, reasoning = said.count(names.CACHED_TOKENS), said.count(names.REASONING_TOKENS)
    written = next((each for each in map(said.rest.get, names.CACHE_WRITTEN_TOKENS) if isinstance(each, int)), None)
    return sound(prompt, completion, total, cached, reasoning, written)


def _cost(said: Said, metadata: dict[str, Any], is_call: bool) -> float | None:
    details = from_json(said.rest.get(names.COST_DETAILS))
    if not isinstance(details, dict):
        return said.number(names.COST) if is_call else None
    del said.rest[names.COST_DETAILS]
    if len(details) > 1:
        metadata["cost_details"] = details
    return _total_cost(details)


def _total_cost(costs: Mapping[str, Any]) -> float | None:
    known = {name: value for name, value in costs.items() if type(value) in (int, float)}
    if "total" in known:
        return float(known["total"])
    return float(sum(known.values())) if known else None


def _parameters(said: Said) -> dict[str, Any]:
    """The parameters of a model's call: temperature and the like."""
    found = said.flat.pop(names.PARAMETER_PREFIX, {})
    for name in names.PARAMETERS:
        structure = from_json(said.rest.get(name))
        if isinstance(structure, dict):
            del said.rest[name]
            found |= structure
    return found


def _add_first_piece(fields: Fields, said: Said, span: ReadableSpan, events: list[Event]) -> None:
    """How long the first piece of a stream took. The events of the pieces say no more, and there may be many."""
    pieces = [event for event in events if event.name in names.FIRST_PIECE]
    events[:] = [event for event in events if event.name not in names.FIRST_PIECE or event.attributes]
    seconds = said.number(names.SECONDS_TO_FIRST)
    if seconds is not None:
        fields["time_to_first_token_ms"] = seconds * 1000
        return
    at_ns = None
    began = said.rest.get(names.COMPLETION_START)
    if isinstance(began, str):
        at_ns = to_ns(began.strip('"'))
        if at_ns is not None:
            del said.rest[names.COMPLETION_START]
    if at_ns is None:
        at_ns = pieces[0].timestamp if pieces else None
    if at_ns is not None and span.start_time is not None and at_ns >= span.start_time:
        fields["time_to_first_token_ms"] = (at_ns - span.start_time) / 1e6


# -- how it ended -----------------------------------------------------------------------------------------------------


def _add_level(fields: Fields, said: Said) -> None:
    level = said.text((names.LEVEL,))
    number = said.count((names.LEVEL_NUMBER,))
    if level is None and number is not None:
        level = next((name for least, name in names.LEVELS if number >= least), None)
    if level == _ERROR:
        fields["error"] = said.text((names.STATUS_MESSAGE,))
    fields["level"] = level
    said.rest.pop(names.SCHEMA, None)


def _error(said: Said, span: ReadableSpan, events: list[Event]) -> str:
    """The exception that ended the span, as `ValueError: text` and its traceback; else what its status says."""
    event = next((each for each in reversed(events) if each.name == _EXCEPTION), None)
    if event is None:
        return span.status.description or said.text((names.STATUS_MESSAGE, names.ERROR_TYPE)) or "error"
    events.remove(event)
    attributes = event.attributes or {}
    kind, text, trace = (attributes.get(f"exception.{name}") for name in ("type", "message", "stacktrace"))
    first = f"{kind or 'error'}: {text}" if text else str(kind or span.status.description or "error")
    return f"{first}\n{trace}" if trace else first
