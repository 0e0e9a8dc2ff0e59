"""Copies of values without those of masked keys, wherever in a value they are.

What is left out is never asked for anything: not for its text, its length or its items. A key is what a value goes by
where it is: a dict's key, an attribute, a named tuple's field, an argument's name, the first of a pair in a list. Keys
inside texts are not seen, but an object's own `repr` that has a masked key in it is not kept.

`PlainCopy` is for what most records hold and gives up on anything else; `MaskedWalk` takes any value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from itertools import islice
from typing import Any, Final
from uuid import UUID

import msgspec

from hush_core.capture.budget import MASKED, Budget, masked_text
from hush_core.capture.foreign import Attributes, Repr
from hush_core.capture.walk import Walk

_PAIRS: Final = frozenset({list, tuple})
_PLAIN_SEQUENCES: Final = frozenset({list, tuple, set, frozenset})
#: What msgpack's encoder takes as it is, and nobody can change meanwhile.
LEAVES: Final = frozenset(
    {str, int, float, bool, type(None), bytes, datetime, date, time, timedelta, Decimal, UUID},
)
#: Above this many items a value is copied with care, which is bounded in time.
_MOST_ITEMS: Final = 10_000
#: How many names `Keys` remembers its answer for; whoever has more has taken data for names.
_MOST_SEEN: Final = 4096


def _fold(name: str) -> str:
    """A name as it is compared: without regard to case, and to whether words are joined by `-` or `_`."""
    return name.casefold().replace("-", "_")


class Keys:
    """The names whose values are masked. `API-Key`, `api_key` and `API_KEY` are one name. For any number of threads."""

    __slots__ = ("_folded", "_longest", "_named", "_seen")

    def __init__(self, names: Iterable[str]) -> None:
        self._folded = frozenset(map(_fold, names)) - {""}
        self._longest = max(map(len, self._folded), default=0)
        self._seen: dict[str, bool] = {}
        self._named = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, self._folded))})(?!\w)")

    def __bool__(self) -> bool:
        return bool(self._folded)

    def __contains__(self, name: str) -> bool:
        if len(name) > self._longest:  # folding makes no name shorter
            return False
        known = self._seen.get(name)
        if known is None:
            known = _fold(name) in self._folded
            if len(self._seen) < _MOST_SEEN:
                self._seen[name] = known
        return known

    def have(self, key: object) -> bool:
        """Whether a key of any type is one of these: a text, bytes, or an enum of these."""
        kind = type(key)
        if issubclass(kind, Enum):
            return self.have(key.value)  # type: ignore[attr-defined]
        if issubclass(kind, str):
            return str.__str__(key) in self
        return issubclass(kind, bytes) and bytes.decode(key, errors="replace") in self  # type: ignore[arg-type]

    def pair(self, item: Any) -> Any:
        """An item of a list; if it is a pair of a name and a value, as headers are often held, its value is masked."""
        if type(item) in _PAIRS and len(item) == 2:
            name, *_ = tuple(item)
            if self.have(name):
                return name, MASKED
        return item

    def are_named_in(self, text: str) -> bool:
        """Whether one of the names is a word of a text."""
        return self._named.search(_fold(text)) is not None


class NotPlain(Exception):
    """The value is not only made of exact dicts with text keys, lists, tuples and leaves; or it is large."""


class PlainCopy:
    """Copies one record's plain values: `value` gives the copy, or raises NotPlain (or RecursionError for a cycle)."""

    __slots__ = ("_keys", "_left")

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._left = _MOST_ITEMS

    def value(self, value: Any) -> Any:
        """A copy, without the values of masked keys, of what is no leaf."""
        kind = type(value)
        if kind is dict:
            pairs = list(value.items())  # in one C call: another thread cannot change it in the middle
            self._count(len(pairs))
            keys, leaves = self._keys, LEAVES
            copy = {}
            for key, item in pairs:
                if type(key) is not str:
                    raise NotPlain("a key that is no text")
                if key in keys:
                    item = MASKED
                elif type(item) not in leaves:
                    item = self.value(item)
                copy[key] = item
            return copy
        if kind is list or kind is tuple:
            items = list(value)
            self._count(len(items))
            return [item if type(item) in LEAVES else self.value(self._keys.pair(item)) for item in items]
        if kind in LEAVES:
            return value
        raise NotPlain("neither a plain container nor a leaf")

    def _count(self, items: int) -> None:
        self._left -= items
        if self._left < 0:
            raise NotPlain("too many items")


class MaskedWalk(Walk):
    """A `Walk` whose copy has `[masked]` in the place of each value that goes by one of the keys."""

    __slots__ = ("_keys",)

    def __init__(self, budget: Budget, keys: Keys) -> None:
        super().__init__(budget)
        self._keys = keys

    def _under(self, key: object, name: str, item: Any, depth: int) -> Any:
        # By its text in the copy, too: that of an enum is its value, that of a path is the path.
        if name in self._keys or (type(key) is not str and self._keys.have(key)):
            return self._budget.note(MASKED)
        return self.value(item, depth)

    def _sequence(self, value: Any, kind: type, depth: int) -> list[Any]:
        if kind not in _PLAIN_SEQUENCES and issubclass(kind, tuple):
            names = getattr(kind, "_fields", ())
            if isinstance(names, tuple) and any(map(self._keys.have, names)):
                items = list(tuple.__iter__(value))
                for at, name in enumerate(names[: len(items)]):
                    if self._keys.have(name):
                        items[at] = MASKED
                return self._list(iter(items), len(items), depth)
        return super()._sequence(value, kind, depth)

    def _list(self, items: Iterable[Any], size: int, depth: int) -> list[Any]:
        first = list(islice(items, self._budget.bounds.items))
        if not _PAIRS.isdisjoint(map(type, first)):
            first = [self._keys.pair(item) for item in first]
        return super()._list(first, size, depth)

    def _open_up(self, value: Any, kind: type) -> Any:
        parts = super()._open_up(value, kind)
        if type(parts) is Repr and self._keys.are_named_in(parts):
            attributes = Attributes(value, kind)
            return attributes if len(attributes) > 1 else masked_text(kind)
        if issubclass(kind, msgspec.Struct):  # its fields have a name in the class and one in what msgspec writes
            for name, written in zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True):
                if name in self._keys and written in parts:
                    parts[written] = MASKED
        return parts
