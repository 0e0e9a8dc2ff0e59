"""The tracers that plugins offer by name, and what becomes of a name that two offer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from hush_core.errors import PluginError
from hush_core.plugins.entry import Entry
from hush_core.plugins.target import is_target

#: The distribution of what is built in.
CORE: Final = "hush-core"
CHOOSE: Final = "Uninstall one of them, or name the one to leave out in HUSH_BLOCK_PLUGINS or [plugins] block."


class Registration(NamedTuple):
    """A tracer that a plugin offers by name."""

    name: str
    target: str  #: "module:Class"
    summary: str = ""
    distribution: str | None = None  #: None for a class that the settings or the code name themselves
    version: str | None = None

    @property
    def origin(self) -> str:
        """How messages name what brought it: "hush-langfuse 0.1.0", "built in"."""
        return "built in" if self.distribution == CORE else self.package

    @property
    def package(self) -> str:
        """The distribution with its version."""
        return " ".join(filter(None, (self.distribution, self.version)))

    @property
    def class_name(self) -> str:
        return self.target.rpartition(":")[2].rpartition(".")[2]


def offer(entry: Entry, name: Any, target: Any, summary: Any) -> Registration:
    """What a plugin registers, checked. Raises PluginError."""
    if not isinstance(name, str) or not name or any(map(str.isspace, name)) or ":" in name:
        raise PluginError(f"it registers {name!r} as a tracer's name, which has to be a word without a colon")
    if not isinstance(target, str) or not is_target(target):
        raise PluginError(f"it registers the tracer {name!r} as {target!r}, which has to be text: 'my_module:MyTracer'")
    return Registration(name, target, str(summary), entry.distribution, entry.version)


class Offers:
    """All that plugins offer. What is built in cannot be taken over; of any other name that two offer, none holds."""

    def __init__(self, offered: Iterable[Registration]) -> None:
        self._by_name: dict[str, list[Registration]] = {}
        for each in offered:
            self._by_name.setdefault(each.name, []).append(each)

    def of(self, name: str) -> list[Registration]:
        """The offers of a name: more than one is a clash."""
        offers = self._by_name.get(name, [])
        return [each for each in offers if each.distribution == CORE] or offers

    @property
    def usable(self) -> dict[str, Registration]:
        """Those that can be had by name."""
        return {name: offers[0] for name in sorted(self._by_name) if len(offers := self.of(name)) == 1}

    def by_class(self, class_name: str) -> list[Registration]:
        """Those whose class has that name, as records of an older hush know a tracer."""
        return [each for each in self.usable.values() if each.class_name == class_name]

    def refused(self) -> list[tuple[Registration, str]]:
        """Those that do not hold, with the reason."""
        refused = []
        for name, offers in self._by_name.items():
            for each in offers:
                if len(offers) > 1 and self.of(name) != [each]:
                    others = " and ".join(other.package for other in offers if other is not each)
                    refused.append((each, f"the tracer name {name!r} is also that of {others}. {CHOOSE}"))
        return refused
