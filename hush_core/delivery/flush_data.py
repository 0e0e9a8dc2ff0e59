"""What a tracer's `flush` is given: one finished request as plain JSON types, nodes in the order of the tree.

`build` is pure and gives the same for the same rows, in every attempt, process and version of Python: the ids come from
the request's id and what a node says of itself, never from row numbers, the clock or chance; ids that another tracing
system gave are kept as they are. So a backend that has seen a request can tell that it is sent again. `load` reads the
rows. Nothing here recurses: a chain of any depth is welcome.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable
from hashlib import sha256
from typing import Any, Final, NamedTuple

import msgspec

from hush_core.model import GIVEN_IDS, NODE_ERROR, NODE_INTERRUPTED, NODE_OK, NODE_RUNNING
from hush_core.store.queries.nodes import load_nodes
from hush_core.store.queries.requests import REQUEST_COLUMNS, to_request
from hush_core.store.stored import StoredNode, StoredRequest, iso_time
from hush_core.store.tree import Branch, Iteration, Part, walk
from hush_core.store.tree import build as build_tree
from hush_core.tracers.flush_data import FlushData as FlushData
from hush_core.tracers.flush_data import NodeData as NodeData

#: The `node_type` of a node that stands for one turn of a loop.
ITERATION: Final = "iteration"


class Tracer(NamedTuple):
    """Whom a request is for."""

    name: str
    type: str
    config: dict[str, Any]  #: references resolved


def load(connection: sqlite3.Connection, row: int) -> tuple[StoredRequest, list[StoredNode]] | None:
    """A request and its nodes with their payloads, by its row; None when it is stored no longer."""
    nodes = load_nodes(connection, row, payloads=True)
    # After the nodes: requests are pruned whole, so if it is there now, so were all of them.
    found = connection.execute(f"SELECT {REQUEST_COLUMNS} FROM request r WHERE r.id = ?", (row,)).fetchone()
    return None if found is None else (to_request(found), nodes)


def payload_size(connection: sqlite3.Connection, row: int) -> int:
    """About how many characters of payload a request has, without taking them into memory."""
    (size,) = connection.execute(
        "SELECT coalesce(sum(coalesce(length(p.input_data), 0) + coalesce(length(p.output_data), 0)"
        " + coalesce(length(p.metadata), 0) + coalesce(length(p.media), 0)), 0)"
        " FROM node n JOIN node_payload p ON p.node = n.id WHERE n.request = ?",
        (row,),
    ).fetchone()
    return int(size)


def build(request: StoredRequest, nodes: Iterable[StoredNode], tracer: Tracer, attempt: int = 1) -> FlushData:
    """What `flush` is given of a stored request and its nodes."""
    tree = build_tree(nodes)
    return FlushData(
        request_id=request.request_id,
        trace_id=_given_trace_id(tree) or _hex(request.request_id, 16),
        workflow_name=request.workflow_name,
        user_id=request.user_id,
        session_id=request.session_id,
        tags=request.tags,
        tracer_name=tracer.name,
        tracer_type=tracer.type,
        tracer_config=tracer.config,
        status=request.status,
        start_time=request.start_time,
        end_time=request.end_time,
        attempt=attempt,
        nodes=_nodes(tree, _Ids(request.request_id)),
    )


# -- ids --------------------------------------------------------------------------------------------------------------


def _hex(seed: str, size: int) -> str:
    return sha256(seed.encode(errors="surrogatepass")).digest()[:size].hex()


_text: Final = msgspec.json.Encoder().encode


class _Given(NamedTuple):
    """The ids that another tracing system gave a node, in hex."""

    trace_id: str
    span_id: str
    parent_span_id: str | None


#: The ids of W3C trace context: all zeros stand for none.
_TRACE_ID: Final = re.compile(r"(?!0{32})[0-9a-f]{32}")
_SPAN_ID: Final = re.compile(r"(?!0{16})[0-9a-f]{16}")


def _given(node: StoredNode) -> _Given | None:
    """What `TraceStore.begin_span` was told; None for what looks like it in the metadata of anything else."""
    ids = node.metadata.get(GIVEN_IDS) if isinstance(node.metadata, dict) else None
    if node.span is None or not isinstance(ids, dict):
        return None
    trace_id, span_id = _fitting(_TRACE_ID, ids.get("trace_id")), _fitting(_SPAN_ID, ids.get("span_id"))
    if trace_id is None or span_id is None or span_id != node.span.to_bytes(8, "big", signed=True).hex():
        return None
    return _Given(trace_id, span_id, _fitting(_SPAN_ID, ids.get("parent_span_id")))


def _fitting(pattern: re.Pattern[str], value: object) -> str | None:
    return value if isinstance(value, str) and pattern.fullmatch(value) else None


def _given_trace_id(tree: list[Part]) -> str | None:
    """That of the first node that was given one: all nodes of a request have the same."""
    nodes = (part.node for _, part in walk(tree) if isinstance(part, Branch))
    return next((given.trace_id for node in nodes if (given := _given(node)) is not None), None)


class _Ids:
    """The ids of one request's spans: of the request's id and a key that a node keeps in every copy of the database."""

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id
        self._seen: dict[tuple[Any, ...], int] = {}

    def of_node(self, node: StoredNode, given: _Given | None) -> str:
        """The one that it was given. Else by its span, which is there once for all; else by what it says of itself. Of
        equals, by which one it is.
        """
        key: tuple[Any, ...]
        if node.span is not None:
            key = ("span", node.span)
        else:
            key = ("node", node.node_name, node.context_id, node.execution_order, node.start_ns)
        nth = self._seen[key] = self._seen.get(key, -1) + 1
        return given.span_id if given is not None and nth == 0 else self._id(key, nth)

    def of_turn(self, parent_span_id: str | None, context_id: str) -> str:
        """Of a turn of a loop, which no record names: by where it is. There is one at each place."""
        return self._id(("turn", parent_span_id, context_id), 0)

    def _id(self, key: tuple[Any, ...], nth: int) -> str:
        # JSON keeps apart what a joining character could confuse: ("a|b", "c") and ("a", "b|c").
        return sha256(_text((self._request_id, *key, nth))).digest()[:8].hex()


# -- nodes ------------------------------------------------------------------------------------------------------------


def _nodes(roots: list[Part], ids: _Ids) -> list[NodeData]:
    """The tree as a list, parents before children, siblings in their order."""
    found: list[NodeData] = []
    turns: list[tuple[NodeData, list[NodeData]]] = []
    stack: list[tuple[Part, NodeData | None, list[NodeData] | None]] = [(part, None, None) for part in reversed(roots)]
    while stack:
        part, parent, siblings = stack.pop()
        parent_id = None if parent is None else parent["span_id"]
        inner: list[NodeData] | None = None
        if isinstance(part, Branch):
            given = _given(part.node)
            if given is not None and parent is None:
                parent_id = given.parent_span_id  # it was called by another process
            data = _of_node(part.node, ids.of_node(part.node, given), parent_id)
        else:
            inner = []
            data = _of_turn(part, ids.of_turn(parent_id, part.context_id), parent)
            turns.append((data, inner))
        found.append(data)
        if siblings is not None:
            siblings.append(data)
        stack.extend((each, data, inner) for each in reversed(part.parts))
    for data, inner in reversed(turns):  # the inner ones first: a turn is as its turns are
        data["status"] = _worst(each["status"] for each in inner)
    return found


def _of_node(node: StoredNode, span_id: str, parent_span_id: str | None) -> NodeData:
    return NodeData(
        span_id=span_id,
        parent_span_id=parent_span_id,
        node_name=node.node_name,
        node_type=node.node_type,
        parent_name=node.parent_name,
        context_id=node.context_id,
        execution_order=node.execution_order,
        start_time=iso_time(node.start_ns),
        end_time=iso_time(node.end_ns),
        duration_ms=node.duration_ms,
        status=node.status,
        level=node.level,
        error=node.error,
        input_data=node.input_data,
        output_data=node.output_data,
        metadata=node.metadata,
        media=node.media,
        model=node.model,
        prompt_tokens=node.prompt_tokens,
        completion_tokens=node.completion_tokens,
        total_tokens=node.total_tokens,
        cached_tokens=node.cached_tokens,
        reasoning_tokens=node.reasoning_tokens,
        cost_usd=node.cost_usd,
        time_to_first_token_ms=node.time_to_first_token_ms,
        contain_generation=node.contain_generation,
    )


def _of_turn(turn: Iteration, span_id: str, parent: NodeData | None) -> NodeData:
    """A turn of a loop: the sums and times over all that ran in it, which the tree has worked out.

    Its tokens and cost are those of the nodes under it once more: who adds up a request leaves such nodes out.
    """
    return NodeData(
        span_id=span_id,
        parent_span_id=None if parent is None else parent["span_id"],
        node_name=f"iteration{turn.label}",
        node_type=ITERATION,
        parent_name=None if parent is None else parent["node_name"],
        context_id=turn.context_id,
        execution_order=None,
        start_time=iso_time(turn.start_ns),
        end_time=iso_time(turn.end_ns),
        duration_ms=turn.duration_ms,
        status=NODE_OK,
        level=None,
        error=None,
        input_data=None,
        output_data=None,
        metadata=None,
        media=None,
        model=None,
        prompt_tokens=turn.prompt_tokens,
        completion_tokens=turn.completion_tokens,
        total_tokens=turn.total_tokens,
        cached_tokens=None,
        reasoning_tokens=None,
        cost_usd=turn.cost_usd,
        time_to_first_token_ms=None,
        contain_generation=False,
    )


def _worst(statuses: Iterable[str]) -> str:
    found = set(statuses)
    return next((status for status in (NODE_ERROR, NODE_INTERRUPTED, NODE_RUNNING) if status in found), NODE_OK)
