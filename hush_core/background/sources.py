"""The journals beside a database, as the writer keeps track of them: which there are, and whose owner has ended."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from hush_core.background.doorbell import Doorbell
from hush_core.background.problems import Problems
from hush_core.background.source import Source, Step, retire_segment
from hush_core.errors import JournalError
from hush_core.journal.reader import segments
from hush_core.store.sqlite import JournalState
from hush_core.system import Files, watch_process

#: How often to look behind bytes that are no frame, seconds.
_DAMAGE_CHECK_S: Final = 1.0
_STEP_BYTES_MIN: Final = 64 * 1024


class Sources:
    """A `Source` for each journal. Its owner's end shows at once, through a descriptor that the doorbell watches.

    :param states: what the store knows of each journal, by its name.
    :param log: takes a line.
    """

    def __init__(
        self,
        files: Files,
        directory: Path,
        bell: Doorbell,
        problems: Problems,
        log: Callable[[str], None],
        states: Callable[[], dict[str, JournalState]],
    ) -> None:
        self._files = files
        self._directory = directory
        self._bell = bell
        self._problems = problems
        self._log = log
        self._states = states
        self._sources: dict[bytes, Source] = {}
        self._watched: dict[int, bytes] = {}  # descriptor that is readable when an owner ends -> journal
        self._unreadable: set[bytes] = set()

    def __iter__(self) -> Iterator[Source]:
        """A copy is walked: sources come and go meanwhile."""
        return iter(list(self._sources.values()))

    def __len__(self) -> int:
        return len(self._sources)

    def close(self) -> None:
        """Let go of every journal; nothing is said of them to anybody."""
        for source in self:
            self.forget(source)

    def scan(self) -> bool:
        """List the directory: new journals, new segments, owners that have ended. True if a journal is new.

        Raises OSError, or what ``states`` raises; then the next scan finds the rest.
        """
        found = segments(self._files, self._directory)
        unknown = [each for each in found if each not in self._sources and each not in self._unreadable]
        states = self._states() if unknown else {}
        before = len(self)
        for journal_id in unknown:
            self._add(journal_id, found[journal_id], states)
        came = len(self) > before
        for journal_id, source in self._sources.items():
            source.learn(found.get(journal_id, []))
        self.tell(lambda source: source.report_fault() if source.is_unlinked() else None)
        watched = set(self._watched.values())
        for journal_id, source in self._sources.items():
            if journal_id not in watched:
                self._check_owner(source)
        return came

    def _add(self, journal_id: bytes, numbers: list[int], states: dict[str, JournalState]) -> None:
        opening = f"opening journal {journal_id.hex()}"
        try:
            source = Source(self._files, self._directory, journal_id, numbers, states.get(journal_id.hex()))
            self._problems.solved(opening)
        except FileNotFoundError:
            return
        except OSError as problem:  # another user's, say; it must not stop the others
            self._problems.say(opening, problem)
            return
        except JournalError as problem:
            self._unreadable.add(journal_id)
            self._log(f"journal {journal_id.hex()} is left untouched: {problem}")
            return
        for path in source.stored_already(numbers):
            retire_segment(self._files, path)
        if source.damaged_header is not None:
            self._log(f"journal {source.name} is read without its header, which is set aside: {source.damaged_header}")
        self._sources[journal_id] = source
        fd = watch_process(source.header.owner)
        if fd is not None:
            self._watched[fd] = journal_id
            self._bell.watch(fd)

    def check_ready(self, ready: list[int]) -> bool:
        """The doorbell found these watched descriptors readable. True if any says that an owner has ended."""
        ended = False
        for fd in ready:
            journal_id = self._watched.get(fd)
            if journal_id is not None:  # else the answer to a command has ended it in between
                self._unwatch(fd)
                self._check_owner(self._sources[journal_id])
                ended = True
        return ended

    def _check_owner(self, source: Source) -> None:
        """See whether the owner of a journal has ended. What cannot be told now, the next scan looks at again."""
        checking = f"looking after the owner of journal {source.name}"
        try:
            source.check_owner()
            self._problems.solved(checking)
        except OSError as problem:
            self._problems.say(checking, problem)

    def _unwatch(self, fd: int) -> None:
        self._bell.unwatch(fd)
        del self._watched[fd]
        os.close(fd)

    def forget(self, source: Source) -> None:
        """Let go of a journal. If its files are still there, the next scan finds it again."""
        journal_id = bytes.fromhex(source.name)
        self._sources.pop(journal_id, None)
        source.close()
        self._problems.forget(source.name)
        for fd in [fd for fd, watched in self._watched.items() if watched == journal_id]:
            self._unwatch(fd)

    def tell(self, tell: Callable[[Source], None]) -> None:
        """Tell every owner something. It is a hint: who does not hear it rings more often than need be."""
        for source in self:
            telling = f"telling the owner of journal {source.name}"
            try:
                tell(source)
                self._problems.solved(telling)
            except OSError as problem:
                self._problems.say(telling, problem)

    def steps(self, now: float, max_bytes: int) -> tuple[list[tuple[Source, Step]], bool]:
        """The next step of each journal that has one, of about so many bytes in all; and whether one had more to give.

        :param now: time.monotonic()
        """
        share = max(max_bytes // max(len(self), 1), _STEP_BYTES_MIN)
        steps, more = [], False
        for source in self:
            look = now - source.damage_checked_at > _DAMAGE_CHECK_S
            if look:
                source.damage_checked_at = now
            reading = f"reading journal {source.name}"
            try:
                step = source.step(share, look_behind_damage=look)
            except OSError as problem:  # one journal that cannot be read must not stop the others
                self._problems.say(reading, problem)
                continue
            self._problems.solved(reading)
            if step is not None:
                steps.append((source, step))
                more = more or step.slice.state.offset - source.state.offset > share // 2
        return steps, more
