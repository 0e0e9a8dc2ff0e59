"""What a model call used, from what each provider says of it.

The counts are those of the OpenTelemetry conventions for generative AI: prompt tokens are all that was sent, cached
ones included; completion tokens are all that was generated, reasoning included; cached and reasoning tokens are parts
of these. What a provider does not say is None, never 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple


class Usage(NamedTuple):
    """Tokens of one model call."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


NO_USAGE: Final = Usage()


def read_usage(usage: Any) -> Usage:
    """The counts in a usage object or dict of OpenAI (chat and responses), Anthropic, Gemini or LangChain.

    Raises nothing of its own; an object whose attributes raise does, and the caller contains it.
    """
    if usage is None:
        return NO_USAGE
    get = _getter(usage)

    def say(name: str) -> int | None:
        return _count(get(name))

    cached = _first(
        _detail(get, ("prompt_tokens_details", "input_tokens_details"), "cached_tokens"),
        _detail(get, ("input_token_details",), "cache_read"),
        say("cached_tokens"),
        say("cached_content_token_count"),
        say("cachedContentTokenCount"),
    )
    reasoning = _first(
        _detail(get, ("completion_tokens_details", "output_tokens_details"), "reasoning_tokens"),
        _detail(get, ("output_token_details",), "reasoning"),
        say("reasoning_tokens"),
    )
    prompt = _first(say("prompt_tokens"), say("input_tokens"))
    completion = _first(say("completion_tokens"), say("output_tokens"))
    total = say("total_tokens")
    read, written = say("cache_read_input_tokens"), say("cache_creation_input_tokens")
    if read is not None or written is not None:  # Anthropic counts cached tokens apart from the input's
        prompt = _sum(prompt, read, written)
        cached = read
    if prompt is None and completion is None:
        prompt, completion, total, thoughts = _gemini(say, total)
        reasoning = _first(reasoning, thoughts)
    if total is None and prompt is not None and completion is not None:
        total = prompt + completion
    counts = Usage(prompt, completion, total, cached, reasoning)
    return NO_USAGE if counts == NO_USAGE else counts


def _gemini(
    say: Callable[[str], int | None], total: int | None
) -> tuple[int | None, int | None, int | None, int | None]:
    """Gemini counts thoughts apart from the candidates, and the results of its tools apart from the prompt."""
    prompt = _first(say("prompt_token_count"), say("promptTokenCount"))
    tools = _first(say("tool_use_prompt_token_count"), say("toolUsePromptTokenCount"))
    candidates = _first(say("candidates_token_count"), say("candidatesTokenCount"))
    thoughts = _first(say("thoughts_token_count"), say("thoughtsTokenCount"))
    total = _first(total, say("total_token_count"), say("totalTokenCount"))
    return _sum(prompt, tools), _sum(candidates, thoughts), total, thoughts


def _getter(usage: Any) -> Callable[[str], Any]:
    """How to ask for something by name: of a mapping or of an object."""
    return usage.get if isinstance(usage, Mapping) else lambda name: getattr(usage, name, None)


def _detail(get: Callable[[str], Any], groups: tuple[str, ...], name: str) -> int | None:
    """A count within the first of the groups that is there."""
    group = next((found for found in map(get, groups) if found is not None), None)
    return None if group is None else _count(_getter(group)(name))


def _count(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return int(value) if value == value and abs(value) < 2**63 else None


def _first(*counts: int | None) -> int | None:
    return next((count for count in counts if count is not None), None)


def _sum(*counts: int | None) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None
