"""Nodes that are generators: the node begins with the first item asked for, and ends when the stream does.

The body runs in the node's place; between its items, the consumer is where it was. The protocol is the plain one: what
is sent, thrown and returned goes through.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from typing import Any, Final

import msgspec

from hush_core.capture.budget import BOUNDS, truncated
from hush_core.capture.declared import Declared
from hush_core.capture.opened import Findings, OpenNode
from hush_core.capture.place import Place, current
from hush_core.capture.reserved import has_reserved, take_reserved

_AS_IS: Final = (str, bytes, int, float, bool, type(None))
_SKIPPED: Final = object()


class _Streaming:
    """A node that streams: its items so far, as they were when they were yielded."""

    __slots__ = ("_bytes", "_count", "_declared", "_found", "_items", "_kept", "_returned", "node")

    def __init__(self, declared: Declared, parent: Place, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._declared = declared
        self._found = Findings()
        self._items: list[Any] = []
        self._bytes = 0
        self._count = 0
        self.node: OpenNode = declared.open(parent, args, kwargs)

    def take(self, item: Any) -> Any:
        """Keep an item for the record; gives what the consumer gets, `_SKIPPED` if it was for the trace alone."""
        if has_reserved(item):
            item = take_reserved(item, self._found, self.node.state)
            if not item:
                return _SKIPPED
        if not self._count:
            self._found.time_to_first_token_ms = self.node.elapsed_ms()
        self._count += 1
        if self._declared.keep_output and len(self._items) < BOUNDS.items and self._bytes < BOUNDS.record_bytes:
            if type(item) in _AS_IS:
                self._bytes += len(item) if isinstance(item, (str, bytes)) else 9
                self._items.append(item)
            else:
                encoded = self.node.state.encode_value(item)
                self._bytes += len(encoded)
                self._items.append(msgspec.Raw(encoded))
        return item

    def _output(self) -> Any:
        if not self._declared.keep_output:
            return None
        if self._count > len(self._items):
            self._items.append(truncated(f"{self._count} items"))
        return self._items

    def finish(self, returned: Any = None) -> Any:
        """The stream ended by itself; gives what the consumer gets as its return value."""
        if has_reserved(returned):
            returned = take_reserved(returned, self._found, self.node.state)
        self.node.end(self._output(), self._found)
        return returned

    def fail(self, error: BaseException) -> None:
        """The stream ended by an exception; one that its consumer closed or dropped did not fail."""
        if isinstance(error, GeneratorExit):
            metadata = self._found.metadata
            ended = {"hush.stream": "closed before its end"}
            self._found.metadata = {**metadata, **ended} if isinstance(metadata, dict) else ended
            self.node.end(self._output(), self._found)
        else:
            self._declared.fail(self.node, error, self._found, self._output())


def drive(
    declared: Declared, parent: Place, source: Generator[Any, Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Generator[Any, Any, Any]:
    """Run a generator as a node."""
    streaming = _Streaming(declared, parent, args, kwargs)
    resume, value = source.send, None
    inside: Place | None = streaming.node  # the body may stop for an item in one of its loops
    try:
        while True:
            outside = current.get()
            try:
                current.set(inside)
                item = resume(value)
            finally:
                inside = current.get()
                current.set(outside)
            resume, value = source.send, None
            item = streaming.take(item)
            if item is not _SKIPPED:
                try:
                    value = yield item
                except BaseException as thrown:
                    resume, value = source.throw, thrown
    except StopIteration as stop:
        returned = stop.value
    except BaseException as error:
        value = None  # it may be the error, which holds this frame
        streaming.fail(error)
        raise
    return streaming.finish(returned)


async def drive_async(
    declared: Declared, parent: Place, source: AsyncGenerator[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> AsyncGenerator[Any, Any]:
    """Run an async generator as a node."""
    streaming = _Streaming(declared, parent, args, kwargs)
    resume, value = source.asend, None
    inside: Place | None = streaming.node
    try:
        while True:
            outside = current.get()
            try:
                current.set(inside)
                item = await resume(value)
            finally:
                inside = current.get()
                current.set(outside)
            resume, value = source.asend, None
            item = streaming.take(item)
            if item is not _SKIPPED:
                try:
                    value = yield item
                except BaseException as thrown:
                    resume, value = source.athrow, thrown
    except StopAsyncIteration:
        streaming.finish()
    except BaseException as error:
        value = None  # it may be the error, which holds this frame
        streaming.fail(error)
        raise
