"""A node between its start and its end: what both records say of it."""

from __future__ import annotations

import os
from time import perf_counter_ns, time_ns
from typing import TYPE_CHECKING, Any, Final

import msgspec

from hush_core.capture.budget import BOUNDS, encodable, name_of, truncated, unrecordable
from hush_core.capture.place import Place, spans
from hush_core.capture.usage import NO_USAGE, Usage
from hush_core.interrupt import is_interrupt
from hush_core.model import NODE, NODE_END, NODE_START

if TYPE_CHECKING:
    from hush_core.capture.state import MemoryState

ERROR: Final = "ERROR"
_OWN_FOLDER: Final = os.path.join(os.path.dirname(__file__), "")
#: The functions of this package that run the body of a node.
_NODE_FRAMES: Final = frozenset({"code_node", "drive", "drive_async"})
#: The innermost frames of a traceback that an error's text has.
_MOST_FRAMES: Final = 32


class Findings:
    """What a node's end says beyond its output: from the reserved keys of what it returned, and from its streaming."""

    __slots__ = ("cost_usd", "error", "media", "metadata", "model", "tags", "time_to_first_token_ms", "usage")

    def __init__(self, model: str | None = None) -> None:
        self.model = model
        self.usage: Usage = NO_USAGE
        self.cost_usd: Any = None
        self.metadata: Any = None
        self.media: Any = None
        self.tags: list[str] | None = None
        self.error: str | None = None
        self.time_to_first_token_ms: float | None = None


NOTHING: Final = Findings()


class OpenNode(Place):
    """A node that has begun: the place of the code that runs in it.

    With start records it is in the journal already, inputs included; its end says the rest. Without, `end` records it
    whole, with the inputs as they were at the start. Neither raises but an interrupt.
    """

    __slots__ = (
        "_began_ns",
        "_contains_generation",
        "_inputs",
        "_node_type",
        "_order",
        "_parent",
        "_start_ns",
        "model",
    )

    def __init__(
        self,
        state: MemoryState,
        parent: Place | None,
        name: str,
        inputs: Any,
        node_type: str | None,
        model: str | None = None,
    ) -> None:
        self.state = state
        self.name = name
        self.span = span = next(spans.ids)
        self.context_id = context_id = None if parent is None else parent.context_id
        self._parent = parent
        self._order = order = state.next_order()
        self._node_type = node_type
        self.model = model
        self._start_ns = start_ns = time_ns()
        if state.start_records:
            self._inputs = None
            state.record((
                NODE_START, state.request_id, state.workflow_name, name, None if parent is None else parent.name,
                context_id, order, start_ns, None, None, inputs, None, state.user_id, state.session_id, model, None,
                None, None, None, model is not None, None, node_type, None, None, None, None, None, None, span,
                None if parent is None else parent.span,
            ))  # fmt: skip
        else:
            self._inputs = None if inputs is None else msgspec.Raw(state.encode_value(inputs))
        self._began_ns = perf_counter_ns()

    def elapsed_ms(self) -> float:
        """The time since the start."""
        return (perf_counter_ns() - self._began_ns) / 1e6

    def end(self, output: Any, found: Findings = NOTHING) -> None:
        """Record the end. When this returns, it survives the death of the process."""
        elapsed_ns = perf_counter_ns() - self._began_ns  # of the steady clock, so that no end is before its start
        state, parent, usage = self.state, self._parent, found.usage
        model = self.model if found.model is None else found.model  # asks nothing of the object's own code
        error = found.error
        state.record((
            NODE_END if state.start_records else NODE, state.request_id, state.workflow_name, self.name,
            None if parent is None else parent.name, self.context_id, self._order, self._start_ns,
            self._start_ns + elapsed_ns, elapsed_ns / 1e6, self._inputs, output, state.user_id, state.session_id, model,
            usage.prompt_tokens, usage.completion_tokens, usage.total_tokens, found.cost_usd,
            model is not None or usage is not NO_USAGE, found.metadata, self._node_type, error,
            None if error is None else ERROR, found.media, found.time_to_first_token_ms, usage.cached_tokens,
            usage.reasoning_tokens, self.span, None if parent is None else parent.span, found.tags,
        ))  # fmt: skip


def is_success(error: BaseException) -> bool:
    """Whether it ends a node or a trace well: leaving by `sys.exit()` or `sys.exit(0)` is an end like any other."""
    return isinstance(error, SystemExit) and (
        error.code is None or (type(error.code) in (int, bool) and not error.code)
    )


def error_text(error: BaseException) -> str:
    """An exception as `ValueError: text`, then its traceback, bounded: the innermost frames, without hush's own.

    An exception that came out of a node within this one has its traceback there, and only its text here. Whatever the
    exception's own code does, this raises nothing but an interrupt.
    """
    kind = name_of(type(error))
    try:
        text = f"{kind}: {_bounded(str(error))}"
    except BaseException as problem:
        if is_interrupt(problem):
            raise
        return f"{kind}: {unrecordable(type(error), problem)}"
    try:
        return text if _came_out_of_a_node(error) else f"{text}\n{_bounded(_traceback(error))}"
    except Exception as problem:  # no stack or memory left for the traceback; the error itself is known
        if is_interrupt(problem):
            raise
        return text


def _came_out_of_a_node(error: BaseException) -> bool:
    """Whether another node's frame is in the traceback, below the outermost one, where it is recorded now."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
        code = trace.tb_frame.f_code
        if code.co_name in _NODE_FRAMES and code.co_filename.startswith(_OWN_FOLDER):
            return True
    return False


def _traceback(error: BaseException) -> str:
    import traceback

    whole = traceback.TracebackException(type(error), error, error.__traceback__, limit=-_MOST_FRAMES, compact=True)
    frames = [frame for frame in whole.stack if not frame.filename.startswith(_OWN_FOLDER)]
    whole.stack = traceback.StackSummary.from_list(frames)
    return "".join(whole.format())


def _bounded(text: str) -> str:
    text = str.__str__(text)
    size = len(text)
    if size > BOUNDS.name_chars // 2:
        # Both ends: the message is at the start, and a traceback's last line at the end.
        half = BOUNDS.name_chars // 4
        text = f"{text[:half]}\n{truncated(f'{size} chars')}\n{text[-half:]}"
    return encodable(text)
