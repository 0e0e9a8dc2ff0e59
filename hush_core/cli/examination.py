"""What `hush doctor` looks at: each part of an installation, and what is wrong with it and what to do."""

from __future__ import annotations

import os
import platform
import sqlite3
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from hush_core.cli.delivery_examination import examine_deliveries, examine_plugins
from hush_core.cli.render import plural
from hush_core.cli.roster import Roster
from hush_core.config import Config
from hush_core.errors import ConfigError, StoreError
from hush_core.journal.format import SET_ASIDE, WRITER_LOG, journal_directory
from hush_core.store.account import Account, JournalAccount, take_account
from hush_core.store.queries.holdings import Holdings
from hush_core.store.queries.reader import OlderSchemaError

if TYPE_CHECKING:
    from hush_core.plugins.host import PluginHost

#: From this version on, two connections that write at the same instant cannot damage a WAL database.
_SQLITE_SAFE: Final = (3, 51, 3)
_LITTLE_SPACE_BYTES: Final = 200_000_000
#: File systems that other machines write to: SQLite's log needs memory that all its users share.
_REMOTE_FILESYSTEMS: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "fuse.sshfs", "glusterfs", "ceph"}
)
#: So many records may be missing because as many calls were interrupted; more are a loss.
_FEW: Final = 3
_LOG_LINES: Final = 3
_ANSWER_S: Final = 2.0


class Finding(msgspec.Struct):
    """Something that is wrong, or worth knowing, and what to do about it."""

    what: str
    todo: str
    part: str  #: the part of the examination that it belongs to
    is_problem: bool = True


class Examination(msgspec.Struct):
    """Everything that was looked at."""

    db_path: Path
    journal_path: Path
    account: Account | None = None
    holdings: Holdings | None = None
    writer: dict[str, Any] | None = None  #: what it says of itself; None if none runs
    settings: dict[str, Any] | None = None
    settings_path: Path | None = None
    config: Config | None = None  #: None if the settings are wrong
    roster: Roster | None = None  #: None if the database cannot be read
    versions: dict[str, str] = {}
    findings: list[Finding] = []

    @property
    def problems(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.is_problem]

    @property
    def plugins(self) -> PluginHost | None:
        return self.roster.host if self.roster is not None else None

    def problem(self, part: str, what: str, todo: str) -> None:
        self.findings.append(Finding(what, todo, part))

    def note(self, part: str, what: str, todo: str) -> None:
        self.findings.append(Finding(what, todo, part, is_problem=False))


def examine(db_path: Path) -> Examination:
    """Look at everything. Changes nothing, but has a writer store what was left in the journals."""
    from hush_core.cli.leftover import store_leftovers

    seen = Examination(db_path, journal_directory(Path(os.path.realpath(db_path))), findings=[])
    not_stored = store_leftovers(db_path)
    _examine_versions(seen)
    _examine_settings(seen)
    _examine_writer(seen, not_stored)
    _examine_records(seen)
    _examine_files(seen)
    examine_deliveries(seen)
    examine_plugins(seen)
    return seen


def _examine_versions(seen: Examination) -> None:
    from hush_core import __version__

    seen.versions = {
        "hush-core": __version__,
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
        "system": f"{platform.system()} {platform.release()}",
    }
    if sqlite3.sqlite_version_info < _SQLITE_SAFE:
        seen.note(
            "versions",
            f"SQLite {sqlite3.sqlite_version}: before {'.'.join(map(str, _SQLITE_SAFE))}, two connections that write "
            "at the same instant could damage the database.",
            "Nothing: here only the writer's one connection writes. Do not let other programs write to this file.",
        )


def _examine_settings(seen: Examination) -> None:
    from hush_core.config import find_config, load_config

    try:
        seen.settings_path = find_config()
        seen.config = config = load_config(seen.settings_path)
    except ConfigError as problem:
        seen.problem("settings", str(problem), "Correct the file. Until then apps record with the defaults.")
        return
    seen.settings = msgspec.to_builtins(
        {"store": config.store, "capture": config.capture, "delivery": config.delivery}, enc_hook=str
    )


def _examine_writer(seen: Examination, not_stored: str | None) -> None:
    from hush_core.background.doorbell import ask

    try:
        seen.writer = ask(seen.journal_path, {"verb": "status"}, _ANSWER_S)
    except TimeoutError:
        seen.problem("writer", f"A writer runs, but has not answered within {_ANSWER_S:g} s.", _look_at_log(seen))
    except OSError:
        seen.writer = None  # none runs: none is needed, unless something is not stored
    if not_stored is not None:
        seen.problem("writer", f"Records wait in the journals and cannot be stored: {not_stored}", _look_at_log(seen))
    elif seen.writer is not None and seen.writer.get("problem"):
        seen.problem("writer", f"The writer has trouble: {seen.writer['problem']}", _look_at_log(seen))
    if seen.writer is not None and seen.writer.get("sync_faults"):
        seen.problem(
            "writer",
            f"The disk failed to keep a journal segment, {seen.writer['sync_faults']} times; its records were stored "
            "from memory.",
            "Check the disk (dmesg, smartctl): a disk that reports such errors is about to fail.",
        )
    if seen.writer is not None and seen.writer.get("version") != seen.versions["hush-core"]:
        seen.note(
            "writer",
            f"The writer is of hush-core {seen.writer.get('version')}, this command of {seen.versions['hush-core']}.",
            "Nothing: the apps that record now were started with that version.",
        )


def _look_at_log(seen: Examination) -> str:
    """Where the writer's log is, and its end."""
    path = seen.journal_path / WRITER_LOG
    try:
        end = path.read_text(errors="replace").splitlines()[-_LOG_LINES:]
    except OSError:
        return f"There is no log of the writer at {path}."
    return f"The end of its log, {path}:\n" + "\n".join(end)


def _examine_records(seen: Examination) -> None:
    try:
        seen.account, seen.holdings = _count(seen)
    except (StoreError, OSError) as problem:
        seen.problem("database", str(problem), "Recording goes on meanwhile; the journals keep what cannot be stored.")
        return
    for journal in seen.account.journals:
        if journal.problem is not None:
            seen.problem(
                "journals",
                f"The journal {journal.journal_id} cannot be read: {journal.problem}",
                f"Keep its files in {seen.journal_path}; a newer hush-core may read them.",
            )
        if journal.difference:
            seen.problem(
                "records",
                f"The journal {journal.journal_id} of process {journal.pid} does not add up: its records took "
                f"{journal.numbered:,} numbers, but {journal.accepted:,} are accounted for.",
                _explanation(journal),
            )
    _examine_lost(seen, seen.account)


def _explanation(journal: JournalAccount) -> str:
    defect = "a defect of hush, or somebody changed its files. Please report it with this output."
    if -_FEW <= journal.difference < 0:
        # Between the number that a record takes and its place in the journal there is no lock to undo it.
        return (
            "Ctrl+C, or a signal handler that raises, may have ended a call before it had recorded anything: then "
            f"nothing was promised, and nothing is to be done. If there was none of that, it is {defect}"
        )
    return f"This is {defect}"


def _count(seen: Examination) -> tuple[Account, Holdings | None]:
    try:
        return take_account(seen.db_path, seen.journal_path)
    except OlderSchemaError:
        from hush_core.background.supervisor import control

        control(seen.db_path, {"verb": "status"})  # a writer brings the schema up to date when it starts
        return take_account(seen.db_path, seen.journal_path)


def _examine_lost(seen: Examination, account: Account) -> None:
    folder = seen.journal_path / SET_ASIDE
    kept = _files_in(folder)
    if kept and not account.set_aside and all(path.suffix == ".bytes" for path in kept):
        seen.note(
            "records",
            f"What a process was writing when it died is kept, torn, as {plural(len(kept), 'file')}: no record is "
            "known to be lost with it, since that call had not returned.",
            f"Nothing. Delete {folder} when you like.",
        )
    elif kept:
        seen.problem(
            "records",
            f"{plural(account.set_aside, 'record')} could not be read; kept: {plural(len(kept), 'file')}.",
            f"Look at {folder}: *.record are whole (a newer hush-core may read them), *.bytes are what was torn. "
            "Delete them when you need them no more.",
        )
    dropping = {reason for journal in account.journals if journal.alive for reason in journal.dropped}
    for reason, number in account.dropped.items():
        lost = f"{number:,} records could not be kept: {reason}."
        if reason in dropping:
            seen.problem("records", lost, _ADVICE.get(reason, "The app's log (logger 'hush') says more."))
        else:
            seen.note("records", lost, "Nothing: the processes that lost them have ended.")


_ADVICE: Final = {
    "disk full": "Free space on the disk: recording recovers by itself.",
    "no permission": "Let the app's user write to the database's folder: recording recovers by itself.",
    "input/output error": "Check the disk (dmesg, smartctl).",
    "no descriptor": "Let the app open more files (`ulimit -n`): recording recovers by itself.",
}


def _examine_files(seen: Examination) -> None:
    for path in (seen.db_path, seen.journal_path):
        if os.path.exists(path) and stat.S_IMODE(path.stat().st_mode) & 0o077:
            right = "700" if path.is_dir() else "600"
            seen.problem(
                "database", f"Other users may read {path}, which holds prompts and answers.", f"chmod {right} {path}"
            )
    damaged = [path for path in _files_in(seen.db_path.parent) if path.name.startswith(f"{seen.db_path.name}.damaged-")]
    for path in damaged:
        if not path.name.endswith(("-wal", "-shm")):
            seen.problem(
                "database",
                f"A damaged database was put aside: {path}.",
                f"`sqlite3 {path} .recover` gets back what can be read. Delete it when you need it no more.",
            )
    if not os.path.exists(seen.db_path.parent):
        return
    space = os.statvfs(seen.db_path.parent)
    if space.f_bavail * space.f_frsize < _LITTLE_SPACE_BYTES:
        seen.problem(
            "database", f"The disk of {seen.db_path.parent} is almost full.", "Free space, or `hush prune --keep 7d`."
        )
    _examine_filesystem(seen)


def _examine_filesystem(seen: Examination) -> None:
    from hush_core.system import filesystem_of

    kind = filesystem_of(seen.db_path.parent)
    if kind in _REMOTE_FILESYSTEMS:
        seen.problem(
            "database",
            f"{seen.db_path.parent} is on a network file system ({kind}), where SQLite can damage a database.",
            "Set HUSH_TRACES_DB to a path on a disk of this machine.",
        )


def _files_in(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []
