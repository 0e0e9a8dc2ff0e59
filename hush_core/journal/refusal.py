"""What the disk refused last: by which reason a record counts as dropped, how long the disk is left alone, and what is
news.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import Final

#: How long to count records as dropped before trying the disk again, seconds.
_RETRY_AFTER_S: Final = 0.5
#: After so long without a failure the next one is news, seconds. Not at once: a disk may be full every other second.
_NEWS_AFTER_S: Final = 60.0

_REASON_OF_ERRNO: Final = {
    errno.ENOSPC: "disk full",
    errno.EDQUOT: "disk full",
    errno.EACCES: "no permission",
    errno.EPERM: "no permission",
    errno.EROFS: "no permission",
    errno.EIO: "input/output error",
    errno.EMFILE: "no descriptor",
    errno.ENFILE: "no descriptor",
}


def drop_reason(problem: OSError) -> str:
    """By which of `hush_core.journal.format.DROP_REASONS` a record counts that the disk refused so."""
    return _REASON_OF_ERRNO.get(problem.errno or 0, "other")


class Refusal:
    """The last refusal of the disk. The journal's lock is held around each call.

    :param solved: called when it is long over, before the next one is news.
    """

    def __init__(self, solved: Callable[[], None]) -> None:
        self._solved = solved
        self._problem: OSError | None = None
        self._at = -inf
        self._retry_at = 0.0
        self._mend_at = 0.0

    def is_fresh(self) -> bool:
        """Whether the disk refused a moment ago: whoever has no record in hand leaves it alone."""
        return monotonic() < self._mend_at

    def raise_again(self) -> None:
        """Raise what the disk raised, for as long as it is to be left alone."""
        if self._problem is not None and monotonic() < self._retry_at:
            raise OSError(self._problem.errno, self._problem.strerror)

    def note(self, problem: OSError, *, takes_nothing: bool) -> bool:
        """The disk refused. True if that is news.

        :param takes_nothing: there is not even a segment: look at the disk again after a while, not for every record.
        """
        now = monotonic()
        if now - self._at > _NEWS_AFTER_S:
            self._problem = None
            self._solved()
        is_news = self._problem is None or self._problem.errno != problem.errno
        self._problem, self._at, self._mend_at = problem, now, now + _RETRY_AFTER_S
        if takes_nothing and now >= self._retry_at:
            self._retry_at = now + _RETRY_AFTER_S
        return is_news

    def over(self) -> None:
        """The disk has given a segment again."""
        self._problem, self._mend_at = None, 0.0
