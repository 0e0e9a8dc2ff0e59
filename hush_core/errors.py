"""The errors hush raises on purpose. Each says what failed, the likely cause, what to do, and the valid choices.

Capture never raises any of these into a workflow; they are for configuration, reading and delivery.
"""

from __future__ import annotations


class HushError(Exception):
    """Base of every error that hush raises on purpose."""


class ConfigError(HushError):
    """A setting is wrong: an unknown key, a bad value, a file that cannot be read."""


class UnknownTracerError(ConfigError):
    """A tracer was asked for by a name that nothing registers."""


class PluginError(HushError):
    """A plugin cannot be used."""


class PluginLoadError(PluginError):
    """A plugin's module or target failed to import."""


class DuplicateTracerError(PluginError):
    """Two plugins register the same tracer name."""


class JournalError(HushError):
    """A journal file is not what its format says."""


class StoreError(HushError):
    """The database cannot be opened, read or written."""


class SchemaTooNewError(StoreError):
    """The database was written by a newer hush than this one."""


class UnknownRequestError(StoreError):
    """No stored request, or more than one, fits the id that was given."""


class FlushError(HushError):
    """A tracer could not deliver a request."""


class RetryableFlushError(FlushError):
    """Delivery failed for now; try again, no sooner than ``retry_after_s`` seconds from now if given."""

    def __init__(self, message: str = "", *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class PermanentFlushError(FlushError):
    """Delivery of this request can never succeed; it becomes a dead letter."""
