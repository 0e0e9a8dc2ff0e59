"""When to try again: backoff, the breaker, and pauses. Pure: the clock and the dice are arguments.

Two things are kept apart. A *delivery* that failed has a next attempt of its own, so that one request that its backend
will not take does not hold the others up. A *tracer* has a health: after several failures in a row its backend is
taken to be down, and one delivery at a time probes it; an error that somebody has to put right pauses it. Nothing is
given up for its age: the queue is on the disk.
"""

from __future__ import annotations

import random
from typing import Final, NamedTuple

SECOND_NS: Final = 1_000_000_000
#: The first wait after a failure, and the longest, seconds.
_BASE_S: Final = 1.0
CAP_S: Final = 300.0
#: The longest that a backend's Retry-After is believed, seconds.
RETRY_AFTER_MAX_S: Final = 3600.0
#: Failures in a row after which the breaker opens, and the first wait before a probe, seconds; each is twice the last.
BREAKER_AFTER: Final = 5
_PROBE_S: Final = 5.0
#: How often a paused tracer is tried all the same, seconds.
PAUSE_S: Final = 300.0


class Health(NamedTuple):
    """How a tracer's backend does."""

    failures: int = 0  #: attempts in a row that failed
    retry_ns: int = 0  #: no attempt before
    paused: str | None = None  #: what somebody has to put right

    @property
    def is_well(self) -> bool:
        """Whether it may get as much as it takes, and not only one delivery at a time."""
        return not self.failures and self.paused is None


WELL: Final = Health()


def backoff_s(attempt: int, retry_after_s: float | None, dice: random.Random) -> float:
    """How long a delivery waits after its n-th attempt failed, seconds.

    Full jitter where the transport failed: many that failed together do not come back together. Where the backend said
    how long to wait, that is a floor, and the jitter comes on top: full jitter could collapse to no wait at all.
    """
    longest = min(_BASE_S * 2.0 ** min(attempt - 1, 30), CAP_S)
    if retry_after_s is None:
        return dice.uniform(0.0, longest)
    return min(max(retry_after_s, 0.0), RETRY_AFTER_MAX_S) + longest / 2 + dice.uniform(0.0, longest / 2)


def after_failure(health: Health, now_ns: int, retry_after_s: float | None, dice: random.Random) -> Health:
    """An attempt failed, and may succeed later."""
    failures = health.failures + 1
    wait_s = 0.0
    if failures >= BREAKER_AFTER:
        # Jitter above the wait, never below it: no more than one probe in 300 s, however long the backend is down.
        wait_s = min(_PROBE_S * 2.0 ** min(failures - BREAKER_AFTER, 30), CAP_S) * dice.uniform(1.0, 1.1)
    if retry_after_s is not None:
        wait_s = max(wait_s, min(max(retry_after_s, 0.0), RETRY_AFTER_MAX_S))
    return Health(failures, now_ns + int(wait_s * SECOND_NS) if wait_s else 0, None)


def after_misconfiguration(health: Health, now_ns: int, why: str, dice: random.Random) -> Health:
    """An attempt cannot succeed before somebody has put something right."""
    return Health(health.failures + 1, now_ns + int(PAUSE_S * dice.uniform(1.0, 1.1) * SECOND_NS), why)
