"""A trace whose records are kept in a list, beside the real background that other tests use."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hush_core.capture import budget
from hush_core.capture.mask import Mask
from hush_core.capture.place import current
from hush_core.capture.state import MemoryState
from hush_core.model import NODE, NODE_END, NODE_FIELDS, NODE_START
from hush_core.store.trace_store import TraceStore


@contextlib.contextmanager
def time_stands_still() -> Iterator[None]:
    """Records have all the time they need: of many thousand, one meets a second in which the machine did nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(budget, "monotonic", lambda: 0.0)
        yield


class Recording:
    """A background that keeps what is appended, and fails the test on anything it is told went wrong."""

    def __init__(self) -> None:
        self.payloads: list[bytes] = []
        self.append: Callable[[bytes], None] = self.payloads.append
        self.start_records = True
        self.mask: Mask | None = None
        self.dropped: list[str] = []
        self.reported: list[tuple[BaseException, str]] = []
        self.secured = 0

    def drop(self, reason: str) -> None:
        self.dropped.append(reason)

    def report(self, problem: BaseException, doing: str) -> None:
        self.reported.append((problem, doing))

    def secure(self, *, delivers: bool = False) -> None:
        self.secured += 1

    def sync(self, timeout: float = 5.0) -> bool:
        return True

    def records(self, *kinds: int) -> list[list[Any]]:
        """The records of these kinds, in order; of all kinds if none is given."""
        records = [msgspec.msgpack.decode(payload) for payload in self.payloads]
        return [record for record in records if not kinds or record[0] in kinds]

    def nodes(self, *kinds: int) -> list[dict[str, Any]]:
        """Node records of these kinds as dicts; those that have ended if none is given."""
        return [
            dict(zip(NODE_FIELDS, record[1:] + [None] * len(NODE_FIELDS), strict=False))
            for record in self.records(*(kinds or (NODE, NODE_END)))
        ]

    def node(self, name: str) -> dict[str, Any]:
        """The one node of that name: its start and its end as one."""
        starts = [node for node in self.nodes(NODE_START) if node["node_name"] == name]
        ends = [node for node in self.nodes() if node["node_name"] == name]
        assert len(ends) == 1, f"{len(ends)} nodes named {name!r} have ended"
        return {**(starts[0] if starts else {}), **{key: value for key, value in ends[0].items() if value is not None}}

    def tree(self) -> list[tuple[str, str | None, str | None]]:
        """Name, name of the exact parent, and loop position of every node that has begun or ended, in order."""
        nodes = self.nodes(NODE_START) or self.nodes()
        names = {node["span"]: node["node_name"] for node in nodes}
        ordered = sorted(nodes, key=lambda node: node["execution_order"])
        return [(node["node_name"], names.get(node["parent_span"]), node["context_id"]) for node in ordered]


@pytest.fixture
def recording() -> Recording:
    return Recording()


@pytest.fixture
def store(recording: Recording, tmp_path: Path) -> TraceStore:
    return TraceStore(tmp_path / "unused.db", background=recording)


@pytest.fixture
def state(store: TraceStore, recording: Recording) -> Iterator[MemoryState]:
    """The state of a trace that the test's code runs in."""
    state = MemoryState("flow", request_id="r", user_id="u", session_id="s", trace_store=store)
    current.set(state.root)
    yield state
    current.set(None)
    assert recording.reported == []
