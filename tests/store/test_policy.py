"""Which requests a tracer wants: by `sample` and `when`, the same answer every time."""

from __future__ import annotations

from typing import Any

import pytest

from hush_core.model import COMPLETED, FAILED, INTERRUPTED
from hush_core.store.batch import RequestEntry
from hush_core.store.policy import reason_to_skip


def request(number: int = 0, **fields: Any) -> RequestEntry:
    entry = RequestEntry(1, f"request-{number}", 0)
    entry.status = COMPLETED
    entry.start_ns, entry.end_ns = 0, 1_000_000_000
    for name, value in fields.items():
        setattr(entry, name, value)
    return entry


@pytest.mark.parametrize("policy", [None, {}, "nonsense", {"when": []}, {"sample": 1.0}, {"sample": "x", "when": "y"}])
def test_without_a_rule_everything_is_wanted(policy: object) -> None:
    assert all(reason_to_skip(policy, request(number)) is None for number in range(100))


def test_a_sample_takes_its_share_of_whole_requests_and_always_the_same_ones() -> None:
    taken = {number for number in range(2000) if reason_to_skip({"sample": 0.2}, request(number)) is None}
    assert 300 < len(taken) < 500
    assert taken == {number for number in range(2000) if reason_to_skip({"sample": 0.2}, request(number)) is None}
    assert taken <= {number for number in range(2000) if reason_to_skip({"sample": 0.5}, request(number)) is None}
    assert reason_to_skip({"sample": 0.0}, request()) == "sample: not among the 0 of all"


@pytest.mark.parametrize(
    ("condition", "fields", "wanted"),
    [
        ("error", {}, False),
        ("error", {"error_count": 1}, True),
        ("error", {"status": FAILED}, True),
        ("error", {"status": INTERRUPTED}, True),
        ("slow > 2s", {}, False),
        ("slow > 2s", {"end_ns": 2_000_000_001}, True),
        ("slow > 500ms", {}, True),
        ("slow > 500ms", {"start_ns": None}, False),
        ("tag:vip", {}, False),
        ("tag:vip", {"tags": ["prod", "vip"]}, True),
        ("a rule of a newer hush", {}, True),
    ],
)
def test_a_condition_fits_or_not(condition: str, fields: dict[str, Any], wanted: bool) -> None:
    assert (reason_to_skip({"when": ["tag:none", condition]}, request(**fields)) is None) is wanted


def test_with_both_what_matters_is_wanted_and_a_sample_of_the_rest() -> None:
    policy = {"sample": 0.1, "when": ["error"]}
    assert all(reason_to_skip(policy, request(number, error_count=1)) is None for number in range(100))
    rest = [reason_to_skip(policy, request(number)) for number in range(1000)]
    assert 50 < rest.count(None) < 150
    assert set(rest) == {None, "sample: not among the 0.1 of all, and no condition fits"}
