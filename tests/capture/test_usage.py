"""Token counts mean the same, whoever the provider is."""

from __future__ import annotations

import types
from typing import Any

import pytest

from hush_core.capture.usage import NO_USAGE, Usage, read_usage

OPENAI = {
    "prompt_tokens": 100,
    "completion_tokens": 20,
    "total_tokens": 120,
    "prompt_tokens_details": {"cached_tokens": 40},
    "completion_tokens_details": {"reasoning_tokens": 8},
}
CASES: dict[str, tuple[Any, Usage]] = {
    "openai chat": (OPENAI, Usage(100, 20, 120, 40, 8)),
    "openai responses": (
        {
            "input_tokens": 100,
            "output_tokens": 20,
            "total_tokens": 120,
            "input_tokens_details": {"cached_tokens": 40},
            "output_tokens_details": {"reasoning_tokens": 8},
        },
        Usage(100, 20, 120, 40, 8),
    ),
    "anthropic": ({"input_tokens": 10, "output_tokens": 5}, Usage(10, 5, 15)),
    "anthropic, cached": (
        {"input_tokens": 10, "output_tokens": 5, "cache_read_input_tokens": 30, "cache_creation_input_tokens": 7},
        Usage(47, 5, 52, 30),
    ),
    "gemini": (
        {
            "promptTokenCount": 10,
            "candidatesTokenCount": 5,
            "thoughtsTokenCount": 3,
            "totalTokenCount": 18,
            "cachedContentTokenCount": 4,
        },
        Usage(10, 8, 18, 4, 3),
    ),
    "gemini, python": (
        types.SimpleNamespace(prompt_token_count=10, candidates_token_count=5, total_token_count=15),
        Usage(10, 5, 15),
    ),
    "langchain": (
        {
            "input_tokens": 10,
            "output_tokens": 5,
            "total_tokens": 15,
            "input_token_details": {"cache_read": 4},
            "output_token_details": {"reasoning": 2},
        },
        Usage(10, 5, 15, 4, 2),
    ),
    "hush's own": (
        {"prompt_tokens": 1, "completion_tokens": 2, "cached_tokens": 1, "reasoning_tokens": 2},
        Usage(1, 2, 3, 1, 2),
    ),
    "only a total": ({"total_tokens": 9}, Usage(None, None, 9)),
    "only a prompt": ({"prompt_tokens": 9}, Usage(9)),
    "zero is not unknown": ({"prompt_tokens": 0, "completion_tokens": 0}, Usage(0, 0, 0)),
    "not numbers": ({"prompt_tokens": "9", "completion_tokens": True, "total_tokens": float("nan")}, NO_USAGE),
    "nothing": ({}, NO_USAGE),
    "none": (None, NO_USAGE),
    "something else": (5, NO_USAGE),
}


@pytest.mark.parametrize(("usage", "counts"), CASES.values(), ids=CASES)
def test_usage_is_read_from_every_spelling(usage: Any, counts: Usage) -> None:
    assert read_usage(usage) == counts


def test_usage_is_read_from_an_object_as_from_a_dict() -> None:
    as_objects = {
        key: types.SimpleNamespace(**value) if isinstance(value, dict) else value for key, value in OPENAI.items()
    }
    assert read_usage(types.SimpleNamespace(**as_objects)) == read_usage(OPENAI)


def test_no_usage_is_known_by_identity() -> None:
    assert read_usage({"other": 1}) is NO_USAGE
