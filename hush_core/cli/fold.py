"""Folding: the turns of a loop, and many siblings of one name, become one line with a count and the slowest of them.

Pure: it takes the tree of `hush_core.store.tree` and gives lines to draw. Nothing here recurses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from hush_core.model import NODE_ERROR, NODE_INTERRUPTED, NODE_OK, NODE_RUNNING
from hush_core.store.stored import StoredNode
from hush_core.store.tree import Branch, Iteration, Part

#: From so many siblings of one name on, they are folded outside of loops too.
_MANY: Final = 5
_WORST_FIRST: Final = (NODE_ERROR, NODE_INTERRUPTED, NODE_RUNNING, NODE_OK)


class Line(msgspec.Struct):
    """One line of the drawn tree: a node, an iteration, or several of a kind folded into one."""

    name: str
    parts: list[Part]  #: what the line stands for; several if folded
    turns: bool  #: iterations and not nodes
    inner: list[Line] = []

    @property
    def is_folded(self) -> bool:
        return len(self.parts) > 1

    @property
    def nodes(self) -> list[StoredNode]:
        return [part.node for part in self.parts if isinstance(part, Branch)]

    @property
    def status(self) -> str:
        """The worst state among the line's own nodes."""
        found = {node.status for node in self.nodes}
        return next((status for status in _WORST_FIRST if status in found), NODE_OK)

    def count(self, status: str) -> int:
        """How many of the line's own nodes are in a state."""
        return sum(node.status == status for node in self.nodes)

    @property
    def duration_ms(self) -> float | None:
        """How long it took: turns of a loop by the clock, whether or not they ran at once; nodes added up."""
        return _clock_ms(self.parts) if self.turns else _sum(measured(part).duration_ms for part in self.parts)

    @property
    def total_tokens(self) -> int | None:
        total = _sum(measured(part).total_tokens for part in self.parts)
        return None if total is None else int(total)

    @property
    def cost_usd(self) -> float | None:
        return _sum(measured(part).cost_usd for part in self.parts)

    @property
    def slowest(self) -> Part:
        """Of several, the one that took longest."""
        return max(self.parts, key=lambda part: measured(part).duration_ms or 0.0)


def measured(part: Part) -> StoredNode | Iteration:
    """What holds a part's times, tokens and cost."""
    return part.node if isinstance(part, Branch) else part


def _clock_ms(parts: Iterable[Part]) -> float | None:
    """From the beginning of a loop's first turn to the end of its last, added up over all loops."""
    loops: dict[str, list[Iteration]] = {}
    for turn in parts:
        if isinstance(turn, Iteration):
            loops.setdefault(turn.context_id.removesuffix(turn.label), []).append(turn)
    return _sum(_one_clock_ms(turns) for turns in loops.values())


def _one_clock_ms(turns: list[Iteration]) -> float | None:
    starts = [turn.start_ns for turn in turns if turn.start_ns is not None]
    ends = [turn.end_ns for turn in turns if turn.end_ns is not None]
    return (max(ends) - min(starts)) / 1e6 if starts and ends else _sum(turn.duration_ms for turn in turns)


def _sum(values: Iterable[float | None]) -> float | None:
    """A sum of what is known; None if nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def fold(roots: Iterable[Part], *, unfold: bool = False) -> list[Line]:
    """The lines of a tree; with ``unfold``, one for each node and each iteration."""
    top: list[Line] = []
    work: list[tuple[list[Line], list[Part], bool]] = [(top, list(roots), False)]
    while work:
        place, parts, merged = work.pop()
        for line in _lines(parts, merged, unfold):
            place.append(line)
            inner = [part for each in line.parts for part in each.parts]
            work.append((line.inner, inner, line.is_folded))
    return top


def _lines(parts: list[Part], merged: bool, unfold: bool) -> list[Line]:
    """Siblings as lines: all turns are one; nodes of a name are one if they are many, or if their parents are."""
    lines: list[Line] = []
    if unfold:
        return [Line(_name(part), [part], isinstance(part, Iteration)) for part in parts]
    of_kind: dict[str | None, Line] = {}
    sizes: dict[str | None, int] = {}
    for part in parts:
        sizes[_kind(part)] = sizes.get(_kind(part), 0) + 1
    for part in parts:
        kind = _kind(part)
        together = merged or kind is None or sizes[kind] >= _MANY
        line = of_kind.get(kind) if together else None
        if line is None:
            line = Line(_name(part), [], isinstance(part, Iteration))
            lines.append(line)
            of_kind[kind] = line
        line.parts.append(part)
    return lines


def _kind(part: Part) -> str | None:
    """What is folded together: None for the turns of a loop, else the node's name."""
    return None if isinstance(part, Iteration) else _name(part)


def _name(part: Part) -> str:
    return f"iteration{part.label}" if isinstance(part, Iteration) else part.node.node_name or "(no name)"


def flatten(lines: Iterable[Line]) -> Iterator[tuple[tuple[bool, ...], Line]]:
    """Each line with, for every level around it and its own, whether more follow on that level."""
    stack: list[tuple[tuple[bool, ...], Line]] = []

    def push(around: tuple[bool, ...], siblings: list[Line]) -> None:
        last = len(siblings) - 1
        stack.extend(((*around, at < last), line) for at, line in reversed(list(enumerate(siblings))))

    push((), list(lines))
    while stack:
        around, line = stack.pop()
        yield around, line
        push(around, line.inner)
