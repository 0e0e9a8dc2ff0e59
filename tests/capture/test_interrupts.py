"""The app's signal handlers raise while hush records: what they raise reaches the app, and the trace goes on after
it."""

from __future__ import annotations

import contextlib
import gc
import signal
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest
from interrupting import Interrupt, Timeout
from waiting import wait_until

from hush_core import LocalTracer, code_node
from hush_core.background import supervisor
from hush_core.background.supervisor import get_background, journal_directory
from hush_core.capture.mask import Mask
from hush_core.capture.place import current
from hush_core.capture.trace import Trace
from hush_core.model import NODE, NODE_END, NODE_START, REQUEST_COMPLETE, REQUEST_START
from hush_core.store import trace_store
from hush_core.store.trace_store import TraceStore, get_store
from tests.capture.conftest import Recording
from tests.journal.conftest import read_whole

RAISED = [Timeout, TimeoutError, SystemExit]

# A file that an interrupt leaves open is closed by the collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.usefixtures("nothing_is_left_open"),
]


class Odd:
    """An object that is opened up."""

    def __init__(self, number: int) -> None:
        self.text = f"text {number}"
        self.number = number


ROUNDS = 20  #: how often the timer ends the app

VALUES = {"plain": [1, "two"], "odd": [Odd(1), {3}], (1, 2): 3.0, "huge": 1 << 80, "error": ValueError("no")}


@code_node
def inner(value: Any) -> Any:
    return {"value": value, "$tags": ["a"], "$cost": {"total": 1.0}}


@code_node
def stream(value: Any) -> Iterator[Any]:
    yield value
    yield (1, 2)


@code_node
def broken() -> None:
    raise LookupError("it is not there")


@code_node
def outer(values: Any) -> list[Any]:
    with contextlib.suppress(LookupError):
        broken()
    return [inner(values), *stream(values)]


@pytest.mark.parametrize("keys", [(), ("secret",)], ids=["plain", "masked"])
@pytest.mark.parametrize("raised", RAISED)
def test_what_a_handler_raises_at_any_instant_of_a_record_goes_on(
    recording: Recording, tmp_path: Path, raised: type[BaseException], keys: tuple[str, ...]
) -> None:
    recording.mask = Mask(keys, report=recording.report) if keys else None
    store = TraceStore(tmp_path / "unused.db", background=recording)

    def record() -> None:
        store.insert_node_trace("r", "w", "n", None, None, 0, 1, 2, 1.0, VALUES, None)

    record()
    whole = recording.payloads.pop()
    for n in count():
        came = False
        with Interrupt(n, raised) as interrupt:
            try:
                record()
            except raised:
                came = True
        assert came == interrupt.came
        if not came:
            break
        recording.payloads.clear()
    assert n > 100
    assert recording.payloads == [whole]
    assert recording.reported == []


@pytest.mark.parametrize("start_records", [True, False])
@pytest.mark.parametrize("raised", RAISED)
def test_a_trace_that_is_interrupted_at_any_instant_ends_and_leaves_no_place_behind(
    store: TraceStore, recording: Recording, raised: type[BaseException], start_records: bool
) -> None:
    recording.start_records = start_records

    def run(n: int) -> bool:
        recording.payloads.clear()
        finished = []
        trace = Trace("flow", store=store, tracers=[], finish=finished.append, inputs=(1, 2))
        came = False
        with Interrupt(n, raised) as interrupt:
            try:
                with trace as state:
                    for _ in state.loop([1, 2]):
                        outer("text")
            except raised:
                came = True
        assert came == interrupt.came, "it was swallowed"
        assert current.get() is None, "what is recorded next would be in a node that has ended"
        begun = len(recording.records(REQUEST_START))
        assert len(finished) >= begun, "it would be running for ever"
        for payload in recording.payloads:
            msgspec.msgpack.decode(payload)
        spans = [node["span"] for node in recording.nodes(NODE, NODE_END)]
        assert len(spans) == len(set(spans)), "a node ended twice"
        assert recording.reported == []
        return came

    assert next(n for n in count() if not run(n)) > 300
    assert len(recording.nodes(NODE_START)) == (9 if start_records else 0)
    assert len(recording.nodes(NODE, NODE_END)) == 9


@pytest.mark.parametrize("raised", RAISED)
def test_the_first_record_may_be_interrupted_at_any_instant_and_the_next_is_kept(
    tmp_path: Path, raised: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "start_writer", lambda *_, **__: 1)
    (tmp_path / "hush.toml").write_text("[capture]\nstart_records = true\n")

    def run(n: int) -> bool:
        database = tmp_path / f"{n}.db"
        monkeypatch.setenv("HUSH_TRACES_DB", str(database))
        came = False
        with Interrupt(n, raised) as interrupt:
            try:
                with LocalTracer().trace("flow"):
                    inner("text")
            except raised:
                came = True
        assert came == interrupt.came, "it was swallowed"
        get_store().record((NODE, "after"))
        payloads = [
            msgspec.msgpack.decode(payload)
            for path in sorted(journal_directory(database).glob("[!n]*.segment"))  # not those that were never finished
            for payload in read_whole(path)
        ]
        assert payloads.count([NODE, "after"]) == 1
        begun = [record for record in payloads if record[0] == REQUEST_START]
        complete = [record for record in payloads if record[0] == REQUEST_COMPLETE]
        if not came:
            assert len(begun) == len(complete) == 1
        background = get_background(database)
        assert background.dropped == {}
        assert background.start_records
        for segment in filter(None, (background._journal._segment, background._journal._closed)):
            segment.release()
        supervisor._backgrounds.clear()
        trace_store._stores.clear()
        return came

    run(1_000_000)  # what it imports is imported
    assert next(n for n in count() if not run(n)) > 300


@pytest.mark.parametrize("raised", RAISED)
def test_the_environment_is_handed_over_again_when_that_was_interrupted(
    tmp_path: Path, raised: type[BaseException]
) -> None:
    background = get_background(tmp_path / "traces.db")
    background.append(msgspec.msgpack.encode((NODE, "r")))
    assert background.sync(30)
    for n in count():
        background._handed_to = -1
        came = False
        with Interrupt(n, raised) as interrupt:
            try:
                background.secure(delivers=True)
            except raised:
                came = True
        assert came == interrupt.came, "it was swallowed"
        if not came:
            break
        background.secure(delivers=True)
    assert n > 20
    wait_until(lambda: background.secure(delivers=True) is None and background._handed_to > 0, "the writer to take it")


@pytest.mark.parametrize("values", [{"text": ["x" * 200] * 10}, {"odd": [Odd(number) for number in range(50)]}])
def test_a_timer_ends_an_app_that_does_nothing_but_record_every_time(values: dict[str, Any]) -> None:
    def handle(*_: object) -> None:
        raise Timeout

    store = get_store()
    # What the first record imports is imported: CPython keeps to itself what is raised where it lets go of the lock of
    # a module, and no handler's exception gets out of there.
    store.insert_node_trace("first", "w", "n", None, None, 0, 1, 2, 1.0, values, None)
    assert store.sync(60)
    returned = count()

    # A function: what is raised where a loop goes back leaves a `with` around it without its end, on CPython 3.12 and
    # 3.13, whose exception table does not have that jump.
    def record() -> None:
        give_up_at = time.monotonic() + 10
        while time.monotonic() < give_up_at:
            store.insert_node_trace("r", "w", "n", None, None, next(returned), 1, 2, 1.0, values, None)

    callbacks = gc.callbacks[:]
    gc.callbacks.clear()  # Hypothesis has one; CPython keeps to itself what is raised in there
    before = signal.signal(signal.SIGPROF, handle)
    try:
        for number in range(ROUNDS):
            with pytest.raises(Timeout):
                signal.setitimer(signal.ITIMER_PROF, 0.002 + number * 0.0001)
                record()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
        gc.callbacks += callbacks
    # A hundred megabytes, and a writer that has to share the machine. Nothing is recorded any more: what the last
    # interrupt left must do.
    assert store.sync(60)
    stored = len(store.get_request("r").nodes)
    assert next(returned) - ROUNDS <= stored
    assert get_background().dropped == {}
