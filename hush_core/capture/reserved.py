"""The reserved keys of what a node returns: they go to the trace, and not to the caller."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from hush_core.capture.usage import read_usage
from hush_core.interrupt import is_interrupt

if TYPE_CHECKING:
    from hush_core.capture.opened import Findings
    from hush_core.capture.state import MemoryState


def _take_tags(value: Any, found: Findings, state: MemoryState) -> None:
    found.tags = [*(found.tags or ()), *state.add_tags(value)]


def _take_model(value: Any, found: Findings, state: MemoryState) -> None:
    found.model = value


def _take_usage(value: Any, found: Findings, state: MemoryState) -> None:
    found.usage = read_usage(value)


def _take_cost(value: Any, found: Findings, state: MemoryState) -> None:
    found.cost_usd = read_cost(value)


def _take_metadata(value: Any, found: Findings, state: MemoryState) -> None:
    both_are_dicts = isinstance(value, dict) and isinstance(found.metadata, dict)
    found.metadata = {**found.metadata, **value} if both_are_dicts else value


def _take_media(value: Any, found: Findings, state: MemoryState) -> None:
    found.media = value


RESERVED: Final[dict[str, Callable[[Any, Findings, MemoryState], None]]] = {
    "$tags": _take_tags,
    "$model": _take_model,
    "$usage": _take_usage,
    "$cost": _take_cost,
    "$metadata": _take_metadata,
    "$media": _take_media,
}
_KEYS: Final = frozenset(RESERVED)


def has_reserved(result: Any) -> bool:
    """Whether it is a dict with a reserved key. Asks nothing of the object's own code."""
    return issubclass(type(result), dict) and not dict.keys(result).isdisjoint(_KEYS)


def take_reserved(result: Any, found: Findings, state: MemoryState) -> Any:
    """Put a dict's reserved keys into the findings; gives a copy without them, of the same class if it can be copied.

    A copy, because the function may keep what it returned (a cache) and return it again. Never raises but
    an interrupt: a value that makes no sense is reported.
    """
    for key, take in RESERVED.items():
        if dict.__contains__(result, key):
            try:
                take(dict.__getitem__(result, key), found, state)
            except Exception as problem:
                if is_interrupt(problem):
                    raise
                state.report(problem, f"reading {key} of a node's result")
    if type(result) is dict:
        return {key: value for key, value in result.items() if key not in _KEYS}
    try:
        rest = copy.copy(result)
    except Exception as problem:
        if is_interrupt(problem):
            raise
        rest = dict(dict.items(result))
    for key in _KEYS:
        dict.pop(rest, key, None)
    return rest


def read_cost(cost: Any) -> Any:
    """A cost in USD: a number, or the total of a dict of costs. What is neither is kept as it is."""
    if isinstance(cost, dict):
        total = next((cost[key] for key in ("total_cost", "total", "cost_usd", "cost") if key in cost), None)
        return cost if total is None else read_cost(total)
    if cost is None or isinstance(cost, (bool, str)):
        return cost
    return float(cost)
