"""From a finished request to the spans that Langfuse's SDK would send for it: pure, the same in every attempt.

OTLP as JSON: what `LangfuseAPI.opentelemetry.export_traces` takes. Ids and start times are hush's own, which never
change: Langfuse keeps one of two spans that agree in trace, span and start, so a second copy replaces the first. What
belongs to the trace (name, user, session, tags, ...) is on each of its spans, as Langfuse asks. The trace's input and
output are those of its root, where Langfuse takes them from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, timezone
from hashlib import sha256
from typing import Any, Final, NamedTuple, cast

from hush_core import FlushData, NodeData, PermanentFlushError
from hush_core import __version__ as hush_version
from hush_langfuse import convention as name
from hush_langfuse.payload import as_json, as_text, shorten

Span = dict[str, Any]
Attributes = dict[str, Any]

_INTERNAL: Final = 1  # SpanKind
_FAILED: Final = 2  # StatusCode
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
#: Langfuse's SDK leaves out an id, a name or a tag that is longer.
_NAME_CHARS_MAX: Final = 200
_MESSAGE_CHARS_MAX: Final = 20_000
#: A metadata dict of more keys is one attribute, and not one for each.
_KEYS_MAX: Final = 50
#: Of a generation's metadata, what every provider calls a parameter of the model.
_PARAMETERS: Final = (
    "temperature", "top_p", "top_k", "max_tokens", "max_completion_tokens", "max_output_tokens", "frequency_penalty",
    "presence_penalty", "seed", "stop", "n", "reasoning_effort", "verbosity",
)  # fmt: skip


class Labels(NamedTuple):
    """What is the same for every trace of a tracer."""

    environment: str | None = None
    release: str | None = None
    version: str | None = None
    #: Langfuse's SDK 5 encodes each metadata value as JSON, texts too, and the server decodes it; 4 does not.
    encodes_metadata: bool = True


def to_spans(request: FlushData, labels: Labels) -> list[Span]:
    """The spans of a request, parents before children; a request without a node is a span of its own.

    PermanentFlushError for what cannot be made one: it will be none the next time.
    """
    try:
        trace = _trace_attributes(request, labels)
        nodes = request["nodes"] or [_only_node(request)]
        known = {node["span_id"] for node in nodes}
        return [_Mapped(request, node, node["parent_span_id"] in known, trace, labels).span() for node in nodes]
    except Exception as problem:  # what odd values do, it will do again; and it is no other request's of the batch
        said = f"{type(problem).__name__}: {problem}"
        raise PermanentFlushError(f"request {request['request_id']} cannot be made a trace: {said}") from problem


def to_resource_spans(
    spans: Iterable[Span], labels: Labels, *, public_key: str, sdk_version: str, wrap: type = list
) -> list[dict[str, Any]]:
    """The spans as one export, under the resource and the scope that Langfuse's SDK has.

    :param wrap: what the list of scopes is put into.
    """
    resource = {
        "telemetry.sdk.language": "python",
        "telemetry.sdk.name": "hush",
        "telemetry.sdk.version": hush_version,
        **_present({name.ENVIRONMENT: labels.environment, name.RELEASE: labels.release}),
    }
    scope = {"name": name.SCOPE, "version": sdk_version, "attributes": to_attributes({"public_key": public_key})}
    return [
        {
            "resource": {"attributes": to_attributes(resource)},
            "scopeSpans": wrap([{"scope": scope, "spans": list(spans)}]),
        }
    ]


def to_attributes(values: Attributes) -> list[dict[str, Any]]:
    return [{"key": key, "value": _any_value(value)} for key, value in values.items()]


def _any_value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}  # as OTLP writes 64 bits in JSON
    if isinstance(value, list):
        return {"arrayValue": {"values": [{"stringValue": item} for item in value]}}
    return {"stringValue": value}


# -- of the trace -----------------------------------------------------------------------------------------------------


def _trace_attributes(request: FlushData, labels: Labels) -> Attributes:
    """On each span: Langfuse filters and adds up by what a span itself says."""
    about = {"request_id": request["request_id"]}
    if request["status"] != "completed":
        about["status"] = request["status"]
    return _present(
        {
            name.TRACE_USER_ID: _distinct(request["user_id"]),
            name.TRACE_SESSION_ID: _distinct(request["session_id"]),
            f"{name.TRACE_METADATA}.hush": as_json(about),
            name.VERSION: _short(labels.version),
            name.TRACE_TAGS: [_short(str(tag)) for tag in request["tags"] or () if tag] or None,
            name.TRACE_NAME: _short(request["workflow_name"]),
            name.ENVIRONMENT: _short(labels.environment),
            name.RELEASE: _short(labels.release),
        }
    )


def _present(values: Attributes) -> Attributes:
    return {key: value for key, value in values.items() if value is not None}


def _short(text: str | None) -> str | None:
    return shorten(text, _NAME_CHARS_MAX - 30) if text else None  # which leaves room for the note


def _distinct(text: str | None) -> str | None:
    """An id that is short enough for Langfuse, and that no other id becomes."""
    if not text:
        return None
    if len(text) <= _NAME_CHARS_MAX:
        return shorten(text, _NAME_CHARS_MAX)
    digest = sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]
    return f"{shorten(text[:100], 150)}… {digest}"


def _only_node(request: FlushData) -> NodeData:
    """A root for a request of which no node was recorded: without a span there is no trace."""
    node: dict[str, Any] = dict.fromkeys(NodeData.__annotations__)
    failed = {"failed": "error", "interrupted": "interrupted"}.get(request["status"], "ok")
    span_id = sha256(f"{request['trace_id']} without nodes".encode()).hexdigest()[:16]
    node.update(span_id=span_id, status=failed, contain_generation=False)
    return cast(NodeData, node)


# -- of a node --------------------------------------------------------------------------------------------------------


class _Mapped(NamedTuple):
    """A node on its way to a span."""

    request: FlushData
    node: NodeData
    has_parent: bool  #: in this request: a root may have been called by another process
    trace: Attributes
    labels: Labels

    def span(self) -> Span:
        node = self.node
        start_ns, end_ns = self._times()
        level, message = self._trouble()
        span: Span = {"traceId": self.request["trace_id"], "spanId": node["span_id"]}
        if node["parent_span_id"] is not None:
            span["parentSpanId"] = node["parent_span_id"]
        attributes = {
            **self.trace,
            **self._root(),
            name.OBSERVATION_TYPE: self._type(),
            **self._metadata(),
            **_present(
                {
                    name.OBSERVATION_LEVEL: level,
                    name.OBSERVATION_STATUS_MESSAGE: message,
                    **self._model(start_ns),
                    name.OBSERVATION_INPUT: as_text(node["input_data"]),
                    name.OBSERVATION_OUTPUT: as_text(node["output_data"]),
                }
            ),
        }
        status: dict[str, Any] = {}
        if level == "ERROR":
            status = {"code": _FAILED, **_present({"message": _first_line(message)})}
        return {
            **span,
            "name": shorten(self._name(), 1_000),
            "kind": _INTERNAL,
            "startTimeUnixNano": str(start_ns),
            "endTimeUnixNano": str(end_ns),
            "attributes": to_attributes(attributes),
            "status": status,
        }

    def _root(self) -> Attributes:
        if self.has_parent:
            return {}
        return {name.IS_APP_ROOT: True, **({} if self.node["parent_span_id"] is None else {name.AS_ROOT: True})}

    def _name(self) -> str:
        return str(self.node["node_name"] or self.request["workflow_name"] or self.node["node_type"] or "node")

    def _times(self) -> tuple[int, int]:
        """Start and end. What was not recorded is taken from what was, and never from a clock."""
        node, request = self.node, self.request
        duration_ns = int((node["duration_ms"] or 0) * 1e6)
        start_ns, end_ns = _to_ns(node["start_time"]), _to_ns(node["end_time"])
        if start_ns is None:
            start_ns = end_ns - duration_ns if end_ns is not None else _to_ns(request["start_time"])
        if start_ns is None:
            start_ns = _to_ns(request["end_time"]) or 0
        if end_ns is None:  # it had not ended, or says how long it took
            end_ns = start_ns + duration_ns if duration_ns else _to_ns(request["end_time"]) or start_ns
        start_ns = max(start_ns, 0)
        return start_ns, max(start_ns, end_ns)

    def _type(self) -> str:
        """What the node says that it is, if Langfuse knows it; else whether it called a model."""
        node = self.node
        kind = name.TYPE_OF.get(str(node["node_type"] or "").strip().lower())
        if kind is None or kind == "span":
            return "generation" if node["contain_generation"] else "span"
        return kind

    def _trouble(self) -> tuple[str | None, str | None]:
        """Level and message. A turn of a loop has no trouble of its own: the node in it that has says so."""
        node = self.node
        if self._is_turn():
            return None, None
        level = name.LEVEL_OF.get(str(node["level"] or "").strip().upper())
        message = shorten(str(node["error"]), _MESSAGE_CHARS_MAX) if node["error"] else None
        if node["status"] == "error":
            return level or "ERROR", message
        if node["status"] == "interrupted":
            return level or "WARNING", message or "interrupted: its process ended before it did"
        if node["status"] == "running":
            return level or "WARNING", message or "had not ended when its request did"
        return level, message

    def _is_turn(self) -> bool:
        return self.node["node_type"] == "iteration"

    # -- the model ----------------------------------------------------------------------------------------------------

    def _model(self, start_ns: int) -> Attributes:
        """Model, usage and cost. None of a turn of a loop, whose sums are its nodes' once more: Langfuse adds up."""
        node = self.node
        if self._is_turn():
            return {}
        usage, cost = usage_details(node), node["cost_usd"]
        waited_ms = node["time_to_first_token_ms"]
        prompt = self._of_metadata("langfuse_prompt")
        return {
            name.OBSERVATION_MODEL: shorten(str(node["model"]), 1_000) if node["model"] else None,
            name.OBSERVATION_USAGE_DETAILS: as_json(usage) if usage else None,
            name.OBSERVATION_COST_DETAILS: None if cost is None else as_json({"total": cost}),
            name.OBSERVATION_COMPLETION_START_TIME: (
                None if waited_ms is None or (at := _iso(start_ns + int(waited_ms * 1e6))) is None else as_json(at)
            ),
            name.OBSERVATION_MODEL_PARAMETERS: self._parameters(),
            name.OBSERVATION_PROMPT_NAME: prompt.get("name") if isinstance(prompt.get("name"), str) else None,
            name.OBSERVATION_PROMPT_VERSION: prompt.get("version") if type(prompt.get("version")) is int else None,
        }

    def _parameters(self) -> str | None:
        """Of the model, where the metadata has them: as a dict of their own, or one by one among the rest."""
        found = self._of_metadata("model_parameters")
        metadata = self.node["metadata"]
        if not found and self._type() in ("generation", "embedding") and isinstance(metadata, dict):
            found = {key: metadata[key] for key in _PARAMETERS if metadata.get(key) is not None}
        return as_json(found) if found else None

    def _of_metadata(self, key: str) -> Mapping[str, Any]:
        metadata = self.node["metadata"]
        found = metadata.get(key) if isinstance(metadata, dict) else None
        return found if isinstance(found, dict) else {}

    # -- metadata -----------------------------------------------------------------------------------------------------

    def _metadata(self) -> Attributes:
        """One attribute a key, as Langfuse's SDK; of what is no dict, or too much of one, one for all."""
        node, metadata = self.node, self.node["metadata"]
        own = dict(metadata) if isinstance(metadata, dict) else {} if metadata is None else {"value": metadata}
        for key in ("model_parameters", "langfuse_prompt"):
            if self._of_metadata(key):
                del own[key]
        if node["media"] is not None:
            own["hush_media" if "media" in own else "media"] = node["media"]
        about = {key: node[key] for key in ("node_type", "context_id", "execution_order")}
        about = {key: value for key, value in about.items() if value is not None and value != "code"}
        encoded = {key: self._value(value) for key, value in own.items() if value is not None}
        attributes = {shorten(f"{name.OBSERVATION_METADATA}.{key}", 1_000): text for key, text in encoded.items()}
        if len(attributes) > _KEYS_MAX or sum(len(text.encode()) for text in encoded.values()) > 1_000_000:
            attributes = {name.OBSERVATION_METADATA: as_json(own)}
        if about:
            attributes[f"{name.OBSERVATION_METADATA}.{'hush_node' if 'hush' in own else 'hush'}"] = as_json(about)
        return attributes

    def _value(self, value: Any) -> str:
        return as_json(value) if self.labels.encodes_metadata or not isinstance(value, str) else as_text(value) or ""


def usage_details(node: NodeData) -> dict[str, int]:
    """Tokens in buckets that share none: Langfuse prices each by itself, and adds them up.

    hush counts cached tokens among the prompt's, and reasoning tokens among the completion's. What is not known is
    left out, and is no zero.
    """
    prompt, cached = node["prompt_tokens"], node["cached_tokens"]
    completion, reasoning = node["completion_tokens"], node["reasoning_tokens"]
    counts = {
        "input": None if prompt is None else max(prompt - (cached or 0), 0),
        "input_cached_tokens": cached,
        "output": None if completion is None else max(completion - (reasoning or 0), 0),
        "output_reasoning_tokens": reasoning,
        "total": node["total_tokens"],
    }
    return {bucket: count for bucket, count in counts.items() if count is not None and count >= 0}


# -- times and texts --------------------------------------------------------------------------------------------------


def _to_ns(time: str | None) -> int | None:
    if time is None:
        return None
    past = datetime.fromisoformat(time.replace("Z", "+00:00")) - _EPOCH
    return ((past.days * 86_400 + past.seconds) * 1_000_000 + past.microseconds) * 1000


def _iso(ns: int) -> str | None:
    """The time as ISO 8601 text; None where it is beyond what a calendar holds."""
    try:
        when = _EPOCH + timedelta(microseconds=ns // 1000)
    except OverflowError:
        return None
    return when.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _first_line(text: str | None) -> str | None:
    return None if text is None else shorten(text.strip().partition("\n")[0], 1_000)
