"""The start of a writer process, and what it is told of the app that starts it."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from hush_core.interrupt import is_interrupt
from hush_core.system import python_interpreter

#: The shell's part: run the writer until it ends by itself (a status above 128 is death by a signal). One that is
#: killed again and again is started later and later, and in the end no more; then the next ring starts one.
_KEEP_RUNNING: Final = (
    '(n=0; while t=$(date +%s); "$@"; [ $? -gt 128 ] && [ $n -lt 60 ]; do '
    "[ $(($(date +%s) - t)) -lt 5 ] || n=0; sleep $((n / 10)).1; n=$((n + 1)); done) >/dev/null & echo $!"
)
#: `python -m hush_core.background`, with folders to find packages in behind the standard library (some hold old
#: copies of parts of it), and without the working folder.
_BOOT: Final = (
    "import sys; sys.path[:] = [p for p in sys.path if p]; import os; "
    "at = next((n for n, p in enumerate(sys.path) if p.endswith(('site-packages', 'dist-packages'))), len(sys.path)); "
    "sys.path[at:at] = [p for p in sys.argv[1].split(os.pathsep) if p not in sys.path]; del sys.argv[1:3]; "
    "from hush_core.background.__main__ import main; sys.exit(main())"
)

#: Held while a writer is started, and by every fork: a child that was forked in between would hold the pipes by which
#: the start is followed, and keep the thread that waits for their end for as long as it lives.
_starting = threading.RLock()
#: A longer value of a variable is a document rather than a key or an address.
_SHORT_CHARS: Final = 1024
#: How long a start may take, which takes milliseconds, where the machine is busy, or somebody stops the shell.
_SHELL_PATIENCE_S: Final = 10.0
#: How long a fork waits for a start.
_FORK_PATIENCE_S: Final = 1.0


def start_writer(
    db_path: Path, config_path: Path | None = None, *, may_prune: bool = True, journal: str | None = None
) -> int:
    """Start a writer process, detached: not a child of this process, in a session of its own, with none of its files.

    Returns at once; of two that are started together one gives way. Gives the id of the process that keeps it running.
    Raises OSError if no process can be started.

    :param may_prune: False: it deletes nothing, whatever the settings say.
    :param journal: of this process, whose environment it inherits.
    """
    import subprocess

    import msgspec
    import xxhash

    interpreter = python_interpreter()
    if interpreter is None:
        raise OSError(
            f"this app runs in {sys.executable or 'an embedded interpreter'}, and no Python is beside it to run the "
            f"writer. Run `python -m hush_core.background {db_path}` with one that has hush-core: it stores what the "
            "journal holds, and ends two seconds after the app"
        )
    # What the writer imports must be found as this process found it, whatever put it on sys.path; but not the rest of
    # this sys.path, where a module of the user's could hide one of the standard library.
    packages = dict.fromkeys(
        str(Path(module.__file__ or "").parents[1]) for module in (sys.modules["hush_core"], msgspec, xxhash)
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [interpreter, "-c", _BOOT, os.pathsep.join(packages), "hush_core.background", str(db_path)]
    if config_path is not None:
        command += ["--config", str(config_path)]
    if not may_prune:
        command += ["--no-prune"]
    if journal is not None:
        command += ["--journal", journal, "--since", str(time.monotonic_ns())]
    if "PYTHONPATH" in os.environ:  # the app's own, for the delivery processes
        command += ["--python-path", os.environ["PYTHONPATH"]]
    with _starting:
        try:
            shell = subprocess.run(
                ["/bin/sh", "-c", _KEEP_RUNNING, "hush", *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                cwd="/",
                env=environment,
                check=False,
                timeout=_SHELL_PATIENCE_S,
            )
        except subprocess.TimeoutExpired as problem:
            raise OSError(f"the shell that was to keep it running did not within {problem.timeout:g} s") from problem
    if not shell.stdout:
        raise OSError(f"the shell that was to keep it running ended with status {shell.returncode}")
    return int(shell.stdout)


def origin(config_path: Path | str | None) -> dict[str, Any]:
    """Where this process's records come from, as plain JSON: what a delivery process is started with."""
    from hush_core import __version__

    return {
        "hush": __version__,
        "executable": _plain(python_interpreter()),
        "python": sys.version.split()[0],
        "path": [_plain(os.path.abspath(entry)) for entry in sys.path],
        "cwd": _plain(_cwd()),
        "config": _plain(str(config_path)) if config_path else None,
    }


def _plain(path: str | None) -> str | dict[str, str] | None:
    """A path as JSON can hold it: its bytes, if they are no text."""
    if path is None:
        return None
    try:
        path.encode()
    except UnicodeEncodeError:
        import base64

        return {"$bytes": base64.b64encode(os.fsencode(path)).decode()}
    return path


def environment_messages(journal: str, variables: Mapping[str, str], since_ns: int) -> list[bytes]:
    """The line that hands an environment over to the writer, for the requests of a journal; and a second one, without
    the longest values, for where a socket does not take the first at once.

    :param since_ns: `time.monotonic_ns()` when it was read: of two, which may arrive in any order, the later counts.
    """
    import json

    from hush_core import __version__

    short = {name: value for name, value in variables.items() if len(value) <= _SHORT_CHARS}
    request = {"verb": "environment", "hush": __version__, "journal": journal, "since_ns": since_ns}
    return [json.dumps({**request, "variables": each}).encode() + b"\n" for each in (variables, short)]


def _cwd() -> str | None:
    try:
        return os.getcwd()
    except OSError as problem:
        if is_interrupt(problem):
            raise
        return None


def _before_fork() -> None:
    _starting.acquire(timeout=_FORK_PATIENCE_S)


def _after_fork_in_parent() -> None:
    with contextlib.suppress(RuntimeError):  # it was not to be had in time
        _starting.release()


def _after_fork_in_child() -> None:
    global _starting
    _starting = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
