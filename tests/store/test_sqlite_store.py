"""The store as a whole, against a model of it: whatever fails in between, it did all of a step or nothing of it."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hush_core.errors import StoreError
from hush_core.model import COMPLETED, FAILED, INTERRUPTED, NODE_END, NODE_START, RUNNING
from hush_core.store.database import open_database
from hush_core.store.sqlite import JournalState, Slice, SqliteStore
from tests.store.conftest import JOURNAL, StoreUnderTest, begin, complete, node, read_only

JOURNALS = tuple(f"{number:032x}" for number in range(3))
REQUESTS = ("r0", "r1", "r2")


class FragileConnection:
    """A connection whose statements fail from the n-th on, for as many as are said; the disk refuses for a while."""

    def __init__(self, path: Path) -> None:
        self.real = open_database(path)
        self._until = 0
        self._failures = 0

    def fail(self, at: int, times: int) -> None:
        self._until, self._failures = at, times

    def heal(self) -> None:
        self._failures = 0

    def _check(self) -> None:
        self._until -= 1
        if self._until <= 0 and self._failures > 0:
            self._failures -= 1
            raise sqlite3.OperationalError("disk I/O error")

    def execute(self, *args: Any) -> sqlite3.Cursor:
        self._check()
        return self.real.execute(*args)

    def executemany(self, *args: Any) -> sqlite3.Cursor:
        self._check()
        return self.real.executemany(*args)

    @property
    def in_transaction(self) -> bool:
        return self.real.in_transaction

    def close(self) -> None:
        self.real.close()


@dataclass
class ModelNode:
    name: str
    status: str
    output: str | None
    span: int | None


@dataclass
class ModelRequest:
    status: str = RUNNING
    marked: bool = False
    workflow: str | None = None
    tags: list[str] = field(default_factory=list)
    nodes: list[ModelNode] = field(default_factory=list)
    errors: int = 0
    tokens: int | None = None
    journals: set[str] = field(default_factory=set)
    tracers: list[str] = field(default_factory=list)
    due: set[str] = field(default_factory=set)

    def is_open(self) -> bool:
        return any(node.status == RUNNING for node in self.nodes)


@dataclass
class ModelJournal:
    offset: int = 512
    stored: int = 0
    ended: bool = False


@dataclass
class Model:
    """What the store should hold: the same rules, said in dictionaries."""

    requests: dict[str, ModelRequest] = field(default_factory=dict)
    journals: dict[str, ModelJournal] = field(default_factory=dict)
    total: int = 0

    def touch(self, request_id: str, journal: str) -> ModelRequest:
        request = self.requests.setdefault(request_id, ModelRequest())
        if not request.marked:
            request.journals.add(journal)
            if request.status == INTERRUPTED:
                request.due.clear()  # it goes on after all, and is due anew when it is complete
            request.status = RUNNING
        return request

    def apply(self, journal: str, kind: str, request_id: str, fields: dict[str, Any]) -> None:
        request = self.touch(request_id, journal)
        if kind == "begin":
            request.workflow = request.workflow or fields["workflow_name"]
            request.tracers = fields["tracers"] or request.tracers
        elif kind == "complete":
            request.status, request.marked = fields["status"] or COMPLETED, True
            request.due.add(fields["tracer"])
            if len(request.tracers) > 1:  # its process may die before it says so for the others
                request.due.update(request.tracers)
        else:
            self._node(request, journal, kind, fields)
        for tag in fields.get("tags") or ():
            if tag not in request.tags:
                request.tags.append(tag)
        if request.status != RUNNING and kind in ("complete", "end") and not request.is_open():
            request.journals.clear()

    def _node(self, request: ModelRequest, journal: str, kind: str, fields: dict[str, Any]) -> None:
        status = RUNNING if kind == "start" else "error" if fields["error"] else "ok"
        if kind == "start":
            request.journals.add(journal)
        else:
            request.errors += status == "error"
            if fields["tokens"] is not None:
                request.tokens = (request.tokens or 0) + fields["tokens"]
        begun = [node for node in request.nodes if node.status == RUNNING and node.span == fields["span"]]
        if kind == "end" and not begun:  # it began in a process that is gone, and goes on in another
            begun = [node for node in request.nodes if node.status == INTERRUPTED and node.span == fields["span"]]
        if kind == "end" and begun and fields["span"] is not None:
            begun[0].status, begun[0].output = status, fields["output"]
        else:
            request.nodes.append(ModelNode(fields["name"], status, fields.get("output"), fields["span"]))

    def end(self, journal: str) -> list[str]:
        self.journals[journal].ended = True
        interrupted = []
        for request_id, request in self.requests.items():
            if journal in request.journals:
                request.journals.remove(journal)
                if not request.journals:
                    for each in request.nodes:
                        each.status = INTERRUPTED if each.status == RUNNING else each.status
                    if request.status == RUNNING:
                        request.status = INTERRUPTED
                        request.due.update(request.tracers)
                        interrupted.append(request_id)
        return sorted(interrupted)


def encoded(kind: str, request_id: str, fields: dict[str, Any]) -> bytes:
    if kind == "begin":
        tracers = [[name, name, {}] for name in fields["tracers"]]
        return begin(request_id=request_id, workflow_name=fields["workflow_name"], tags=fields["tags"], tracers=tracers)
    if kind == "complete":
        return complete(
            request_id=request_id, tracer_type=fields["tracer"], tracer_config={}, status=fields["status"],
            tags=fields["tags"],
        )  # fmt: skip
    more = {"error": fields["error"], "total_tokens": fields["tokens"]} if kind != "start" else {}
    number = {"node": 1, "start": NODE_START, "end": NODE_END}[kind]
    return node(
        number, request_id=request_id, node_name=fields["name"], span=fields["span"], tags=fields["tags"],
        output_data=fields.get("output"), **more,
    )  # fmt: skip


tags = st.lists(st.sampled_from("abc"), max_size=2)
tracers = st.sampled_from(["LocalTracer", "Langfuse", "Otel"])
node_fields = {
    "name": st.sampled_from(["split", "rank"]),
    "output": st.sampled_from([None, "x", "y"]),
    "error": st.sampled_from([None, None, "boom"]),
    "tokens": st.sampled_from([None, 3, 5]),
    "tags": tags,
}
records = st.one_of(
    st.tuples(st.just("node"), st.fixed_dictionaries({**node_fields, "span": st.none()})),
    st.tuples(st.just("start"), st.fixed_dictionaries({"name": st.just("begun"), "tags": tags})),
    st.tuples(st.just("end"), st.fixed_dictionaries({**node_fields, "back": st.integers(0, 4)})),
    st.tuples(
        st.just("begin"),
        st.fixed_dictionaries(
            {
                "workflow_name": st.sampled_from([None, "w", "v"]),
                "tags": tags,
                "tracers": st.lists(tracers, max_size=2, unique=True),
            }
        ),
    ),
    st.tuples(
        st.just("complete"),
        st.fixed_dictionaries({"tracer": tracers, "status": st.sampled_from([None, COMPLETED, FAILED]), "tags": tags}),
    ),
)
slices = st.lists(
    st.tuples(st.sampled_from(JOURNALS), st.lists(st.tuples(st.sampled_from(REQUESTS), records), max_size=6)),
    min_size=1,
    max_size=3,
    unique_by=lambda each: each[0],
)
failures = st.none() | st.tuples(st.integers(1, 25), st.integers(1, 6))


class StoreMachine(RuleBasedStateMachine):
    """Puts, ends and forgets, some of them on a disk that refuses; another writer takes over now and then."""

    def __init__(self) -> None:
        super().__init__()
        # In memory, where there is such a folder: a sync costs nothing there.
        self.folder = tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
        self.path = Path(self.folder.name) / "traces.db"
        self.model = Model()
        self.spans = 0
        self.open()

    def open(self) -> None:
        def connect(path: Path) -> Any:
            self.connection = FragileConnection(path)
            return self.connection

        self.store = SqliteStore(self.path, connect=connect)
        self.reader = read_only(self.path)

    def close(self) -> None:
        self.reader.close()
        self.store.close()

    def teardown(self) -> None:
        self.close()
        self.folder.cleanup()

    def attempt(self, failure: tuple[int, int] | None, step: Any) -> tuple[bool, Any]:
        """Try a step, on a disk that may refuse. Whether it did it, and what it returned."""
        if failure is not None:
            self.connection.fail(*failure)
        try:
            return True, step()
        except sqlite3.OperationalError:
            assert failure is not None
            return False, None
        finally:
            self.connection.heal()

    def state(self, journal: str) -> JournalState:
        known = self.store.journals().get(journal)
        return known or JournalState(journal, pid=1, opened_ns=1, segment=0, offset=512, first=1, highest=0)

    @rule(slices=slices, failure=failures, durable=st.booleans())
    def put(self, slices: list[tuple[str, list[Any]]], failure: tuple[int, int] | None, durable: bool) -> None:
        slices = [each for each in slices if not self.model.journals.get(each[0], ModelJournal()).ended]
        steps, put = [], []
        for journal, given in slices:
            state = self.state(journal)
            since = (state.segment, state.offset) if journal in self.model.journals else None
            payloads = []
            for request_id, (kind, drawn) in given:
                fields = dict(drawn)
                if kind == "start":
                    self.spans += 1
                    fields["span"] = self.spans
                elif kind == "end":
                    fields["span"] = max(self.spans - fields.pop("back"), 0)
                    request_id = self.request_of(fields["span"], steps) or request_id
                steps.append((journal, kind, request_id, fields))
                payloads.append(encoded(kind, request_id, fields))
            state.offset += 10 * len(payloads)
            put.append(Slice(state, payloads, since))
        done, _ = self.attempt(failure, lambda: self.store.put(put, keep_refused=refuse, durable=durable))
        if done:
            for journal, given in slices:
                model = self.model.journals.setdefault(journal, ModelJournal())
                model.offset += 10 * len(given)
                model.stored += len(given)
            for step in steps:
                self.model.apply(*step)

    def request_of(self, span: int, steps: list[Any]) -> str | None:
        """The request that a span began in: its end is of the same."""
        begun = [request_id for _, kind, request_id, fields in steps if kind == "start" and fields["span"] == span]
        known = [
            request_id
            for request_id, request in self.model.requests.items()
            if any(each.span == span and each.name == "begun" for each in request.nodes)
        ]
        return next(iter(known + begun), None)

    @precondition(lambda self: self.model.journals)
    @rule(data=st.data(), failure=failures)
    def end(self, data: Any, failure: tuple[int, int] | None) -> None:
        journal = data.draw(st.sampled_from(sorted(self.model.journals)))
        state = self.state(journal)
        done, interrupted = self.attempt(failure, lambda: self.store.end_journals([state])[0])
        if done:
            assert sorted(interrupted) == self.model.end(journal)

    @precondition(lambda self: any(journal.ended for journal in self.model.journals.values()))
    @rule(data=st.data(), failure=failures)
    def forget(self, data: Any, failure: tuple[int, int] | None) -> None:
        ended = sorted(journal for journal, model in self.model.journals.items() if model.ended)
        journal = data.draw(st.sampled_from(ended))
        state = self.state(journal)
        done, _ = self.attempt(failure, lambda: self.store.forget_journals([state]))
        if done:
            self.model.total += self.model.journals.pop(journal).stored

    @rule()
    def reopen(self) -> None:
        self.close()
        self.open()

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        query = self.reader.execute
        for request_id, request in self.model.requests.items():
            row = query(
                "SELECT id, status, workflow_name, tags, node_count, error_count, total_tokens FROM request "
                "WHERE request_id = ?",
                (request_id,),
            ).fetchone()
            assert row is not None, f"{request_id} is missing"
            key, *found = row
            tags = json.dumps(request.tags, separators=(",", ":"))
            assert found == [
                request.status, request.workflow, tags, len(request.nodes), request.errors, request.tokens,
            ]  # fmt: skip
            nodes = query(
                "SELECT node_name, status, output_data, span FROM node LEFT JOIN node_payload ON node = id "
                "WHERE request = ? ORDER BY id",
                (key,),
            ).fetchall()
            assert nodes == [
                (each.name, each.status, None if each.output is None else f'"{each.output}"', each.span)
                for each in request.nodes
            ]
            assert {tag for (tag,) in query("SELECT tag FROM request_tag WHERE request = ?", (key,))} == {*request.tags}
            due = query(
                "SELECT tracer_name FROM delivery JOIN tracer ON tracer.id = tracer WHERE request = ?", (key,)
            ).fetchall()
            assert sorted(name for (name,) in due) == sorted(request.due)
            open_in = query("SELECT journal_id FROM request_journal WHERE request = ?", (key,)).fetchall()
            assert {journal for (journal,) in open_in} == request.journals
        assert query("SELECT count(*) FROM request").fetchone() == (len(self.model.requests),)
        journals = query("SELECT journal_id, offset, stored, ended_ns IS NOT NULL FROM journal").fetchall()
        assert {journal: ModelJournal(offset, stored, bool(ended)) for journal, offset, stored, ended in journals} == (
            self.model.journals
        )
        total = query("SELECT count FROM total WHERE name = 'records_stored'").fetchone()
        assert (total or (0,))[0] == self.model.total


def refuse(journal: str, record: bytes) -> None:
    raise AssertionError(f"a record was refused: {record!r}")


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(max_examples=50, stateful_step_count=15, deadline=None)


# -- what the model does not say --------------------------------------------------------------------------------------


def test_a_position_that_is_not_the_expected_one_is_refused_and_nothing_stored(stored: StoreUnderTest) -> None:
    """Two writers at once: an election went wrong, or somebody replaced the directory."""
    stored.put(node())
    (state,) = stored.store.journals().values()
    state.offset += 10
    for since in (None, (0, 512), (1, 512)):
        with pytest.raises(StoreError, match="Another writer works on"):
            stored.store.put([Slice(state, [node()], since)], keep_refused=refuse)
    assert len(stored.nodes) == 1


def test_records_are_kept_aside_before_they_are_counted(stored: StoreUnderTest) -> None:
    """If they cannot be, they stay in the journal."""

    def fail(journal: str, record: bytes) -> None:
        raise OSError("disk full")

    state = JournalState(JOURNAL, 1, 1, 0, 512, first=1)
    with pytest.raises(OSError, match="disk full"):
        stored.store.put([Slice(state, [b"garbage", node()], None)], keep_refused=fail)
    assert stored.requests == []
    assert stored.store.journals() == {}


def test_more_requests_than_are_kept_in_memory_keep_their_sums(
    stored: StoreUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hush_core.store.sqlite._CACHED_REQUESTS", 3)
    for _ in range(3):
        for number in range(10):
            stored.put(node(request_id=f"r{number}", total_tokens=2, tags=["a"]))
    assert {request["total_tokens"] for request in stored.requests} == {6}
    assert {request["node_count"] for request in stored.requests} == {3}
    assert stored.end() == [f"r{number}" for number in range(10)]


def test_a_readers_open_transaction_does_not_keep_the_store_from_storing(stored: StoreUnderTest) -> None:
    with contextlib.closing(read_only(stored.path)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM node").fetchone()
        for _ in range(5):
            stored.put(node())
        assert reader.execute("SELECT count(*) FROM node").fetchone() == (0,)
    assert len(stored.nodes) == 5


def test_a_checkpoint_leaves_nothing_in_the_log(stored: StoreUnderTest) -> None:
    stored.put(node())
    log = stored.path.with_name("traces.db-wal")
    assert log.stat().st_size > 0
    stored.store.checkpoint()
    assert log.stat().st_size == 0


def test_what_was_dropped_and_set_aside_is_folded_into_the_totals(stored: StoreUnderTest) -> None:
    stored.put(node(), b"garbage")
    (state,) = stored.store.journals().values()
    state.dropped = {"disk full": 3, "other": 1}
    stored.store.end_journals([state])
    stored.store.forget_journals([state])
    stored.store.forget_journals([state])  # again, as after a kill right behind the commit
    assert {row["name"]: row["count"] for row in stored.rows("SELECT * FROM total")} == {
        "records_stored": 1, "records_set_aside": 1, "dropped:disk full": 3, "dropped:other": 1,
    }  # fmt: skip
