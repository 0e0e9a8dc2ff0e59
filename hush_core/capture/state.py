"""The state of one trace: who it is, where its records go, where its loops are."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from itertools import count, islice
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar, overload

from hush_core.capture.budget import name_of
from hush_core.capture.place import Place, current
from hush_core.interrupt import is_interrupt

if TYPE_CHECKING:
    from types import TracebackType

    from hush_core.store.trace_store import TraceStore

#: Of one request. A tag is a word to find requests by; whoever has more has taken data for tags.
MOST_TAGS: Final = 1000

T = TypeVar("T")
P = ParamSpec("P")


class MemoryState:
    """One request while it runs: its identity, its tags, the store that its nodes go to. `BaseTracer.trace` gives one.

    Safe to use from several threads and tasks. Nodes are not kept in it; `execution_order` and `trace_metadata` are for
    engines that keep their own traces there, see `BaseTracer.flush_in_background`.

    :param request_id: unique; 32 random hex digits if not given.
    :param trace_store: where nodes are recorded. Without one, `code_node` functions are plain functions.
    :param start_records: whether a node is recorded when it starts, too; as the settings say if not given.
    """

    def __init__(
        self,
        workflow_name: str = "",
        *,
        request_id: str | None = None,
        user_id: str | None = None,
        session_id: str | None = None,
        tags: Iterable[str] | None = None,
        trace_store: TraceStore | None = None,
        start_records: bool | None = None,
    ) -> None:
        self.workflow_name = workflow_name
        self.request_id = os.urandom(16).hex() if request_id is None else request_id
        self.user_id = user_id
        self.session_id = session_id
        self.tags: list[str] = []
        self.output: Any = None
        self.status: str | None = None
        self.error: str | None = None
        self.execution_order: list[dict[str, Any]] = []
        self.trace_metadata: dict[str, dict[str, Any]] = {}
        self._trace_store = trace_store
        if trace_store is not None:
            self.record: Callable[[tuple[Any, ...]], None] = trace_store.record
            self.encode_value: Callable[[Any], bytes] = trace_store.encode_value
            self.start_records = trace_store.start_records if start_records is None else start_records
        self.next_order = count().__next__
        self.root = Place(self, None, None, None)
        if tags is not None:
            self.add_tags(tags)

    @property
    def has_trace_store(self) -> bool:
        """Whether nodes are recorded as they run."""
        return self._trace_store is not None

    def __repr__(self) -> str:
        return f"MemoryState({self.workflow_name!r}, request_id={self.request_id!r})"

    def set_output(self, output: Any) -> None:
        """Say what the workflow's result is: the output of the trace's root. It is recorded when the trace ends."""
        self.output = output

    def add_tags(self, tags: Iterable[str]) -> list[str]:
        """Add tags to the request, each once, in order, up to 1,000 in all. Returns those given, as a list.

        What is no text is reported and left out: this does not raise.
        """
        given = self._words(tags)
        for tag in given:
            if len(self.tags) >= MOST_TAGS:
                excess = ValueError(f"request {self.request_id} has {MOST_TAGS} tags; more are left out")
                self.report(excess, "adding tags")
                break
            if tag not in self.tags:
                self.tags.append(tag)
        return given[:MOST_TAGS]

    def _words(self, tags: Any) -> list[str]:
        try:
            given = [tags] if isinstance(tags, str) else list(islice(tags, MOST_TAGS + 1))
            odd = [tag for tag in given if not isinstance(tag, str)]
            if odd:
                self.report(TypeError(f"a tag is a str, not {name_of(type(odd[0]))}"), "adding tags")
            return [str.__str__(tag) for tag in given if isinstance(tag, str)]
        except Exception as problem:
            if is_interrupt(problem):
                raise
            self.report(problem, "adding tags")
            return []

    def report(self, problem: BaseException, doing: str) -> None:
        """Tell the funnel of what went wrong while recording. Never raises."""
        if self._trace_store is not None:
            self._trace_store.background.report(problem, doing)

    # -- places -------------------------------------------------------------------------------------------------------

    @property
    def here(self) -> Place:
        """The place of the running code in this trace: its node and loop position; else the root."""
        place = current.get()
        return place if place is not None and place.state is self else self.root

    def under(self, function: Callable[P, T]) -> Callable[P, T]:
        """The function, bound to this trace's present place, to be called in any thread or task."""
        from hush_core.capture.node import bind

        return bind(function, self.here)

    @overload
    def loop(self, items: Iterable[T]) -> Iterator[T]: ...
    @overload
    def loop(self, items: AsyncIterable[T]) -> AsyncIterator[T]: ...
    def loop(self, items: Any) -> Any:
        """Iterate over items; the nodes that run meanwhile are in iteration 0, 1, 2 ... of a loop.

        The position is set back when the loop ends: by its last item, `break`, `return` or an exception. Tasks started
        in an iteration keep its position.
        """
        return self._loop_later(items) if hasattr(items, "__aiter__") else self._loop(items)

    def _loop(self, items: Iterable[T]) -> Iterator[T]:
        with Position(self) as position:
            for index, item in enumerate(items):
                position.move(index)
                yield item

    async def _loop_later(self, items: AsyncIterable[T]) -> AsyncIterator[T]:
        index = 0
        with Position(self) as position:
            async for item in items:
                position.move(index)
                index += 1
                yield item

    def iteration(self, index: int) -> Position:
        """`with state.iteration(3):` the nodes that run inside are in iteration 3 of a loop."""
        return Position(self, index)


class Position:
    """A position in a loop, entered and left. For one thread or task."""

    __slots__ = ("_at", "_before", "_index", "_outer", "_state")

    def __init__(self, state: MemoryState, index: int | None = None) -> None:
        self._state = state
        self._index = index

    def __enter__(self) -> Position:
        self._before = current.get()
        self._outer = self._state.here
        self._at: Place | None = None
        if self._index is not None:
            try:
                self.move(self._index)
            except BaseException:  # an interrupt: `__exit__` will not be called
                current.set(self._before)
                raise
        return self

    def move(self, index: int) -> None:
        """Go to another iteration of the loop."""
        if self._state.has_trace_store:
            self._at = self._outer.at(index)
            current.set(self._at)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Not if the code is elsewhere: a loop that was dropped may be ended later, and in another thread or task.
        if self._at is not None and self._at.holds(current.get()):
            current.set(self._before)
