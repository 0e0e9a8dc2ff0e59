"""The writer process: one per database. It drains every journal beside the database into the store, and then some.

The loop is one thread; a second one only syncs live segments to the disk. What the loop does, in order: look for new
and ended journals, drain, deliver what is due (which never waits), keep the database within its bounds, answer who
asks, sleep. It never trusts what it remembers over what the files and tables
say, so it may be killed at any instant: the next one reads the positions from the database and goes on.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Container, Mapping
from operator import itemgetter
from pathlib import Path
from typing import Final

from hush_core.background.answers import Answers
from hush_core.background.doorbell import Doorbell
from hush_core.background.election import has_begun, is_still_elected
from hush_core.background.problems import Problems
from hush_core.background.source import Source, Step, retire_segment
from hush_core.background.sources import Sources
from hush_core.background.syncer import Syncer
from hush_core.delivery.dispatcher import Dispatcher, Launch
from hush_core.delivery.environment import Environments
from hush_core.delivery.process import DeliveryProcess
from hush_core.errors import JournalError
from hush_core.journal.appender import SEGMENT_BYTES
from hush_core.journal.format import segment_name
from hush_core.journal.pool import drain_pool, replenish
from hush_core.journal.reader import segments
from hush_core.store.database import STORE_ERRORS, has_damage, is_damage, open_database
from hush_core.store.opening import begin_anew, open_store
from hush_core.store.retention import Retention
from hush_core.store.sqlite import JournalState, SqliteStore
from hush_core.system import FILES, Files, environment_of

#: While records come, how long the loop rests between two looks: the price is latency, the gain is larger batches.
_REST_S: Final = 0.004
#: How long after the last record the loop goes on looking by itself before it arms the bells and sleeps.
_LINGER_AWAKE_S: Final = 0.1
#: How long a promise to be awake holds. An app that finds it broken rings, and starts a writer if nobody answers.
_PROMISE_S: Final = 0.5
#: The longest sleep. A lost ring (it cannot be ruled out on processors that reorder stores) costs at most this.
_SLEEP_S: Final = 0.5
#: How often the directory is listed and foreign owners are checked when nobody rings.
_SCAN_S: Final = 1.0
#: How long without any producer before the writer ends.
_LINGER_S: Final = 2.0
#: How long a writer that was told to end goes on storing what is there.
_LAST_DRAIN_S: Final = 1.0
#: How long to wait after the store refused (disk full).
_STORE_RETRY_S: Final = 0.25
#: After a segment could not be made ahead, how long before another try.
_MAKE_AHEAD_AGAIN_S: Final = 10.0
#: What the writer does, in its log and in its answers.
_STORING: Final = "storing records"
_GIVING_UP: Final = "giving up segments"
_LOOKING: Final = "looking for journals"
_PRUNING: Final = "pruning"
_DELIVERING: Final = "delivering"
#: How long an app that is new has to hand over its environment. It does so when its first request is complete, or ends.
_ENVIRONMENT_WAIT_S: Final = 1.0
#: Environments of apps whose first record is not stored: a disk that is full may hold up many.
_UNFILED_MAX: Final = 1024
_NAMED_IN_LOG: Final = 5
#: Bytes of journal in one transaction, over all journals.
_BATCH_BYTES: Final = 1024 * 1024


class Writer:
    """Drains the journals of one database until no producer is left.

    :param lock: the descriptor of the election lock, which the caller holds.
    :param variables: the environment of the app that started it.
    :param starter: the journal of that app; ``since_ns``: when its environment was read, time.monotonic_ns().
    :param flush_timeout_s: how long one delivery attempt may take; None: for ever.
    :param flush_memory_bytes: how much a delivery process may allocate; None: no limit.
    :param connect: opens the database; an argument so that a test can wrap it, as ``files`` and ``launch`` are.
    """

    def __init__(
        self,
        db_path: Path,
        directory: Path,
        *,
        lock: int,
        retention: Retention,
        log: Callable[[str], None],
        variables: Mapping[str, str] | None = None,
        starter: str | None = None,
        since_ns: int = 0,
        flush_timeout_s: float | None = 60.0,
        flush_memory_bytes: int | None = None,
        files: Files = FILES,
        connect: Callable[[Path], sqlite3.Connection] = open_database,
        launch: Launch = DeliveryProcess,
        linger_s: float = _LINGER_S,
    ) -> None:
        self._db_path = db_path
        self._directory = directory
        self._files = files
        self._connect = connect
        self._log = log
        self._variables = dict(variables or {})
        self._unfiled = {} if starter is None else {starter: (since_ns, self._variables)}
        self._lock = lock
        self._linger_s = linger_s
        self._retention = retention
        self._ending = False
        self.store = self._open_store()
        self._to_retire: list[Path] = []
        self.syncer = Syncer(files, directory, self._on_sync_fault)
        self._durable_next = False
        self._store_again_at = 0.0
        self.problems = Problems(log)
        self.is_behind = False  #: whether the last batch was full, and there is likely more
        self._make_ahead_at = 0.0
        self._looked_at = ""
        self._answers = Answers(self)
        self._bell = Doorbell(directory, self._answers.answer)
        has_begun(directory)
        self.sources = Sources(files, directory, self._bell, self.problems, log, lambda: self.store.journals())
        self.delivery = Dispatcher(
            str(db_path),
            lambda: self.store.ledger,
            launch,
            self._bell,
            Environments(self._variables),
            Problems(log),
            timeout_s=flush_timeout_s,
            memory_bytes=flush_memory_bytes,
            environment_wait_s=_ENVIRONMENT_WAIT_S,
            live_environment=self._live_environment,
        )

    def run(self) -> None:
        """Drain until nobody needs it. Raises StoreError when going on is pointless (another writer is at work)."""
        self.syncer.start()
        try:
            self._end_lost_journals()
            self._loop()
            self._leave()
            self._drain_rest()
            self._tidy()
        except BaseException:
            self.sources.tell(Source.arm_bell)
            raise
        finally:
            self.syncer.stop()
            self.delivery.close()
            self._bell.close()
            self.sources.close()
            self.store.close()

    def _leave(self) -> None:
        """From now on another one is started: who has rung until now is looked for, and who records rings anew."""
        self._bell.close()
        self.scan()
        self.sources.tell(Source.arm_bell)

    def _tidy(self) -> None:
        try:
            drain_pool(self._files, self._directory)
        except OSError as problem:  # the next writer does it
            self._log(f"giving back the space of unused segments: {problem}")

    def end_soon(self) -> None:
        """End after the present turn of the loop, whoever is left: a later ring starts another writer."""
        self._ending = True

    def _loop(self) -> None:
        last_record = last_needed = time.monotonic()
        promised = scanned = 0.0
        rung = True
        while not self._ending:
            now = time.monotonic()
            if rung or now - scanned > _SCAN_S:
                self.scan()
                scanned = now
            progressed = self.drain_once()
            self.deliver()
            pruned = self._keep_bounds()
            now = time.monotonic()
            if progressed or pruned:
                last_record = last_needed = now
            if self.sources or self.delivery.is_needed():
                last_needed = now
            elif now - last_needed > self._linger_s:
                if self._may_end():
                    return
                last_needed, rung = now, True
                continue
            if now - last_record < _LINGER_AWAKE_S:
                if now > promised - _PROMISE_S / 2:
                    promised = now + _PROMISE_S
                    self._promise(promised)
                if pruned or (progressed and self.is_behind):
                    rung = self._wait(0.0)
                else:
                    self._replenish()
                    rung = self._wait(_REST_S)
                continue
            promised = 0.0
            self.sources.tell(Source.arm_bell)
            if self.drain_once():  # what was appended before its process could see the bell armed
                last_record = time.monotonic()
                continue
            rung = self._wait(min(_SLEEP_S, self.delivery.next_in_s()))
            if rung:
                last_record = time.monotonic()  # somebody is at work: look by itself for a while

    def _promise(self, until: float) -> None:
        self.sources.tell(lambda source: source.promise(until))

    def _drain_rest(self) -> None:
        """Told to end: store what is there, and let attempts that have begun come to their end, for a while. The next
        writer takes the rest.
        """
        deadline = time.monotonic() + _LAST_DRAIN_S
        while self.drain_once() and time.monotonic() < deadline:
            self._leave()
        while self.delivery.is_busy() and time.monotonic() < deadline:
            self._wait(_REST_S)
            self.deliver(last=True)

    def _wait(self, timeout_s: float) -> bool:
        """Sleep until somebody rings, a producer ends or a delivery process says something, at most for a time. True if
        the journals are to be looked at.
        """
        woken, ready = self._bell.wait(timeout_s)
        return self.sources.check_ready(ready) or woken

    # -- draining -----------------------------------------------------------------------------------------------------

    def drain_once(self) -> bool:
        """Store what the journals hold now, up to a batch. True if there was anything."""
        if time.monotonic() < self._store_again_at:
            return False
        try:
            return self._drain()
        except STORE_ERRORS as problem:
            self._on_store_problem(problem)
            return False
        except OSError as problem:
            self.problems.say(_GIVING_UP, problem)
            self._store_again_at = time.monotonic() + _STORE_RETRY_S
            return False

    def _drain(self) -> bool:
        steps, self.is_behind = self.sources.steps(time.monotonic(), _BATCH_BYTES)
        if not steps:
            if self._durable_next:
                self._durable_next = False  # first: the other thread may set it meanwhile
                self._or_again(self.store.checkpoint)  # what is stored already: a journal can no longer give it again
            return self._end_journals({})
        faulty, self._durable_next = self._durable_next, False
        durable = faulty or any(step.finished for _, step in steps)
        by_name = {source.name: source for source, _ in steps}
        slices = [step.slice for _, step in steps]

        def put() -> None:
            self.store.put(
                slices, durable=durable, keep_refused=lambda name, record: self._refuse(by_name[name], record)
            )

        self._or_again(put) if faulty else put()
        self.problems.solved(_STORING)
        for source, step in steps:
            self._advance(source, step)
        self._retire()
        self.syncer.note([source.fd for source, step in steps if step.slice.payloads and source.is_open])
        self._end_journals(by_name)
        return True

    def _or_again(self, make_durable: Callable[[], None]) -> None:
        """What a faulty disk did not keep has to be stored durably; if this cannot be now, then with the next batch."""
        try:
            make_durable()
        except BaseException:
            self._durable_next = True
            raise

    def _advance(self, source: Source, step: Step) -> None:
        """The step is stored. A source that cannot move on is left; the next scan finds it again where it is stored."""
        try:
            self._to_retire += source.advance(step)
            if step.finished:
                self.syncer.note_directory()  # of what is in the next segment, its name has to survive a power cut too
            source.publish_stored()
        except (OSError, JournalError) as problem:
            self._log(f"moving on in journal {source.name}: {problem}")
            self.sources.forget(source)

    def _refuse(self, source: Source, payload: bytes) -> None:
        source.keep_refused(payload)
        self._log(f"set aside a record of journal {source.name} that this hush cannot read ({len(payload)} bytes)")

    def _replenish(self) -> None:
        """Make a segment ahead, if some process is busy enough to need one soon."""
        if time.monotonic() < self._make_ahead_at:
            return
        if any(source.state.segment >= len(SEGMENT_BYTES) - 1 for source in self.sources):
            try:
                replenish(self._files, self._directory, SEGMENT_BYTES[-1])
            except OSError as problem:  # nothing is in the way of anything: apps make their own
                self._log(f"making a journal segment ahead: {problem}")
                self._make_ahead_at = time.monotonic() + _MAKE_AHEAD_AGAIN_S

    def _retire(self) -> None:
        """Give up the segments whose records a durable transaction has stored."""
        while self._to_retire:
            retire_segment(self._files, self._to_retire[0])
            self._to_retire.pop(0)
        self.problems.solved(_GIVING_UP)

    def _end_journals(self, busy: Container[str]) -> bool:
        """End the journals whose process has ended and of which everything is stored. True if there was one."""
        ended = [source for source in self.sources if source.name not in busy and self._is_drained(source)]
        if ended:
            self._end({source.name: (source.final_state(), source.files()) for source in ended})
        for source in ended:
            self.sources.forget(source)
        return bool(ended)

    def _is_drained(self, source: Source) -> bool:
        try:
            return source.is_drained()
        except OSError as problem:
            self.problems.say(f"reading journal {source.name}", problem)
            return False

    def _end(self, journals: dict[str, tuple[JournalState, list[Path]]]) -> None:
        """These journals are over: each with its final state and its files."""
        states = [state for state, _ in journals.values()]
        for state, interrupted in zip(states, self.store.end_journals(states), strict=True):
            if interrupted:
                some = ", ".join(interrupted[:_NAMED_IN_LOG]) + (", ..." if len(interrupted) > _NAMED_IN_LOG else "")
                self._log(f"process {state.pid} ended and left {len(interrupted)} requests interrupted: {some}")
        for _, files in journals.values():
            for path in files:
                retire_segment(self._files, path)
        # Only when the names are gone for good may a position be forgotten; else a power cut could bring a file back,
        # and its records would be stored again.
        self._files.sync_directory(self._directory)
        self.store.forget_journals(states)

    def _on_store_problem(self, problem: Exception) -> None:
        if is_damage(problem) or self._breaks_a_constraint_for_damage(problem):
            self.store.close()
            begin_anew(self._db_path, problem, log=self._log)
            self._reopen_store()
            return
        self.problems.say(_STORING, f"{problem}; the journals keep what comes, and it is tried again")
        # Not a wait here: this may be in the middle of an answer, and of what the doorbell has to read.
        self._store_again_at = time.monotonic() + _STORE_RETRY_S

    def _breaks_a_constraint_for_damage(self, problem: Exception) -> bool:
        """No record breaks a constraint. A key that is damaged makes one look broken, for ever: look, once."""
        if not isinstance(problem, sqlite3.IntegrityError) or self._looked_at == str(problem):
            return False
        self._looked_at = str(problem)
        return has_damage(self.store.connection)

    def _open_store(self) -> SqliteStore:
        store = open_store(self._db_path, connect=self._connect, log=self._log)
        self._database_inode = os.stat(self._db_path).st_ino
        return store

    def _reopen_store(self) -> None:
        origins = self.store.origin_texts
        self.store = self._open_store()
        self.store.origin_texts.update(origins)
        self.delivery.forget()  # what is due is the new one's
        self.sources.close()  # positions are the new database's: read each journal anew
        self.scan()

    # -- journals that come and go ------------------------------------------------------------------------------------

    def scan(self) -> None:
        """List the directory: new journals, new segments, owners that have ended."""
        try:
            if not is_still_elected(self._directory, self._lock):
                if not self._ending:
                    self._log(f"{self._directory} was deleted or replaced: this writer ends")
                self.sources.tell(Source.report_fault)
                self.end_soon()
                return
            self._bell.stay_open()
            self._check_database()
            if self.sources.scan():
                self.syncer.note_directory()
            self.problems.solved(_LOOKING)
        except (OSError, *STORE_ERRORS) as problem:
            if is_damage(problem):
                self._on_store_problem(problem)
            else:
                self.problems.say(_LOOKING, problem)

    def _on_sync_fault(self, fd: int, problem: OSError) -> None:
        """The disk failed to keep a live segment. Its pages are still in memory: store them durably, and leave it."""
        self._log(f"ALARM: the disk did not keep a journal segment ({problem}); storing what is in memory")
        self._durable_next = True
        self.sources.tell(lambda source: source.report_fault() if source.fd == fd else None)

    def _end_lost_journals(self) -> None:
        """End the journals that the database knows and whose files are gone: given up by a writer that was killed
        before it could say so, or deleted by somebody.
        """
        try:
            present = segments(self._files, self._directory)
            lost = {}
            for name, state in self.store.journals().items():
                numbers = present.get(bytes.fromhex(name), [])
                if not any(number >= state.segment for number in numbers):
                    stale = [self._directory / segment_name(bytes.fromhex(name), number) for number in numbers]
                    lost[name] = state, stale
            if lost:
                self._end(lost)
        except (OSError, *STORE_ERRORS) as problem:  # the next writer tries again
            self._log(f"ending journals whose files are gone: {problem}")

    def _check_database(self) -> None:
        """Somebody may delete or replace the database while it is open; go on in what is there now."""
        try:
            same = os.stat(self._db_path).st_ino == self._database_inode
        except FileNotFoundError:
            same = False
        if not same:
            self._log(f"{self._db_path} was deleted or replaced; a new one is begun")
            self.store.close()
            self._reopen_store()

    def _live_environment(self, origin: int) -> dict[str, str] | None:
        """The environment that a live app of an origin was started with; None if none is alive or it cannot be seen."""
        for source in self.sources:
            if not source.gone and self.store.origin_of(source.name) == origin:
                return environment_of(source.header.owner)
        return None

    # -- delivery, bounds, end ----------------------------------------------------------------------------------------

    def deliver(self, *, last: bool = False) -> None:
        """A turn of delivery. With ``last`` nothing new is begun."""
        if time.monotonic() < self._store_again_at:
            return
        try:
            self.file_environments()
            self.delivery.turn(begin=not last)
            self.problems.solved(_DELIVERING)
        except STORE_ERRORS as problem:
            self._on_store_problem(problem)
        except OSError as problem:
            self.problems.say(_DELIVERING, problem)

    def take_environment(self, journal: str, since_ns: int, variables: dict[str, str]) -> None:
        """An app hands over what its deliveries need; `file_environments` does the rest, also when this fails."""
        self._unfiled[journal] = max(self._unfiled.pop(journal, (0, {})), (since_ns, variables), key=itemgetter(0))
        while len(self._unfiled) > _UNFILED_MAX:
            del self._unfiled[next(iter(self._unfiled))]

    def file_environments(self) -> None:
        """Of which origin an app is, is known once the first record of its journal is stored."""
        for journal in list(self._unfiled):
            origin = self.store.origin_of(journal)
            if origin:
                since_ns, variables = self._unfiled.pop(journal)
                if self.delivery.environments.hand_over(origin, variables, since_ns):
                    self.delivery.on_environment(origin)  # what waited for a variable may have it now

    def _keep_bounds(self) -> bool:
        """Keep the database within its bounds: a little at a time, so that records never wait long behind it. True if
        there is more to do.
        """
        try:
            if self._retention.is_due():
                self._retention.prune_some(self.store)
                self.problems.solved(_PRUNING)
                return self._retention.is_due()
        except STORE_ERRORS as problem:
            if is_damage(problem):
                self._on_store_problem(problem)
            else:
                self.problems.say(_PRUNING, problem)
        return False

    def _may_end(self) -> bool:
        """Whether nobody can need this writer any more.

        Leaves the doorbell first, so that a later ring starts another.
        """
        self._bell.leave(self._answers.hear)
        self.scan()
        self.deliver()  # with an environment that was handed in last
        if self._ending or not (self.sources or self.delivery.is_needed()):
            return True
        self._bell.open()
        return False
