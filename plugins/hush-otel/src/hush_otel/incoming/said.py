"""The attributes of a span, of which each is taken once; and JSON that stands in a text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from hush_otel.incoming import dialect as names

#: Characters of a text that is read as JSON; a longer one would take the app too long, and stays a text.
_JSON_MAX: Final = 4 * 1024 * 1024
_decode: Final = msgspec.json.Decoder().decode


class Said:
    """The attributes of a span, of which each is taken once.

    Those with parts in their names are apart, by their beginnings: a list whose elements have numbers there is `flat`
    under `llm.input_messages.`, by what comes after: `0.message.role`.
    """

    def __init__(self, attributes: Mapping[str, Any] | None) -> None:
        self.rest: dict[str, Any] = dict(attributes or {})
        self.flat: dict[str, dict[str, Any]] = {}
        rest = self.rest
        for name in [name for name in rest if name.startswith(names.BEGINNINGS)]:
            if name not in names.WHOLE:
                beginning = next(each for each in names.BEGINNINGS if name.startswith(each))
                self.flat.setdefault(beginning, {})[name[len(beginning) :]] = rest.pop(name)

    def has_known_names(self) -> bool:
        """Whether anything here could be a field of a node."""
        return bool(self.flat) or not names.KNOWN.isdisjoint(self.rest)

    def take(self, wanted: Iterable[str], kinds: type | tuple[type, ...]) -> Any:
        """The first of these that is there and of the kind. Those that say the same once more go with it."""
        found = None
        rest = self.rest
        for name in wanted:
            value = rest.get(name)
            if value is None or not isinstance(value, kinds) or isinstance(value, bool):
                continue
            if found is None or value == found:
                found = value
                del rest[name]
        return found

    def text(self, wanted: Iterable[str]) -> str | None:
        found: str | None = self.take(wanted, str)
        return found

    def count(self, wanted: Iterable[str]) -> int | None:
        found: int | None = self.take(wanted, int)
        return found

    def number(self, wanted: Iterable[str]) -> float | None:
        found: float | None = self.take(wanted, (int, float))
        return found

    def words(self, wanted: Iterable[str]) -> list[str] | None:
        """All the texts in lists of these names, each once."""
        found: dict[str, None] = {}
        for name in wanted:
            if name in self.rest:
                value = from_json(self.rest.pop(name))
                listed = value if isinstance(value, (list, tuple)) else [value]
                found.update(dict.fromkeys(each for each in listed if isinstance(each, str)))
        return list(found) or None

    def content(self, name: str) -> Any:
        """A text, as a structure if it is JSON."""
        return from_json(self.rest.pop(name, None))

    def value(self, name: str, mime_type: str) -> Any:
        """A text that says what it is."""
        value, kind = self.rest.pop(name, None), self.rest.pop(mime_type, None)
        return decoded(value, value) if kind == names.JSON and isinstance(value, str) else value

    def put_back(self) -> None:
        """What nobody has wanted of the parts is attributes like any other."""
        for beginning, parts in self.flat.items():
            self.rest.update({f"{beginning}{name}": value for name, value in parts.items()})
        self.flat.clear()


def from_json(value: Any) -> Any:
    """The structure that a text of JSON stands for; anything else as it is.

    As a structure it can be searched, and a mask finds the keys in it.
    """
    return decoded(value, value) if isinstance(value, str) and value[:1] in ("{", "[") else value


def decoded(text: str, otherwise: Any) -> Any:
    """What a text of JSON stands for, be it only a number; otherwise, something else."""
    if len(text) > _JSON_MAX:
        return otherwise
    try:
        return _decode(text)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return otherwise
