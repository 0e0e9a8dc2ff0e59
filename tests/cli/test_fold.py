"""Folding: what becomes one line, and what that line says."""

from __future__ import annotations

from typing import Any

from hush_core.cli.fold import Line, flatten, fold, measured
from hush_core.store.stored import StoredNode
from hush_core.store.tree import build

MS = 1_000_000


def node(number: int, name: str, parent: str | None = None, context: str | None = None, **more: Any) -> StoredNode:
    lasts = more.pop("lasts", 1.0)
    values: dict[str, Any] = dict.fromkeys(StoredNode.__struct_fields__)
    values |= {
        "id": number, "node_name": name, "parent_name": parent, "context_id": context, "execution_order": number,
        "status": "ok", "contain_generation": False, "start_ns": number * MS, "end_ns": int((number + lasts) * MS),
        "duration_ms": lasts, **more,
    }  # fmt: skip
    return StoredNode(**values)


def drawn(lines: list[Line]) -> list[str]:
    return [
        "  " * (len(around) - 1) + (f"{len(line.parts)} turns" if line.turns else f"{line.name} x{len(line.parts)}")
        for around, line in flatten(lines)
    ]


LOOP = [
    node(0, "flow", lasts=100.0),
    *(node(1 + 2 * n, "rank", "flow", f"[{n}]", lasts=float(n)) for n in range(3)),
    *(node(2 + 2 * n, "read", "flow", f"[{n}]") for n in range(3)),
]


def test_the_turns_of_a_loop_are_one_line_and_so_are_namesakes_in_them() -> None:
    assert drawn(fold(build(LOOP))) == ["flow x1", "  3 turns", "    rank x3", "    read x3"]


def test_unfolded_each_turn_and_each_node_has_its_own_line() -> None:
    assert drawn(fold(build(LOOP), unfold=True)) == [
        "flow x1", "  1 turns", "    rank x1", "    read x1", "  1 turns", "    rank x1", "    read x1",
        "  1 turns", "    rank x1", "    read x1",
    ]  # fmt: skip


def test_a_single_turn_is_not_folded() -> None:
    lines = fold(build([node(0, "flow", lasts=9.0), node(1, "rank", "flow", "[0]")]))
    assert drawn(lines) == ["flow x1", "  1 turns", "    rank x1"]
    assert not lines[0].inner[0].is_folded


def test_few_siblings_of_a_name_stay_apart_and_many_are_folded() -> None:
    few = [node(0, "flow", lasts=99.0), *(node(1 + n, "try", "flow") for n in range(4))]
    assert drawn(fold(build(few))) == ["flow x1", *["  try x1"] * 4]
    many = [*few, node(9, "try", "flow"), node(10, "end", "flow")]
    assert drawn(fold(build(many))) == ["flow x1", "  try x5", "  end x1"]


def test_a_loop_in_a_loop_is_folded_twice() -> None:
    nodes = [node(0, "flow", lasts=99.0)]
    nodes += [node(1 + n, "score", "flow", f"[{n // 3}].[{n % 3}]") for n in range(6)]
    assert drawn(fold(build(nodes))) == ["flow x1", "  2 turns", "    6 turns", "      score x6"]


def test_a_folded_line_knows_its_sum_its_slowest_and_its_worst() -> None:
    nodes = [
        node(0, "rank", None, "[0]", lasts=2.0, total_tokens=5, cost_usd=0.25),
        node(3, "rank", None, "[1]", lasts=4.0, total_tokens=7, status="error"),
        node(8, "rank", None, "[2]", lasts=1.0),
    ]
    [turns] = fold(build(nodes))
    [rank] = turns.inner
    assert (rank.duration_ms, rank.total_tokens, rank.cost_usd) == (7.0, 12, 0.25)
    assert measured(rank.slowest).context_id == "[1]"
    assert (rank.status, rank.count("error"), rank.count("ok")) == ("error", 1, 2)


def test_turns_that_ran_at_once_take_as_long_as_the_clock_says() -> None:
    nodes = [node(0, "rank", None, "[0]", lasts=10.0), node(1, "rank", None, "[1]", lasts=10.0)]
    [turns] = fold(build(nodes))
    assert turns.duration_ms == 11.0
    assert turns.inner[0].duration_ms == 20.0


def test_the_turns_of_several_loops_add_up() -> None:
    nodes = [
        node(0, "flow", lasts=200.0),
        *(node(1 + 50 * n, "ask", "flow", f"[{n}]", lasts=9.0) for n in range(2)),
        *(node(2 + 50 * n + m, "call", "ask", f"[{n}].[{m}]") for n in range(2) for m in range(3)),
    ]
    turns = fold(build(nodes))[0].inner[0].inner[0].inner[0]
    assert turns.turns
    assert (len(turns.parts), turns.duration_ms) == (6, 6.0)


def test_what_is_not_known_is_not_zero() -> None:
    [line] = fold(build([node(0, "a", duration_ms=None, end_ns=None)]))
    assert (line.duration_ms, line.total_tokens, line.cost_usd) == (None, None, None)


def test_a_deep_tree_is_folded_without_recursion() -> None:
    nodes = [node(n, f"n{n}", f"n{n - 1}", lasts=9999.0) for n in range(3000)]
    assert len(list(flatten(fold(build(nodes))))) == 3000
