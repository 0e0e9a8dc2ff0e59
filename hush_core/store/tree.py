"""The tree of a request's nodes: who encloses whom, and which nodes ran in which iteration of a loop.

Pure: it takes nodes as they were recorded and gives the tree; the commands draw it, and delivery builds `flush_data`
from it. Nothing here recurses, so a chain of any depth is welcome.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Final, TypeAlias

import msgspec

from hush_core.store.stored import StoredNode

#: How far back to look for a namesake that was still running; beyond, the latest that began before is taken.
_LOOK_BACK: Final = 64


class Branch(msgspec.Struct):
    """A node, and what ran in it."""

    node: StoredNode
    parts: list[Part] = []


class Iteration(msgspec.Struct):
    """One turn of a loop, made from the `context_id` of the nodes that ran in it, with sums over them."""

    label: str  #: the last element of the position: "[2]"
    context_id: str  #: the whole position: "[0].[2]"
    parts: list[Part] = []
    start_ns: int | None = None
    end_ns: int | None = None
    duration_ms: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    cost_usd: float | None = None


Part: TypeAlias = "Branch | Iteration"


def order(nodes: Iterable[StoredNode]) -> list[StoredNode]:
    """The nodes in the order in which they ran, parents before children, each with its `parent_id` set."""
    return [part.node for _, part in walk(build(nodes)) if isinstance(part, Branch)]


def walk(roots: Iterable[Part]) -> Iterator[tuple[int, Part]]:
    """Each part with its depth, parents before children."""
    stack: list[tuple[int, Part]] = [(0, part) for part in reversed(list(roots))]
    while stack:
        depth, part = stack.pop()
        yield depth, part
        stack.extend((depth + 1, inner) for inner in reversed(part.parts))


def build(nodes: Iterable[StoredNode]) -> list[Part]:
    """The tree of one request's nodes; sets the `parent_id` of each.

    A parent is the node whose span the child names; where it names none, the node named `parent_name` that encloses it
    most nearly by loop position and time. A node whose parent is not there is a root, and so is one of each circle of
    nodes that name each other. Children are in the order of `execution_order`, then of recording.
    """
    ordered = sorted(nodes, key=_order)
    _resolve_parents(ordered)
    branches = {node.id: Branch(node) for node in ordered}
    roots: list[Part] = []
    iterations: dict[tuple[int | None, tuple[str, ...]], Iteration] = {}
    for node in ordered:
        parent = branches.get(node.parent_id) if node.parent_id is not None else None
        inside = _position(parent.node) if parent is not None else ()
        place = parent.parts if parent is not None else roots
        at = inside
        for label in _turns_within(_position(node), inside):
            at = (*at, label)
            key = (node.parent_id, at)
            if key not in iterations:
                iterations[key] = Iteration(label, ".".join(at))
                place.append(iterations[key])
            place = iterations[key].parts
        place.append(branches[node.id])
    if iterations:
        _sum_up(roots)
    return roots


def _order(node: StoredNode) -> tuple[bool, int, int]:
    return node.execution_order is None, node.execution_order or 0, node.id


def _position(node: StoredNode) -> tuple[str, ...]:
    """The elements of a loop position, the outermost first: ("[0]", "[2]") of "[0].[2]"."""
    return tuple(node.context_id.split(".")) if node.context_id else ()


def _turns_within(position: tuple[str, ...], inside: tuple[str, ...]) -> tuple[str, ...]:
    """The part of a position that the parent's does not have already; none if the child is not within it."""
    if position[: len(inside)] == inside:
        return position[len(inside) :]
    return () if inside[: len(position)] == position else position


# -- who encloses whom ------------------------------------------------------------------------------------------------


def _resolve_parents(ordered: list[StoredNode]) -> None:
    by_span = {node.span: node.id for node in ordered if node.span is not None}
    namesakes = _Namesakes(ordered)
    for node in ordered:
        parent = by_span.get(node.parent_span) if node.parent_span is not None else None
        if parent is None and node.parent_name is not None:
            parent = namesakes.enclosing(node)
        node.parent_id = parent if parent != node.id else None
    _break_circles(ordered)


class _Namesakes:
    """The nodes of each name and loop position, in the order in which they began."""

    def __init__(self, nodes: Iterable[StoredNode]) -> None:
        self._by_name: dict[str, list[StoredNode]] = {}
        self._by_place: dict[tuple[str, tuple[str, ...]], list[StoredNode]] = {}
        for node in sorted(nodes, key=_began):
            if node.node_name is not None:
                self._by_name.setdefault(node.node_name, []).append(node)
                self._by_place.setdefault((node.node_name, _position(node)), []).append(node)

    def enclosing(self, child: StoredNode) -> int | None:
        """The id of the node that the child's `parent_name` means: of the same turn, else of the nearest around it."""
        assert child.parent_name is not None
        position = _position(child)
        for length in range(len(position), -1, -1):
            found = _running_at_start(self._by_place.get((child.parent_name, position[:length]), []), child)
            if found is not None:
                return found
        return _running_at_start(self._by_name.get(child.parent_name, []), child)


def _began(node: StoredNode) -> tuple[int, int]:
    return node.start_ns or 0, node.id


def _running_at_start(candidates: list[StoredNode], child: StoredNode) -> int | None:
    """Of nodes in the order in which they began: the latest that ran when the child began, else the likeliest."""
    if not candidates:
        return None
    at = bisect_right(candidates, _began(child), key=_began)
    before = [node for node in candidates[max(at - _LOOK_BACK, 0) : at] if node is not child]
    for node in reversed(before):
        if child.start_ns is None or node.end_ns is None or node.end_ns >= child.start_ns:
            return node.id
    if before:
        return before[-1].id
    # The clock, or an engine that records parents after children: a later beginning is better than no parent.
    return next((node.id for node in candidates[at : at + 2] if node is not child), None)


def _break_circles(ordered: list[StoredNode]) -> None:
    """Make a root of one node in each circle of parents: the first that ran."""
    parent_of = {node.id: node.parent_id for node in ordered}
    sound: set[int] = set()
    for node in ordered:
        path: dict[int, None] = {}
        at: int | None = node.id
        while at is not None and at not in sound and at not in path:
            path[at] = None
            at = parent_of[at]
        if at is not None and at in path:
            parent_of[at] = None
        sound.update(path)
    for node in ordered:
        node.parent_id = parent_of[node.id]


# -- sums of iterations -----------------------------------------------------------------------------------------------


def _sum_up(roots: list[Part]) -> None:
    totals: dict[int, Iteration] = {}
    for _, part in reversed(list(walk(roots))):  # children before parents
        own = part if isinstance(part, Iteration) else Iteration("", "")
        totals[id(part)] = own
        _add_tokens(own, [totals.pop(id(inner)) for inner in part.parts])
        if isinstance(part, Branch):
            _add_tokens(own, [part.node])
        else:
            _set_times(part)


def _add_tokens(to: Iteration, parts: Iterable[StoredNode | Iteration]) -> None:
    for part in parts:
        to.prompt_tokens = _plus(to.prompt_tokens, part.prompt_tokens)
        to.completion_tokens = _plus(to.completion_tokens, part.completion_tokens)
        to.total_tokens = _plus(to.total_tokens, part.total_tokens)
        if part.cost_usd is not None:
            to.cost_usd = (to.cost_usd or 0.0) + part.cost_usd


def _plus(one: int | None, other: int | None) -> int | None:
    """A sum in which unknown counts as nothing, and which is unknown only if both are."""
    return one if other is None else (one or 0) + other


def _set_times(turn: Iteration) -> None:
    """From the first beginning to the last end in it; where no times were recorded, the sum of the durations."""
    inner = [part.node if isinstance(part, Branch) else part for part in turn.parts]
    starts = [part.start_ns for part in inner if part.start_ns is not None]
    ends = [part.end_ns for part in inner if part.end_ns is not None]
    durations = [part.duration_ms for part in inner if part.duration_ms is not None]
    turn.start_ns, turn.end_ns = min(starts, default=None), max(ends, default=None)
    if starts and ends:
        turn.duration_ms = (max(ends) - min(starts)) / 1e6
    elif durations:
        turn.duration_ms = sum(durations)
