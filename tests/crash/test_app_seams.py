"""The app is killed before, after and in the middle of each call that its journal makes to the file system."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from hush_core.journal import appender
from hush_core.system import Files

from .children import Acknowledgements, Child, drain, open_journal
from .history import Record, check_prefixes, history
from .seams import AFTER, BEFORE, HALFWAY, Fuse, FusedFiles

REQUESTS = 8


class _PlainFiles(FusedFiles):
    """A file system whose blocks are never certain: segments are written with write(2)."""

    def can_map(self, directory: Path) -> bool:
        return False


def record_all(database: Path, files: Files, said: Acknowledgements, records: list[Record]) -> None:
    """The app: append a history, and say after each append that it has returned."""
    journal = open_journal(database, files, power_safe=True)
    for number, record in enumerate(records):
        journal.append(record.payload)
        said.say(number)
        if number % 10 == 0:
            journal.sync_to_disk()


@pytest.mark.parametrize("when", [BEFORE, AFTER, HALFWAY])
@pytest.mark.parametrize("kind", [FusedFiles, _PlainFiles], ids=["mapped", "plain"])
@pytest.mark.usefixtures("small_segments")
def test_every_record_whose_append_returned_survives_a_kill_at_any_call(
    scratch: Path, kind: type[FusedFiles], when: str, monkeypatch: pytest.MonkeyPatch, instants: Iterator[int]
) -> None:
    # Every few records by their number, which begins anywhere: the calls of one run would not be those of the next.
    monkeypatch.setattr(appender, "_TEND_EVERY", 1)
    database = scratch / "traces.db"
    kept: list[tuple[list[Record], int]] = []
    for at in instants:
        records = history(REQUESTS, name=f"app{at}")
        with Acknowledgements() as said:
            files = kind(Fuse(at, when))
            finished = Child(partial(record_all, database, files, said, records), scratch / "errors").wait()
            assert said.listen() == list(range(len(said.heard)))
        kept.append((records, len(said.heard)))
        if len(kept) % 20 == 0 or finished:
            drain(database)
        if finished:
            break
    counts = check_prefixes(database, kept)
    assert counts[-1] == len(records)
    assert counts == sorted(counts), "a later kill kept less than an earlier one"
    assert at > len(records)
