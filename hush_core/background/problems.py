"""What is in the writer's way at present: a full disk, a journal that cannot be read."""

from __future__ import annotations

from collections.abc import Callable


class Problems:
    """Problems by what was being done. Each is logged once for as long as it stays the same.

    :param log: takes a line.
    """

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log
        self._present: dict[str, str] = {}

    def say(self, doing: str, problem: object) -> None:
        """This could not be done, and will be tried again."""
        if self._present.get(doing) != str(problem):
            self._present[doing] = str(problem)
            self._log(f"{doing}: {problem}")

    def solved(self, doing: str) -> None:
        """This has been done."""
        self._present.pop(doing, None)

    def forget(self, name: str) -> None:
        """Nothing is to be done with this journal any more."""
        for doing in [doing for doing in self._present if doing.endswith(name)]:
            del self._present[doing]

    @property
    def present(self) -> str | None:
        """All that is in the way now, or None."""
        return "; ".join(f"{doing}: {problem}" for doing, problem in self._present.items()) or None
