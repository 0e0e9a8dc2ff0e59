"""What an attempt came to, told from what the tracer did: it returned, or it raised."""

from __future__ import annotations

import inspect
import math
import sys
from typing import Any, Final

from hush_core.delivery.protocol import Outcome, OutcomeKind
from hush_core.delivery.redaction import Redaction
from hush_core.errors import ConfigurationFlushError, PermanentFlushError, RetryableFlushError

#: Characters of an error that are kept; a backend may answer with a page.
ERROR_LENGTH_MAX: Final = 2000


def of_return(delivery: int, returned: object, redaction: Redaction) -> Outcome:
    """The tracer returned: delivered. A text that it returned is what the backend noted, and is kept.

    A coroutine or a generator that it returned has not run, so nothing was delivered: somebody must mend the tracer.
    """
    if isinstance(returned, str):
        return Outcome(delivery, "delivered", _bounded(returned, redaction) or None)
    if returned is not None and (inspect.isawaitable(returned) or inspect.isgenerator(returned)):
        if hasattr(returned, "close"):
            returned.close()  # else Python warns that it was never awaited
        return Outcome(
            delivery,
            "configuration",
            f"flush gave a {type(returned).__name__} instead of delivering: write it as a plain function, with no "
            "`async` and no `yield`; inside, asyncio.run() may run what is asynchronous.",
        )
    return Outcome(delivery, "delivered")


def of_error(delivery: int, error: BaseException, redaction: Redaction) -> Outcome:
    """The tracer raised. What is not said to be permanent, or to wait for somebody, is tried again."""
    kind, retry_after_s = _kind(error)
    return Outcome(delivery, kind, _bounded(_text(error), redaction), retry_after_s)


def _kind(error: BaseException) -> tuple[OutcomeKind, float | None]:
    if isinstance(error, RetryableFlushError):
        return "retry", _floor(error.retry_after_s)
    if isinstance(error, PermanentFlushError):
        return "permanent", None
    if isinstance(error, (ConfigurationFlushError, ImportError)):
        return "configuration", None
    return "retry", None


def _floor(seconds: Any) -> float | None:
    """The time that a backend asked for, if it is one: what a plugin passes on may be anything."""
    try:
        floor = float(seconds)
    except (TypeError, ValueError, OverflowError):
        return None
    return floor if math.isfinite(floor) and floor > 0 else None


def _text(error: BaseException) -> str:
    try:
        said = str(error)
    except Exception:
        said = "(its text cannot be had)"
    kind = type(error).__name__
    if isinstance(error, (ConfigurationFlushError, PermanentFlushError, RetryableFlushError)):
        return said or kind
    if isinstance(error, SystemExit):
        return f"the tracer called sys.exit({said}) instead of delivering"
    if isinstance(error, ModuleNotFoundError):
        return f"{said or 'a module is missing'}: the tracer needs it. Install it into {sys.executable}."
    if isinstance(error, ImportError):
        return f"{kind}: {said}. What the tracer imports does not fit together in {sys.executable}."
    if isinstance(error, MemoryError):
        return f"{kind}: {said or 'more was needed than there may be'}. The setting delivery.memory says how much."
    return f"{kind}: {said}" if said else kind


def _bounded(text: str, redaction: Redaction) -> str:
    # A lone surrogate goes through no socket.
    return redaction.beginning(text, ERROR_LENGTH_MAX).encode(errors="backslashreplace").decode()
