"""A damaged database is kept beside, and a new one begun; what is in the journals is stored, whatever it looks like."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import pytest
from waiting import wait_until

from hush_core import get_store
from hush_core.background.supervisor import control
from hush_core.cli.examination import examine
from hush_core.journal.format import journal_directory

from .children import Child, drain, log_of, open_journal
from .history import Record, check_whole, expected, history, stored

OLD: Final = history(60, (4000,), name="old")
NEW: Final = history(8, name="new")
#: How often each kind of damage is tried, at places that chance chooses.
TIMES: Final = 6

Damage = Callable[[random.Random, Path], None]


def record(database: Path, records: list[Record]) -> None:
    journal = open_journal(database)
    for each in records:
        journal.append(each.payload)


def overwrite(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def destroy_the_header(dice: random.Random, path: Path) -> None:
    overwrite(path, 0, dice.randbytes(100))


def destroy_the_first_pages(dice: random.Random, path: Path) -> None:
    overwrite(path, 0, dice.randbytes(64 * 1024))


def destroy_the_schema(dice: random.Random, path: Path) -> None:
    overwrite(path, 100, dice.randbytes(4000))


def destroy_pages(dice: random.Random, path: Path) -> None:
    for _ in range(20):
        overwrite(path, dice.randrange(1, path.stat().st_size // 4096) * 4096, dice.randbytes(4096))


def lose_pages(dice: random.Random, path: Path) -> None:
    for _ in range(20):
        overwrite(path, dice.randrange(1, path.stat().st_size // 4096) * 4096, bytes(4096))


def flip_bits(dice: random.Random, path: Path) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(200):
        data[dice.randrange(100, len(data))] ^= 1 << dice.randrange(8)  # behind the version of the schema
    path.write_bytes(data)


def truncate(dice: random.Random, path: Path) -> None:
    os.truncate(path, dice.randrange(1, path.stat().st_size))


def replace_by_text(dice: random.Random, path: Path) -> None:
    path.write_text("this was a database once\n" * dice.randrange(1, 1000))


def replace_by_garbage(dice: random.Random, path: Path) -> None:
    path.write_bytes(dice.randbytes(path.stat().st_size))


def empty(_: random.Random, path: Path) -> None:
    os.truncate(path, 0)


def leave_a_foreign_log(dice: random.Random, path: Path) -> None:
    Path(f"{path}-wal").write_bytes(dice.randbytes(100_000))


DAMAGES: Final[list[Damage]] = [
    destroy_the_header, destroy_the_first_pages, destroy_the_schema, destroy_pages, lose_pages, flip_bits, truncate,
    replace_by_text, replace_by_garbage, empty, leave_a_foreign_log,
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_in_the_journals_is_stored_beside_a_damaged_database_which_is_kept(
    scratch: Path, damage: Damage
) -> None:
    template = scratch / "template.db"
    Child(partial(record, template, OLD), scratch / "errors").wait()
    drain(template)
    for seed in range(TIMES):
        folder = scratch / f"{seed}"
        folder.mkdir()
        database = folder / "traces.db"
        journal_directory(database).mkdir()
        (journal_directory(database) / "made-by-hush").touch()  # as beside every database that hush made
        shutil.copy(template, database)
        damage(random.Random(seed), database)
        print(f"seed {seed}")
        Child(partial(record, database, NEW), scratch / "errors").wait()
        drain(database)
        kept = [path for path in folder.glob("traces.db.damaged-*") if not path.name.endswith(("-wal", "-shm"))]
        if kept:
            assert len(kept) == 1
            assert kept[0].stat().st_size > 0
            assert kept[0].name in log_of(database).read_text()
            check_whole(database)
            said = log_of(database).read_text()
            # What was stored, and given up by the journal, before anything damaged was met is in the one that is kept.
            was_stored_before = 0 <= said.find("requests interrupted") < said.find("is damaged")
            assert stored(database) == expected([] if was_stored_before else NEW)
        else:
            with suppress(sqlite3.DatabaseError):  # pages that are damaged, and that the writer had no need of
                found = stored(database)
                assert found.requests.items() >= expected(NEW).requests.items()
                assert [node for node in found.nodes if node.request_id.startswith("new")] == expected(NEW).nodes


def test_the_account_of_a_live_app_adds_up_after_its_database_was_damaged(tmp_path: Path) -> None:
    database = tmp_path / "traces.db"
    store = get_store(database)

    def record_some() -> None:
        for number in range(60):  # enough for a few segments: those that are stored are given up
            text = {"text": "x" * 30_000}
            store.insert_node_trace("r", "w", f"n{number}", None, None, number, None, None, None, text, None)
        assert store.sync(20)

    record_some()
    wait_until(lambda: not list(journal_directory(database).glob("*-000000.segment")), "the first to be given up")
    os.kill(control(database, {"verb": "status"})["pid"], signal.SIGKILL)
    for log in ("-wal", "-shm"):  # it holds the first pages, too
        Path(f"{database}{log}").unlink(missing_ok=True)
    destroy_the_first_pages(random.Random(0), database)
    record_some()
    assert [path.name for path in tmp_path.glob("traces.db.damaged-*")]
    told: list[str] = []

    def is_told_alone() -> bool:
        told[:] = [problem.what for problem in examine(database).problems]
        return len(told) == 1

    wait_until(is_told_alone, "doctor to find one thing wrong")
    assert "was put aside" in told[0]
