"""Whatever a backend does, the request waits with the reason, nothing counts as sent, and it arrives in the end.

Through all of hush: an app, the writer, a delivery process, the example's tracer and a real server.
"""

from __future__ import annotations

import time
from typing import Final, NamedTuple

import pytest
from backend import (
    BROKEN,
    CLOSES,
    HANGS,
    MOVED,
    NOT_FOUND,
    OK,
    RESETS,
    TAKES_HALF_THEN_CLOSES,
    TAKES_HALF_THEN_FAILS,
    TRICKLES,
    UNAUTHORIZED,
    UNAVAILABLE,
    Answer,
    Backend,
    throttled,
)
from waiting import wait_until

from .place import FLUSHED, FLUSHING, PENDING, Place

_RETRY_AFTER_S: Final = 40
_IDS: Final = ["r-1", "r-2"]


class Case(NamedTuple):
    """What the backend does, and what is to be seen of it."""

    answer: Answer
    reason: str
    is_paused: bool = False  #: somebody has to act
    waits_s: float = 0.0  #: no sooner than that


CASES: Final = {
    "401": Case(UNAUTHORIZED, "401", is_paused=True),
    "404": Case(NOT_FOUND, "404", is_paused=True),
    "redirects": Case(MOVED, "302", is_paused=True),
    "429 with Retry-After": Case(throttled(_RETRY_AFTER_S), "429", waits_s=_RETRY_AFTER_S),
    "500": Case(BROKEN, "500"),
    "503": Case(UNAVAILABLE, "503"),
    "closes": Case(CLOSES, "no answer"),
    "resets": Case(RESETS, "no answer"),
    "hangs": Case(HANGS, "no answer"),
    "trickles": Case(TRICKLES, "no answer"),
    "takes half, then 500": Case(TAKES_HALF_THEN_FAILS, "500"),
    "takes half, then closes": Case(TAKES_HALF_THEN_CLOSES, "no answer"),
}


@pytest.mark.shared
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_request_waits_with_the_reason_and_arrives_when_its_backend_is_well(case: Case, place: Place) -> None:
    with Backend(case.answer) as backend:
        place.settings(f'[tracers.prod]\ntype = "jsonl"\nurl = "{backend.url}"\ntimeout_s = 0.5\n')
        place.record(*_IDS)
        asked_at = time.time()
        waiting = place.wait_for_error(case.reason, "r-1")
        assert waiting.status in (PENDING, FLUSHING) and waiting.attempts >= 1  # the next attempt may be on
        assert FLUSHED not in {each.status for each in place.deliveries().values()}

        def state() -> tuple[bool, bool]:
            """Of the tracer, which is noted after its deliveries: whether it is paused, and waits as it was told."""
            [(paused, retry_ns)] = place.query("SELECT paused, retry_ns FROM tracer")
            return paused is not None, not case.waits_s or retry_ns / 1e9 >= asked_at + case.waits_s - 5

        wait_until(lambda: state() == (case.is_paused, True), "the state of the tracer")
        assert case.reason in place.hush("tracers").stdout

        backend.answer = OK
        assert place.hush("flush", "--wait").returncode == 0
        place.wait_for(FLUSHED, _IDS)
        assert backend.ids == set(_IDS)
        # Each request came the same in every attempt.
        assert len({line for post in backend.posts for line in post.lines}) == len(_IDS)
