"""That the benchmarks measure what they say: the same work by every contender, each record counted where it arrives."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from benchmarks import capture, deliver, memory, rate, visibility, worst
from benchmarks.contender import Contender, CountMismatch
from benchmarks.contenders.floor import Floor
from benchmarks.result import Result
from benchmarks.session import EXPORTER, FLOOR, HUSH, LANGFUSE, OTEL, SEED, Scale, Session
from benchmarks.workload import CODE_NODE, LLM, SMALL, insert_nodes
from hush_core import TraceStore

TINY = Scale(
    fleets=1,
    rounds=3,
    calls=dict.fromkeys((FLOOR, HUSH, OTEL, SEED, LANGFUSE), 200),
    latency_calls=50,
    latency_rounds=2,
    store_records=300,
    seed_records=100,
    store_rounds=1,
    visible_records=50,
    memory_records=20_000,
    imports=1,
    asleep_s=0.1,
    delivered_spans=300,
)


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(tmp_path / "bench", TINY)


class Collecting:
    """A background that keeps what it is given."""

    start_records = True
    mask = None

    def __init__(self) -> None:
        self.payloads: list[bytes] = []
        self.append = self.payloads.append

    def drop(self, reason: str) -> None:
        raise AssertionError(reason)

    def report(self, problem: BaseException, doing: str) -> None:
        raise problem

    def secure(self) -> None:
        """Nothing to sync."""

    def sync(self, timeout: float = 5.0) -> bool:
        return True


class Losing(Contender):
    """Says that it recorded one more than arrives."""

    def run(self, workload: str, calls: int, run: str) -> int:
        return calls

    def arrived(self, records: int) -> int:
        return records - 1


def test_the_floor_takes_what_insert_node_trace_takes() -> None:
    hush = inspect.signature(TraceStore.insert_node_trace).parameters
    floor = inspect.signature(Floor.insert_node_trace).parameters
    assert [(p.name, p.kind, p.default) for p in floor.values()] == [(p.name, p.kind, p.default) for p in hush.values()]


@pytest.mark.parametrize("workload", [SMALL, LLM])
def test_the_floor_copies_the_bytes_that_hush_hands_to_its_journal(workload: str, tmp_path: Path) -> None:
    background = Collecting()
    insert_nodes(workload, TraceStore(tmp_path / "traces.db", background=background).insert_node_trace, 30, "run")
    floor = Floor(tmp_path)
    floor.run(workload, 30, "run")
    floor.close()
    copied = b"".join(background.payloads)
    assert (tmp_path / "floor.bytes").read_bytes().startswith(copied + b"\0")


@pytest.mark.parametrize(("workload", "low", "high"), [(SMALL, 150, 400), (LLM, 2400, 2900)])
def test_a_workload_is_as_large_as_its_name_says(workload: str, low: int, high: int, tmp_path: Path) -> None:
    background = Collecting()
    insert_nodes(workload, TraceStore(tmp_path / "traces.db", background=background).insert_node_trace, 11, "run")
    assert all(low < len(payload) < high for payload in background.payloads)
    requests = [msgspec.msgpack.decode(payload)[1] for payload in background.payloads]
    assert requests.count(requests[0]) == 10  # ten nodes make a request
    assert len(set(requests)) == 2


def test_a_figure_is_refused_when_a_record_did_not_arrive(tmp_path: Path) -> None:
    for measure in (lambda: Losing(tmp_path).cost(SMALL, 10), lambda: Losing(tmp_path).store(SMALL, 10)):
        with pytest.raises(CountMismatch, match="10 records were made, 9 arrived"):
            measure()


@pytest.mark.parametrize(
    ("workload", "names"),
    [(SMALL, (FLOOR, HUSH, OTEL, SEED)), (LLM, (FLOOR, HUSH, OTEL, SEED)), (CODE_NODE, (HUSH, OTEL))],
)
def test_every_contender_accounts_for_each_record(workload: str, names: tuple[str, ...], session: Session) -> None:
    with session.fleet(names) as workers:
        assert set(workers) == set(names) - set(session.absent)
        assert set(session.absent) <= {OTEL}
        for worker in workers.values():
            for calls in (1, 25):
                assert worker.call("cost", workload, calls)["calls"] == calls


def test_a_contender_that_is_not_installed_is_named_and_the_rest_goes_on(session: Session) -> None:
    with session.fleet((LANGFUSE, FLOOR)) as workers:
        assert FLOOR in workers
        assert (LANGFUSE in workers) != (LANGFUSE in session.absent)


def test_hush_costs_more_than_its_floor(session: Session) -> None:
    session = Session(session.folder, replace(TINY, rounds=15))  # the median is to be of more than a busy moment
    by_row = {(each.what, each.beside): each for each in capture.measure(session)}
    for workload in (SMALL, LLM):
        ratio = by_row[f"insert_node_trace, {workload}", "floor"].ratio
        assert ratio is not None
        assert ratio.value > 1.0


def test_a_writer_does_not_outlive_the_benchmark_that_started_it(session: Session) -> None:
    with session.start(HUSH) as hush:
        writer = hush.call("writer_pid")
        assert Path(f"/proc/{writer}").exists() or not Path("/proc/self").exists()
    assert not Path(f"/proc/{writer}").exists()
    assert list(session.folder.iterdir()) == []


def figures(results: list[Result]) -> list[float]:
    return [each.measured.value for each in results if each.measured is not None]


def test_the_rate_is_measured_beside_the_same_rows_and_the_plain_design(session: Session) -> None:
    results = rate.measure(session)
    assert len(figures(results)) == 6  # for each workload beside both, and its CPU
    assert all(value > 0 for value in figures(results))


def test_visibility_is_measured_after_the_call(session: Session) -> None:
    p50, p99 = figures(visibility.measure(session))
    assert 0 < p50 <= p99


def test_every_span_that_is_delivered_is_counted_where_it_arrives(session: Session) -> None:
    results = deliver.measure(session)
    if EXPORTER not in session.absent:
        assert [each.measured is not None and each.ratio is not None for each in results] == [True] * 8


def test_memory_is_looked_at_during_the_run(session: Session) -> None:
    (result,) = memory.measure(session)
    if result.measured is not None:
        assert len(result.details["rss_bytes"]) == 4  # before, two looks, after


def test_the_slowest_call_is_slower_than_the_usual_one(session: Session) -> None:
    beside_otel, *_ = worst.measure(session)
    for turn in beside_otel.details.get("turns_us", {HUSH: []})[HUSH]:
        assert 0 < turn["p50"] <= turn["p99"] <= turn["p99.9"]
