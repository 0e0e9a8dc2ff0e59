"""Which process attempts what and when: with a real ledger, and time and processes that the test has in its hand.

The real processes are tried in the files beside this one; here hours pass in moments.
"""

from __future__ import annotations

import itertools
import random
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hush_core.background.problems import Problems
from hush_core.delivery.dispatcher import Dispatcher
from hush_core.delivery.environment import Environments
from hush_core.delivery.process import Origin
from hush_core.delivery.protocol import Begun, Job, Outcome, Ready, Settled, Setup, ToWriter, Unusable, Work
from hush_core.model import ORIGIN, REQUEST_COMPLETE
from hush_core.store.sqlite import JournalState, Slice, SqliteStore

SECOND = 1_000_000_000
HOUR_S = 3600.0

Backend = Callable[[Job], Outcome]


def delivered(job: Job) -> Outcome:
    return Outcome(job.id, "delivered")


def refused(job: Job) -> Outcome:
    return Outcome(job.id, "retry", "connection refused")


class HeldTime:
    """A clock that stands until the test moves it."""

    def __init__(self) -> None:
        self.s = 2_000_000_000.0  # later than any record of the test

    def now_ns(self) -> int:
        return int(self.s * SECOND)

    def monotonic(self) -> float:
        return self.s


class Attempt:
    """A process that attempts each job at once, by asking the backend of the test; or says and does what it is told."""

    def __init__(self, world: World, setup: Setup, origin: Origin, variables: dict[str, str]) -> None:
        self.world, self.setup, self.origin, self.variables = world, setup, origin, variables
        self.fd = self.pid = len(world.processes) + 1000
        self.said: list[ToWriter] = [] if world.is_silent else [Ready()]
        self.ended: str | None = None
        self.logged_at = 0.0
        self.is_let_go = False
        world.processes.append(self)

    def send(self, message: Setup | Work) -> None:
        assert isinstance(message, Work) and self.ended is None and not self.is_let_go
        if self.world.unusable is not None:
            self.said, self.ended = [Unusable(self.world.unusable)], "ended with status 1"
            return
        failures = 0
        for job in message.jobs:
            if failures == 5:  # as the real one does
                self.said.append(Settled([Outcome(job.id, "untried")]))
                continue
            self.world.attempts.append((self.setup.tracer_name, job, self.world.time.s))
            if self.world.is_silent:
                continue
            outcome = self.world.backends[self.setup.tracer_name](job)
            failures = failures + 1 if outcome.kind in ("retry", "configuration") else 0
            self.said += [Begun([job.id]), Settled([outcome])]

    def receive(self) -> list[ToWriter]:
        said, self.said = self.said, []
        return said

    def has_ended(self) -> bool:
        return self.ended is not None

    def log_where_it_is(self) -> None:
        self.logged_at = self.world.time.s

    def end(self) -> str:
        self.ended = self.ended or "was ended"
        return self.ended

    def let_go(self) -> None:
        self.is_let_go = True

    def is_gone(self) -> bool:
        return self.ended is not None or (self.is_let_go and not self.world.stays)


class World:
    """A store with requests that are due, a dispatcher over it, and backends that answer as the test says."""

    def __init__(self, path: Path) -> None:
        self.store = SqliteStore(path)
        self.time = HeldTime()
        self.log: list[str] = []
        self.processes: list[Attempt] = []
        self.attempts: list[tuple[str, Job, float]] = []
        self.backends: dict[str, Backend] = {}
        self.is_silent = False
        self.unusable: str | None = None
        self.fails_to_start: Exception | None = None
        self.stays = False
        self._position = 512
        self.begin()

    def begin(self) -> None:
        """A writer starts."""
        self.dispatcher = Dispatcher(
            "traces.db",
            lambda: self.store.ledger,
            self.launch,
            self,
            Environments({"HOME": "/"}),
            Problems(self.log.append),
            timeout_s=60.0,
            memory_bytes=None,
            clock=self.time,
            dice=random.Random(1),
        )

    def launch(self, setup: Setup, origin: Origin, variables: dict[str, str]) -> Attempt:
        if self.fails_to_start is not None:
            raise self.fails_to_start
        return Attempt(self, setup, origin, variables)

    def watch(self, fd: int) -> None: ...
    def unwatch(self, fd: int) -> None: ...

    def record(self, count: int, *tracers: str, config: dict[str, Any] | None = None, cwd: str | None = None) -> None:
        """Requests, each due to the tracers, of an app in a working folder."""
        self._position += 1
        names = [f"r{self._position}-{number}" for number in range(count)]
        records = [
            msgspec.msgpack.encode((REQUEST_COMPLETE, name, "T", config or {}, None, tracer))
            for name in names
            for tracer in tracers
        ]
        if cwd is not None:
            records.insert(0, msgspec.msgpack.encode((ORIGIN, {"cwd": cwd})))
        state = JournalState("00" * 16, 1, 0, 0, self._position, first=1)
        since = None if self._position == 513 else (0, self._position - 1)
        self.store.put([Slice(state, records, since)], keep_refused=lambda *_: pytest.fail("a record was refused"))

    def run(self, *, hours: float = 0.0, seconds: float = 0.0) -> None:
        """Let time pass, with a turn whenever there is something to do."""
        until = self.time.s + hours * HOUR_S + seconds
        while True:
            for _ in range(4):  # hand over, listen, settle, hand over what that frees
                self.dispatcher.turn()
            wait_s = min(self.dispatcher.next_in_s(), 60.0)
            if self.time.s >= until:
                return
            self.time.s = min(self.time.s + max(wait_s, 0.001), until)

    def statuses(self) -> dict[str, int]:
        return dict(self.store.connection.execute("SELECT status, count(*) FROM delivery GROUP BY status").fetchall())

    def tracer(self, name: str) -> dict[str, Any]:
        cursor = self.store.connection.execute("SELECT * FROM tracer WHERE tracer_name = ?", (name,))
        return dict(zip([column[0] for column in cursor.description], cursor.fetchone(), strict=True))

    def times(self, name: str) -> list[float]:
        return [at for tracer, _, at in self.attempts if tracer == name]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "traces.db")
    yield made
    made.store.close()


def test_what_is_due_is_delivered_by_one_process_of_its_tracer(world: World) -> None:
    world.backends["a"] = delivered
    world.record(1000, "a")
    world.run(seconds=1)
    assert world.statuses() == {"flushed": 1000}
    assert len(world.processes) == 1
    assert world.tracer("a")["sent"] == 1000
    assert world.dispatcher.tried() and not world.dispatcher.is_needed()


def test_each_tracer_of_a_request_has_its_own_fate(world: World) -> None:
    world.backends |= {"good": delivered, "bad": lambda job: Outcome(job.id, "permanent", "400: no"), "down": refused}
    world.record(10, "good", "bad", "down")
    world.run(seconds=2)
    assert world.statuses() == {"flushed": 10, "failed": 10, "pending": 10}
    assert world.tracer("bad")["last_error"] == "400: no"
    assert world.tracer("down")["sent"] == 0


def test_a_backend_that_is_dead_for_72_hours_loses_nothing_and_is_not_hammered(world: World) -> None:
    world.backends["a"] = refused
    world.record(500, "a")
    began = world.time.s
    for _ in range(72):
        world.run(hours=1)
        world.record(20, "a")
    total = 500 + 72 * 20
    assert world.statuses() == {"pending": total}
    times = world.times("a")
    late = [at for at in times if at > began + 900]
    assert min(after - before for before, after in itertools.pairwise(late)) >= 300.0
    assert len(times) <= 72 * HOUR_S / 300 + 15
    world.backends["a"] = delivered
    world.run(seconds=331)
    assert world.statuses() == {"flushed": total}
    assert world.tracer("a")["failures"] == 0


def test_a_dead_backend_is_probed_once_at_a_time_however_many_origins_record_for_it(world: World) -> None:
    world.backends["a"] = refused
    for folder in range(8):
        world.record(5, "a", cwd=f"/app/{folder}")
    began = world.time.s
    world.run(hours=9)
    late = [at for at in world.times("a") if at > began + 900]
    assert min(after - before for before, after in itertools.pairwise(late)) >= 300.0
    world.backends["a"] = delivered
    world.run(seconds=331)
    assert world.statuses() == {"flushed": 40}


def test_a_lane_that_waits_for_others_of_its_tracer_does_not_keep_the_loop_busy(world: World) -> None:
    world.is_silent = True
    for folder in range(6):
        world.record(1, "a", cwd=f"/app/{folder}")
    world.dispatcher.turn()
    assert len(world.processes) == 4  # as many as one tracer may have at work; two lanes are due
    assert world.dispatcher.next_in_s() == float("inf")
    for process in world.processes:
        process.ended = "ended with signal 9"
    world.is_silent, world.backends["a"] = False, delivered
    world.run(seconds=400)
    assert world.statuses() == {"flushed": 6}


def test_a_lane_that_waits_for_the_probe_of_another_does_not_keep_the_loop_busy(world: World) -> None:
    world.is_silent = True
    for folder in range(2):
        world.record(1, "a", cwd=f"/app/{folder}")
    world.store.ledger.note(1, failures=9, retry_ns=0, paused=None)
    world.dispatcher.turn()
    assert len(world.processes) == 1
    assert world.dispatcher.next_in_s() == float("inf")
    world.processes[0].said += [Begun([1]), Settled([Outcome(1, "delivered")])]
    world.is_silent, world.backends["a"] = False, delivered
    world.run(seconds=0)
    assert world.statuses() == {"flushed": 2}


def test_what_a_backend_refused_is_not_asked_again_because_some_other_app_came(world: World) -> None:
    world.backends["a"] = lambda job: Outcome(job.id, "configuration", "401: wrong key")
    world.record(3, "a")
    world.run(seconds=10)
    before = len(world.attempts)
    for other in range(60):
        world.dispatcher.on_environment(100 + other)
        world.begin()
        world.run(seconds=1)
    assert len(world.attempts) == before


def test_a_flush_that_comes_in_the_middle_of_an_attempt_takes_effect_after_it(world: World) -> None:
    world.is_silent = True
    world.record(1, "a")
    world.dispatcher.turn()
    world.store.ledger.flush_now("a", world.time.now_ns())
    world.dispatcher.wake({1})
    world.processes[0].said += [Ready(), Begun([1]), Settled([Outcome(1, "configuration", "401: the old key")])]
    world.is_silent = False
    world.backends["a"] = delivered
    world.run(seconds=0)
    assert world.statuses() == {"flushed": 1}
    assert len(world.processes) == 2


def test_trouble_of_one_lane_is_no_other_lanes(world: World) -> None:
    world.backends["good"] = delivered
    world.fails_to_start = ValueError("embedded null byte")
    world.record(1, "bad")
    world.dispatcher.turn()
    world.fails_to_start = None
    world.record(5, "good")
    world.backends["bad"] = delivered
    world.run(seconds=5)
    assert world.statuses() == {"flushed": 6}


def test_a_process_that_was_let_go_and_does_not_end_is_ended(world: World) -> None:
    world.backends["a"] = delivered
    world.record(1, "a")
    world.run(seconds=1)
    world.stays = True
    world.run(seconds=31)
    assert world.processes[0].is_let_go and world.processes[0].ended is None
    world.run(seconds=70)
    assert world.processes[0].ended == "was ended"


def test_a_busy_process_is_renewed_now_and_then(world: World) -> None:
    world.backends["a"] = delivered
    for _ in range(70):
        world.record(1, "a")
        world.run(seconds=10)
    assert len(world.processes) == 2


def test_one_probe_at_a_time_while_a_backend_is_down_and_all_at_once_when_it_is_back(world: World) -> None:
    world.backends["a"] = refused
    world.record(300, "a")
    world.run(seconds=60)
    assert len(world.attempts) < 15
    world.backends["a"] = delivered
    world.run(seconds=100)
    assert world.statuses() == {"flushed": 300}


def test_a_batch_that_failed_is_one_failure(world: World) -> None:
    world.is_silent = True
    world.record(100, "a")
    world.dispatcher.turn()
    ids = list(range(1, 101))
    refusals = [Outcome(id, "retry", "connection refused") for id in ids]
    world.processes[0].said += [
        Ready(),
        Begun(ids[:50]),
        Settled(refusals[:50]),
        Begun(ids[50:]),
        Settled(refusals[50:]),
    ]
    world.dispatcher.turn()
    assert world.tracer("a")["failures"] == 2


def test_a_request_that_its_backend_never_takes_does_not_hold_up_the_others(world: World) -> None:
    world.backends["a"] = lambda job: refused(job) if job.request == 1 else delivered(job)
    world.record(50, "a")
    world.run(seconds=30)
    assert world.statuses() == {"flushed": 49, "pending": 1}
    world.run(hours=24)
    world.record(10, "a")
    world.run(seconds=400)
    assert world.statuses() == {"flushed": 59, "pending": 1}


def test_a_misconfigured_tracer_is_paused_named_and_tried_slowly(world: World) -> None:
    world.backends["a"] = lambda job: Outcome(job.id, "configuration", "401: wrong key")
    world.record(20, "a")
    world.run(hours=10)
    assert world.statuses() == {"pending": 20}
    assert world.tracer("a")["paused"] == "401: wrong key"
    assert len(world.attempts) <= 10 * 12 + 5
    assert not world.dispatcher.is_needed()  # nothing changes by itself; the next writer tries again
    assert any("paused: 401: wrong key" in line for line in world.log)


def test_a_new_writer_tries_what_was_not_usable_at_once(world: World) -> None:
    world.unusable = "no plugin"
    world.record(20, "a")
    world.run(seconds=10)
    world.backends["a"], world.unusable = delivered, None
    world.begin()
    world.run(seconds=1)
    assert world.statuses() == {"flushed": 20}
    assert world.tracer("a")["paused"] is None


def test_a_new_writer_is_as_gentle_with_a_dead_backend_as_the_last_one(world: World) -> None:
    world.backends["a"] = refused
    world.record(20, "a")
    world.run(hours=2)
    before = len(world.attempts)
    for _ in range(10):
        world.begin()
        world.run(seconds=10)
    assert len(world.attempts) <= before + 1


def test_a_process_that_cannot_serve_pauses_the_tracer_and_counts_no_attempt(world: World) -> None:
    world.is_silent = True
    world.record(3, "a")
    world.dispatcher.turn()
    world.processes[0].said.append(Unusable("No module named 'hush_x'"))
    world.processes[0].ended = "ended with status 0"
    world.dispatcher.turn()
    assert world.tracer("a")["paused"] == "not usable: No module named 'hush_x'"
    assert world.store.connection.execute("SELECT max(attempts) FROM delivery").fetchone() == (0,)


def test_what_makes_one_apps_deliveries_impossible_holds_no_other_apps_up(world: World) -> None:
    world.unusable = "no such interpreter"
    world.record(3, "a", cwd="/gone")
    world.run(seconds=1)
    world.backends["a"], world.unusable = delivered, None
    world.record(3, "a", cwd="/here")
    world.run(seconds=1)
    assert world.statuses() == {"flushed": 3, "pending": 3}
    assert world.dispatcher.tried()
    world.run(seconds=331)
    assert world.statuses() == {"flushed": 6}


def test_one_tracer_that_hangs_everywhere_leaves_processes_for_the_others(world: World) -> None:
    world.is_silent = True
    for folder in range(12):
        world.record(1, "hangs", cwd=f"/app/{folder}")
    world.dispatcher.turn()
    world.is_silent = False
    world.backends["good"] = delivered
    world.record(5, "good")
    world.run(seconds=1)
    assert world.tracer("good")["sent"] == 5


def test_wake_has_a_new_process_try_at_once(world: World) -> None:
    world.unusable = "no such variable"
    world.record(3, "a")
    world.run(seconds=1)
    world.backends["a"], world.unusable = delivered, None
    world.dispatcher.wake()
    world.run(seconds=0)
    assert world.statuses() == {"flushed": 3}
    assert len(world.processes) == 2  # the first was started with the old environment


def test_a_crash_is_blamed_on_what_was_begun_and_nothing_else(world: World) -> None:
    world.is_silent = True
    world.record(5, "a")
    world.dispatcher.turn()
    process = world.processes[0]
    job = world.attempts[1][1]
    process.said += [Ready(), Begun([job.id])]
    world.dispatcher.turn()
    process.ended = "ended with signal 11 (SIGSEGV)"
    world.dispatcher.turn()
    sql = "SELECT id, attempts, last_error FROM delivery WHERE attempts > 0"
    found = world.store.connection.execute(sql).fetchall()
    error = "its delivery process ended with signal 11 (SIGSEGV) while the tracer was at work"
    assert [row for row in found if row[2]] == [(job.id, 1, error)]
    assert len(found) <= 2  # one at a time is tried now


def test_the_last_words_of_a_process_are_heard_also_when_they_come_while_it_is_asked(world: World) -> None:
    world.is_silent = True
    world.record(2, "a")
    world.dispatcher.turn()
    process = world.processes[0]

    def end() -> bool:
        if process.ended is None:
            process.said, process.ended = [Begun([1]), Settled([Outcome(1, "delivered")])], "ended with signal 9"
        return True

    process.has_ended = end  # type: ignore[method-assign]
    world.dispatcher.turn()
    sql = "SELECT status, last_error FROM delivery WHERE id = 1"
    assert world.store.connection.execute(sql).fetchall() == [("flushed", None)]


def test_a_process_that_makes_room_for_another_costs_no_attempt(world: World) -> None:
    world.is_silent = True
    world.record(5, "a")
    world.dispatcher.turn()
    world.processes[0].said += [Ready(), Begun([1]), Settled([Outcome(1, "delivered")])]
    world.processes[0].ended = "ended with status 0"
    world.is_silent = False
    world.backends["a"] = delivered
    world.run(seconds=0)
    assert world.statuses() == {"flushed": 5}
    assert world.tracer("a")["failures"] == 0
    assert world.store.connection.execute("SELECT max(attempts) FROM delivery").fetchone() == (1,)


def test_a_process_that_dies_at_its_start_every_time_is_not_started_without_end(world: World) -> None:
    world.is_silent = True
    world.record(5, "a")
    for _ in range(600):
        world.dispatcher.turn()
        if world.processes:
            world.processes[-1].ended = "ended with signal 11 (SIGSEGV)"
        world.time.s += 0.1
    assert len(world.processes) < 15
    assert world.statuses() in ({"pending": 5}, {"pending": 4, "flushing": 1})


def test_an_attempt_that_takes_too_long_is_ended_and_tried_again(world: World) -> None:
    world.is_silent = True
    world.record(2, "a")
    world.dispatcher.turn()
    world.processes[0].said += [Ready(), Begun([1])]
    world.dispatcher.turn()
    world.time.s += 59
    world.dispatcher.turn()
    assert world.processes[0].ended is None
    world.time.s += 1.1
    world.dispatcher.turn()
    assert world.processes[0].logged_at == world.time.s and world.processes[0].ended is None
    world.time.s += 0.3
    world.dispatcher.turn()
    assert world.processes[0].ended == "was ended"
    assert world.tracer("a")["last_error"] == "no answer within 60 s; its delivery process was ended"
    assert world.tracer("a")["failures"] == 1


def test_a_process_that_does_not_begin_is_given_up(world: World) -> None:
    world.is_silent = True
    world.record(1, "a")
    world.dispatcher.turn()
    world.time.s += 61
    world.dispatcher.turn()
    assert world.processes[0].ended is not None
    assert world.statuses() == {"pending": 1}


@pytest.mark.parametrize("problem", [FileNotFoundError(2, "gone"), OSError(11, "no more processes")])
def test_a_process_that_cannot_be_started_leaves_the_delivery_due(world: World, problem: OSError) -> None:
    world.backends["a"] = delivered
    world.fails_to_start = problem
    world.record(2, "a")
    world.run(seconds=1)
    assert world.statuses() == {"pending": 2}
    world.fails_to_start = None
    world.run(seconds=400)
    assert world.statuses() == {"flushed": 2}


def test_what_a_dead_writer_had_claimed_is_claimed_anew_at_once(world: World) -> None:
    world.is_silent = True
    world.record(5, "a")
    world.dispatcher.turn()
    assert world.statuses() == {"flushing": 5}
    world.is_silent = False
    world.backends["a"] = delivered
    world.begin()
    world.run(seconds=0)
    assert world.statuses() == {"flushed": 5}
    assert {job.attempt for _, job, _ in world.attempts} == {1, 2}


def test_what_came_of_attempts_is_not_lost_when_the_disk_is_full(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.backends["a"] = delivered
    world.record(5, "a")
    ledger = world.store.ledger

    def full(*_: Any, **__: Any) -> int:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "ack", full)
        world.dispatcher.turn()
        with pytest.raises(sqlite3.OperationalError):
            world.dispatcher.turn()
    world.run(seconds=0)
    assert world.statuses() == {"flushed": 5}
    assert len(world.attempts) == 5


def test_many_tracers_share_a_few_processes(world: World) -> None:
    names = [f"t{number}" for number in range(30)]
    world.backends |= dict.fromkeys(names, delivered)
    world.record(3, *names)
    world.run(seconds=1)
    assert world.statuses() == {"flushed": 90}
    assert sum(not process.is_gone() for process in world.processes) <= 8


def test_a_process_with_nothing_to_do_is_kept_for_a_while_and_then_let_go(world: World) -> None:
    world.backends["a"] = delivered
    world.record(1, "a")
    world.run(seconds=20)
    world.record(1, "a")
    world.run(seconds=20)
    assert len(world.processes) == 1 and not world.processes[0].is_let_go
    world.run(seconds=31)
    assert world.processes[0].is_let_go
    assert world.dispatcher.next_in_s() == float("inf")


def test_a_clock_that_goes_back_a_day_holds_nothing_up(world: World) -> None:
    world.backends["a"] = refused
    world.record(3, "a")
    world.run(seconds=60)
    world.backends["a"] = delivered
    world.time.s -= 24 * HOUR_S
    world.run(seconds=60)
    assert world.statuses() == {"flushed": 3}


def test_what_a_hook_dropped_is_skipped_and_counted(world: World) -> None:
    world.backends["a"] = lambda job: Outcome(job.id, "skipped", "dropped by plugin x")
    world.record(3, "a")
    world.run(seconds=1)
    assert world.statuses() == {"skipped": 3}
    assert world.tracer("a")["skipped"] == 3


def test_the_process_of_a_tracer_gets_an_environment_that_has_what_its_configuration_names(world: World) -> None:
    world.backends["a"] = delivered
    world.dispatcher.environments.hand_over(7, {"KEY": "k"})
    world.record(1, "a", config={"key": "${KEY}"})
    world.run(seconds=1)
    assert world.processes[0].variables == {"KEY": "k"}
    assert world.processes[0].setup.config == {"key": "${KEY}"}
