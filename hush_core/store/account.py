"""The account of all records: accepted = stored + in the journal + set aside + dropped, by reason.

Two independent counts must agree. Every record that a process accepts takes the next number of its journal, also one
that could not be kept; and the writer, the journals' files and the processes count what became of each.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from hush_core.journal.format import HEADER_BYTES
from hush_core.journal.reader import JournalSurvey, Pending, count_before, count_pending, survey
from hush_core.store.queries.holdings import Holdings, JournalRow, load_holdings, load_segments
from hush_core.store.queries.reader import EmptyDatabaseError, file_status

#: A look may fall between two steps of a process or the writer: another look a little later tells that from a loss.
_LOOKS: Final = 8
_BETWEEN_LOOKS_S: Final = 0.02

_DROPPED: Final = "dropped:"
_Loaded = TypeVar("_Loaded")


class JournalAccount(msgspec.Struct):
    """What became of the records of one journal, that is, of one process."""

    journal_id: str
    pid: int | None
    alive: bool
    numbered: int  #: the numbers taken by its records, from the first that this database got to the last that was seen
    stored: int
    in_journal: int
    set_aside: int
    dropped: dict[str, int]
    size_bytes: int
    problem: str | None  #: why its files cannot be read

    @property
    def accepted(self) -> int:
        return self.stored + self.in_journal + self.set_aside + sum(self.dropped.values())

    @property
    def difference(self) -> int:
        """How many more (or, negative, fewer) records there are than numbers: 0 when all is well.

        Records that were dropped after the last one that was seen have taken numbers that nobody sees.
        """
        if self.accepted < self.numbered:
            return self.accepted - self.numbered
        return max(self.accepted - self.numbered - sum(self.dropped.values()), 0)


class Account(msgspec.Struct):
    """The sum over all journals, those that are gone included."""

    stored: int
    in_journal: int
    set_aside: int
    dropped: dict[str, int]
    journals: list[JournalAccount]

    @property
    def accepted(self) -> int:
        return self.stored + self.in_journal + self.set_aside + sum(self.dropped.values())

    @property
    def adds_up(self) -> bool:
        """Whether every journal's counts agree with its numbers."""
        return not any(journal.difference for journal in self.journals)


def take_account(db_path: Path, directory: Path) -> tuple[Account, Holdings | None]:
    """Count everything, beside live processes and without disturbing them; and what the database holds.

    :param directory: of the journals.

    None for the database that is not there (yet). Raises StoreError if there is one that cannot be read.
    """
    for look in range(_LOOKS):
        if look:
            time.sleep(_BETWEEN_LOOKS_S)
        # The database first: what is stored meanwhile is counted in the journal, and nowhere twice.
        holdings = _if_there(load_holdings, db_path)
        account = _add_up(holdings, survey(directory))
        # A segment that was stored and given up between the two is in neither: then the store has moved on since.
        segments = {row.journal_id: row.segment for row in holdings.journals} if holdings is not None else {}
        if account.adds_up and segments == (_if_there(load_segments, db_path) or {}):
            break
    return account, holdings


def _if_there(load: Callable[[Path], _Loaded], db_path: Path) -> _Loaded | None:
    try:
        return load(db_path) if file_status(db_path) is not None else None
    except EmptyDatabaseError:  # a writer is making it this instant
        return None


def _add_up(holdings: Holdings | None, found: list[JournalSurvey]) -> Account:
    rows = {row.journal_id: row for row in holdings.journals} if holdings is not None else {}
    files = {each.journal_id: each for each in found}
    journals = [_of_journal(key, rows.get(key), files.get(key)) for key in dict.fromkeys([*rows, *files])]
    totals = holdings.totals if holdings is not None else {}
    dropped = {name.removeprefix(_DROPPED): n for name, n in totals.items() if name.startswith(_DROPPED)}
    for journal in journals:
        for reason, number in journal.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + number
    return Account(
        stored=totals.get("records_stored", 0) + sum(journal.stored for journal in journals),
        in_journal=sum(journal.in_journal for journal in journals),
        set_aside=totals.get("records_set_aside", 0) + sum(journal.set_aside for journal in journals),
        dropped=dropped,
        journals=journals,
    )


def _of_journal(journal_id: str, row: JournalRow | None, files: JournalSurvey | None) -> JournalAccount:
    pending, dropped = Pending(0, -1), row.dropped if row is not None else {}
    first = row.first + row.elsewhere if row is not None else files.first_sequence if files is not None else 0
    if files is not None and files.problem is None and files.segments:
        segment, offset = (row.segment, row.offset) if row is not None else (min(files.segments), HEADER_BYTES)
        if row is None:
            first += count_before(files)
        pending = count_pending(files, segment, offset)
        dropped = max(dropped, files.dropped, key=lambda counts: sum(counts.values()))
    highest = max(row.highest if row is not None else first - 1, pending.highest_sequence)
    return JournalAccount(
        journal_id=journal_id,
        pid=files.pid if files is not None else row.pid if row is not None else None,
        alive=files is not None and files.alive,
        numbered=highest - first + 1,
        stored=row.stored if row is not None else 0,
        in_journal=pending.records,
        set_aside=row.set_aside if row is not None else 0,
        dropped=dropped,
        size_bytes=files.bytes_on_disk if files is not None else 0,
        problem=files.problem if files is not None else None,
    )
