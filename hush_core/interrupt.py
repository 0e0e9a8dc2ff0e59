"""Exceptions that come out of hush and are the app's own: what interrupts hush must not be contained by it.

A signal's handler runs in the middle of whatever the main thread does, hush included, and may raise: `sys.exit` on
SIGTERM, a timeout on SIGALRM, Celery's soft limit. Another thread may put an exception here, as Dramatiq's time limit
does. Such an exception goes on unchanged; what objects' own code raises, SystemExit included, stays contained.
"""

from __future__ import annotations

import os
import sys
from abc import ABCMeta
from collections.abc import Callable
from itertools import pairwise
from types import CodeType, FrameType, FunctionType, MethodType, TracebackType
from typing import Any, Final

_VARARGS: Final = 0x04  # of a code object; importing inspect takes milliseconds
# Exceptions are classes of anybody's; what is asked of them here is what every exception has.
_traceback_of: Final[Callable[[BaseException], TracebackType | None]] = vars(BaseException)["__traceback__"].__get__
_args_of: Final[Callable[[BaseException], tuple[Any, ...]]] = vars(BaseException)["args"].__get__


def is_interrupt(problem: BaseException) -> bool:
    """Whether an exception interrupts hush: Ctrl+C, one of a signal's handler, or one that another thread put here.

    For every place in the user's process that contains exceptions of others, OSError included: TimeoutError is one.
    Never raises, but RecursionError where the stack ends.
    """
    kind = type(problem)
    if issubclass(kind, KeyboardInterrupt):
        return True
    inside: FrameType | None = None
    handlers: set[CodeType] | None = None
    foreign = False
    trace = _traceback_of(problem)
    while trace is not None:
        frame = trace.tb_frame
        path = frame.f_code.co_filename
        if not path.startswith(_OWN_FOLDER):
            if handlers is None:
                handlers = _registered()
            if frame.f_code in handlers or (inside is not None and _was_given(frame, inside)):
                return True
            foreign = foreign or path != _OF_ABCS
        inside, trace = frame, trace.tb_next
    # Another thread can only give the class, so the exception says nothing; what C code raises says what is wrong.
    return not foreign and not _args_of(problem) and not issubclass(kind, MemoryError)


#: Where hush's own code is, as its frames say it: where modules have no source, their files are called otherwise.
_OWN_FOLDER: Final = os.path.join(os.path.dirname(is_interrupt.__code__.co_filename), "")
#: Code that hush has called itself: whether an object is a Mapping, an ABC answers.
_OF_ABCS: Final = vars(ABCMeta)["__subclasscheck__"].__code__.co_filename


def _registered() -> set[CodeType]:
    """The code of the handlers that are registered now, of those that are functions or methods."""
    signal = sys.modules.get("_signal")  # not `signal`, which makes enums of all it gives; an app with a handler has it
    codes: set[CodeType] = set()
    if signal is None:
        return codes
    for number in signal.valid_signals():
        handler = signal.getsignal(number)
        if type(handler) in (FunctionType, MethodType):
            code = getattr(handler, "__code__", None)
            if type(code) is CodeType:
                codes.add(code)
    return codes


def _was_given(frame: FrameType, interrupted: FrameType) -> bool:
    """Whether a frame was called with a signal's number and the frame that it interrupted, as a handler is.

    That tells also the handlers that are registered no more: many set SIG_IGN or SIG_DFL before they raise.
    """
    code = frame.f_code
    given = list(map(frame.f_locals.get, code.co_varnames[: code.co_argcount]))
    if code.co_flags & _VARARGS:
        rest = frame.f_locals.get(code.co_varnames[code.co_argcount + code.co_kwonlyargcount])
        given += rest if type(rest) is tuple else ()
    return any(at is interrupted and issubclass(type(number), int) for number, at in pairwise(given))
