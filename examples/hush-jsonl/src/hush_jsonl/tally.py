"""Counting outcomes, and logging each change of fortune in one line: `prod: 1204 delivered, now retry`."""

from __future__ import annotations

import logging

_log = logging.getLogger(__name__)
#: tracer -> its last outcome, and how many of it there were in a row. Of this delivery process, whose only use it is.
_runs: dict[str, tuple[str, int]] = {}


def count(tracer_name: str, outcome: str) -> None:
    """Take note of an outcome; log it if it is another than the last one."""
    last, times = _runs.get(tracer_name, (outcome, 0))
    if outcome == last:
        _runs[tracer_name] = outcome, times + 1
        return
    _runs[tracer_name] = outcome, 1
    _log.warning("%s: %d %s, now %s", tracer_name, times, last, outcome)
