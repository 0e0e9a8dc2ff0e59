"""Where code runs in a trace's tree: in which node, at which position of its loops.

The place goes with the context (PEP 567): over `await`, into tasks and `asyncio.to_thread`, and nowhere else by itself;
`under` takes it into other threads. It is set back by value, never by token: a token belongs to one context, and a
generator, a coroutine or a trace may end in another than it began in.
"""

from __future__ import annotations

import os
from contextvars import ContextVar
from itertools import count
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from hush_core.capture.state import MemoryState


class Place:
    """A place in the tree of one trace. Immutable in use; safe to hand to other threads."""

    __slots__ = ("context_id", "name", "span", "state")

    def __init__(self, state: MemoryState, name: str | None, span: int | None, context_id: str | None) -> None:
        self.state = state
        self.name = name
        self.span = span
        self.context_id = context_id

    def at(self, index: int) -> Place:
        """The place within the same node, at that position of one more loop."""
        inner = f"[{index}]"
        return Place(
            self.state, self.name, self.span, inner if self.context_id is None else f"{self.context_id}.{inner}"
        )

    def holds(self, other: Place | None) -> bool:
        """Whether the other is this loop position, or a loop position within it in the same node."""
        if other is None or other is self:
            return other is self
        return (
            other.span == self.span
            and other.state is self.state
            and (other.context_id or "").startswith(f"{self.context_id}.")
        )


#: The place of the running code; None outside of any trace.
current: Final[ContextVar[Place | None]] = ContextVar("hush_place", default=None)

_COUNTER_BITS: Final = 24


def _new_spans() -> count[int]:
    """Span ids of one process: a random base, so that no two processes share any, and a counter. Below 2**63."""
    return count((int.from_bytes(os.urandom(5), "big") >> 1) << _COUNTER_BITS)


class Spans:
    """Gives each node its id. `next(spans.ids)` is atomic; a forked child takes a base of its own."""

    def __init__(self) -> None:
        self.ids = _new_spans()

    def renew(self) -> None:
        self.ids = _new_spans()


spans: Final = Spans()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=spans.renew)
