"""The checks of options that tracers share: what is right passes unchanged, what is wrong is said without a secret."""

from __future__ import annotations

import traceback
from typing import Any

import pytest

from hush_core import ConfigError, OptionCheck

CHECK = OptionCheck("a box tracer")


def url(value: object) -> str:
    return CHECK.url("target", value, example='"https://example.com"', credentials="Put them elsewhere.")


def headers(value: object) -> dict[str, str]:
    return CHECK.headers(value, example='headers = { Key = "${KEY}" }', own=("host", "x-box-"))


@pytest.mark.parametrize("value", ["https://example.com/in?a=1", "http://[::1]:8080", "${TARGET}", "https://${HOST}/"])
def test_a_url_or_a_reference_to_one_passes_as_it_is(value: str) -> None:
    assert url(value) == value


def test_headers_and_times_pass_as_they_are() -> None:
    assert headers({"Key": "a b", "X-Boxes": "${KEY}"}) == {"Key": "a b", "X-Boxes": "${KEY}"}
    assert CHECK.timeout_s(3) == 3.0


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "target of a box tracer has to be a text"),
        ("example.com", "has to begin with http:// or https://"),
        ("https://", "and a host"),
        ("https://example.com/ä", "no character beyond ASCII"),
        ("https://example.com:port", "its host or its port is none"),
        ("https://user@example.com", "shown wherever the target is. Put them elsewhere."),
        ("ftp://example.com", "(ftp://example.com)"),
    ],
)
def test_a_wrong_url_is_an_error_that_says_what_would_be_right(value: object, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        url(value)
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("Key: a", "headers of a box tracer have to be a table of texts"),
        ({"a b": "c"}, "has a name that begins with 'a' and goes on with what no header's name can hold"),
        ({"": "c"}, "have a name that cannot be one"),
        ({3: "c"}, "have a name that cannot be one"),
        ({"HOST": "c"}, "The header HOST of a box tracer is set by the request itself"),
        ({"X-Box-Version": "1"}, "is set by the request itself"),
        ({"Key": None}, "The header Key of a box tracer has to be a text in one line"),
        ({"Key": "a", "key": "b"}, "name one header twice"),
    ],
)
def test_wrong_headers_are_an_error_that_says_what_would_be_right(value: object, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        headers(value)
    assert said in str(raised.value)


TIMES = [0, -1, True, "3", None, float("nan"), float("inf"), 1 << 20_000, "Bearer s3cret"]


@pytest.mark.parametrize("index", range(len(TIMES)))  # pytest would print the values, one of which is too long for that
def test_a_time_that_is_none_is_an_error(index: int) -> None:
    with pytest.raises(ConfigError, match="timeout_s of a box tracer has to be a number of seconds above 0"):
        CHECK.timeout_s(TIMES[index])


@pytest.mark.parametrize(
    ("check", "value"),
    [
        (url, "https://me:s3cret@example.com"),
        (url, "https://me:s3cret/@example.com"),
        (url, "https://me:s3cret[@example.com"),
        (url, "ftp://example.com/?key=s3cret"),
        (url, "https://example.com/a b?key=s3cret"),
        (url, ["https://example.com/?key=s3cret"]),
        (headers, {"Key": "s3cret\n"}),
        (headers, ["s3cret"]),
        (headers, {"Authorization: Bearer s3cret": ""}),
        (url, "postgres://me%3As3cret%40host/"),
        (CHECK.timeout_s, "s3cret"),
    ],
)
def test_neither_an_error_nor_its_traceback_shows_a_secret(check: Any, value: object) -> None:
    with pytest.raises(ConfigError) as raised:
        check(value)
    assert "s3cret" not in "".join(traceback.format_exception(raised.type, raised.value, None))
