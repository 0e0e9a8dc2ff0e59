"""`python -m hush_core.background DATABASE`: the writer process. Apps start it; nobody needs to.

It takes the database's election lock, or gives way to the writer that has it, and ends by itself when no producer is
left. What it has to say goes to `DATABASE.journal/writer.log`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import resource
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Final

from hush_core.background.election import elect
from hush_core.journal.format import WRITER_LOG, journal_directory
from hush_core.system import FILES

#: How long one that gives way tries to hand its app's environment to the writer whose queue is full.
_PATIENCE_S: Final = 30.0
_LOG_BYTES_MAX: Final = 1024 * 1024
_CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]")


def main(arguments: list[str] | None = None) -> int:
    """Run the writer of one database. Returns the exit status: 0 also when it gave way to another."""
    parser = argparse.ArgumentParser(prog="python -m hush_core.background", description=__doc__)
    parser.add_argument("database", type=Path)
    parser.add_argument("--config", type=Path, default=None, help="hush.toml of the app that started it")
    parser.add_argument("--no-prune", action="store_true", help="delete nothing: the app's settings cannot be read")
    parser.add_argument("--journal", default=None, help="of the app that started it, whose environment this is")
    parser.add_argument("--since", type=int, default=0, metavar="NS", help="when that environment was read (monotonic)")
    parser.add_argument("--python-path", default=None, help="the PYTHONPATH of that app; this process has its own")
    options = parser.parse_args(arguments)
    database = options.database.absolute()
    directory = journal_directory(database)
    FILES.make_directory(directory)
    variables = _variables(options.python_path)
    lock = elect(directory)
    if lock is None:
        if options.journal is not None:
            _hand_over(directory, options.journal, variables, options.since)
        return 0
    log = _Log(directory / WRITER_LOG)
    _raise_limits()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return _run(database, directory, lock, options, variables, log)
    except Exception:
        log(f"the writer ended: {traceback.format_exc().strip()}")
        return 1


def _variables(python_path: str | None) -> dict[str, str]:
    """The environment of the app that started this process."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return variables if python_path is None else {**variables, "PYTHONPATH": python_path}


def _hand_over(directory: Path, journal: str, variables: dict[str, str], since_ns: int) -> None:
    """Another writer is at work: it gets the environment of the app that started this one."""
    from hush_core.background.doorbell import hand_in
    from hush_core.background.launch import environment_messages

    with contextlib.suppress(OSError):  # it ends: nobody is left to take it
        hand_in(directory, environment_messages(journal, variables, since_ns), timeout_s=_PATIENCE_S)


def _run(
    database: Path,
    directory: Path,
    lock: int,
    options: argparse.Namespace,
    variables: dict[str, str],
    log: _Log,
) -> int:
    from hush_core.background.writer import Writer
    from hush_core.config import DeliverySettings, load_config
    from hush_core.errors import ConfigError, StoreError
    from hush_core.store.retention import Retention

    delivery, retention = DeliverySettings(), Retention()
    try:
        config = load_config(options.config)
        delivery = config.delivery
        if not options.no_prune:
            retention = Retention(keep_s=config.store.keep.seconds, max_size_bytes=config.store.max_size.bytes)
    except ConfigError as problem:
        log(f"the settings cannot be used ({problem}); nothing is pruned until they can")
    try:
        writer = Writer(
            database,
            directory,
            lock=lock,
            retention=retention,
            log=log,
            variables=variables,
            starter=options.journal,
            since_ns=options.since,
            flush_timeout_s=delivery.timeout.seconds,
            flush_memory_bytes=delivery.memory.bytes,
        )
        signal.signal(signal.SIGTERM, lambda *_: writer.end_soon())
        writer.run()
    except StoreError as problem:
        log(f"the writer cannot work: {problem}")
        return 1
    return 0


def _raise_limits() -> None:
    """Each live producer takes two descriptors, and the file of one database grows: the soft limits of the app that
    happened to start this process are no fact about the machine.
    """
    for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE):
        soft, hard = resource.getrlimit(limit)
        if soft != hard:
            with contextlib.suppress(ValueError, OSError):  # macOS refuses an unlimited number of descriptors
                resource.setrlimit(limit, (hard, hard))


class _Log:
    """The writer's log file: a line per event, bounded by keeping one older file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, message: str) -> None:
        # What a backend or a plugin said may be in it: it forges no line, and does nothing to a terminal.
        told = "\n    ".join(_CONTROL.sub(lambda found: repr(found[0])[1:-1], line) for line in message.split("\n"))
        line = f"{time.strftime('%Y-%m-%dT%H:%M:%S')} [{os.getpid()}] {told}\n".encode(errors="backslashreplace")
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                os.write(fd, line)
                if os.fstat(fd).st_size > _LOG_BYTES_MAX:
                    os.replace(self._path, self._path.with_suffix(".log.1"))
            finally:
                os.close(fd)
        except OSError:
            return  # a disk that is full takes no log either; the problem itself is in the answer to "status"


if __name__ == "__main__":
    sys.exit(main())
