"""Which plugins are installed: the entry points of the group "hush".

`installed` gives all of them, through importlib_metadata, one distribution at a time, so that a broken one hides no
other. `named` is the way of an app that asks for one tracer: it looks through `sys.path` itself, which costs a
millisecond or two where importlib_metadata costs ten. What it does not see (eggs, archives, somebody's own importers)
`installed` does.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from hush_core.interrupt import is_interrupt

GROUP: Final = "hush"
_DIST_INFO: Final = ".dist-info"
_UNNAMED: Final = "an unnamed distribution"
_HEADERS: Final = re.compile(r"^(Name|Version):[ \t]*(\S.*?)[ \t]*$", re.MULTILINE)


class Entry(NamedTuple):
    """An entry point: a plugin's name, what it is loaded from, and what brought it."""

    name: str
    value: str
    distribution: str
    version: str

    @property
    def origin(self) -> str:
        """How messages name what brought it: "hush-langfuse 0.1.0"."""
        return f"{self.distribution} {self.version}".strip()

    def is_among(self, names: Iterable[str]) -> bool:
        """Whether one of the names is this plugin's, or its distribution's, however spelt; "*" is everyone's."""
        own = {"*", normal(self.name), normal(self.distribution)}
        return any(normal(name) in own for name in names)


def normal(name: str) -> str:
    """A distribution's name as all its spellings have it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def installed() -> tuple[Entry, ...]:
    """Every entry point of the group. Of a distribution that is on `sys.path` twice, the first counts."""
    import importlib_metadata

    found: dict[str, list[Entry]] = {}
    for distribution in importlib_metadata.distributions():
        try:
            pairs = _pairs(distribution.read_text("entry_points.txt") or "")
        except Exception:  # noqa: S112 - what cannot be read names no plugin, and no plugin may suffer from it
            continue
        if pairs:
            name, version = _identity(distribution)
            key = normal(name) if name != _UNNAMED else f"{name} {len(found)}"  # each is another
            found.setdefault(key, [Entry(*pair, name, version) for pair in pairs])
    return tuple(entry for entries in found.values() for entry in entries)


def _identity(distribution: Any) -> tuple[str, str]:
    """Its name and version, from the headers of its metadata: for these two, no parser of e-mail is worth loading."""
    try:
        text = next(filter(None, map(distribution.read_text, ("METADATA", "PKG-INFO", ""))), "")
    except Exception:  # it is damaged: the plugin may be whole
        text = ""
    said = dict(reversed(_HEADERS.findall(text.partition("\n\n")[0])))  # of two, the first
    return said.get("Name", _UNNAMED), said.get("Version", "")


def named(name: str) -> tuple[Entry, ...]:
    """The entry points of this name, as far as ordinary installations on `sys.path` go: more than one is a clash."""
    found: dict[str, list[Entry]] = {}
    for folder in sys.path:
        for item in _dist_infos(folder or os.curdir):
            distribution, _, version = item.removesuffix(_DIST_INFO).rpartition("-")
            distribution = normal(distribution)
            if distribution not in found and (text := _read(os.path.join(folder, item, "entry_points.txt"))):
                pairs = _pairs(text)
                if pairs:
                    found[distribution] = [Entry(*pair, distribution, version) for pair in pairs if pair[0] == name]
    return tuple(entry for entries in found.values() for entry in entries)


def _dist_infos(folder: str) -> list[str]:
    try:
        return [item for item in os.listdir(folder) if item.endswith(_DIST_INFO)]
    except OSError as problem:
        if is_interrupt(problem):
            raise
        return []


def _read(path: str) -> str | None:
    try:
        with open(path, "rb", buffering=0) as file:
            content = file.read()
    except OSError as problem:
        if is_interrupt(problem):
            raise
        return None
    # Most are about scripts alone: not worth decoding.
    return content.decode(errors="replace") if b"[hush]" in content else None


def _pairs(text: str) -> list[tuple[str, str]]:
    """Name and value of each entry point of the group, in the order of the file."""
    pairs, section = [], ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            section = line.strip("[]").strip()
        elif section == GROUP and not line.startswith("#"):
            name, equals, value = map(str.strip, line.partition("="))
            if name and equals and value:
                pairs.append((name, value))
    return pairs
