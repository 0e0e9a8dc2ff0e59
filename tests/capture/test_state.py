"""A state says who a request is and where its loops are."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hush_core.capture.node import code_node
from hush_core.capture.place import current
from hush_core.capture.state import MOST_TAGS, MemoryState
from hush_core.capture.trace import Trace
from hush_core.model import REQUEST_START


@code_node
def rank(question: str = "") -> None: ...


def positions(recording: Any) -> list[str | None]:
    return [context_id for _, _, context_id in recording.tree()]


def test_a_state_has_what_engines_read() -> None:
    state = MemoryState("flow", user_id="u", session_id="s", tags=["a"])
    assert len(state.request_id) == 32
    assert int(state.request_id, 16) >= 0
    assert (state.workflow_name, state.user_id, state.session_id, state.tags) == ("flow", "u", "s", ["a"])
    assert (state.has_trace_store, state._trace_store) == (False, None)
    assert (state.execution_order, state.trace_metadata) == ([], {})


def test_two_states_have_ids_of_their_own() -> None:
    assert MemoryState().request_id != MemoryState().request_id


def test_tags_are_added_once_in_order() -> None:
    state = MemoryState(tags=["a"])
    state.add_tags(["b", "a"])
    state.add_tags("c")
    assert state.tags == ["a", "b", "c"]
    assert MemoryState(tags="alone").tags == ["alone"]


def test_nodes_in_a_loop_have_its_position(state: MemoryState, recording: Any) -> None:
    for question in state.loop(["a", "b"]):
        rank(question)
    rank("after")
    assert positions(recording) == ["[0]", "[1]", None]


def test_nested_loops_have_the_outer_position_first(state: MemoryState, recording: Any) -> None:
    for _ in state.loop(range(2)):
        for _ in state.loop(range(2)):
            rank()
        rank()
    assert positions(recording) == ["[0].[0]", "[0].[1]", "[0]", "[1].[0]", "[1].[1]", "[1]"]


def test_a_loop_inside_a_node_goes_on_from_the_nodes_position(state: MemoryState, recording: Any) -> None:
    @code_node
    def inner() -> None:
        for _ in state.loop("x"):
            rank()

    for _ in state.loop("ab"):
        inner()
    assert recording.tree() == [
        ("inner", None, "[0]"), ("rank", "inner", "[0].[0]"), ("inner", None, "[1]"), ("rank", "inner", "[1].[0]"),
    ]  # fmt: skip


def test_a_break_leaves_the_loop(state: MemoryState, recording: Any) -> None:
    for _ in state.loop("ab"):
        rank()
        break
    rank()
    assert positions(recording) == ["[0]", None]


def test_an_exception_leaves_the_loop(state: MemoryState, recording: Any) -> None:
    with pytest.raises(ValueError, match="no"):
        for _ in state.loop("ab"):
            raise ValueError("no")
    rank()
    assert positions(recording) == [None]


def test_a_return_out_of_two_loops_leaves_both(state: MemoryState, recording: Any) -> None:
    def search() -> None:
        for _ in state.loop("ab"):
            for _ in state.loop("ab"):
                return

    search()
    rank()
    assert positions(recording) == [None]


def test_a_loop_that_is_kept_half_way_is_left_when_the_outer_one_ends(state: MemoryState, recording: Any) -> None:
    kept = []
    for _ in state.loop("a"):
        inner = state.loop("ab")
        kept.append(inner)
        next(inner)
        rank()
    rank()
    assert positions(recording) == ["[0].[0]", None]


def test_a_loop_that_is_dropped_in_another_thread_changes_no_place_there(state: MemoryState) -> None:
    kept = [state.loop("ab")]
    next(kept[0])
    seen: list[Any] = []

    def drop() -> None:
        current.set(state.root)
        kept.clear()
        seen.append(current.get())

    thread = threading.Thread(target=drop)
    thread.start()
    thread.join()
    assert seen == [state.root]


def test_an_iteration_is_a_position_of_its_own(state: MemoryState, recording: Any) -> None:
    with state.iteration(3):
        rank()
        with state.iteration(1):
            rank()
    rank()
    assert positions(recording) == ["[3]", "[3].[1]", None]


def test_tasks_of_a_gather_are_iterations_that_do_not_mix(state: MemoryState, recording: Any) -> None:
    async def one(n: int) -> None:
        with state.iteration(n):
            await asyncio.sleep(0)
            rank(str(n))
            await asyncio.sleep(0)
            rank(str(n))

    async def main() -> None:
        await asyncio.gather(*map(one, range(3)))
        rank("after")

    asyncio.run(main())
    found = {(node["input_data"]["question"], node["context_id"]) for node in recording.nodes(2)}
    assert found == {("0", "[0]"), ("1", "[1]"), ("2", "[2]"), ("after", None)}


def test_tasks_that_are_started_in_a_loop_keep_its_position(state: MemoryState, recording: Any) -> None:
    async def later() -> None:
        await asyncio.sleep(0)
        rank()

    async def main() -> None:
        await asyncio.gather(*[asyncio.create_task(later()) for _ in state.loop("ab")])
        rank()

    asyncio.run(main())
    assert positions(recording) == ["[0]", "[1]", None]


def test_an_async_iterable_is_looped_over_too(state: MemoryState, recording: Any) -> None:
    async def pages() -> AsyncIterator[str]:
        for page in "ab":
            await asyncio.sleep(0)
            yield page

    async def main() -> None:
        async for page in state.loop(pages()):
            rank(page)
        rank("after")

    asyncio.run(main())
    assert positions(recording) == ["[0]", "[1]", None]


def test_a_loop_of_a_state_that_is_not_recorded_is_the_plain_loop(recording: Any) -> None:
    state = MemoryState("flow")
    seen = []
    for item in state.loop("ab"):
        with state.iteration(0):
            rank()
        seen.append((item, current.get()))
    assert seen == [("a", None), ("b", None)]
    assert recording.payloads == []


def test_the_present_place_is_the_node_that_runs_or_the_root(state: MemoryState) -> None:
    seen = []

    @code_node
    def look() -> None:
        seen.append(state.here)

    look()
    assert seen[0].name == "look"
    assert state.here is state.root
    assert MemoryState("other").here.span is None


class Hostile(str):
    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no comparison")

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("tags", "kept"),
    [
        (5, []),
        (["a", ["b"], {"c": 1}, "d"], ["a", "d"]),
        ([None, 7], []),
        ((1 / 0 for _ in "x"), []),
        ([Hostile("a"), Hostile("a"), "b"], ["a", "b"]),
    ],
)
def test_what_is_no_tag_is_reported_and_never_raised(store: Any, recording: Any, tags: Any, kept: list[str]) -> None:
    with Trace("flow", store=store, tracers=[], finish=lambda state: None, tags=tags, static_tags=["s"]) as state:
        assert state.tags == kept
    assert [doing for _, doing in recording.reported] == ([] if "b" in kept else ["adding tags"])
    (start,) = recording.records(REQUEST_START)
    assert start[6] == ["s", *kept]


def test_tags_without_end_are_cut_and_reported(state: MemoryState, recording: Any) -> None:
    state.add_tags(str(number) for number in itertools.count())
    assert state.tags == [str(number) for number in range(MOST_TAGS)]
    assert [str(problem) for problem, _ in recording.reported] == [f"request r has {MOST_TAGS} tags; more are left out"]
    recording.reported.clear()  # expected


def test_a_model_whose_truth_cannot_be_asked_reaches_the_trace_and_not_the_workflow(recording: Any, state: Any) -> None:
    class Unaskable:
        def __bool__(self) -> bool:
            raise RuntimeError("neither true nor false")

    @code_node
    def ask() -> dict[str, Any]:
        return {"answer": 1, "$model": Unaskable()}

    assert ask() == {"answer": 1}
