"""The app's side of the writer: this process's journal, the doorbell's button, and the start of a writer when none is.

Loaded in every user's process: it imports nothing heavy before the first record, and nothing here raises into a
workflow.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hush_core.background.launch import environment_messages
from hush_core.background.launch import origin as origin
from hush_core.background.launch import start_writer as start_writer
from hush_core.errors import StoreError
from hush_core.interrupt import is_interrupt
from hush_core.journal.appender import Journal
from hush_core.journal.format import WRITER_LOG
from hush_core.journal.format import journal_directory as journal_directory

if TYPE_CHECKING:
    from hush_core.capture.mask import Mask

#: After one ring, how long this process leaves the writer in peace, and how long if nobody has heard it: what is
#: recorded last within that time is not rung for, and may wait.
_RING_AGAIN_S: Final = 0.05
_RING_AGAIN_UNHEARD_S: Final = 0.005
#: How long a ring may take, until another may begin: an interrupt may come where its end would be noted.
_RINGS_WITHIN_S: Final = 1.0
#: After one start of a writer, how long before another: doubled for as long as none answers.
_START_AGAIN_S: Final = 0.25
_START_AGAIN_MAX_S: Final = 30.0
#: How often a process looks whether its environment variables have changed, seconds: `load_dotenv` comes late, too.
_LOOK_AT_VARIABLES_S: Final = 1.0
#: How often a wait looks again, seconds.
_LOOK_S: Final = 0.002


class Background:
    """This process's handle on the writer of one database. `get_background` gives one per database.

    Recording goes through `append`, the journal's: when it returns, the record survives the death of the process. Safe
    over threads and forks. Nothing here raises into the caller, but `sync` and `shutdown` wait as long as they were
    told.
    """

    append: Callable[[bytes], None]

    def __init__(self, db_path: Path) -> None:
        self.db_path = db_path
        self._config_path, settings, problem = _settings()
        # Settings that cannot even be found may say that all is kept: then the writer must not prune by the defaults.
        self._may_prune = problem is None or self._config_path is not None
        self._power_safe = settings.store.durability == "power"
        self.start_records: bool = settings.capture.start_records
        self._reported: set[str] = set()
        self.mask = _mask(settings.mask, problem, self.report)
        self._ring_at = 0.0
        self._ringing_until = 0.0
        self._is_unheard = False
        self._started_at = 0.0
        self._started_with: dict[str, str] = {}
        self._heard_at = 0.0
        self._start_at = 0.0
        self._start_wait_s = _START_AGAIN_S
        self._delivers = False
        self._handed_to = -1  # the process id of the writer that has this process's environment
        self._handed: dict[str, str] = {}
        self._variables: dict[str, str] = {}  # of the last request that was completed for a tracer that sends it
        self._variables_since_ns = 0
        self._look_at_variables_at = 0.0
        self._journal = Journal(
            journal_directory(db_path),
            ring=self._ring,
            origin=self._origin,
            shrink=_shrink,
            report=self.report,
            solved=self.solved,
            max_record_bytes=settings.capture.max_record.bytes or 0,
            power_safe=self._power_safe,
        )
        self.append = self._journal.append
        if problem is not None:
            also = "" if self.mask is None else "; values are withheld, as the settings may have a mask"
            self.report(problem, f"reading the settings (defaults are used{also})")

    # -- recording ----------------------------------------------------------------------------------------------------

    def write_trace(self, **fields: Any) -> None:
        """Record a node that has ended: the keywords of `TraceStore.insert_node_trace`. Never raises."""
        from hush_core.store.trace_store import get_store

        try:
            get_store(self.db_path).insert_node_trace(**fields)
        except Exception as problem:
            if is_interrupt(problem):
                raise
            self.drop("other")
            self.report(problem, "recording a node")

    def mark_complete(
        self,
        request_id: str,
        tracer_type: str,
        tracer_config: dict[str, Any],
        tags: list[str] | None = None,
        **more: Any,
    ) -> None:
        """Record that a request is complete and due to a tracer, as `TraceStore.mark_request_complete`.

        Never raises.
        """
        from hush_core.store.trace_store import get_store

        try:
            get_store(self.db_path).mark_request_complete(request_id, tracer_type, tracer_config, tags, **more)
        except Exception as problem:
            if is_interrupt(problem):
                raise
            self.drop("other")
            self.report(problem, "completing a request")

    def secure(self, *, delivers: bool = False) -> None:
        """A request is complete: see that a writer is at work, and that it can deliver as this process would.

        With `durability = "power"`, when this returns, everything recorded survives a power cut.

        :param delivers: whether it is due to a tracer that sends it somewhere.
        """
        self._journal.tend()
        if delivers:
            self._delivers = True
            writer = self._journal.writer
            # Also where none has looked at the journal yet: one may listen.
            if writer != self._handed_to or self._has_other_variables():
                self._variables_since_ns, self._variables = time.monotonic_ns(), dict(os.environ)
                self._hand_over(writer)
        if self._power_safe:
            try:
                self._journal.sync_to_disk()
            except OSError as problem:
                if is_interrupt(problem):
                    raise
                self.report(problem, "syncing the journal to the disk")

    def drop(self, reason: str) -> None:
        """Count a record that could not be kept, by one of `hush_core.journal.format.DROP_REASONS`."""
        self._journal.drop(reason)

    @property
    def dropped(self) -> dict[str, int]:
        """What this process could not keep, by reason."""
        return self._journal.dropped

    def report(self, problem: BaseException, doing: str) -> None:
        """The funnel: everything that went wrong and must not reach the workflow. Logs each kind once.

        Never raises but an interrupt.
        """
        try:
            kind = f"{doing}: {type(problem).__name__}"
            if kind in self._reported:
                return
            self._reported.add(kind)
            import logging

            logging.getLogger("hush").error(
                "hush: %s failed: %s. The workflow goes on; what could not be kept is counted. "
                "`hush doctor --db %s` says more.",
                doing,
                problem,
                self.db_path,
            )
        except Exception as raised:
            if is_interrupt(raised):
                raise
            self._reported.add("the report of a problem")  # a logging handler raised; there is nobody left to tell

    def solved(self, doing: str) -> None:
        """What was reported of this is long over: when it comes again, it is news. Never raises."""
        for kind in list(self._reported):
            if kind.startswith(f"{doing}: "):
                self._reported.discard(kind)

    # -- the writer ---------------------------------------------------------------------------------------------------

    @property
    def is_running(self) -> bool:
        """Whether a writer process answers."""
        return self._rings()

    def _rings(self) -> bool:
        from hush_core.background.doorbell import ring

        return ring(self._journal.directory)

    def _ring(self, is_armed: bool) -> bool:
        """Wake the writer, or start one. True if nobody has heard it: it shall be rung again.

        The journal calls it when the writer does not look by itself: it sleeps, or is overdue and may be dead.

        :param is_armed: the writer has armed the bell since it heard the last ring; or nobody has heard that.
        """
        now = time.monotonic()
        if now < self._ring_at and (self._is_unheard or not is_armed):
            return self._is_unheard
        if now < self._ringing_until:  # another thread rings, or this is a signal handler's, in the middle of an import
            return True
        self._ring_at, self._ringing_until = now + _RING_AGAIN_S, now + _RINGS_WITHIN_S
        try:
            if self._rings():
                self._heard_at, self._is_unheard = now, False
            else:
                self._is_unheard = not self._start_one(now)
        except BaseException as problem:
            if is_interrupt(problem) or not isinstance(problem, Exception):
                self._ring_at = 0.0  # nobody may have heard it
                raise
            self.report(problem, "starting the writer process (the journal keeps everything meanwhile)")
        finally:
            self._ringing_until = 0.0
        if self._is_unheard:
            self._ring_at = now + _RING_AGAIN_UNHEARD_S
        return self._is_unheard

    def _start_one(self, now: float) -> bool:
        """Start a writer, unless one that another process has just started is about to begin."""
        from hush_core.background.election import start_unless_begun

        # Has the last one begun, there is nothing to wait for. A writer that is segments behind promises in those,
        # not in the present one; but it listens.
        if max(self._heard_at, self._journal.promised_until) > self._started_at:
            self._start_wait_s = _START_AGAIN_S
        elif now < self._start_at:
            return False
        return start_unless_begun(self._journal.directory, self._start_now)

    def _has_other_variables(self) -> bool:
        """Whether the environment has changed since it was handed over; looks once a second."""
        now = time.monotonic()
        if now < self._look_at_variables_at:
            return False
        self._look_at_variables_at = now + _LOOK_AT_VARIABLES_S
        return self._handed != os.environ

    def _hand_over(self, writer: int) -> None:
        """Give the writer the environment variables with which the last request was completed, for the processes that
        deliver what this one recorded.

        They go through its socket and are kept in memory alone. Waits for nothing; if the writer cannot take them now,
        the next request that completes tries again.
        """
        from hush_core.background.doorbell import hand_in

        try:
            messages = environment_messages(self._journal.name, self._variables, self._variables_since_ns)
            if hand_in(self._journal.directory, messages):
                self._handed_to, self._handed = writer, self._variables
        except Exception as problem:
            if is_interrupt(problem):
                raise
            if isinstance(problem, OSError):
                return  # not listening, or busy; what it has meanwhile is the environment of the app that started it
            self.report(problem, "handing the environment over to the writer")

    def _start_now(self) -> int:
        self._started_at, self._started_with = time.monotonic(), dict(os.environ)
        self._start_at = self._started_at + self._start_wait_s
        self._start_wait_s = min(self._start_wait_s * 2, _START_AGAIN_MAX_S)
        return start_writer(
            self.db_path, self._config_path, may_prune=self._may_prune, journal=self._journal.name or None
        )

    def _origin(self) -> bytes:
        """The payload of the record that opens a journal."""
        import msgspec

        from hush_core.model import ORIGIN

        return msgspec.msgpack.encode((ORIGIN, origin(self._config_path)))

    @property
    def delivers(self) -> bool:
        """Whether this process has recorded for a tracer that sends it somewhere."""
        return self._delivers

    def sync(self, timeout: float = 5.0) -> bool:
        """Wait until everything this process recorded before the call is in SQLite. False if the time ran out first."""
        journal = self._journal
        position = journal.position()
        if journal.is_stored(position):
            return True
        deadline = time.monotonic() + timeout
        while not journal.is_stored(position):
            if time.monotonic() > deadline:
                return False
            journal.tend(at_once=True)
            time.sleep(_LOOK_S)
        return True

    def shutdown(self, timeout: float = 5.0) -> bool:
        """Wait until everything recorded is stored.

        The writer ends by itself when no process needs it. True if in time.
        """
        return self.sync(timeout)

    def at_exit(self) -> None:
        """The process ends: wake the writer if it sleeps. What was recorded is in the journal already."""
        if self._journal.is_open:
            self._ring_at = 0.0  # nobody rings later for what it recorded last
            self._journal.tend(at_once=True)
            # Not of now: what was set for a while, for a request, may be gone again.
            variables = self._variables
            if variables and (self._journal.writer != self._handed_to or self._handed is not variables):
                self._hand_over(self._journal.writer)
                if self._handed is not variables and self._started_with != variables == os.environ:
                    with contextlib.suppress(OSError):
                        self._start_now()  # the writer does not listen yet: this one gives way, and hands it over


def _shrink(payload: bytes, limit: int) -> bytes:
    from hush_core.capture import snapshot

    return snapshot.shrink(payload, limit)


def _settings() -> tuple[Path | None, Any, Exception | None]:
    """The file of the app's settings, the settings, and what was wrong with them: that never stops a workflow.

    The file is given also when it is wrong: the writer reads it too, and prunes nothing by it.
    """
    from hush_core import config

    try:
        path = config.find_config()
        return path, config.load_config(path) if path else config.Config(), None
    except Exception as problem:
        if is_interrupt(problem):
            raise
        path = getattr(problem, "path", None)
        return None if path is None else Path(path), config.Config(), problem


def _mask(settings: Any, problem: Exception | None, report: Callable[[BaseException, str], None]) -> Mask | None:
    """What keeps values out of the journal. None, and nothing is loaded for it, if the settings ask for nothing."""
    unreadable = None
    if problem is not None:
        from hush_core.config import may_mask

        if not may_mask():
            return None
        unreadable = "the settings cannot be read, and they have a mask"
    elif not settings.keys and not settings.plugins:
        return None
    from hush_core.capture.mask import Mask

    return Mask(settings.keys, settings.plugins, report=report, unreadable=unreadable)


def control(db_path: Path | str, request: dict[str, Any], timeout: float = 10.0) -> dict[str, Any]:
    """Ask the database's writer something, starting one if none runs. See `hush_core.background.answers` for the verbs.

    Raises StoreError if no writer can be had in time, or if it answers with an error.
    """
    from hush_core.background.doorbell import ask
    from hush_core.background.election import start_unless_begun
    from hush_core.config import find_config, resolve_db_path

    path = resolve_db_path(db_path)
    directory = journal_directory(path)
    deadline = time.monotonic() + timeout
    started_at = -1.0
    while True:
        try:
            answer = ask(directory, request, max(deadline - time.monotonic(), 0.05))
            break
        except TimeoutError as problem:
            if is_interrupt(problem):
                raise
            raise StoreError(f"The writer of {path} did not answer within {timeout:g} s.") from problem
        except OSError as problem:
            if is_interrupt(problem):
                raise
            if time.monotonic() > deadline:
                raise StoreError(
                    f"No writer of {path} could be started within {timeout:g} s ({problem}). "
                    f"Its log, {directory / WRITER_LOG}, may say why."
                ) from problem
            if time.monotonic() - started_at > 1.0 and start_unless_begun(
                directory, lambda: start_writer(path, find_config())
            ):
                started_at = time.monotonic()
            time.sleep(0.01)
    if "error" in answer:
        raise StoreError(str(answer["error"]))
    return answer


_backgrounds: dict[Path, Background] = {}
_lock = threading.RLock()  # reentrant: a signal handler may record while this process opens its first journal
#: How long a fork waits for settings that are being read.
_FORK_PATIENCE_S: Final = 1.0


def get_background(db_path: Path | str | None = None) -> Background:
    """This process's handle on the writer of a database, the same for the same file. Default path: read when called."""
    from hush_core.config import resolve_db_path

    path = resolve_db_path(db_path)
    background = _backgrounds.get(path)
    if background is None:
        with _lock:
            background = _backgrounds.get(path)
            if background is None:
                background = _backgrounds.setdefault(path, Background(path))
    return background


def shutdown_background(timeout: float = 5.0) -> bool:
    """Wait until all that this process recorded, in any database, is stored. True if so within the time."""
    deadline = time.monotonic() + timeout
    stored = [each.shutdown(max(deadline - time.monotonic(), 0.0)) for each in list(_backgrounds.values())]
    return all(stored)


def _at_exit() -> None:
    for background in list(_backgrounds.values()):
        background.at_exit()


def _before_fork() -> None:
    # A module that another thread is importing at the fork stays locked in the child for ever. So the fork waits until
    # no settings are being read, and the plugins of masks are loaded.
    _lock.acquire(timeout=_FORK_PATIENCE_S)
    for background in list(_backgrounds.values()):
        if background.mask is not None:
            background.mask.load()


def _after_fork_in_parent() -> None:
    with contextlib.suppress(RuntimeError):  # it was not to be had in time
        _lock.release()


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.RLock()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
