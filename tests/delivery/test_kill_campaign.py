"""The app, the writer and the delivery process are killed at random instants, while the backend fails now and then.

Every request whose completion returned arrives, byte for byte the same in every attempt, and nothing counts as
delivered that the backend did not accept.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest
from backend_process import Account, BackendProcess, backend_process
from waiting import wait_until

from hush_core import code_node, get_tracer

from ..conftest import running_processes
from ..crash.children import Acknowledgements, Child
from ..flow.app import kill, leftovers
from .place import FLUSHED, Place

#: The share of POSTs that the backend does not answer with 200.
_FAULTS: Final = 0.1
#: Who dies, and how often.
_VICTIMS: Final = ("app",) * 3 + ("writer",) * 3 + ("shell",) + ("delivery",) * 4
#: Nodes of a request, its root among them.
_NODES: Final = 3


@code_node
def work(number: int) -> dict[str, int]:
    return {"doubled": number * 2}


def run_app(name: str, permits: int, said: Acknowledgements) -> None:
    """Record a request for each permit, and say after each that it is complete, until killed."""
    tracer = get_tracer("prod")
    number = 0
    while os.read(permits, 1):
        with tracer.trace("campaign", request_id=f"{name}-{number}", tags=[name]):
            work(number)
            work(-number)
        said.say(number)
        number += 1


class Campaign:
    """A database, its backend, the app that records now, and what the earlier ones had said when they were killed."""

    def __init__(self, place: Place, backend: BackendProcess, dice: random.Random) -> None:
        self.place = place
        self.backend = backend
        self._dice = dice
        self._permits, self._give = os.pipe()
        self._said = Acknowledgements()
        self._apps = 0
        self.complete: set[str] = set()  #: requests whose completion had returned
        self.killed: Counter[str] = Counter()
        self._start_app()

    def _start_app(self) -> None:
        self._name = f"app{self._apps}"
        self._apps += 1
        self._app = Child(lambda: run_app(self._name, self._permits, self._said), self.place.folder / "errors")

    def _end_app(self) -> None:
        """Kill the app, and take in what it had said."""
        self._app.kill()
        self.complete |= {f"{self._name}-{number}" for number in self._said.listen()}
        self._said.close()
        self._said = Acknowledgements()

    def permit(self, requests: int) -> None:
        """Let the app record that many more requests."""
        os.write(self._give, b"." * requests)

    def record_the_rest(self) -> None:
        """Have a last app use every permit that is left, and one more, and end."""
        self._end_app()
        os.set_blocking(self._permits, False)
        left = 1
        with suppress(BlockingIOError):
            left += len(os.read(self._permits, 1 << 16))
        os.set_blocking(self._permits, True)
        self._start_app()
        self.permit(left)
        self._said.wait_for(left - 1)
        self._end_app()

    def kill_one(self) -> None:
        """Kill whoever the dice say, at a random instant, as soon as there is one."""
        victim = self._dice.choice(_VICTIMS)
        if victim == "shell" and not self._pids(victim):  # it was killed before, and is started with the next writer
            victim = "writer"
        time.sleep(self._dice.random() * self._dice.choice([0.01, 0.3]))  # the instant is what is tried
        if victim == "app":
            self._end_app()
            self._start_app()
        else:
            pids: list[int] = []
            asked = time.monotonic()

            def is_there() -> bool:
                nonlocal asked
                pids[:] = self._pids(victim)
                if not pids and time.monotonic() - asked > 1.0:
                    self.permit(1)  # there may be nobody, since nothing is due; or no writer to start it
                    self.place.flush()
                    asked = time.monotonic()
                return bool(pids)

            wait_until(is_there, f"a {victim} to kill", 60.0)
            kill(self._dice.choice(pids))
        self.killed[victim] += 1

    def _pids(self, victim: str) -> list[int]:
        if victim == "writer":
            return self.place.writers()
        if victim == "shell":
            return self.place.shells()
        mine = set(leftovers(self.place.folder))
        return [pid for pid, argv in running_processes() if pid in mine and "hush_core.delivery.worker" in argv]

    def check_marks(self) -> None:
        """Nothing counts as delivered that the backend has not accepted; also while all is going on."""
        flushed = {each.request_id for each in self.place.deliveries().values() if each.status == FLUSHED}
        assert flushed <= self.backend.account.read().accepted.keys()

    def settle(self) -> None:
        """Try what waits until nothing waits."""
        deadline = time.monotonic() + 600.0
        while self._unsettled():
            assert time.monotonic() < deadline, self._unsettled()
            self.place.flush()
            time.sleep(0.2)

    def _unsettled(self) -> list[tuple[str, int]]:
        return [
            *self.place.query("SELECT status, count(*) FROM delivery WHERE status <> ? GROUP BY 1", FLUSHED),
            *self.place.query("SELECT status, count(*) FROM request WHERE status = 'running' GROUP BY 1"),
        ]

    def check(self) -> Account:
        """Everything arrived, as it was, and nothing else did."""
        account = self.backend.account.read()
        requests = dict(self.place.query("SELECT request_id, status FROM request"))
        deliveries = self.place.deliveries()
        assert self.complete <= requests.keys(), "a request whose completion had returned is not stored"
        assert {requests[each] for each in self.complete} == {"completed"}
        # What is stored besides: the one that each killed app was at.
        assert len(requests) - len(self.complete) <= self._apps
        assert deliveries.keys() == requests.keys()
        assert {each.status for each in deliveries.values()} == {FLUSHED}
        assert account.accepted.keys() == requests.keys()
        assert {each: kinds for each, kinds in account.attempts.items() if len(kinds) > 1} == {}
        assert {account.nodes[each] for each in self.complete} == {_NODES}
        return account

    def close(self) -> None:
        if self._app.status is None:
            self._end_app()
        self._said.close()
        os.close(self._permits)
        os.close(self._give)


@contextmanager
def campaign(place: Place, dice: random.Random) -> Iterator[Campaign]:
    with backend_process(place.folder / "account", faults=_FAULTS, seed=dice.getrandbits(32)) as backend:
        place.settings(f'[tracers.prod]\ntype = "jsonl"\nurl = "{backend.url}"\n')
        new = Campaign(place, backend, dice)
        try:
            yield new
        finally:
            new.close()


@pytest.fixture
def dice() -> random.Random:
    """The test's chance; its seed is shown if the test fails."""
    seed = int.from_bytes(os.urandom(4), "little")
    print(f"seed {seed}")
    return random.Random(seed)


def test_every_request_arrives_whoever_is_killed_when(
    place: Place, dice: random.Random, request: pytest.FixtureRequest
) -> None:
    kills, requests = request.config.getoption("--campaign")
    with campaign(place, dice) as run:
        for number in range(kills):
            run.permit(requests * (number + 1) // kills - requests * number // kills)
            run.kill_one()
            if number % 10 == 0:
                run.check_marks()
        run.record_the_rest()
        run.settle()
        account = run.check()
        print(
            f"{dict(run.killed)} killed; {len(run.complete)} requests complete, {account.refused} refused at first, "
            f"{sum(account.accepted.values()) - len(account.accepted)} accepted more than once"
        )
        assert len(run.complete) >= requests * 0.9  # a killed app takes what it was at, and its permit, with it


def test_a_backend_that_dies_and_comes_back_gets_everything_once_it_is_there(place: Place, dice: random.Random) -> None:
    account = place.folder / "account"
    with backend_process(account) as backend:
        place.settings(f'[tracers.prod]\ntype = "jsonl"\nurl = "{backend.url}"\n')
        place.record("r-0")
        place.wait_for(FLUSHED, ["r-0"])
    ids = [f"r-{number}" for number in range(1, 300)]
    place.record(*ids)
    place.wait_for_error("refused", "r-1")
    with backend_process(account, port=backend.port) as again:
        assert Path(account).exists()
        place.flush()
        place.wait_for(FLUSHED, ids)
        assert again.account.read().accepted.keys() == {"r-0", *ids}
