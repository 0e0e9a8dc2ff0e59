"""The time, as an argument: what waits for hours is tried with a clock of the test's own."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """The time, so that a test can let hours pass."""

    def now_ns(self) -> int: ...
    def monotonic(self) -> float: ...


class SystemClock:
    """The time as it is."""

    def now_ns(self) -> int:
        return time.time_ns()

    def monotonic(self) -> float:
        return time.monotonic()
