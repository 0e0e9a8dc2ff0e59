"""What an attempt came to: returning is delivered, and every way of not returning is one of three failures."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from typing import Any

import pytest

from hush_core.delivery.outcome import ERROR_LENGTH_MAX, of_error, of_return
from hush_core.delivery.protocol import Outcome, Settled, line, to_writer
from hush_core.delivery.redaction import Redaction
from hush_core.errors import ConfigurationFlushError, FlushError, PermanentFlushError, RetryableFlushError

REDACTION = Redaction(["hunter2-hunter2"])


def error(problem: BaseException) -> Outcome:
    return of_error(1, problem, REDACTION)


def test_returning_is_delivered() -> None:
    assert of_return(1, None, REDACTION) == Outcome(1, "delivered")
    assert of_return(1, {"status": 200}, REDACTION) == Outcome(1, "delivered")


def test_a_text_that_is_returned_is_what_the_backend_noted() -> None:
    noted = of_return(1, "3 of 20 spans rejected for hunter2-hunter2", REDACTION)
    assert noted == Outcome(1, "delivered", "3 of 20 spans rejected for [redacted]")


def test_what_was_not_run_is_not_delivered() -> None:
    async def flush() -> None: ...

    def stream() -> Iterator[int]:
        yield 1

    for returned in (flush(), stream()):
        outcome = of_return(1, returned, REDACTION)
        assert outcome.kind == "configuration"
        assert "plain function" in (outcome.error or "")


def test_a_refusal_is_permanent() -> None:
    assert error(PermanentFlushError("no such field")) == Outcome(1, "permanent", "no such field")


def test_what_somebody_must_put_right_is_configuration() -> None:
    assert error(ConfigurationFlushError("wrong key")) == Outcome(1, "configuration", "wrong key")


def test_a_retryable_error_has_its_floor() -> None:
    assert error(RetryableFlushError("busy", retry_after_s=30)) == Outcome(1, "retry", "busy", 30.0)
    assert error(RetryableFlushError("busy")) == Outcome(1, "retry", "busy")


@pytest.mark.parametrize("floor", [math.nan, math.inf, -1, 0, "soon", object(), 10**400])
def test_a_floor_that_is_no_time_is_none(floor: Any) -> None:
    assert error(RetryableFlushError("busy", retry_after_s=floor)).retry_after_s is None


@pytest.mark.parametrize(
    "problem",
    [
        ValueError("x"), FlushError("x"), TimeoutError(), SystemExit(3), KeyboardInterrupt(), GeneratorExit(),
        asyncio.CancelledError(), MemoryError(), RecursionError(), BaseException(), StopIteration(),
    ],
    ids=lambda problem: type(problem).__name__,
)  # fmt: skip
def test_anything_else_is_tried_again(problem: BaseException) -> None:
    outcome = error(problem)
    assert outcome.kind == "retry"
    assert outcome.error


def test_an_error_says_what_it_was() -> None:
    assert error(ValueError("bad port")).error == "ValueError: bad port"
    assert error(ValueError()).error == "ValueError"
    assert error(RetryableFlushError()).error == "RetryableFlushError"
    assert error(SystemExit(3)).error == "the tracer called sys.exit(3) instead of delivering"
    assert "delivery.memory" in (error(MemoryError()).error or "")


def test_a_module_that_is_missing_in_flush_is_configuration_and_named() -> None:
    with pytest.raises(ModuleNotFoundError) as missing:
        import no_such_vendor  # type: ignore[import-not-found]  # noqa: F401
    outcome = error(missing.value)
    assert outcome.kind == "configuration"
    assert "No module named 'no_such_vendor'" in (outcome.error or "")
    with pytest.raises(ImportError) as unfit:
        from json import no_such_name  # type: ignore[attr-defined]  # noqa: F401
    assert error(unfit.value).kind == "configuration"


class _Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_an_error_without_a_text_is_still_an_outcome() -> None:
    assert error(_Unprintable()).error == "_Unprintable: (its text cannot be had)"


def test_an_error_is_bounded_and_holds_no_secret() -> None:
    outcome = error(ValueError("x" * 5_000_000 + "hunter2-hunter2"))
    assert len(outcome.error or "") < ERROR_LENGTH_MAX + 50
    assert "hunter2" not in (error(ConfigurationFlushError("key hunter2-hunter2 refused")).error or "")


def test_an_error_with_a_lone_surrogate_goes_through_the_socket() -> None:
    outcome = error(ValueError("bad \ud800"))
    assert to_writer(line(Settled([outcome]))) == Settled([outcome])
