"""From what a caller passed to what a column holds: times, numbers, JSON text."""

from __future__ import annotations

import contextlib
import json
import math
import sqlite3
import time
from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hush_core.store.rows import integer, may_hold_odd_values, real, text, to_faithful_json, to_json, to_ns

SECOND = 1_000_000_000
#: 2024-05-06T07:08:09.123456Z
INSTANT_NS = 1_714_979_289_123_456_000
INSTANT = datetime(2024, 5, 6, 7, 8, 9, 123456, tzinfo=timezone.utc)


@pytest.fixture(params=["UTC", "America/St_Johns", "Asia/Kathmandu"])
def local_zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The zone of this machine, for the time of the test."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


# -- times ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given_time",
    [
        INSTANT_NS,
        INSTANT,
        INSTANT.astimezone(timezone(timedelta(hours=-3, minutes=-30))),
        "2024-05-06T07:08:09.123456+00:00",
        "2024-05-06T07:08:09.123456Z",
        "2024-05-06 07:08:09.123456Z",
        "2024-05-06 07:08:09.123456+00:00",
        "2024-05-06T09:08:09.123456+02:00",
        "2024-05-05T21:38:09.123456-09:30",
    ],
)
def test_an_instant_is_the_same_however_it_is_given(given_time: object) -> None:
    assert to_ns(given_time) == INSTANT_NS


@pytest.mark.parametrize(
    ("given_time", "fraction_ns"),
    [
        ("2024-05-06T07:08:09Z", 0),
        ("2024-05-06T07:08:09.1Z", 100_000_000),
        ("2024-05-06T07:08:09.12Z", 120_000_000),
        ("2024-05-06T07:08:09.123Z", 123_000_000),
        ("2024-05-06T07:08:09.1234Z", 123_400_000),
        ("2024-05-06T07:08:09.123456Z", 123_456_000),
    ],
)
def test_fractions_of_a_second_may_have_any_number_of_digits(given_time: str, fraction_ns: int) -> None:
    assert to_ns(given_time) == INSTANT_NS // SECOND * SECOND + fraction_ns


def test_digits_beyond_microseconds_are_taken_within_a_microsecond() -> None:
    found = to_ns("2024-05-06T07:08:09.123456789Z")
    assert found is not None
    assert abs(found - INSTANT_NS) <= 1000


def test_a_time_without_a_zone_is_local_time(local_zone: str) -> None:
    naive = INSTANT.astimezone().replace(tzinfo=None)
    assert to_ns(naive) == INSTANT_NS
    assert to_ns(naive.isoformat()) == INSTANT_NS
    assert to_ns(naive.isoformat(" ")) == INSTANT_NS


def test_a_float_is_seconds() -> None:
    assert to_ns(1_714_979_289.5) == 1_714_979_289_500_000_000
    assert to_ns(0.0) == 0


@pytest.mark.parametrize(
    "nonsense",
    [
        None,
        True,
        False,
        "",
        "yesterday",
        "2024-13-45T99:99:99Z",
        "12:00",
        b"2024-05-06T07:08:09Z",
        [],
        {},
        ["2024-05-06T07:08:09Z"],
        math.nan,
        math.inf,
        -math.inf,
        1e300,
        2**63,
        -(2**63) - 1,
        10**100,
        "9999-12-31T23:59:59Z",  # a time, but 64 bits of nanoseconds end in 2262
        datetime.max.replace(tzinfo=timezone.utc),
        datetime.max,
        datetime.min,
        "0001-01-01T00:00:00",
        timedelta(seconds=5),
    ],
)
def test_what_is_no_time_or_no_column_can_hold_is_none(nonsense: object) -> None:
    assert to_ns(nonsense) is None


aware_datetimes = st.datetimes(
    datetime(1700, 1, 1),
    datetime(2250, 1, 1),
    timezones=st.integers(-24 * 60 + 1, 24 * 60 - 1).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)


@given(aware_datetimes)
def test_a_datetime_and_its_iso_text_are_the_same_to_the_microsecond(when: datetime) -> None:
    expected = (when - datetime(1970, 1, 1, tzinfo=timezone.utc)) // timedelta(microseconds=1) * 1000
    assert to_ns(when) == expected
    assert to_ns(when.isoformat()) == expected
    in_utc = when.astimezone(timezone.utc)
    assert to_ns(in_utc.isoformat().replace("+00:00", "Z")) == expected


@given(st.one_of(st.text(max_size=40), st.integers(), st.floats(), st.binary(max_size=10), st.datetimes()))
def test_any_value_is_a_time_that_fits_the_column_or_none(value: object) -> None:
    found = to_ns(value)
    assert found is None or -(2**63) <= found < 2**63


# -- numbers and names ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [(5, 5), (0, 0), (-7, -7), (True, 1), (3.0, 3), (2**63 - 1, 2**63 - 1)],
)
def test_a_count_is_taken_as_a_number(value: object, expected: int) -> None:
    assert integer(value) == expected


@pytest.mark.parametrize("value", [None, 2**63, -(2**63) - 1, 3.5, math.nan, math.inf, 1e300, "seven", b"7", [7], {}])
def test_what_is_no_count_is_none(value: object) -> None:
    assert integer(value) is None


@pytest.mark.parametrize(("value", "expected"), [(1.5, 1.5), (3, 3.0), (-0.25, -0.25), ("0.0015", 0.0015)])
def test_a_measure_is_taken_as_a_number(value: object, expected: float) -> None:
    assert real(value) == expected


@pytest.mark.parametrize("value", [None, math.nan, math.inf, "inf", "nan", "much", True, b"1", [1.5], {}, 10**400])
def test_what_is_no_measure_is_none(value: object) -> None:
    assert real(value) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, None), ("", ""), ("a", "a"), (5, "5"), (1.5, "1.5"), (True, "True"), ([1, "a"], '[1,"a"]')],
)
def test_a_name_of_another_type_is_kept_as_text(value: object, expected: str | None) -> None:
    assert text(value) == expected


# -- JSON -------------------------------------------------------------------------------------------------------------

json_values: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    lambda inner: st.lists(inner, max_size=5)
    | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), inner, max_size=5),
    max_leaves=20,
)  # fmt: skip


@given(json_values)
def test_what_json_can_say_is_kept_as_it_is(value: object) -> None:
    for as_json in (to_json, to_faithful_json):
        written = as_json(value)
        assert (json.loads(written) if written is not None else None) == value


def test_bytes_are_told_from_strings_and_can_be_had_back() -> None:
    assert to_faithful_json({"data": b"\x00\xff"}) == '{"data":{"$bytes":"AP8="}}'


def test_what_is_not_a_number_is_told_from_null() -> None:
    assert to_faithful_json([math.nan, math.inf, -math.inf, None]) == '["nan","inf","-inf",null]'


def test_a_key_that_is_no_string_is_kept_as_json_text() -> None:
    value = {1: "a", None: "b", 2.5: "c", (1, "x"): "e", b"\xff": "f", math.nan: "g"}
    written = to_faithful_json(value)
    assert written is not None
    assert list(json.loads(written)) == ["1", "null", "2.5", '[1,"x"]', '{"$bytes":"/w=="}', "nan"]


def test_keys_of_one_text_are_both_kept() -> None:
    for value, kept in COLLIDING:
        decoded = msgspec.msgpack.decode(msgspec.msgpack.encode({"in": [value]}))
        for as_json in (to_json, to_faithful_json):
            written = as_json(decoded)
            assert written is not None
            assert json.loads(written, object_pairs_hook=list) == [("in", [list(kept.items())])]

    written = to_faithful_json({math.nan: 1, float("nan"): 2, "nan": 3})
    assert written is not None and json.loads(written) == {"nan": 1, "nan (float)": 2, "nan (str)": 3}


COLLIDING: list[tuple[dict[Any, Any], dict[str, Any]]] = [
    ({True: "bool", "true": "text"}, {"true": "bool", "true (str)": "text"}),
    ({"null": "text", None: "none"}, {"null": "text", "null (NoneType)": "none"}),
    ({1: "int", "1": "text"}, {"1": "int", "1 (str)": "text"}),
    ({"1": "text", 1: "int"}, {"1": "text", "1 (int)": "int"}),
    ({-7: "int", "-7": "text", "-7 (str)": "more"}, {"-7": "int", "-7 (str)": "text", "-7 (str) (str)": "more"}),
    ({1.5: "float", "1.5": "text"}, {"1.5": "float", "1.5 (str)": "text"}),
    ({1: "alone", "a": '"1": in a text'}, {"1": "alone", "a": '"1": in a text'}),
    ({"1": "alone"}, {"1": "alone"}),
]


def test_keys_of_one_text_are_kept_at_any_depth_that_python_can_walk() -> None:
    value: Any = {1: "int", "1": "text"}
    for _ in range(900):
        value = [value]
    written = to_json(value)
    assert written is not None and written.count('"int"') == 1


def test_dates_and_times_inside_a_value_are_iso_text() -> None:
    assert to_faithful_json([date(2024, 5, 6), INSTANT]) == '["2024-05-06","2024-05-06T07:08:09.123456+00:00"]'


msgpack_values: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.binary(max_size=10)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=10),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5) | st.integers(-99, 99), inner,
                      max_size=4),
    max_leaves=15,
)  # fmt: skip


@given(msgpack_values)
def test_any_recorded_value_becomes_json_that_sqlite_reads(value: object) -> None:
    decoded = msgspec.msgpack.decode(msgspec.msgpack.encode(value))
    for as_json in (to_json, to_faithful_json):
        written = as_json(decoded)
        if written is not None:
            assert _is_valid_json(written)


def _is_valid_json(written: str) -> bool:
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        return connection.execute("SELECT json_valid(?)", (written,)).fetchone() == (1,)


@pytest.mark.parametrize("leaf", [1, b"\xff", math.nan], ids=["plain", "bytes", "nan"])
def test_a_value_nested_as_deep_as_the_app_could_encode_it_is_kept(leaf: object) -> None:
    value = leaf
    for _ in range(900):
        value = [value]
    decoded = msgspec.msgpack.decode(msgspec.msgpack.encode(value))
    written = to_faithful_json(decoded)
    assert written is not None
    assert written.startswith("[" * 900)


@given(msgpack_values)
def test_a_record_that_holds_odd_values_is_always_noticed(value: object) -> None:
    def is_odd(value: object) -> bool:
        if isinstance(value, dict):
            return any(map(is_odd, value)) or any(map(is_odd, value.values()))
        if isinstance(value, list):
            return any(map(is_odd, value))
        return isinstance(value, bytes) or (isinstance(value, float) and not math.isfinite(value))

    if is_odd(value):
        assert may_hold_odd_values(msgspec.msgpack.encode(value))
