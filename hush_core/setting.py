"""The values that a setting may have beside plain ones: durations, sizes and conditions, kept as the text they were."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from typing_extensions import Self

_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_BYTES: Final = {
    "B": 1,
    **{f"{prefix}B": 1000**power for power, prefix in enumerate("KMGT", start=1)},
    **{f"{prefix}iB": 1024**power for power, prefix in enumerate("KMGT", start=1)},
}
_AMOUNT: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*", re.ASCII)


def parse_duration(text: str) -> float:
    """Seconds in a text such as "30d", "12h" or "1.5s". ValueError for anything else."""
    return _amount(text, _SECONDS, "a duration", "30d")


def parse_size(text: str) -> int:
    """Bytes in a text such as "5GB" (powers of 1000) or "4MiB" (powers of 1024). ValueError for anything else."""
    return int(_amount(text, _BYTES, "a size", "5GB"))


def _amount(text: str, units: dict[str, Any], what: str, example: str) -> float:
    match = _AMOUNT.fullmatch(text)
    factor = units.get(match[2]) if match else None
    if match is None or factor is None:
        raise ValueError(f"{text!r} is not {what} such as {example!r}; units: {', '.join(units)}")
    return float(match[1]) * float(factor)


class Text(str):
    """A setting that stays the text that was written; making one of a text that is not valid is a ValueError."""

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        setting = super().__new__(cls, text)
        setting._check()
        return setting

    def _check(self) -> None:
        raise NotImplementedError


class Duration(Text):
    """A duration such as "30d"; "forever" has no end."""

    __slots__ = ()

    def _check(self) -> None:
        _ = self.seconds  # raises ValueError

    @property
    def seconds(self) -> float | None:
        """None stands for no end."""
        return None if self == "forever" else parse_duration(self)


class Size(Text):
    """A size such as "5GB"; "unlimited" has no bound."""

    __slots__ = ()

    def _check(self) -> None:
        _ = self.bytes  # raises ValueError

    @property
    def bytes(self) -> int | None:
        """None stands for no bound."""
        return None if self == "unlimited" else parse_size(self)


class Condition(Text):
    """A rule of `when`: "error", "slow > 2s" or "tag:NAME"."""

    __slots__ = ()

    def _check(self) -> None:
        slow, above, _ = self.partition(">")
        if self != "error" and not self.tag and (slow.strip() != "slow" or not above):
            raise ValueError(f"{str(self)!r} is not a condition; valid are 'error', 'slow > 2s' and 'tag:NAME'")
        _ = self.slower_than_s  # raises ValueError

    @property
    def tag(self) -> str | None:
        """The tag that a request must bear, or None when the rule is another one."""
        return self.removeprefix("tag:") if self.startswith("tag:") else None

    @property
    def slower_than_s(self) -> float | None:
        """The seconds that a request must exceed, or None when the rule is another one."""
        return parse_duration(self.partition(">")[2]) if self.startswith("slow") else None
