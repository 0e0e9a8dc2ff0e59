"""When to try again: the jitter, the breaker, the pauses."""

from __future__ import annotations

import random

import pytest

from hush_core.delivery.schedule import (
    BREAKER_AFTER,
    CAP_S,
    PAUSE_S,
    RETRY_AFTER_MAX_S,
    SECOND_NS,
    WELL,
    after_failure,
    after_misconfiguration,
    backoff_s,
)

NOW = 1_800_000_000 * SECOND_NS


@pytest.fixture
def dice() -> random.Random:
    return random.Random(7)


def test_a_failed_transport_waits_with_full_jitter_longer_each_time_up_to_the_cap(dice: random.Random) -> None:
    for attempt, longest in ((1, 1.0), (2, 2.0), (5, 16.0), (9, 256.0), (10, CAP_S), (10_000, CAP_S)):
        waits = [backoff_s(attempt, None, dice) for _ in range(500)]
        assert 0.0 <= min(waits) < longest * 0.05
        assert longest * 0.95 < max(waits) <= longest


def test_what_the_backend_asks_for_is_a_floor_and_the_jitter_comes_on_top(dice: random.Random) -> None:
    waits = [backoff_s(3, 30.0, dice) for _ in range(500)]
    assert min(waits) >= 32.0  # never near the floor itself: not all come back at once
    assert max(waits) <= 34.0


@pytest.mark.parametrize(("asked", "believed"), [(-5.0, 0.0), (10**9, RETRY_AFTER_MAX_S)])
def test_no_backend_is_believed_beyond_reason(asked: float, believed: float, dice: random.Random) -> None:
    assert believed <= backoff_s(1, asked, dice) <= believed + 1.0


def test_a_tracer_is_well_until_several_attempts_in_a_row_have_failed(dice: random.Random) -> None:
    health = WELL
    for number in range(1, BREAKER_AFTER):
        health = after_failure(health, NOW, None, dice)
        assert (health.failures, health.retry_ns) == (number, 0)
        assert not health.is_well  # one at a time from the first failure on
    assert after_failure(health, NOW, None, dice).retry_ns > NOW


def test_probes_of_a_dead_backend_become_rare_and_never_more_frequent_than_the_cap(dice: random.Random) -> None:
    health, waits = WELL, []
    for _ in range(200):
        health = after_failure(health, NOW, None, dice)
        waits.append((health.retry_ns - NOW) / SECOND_NS if health.retry_ns else 0.0)
    assert waits[BREAKER_AFTER - 1] < 6.0
    assert all(CAP_S <= wait <= CAP_S * 1.1 for wait in waits[BREAKER_AFTER + 6 :])


def test_a_backend_that_says_when_to_come_back_is_left_alone_until_then(dice: random.Random) -> None:
    assert after_failure(WELL, NOW, 60.0, dice).retry_ns == NOW + 60 * SECOND_NS


def test_a_misconfigured_tracer_is_paused_with_the_reason_and_tried_slowly(dice: random.Random) -> None:
    health = after_misconfiguration(WELL, NOW, "401: wrong key", dice)
    assert health.paused == "401: wrong key"
    assert PAUSE_S <= (health.retry_ns - NOW) / SECOND_NS <= PAUSE_S * 1.1
