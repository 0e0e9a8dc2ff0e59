"""Whatever a value is, its text is bounded, plain, and shows what was left out."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hush_langfuse.payload import FIELD_BYTES_MAX, as_json, as_text, shorten

_texts = st.text(st.characters(exclude_categories=()), max_size=30)
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _texts | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(_texts, inner, max_size=5),
)


@given(_values)
def test_any_value_becomes_json_that_utf8_can_hold(value: Any) -> None:
    json.loads(as_json(value).encode())


@given(_values)
def test_any_value_becomes_a_text_and_none_becomes_none(value: Any) -> None:
    text = as_text(value)
    assert (text is None) == (value is None)
    if text is not None:
        text.encode()


@given(st.recursive(st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))  # fmt: skip
def test_what_json_and_javascript_can_say_is_said_as_it_is(value: Any) -> None:
    assert json.loads(as_json(value)) == value


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (float("nan"), "NaN"),
        (float("inf"), "Infinity"),
        (float("-inf"), "-Infinity"),
        (2**53, "9007199254740992"),
        (-(2**64), "-18446744073709551616"),
        ("lone \ud800 surrogate", "lone \\ud800 surrogate"),
        (b"hi", {"$bytes": "aGk="}),
        ((1, 2), [1, 2]),
        ({1: 2}, {"1": 2}),
        ("é漢", "é漢"),
    ],
)
def test_what_they_cannot_say_stays_visible(value: Any, said: Any) -> None:
    assert json.loads(as_json([value])) == [said]


def test_a_text_stays_a_text() -> None:
    assert as_text("Paris") == "Paris"
    assert as_text("") == ""


def test_three_hundred_levels_are_kept() -> None:
    value: Any = "the bottom"
    for _ in range(300):
        value = [value]
    assert json.loads(as_json(value)) == value


def test_what_is_below_hundreds_of_levels_is_named_and_left_out() -> None:
    value: Any = "the bottom"
    for _ in range(900):
        value = {"a": value}
    text = as_json(value)
    json.loads(text)
    assert "… [truncated: dict below 400 levels]" in text


def test_a_long_text_is_cut_to_a_million_bytes_with_a_note() -> None:
    for text in ("x" * 20_000_000, "漢" * 1_000_000):
        cut = as_text(text)
        assert cut is not None and len(cut.encode()) <= FIELD_BYTES_MAX
        assert cut.endswith(f"… [truncated: {len(text)} chars]")
        assert len(cut.encode()) > FIELD_BYTES_MAX * 0.9


def test_a_long_text_among_others_is_cut_and_the_others_stay_whole() -> None:
    value = {"document": "x" * 20_000_000, "question": "Where is Paris?", "numbers": list(range(1000))}
    text = as_json(value)
    assert len(text.encode()) <= FIELD_BYTES_MAX
    said = json.loads(text)
    assert (said["question"], said["numbers"]) == (value["question"], value["numbers"])
    assert said["document"].endswith("… [truncated: 20000000 chars]")


@pytest.mark.parametrize(
    "value",
    [
        list(range(1_000_000)),
        {str(number): number for number in range(200_000)},
        [["words " * 50] * 200] * 200,
        {f"{number}" * 5_000: number for number in range(300)},
    ],
)
def test_what_has_too_many_parts_is_json_of_fewer_with_notes(value: Any) -> None:
    began = time.monotonic()
    text = as_json(value)
    assert time.monotonic() - began < 60
    assert len(text.encode()) <= FIELD_BYTES_MAX
    assert type(json.loads(text)) is type(value)
    assert "… [truncated: " in text


def test_what_is_too_large_however_its_lists_are_cut_is_cut_as_a_text() -> None:
    value = [[[[[["x" * 200] * 6] * 6] * 6] * 6] * 6] * 6
    text = as_json(value)
    assert len(text.encode()) <= FIELD_BYTES_MAX
    json.loads(text)


def test_a_name_is_short_and_holds_no_nul_and_no_lone_surrogate() -> None:
    assert shorten("a\0b\ud800", 100) == "a\\x00b\\ud800"
    assert shorten("x" * 300, 10) == "xxxxxxxxxx… [truncated: 300 chars]"
