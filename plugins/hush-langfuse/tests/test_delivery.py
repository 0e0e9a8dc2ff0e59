"""From `hush.toml` and a workflow to Langfuse, through the real processes."""

from __future__ import annotations

import base64
import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Final

from disk import files_below
from langfuse import Langfuse

from .conftest import PUBLIC, SECRET
from .langfuse_server import Answer, LangfuseServer

SETTINGS: Final = """
default = ["prod"]

[tracers.prod]
type = "langfuse"
tags = ["team-a"]
secret_key = "{secret}"      # written out, as one should not
environment = "staging"
"""
APP: Final = """
from hush_core import code_node, get_tracer

@code_node(node_type="retriever")
def search(question):
    return ["Paris is the capital of France."]

@code_node(model="gpt-4o")
def answer(question, documents):
    return {
        "answer": "Paris",
        "$usage": {"prompt_tokens": 20, "completion_tokens": 9, "prompt_tokens_details": {"cached_tokens": 5}},
        "$cost": 0.25,
        "$metadata": {"provider": "openai"},
        "$media": [{"data": b"\\x89PNG\\r\\n\\x1a\\n map", "type": "image/png"}],
    }

@code_node(node_type="tool")
def fail():
    raise ValueError("no such tool")

tracer = get_tracer()
for request_id in ("r-1", "r-2", "poison"):
    with tracer.trace("geography", request_id=request_id, user_id="ann", session_id="s-1", tags=["vip"]) as state:
        for question in state.loop(["France", "Spain"]):
            answer(question, search(question))
        try:
            fail()
        except ValueError:
            pass
assert tracer.shutdown_worker(60)
"""


def test_a_workflow_arrives_in_langfuse_with_everything_that_was_recorded(
    server: LangfuseServer, tmp_path: Path
) -> None:
    server.answers = lambda heard: Answer(400, b'{"error": "no"}') if b"poison" in heard.body else None
    (tmp_path / "hush.toml").write_text(SETTINGS.format(secret=SECRET))
    variables = {"LANGFUSE_PUBLIC_KEY": PUBLIC, "LANGFUSE_BASE_URL": server.url, "LANGFUSE_RELEASE": "abc123"}
    subprocess.run([sys.executable, "-c", APP], check=True, timeout=100, env={**os.environ, **variables})

    assert ledger(tmp_path) == {"r-1": "flushed", "r-2": "flushed", "poison": "failed"}
    spans = [span for span in server.spans if json.loads(of(span, "trace.metadata.hush"))["request_id"] == "r-1"]
    spans = list({span["spanId"]: span for span in spans}.values())  # it was in a batch that was taken apart
    assert [span["name"] for span in spans] == [
        "geography", "iteration[0]", "search", "answer", "iteration[1]", "search", "answer", "fail"
    ]  # fmt: skip
    by_id = {span["spanId"]: span["name"] for span in spans}
    parents = [by_id.get(span.get("parentSpanId", "")) for span in spans]
    assert parents == [
        None, "geography", "iteration[0]", "iteration[0]", "geography", "iteration[1]", "iteration[1]", "geography"
    ]  # fmt: skip
    assert {span["traceId"] for span in spans} == {Langfuse.create_trace_id(seed="r-1")}
    for span in spans:
        assert (span["attributes"]["user.id"], span["attributes"]["session.id"]) == ("ann", "s-1")
        assert of(span, "trace.tags") == ["team-a", "vip"]
        assert (of(span, "environment"), of(span, "release")) == ("staging", "abc123")
    answer, failed = spans[3], spans[-1]
    assert (of(answer, "observation.type"), of(answer, "observation.model.name")) == ("generation", "gpt-4o")
    assert json.loads(of(answer, "observation.usage_details")) == {
        "input": 15, "input_cached_tokens": 5, "output": 9, "total": 29
    }  # fmt: skip
    assert json.loads(of(answer, "observation.input"))["question"] == "France"
    assert "@@@langfuseMedia:type=image/png|id=" in of(answer, "observation.metadata.media")
    assert list(server.stored.values()) == [b"\x89PNG\r\n\x1a\n map"]
    assert of(failed, "observation.level") == "ERROR"
    assert of(failed, "observation.status_message").startswith("ValueError: no such tool\nTraceback")
    assert files_with(tmp_path, SECRET) == {"hush.toml", "secrets"}
    for text in (PUBLIC, base64.b64encode(f"{PUBLIC}:{SECRET}".encode()).decode()):
        assert files_with(tmp_path, text) == set()


def of(span: dict[str, dict[str, str]], key: str) -> str:
    return span["attributes"][f"langfuse.{key}"]


def ledger(folder: Path) -> dict[str, str]:
    with closing(sqlite3.connect(f"file:{folder / 'traces.db'}?mode=ro", uri=True)) as connection:
        return dict(connection.execute("SELECT request_id, status FROM deliveries").fetchall())


def files_with(folder: Path, text: str) -> set[str]:
    """The names of the files that hold a text; of the folder where secrets are kept, the folder's."""
    found = [path for path, content in files_below(folder).items() if text.encode() in content]
    return {"secrets" if path.parent.name == "secrets" else path.name for path in found}
