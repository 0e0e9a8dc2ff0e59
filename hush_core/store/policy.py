"""Which requests a tracer wants: `sample` and `when` of its settings, decided when a request is complete.

Whole requests, and the same answer wherever and whenever it is asked: a sample is drawn by the request's id.
"""

from __future__ import annotations

from typing import Any, Final

from xxhash import xxh3_64_intdigest

from hush_core.config import Condition
from hush_core.model import COMPLETED
from hush_core.store.batch import RequestEntry

_ALL: Final = 2**64


def reason_to_skip(policy: Any, request: RequestEntry) -> str | None:
    """Why a tracer does not want a request, or None if it does.

    Without `when`, what is in the sample is wanted. With `when` alone, what any of its conditions fits; with both, what
    any fits and besides it the sample. A policy that makes no sense wants everything.

    :param policy: {"sample": 0.2, "when": ["error", "slow > 2s", "tag:vip"]}, either may be missing.
    """
    if not isinstance(policy, dict):
        return None
    sample, when = policy.get("sample"), policy.get("when")
    conditions = when if isinstance(when, list) else []
    if any(_fits(condition, request) for condition in conditions):
        return None
    if not isinstance(sample, (int, float)):
        return "when: no condition fits" if conditions else None
    if xxh3_64_intdigest(request.request_id.encode("utf-8", "surrogatepass")) < sample * _ALL:
        return None
    return f"sample: not among the {sample:.3g} of all" + (", and no condition fits" if conditions else "")


def _fits(text: object, request: RequestEntry) -> bool:
    try:
        condition = Condition(text)  # type: ignore[arg-type]  # checked by it
        slower_than_s = condition.slower_than_s
    except (ValueError, TypeError, AttributeError):
        return True  # a condition of a newer hush: deliver rather than lose
    if condition == "error":
        return request.status != COMPLETED or request.error_count > 0
    if condition.tag is not None:
        return condition.tag in request.tags
    if slower_than_s is None or request.start_ns is None or request.end_ns is None:
        return False
    return (request.end_ns - request.start_ns) / 1e9 > slower_than_s
