"""A batch of records on its way into the store: decoded, joined, and turned into rows, before anything is written.

Starts meet their ends here: a node that began and ended within one batch is inserted once, whole.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, Any, Final, NamedTuple

import msgspec

from hush_core.capture.snapshot import decode_carefully
from hush_core.errors import JournalError
from hush_core.model import (
    COMPLETED,
    FAILED,
    INTERRUPTED,
    LOCAL_TRACER,
    NODE,
    NODE_END,
    NODE_ERROR,
    NODE_FIELDS,
    NODE_OK,
    NODE_RUNNING,
    NODE_START,
    ORIGIN,
    REQUEST_COMPLETE,
    REQUEST_COMPLETE_FIELDS,
    REQUEST_START,
    REQUEST_START_FIELDS,
    RUNNING,
)
from hush_core.store.rows import integer, may_hold_odd_values, real, text, to_faithful_json, to_json, to_ns

_decode = msgspec.msgpack.Decoder().decode
_decode_json = msgspec.json.Decoder().decode
_WIDTHS: Final = {
    REQUEST_START: len(REQUEST_START_FIELDS) + 1,
    REQUEST_COMPLETE: len(REQUEST_COMPLETE_FIELDS) + 1,
}
_ARRAY_16: Final = 0xDC  #: how msgpack begins an array of 16 elements or more
_NO_VALUES: Final = [None, None, None, None]
_NODE_KINDS: Final = (NODE, NODE_START, NODE_END)
_ENDED: Final = (COMPLETED, FAILED, INTERRUPTED)

#: The columns of a node row, by place.
NODE_COLUMNS: Final = (
    "id", "request", "node_name", "parent_name", "context_id", "execution_order", "status", "start_ns", "end_ns",
    "duration_ms", "node_type", "level", "model", "prompt_tokens", "completion_tokens", "total_tokens",
    "cached_tokens", "reasoning_tokens", "cost_usd", "time_to_first_token_ms", "contain_generation", "error", "span",
    "parent_span",
)  # fmt: skip
_STATUS: Final = NODE_COLUMNS.index("status")
_START: Final = NODE_COLUMNS.index("start_ns")
_END: Final = NODE_COLUMNS.index("end_ns")
_DURATION: Final = NODE_COLUMNS.index("duration_ms")
_SPAN: Final = NODE_COLUMNS.index("span")
#: Those that the end of a node fills in after its start.
ENDED_COLUMNS: Final = slice(_STATUS, _SPAN)
_Text = str | None
_Integer = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | None
_Real = Annotated[float, msgspec.Meta(ge=-sys.float_info.max, le=sys.float_info.max)] | None  # neither NaN nor infinite
#: The type of each field of a node record, where it is what it should be: then msgspec has checked it while decoding.
_FIELD_TYPES: Final[dict[str, Any]] = {
    **dict.fromkeys(NODE_FIELDS, Any),
    **dict.fromkeys(("workflow_name", "node_name", "parent_name", "context_id", "user_id", "session_id"), _Text),
    **dict.fromkeys(("model", "node_type", "error", "level"), _Text),
    **dict.fromkeys(("execution_order", "prompt_tokens", "completion_tokens", "total_tokens"), _Integer),
    **dict.fromkeys(("cached_tokens", "reasoning_tokens", "span", "parent_span"), _Integer),
    **dict.fromkeys(("duration_ms", "cost_usd", "time_to_first_token_ms"), _Real),
    **dict.fromkeys(("start_time", "end_time"), _Integer | str),
    "request_id": str,
}
_NodeRecord: Final = msgspec.defstruct(
    "_NodeRecord",
    [("kind", int), *((name, _FIELD_TYPES[name], None) for name in NODE_FIELDS)],
    array_like=True,
    gc=False,
)
_decode_node: Final = msgspec.msgpack.Decoder(_NodeRecord).decode
_fields: Final = msgspec.structs.astuple
_CONVERT: Final[dict[Any, Callable[[object], object]]] = {_Text: text, _Integer: integer, _Real: real, str: text}


def _decode_anyhow(payload: bytes) -> list[Any]:
    """A record's fields, also where only the careful reader can make them out: dict keys that are containers, say."""
    try:
        record: list[Any] = _decode(payload)
        return record
    except (msgspec.DecodeError, RecursionError):
        return decode_carefully(payload)


class RequestEntry:
    """What the store knows of a request: its row, as it will be written."""

    __slots__ = (
        "completion_tokens", "cost_usd", "end_ns", "error", "error_count", "id", "journals", "marked", "node_count",
        "open_nodes", "prompt_tokens", "recorded_ns", "request_id", "session_id", "start_ns", "status", "tags",
        "total_tokens", "tracers", "user_id", "workflow_name",
    )  # fmt: skip

    def __init__(self, id: int, request_id: str, recorded_ns: int) -> None:
        self.id = id
        self.request_id = request_id
        self.recorded_ns = recorded_ns
        self.workflow_name: str | None = None
        self.user_id: str | None = None
        self.session_id: str | None = None
        self.status = RUNNING
        self.start_ns: int | None = None
        self.end_ns: int | None = None
        self.error: str | None = None
        self.tags: list[str] = []
        self.node_count = 0
        self.error_count = 0
        self.prompt_tokens: int | None = None
        self.completion_tokens: int | None = None
        self.total_tokens: int | None = None
        self.cost_usd: float | None = None
        self.tracers: str | None = None
        self.marked = 0  # somebody has said that it is complete
        self.open_nodes = 0  # nodes that have begun and not ended
        self.journals: set[str] = set()  # which journals are known to have recorded for it while it was open

    def identify(self, workflow_name: str | None, user_id: str | None, session_id: str | None) -> None:
        """Keep the first thing that anybody said of these."""
        if self.workflow_name is None:
            self.workflow_name = workflow_name
        if self.user_id is None:
            self.user_id = user_id
        if self.session_id is None:
            self.session_id = session_id

    def add_tags(self, tags: object) -> list[str]:
        """Add tags that are not there yet, in order; returns those."""
        if not tags or not isinstance(tags, (list, tuple)):
            return []
        known = dict.fromkeys(self.tags)
        before = len(known)
        known.update(dict.fromkeys(word for tag in tags if (word := text(tag)) is not None))
        self.tags = list(known)
        return self.tags[before:]

    def span_times(self, start_ns: int | None, end_ns: int | None) -> None:
        """Widen the request's time to a node's."""
        if start_ns is not None and (self.start_ns is None or start_ns < self.start_ns):
            self.start_ns = start_ns
        if end_ns is not None and (self.end_ns is None or end_ns > self.end_ns):
            self.end_ns = end_ns

    def add_tokens(self, prompt: int | None, completion: int | None, total: int | None) -> None:
        """Sum what nodes said; what nobody said stays unknown, not 0."""
        if prompt is not None:
            self.prompt_tokens = (self.prompt_tokens or 0) + prompt
        if completion is not None:
            self.completion_tokens = (self.completion_tokens or 0) + completion
        if total is not None:
            self.total_tokens = (self.total_tokens or 0) + total


class Due(NamedTuple):
    """A complete request and a tracer that it is due to."""

    request: RequestEntry
    name: str
    type: str
    config: str  #: JSON text
    target: str
    policy: Any  #: as the app gave it
    journal_id: str


class Batch:
    """Rows of one transaction. `add` takes a record as it was in the journal; the store then writes the lists.

    :param request: finds or makes the entry of a request id.
    :param next_node_id: the id for the first new node row.
    :param open_nodes: span -> node id of the nodes that began in an earlier batch and have not ended.
    :param left_nodes: (request, span) -> ids of nodes that were left by a process that ended, and are interrupted.
    """

    def __init__(
        self,
        request: Callable[[str], RequestEntry],
        next_node_id: int,
        open_nodes: dict[int, int],
        now_ns: int,
        left_nodes: Callable[[int, int], list[int]] = lambda request, span: [],
    ) -> None:
        self._request = request
        self.next_node_id = next_node_id
        self._open_nodes = open_nodes
        self._left_nodes = left_nodes
        self._ended_left: set[int] = set()
        self._now_ns = now_ns
        self.nodes: list[list[Any]] = []
        self.payloads: list[list[Any]] = []
        self.ended_nodes: list[list[Any]] = []  # ends of nodes that an earlier batch inserted
        self.ended_payloads: list[list[Any]] = []
        self.ended: set[int] = set()  # the spans of those nodes
        self.started: dict[int, tuple[list[Any], list[Any]]] = {}  # span -> rows of nodes that began here
        self.dirty: dict[str, RequestEntry] = {}
        self.new_tags: list[tuple[str, int]] = []
        self.due: list[Due] = []
        self.revived: list[int] = []  # requests that were interrupted, and go on after all
        self.settled: list[int] = []  # requests that became complete, with no node open
        self.origins: list[tuple[str, str]] = []  # journal id, origin as JSON
        # Most records are of the same request and process as the one before.
        self._last_id: str | None = None
        self._last_journal = ""
        self._last = RequestEntry(0, "", 0)
        self.stored = 0
        self.refused: list[tuple[str, bytes]] = []  # journal id, record that could not be read

    def add(self, journal_id: str, payload: bytes) -> None:
        """Take one record. One that cannot be read goes to ``refused``, never to nothing."""
        try:
            kind = payload[3] if payload[0] == _ARRAY_16 else payload[1]  # both are small integers: one byte each
            if kind in _NODE_KINDS:
                try:
                    record = _fields(_decode_node(payload))
                except (msgspec.DecodeError, RecursionError):
                    record = _fitted(_decode_anyhow(payload))
                self._node(record, payload, journal_id)
            elif kind in _WIDTHS:
                width = _WIDTHS[kind]
                fields = (_decode_anyhow(payload) + [None] * width)[:width]
                (self._start_request if kind == REQUEST_START else self._complete_request)(fields, journal_id)
            elif kind == ORIGIN:
                self.origins.append((journal_id, to_faithful_json(_decode(payload)[1]) or "{}"))
                return
            else:
                raise ValueError(f"a record of kind {kind}")
        except (msgspec.DecodeError, JournalError, TypeError, ValueError, IndexError, RecursionError):
            self.refused.append((journal_id, payload))
        else:
            self.stored += 1

    def _entry(self, request_id: object, journal_id: str) -> RequestEntry:
        key = request_id if isinstance(request_id, str) else text(request_id) or ""
        entry = self.dirty.get(key)
        if entry is None:
            entry = self.dirty[key] = self._request(key)
        if journal_id not in entry.journals and not entry.marked:
            entry.journals.add(journal_id)
            if entry.status == INTERRUPTED:
                # A record for it comes from a live process: it goes on after all, and is due anew when it is complete.
                self.revived.append(entry.id)
                entry.status = RUNNING
        self._last_id, self._last_journal, self._last = key, journal_id, entry
        return entry

    def _node(self, record: tuple[Any, ...], payload: bytes, journal_id: str) -> None:
        (
            kind, request_id, workflow_name, node_name, parent_name, context_id, execution_order, start_ns, end_ns,
            duration_ms, input_data, output_data, user_id, session_id, model, prompt_tokens, completion_tokens,
            total_tokens, cost_usd, contain_generation, metadata, node_type, error, level, media,
            time_to_first_token_ms, cached_tokens, reasoning_tokens, span, parent_span, tags,
        ) = record  # fmt: skip
        if type(start_ns) is str or type(end_ns) is str:
            start_ns, end_ns, metadata = _times(start_ns, end_ns, metadata)
        if duration_ms is None and start_ns is not None and end_ns is not None:
            duration_ms = (end_ns - start_ns) / 1e6
        status = NODE_RUNNING if kind == NODE_START else NODE_ERROR if error or level == "ERROR" else NODE_OK
        as_json = to_faithful_json if may_hold_odd_values(payload) else to_json
        values = [
            0,
            None if input_data is None else as_json(input_data),
            None if output_data is None else as_json(output_data),
            None if metadata is None else as_json(metadata),
            None if media is None else as_json(media),
        ]
        if request_id == self._last_id and journal_id == self._last_journal:
            entry = self._last
        else:
            entry = self._entry(request_id, journal_id)
        entry.identify(workflow_name, user_id, session_id)
        entry.span_times(start_ns, end_ns)
        if kind != NODE_START:
            if total_tokens is not None or prompt_tokens is not None or completion_tokens is not None:
                entry.add_tokens(prompt_tokens, completion_tokens, total_tokens)
            if cost_usd is not None:
                entry.cost_usd = (entry.cost_usd or 0.0) + cost_usd
            if status == NODE_ERROR:
                entry.error_count += 1
        if tags:
            self.new_tags += [(tag, entry.id) for tag in entry.add_tags(tags)]
        row = [
            0, entry.id, node_name, parent_name, context_id, execution_order, status, start_ns, end_ns, duration_ms,
            node_type, level, model, prompt_tokens, completion_tokens, total_tokens, cached_tokens, reasoning_tokens,
            cost_usd, time_to_first_token_ms, 1 if contain_generation else 0, error, span, parent_span,
        ]  # fmt: skip
        if kind == NODE_END and self._end(row, values):
            entry.open_nodes -= 1
            if not entry.open_nodes and entry.status != RUNNING:
                self._settle(entry)
            return
        if kind == NODE_END and span is not None and self._end_left(entry, row, values):
            return
        self._insert(row, values, entry)
        if kind == NODE_START and span is not None:
            self.started[span] = (row, values)
            entry.open_nodes += 1
            entry.journals.add(journal_id)  # also of a complete request: when the process dies, this node has ended

    def _settle(self, entry: RequestEntry) -> None:
        """Nothing of a request is open: no journal's end means anything to it."""
        entry.journals.clear()
        self.settled.append(entry.id)

    def _insert(self, row: list[Any], values: list[Any], entry: RequestEntry) -> None:
        row[0] = values[0] = self.next_node_id
        self.next_node_id += 1
        entry.node_count += 1
        self.nodes.append(row)
        # The end of a node that begins here may still fill these in, so a start always gets its row.
        if values[1] is not None or values[2] is not None or values[1:] != _NO_VALUES or row[_STATUS] == NODE_RUNNING:
            self.payloads.append(values)

    def _end(self, row: list[Any], values: list[Any]) -> bool:
        """Join an end to its start. False if no start is known: then the end is the whole node."""
        span = row[_SPAN]
        begun = self.started.pop(span, None)
        if begun is not None:
            node, payload = begun
            node[ENDED_COLUMNS] = _filled_in(node[ENDED_COLUMNS], row[ENDED_COLUMNS])
            payload[1:] = _filled_in(payload[1:], values[1:])
            if node[_DURATION] is None and node[_START] is not None and node[_END] is not None:
                node[_DURATION] = (node[_END] - node[_START]) / 1e6
            return True
        node_id = self._open_nodes.get(span)
        if node_id is None or span in self.ended:
            return False
        self._end_stored(node_id, span, row, values)
        return True

    def _end_left(self, entry: RequestEntry, row: list[Any], values: list[Any]) -> bool:
        """End a node that is stored as interrupted: it began in a process that is gone, and goes on in its child."""
        span = row[_SPAN]
        left = [node_id for node_id in self._left_nodes(entry.id, span) if node_id not in self._ended_left]
        if not left:
            return False
        self._ended_left.add(left[0])
        self._end_stored(left[0], span, row, values)
        return True

    def _end_stored(self, node_id: int, span: int, row: list[Any], values: list[Any]) -> None:
        self.ended.add(span)
        row[0] = values[0] = node_id
        self.ended_nodes.append(row)
        self.ended_payloads.append(values)

    def _start_request(self, record: list[Any], journal_id: str) -> None:
        _, request_id, workflow_name, user_id, session_id, start_time, tags, tracers = record
        due = [_tracer(*(list(tracer) + [None] * 5)[:5]) for tracer in tracers or ()]
        entry = self._entry(request_id, journal_id)
        entry.identify(text(workflow_name), text(user_id), text(session_id))
        entry.span_times(to_ns(start_time), None)
        self.new_tags += [(tag, entry.id) for tag in entry.add_tags(tags)]
        if due:
            entry.tracers = to_faithful_json(due)

    def _due_to_all(self, entry: RequestEntry, journal_id: str) -> None:
        """A request that began with several tracers is due to each as soon as it is complete for one: its process may
        die before it says so for the others.
        """
        tracers = _decode_json(entry.tracers) if entry.tracers else []
        if len(tracers) > 1:
            self.due += [
                Due(entry, name, kind, to_faithful_json(config) or "{}", target, policy, journal_id)
                for name, kind, config, target, policy in tracers
            ]

    def _complete_request(self, record: list[Any], journal_id: str) -> None:
        (
            _, request_id, tracer_type, tracer_config, tags, tracer_name, workflow_name, user_id, session_id, status,
            error, end_time, target, policy,
        ) = record  # fmt: skip
        entry = self._entry(request_id, journal_id)
        entry.identify(text(workflow_name), text(user_id), text(session_id))
        entry.status, entry.marked = status if status in _ENDED else COMPLETED, 1
        entry.span_times(None, to_ns(end_time))
        if entry.end_ns is None:
            entry.end_ns = self._now_ns
        if error is not None:
            entry.error = text(error)
        self.new_tags += [(tag, entry.id) for tag in entry.add_tags(tags)]
        if not entry.open_nodes:
            self._settle(entry)
        name, kind, config, target, policy = _tracer(tracer_name, tracer_type, tracer_config, target, policy)
        self._due_to_all(entry, journal_id)
        self.due.append(Due(entry, name, kind, to_faithful_json(config) or "{}", target, policy, journal_id))


def _filled_in(old: list[Any], new: list[Any]) -> list[Any]:
    return [mine if yours is None else yours for mine, yours in zip(old, new, strict=True)]


def _tracer(
    name: object, kind: object, config: object, target: object, policy: object
) -> tuple[str, str, Any, str, Any]:
    """A tracer as the ledger holds it: its name and type are never missing."""
    type_name = text(kind) or LOCAL_TRACER
    return text(name) or type_name, type_name, config or {}, text(target) or "", policy


def _fitted(record: list[Any]) -> tuple[Any, ...]:
    """A node record whose fields are not all of their types: each becomes what its column can hold.

    What cannot be made so is kept as it was given, in the metadata under `hush.<field>`.
    """
    width = len(NODE_FIELDS) + 1
    fitted = (record + [None] * width)[:width]
    misfits = {}
    for at, name in enumerate(NODE_FIELDS, start=1):
        convert = _CONVERT.get(_FIELD_TYPES[name], to_ns if name in ("start_time", "end_time") else None)
        if convert is None or fitted[at] is None:
            continue
        given, fitted[at] = fitted[at], convert(fitted[at])
        if fitted[at] is None:
            misfits[f"hush.{name}"] = given
    if fitted[1] is None:
        fitted[1] = ""  # a record with no request is kept too, under a request with no name
    fitted[_METADATA] = _with_misfits(fitted[_METADATA], misfits)
    return tuple(fitted)


_METADATA: Final = NODE_FIELDS.index("metadata") + 1


def _times(start: object, end: object, metadata: object) -> tuple[int | None, int | None, object]:
    """Times given as text, as nanoseconds; text that is no time is kept in the metadata."""
    start_ns, end_ns = to_ns(start), to_ns(end)
    if start_ns is not None and end_ns is not None:
        return start_ns, end_ns, metadata
    misfits = {}
    if start_ns is None and start is not None:
        misfits["hush.start_time"] = start
    if end_ns is None and end is not None:
        misfits["hush.end_time"] = end
    return start_ns, end_ns, _with_misfits(metadata, misfits)


def _with_misfits(metadata: object, misfits: dict[str, object]) -> object:
    if not misfits:
        return metadata
    return {**metadata, **misfits} if isinstance(metadata, dict) else {"metadata": metadata, **misfits}
