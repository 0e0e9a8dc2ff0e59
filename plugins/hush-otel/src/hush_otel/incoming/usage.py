"""Tokens as hush counts them: cached ones are part of the prompt's, reasoning ones of the completion's.

Most conventions count so, too; what is counted apart is added here. What nobody said is None, never 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Usage(NamedTuple):
    """Tokens of one model call, by the fields of a node."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


def sound(
    prompt: int | None,
    completion: int | None,
    total: int | None,
    cached: int | None,
    reasoning: int | None,
    written: int | None = None,
) -> Usage | None:
    """The counts of one call; None if nothing was counted.

    More cached tokens than tokens of the prompt were counted apart, as Anthropic does.

    :param written: to a cache: counted like those that were read from it.
    """
    if prompt is not None and cached is not None and cached > prompt:
        prompt += cached + (written or 0)
    if total is None and prompt is not None and completion is not None:
        total = prompt + completion
    found = Usage(prompt, completion, total, cached, reasoning)
    return None if found == Usage() else found


def of_langfuse(details: Any) -> Usage | None:
    """Langfuse's `usage_details`: buckets that share no token, or a usage as OpenAI's API has it."""
    if not isinstance(details, Mapping):
        return None
    counts = {str(name): value for name, value in details.items() if type(value) is int}
    if "prompt_tokens" in counts or "completion_tokens" in counts:
        return sound(
            counts.get("prompt_tokens"),
            counts.get("completion_tokens"),
            counts.get("total_tokens"),
            _detail(details, "prompt_tokens_details", "cached_tokens"),
            _detail(details, "completion_tokens_details", "reasoning_tokens"),
        )
    total = counts.pop("total", None)
    prompt, completion = counts.get("input"), counts.get("output")
    if total is None or total != (prompt or 0) + (completion or 0):
        prompt = _sum(counts, "input", "cache")
        completion = _sum(counts, "output", "reasoning")
    cached = {name: count for name, count in counts.items() if "cached" in name or "cache_read" in name}
    reasoning = {name: count for name, count in counts.items() if "reasoning" in name}
    return sound(
        prompt,
        completion,
        total,
        sum(cached.values()) if cached else None,
        sum(reasoning.values()) if reasoning else None,
    )


def _sum(counts: Mapping[str, int], *beginnings: str) -> int | None:
    found = [count for name, count in counts.items() if name.startswith(beginnings)]
    return sum(found) if found else None


def _detail(details: Mapping[Any, Any], group: str, name: str) -> int | None:
    within = details.get(group)
    count = within.get(name) if isinstance(within, Mapping) else None
    return count if type(count) is int else None
