"""How values look."""

from __future__ import annotations

import time
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hush_core.cli import render


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (None, ""),
        (0, "0.000 ms"),
        (0.042, "0.042 ms"),
        (0.5, "0.50 ms"),
        (4.213, "4.21 ms"),
        (42.13, "42.1 ms"),
        (421.3, "421 ms"),
        (999.4, "999 ms"),
        (999.6, "1.00 s"),
        (4213, "4.21 s"),
        (59_990, "60.0 s"),
        (61_000, "1 m 01 s"),
        (3_599_000, "59 m 59 s"),
        (3_661_000, "1 h 01 m"),
        (90_000_000, "1 d 01 h"),
        (-5, "-5.00 ms"),
    ],
)
def test_a_duration_has_three_digits_and_a_fitting_unit(ms: float | None, text: str) -> None:
    assert render.duration(ms) == text


@pytest.mark.parametrize(
    ("usd", "text"),
    [
        (None, ""),
        (0, "$0"),
        (0.0000042, "$0.0000042"),
        (0.00123, "$0.0012"),
        (0.5, "$0.5"),
        (0.999, "$1.00"),
        (1.2345, "$1.23"),
        (12345.6, "$12,345.60"),
    ],
)
def test_a_cost_shows_small_sums_and_tells_unknown_from_nothing(usd: float | None, text: str) -> None:
    assert render.cost(usd) == text


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (812, "812 B"), (4200, "4.2 KB"), (5e6, "5 MB"), (7.25e12, "7.25 TB")]
)
def test_a_size_has_a_fitting_unit(size: int, text: str) -> None:
    assert render.size(int(size)) == text


def test_a_moment_says_as_much_as_is_needed() -> None:
    now = datetime(2025, 6, 15, 12, 0, 0).timestamp()

    def ns(*moment: int) -> int:
        return int(datetime(*moment).timestamp() * 1e9)  # type: ignore[arg-type]

    assert render.moment(ns(2025, 6, 15, 9, 5, 7), now) == "09:05:07"
    assert render.moment(ns(2025, 1, 31, 9, 5), now) == "31 Jan 09:05"
    assert render.moment(ns(2023, 1, 31, 9, 5), now) == "2023-01-31"
    assert render.moment(None) == ""


@pytest.mark.parametrize("show", [render.moment, render.exact_moment, render.clock])
@pytest.mark.parametrize("ns", [2**63 - 1, -(2**63), 10**30])
def test_a_time_that_no_calendar_holds_is_shown_as_such(show: object, ns: int) -> None:
    assert show(ns)  # type: ignore[operator]


def test_control_characters_are_written_out_and_other_text_stays() -> None:
    assert render.safe("a\x1b[2Jb\x07\x9b\x7f") == "a\\x1b[2Jb\\x07\\x9b\\x7f"
    assert render.safe("one\ntwo\tthree\r") == "one\\ntwo\\tthree\\r"
    assert render.safe("\u202egnp.exe\u2066 \u2028 \ud800") == "\\u202egnp.exe\\u2066 \\u2028 \\ud800"
    assert render.safe("日本語 é 👩‍👩‍👧 \u00a0") == "日本語 é 👩‍👩‍👧 \u00a0"


@given(st.text(st.characters()))
def test_nothing_that_a_terminal_obeys_survives(text: str) -> None:
    shown = render.safe(text)
    shown.encode()
    assert not any(ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0 for character in shown)


def test_a_preview_says_how_much_it_leaves_out() -> None:
    assert render.preview({"a": [1, None]}, 40) == '{"a":[1,null]}'
    shown = render.preview("x" * 1000, 40)
    assert len(shown) <= 41
    assert shown == "x" * 21 + "… +979 characters"


@given(st.text(max_size=300), st.integers(30, 200))
def test_what_a_preview_shows_and_what_it_says_is_missing_are_all_of_it(text: str, width: int) -> None:
    shown = render.preview(text, width)
    whole = render.safe(text)
    if shown != whole:
        kept, _, missing = shown.rpartition("… +")
        assert len(kept) + int(missing.removesuffix(" characters").replace(",", "")) == len(whole)


def test_an_integer_beyond_64_bits_is_json_too() -> None:
    assert render.to_json({"n": 10**30}) == '{"n":1000000000000000000000000000000}'


def test_half_a_surrogate_pair_is_json_too() -> None:
    assert render.to_json("\ud800") == '"\\ud800"'


def test_the_first_line_of_an_error_is_its_kind_and_message() -> None:
    assert render.first_line("\nValueError: no\x1b\nTraceback ...\n") == "ValueError: no\\x1b"


def test_a_clock_has_milliseconds() -> None:
    assert render.clock(int(time.time()) * 10**9 + 7_000_000).endswith(".007")
