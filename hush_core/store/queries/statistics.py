"""How many, how long, how much: requests, nodes and models summed up, with exact percentiles.

The requests are read newest first and in pages, so that a bound on how much is read leaves out the oldest, and the
writer's log is not held. SQLite adds up each page, and hands over its durations as packed doubles; only those of the
whole are sorted.
"""

from __future__ import annotations

import sqlite3
import sys
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import msgspec

from hush_core.model import FAILED, INTERRUPTED, NODE_ERROR, NODE_INTERRUPTED, NODE_RUNNING, RUNNING
from hush_core.store.queries.reader import reading
from hush_core.store.queries.requests import RequestFilter, newest_rows

#: Requests and nodes in one read, which takes some 20 ms. A request with more nodes is one read.
_PAGE: Final = 25_000
_PAGE_REQUESTS: Final = 5000
_PICKED: Final = "r.id, r.recorded_ns, r.node_count"
_PERCENT: Final = (50, 95, 99)
#: Sums of a group, for `_Group.add`. A duration may be missing, or text that somebody else wrote.
_SUMS: Final = (
    "sum({t}.prompt_tokens), sum({t}.completion_tokens), sum({t}.total_tokens), sum({t}.cost_usd),"
    " packed({duration}) FILTER (WHERE typeof({duration}) = 'real')"
)
_REQUESTS: Final = f"""
SELECT r.workflow_name, count(*), sum(r.status = '{FAILED}'), sum(r.status = '{INTERRUPTED}'),
    sum(r.status = '{RUNNING}'), 0, {_SUMS.format(t="r", duration="(r.end_ns - r.start_ns) / 1e6")}
FROM request r WHERE r.id IN ({{ids}}) GROUP BY r.workflow_name"""
# The requests first: there is no index from a node's name, and one is not worth what it would cost each node.
_NODES: Final = f"""
SELECT r.workflow_name, n.node_name, n.model, count(*), sum(n.status = '{NODE_ERROR}'),
    sum(n.status = '{NODE_INTERRUPTED}'), sum(n.status = '{NODE_RUNNING}'),
    sum(n.cost_usd IS NULL AND coalesce(n.model, n.total_tokens) IS NOT NULL),
    {_SUMS.format(t="n", duration="n.duration_ms")}
FROM request r CROSS JOIN node n ON n.request = r.id WHERE r.id IN ({{ids}})
GROUP BY r.workflow_name, n.node_name, n.model"""


class Figures(msgspec.Struct, kw_only=True):
    """What is known of the requests of a workflow, the nodes of a name, or the calls of a model."""

    workflow_name: str | None = None
    node_name: str | None = None
    model: str | None = None
    count: int
    errors: int  #: of requests: those that failed
    interrupted: int  #: whose process ended before they did
    running: int
    unpriced: int  #: nodes with a model or tokens whose cost is not known; it is in no sum
    prompt_tokens: int | None  #: sums; None when nothing is known, which is not 0
    completion_tokens: int | None
    total_tokens: int | None
    cost_usd: float | None
    p50_ms: float | None  #: that many percent took at most so long: always a duration that was measured
    p95_ms: float | None
    p99_ms: float | None


class Statistics(msgspec.Struct, kw_only=True):
    """The figures of some requests."""

    requests: int
    nodes: int
    oldest_ns: int | None  #: when the store first saw the oldest and the newest of them
    newest_ns: int | None
    is_whole: bool  #: whether it is all that meet the conditions, and not only the newest
    workflows: list[Figures]  #: each list with the most frequent first, of those the slowest
    nodes_by_name: list[Figures]
    models: list[Figures]


def load_statistics(
    db_path: Path | str,
    wanted: RequestFilter,
    *,
    most: int | None = None,
    progress: Callable[[int], None] = lambda requests: None,
) -> Statistics:
    """Sum up the requests that meet the conditions.

    :param most: read only the newest of them, so many requests and nodes together.
    :param progress: called after each page with how many requests have been read.

    Raises StoreError as `open_reader`.
    """
    found = _Found()
    with reading(db_path) as connection:
        connection.create_aggregate("packed", 1, _Packed)  # type: ignore[arg-type]  # it knows only sums of integers
        left = sys.maxsize if most is None else most
        while rows := newest_rows(connection, wanted, _PICKED, limit=_PAGE_REQUESTS, before=found.place):
            if found.requests and _size(rows[0]) > left:
                return found.statistics(is_whole=False)
            page = _fitting(rows, min(left, _PAGE))
            found.add(connection, page)
            left -= sum(map(_size, page))
            progress(found.requests)
    return found.statistics(is_whole=True)


def _size(row: tuple[Any, ...]) -> int:
    """How much there is to read of a request: itself and its nodes."""
    return 1 + int(row[2])


def _fitting(rows: list[Any], most: int) -> list[Any]:
    """The first of the requests that are so much together, at least one."""
    total = 0
    for at, row in enumerate(rows):
        total += _size(row)
        if total > most and at:
            return rows[:at]
    return rows


class _Packed:
    """An aggregate function of SQLite: the doubles of a group, packed."""

    def __init__(self) -> None:
        values: list[float] = []
        self.step = values.append  # called for each row: nothing may stand between
        self._values = values

    def finalize(self) -> bytes:
        return array("d", self._values).tobytes()


class _Found:
    """The figures of the pages that have been read."""

    def __init__(self) -> None:
        self.requests = self.nodes = 0
        self.place: tuple[int, int] | None = None  #: of the oldest request that has been read
        self._newest_ns: int | None = None
        self._workflows: defaultdict[str | None, _Group] = defaultdict(_Group)
        self._nodes: defaultdict[tuple[str | None, str | None], _Group] = defaultdict(_Group)
        self._models: defaultdict[str, _Group] = defaultdict(_Group)

    def add(self, connection: sqlite3.Connection, page: list[Any]) -> None:
        ids = ", ".join(str(row[0]) for row in page)
        for workflow, *sums in connection.execute(_REQUESTS.format(ids=ids)).fetchall():
            self._workflows[workflow].add(sums)
        for workflow, node, model, *sums in connection.execute(_NODES.format(ids=ids)).fetchall():
            self.nodes += sums[0]
            self._nodes[workflow, node].add(sums)
            self._workflows[workflow].unpriced += sums[4]
            if model is not None:
                self._models[model].add(sums)
        if self._newest_ns is None:
            self._newest_ns = page[0][1]
        self.requests += len(page)
        self.place = (page[-1][1], page[-1][0])

    def statistics(self, *, is_whole: bool) -> Statistics:
        workflows = [group.figures(workflow_name=name) for name, group in self._workflows.items()]
        nodes = [group.figures(workflow_name=of, node_name=name) for (of, name), group in self._nodes.items()]
        models = [group.figures(model=name) for name, group in self._models.items()]
        return Statistics(
            requests=self.requests,
            nodes=self.nodes,
            oldest_ns=None if self.place is None else self.place[0],
            newest_ns=self._newest_ns,
            is_whole=is_whole,
            workflows=_most_frequent_first(workflows),
            nodes_by_name=_most_frequent_first(nodes),
            models=_most_frequent_first(models),
        )


class _Group:
    """One line of figures while it is being added up."""

    def __init__(self) -> None:
        self._counts = [0] * 4
        self.unpriced = 0
        self._sums: list[Any] = [None] * 4
        self._durations = array("d")

    def add(self, row: list[Any]) -> None:
        """Add what SQLite made of a page: counts, sums that may be missing, packed durations."""
        self._counts = [old + new for old, new in zip(self._counts, row[:4], strict=True)]
        self.unpriced += row[4]
        self._sums = [old if new is None else (old or 0) + new for old, new in zip(self._sums, row[5:9], strict=True)]
        if row[9] is not None:
            self._durations.frombytes(row[9])

    def figures(self, **names: str | None) -> Figures:
        count, errors, interrupted, running = self._counts
        prompt, completion, total, cost = self._sums
        p50, p95, p99 = percentiles(self._durations)
        return Figures(
            **names,
            count=count, errors=errors, interrupted=interrupted, running=running, unpriced=self.unpriced,
            prompt_tokens=prompt, completion_tokens=completion, total_tokens=total,
            cost_usd=None if cost is None else round(cost, 12),  # what adding up binary fractions leaves
            p50_ms=p50, p95_ms=p95, p99_ms=p99,
        )  # fmt: skip


def percentiles(values: Iterable[float]) -> list[float | None]:
    """The smallest of the values that 50, 95 and 99 percent of them do not exceed; None of none."""
    ordered = sorted(values)
    return [ordered[-(-len(ordered) * percent // 100) - 1] if ordered else None for percent in _PERCENT]


def _most_frequent_first(figures: list[Figures]) -> list[Figures]:
    def rank(each: Figures) -> tuple[Any, ...]:
        return (-each.count, -(each.p95_ms or 0.0), each.workflow_name or "", each.node_name or "", each.model or "")

    return sorted(figures, key=rank)
