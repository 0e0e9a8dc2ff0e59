"""The errors hush raises on purpose. Each says what failed, the likely cause, what to do, and the valid choices.

Capture never raises any of these into a workflow; they are for configuration, reading and delivery.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def closest(name: str, valid: Iterable[str]) -> str | None:
    """Which of the valid names is meant, or None if no one is near."""
    import difflib

    near = difflib.get_close_matches(name, list(valid), n=1)
    return near[0] if near else None


class HushError(Exception):
    """Base of every error that hush raises on purpose."""


class ConfigError(HushError):
    """A setting is wrong: an unknown key, a bad value, a file that cannot be read."""

    path: str | None = None  #: the file, where it is known


class UnknownTracerError(ConfigError):
    """A tracer was asked for by a name that nothing registers."""


class MissingVariableError(ConfigError):
    """A tracer's configuration refers to environment variables that are not set: ``variables``, in ``options``."""

    def __init__(self, message: str = "", *, variables: Iterable[str] = (), options: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.variables = tuple(variables)
        self.options = tuple(options)


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


class ConfigurationFlushError(FlushError):
    """Somebody must act first: a wrong key, a moved endpoint, a missing plugin or variable.

    The tracer is paused and named, and tried again slowly; nothing becomes a dead letter for it.
    """
