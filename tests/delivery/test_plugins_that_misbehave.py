"""Whatever a tracer does to its process, it delays only itself: recording goes on, and so do others' deliveries.

Each trial has an app that records throughout, for two tracers: one that misbehaves, and the example's, whose backend
says when each request arrived.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from backend import Backend
from waiting import wait_until

from .place import FLUSHED, PENDING, SOON_S, Place

#: The `[delivery] timeout` of a trial.
_TIMEOUT_S: Final = 10.0
_GIVEN_UP: Final = f"no answer within {_TIMEOUT_S:g} s"
#: How long a delivery may take from the end of its request to the backend while another tracer misbehaves: usually less
#: than half an attempt of that, which is what those would wait on average that stood behind it. It takes milliseconds;
#: but the machine is shared, and deliveries give way to all else.
_USUALLY_S: Final = 4.5
_ALWAYS_S: Final = 20.0

#: Records for both tracers until its input ends; says of each request when it was complete, and how long that took.
APP: Final = """
import json, select
tracer = get_tracer()
print("ready", flush=True)
number = 0
while not select.select([sys.stdin], [], [], 0.02)[0]:
    began = time.perf_counter()
    answer(tracer, f"r-{number}")
    print(json.dumps([f"r-{number}", time.monotonic(), time.perf_counter() - began]), flush=True)
    number += 1
"""


class Misdeed(NamedTuple):
    """What `flush` does, and what its deliveries come to."""

    code: str
    status: str = PENDING
    reason: str = ""  #: a regular expression


MISDEEDS: Final = {
    "raises": Misdeed("raise ValueError('not today')", reason="ValueError: not today"),
    "raises what is no Exception": Misdeed("raise KeyboardInterrupt", reason="KeyboardInterrupt"),
    "hangs": Misdeed("threading.Event().wait()", reason=_GIVEN_UP),
    "hangs, and cannot be interrupted": Misdeed(
        "signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals)); threading.Event().wait()",
        reason=_GIVEN_UP,
    ),
    "calls sys.exit": Misdeed("sys.exit(3)", reason=r"sys\.exit\(3\)"),
    "calls os._exit": Misdeed("os._exit(0)", reason="ended with status 0 while the tracer was at work"),
    "reads a null pointer": Misdeed("ctypes.string_at(0)", reason="SIGSEGV"),
    "kills itself": Misdeed("os.kill(os.getpid(), signal.SIGKILL)", reason="SIGKILL"),
    "leaks 2 GB": Misdeed(
        "kept = []\nfor _ in range(256): kept.append(b'x' * (8 << 20))", reason="MemoryError|SIGKILL|SIGABRT"
    ),
    "spins": Misdeed("while True: pass", reason=_GIVEN_UP),
    "spins and never lets the GIL go": Misdeed("re.match(r'(a+)+$', 'a' * 64 + 'b')", reason=_GIVEN_UP),
    "forks, and leaves the child": Misdeed(
        "if os.fork() == 0: threading.Event().wait()\nopen('forked', 'w').close()", status=FLUSHED
    ),
    "forks, and hangs": Misdeed(
        "os.fork()\nthreading.Event().wait()", reason=_GIVEN_UP
    ),
    "floods stderr": Misdeed(
        "for _ in range(100): sys.stderr.write('x' * 100_000 + chr(10)); os.write(2, b'y' * 100_000)", status=FLUSHED
    ),
    "closes all descriptors": Misdeed("os.closerange(0, 4096)", reason="its delivery process ended"),
}  # fmt: skip


class Trial:
    """An app at work, and what became of what it recorded."""

    def __init__(self, place: Place, backend: Backend) -> None:
        self.place = place
        self._backend = backend
        self._app = place.start(place.script(APP))
        assert place.line(self._app) == "ready\n"

    def end_app(self) -> None:
        """The app ends; what it said was taken in."""
        said = [json.loads(line) for line in self.place.finish(self._app, "").splitlines()]
        self.completed: dict[str, float] = {request_id: at for request_id, at, _ in said}
        self.took_s = [took_s for _, _, took_s in said]

    def delays_s(self, since: float) -> list[float]:
        """How long each request that was complete since then took to the well-behaved tracer's backend."""
        arrived: dict[str, float] = {}
        for post in list(self._backend.posts):
            for line in post.lines[: post.accepted]:
                arrived.setdefault(line.request_id, post.at)
        return [arrived[request_id] - at for request_id, at in self.completed.items() if at > since]


def settings(place: Place, backend: Backend, misdeed: str, *, more: str = "") -> None:
    body = "\n".join(f"        {line}" for line in misdeed.splitlines())
    place.module(
        "bad",
        "import ctypes, os, re, signal, sys, threading, time\nfrom hush_core import BaseTracer\n\n"
        "class Bad(BaseTracer):\n    def _get_tracer_config(self):\n        return {}\n\n"
        f"    @staticmethod\n    def flush(flush_data):\n{body}\n",
    )
    place.settings(
        f"""
        default = ["bad", "good"]
        [tracers.bad]
        type = "bad:Bad"
        [tracers.good]
        type = "jsonl"
        url = "{backend.url}"
        [delivery]
        timeout = "{_TIMEOUT_S:g}s"
        memory = "400MB"
        {more}
        """
    )


@pytest.fixture
def backend() -> Iterator[Backend]:
    with Backend() as server:
        yield server


@pytest.mark.shared
@pytest.mark.parametrize("misdeed", MISDEEDS.values(), ids=MISDEEDS.keys())
def test_a_tracer_that_misbehaves_delays_nothing_but_its_own_deliveries(
    misdeed: Misdeed, place: Place, backend: Backend, request: pytest.FixtureRequest
) -> None:
    requests = request.config.getoption("--trial")
    settings(place, backend, misdeed.code)
    trial = Trial(place, backend)
    wait_until(lambda: bool(backend.ids), "the writer and the other tracer's process to start", SOON_S)
    all_started, arrived = time.monotonic(), len(backend.ids)
    if misdeed.status == PENDING:
        place.wait_for_error(misdeed.reason, "r-0", "bad")
    else:
        place.wait_for(FLUSHED, ["r-0"], "bad")
    wait_until(
        lambda: len(backend.ids) >= arrived + requests, "deliveries of the other tracer to arrive meanwhile", requests
    )
    trial.end_app()

    # Recording went on at full speed, and the other's deliveries were not held up.
    ids = list(trial.completed)
    place.wait_for(FLUSHED, ids, "good")
    assert backend.ids == set(ids)
    assert statistics.median(trial.took_s) < 0.01
    delays_s = trial.delays_s(all_started)
    print(f"{len(ids)} requests, delivered after {statistics.median(delays_s):.3f} s, at most {max(delays_s):.3f} s")
    assert statistics.median(delays_s) < _USUALLY_S
    assert max(delays_s) < _ALWAYS_S

    # Its own deliveries: none is lost, none counts as delivered that was not, and each attempt counts.
    if misdeed.status == FLUSHED:
        place.wait_for(FLUSHED, ids, "bad", SOON_S + len(ids) / 5)
    mine = place.deliveries("bad")
    assert mine.keys() == set(ids)
    assert {each.status for each in mine.values()} <= {misdeed.status, "flushing"}
    assert mine["r-0"].attempts >= 1

    # Nothing is left of its processes. (A zombie is one for as long as the writer takes to look.)
    wait_until(lambda: not place.zombies(), "the writer to reap its children")
    end_writer(place)
    wait_until(lambda: not place.running(), "the writer and all that it has started to end", 15.0)


def end_writer(place: Place) -> None:
    """End the writer as a system does that shuts down; its shell sees that it was not killed by accident."""
    for pid in place.writers():
        subprocess.run(["kill", "-TERM", str(pid)], check=True)


def test_what_a_tracer_floods_is_bounded(place: Place, backend: Backend) -> None:
    settings(place, backend, MISDEEDS["floods stderr"].code)
    place.record("r-0", "r-1", "r-2", tracer="get_tracer()")
    place.wait_for(FLUSHED, ["r-0", "r-1", "r-2"], "bad")
    logs = list(Path(f"{place.database}.journal").glob("delivery-*"))
    assert logs
    assert sum(path.stat().st_size for path in logs) < 3_000_000


def test_a_module_that_breaks_only_in_the_delivery_process_waits_for_somebody_and_says_why(
    place: Place, backend: Backend
) -> None:
    settings(place, backend, "pass")
    path = place.code / "bad.py"
    whole = path.read_text()
    path.write_text(whole + "if 'hush_core.delivery.worker' in sys.modules:\n    sys.exit('not here')\n")
    place.record("r-0", tracer="get_tracer()")
    place.wait_for(FLUSHED, ["r-0"], "good")
    failed = place.wait_for_error("not here", "r-0", "bad")
    assert failed.status == PENDING
    said = json.loads(place.hush("tracers", "--json").stdout)
    assert "not here" in json.dumps(said)
    path.write_text(whole)  # it is put right
    assert place.hush("flush", "--wait").returncode == 0
    place.wait_for(FLUSHED, ["r-0"], "bad")


def test_a_tracer_that_fails_is_not_hammered(place: Place, backend: Backend) -> None:
    settings(place, backend, "open('attempts', 'a').write('x'); raise ValueError('not today')")
    ids = [f"r-{number}" for number in range(200)]
    place.record(*ids, tracer="get_tracer()")
    place.wait_for(FLUSHED, ids, "good")

    def breaker_is_open() -> bool:
        [(retry_ns,)] = place.query("SELECT retry_ns FROM tracer WHERE tracer_name = 'bad'")
        # What was handed over before is attempted, too.
        return int(retry_ns) > time.time_ns() and not place.query("SELECT 1 FROM delivery WHERE status = 'flushing'")

    wait_until(breaker_is_open, "five failures in a row to open the breaker")
    attempts = place.folder / "attempts"
    before = attempts.stat().st_size
    time.sleep(4.0)  # what is not to happen cannot be waited for
    assert before < len(ids)
    assert attempts.stat().st_size - before <= 1
