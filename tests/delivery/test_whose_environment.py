"""A delivery process waits a moment for the environment of its own app, and is replaced when it began with another."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from canary import CANARY

from hush_core.background.problems import Problems
from hush_core.delivery.dispatcher import Dispatcher
from hush_core.delivery.environment import Environments
from hush_core.delivery.protocol import Job, Outcome
from hush_core.model import ORIGIN, REQUEST_COMPLETE
from hush_core.store.sqlite import JournalState, Slice

from .test_dispatcher import World, delivered

_JOURNAL = "11" * 16
_WAIT_S = 1.0


class AppWorld(World):
    """A world whose requests come from an app of a known origin; the writer was started by another."""

    def begin(self) -> None:
        self.dispatcher = Dispatcher(
            "traces.db",
            lambda: self.store.ledger,
            self.launch,
            self,
            Environments({"APP": "another", "KEY": CANARY}),
            Problems(self.log.append),
            timeout_s=60.0,
            memory_bytes=None,
            environment_wait_s=_WAIT_S,
            clock=self.time,
            dice=random.Random(1),
        )

    def record_in_app(self, config: dict[str, str] | None = None) -> int:
        """A request of the app. Gives the app's origin."""
        complete = (REQUEST_COMPLETE, "r-1", "T", config or {}, None, "a")
        records = [msgspec.msgpack.encode(each) for each in ((ORIGIN, {"cwd": "/app"}), complete)]
        state = JournalState(_JOURNAL, 1, 0, 0, 700, first=1)
        self.store.put([Slice(state, records, None)], keep_refused=lambda *_: pytest.fail("a record was refused"))
        return self.store.origin_of(_JOURNAL)

    def hand_over(self, origin: int, app: str) -> None:
        self.dispatcher.environments.hand_over(origin, {"APP": app, "KEY": CANARY})
        self.dispatcher.on_environment(origin)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[AppWorld]:
    made = AppWorld(tmp_path / "traces.db")
    made.backends["a"] = delivered
    yield made
    made.store.close()


def test_a_process_begins_when_its_app_has_handed_its_environment_over(world: AppWorld) -> None:
    origin = world.record_in_app()
    world.run(seconds=_WAIT_S / 2)
    assert world.processes == [] and not world.dispatcher.tried()
    world.hand_over(origin, "its own")
    world.run(seconds=0.1)
    assert [process.variables["APP"] for process in world.processes] == ["its own"]
    assert world.statuses() == {"flushed": 1}


def test_another_environment_serves_when_the_app_says_nothing(world: AppWorld) -> None:
    world.record_in_app()
    world.run(seconds=_WAIT_S + 0.1)
    assert [process.variables["APP"] for process in world.processes] == ["another"]
    assert world.statuses() == {"flushed": 1}


def test_what_somebody_asks_for_is_not_put_off(world: AppWorld) -> None:
    world.record_in_app()
    world.run()
    _, tracers = world.store.ledger.flush_now(None, world.time.now_ns())
    world.dispatcher.wake(tracers)
    world.run()
    assert world.statuses() == {"flushed": 1}


def test_an_environment_that_comes_while_the_first_attempt_fails_for_want_of_it_has_it_made_again_at_once(
    world: AppWorld,
) -> None:
    def wants_its_own(job: Job) -> Outcome:
        its_own = world.processes[-1].variables["APP"] == "its own"
        return delivered(job) if its_own else Outcome(job.id, "configuration", "a variable is missing")

    world.backends["a"] = wants_its_own
    origin = world.record_in_app()
    world.time.s += _WAIT_S + 0.1
    world.dispatcher.turn()
    world.dispatcher.turn()  # begun with another environment; what it says has not been heard
    world.hand_over(origin, "its own")
    world.run(seconds=0.1)
    assert world.statuses() == {"flushed": 1}
    assert world.tracer("a")["paused"] is None


def test_a_process_that_has_nothing_to_do_is_replaced_when_the_environment_changes(world: AppWorld) -> None:
    origin = world.record_in_app()
    world.hand_over(origin, "first")
    world.run(seconds=0.1)
    world.hand_over(origin, "second")
    assert world.processes[0].is_let_go
