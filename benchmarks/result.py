"""What a benchmark found: typed, so that the table and the JSON say the same, and nothing is written by hand."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Literal


@dataclass(frozen=True)
class Budget:
    """A bound of the design, on a figure itself or on its ratio to what it is compared with."""

    limit: float
    sense: Literal["at most", "at least"]

    def holds(self, value: float) -> bool:
        return value <= self.limit if self.sense == "at most" else value >= self.limit


@dataclass(frozen=True)
class Figure:
    """Something measured."""

    value: float
    unit: str


@dataclass(frozen=True)
class Ratio:
    """How two figures of the same turn compare; the median over the turns, and how far they were apart."""

    value: float
    low: float
    high: float
    #: "times": measured / beside. "cheaper": beside / measured, the number of times that measured is the smaller.
    kind: Literal["times", "cheaper"]


@dataclass(frozen=True)
class Result:
    """One row of the table. With a ratio the budget is on the ratio, else on the figure itself."""

    benchmark: str
    what: str
    measured: Figure | None = None
    beside: str = ""
    beside_figure: Figure | None = None
    ratio: Ratio | None = None
    budget: Budget | None = None
    note: str = ""  #: what else was found, or why there is no figure
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Whether the budget is kept; None if there is none, or nothing was measured."""
        if self.budget is None or self.measured is None:
            return None
        return self.budget.holds(self.ratio.value if self.ratio is not None else self.measured.value)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "met": self.met}


def compare(measured: list[float], beside: list[float], kind: Literal["times", "cheaper"]) -> Ratio:
    """The ratio of two series that were measured in turns, pair by pair."""
    pairs = [(a / b if kind == "times" else b / a) for a, b in zip(measured, beside, strict=True)]
    pairs.sort()
    return Ratio(median(pairs), pairs[len(pairs) // 10], pairs[-1 - len(pairs) // 10], kind)


def percentile(values: list[int], share: float) -> int:
    """The value that this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]
