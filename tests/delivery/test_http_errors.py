"""What an HTTP status means: the table of `hush_core.delivery.http`, Retry-After, and errors that say what to do."""

from __future__ import annotations

import pytest

from hush_core.delivery.http import error_for_status, retry_after
from hush_core.errors import ConfigurationFlushError, PermanentFlushError, RetryableFlushError


@pytest.mark.parametrize("status", [200, 201, 202, 204, 207, 299])
def test_two_hundreds_are_delivered(status: int) -> None:
    assert error_for_status(status) is None


@pytest.mark.parametrize("status", [100, 408, 423, 425, 429, 500, 502, 503, 504, 507, 520, 599, 0, 999])
def test_what_may_pass_is_tried_again(status: int) -> None:
    assert isinstance(error_for_status(status), RetryableFlushError)


@pytest.mark.parametrize(
    "status", [300, 301, 302, 304, 307, 308, 401, 402, 403, 404, 405, 407, 410, 421, 451, 501, 511]
)
def test_what_somebody_must_put_right_is_configuration(status: int) -> None:
    assert isinstance(error_for_status(status), ConfigurationFlushError)


@pytest.mark.parametrize("status", [400, 406, 409, 411, 413, 414, 415, 418, 422, 431, 499])
def test_a_request_that_is_refused_is_permanent(status: int) -> None:
    assert isinstance(error_for_status(status), PermanentFlushError)


def floor(status: int, **headers: str) -> float | None:
    error = error_for_status(status, headers={name.replace("_", "-"): value for name, value in headers.items()})
    assert isinstance(error, RetryableFlushError)
    return error.retry_after_s


def test_an_ambiguous_answer_waits_longer_than_a_busy_one() -> None:
    assert (floor(429), floor(503)) == (1.0, 1.0)
    assert (floor(408), floor(500), floor(502), floor(504)) == (5.0, 5.0, 5.0, 5.0)


def test_retry_after_in_seconds_is_the_floor() -> None:
    assert floor(429, Retry_After="30") == 30.0
    assert floor(503, retry_after=" 2.5 ") == 2.5
    assert floor(503, RETRY_AFTER="120") == 120.0


def test_retry_after_as_a_date_counts_from_the_date_of_the_answer() -> None:
    headers = {"Date": "Wed, 21 Oct 2015 07:28:00 GMT", "Retry-After": "Wed, 21 Oct 2015 07:29:30 GMT"}
    assert retry_after(headers) == 90.0


def test_retry_after_as_a_date_counts_from_now_where_the_answer_has_none() -> None:
    assert retry_after({"Retry-After": "Wed, 21 Oct 2015 07:29:30 GMT"}) == 0.0
    assert (retry_after({"Retry-After": "Fri, 31 Dec 2100 23:59:59 GMT"}) or 0.0) > 1e9
    assert floor(429, Retry_After="Wed, 21 Oct 2015 07:29:30 GMT") == 1.0  # it is past, but too busy all the same


@pytest.mark.parametrize(
    "said", ["", "soon", "-5", "nan", "inf", "1e9", "Wed, 99 Oct 2015", "１２", "1.2.3", "2015-10-21"]
)
def test_a_retry_after_that_is_neither_is_none(said: str) -> None:
    assert retry_after({"Retry-After": said}) is None
    assert floor(429, Retry_After=said) == 1.0


def test_an_error_names_the_status_and_what_the_backend_said() -> None:
    assert str(error_for_status(422, body=b'{"error":\n  "no such field"}')) == (
        'HTTP 422 Unprocessable Entity: {"error": "no such field"}'
    ) or "Unprocessable Content" in str(error_for_status(422))
    assert str(error_for_status(599)) == "HTTP 599"


def test_an_error_is_short_whatever_the_backend_said() -> None:
    assert len(str(error_for_status(400, body="<html> " * 100_000))) < 600
    assert len(str(error_for_status(400, body=b"\xff" * 1_000_000))) < 600


def test_a_configuration_error_says_what_to_do() -> None:
    assert "check the tracer's keys" in str(error_for_status(401))
    assert "check the tracer's URL" in str(error_for_status(404))
    moved = error_for_status(301, headers={"Location": "https://new.example/v1"})
    assert "to https://new.example/v1: give the tracer the address" in str(moved)
