"""A walk over any value that copies it into plain types: bounded, and safe against whatever the objects do.

It contains everything that an object's own code raises, SystemExit and asyncio.CancelledError included: a
`__repr__` that calls `sys.exit` is not the workflow ending. What interrupts the walk (`interrupt`) passes: a signal's
handler that leaves the app, the person at the keyboard.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from itertools import islice
from typing import Any, Final
from uuid import UUID

import msgspec

from hush_core.capture.budget import CYCLE, Budget, name_of, truncated, unrecordable
from hush_core.capture.foreign import Attributes, open_up
from hush_core.interrupt import is_interrupt

_to_json: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder().decode

#: Types that msgpack's encoder writes as they are, small and for certain.
_LEAVES: Final = frozenset({date, timedelta, Decimal, UUID})
_MSGPACK_INTS: Final = (-(2**63), 2**64 - 1)
#: Integers above this are written in hexadecimal: the time for decimal digits grows with their square.
_DECIMAL_BITS: Final = 4096
#: Plain objects within plain objects; deeper ones are named only, for their attributes lead everywhere.
_NESTED_OBJECTS: Final = 4


class Walk:
    """One walk over one value, in one thread: `value` returns its copy, of plain types alone.

    The copy holds None, bool, int (64 bits), float, str (UTF-8), bytes, date, timedelta, Decimal, UUID, naive datetime,
    and lists and dicts (with str keys) of these. A walk that masks (`masked`) overrides what it has to.
    """

    __slots__ = ("_budget", "_objects", "_open")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._open: set[int] = set()  # ids of the containers that this walk is in: one met again is a cycle
        self._objects = 0

    def value(self, value: Any, depth: int = 0) -> Any:
        kind = type(value)
        if kind is str:
            return self._budget.text(value)
        if value is None or kind is bool or kind is float:
            self._budget.bytes_left -= 9
            return value
        try:
            return self._of_type(value, kind, depth)
        except BaseException as problem:  # whatever an object's own code raised, see above
            if is_interrupt(problem):
                raise
            return self._budget.note(unrecordable(kind, problem))

    def _of_type(self, value: Any, kind: type, depth: int) -> Any:
        # The base classes' own methods, so that no override of a subclass is asked.
        if kind is int:
            return self._integer(value)
        if issubclass(kind, dict):
            return self._inside(value, depth, lambda: self._dict(dict.items(value), dict.__len__(value), depth))
        if issubclass(kind, (list, tuple, set, frozenset)):
            return self._inside(value, depth, lambda: self._sequence(value, kind, depth))
        if kind in _LEAVES or ((kind is datetime or kind is time) and value.tzinfo is None):
            self._budget.bytes_left -= 64
            return value
        return self._unknown(value, kind, depth)

    def _unknown(self, value: Any, kind: type, depth: int) -> Any:
        """Neither plain nor a plain container: a subclass of a scalar, or an object to open up."""
        if issubclass(kind, Enum):  # also one that is an int or a str
            return self._inside(value, depth, lambda: self.value(value.value, depth + 1))
        if issubclass(kind, str):
            return self._budget.text(str.__str__(value))
        if issubclass(kind, int):
            return self._integer(int.__pos__(value))
        if issubclass(kind, float):
            return self.value(float.__pos__(value))
        if issubclass(kind, (bytes, bytearray)):
            return self._budget.blob(value, len(value))
        if issubclass(kind, memoryview):
            return self._budget.blob(value.cast("B") if value.c_contiguous else value.tobytes(), value.nbytes)
        if kind is msgspec.Raw:
            return self._encoded(memoryview(value), depth)
        return self._inside(value, depth, lambda: self._object(value, kind, depth))

    def _integer(self, value: int) -> int | str:
        self._budget.bytes_left -= 9
        if _MSGPACK_INTS[0] <= value <= _MSGPACK_INTS[1]:
            return value
        bits = value.bit_length()
        if bits <= _DECIMAL_BITS:
            return self._budget.text(str(value))
        head = f"{abs(value) >> (bits - _DECIMAL_BITS):x}"
        return self._budget.text(f"{'-' if value < 0 else ''}0x{head}") + self._budget.note(truncated(f"{bits} bits"))

    def _encoded(self, payload: memoryview, depth: int) -> Any:
        """A value that was encoded before (a stream's items, say), read again: its bytes cannot be embedded here."""
        from hush_core.capture.reread import Reader

        if payload.nbytes <= self._budget.bytes_left:
            try:
                return self.value(_decode(payload), depth)
            except (msgspec.DecodeError, RecursionError):
                pass
        reader = Reader(payload, Budget(self._budget.bounds))
        value = reader.whole()
        return self.value(value if reader.at >= payload.nbytes else payload, depth)

    # -- containers ---------------------------------------------------------------------------------------------------

    def _inside(self, value: object, depth: int, walk: Callable[[], Any]) -> Any:
        """Walk a container, unless the walk is in it already or too deep."""
        if depth >= self._budget.bounds.depth:
            return self._budget.note(truncated(f"{name_of(type(value))} below {depth} levels"))
        if id(value) in self._open:
            return self._budget.note(CYCLE)
        self._open.add(id(value))
        try:
            return walk()
        finally:
            self._open.discard(id(value))

    def _sequence(self, value: Any, kind: type, depth: int) -> list[Any]:
        base = next(base for base in (list, tuple, set, frozenset) if issubclass(kind, base))
        return self._list(base.__iter__(value), base.__len__(value), depth)

    def _list(self, items: Iterable[Any], size: int, depth: int) -> list[Any]:
        # A list made in one C call: another thread cannot change the container in the middle of it.
        first = list(islice(items, self._budget.bounds.items))
        copy: list[Any] = []
        self._budget.bytes_left -= 5
        for item in first:
            if self._budget.is_spent():
                break
            copy.append(self.value(item, depth + 1))
        if len(copy) < size:
            copy.append(self._budget.note(truncated(f"{size} items")))
        return copy

    def _dict(self, items: Iterable[tuple[Any, Any]], size: int, depth: int) -> dict[str, Any]:
        first = list(islice(items, self._budget.bounds.items))
        copy: dict[str, Any] = {}
        self._budget.bytes_left -= 5
        for key, item in first:
            if self._budget.is_spent():
                break
            name = self._key(key, depth)
            copy[unused_key(name, key, copy) if name in copy else name] = self._under(key, name, item, depth + 1)
        if len(copy) < size:
            copy["…"] = self._budget.note(truncated(f"{size} items"))
        return copy

    def _under(self, key: object, name: str, item: Any, depth: int) -> Any:
        """The value of a key, whose text in the copy is `name`."""
        return self.value(item, depth)

    def _key(self, key: object, depth: int) -> str:
        """A key as a text: its own, or its JSON, so that `(1, 2)` is `[1,2]` and True is `true`."""
        if type(key) is str:
            return self._budget.text(key)
        return as_key(self.value(key, depth + 1))

    def _object(self, value: Any, kind: type, depth: int) -> Any:
        parts = self._open_up(value, kind)
        if type(parts) is not Attributes:
            return self._opened(parts, depth)
        if self._objects >= _NESTED_OBJECTS:
            return f"<{name_of(kind)}>"
        self._objects += 1
        try:
            return self._opened(parts, depth)
        finally:
            self._objects -= 1

    def _open_up(self, value: Any, kind: type) -> Any:
        return open_up(value, kind, self._budget)

    def _opened(self, parts: Any, depth: int) -> Any:
        """What `open_up` gave: one level of plain containers, whose items are still to be walked."""
        if type(parts) is str:
            return self._budget.text(parts)
        return self.value(parts, depth if isinstance(parts, (list, dict)) else depth + 1)


def as_key(copy: Any) -> str:
    """The text that stands for a copied value as a key."""
    if isinstance(copy, str):
        return copy
    if isinstance(copy, float):
        return repr(copy)
    text = _to_json(copy).decode()
    return text[1:-1] if text.startswith('"') else text  # a date, a UUID, bytes: their text without the quotes


def unused_key(name: str, key: object, taken: Container[str]) -> str:
    """A name for a key whose text another key has: 1 beside "1" becomes `1 (int)`."""
    name = f"{name} ({name_of(type(key))})"
    number = 2
    free = name
    while free in taken:
        free, number = f"{name} {number}", number + 1
    return free
