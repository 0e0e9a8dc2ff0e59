"""The environment variables that delivery processes get: those of the apps that recorded, as these handed them over.

They are held in memory only, since most of what is secret in an app is among them. An app that is gone cannot hand over
anything: where nothing is known of its variables, because the writer that knew was killed, another environment serves,
if it has the variables that the tracer's configuration names.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

#: More apps, each with its own folder or settings, than record into one database at a time; some 10 MB.
_MOST: Final = 1024
#: In the place of an origin: what a command that was to deliver brought.
OF_A_COMMAND: Final = 0
#: What a shell says of itself: the writer is started by one. A change in these is none.
_OF_THE_SHELL: Final = frozenset({"OLDPWD", "PWD", "SHLVL", "_"})


class Environments:
    """The environments that are about.

    :param own: of the writer: that of the app which started it.
    """

    def __init__(self, own: Mapping[str, str]) -> None:
        self._own = dict(own)
        self._by_origin: OrderedDict[int, dict[str, str]] = OrderedDict()
        self._since_ns: dict[int, int] = {}

    def hand_over(self, origin: int, variables: Mapping[str, str], since_ns: int | None = None) -> bool:
        """An app, or a command, says what its variables are. True if that is news.

        :param since_ns: time.monotonic_ns() when they were read; now, if it is not given. Older than what is known is
            no news: it was held up on its way.
        """
        since_ns = time.monotonic_ns() if since_ns is None else since_ns
        if since_ns < self._since_ns.get(origin, 0):
            return False
        self._since_ns[origin] = since_ns
        is_new = _told(self._by_origin.get(origin)) != _told(variables)
        self._by_origin[origin] = dict(variables)
        self._by_origin.move_to_end(origin)
        while len(self._by_origin) > _MOST:
            del self._since_ns[self._by_origin.popitem(last=False)[0]]
        return is_new

    def knows(self, origin: int) -> bool:
        """Whether an app of this origin has handed its variables over."""
        return origin in self._by_origin

    def forget(self) -> None:
        """Origins have other numbers now: what was handed over is nobody's any more."""
        self._by_origin.clear()
        self._since_ns.clear()

    def choose(self, origin: int, names: set[str], live: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment for a delivery: its app's. Where that is not known, the first that has all the names of the
        writer's own and those that were handed over, from the last one on. If none has: the delivery will say what is
        missing.

        Where its app's is known, no other app's is taken, a variable of the same name may be the key of somebody else's
        account; but that of a command which brings it.

        :param live: what an app of the origin that still runs was started with.
        """
        mine = self._by_origin.get(origin)
        own = live if mine is None else mine
        if own is not None:
            brought = self._by_origin.get(OF_A_COMMAND, {})
            return dict(brought if not names <= own.keys() and names <= brought.keys() else own)
        candidates = [self._own, *reversed(self._by_origin.values())]
        return dict(next((found for found in candidates if names <= found.keys()), candidates[0]))


def _told(variables: Mapping[str, str] | None) -> dict[str, str] | None:
    if variables is None:
        return None
    return {name: value for name, value in variables.items() if name not in _OF_THE_SHELL}
