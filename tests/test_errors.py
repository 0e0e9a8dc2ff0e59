"""The errors that hush raises on purpose: one family, whose members carry the facts."""

from __future__ import annotations

import pickle

import pytest

from hush_core import (
    ConfigError,
    DuplicateTracerError,
    FlushError,
    HushError,
    JournalError,
    PermanentFlushError,
    PluginError,
    PluginLoadError,
    RetryableFlushError,
    SchemaTooNewError,
    StoreError,
    UnknownRequestError,
    UnknownTracerError,
)

FAMILY = [
    (ConfigError, HushError),
    (UnknownTracerError, ConfigError),
    (PluginError, HushError),
    (PluginLoadError, PluginError),
    (DuplicateTracerError, PluginError),
    (JournalError, HushError),
    (StoreError, HushError),
    (SchemaTooNewError, StoreError),
    (UnknownRequestError, StoreError),
    (FlushError, HushError),
    (RetryableFlushError, FlushError),
    (PermanentFlushError, FlushError),
]


@pytest.mark.parametrize(("error", "parent"), FAMILY)
def test_an_error_can_be_caught_as_its_parent(error: type[HushError], parent: type[HushError]) -> None:
    with pytest.raises(parent, match="what failed"):
        raise error("what failed")


def test_a_retryable_failure_says_how_long_to_wait_at_least() -> None:
    assert RetryableFlushError("busy", retry_after_s=1.5).retry_after_s == 1.5
    assert RetryableFlushError("busy").retry_after_s is None


@pytest.mark.parametrize("error", [error for error, _ in FAMILY])
def test_an_error_can_be_sent_to_another_process(error: type[HushError]) -> None:
    copy = pickle.loads(pickle.dumps(error("what failed")))
    assert (type(copy), str(copy)) == (error, "what failed")


def test_how_long_to_wait_is_sent_with_the_error() -> None:
    assert pickle.loads(pickle.dumps(RetryableFlushError("busy", retry_after_s=3))).retry_after_s == 3
