"""Who encloses whom: by span, by name and loop position, by time; and the iterations made from loop positions."""

from __future__ import annotations

import time
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hush_core.store.stored import StoredNode
from hush_core.store.tree import Branch, Iteration, build, order, walk

MS = 1_000_000


def node(
    number: int, name: str | None, parent: str | None = None, context: str | None = None, **more: Any
) -> StoredNode:
    at = more.pop("at", number)
    lasts = more.pop("lasts", 1)
    values: dict[str, Any] = dict.fromkeys(StoredNode.__struct_fields__)
    values |= {
        "id": number,
        "node_name": name,
        "parent_name": parent,
        "context_id": context,
        "execution_order": number,
        "status": "ok",
        "contain_generation": False,
        "start_ns": None if at is None else at * MS,
        "end_ns": None if at is None or lasts is None else (at + lasts) * MS,
        "duration_ms": lasts,
        **more,
    }
    return StoredNode(**values)


def drawn(nodes: list[StoredNode]) -> list[str]:
    """The tree as indented lines."""
    return [
        "  " * depth + (part.node.node_name or "?" if isinstance(part, Branch) else f"iteration{part.label}")
        for depth, part in walk(build(nodes))
    ]


def test_children_stand_under_the_node_that_their_parent_name_means() -> None:
    nodes = [
        node(0, "flow", lasts=9),
        node(1, "split", "flow"),
        node(2, "rank", "flow", lasts=5),
        node(3, "score", "rank"),
    ]
    assert drawn(nodes) == ["flow", "  split", "  rank", "    score"]


def test_a_span_says_the_parent_where_names_are_ambiguous() -> None:
    nodes = [
        node(0, "f", span=100, lasts=9),
        node(1, "f", "f", span=101, parent_span=100, lasts=8),
        node(2, "f", "f", span=102, parent_span=101),
        node(3, "g", "f", span=103, parent_span=100),
    ]
    assert drawn(nodes) == ["f", "  f", "    f", "  g"]


def test_a_span_that_is_not_there_leaves_it_to_the_name() -> None:
    assert drawn([node(0, "flow"), node(1, "split", "flow", parent_span=77)]) == ["flow", "  split"]


def test_of_two_namesakes_the_one_that_was_running_is_the_parent() -> None:
    nodes = [
        node(0, "try", at=0, lasts=2),
        node(1, "try", at=10, lasts=9),
        node(2, "call", "try", at=11),
        node(3, "call", "try", at=1),
    ]
    assert [each.parent_id for each in sorted(order(nodes), key=lambda each: each.id)] == [None, None, 1, 0]


def test_of_two_namesakes_that_both_ran_the_later_is_the_parent() -> None:
    nodes = [node(0, "f", at=0, lasts=20), node(1, "f", at=5, lasts=20), node(2, "g", "f", at=6)]
    assert build(nodes)[1].parts[0].node.id == 2  # type: ignore[union-attr]


def test_a_parent_of_the_same_turn_comes_before_one_outside_of_it() -> None:
    nodes = [
        node(0, "answer", lasts=50),
        node(1, "answer", "answer", "[0]", lasts=3),
        node(2, "rank", "answer", "[0]"),
        node(3, "answer", "answer", "[1]", lasts=3, span=5),
        node(4, "rank", "answer", "[1]"),
        node(5, "rank", "answer", None),
    ]
    parents = {each.id: each.parent_id for each in order(nodes)}
    assert parents == {0: None, 1: 0, 2: 1, 3: 0, 4: 3, 5: 0}


def test_a_child_in_a_deeper_turn_finds_the_parent_around_it() -> None:
    nodes = [
        node(0, "loop", None, "[1]", lasts=9),
        node(1, "loop", None, "[0]", lasts=9),
        node(2, "step", "loop", "[1].[4]"),
    ]
    assert {each.id: each.parent_id for each in order(nodes)}[2] == 0


def test_a_parent_in_a_turn_of_its_own_is_better_than_none() -> None:
    assert drawn([node(0, "loop", None, "[3]"), node(1, "step", "loop")]) == ["iteration[3]", "  loop", "    step"]


def test_a_node_whose_parent_was_not_recorded_is_a_root() -> None:
    assert drawn([node(0, "step", "engine"), node(1, "more", "engine")]) == ["step", "more"]


def test_a_node_named_as_its_own_parent_is_a_root() -> None:
    assert drawn([node(0, "f", "f")]) == ["f"]


def test_nodes_that_name_each_other_are_all_there_once() -> None:
    lines = drawn([node(0, "a", "b"), node(1, "b", "c"), node(2, "c", "a"), node(3, "d", "c")])
    assert sorted(line.strip() for line in lines) == ["a", "b", "c", "d"]
    assert lines[0] == "a"


def test_a_parent_recorded_after_its_children_is_found() -> None:
    assert drawn([node(0, "step", "flow", at=5), node(1, "flow", at=0, lasts=9)]) == ["flow", "  step"]


def test_nodes_with_no_times_at_all_have_their_parents() -> None:
    nodes = [node(0, "flow", at=None), node(1, "step", "flow", at=None), node(2, "sub", "step", at=None)]
    assert drawn(nodes) == ["flow", "  step", "    sub"]


def test_children_are_in_execution_order_and_then_in_that_of_recording() -> None:
    nodes = [
        node(1, "flow", lasts=99),
        node(2, "late", "flow", execution_order=9),
        node(3, "early", "flow", execution_order=2),
        node(4, "none-a", "flow", execution_order=None),
        node(5, "none-b", "flow", execution_order=None),
        node(6, "same-a", "flow", execution_order=5),
        node(7, "same-b", "flow", execution_order=5),
    ]
    assert [line.strip() for line in drawn(nodes)[1:]] == ["early", "same-a", "same-b", "late", "none-a", "none-b"]


def test_turns_of_a_loop_are_grouped_under_their_parent() -> None:
    nodes = [node(0, "flow", lasts=99), node(1, "split", "flow")]
    nodes += [node(2 + n, "rank", "flow", f"[{n}]") for n in range(2)]
    nodes += [node(4, "score", "rank", "[1]")]
    assert drawn(nodes) == [
        "flow",
        "  split",
        "  iteration[0]",
        "    rank",
        "  iteration[1]",
        "    rank",
        "      score",
    ]


def test_a_loop_in_a_loop_is_grouped_twice() -> None:
    nodes = [node(0, "flow", lasts=99)]
    nodes += [node(1 + n, "rank", "flow", f"[{n // 2}].[{n % 2}]") for n in range(4)]
    assert drawn(nodes) == [
        "flow",
        "  iteration[0]",
        "    iteration[0]",
        "      rank",
        "    iteration[1]",
        "      rank",
        "  iteration[1]",
        "    iteration[0]",
        "      rank",
        "    iteration[1]",
        "      rank",
    ]


def test_a_loop_inside_a_node_of_a_loop_is_grouped_within_that_node() -> None:
    nodes = [node(0, "flow", lasts=99), node(1, "ask", "flow", "[0]", lasts=9), node(2, "call", "ask", "[0].[1]")]
    assert drawn(nodes) == ["flow", "  iteration[0]", "    ask", "      iteration[1]", "        call"]


def test_an_iteration_sums_tokens_and_cost_of_all_in_it() -> None:
    nodes = [
        node(0, "flow", lasts=99, total_tokens=1000),
        node(1, "ask", "flow", "[0]", at=10, lasts=20, prompt_tokens=3, total_tokens=4, cost_usd=0.5),
        node(2, "call", "ask", "[0]", at=12, lasts=3, total_tokens=6, cost_usd=0.25),
        node(3, "note", "flow", "[0]", at=40, lasts=2),
        node(4, "ask", "flow", "[1]", at=50),
    ]
    turns = [part for _, part in walk(build(nodes)) if isinstance(part, Iteration)]
    assert [(turn.prompt_tokens, turn.total_tokens, turn.cost_usd) for turn in turns] == [
        (3, 10, 0.75),
        (None, None, None),
    ]
    assert [(turn.context_id, turn.start_ns, turn.duration_ms) for turn in turns] == [
        ("[0]", 10 * MS, 32),
        ("[1]", 50 * MS, 1),
    ]


def test_an_iteration_without_times_lasts_as_long_as_what_is_in_it() -> None:
    nodes = [node(n, "rank", None, "[0]", at=None, duration_ms=float(n)) for n in (2, 3)]
    [turn] = build(nodes)
    assert isinstance(turn, Iteration)
    assert turn.duration_ms == 5


def test_an_outer_iteration_sums_its_inner_ones() -> None:
    nodes = [node(n, "rank", None, f"[0].[{n}]", total_tokens=5) for n in range(3)]
    [outer] = build(nodes)
    assert isinstance(outer, Iteration)
    assert outer.total_tokens == 15


def test_a_chain_of_any_depth_is_built_and_walked() -> None:
    nodes = [node(n, f"n{n}", f"n{n - 1}", lasts=99_999) for n in range(5000)]
    assert max(depth for depth, _ in walk(build(nodes))) == 4999


def test_a_hundred_thousand_nodes_of_few_names_are_built_in_seconds() -> None:
    nodes = [node(0, "flow", lasts=999_999)]
    nodes += [
        node(n, "a" if n % 2 else "b", "flow" if n % 2 else "a", f"[{n // 2}]" if n % 3 else None)
        for n in range(1, 100_000)
    ]
    before = time.process_time()
    build(nodes)
    assert time.process_time() - before < 10


names = st.sampled_from(["a", "b", "c", None])
contexts = st.sampled_from([None, "", "[0]", "[1]", "[0].[0]", "[0].[1]", "loop", "."])
some = st.integers(0, 5)
any_node = st.builds(
    lambda name, parent, context, at, lasts, span, parent_span, rank: {
        "name": name, "parent": parent, "context": context, "at": at, "lasts": lasts, "span": span,
        "parent_span": parent_span, "execution_order": rank,
    },
    names, names, contexts, some | st.none(), some | st.none(), some | st.none(), some | st.none(), some | st.none(),
)  # fmt: skip


@given(st.lists(any_node, max_size=12))
def test_whatever_was_recorded_each_node_is_in_the_tree_once_behind_its_parent(recorded: list[dict[str, Any]]) -> None:
    nodes = [node(number, **values) for number, values in enumerate(recorded)]
    ordered = order(nodes)
    assert sorted(each.id for each in ordered) == list(range(len(nodes)))
    seen: set[int] = set()
    for each in ordered:
        assert each.parent_id is None or each.parent_id in seen
        seen.add(each.id)
