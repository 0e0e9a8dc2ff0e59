"""Signals whose handler raises, at every instant at which CPython may run it in hush's code."""

from __future__ import annotations

import inspect
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

import hush_core

_HUSH = os.path.join(os.path.dirname(hush_core.__file__), "")


class Timeout(Exception):
    """What an app's handler raises."""


class Interrupt:
    """`with Interrupt(n, Timeout) as interrupt:` a signal comes at the n-th instant from 0; its handler raises.

    A handler runs when a function begins, and right after a call of C code. It comes once at most: `came` says whether.

    :param instead: what the handler does instead of raising.
    """

    def __init__(
        self, n: int, raised: BaseException | type[BaseException], *, instead: Callable[[], object] | None = None
    ) -> None:
        self._left = n
        self._raised = raised
        self._instead = instead
        self.came = False

    def __enter__(self) -> Interrupt:
        self._before = signal.signal(signal.SIGUSR1, self._handle)
        sys.setprofile(self._look)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sys.setprofile(None)
        signal.signal(signal.SIGUSR1, self._before)

    def _look(self, frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        # Not where a generator goes on: it may be dropped, and CPython keeps to itself what is raised then.
        # Nor where `__exit__` begins: no code could make up for that.
        begins = event == "call" and not code.co_flags & inspect.CO_GENERATOR and code.co_name != "__exit__"
        if (begins or event == "c_return") and code.co_filename.startswith(_HUSH):
            self._left -= 1
            if self._left < 0 and not self.came:
                self.came = True
                signal.raise_signal(signal.SIGUSR1)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._instead is None:
            raise self._raised
        self._instead()
