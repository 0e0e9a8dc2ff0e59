"""`hush jsonl FILE` counts what a file holds."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hush_core import FlushData
from hush_jsonl.mapping import to_line

from .conftest import node

Make = Callable[..., FlushData]


@pytest.fixture
def file(tmp_path: Path, request_data: Make) -> Path:
    """Two requests, one of them twice, with a loop; and a line that was cut."""
    first = to_line(request_data("r-1"))
    looped = request_data("r-2", nodes=[node("flow"), node("iteration[0]", 5, "iteration"), node("step", 5)])
    path = tmp_path / "traces.jsonl"
    path.write_bytes(first + to_line(looped) + first[:40] + b"\n" + first)
    return path


def hush(*arguments: str) -> str:
    command = [sys.executable, "-c", "from hush_core.cli import main; main()", *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def test_it_counts_each_request_once_and_iterations_not_twice(file: Path) -> None:
    assert hush("jsonl", str(file)) == "2 requests, 5 nodes, 33 tokens, 1 unreadable\n"


def test_it_counts_for_programs(file: Path) -> None:
    assert json.loads(hush("jsonl", str(file), "--json")) == {
        "requests": 2, "nodes": 5, "tokens": 33, "unreadable": 1
    }  # fmt: skip


def test_hush_lists_it_among_its_commands() -> None:
    assert "jsonl" in hush("--help")
