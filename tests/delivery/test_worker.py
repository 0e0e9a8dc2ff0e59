"""The delivery process, real, with real tracers: what each of them comes to, and when the process ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import odd_tracers
import pytest
from odd_tracers import kept
from trace_database import TraceDatabase
from waiting import wait_until
from worker_process import Worker, Workers, alive

from hush_core.delivery.protocol import Begun, Outcome
from hush_core.delivery.worker import check_class
from hush_core.errors import ConfigError

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="what Linux alone offers")


def put(database: TraceDatabase, *request_ids: str, text: str = "why") -> list[int]:
    """Requests of two nodes each; gives their rows."""
    rows = [database.request(request_id) for request_id in request_ids]
    for row in rows:
        database.node(row, "flow", payload={"input_data": {"q": text}})
        database.node(row, "step", parent_name="flow", context_id="[0]", total_tokens=3)
    return rows


def kept_ids(start: Workers) -> list[str]:
    return [data["request_id"] for data in kept(start.kept)]


# -- what attempts come to --------------------------------------------------------------------------------------------


def test_each_request_is_given_to_the_tracer_once_and_is_delivered(database: TraceDatabase, start: Workers) -> None:
    rows = put(database, "r-1", "r-2", "r-3")
    worker = start("Keeps")
    assert worker.kinds(rows) == ["delivered"] * 3
    assert worker.kinds(put(database, "r-4")) == ["delivered"]
    assert kept_ids(start) == ["r-1", "r-2", "r-3", "r-4"]
    assert [each["node_name"] for each in kept(start.kept)[0]["nodes"]] == ["flow", "iteration[0]", "step"]


def test_what_is_under_way_is_known_before_the_tracer_is_called(database: TraceDatabase, start: Workers) -> None:
    rows = put(database, "r-1", "r-2")
    worker = start("ExitsAtOnce")
    ids = worker.send(rows)
    assert worker.receive() == Begun([ids[0]])
    assert worker.receive() is None
    assert worker.ended() == 7


def test_what_was_delivered_is_known_before_the_tracer_is_called_again(database: TraceDatabase, start: Workers) -> None:
    """Else a crash of the second would have the first delivered twice."""
    worker = start("Fails")
    ids = worker.send(put(database, "good-1", "crash-2"))
    while worker.receive() is not None:
        pass
    assert worker.ended() == 7
    assert worker.begun == [ids[:1], ids[1:]]
    assert worker.settled == [[Outcome(ids[0], "delivered")]]


def test_an_error_is_an_outcome_and_the_next_request_is_tried(database: TraceDatabase, start: Workers) -> None:
    expected = {
        "retry-1": ("retry", "busy", 30.0),
        "permanent-1": ("permanent", "no such field", None),
        "configuration-1": ("configuration", "wrong key", None),
        "exit-1": ("retry", "sys.exit(3)", None),
        "good-1": ("delivered", "", None),
        "error-1": ("retry", "ValueError: cannot send", None),
        "vendor-1": ("configuration", "No module named 'no_such_vendor'", None),
        "good-2": ("delivered", "", None),
    }
    outcomes = start("Fails").work(put(database, *expected))
    for outcome, (kind, said, floor) in zip(outcomes, expected.values(), strict=True):
        assert (outcome.kind, outcome.retry_after_s) == (kind, floor)
        assert said in (outcome.error or "")


def test_what_the_backend_noted_is_kept_with_the_delivery(database: TraceDatabase, start: Workers) -> None:
    [outcome] = start("Notes").work(put(database, "r-1"))
    assert outcome == Outcome(outcome.id, "delivered", "2 of 5 spans rejected")


def test_a_request_that_was_pruned_meanwhile_is_permanent(database: TraceDatabase, start: Workers) -> None:
    [row] = put(database, "r-1")
    gone, there = start("Keeps").work([row + 99, row])
    assert (gone.kind, gone.error, there.kind) == ("permanent", "the request is no longer stored", "delivered")


def test_after_five_failures_in_a_row_the_rest_is_not_tried(database: TraceDatabase, start: Workers) -> None:
    rows = put(database, "retry-1", "good-1", *(f"retry-{at}" for at in range(2, 9)))
    worker = start("Fails")
    assert worker.kinds(rows) == ["retry", "delivered", *["retry"] * 5, "untried", "untried"]
    assert len(worker.begun) == 7
    assert worker.kinds(put(database, "good-2")) == ["delivered"]  # the count is of one piece of work


def test_a_database_that_cannot_be_read_for_now_is_a_failure(database: TraceDatabase, start: Workers) -> None:
    rows = put(database, *(f"r-{at}" for at in range(7)))
    worker = start("Keeps")
    database.path.rename(database.path.with_suffix(".away"))
    outcomes = worker.work(rows)
    assert [outcome.kind for outcome in outcomes] == ["retry"] * 5 + ["untried"] * 2
    assert "There is no database" in (outcomes[0].error or "")
    database.path.with_suffix(".away").rename(database.path)
    assert worker.kinds(rows[:1]) == ["delivered"]


def test_ids_are_the_same_in_every_attempt_and_process(database: TraceDatabase, start: Workers) -> None:
    rows = put(database, "r-1")
    start("Keeps").work(rows, attempt=1)
    start("Keeps").work(rows, attempt=2)
    first, second = kept(start.kept)
    assert first | {"attempt": 2} == second


def test_a_chain_of_ten_thousand_nodes_is_delivered(database: TraceDatabase, start: Workers) -> None:
    row = database.request("r-1")
    database.connection.execute("BEGIN")
    for at in range(10_000):
        database.node(row, "n", span=at + 1, parent_span=at or None, duration_ms=None)
    database.connection.execute("COMMIT")
    assert start("Keeps").kinds([row]) == ["delivered"]
    assert len(kept(start.kept)[0]["nodes"]) == 10_000


# -- batches ----------------------------------------------------------------------------------------------------------


def calls(start: Workers) -> list[list[str]]:
    return [json.loads(call) for call in start.calls.read_text().splitlines()]


def test_a_batch_is_one_call_of_a_hundred_at_most(database: TraceDatabase, start: Workers) -> None:
    rows = put(database, *(f"r-{at}" for at in range(150)))
    worker = start("KeepsBatches")
    assert worker.kinds(rows) == ["delivered"] * 150
    assert [len(call) for call in calls(start)] == [100, 50]
    assert len(worker.settled) == 2  # one message for each call
    assert kept_ids(start) == [f"r-{at}" for at in range(150)]


def test_a_batch_is_bounded_by_its_size(database: TraceDatabase, start: Workers) -> None:
    rows = put(database, *(f"r-{at}" for at in range(5)), text="x" * 3_000_000)
    assert start("KeepsBatches").kinds(rows) == ["delivered"] * 5
    assert [len(call) for call in calls(start)] == [2, 2, 1]


def test_a_refused_batch_is_halved_until_what_is_refused_stands_alone(database: TraceDatabase, start: Workers) -> None:
    rows = put(database, *("bad-1" if at == 5 else "bad-2" if at == 11 else f"r-{at}" for at in range(16)))
    outcomes = start("KeepsBatches").work(rows)
    assert [outcome.kind for outcome in outcomes] == ["permanent" if at in (5, 11) else "delivered" for at in range(16)]
    assert outcomes[5].error == "one of 1 refused"
    assert sorted(kept_ids(start)) == sorted(f"r-{at}" for at in range(16) if at not in (5, 11))


def test_a_batch_that_fails_fails_as_one(database: TraceDatabase, start: Workers) -> None:
    rows = put(database, "r-1", "busy-1", *(f"r-{at}" for at in range(2, 150)))
    worker = start("KeepsBatches")
    outcomes = worker.work(rows)
    assert [outcome.kind for outcome in outcomes] == ["retry"] * 100 + ["untried"] * 50
    assert {outcome.retry_after_s for outcome in outcomes[:100]} == {7.0}
    assert len(calls(start)) == 1


def test_a_pruned_request_is_left_out_of_its_batch(database: TraceDatabase, start: Workers) -> None:
    rows = put(database, "r-1", "r-2")
    assert start("KeepsBatches").kinds([rows[0], 99, rows[1]]) == ["delivered", "permanent", "delivered"]
    assert calls(start) == [["r-1", "r-2"]]


# -- tracers that take the process down, or try -----------------------------------------------------------------------


def test_a_crash_leaves_its_traceback_in_the_log(database: TraceDatabase, start: Workers) -> None:
    worker = start("Crashes")
    [id] = worker.send(put(database, "r-1"))
    assert worker.receive() == Begun([id])
    assert worker.receive() is None
    assert worker.ended() == -signal.SIGSEGV
    assert "Segmentation fault" in start.log()
    assert "odd_tracers.py" in start.log() and "in flush" in start.log()


def test_a_tracer_that_hangs_can_be_asked_where(database: TraceDatabase, start: Workers) -> None:
    worker = start("Sleeps")
    worker.send(put(database, "r-1"))
    wait_until(lambda: kept_ids(start) == ["r-1"], "the tracer to hang")
    os.kill(worker.pid, signal.SIGUSR1)
    wait_until(lambda: "odd_tracers.py" in start.log(), "the traceback")
    assert alive(worker.pid)
    worker.process.kill()
    assert worker.ended() == -signal.SIGKILL


@pytest.mark.parametrize("tracer", ["Sleeps", "Spins", pytest.param("HoldsTheInterpreter", marks=LINUX)])
def test_the_end_of_the_writer_ends_it_at_once_whatever_the_tracer_does(
    tracer: str, database: TraceDatabase, start: Workers, tmp_path: Path
) -> None:
    if tracer == "HoldsTheInterpreter":  # only the system can end it: with the process that started it
        dies_with_its_parent(put(database, "r-1")[0], tmp_path, start)
        return
    worker = start(tracer)
    worker.send(put(database, "r-1"))
    wait_until(lambda: kept_ids(start) == ["r-1"], "the tracer to be at work")
    assert worker.let_go() < 2.0


def dies_with_its_parent(row: int, folder: Path, start: Workers) -> None:
    code = f"""
import sys; sys.path[:] = {sys.path!r}
from pathlib import Path
from worker_process import Worker
worker = Worker(Path({str(folder / "traces.db")!r}), "odd_tracers:HoldsTheInterpreter",
                config={{"file": {str(start.kept)!r}}}).ready()
worker.send([{row}])
print(worker.pid, flush=True)
input()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        wait_until(lambda: kept_ids(start) == ["r-1"], "the tracer to be at work")
        parent.kill()
    wait_until(lambda: not alive(pid), "the delivery process to end with its parent")


def test_a_forked_child_that_comes_back_does_nothing_of_its_parents(database: TraceDatabase, start: Workers) -> None:
    rows = put(database, "r-1", "error-2", "r-3")
    worker = start("Forks")
    assert worker.kinds(rows) == ["delivered"] * 3
    assert kept_ids(start) == ["r-1", "error-2", "r-3"]
    assert [outcome for outcomes in worker.settled for outcome in outcomes] == [
        Outcome(1000 + row, "delivered") for row in rows
    ]
    assert worker.let_go() < 2.0


def test_a_child_that_lives_on_holds_neither_the_process_nor_its_socket(
    database: TraceDatabase, start: Workers
) -> None:
    worker = start("LeavesChildren")
    worker.send(put(database, "r-1"))
    wait_until(lambda: len(kept(start.kept)) == 1, "the tracer to fork")
    assert alive(kept(start.kept)[0]["child"])
    worker.process.kill()
    worker.receive()
    assert worker.receive() is None  # the end of the socket, while the child is alive
    assert alive(kept(start.kept)[0]["child"])


def test_a_tracer_that_meddles_with_its_process_is_served_and_ended(database: TraceDatabase, start: Workers) -> None:
    worker = start("Meddles")
    assert worker.kinds(put(database, "r-1", "r-2")) == ["delivered"] * 2
    assert worker.kinds(put(database, "r-3")) == ["delivered"]
    assert kept_ids(start) == ["r-1", "r-2", "r-3"]
    assert worker.let_go() < 2.0


def test_a_tracer_that_closes_all_descriptors_ends_its_process_alone(database: TraceDatabase, start: Workers) -> None:
    worker = start("ClosesDescriptors")
    worker.send(put(database, "r-1"))
    assert isinstance(worker.receive(), Begun)
    assert worker.receive() is None
    worker.ended()


@LINUX
def test_a_tracer_that_leaks_is_given_a_fresh_process_before_it_takes_too_much(
    database: TraceDatabase, start: Workers
) -> None:
    worker = start("Leaks", memory_bytes=400 << 20, config={"leak_mb": 60})
    kinds = worker.kinds(put(database, *(f"r-{at}" for at in range(10))))
    assert set(kinds) == {"delivered", "untried"}
    assert kinds == sorted(kinds)
    assert 2 <= kinds.count("delivered") <= 4
    assert worker.receive() is None
    assert worker.ended() == 0


@LINUX
def test_a_tracer_cannot_take_more_memory_than_it_may(database: TraceDatabase, start: Workers) -> None:
    worker = start("Leaks", memory_bytes=400 << 20, config={"leak_mb": 1000})
    [outcome] = worker.work(put(database, "r-1"))
    assert outcome.kind == "retry"
    assert "delivery.memory" in (outcome.error or "")


# -- what cannot be served --------------------------------------------------------------------------------------------


def test_a_module_that_is_not_installed_is_named_with_what_to_do(database: TraceDatabase, start: Workers) -> None:
    error = start.unready("hush_no_such:JsonTracer").unusable()
    assert error.startswith(
        f"No module named 'hush_no_such': install the package of tracer 'prod' into {sys.executable}"
    )
    assert "pip install hush-no-such" in error


def test_an_sdk_that_is_not_installed_is_named(database: TraceDatabase, start: Workers, tmp_path: Path) -> None:
    (tmp_path / "hush_x.py").write_text("import no_such_sdk")
    error = start.unready("hush_x:Tracer", path=[str(tmp_path)]).unusable()
    assert "No module named 'no_such_sdk', which tracer 'prod' (hush_x:Tracer) imports" in error


def test_a_tracer_whose_package_is_gone_is_looked_for_by_its_type(database: TraceDatabase, start: Workers) -> None:
    assert start("", kind="LocalTracer").kinds(put(database, "r-1")) == ["delivered"]
    error = start.unready("", kind="JsonTracer").unusable()
    assert "JsonTracer" in error and "local" in error


def test_a_missing_variable_is_named(database: TraceDatabase, start: Workers) -> None:
    error = start.unready("Keeps", config={"key": "${HUSH_TEST_MISSING}"}).unusable()
    assert "HUSH_TEST_MISSING" in error and "key" in error


def test_a_class_that_cannot_deliver_is_never_called(database: TraceDatabase, start: Workers) -> None:
    assert "does not say how it delivers" in start.unready("SaysNothing").unusable()
    for tracer, said in (
        (odd_tracers.SaysNothing, "does not say how it delivers"),
        (odd_tracers.IsAsynchronous, "coroutine function"),
        (odd_tracers.TakesSelf, "static method of one argument"),
    ):
        with pytest.raises(ConfigError, match=said):
            check_class(tracer)
    for good in (odd_tracers.Keeps, odd_tracers.KeepsBatches):
        check_class(good)


@pytest.mark.parametrize("code", ["import sys; sys.exit(4)", "raise KeyboardInterrupt"])
def test_a_module_that_cannot_be_imported_is_unusable(
    code: str, database: TraceDatabase, start: Workers, tmp_path: Path
) -> None:
    (tmp_path / "hush_broken.py").write_text(code)
    error = start.unready("hush_broken:Tracer", path=[str(tmp_path)]).unusable()
    assert "hush_broken" in error or "prod" in error


def test_a_database_of_a_newer_hush_is_not_read(database: TraceDatabase, start: Workers) -> None:
    database.connection.execute("PRAGMA user_version = 99")
    error = start.unready("Keeps").unusable()
    assert "schema 99" in error and "upgrade hush-core in this environment" in error and sys.executable in error


def test_a_writer_that_speaks_otherwise_ends_it_with_a_reason(database: TraceDatabase, start: Workers) -> None:
    worker = start("Keeps")
    worker.socket.sendall(b'{"type":"sing"}\n')
    assert worker.receive() is None
    assert worker.ended() == 1
    assert "of another version of hush perhaps" in start.log()


# -- how it lives -----------------------------------------------------------------------------------------------------


@LINUX
def test_it_stands_back_and_holds_nothing_when_idle(database: TraceDatabase, start: Workers) -> None:
    worker = start("Keeps")
    assert os.getpriority(os.PRIO_PROCESS, worker.pid) >= 10
    os.kill(worker.pid, signal.SIGINT)  # Ctrl+C is the app's
    assert worker.kinds(put(database, "r-1")) == ["delivered"]

    def held() -> bool:
        return any(str(database.path) == os.path.realpath(each) for each in Path(f"/proc/{worker.pid}/fd").iterdir())

    wait_until(lambda: not held(), "it to close the database")
    assert worker.let_go() < 2.0
    assert worker.ended() == 0


# -- plugins' hooks ---------------------------------------------------------------------------------------------------

HOOKS = """
import os, sys, time
from hush_core import hookimpl

@hookimpl
def hush_before_flush(tracer_name, flush_data):
    how = flush_data["request_id"].partition("-")[0]
    if how == "drop":
        return False
    if how == "raise":
        raise ValueError("hook failed")
    if how == "exit":
        os._exit(9)
    flush_data["tags"].append(f"seen for {tracer_name}")

@hookimpl
def hush_after_flush(tracer_name, request_id, outcome):
    with open(os.environ["AFTER"], "a") as file:
        print(tracer_name, request_id, outcome, file=file)
    if request_id.startswith("slow"):
        time.sleep(1000)
    sys.exit("after")
"""


@pytest.fixture
def hooked(tmp_path: Path, start: Workers) -> Callable[[str], Worker]:
    """Starts a process in whose environment a plugin with hooks is installed."""
    site = tmp_path / "site"
    info = site / "hush_hooks-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hush-hooks\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[hush]\nhooks = hush_hooks\n")
    (site / "hush_hooks.py").write_text(HOOKS)
    return lambda tracer: start(tracer, path=[str(site)], variables={"AFTER": str(tmp_path / "after")})


@pytest.mark.parametrize("tracer", ["Keeps", "KeepsBatches"])
def test_a_plugin_may_change_and_drop_what_is_sent_and_learns_what_came_of_it(
    tracer: str, hooked: Callable[[str], Worker], database: TraceDatabase, start: Workers, tmp_path: Path
) -> None:
    worker = hooked(tracer)
    kinds = worker.kinds(put(database, "r-1", "drop-1", "raise-1", "r-2"))
    assert kinds == ["delivered", "skipped", "retry", "delivered"]
    assert [data["tags"] for data in kept(start.kept)] == [["seen for prod"]] * 2

    def said() -> list[str]:
        return sorted((tmp_path / "after").read_text().splitlines())

    wait_until(lambda: len(said()) == 4, "the last to be told")
    assert said() == ["prod drop-1 skipped", "prod r-1 delivered", "prod r-2 delivered", "prod raise-1 retry"]


def test_a_plugin_that_ends_the_process_is_blamed_for_its_request(
    hooked: Callable[[str], Worker], database: TraceDatabase
) -> None:
    worker = hooked("Keeps")
    [id] = worker.send(put(database, "exit-1"))
    assert worker.receive() == Begun([id])
    assert worker.receive() is None


def test_a_plugin_that_hangs_after_a_delivery_does_not_take_it_back(
    hooked: Callable[[str], Worker], database: TraceDatabase
) -> None:
    assert hooked("Keeps").kinds(put(database, "slow-1")) == ["delivered"]
