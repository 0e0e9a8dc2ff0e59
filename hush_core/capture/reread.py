"""Reading a record's msgpack within a budget: for records too large, and for those that a plain decoder refuses.

The format: https://github.com/msgpack/msgpack/blob/master/spec.md. A plain decoder builds everything, dict keys
included, before anything can be cut; this one builds what the budget allows and leaves the rest unread.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from hush_core.capture.budget import Bounds, Budget, truncated
from hush_core.capture.walk import Walk, as_key, unused_key
from hush_core.errors import JournalError

_decode: Final = msgspec.msgpack.Decoder().decode
_split: Final = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode

_TEXT, _BYTES, _LIST, _MAP, _EXTENSION, _FIXED = range(6)
#: (0xC1 is no type at all; read as a value of one byte, it spoils only itself.)
#: First byte -> what follows, how many bytes its size takes, and (for _FIXED) how many bytes the value takes.
_HEADS: Final = {
    0xC0: (_FIXED, 0, 0), 0xC1: (_FIXED, 0, 0), 0xC2: (_FIXED, 0, 0), 0xC3: (_FIXED, 0, 0),
    0xC4: (_BYTES, 1, 0), 0xC5: (_BYTES, 2, 0), 0xC6: (_BYTES, 4, 0),
    0xC7: (_EXTENSION, 1, 0), 0xC8: (_EXTENSION, 2, 0), 0xC9: (_EXTENSION, 4, 0),
    0xCA: (_FIXED, 0, 4), 0xCB: (_FIXED, 0, 8),
    0xCC: (_FIXED, 0, 1), 0xCD: (_FIXED, 0, 2), 0xCE: (_FIXED, 0, 4), 0xCF: (_FIXED, 0, 8),
    0xD0: (_FIXED, 0, 1), 0xD1: (_FIXED, 0, 2), 0xD2: (_FIXED, 0, 4), 0xD3: (_FIXED, 0, 8),
    0xD4: (_FIXED, 0, 2), 0xD5: (_FIXED, 0, 3), 0xD6: (_FIXED, 0, 5), 0xD7: (_FIXED, 0, 9), 0xD8: (_FIXED, 0, 17),
    0xD9: (_TEXT, 1, 0), 0xDA: (_TEXT, 2, 0), 0xDB: (_TEXT, 4, 0),
    0xDC: (_LIST, 2, 0), 0xDD: (_LIST, 4, 0), 0xDE: (_MAP, 2, 0), 0xDF: (_MAP, 4, 0),
}  # fmt: skip


class _Spent(Exception):
    """The budget is used up, or the bytes end: what has been read so far is what there is."""


class Reader:
    """Reads one value from the start of a payload. For one thread."""

    __slots__ = ("_budget", "_bytes", "_walk", "at")

    def __init__(self, payload: bytes | memoryview, budget: Budget) -> None:
        self._bytes = memoryview(payload)
        self.at = 0
        self._budget = budget
        self._walk = Walk(budget)

    def whole(self) -> Any:
        """The value, or as much of it as there is."""
        try:
            return self.value()
        except _Spent:
            return self._budget.note(truncated(f"{len(self._bytes)} bytes of msgpack"))

    def value(self, depth: int = 0) -> Any:
        kind, size, start = self.head()
        if kind == _LIST:
            return self._list(size, depth) if depth < self._budget.bounds.depth else self._pass_over(size, depth)
        if kind == _MAP:
            return self._map(size, depth) if depth < self._budget.bounds.depth else self._pass_over(2 * size, depth)
        begin, self.at = self.at, self.at + size
        if self.at > len(self._bytes):
            raise _Spent
        if kind == _TEXT:
            return self._text(begin, size)
        if kind == _BYTES:
            return self._budget.blob(self._bytes[begin : self.at], size)
        try:
            return self._walk.value(_decode(self._bytes[start : self.at]))
        except msgspec.DecodeError:
            return f"<msgpack {bytes(self._bytes[start : start + 32]).hex()}>"

    def head(self) -> tuple[int, int, int]:
        """Pass the head of a value: its kind, its size in bytes or items, and where it began."""
        start = self.at
        if start >= len(self._bytes):
            raise _Spent
        first = self._bytes[start]
        self.at += 1
        if first < 0x80 or first >= 0xE0:
            return _FIXED, 0, start
        if first < 0x90:
            return _MAP, first & 0x0F, start
        if first < 0xA0:
            return _LIST, first & 0x0F, start
        if first < 0xC0:
            return _TEXT, first & 0x1F, start
        kind, size_bytes, size = _HEADS[first]
        if size_bytes:
            size = int.from_bytes(self._bytes[self.at : self.at + size_bytes], "big")
            self.at += size_bytes
        return kind, size + (kind == _EXTENSION), start

    def _text(self, begin: int, size: int) -> str:
        most = self._budget.bounds.text_chars
        start = bytes(self._bytes[begin : begin + min(size, 4 * most)]).decode(errors="ignore")
        whole = len(start) if size <= 4 * most else _count_chars(self._bytes[begin : begin + size])
        return self._budget.text(start, size=whole)

    def _list(self, size: int, depth: int) -> list[Any]:
        copy: list[Any] = []
        try:
            for _ in range(min(size, self._budget.bounds.items)):
                if self._budget.is_spent():
                    raise _Spent
                copy.append(self.value(depth + 1))
            self.skip(size - len(copy))
        except _Spent:
            self._give_up()
        if len(copy) < size:
            copy.append(self._budget.note(truncated(f"{size} items")))
        return copy

    def _map(self, size: int, depth: int) -> dict[str, Any]:
        copy: dict[str, Any] = {}
        read = 0
        try:
            for _ in range(min(size, self._budget.bounds.items)):
                if self._budget.is_spent():
                    raise _Spent
                key = self.value(depth + 1)
                name = as_key(key)
                if name in copy:
                    name = unused_key(name, key, copy)
                copy[name] = self.value(depth + 1)
                read += 1
            self.skip(2 * (size - read))
        except _Spent:
            self._give_up()
        if read < size:
            copy["…"] = self._budget.note(truncated(f"{size} items"))
        return copy

    def _pass_over(self, count: int, depth: int) -> str:
        try:
            self.skip(count)
        except _Spent:
            self._give_up()
        return self._budget.note(truncated(f"below {depth} levels"))

    def skip(self, count: int) -> None:
        """Pass over values without building them. A loop: their nesting has no bound."""
        seen = 0
        while count > 0:
            kind, size, _ = self.head()
            count -= 1
            if kind == _LIST:
                count += size
            elif kind == _MAP:
                count += 2 * size
            else:
                self.at += size
            seen += 1
            if not seen & 0x3FF and self._budget.is_spent():
                raise _Spent

    def _give_up(self) -> None:
        """Where the next value begins is not known any more: the containers around this one end here too."""
        self.at = len(self._bytes)


def _count_chars(utf8: memoryview) -> int:
    """How many characters a long text has, without building it."""
    chars = 0
    for at in range(0, len(utf8), _CHUNK_BYTES):
        chunk = bytes(utf8[at : at + _CHUNK_BYTES])
        chars += len(chunk) if chunk.isascii() else len(chunk.translate(None, _CONTINUATION_BYTES))
    return chars


_CHUNK_BYTES: Final = 1024 * 1024
_CONTINUATION_BYTES: Final = bytes(range(0x80, 0xC0))


def split(payload: bytes) -> list[memoryview]:
    """The bytes of each field of a record. Raises JournalError if the payload is not exactly one array of values."""
    try:
        return [memoryview(field) for field in _split(payload)]
    except (msgspec.DecodeError, RecursionError):  # damaged, or too deep for the C decoder
        return _split_slowly(memoryview(payload))


def _split_slowly(payload: memoryview) -> list[memoryview]:
    reader = Reader(payload, Budget(Bounds(time_s=10.0, record_bytes=len(payload) + 1)))
    fields: list[memoryview] = []
    try:
        kind, size, _ = reader.head()
        for _ in range(size if kind == _LIST else 0):
            begin = reader.at
            reader.skip(1)
            fields.append(payload[begin : reader.at])
    except _Spent:
        fields.clear()
    if not fields or reader.at != len(payload):
        raise JournalError("A record is one array of fields; this is not, or its end is missing.")
    return fields
