"""One trace, from its start to its end: `with tracer.trace(...) as state:`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import time_ns
from typing import TYPE_CHECKING, Any

from hush_core.capture.opened import Findings, OpenNode, error_text, is_success
from hush_core.capture.place import current
from hush_core.capture.state import MemoryState
from hush_core.model import COMPLETED, FAILED, REQUEST_START

if TYPE_CHECKING:
    from types import TracebackType

    from hush_core.store.trace_store import TraceStore

WORKFLOW_NODE = "workflow"


class Trace:
    """A context manager, sync and async, over one request. Entered, it gives the request's `MemoryState`.

    When it is entered, the request is in the journal (with start records its root node, too): should the process die,
    it is known to have begun, and due to its tracers as interrupted. When it is left, the request is complete, or
    failed if an exception left it; the exception goes on unchanged.

    :param tracers: to whom the request is due if it is interrupted: [name, type, config] each.
    :param static_tags: of the tracers; the state has only the tags of this request.
    :param finish: called with the state when it ends; must not raise.
    """

    def __init__(
        self,
        workflow_name: str,
        *,
        store: TraceStore | None,
        tracers: list[list[Any]],
        finish: Callable[[MemoryState], None],
        inputs: Any = None,
        user_id: str | None = None,
        session_id: str | None = None,
        request_id: str | None = None,
        tags: Iterable[str] | None = None,
        static_tags: Iterable[str] = (),
    ) -> None:
        self._workflow_name = workflow_name
        self._store = store
        self._tracers = tracers
        self._finish = finish
        self._inputs = inputs
        self._request_id = request_id
        self._user_id = user_id
        self._session_id = session_id
        self._tags = tags
        self._static_tags = static_tags

    def __enter__(self) -> MemoryState:
        state = self._state = MemoryState(
            self._workflow_name,
            request_id=self._request_id,
            user_id=self._user_id,
            session_id=self._session_id,
            tags=self._tags,
            trace_store=self._store,
        )
        self._before = current.get()
        if self._store is not None:
            try:
                self._begin(state)
            except BaseException as error:  # an interrupt: `__exit__` will not be called
                self.__exit__(type(error), error, None)
                raise
        return state

    def _begin(self, state: MemoryState) -> None:
        static = list(self._static_tags)
        state.record((
            REQUEST_START, state.request_id, state.workflow_name, state.user_id, state.session_id, time_ns(),
            [*static, *(tag for tag in state.tags if tag not in static)], self._tracers,
        ))  # fmt: skip
        state.root = OpenNode(state, None, self._workflow_name, self._inputs, WORKFLOW_NODE)
        current.set(state.root)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        state = self._state
        state.status = COMPLETED if error is None else FAILED
        try:
            current.set(self._before)
            found = Findings()
            if error is not None and is_success(error):
                state.status = COMPLETED
            elif error is not None:
                found.error = error_text(error)
                state.error = found.error.partition("\n")[0]
            if isinstance(state.root, OpenNode):
                state.root.end(state.output, found)
        finally:  # an interrupt leaves the root open, and the request is complete all the same
            self._finish(state)

    async def __aenter__(self) -> MemoryState:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)
