"""What the plugin's tests stand on: a home and a database of their own, requests as hush makes them, a Langfuse."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hush_core import FlushData, NodeData
from hush_langfuse import client
from hush_langfuse.tracer import LangfuseTracer

from .langfuse_server import LangfuseServer

SECRET = "sk-canary-5f0c8e21b7d94a36c1e8f072"  # tests/support/canary.py: looked for after each test
PUBLIC = "pk-lf-5b1c2d3e-public"


@pytest.fixture(autouse=True, scope="session")
def last_client() -> Iterator[None]:
    """The client that a delivery process keeps until it ends, closed: here the tests' own process keeps it, whose end
    would warn of its socket.
    """
    yield
    if client._client is not None:
        client._client.close()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing of the person who runs the tests is read or written."""
    folder = tmp_path / "home"
    folder.mkdir()
    for name in [name for name in os.environ if name.upper().startswith(("HUSH_", "LANGFUSE_", "OTEL_"))]:
        monkeypatch.delenv(name)
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("HUSH_TRACES_DB", str(tmp_path / "traces.db"))
    monkeypatch.chdir(tmp_path)
    return folder


def node(name: str = "answer", number: int = 1, parent: int | None = None, **values: Any) -> NodeData:
    """A node that has these values; its span is a number."""
    made: Any = {
        **dict.fromkeys(NodeData.__annotations__),
        "span_id": f"{number:016x}",
        "parent_span_id": None if parent is None else f"{parent:016x}",
        "node_name": name,
        "node_type": "code",
        "start_time": "2025-01-31T12:00:00.000000Z",
        "end_time": "2025-01-31T12:00:01.500000Z",
        "duration_ms": 1500.0,
        "status": "ok",
        "contain_generation": False,
        **values,
    }
    return made


@pytest.fixture
def request_data() -> Callable[..., FlushData]:
    """Makes a request as `flush` is given it, with these values in the place of the usual ones."""
    return make_request


def make_request(*nodes: NodeData, **values: Any) -> FlushData:
    made: Any = {
        "request_id": "r-1",
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "workflow_name": "geography",
        "user_id": None,
        "session_id": None,
        "tags": [],
        "tracer_name": "prod",
        "tracer_type": "LangfuseTracer",
        "tracer_config": {},
        "status": "completed",
        "start_time": "2025-01-31T12:00:00.000000Z",
        "end_time": "2025-01-31T12:00:02.000000Z",
        "attempt": 1,
        "nodes": list(nodes),
        **values,
    }
    return made


@pytest.fixture
def server() -> Iterator[LangfuseServer]:
    with LangfuseServer() as started:
        yield started


def config(server: LangfuseServer, **options: Any) -> dict[str, Any]:
    """A tracer's configuration as it is when it is flushed: with that server's address."""
    tracer = LangfuseTracer(**{"public_key": PUBLIC, "secret_key": SECRET, "base_url": server.url, **options})
    return tracer._get_tracer_config()
