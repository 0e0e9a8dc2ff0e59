"""Lines are appended whole, by several processes at once, and are on the disk when `flush` returns."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hush_core import ConfigurationFlushError, FlushData, RetryableFlushError
from hush_jsonl.tracer import JsonLinesTracer

Make = Callable[..., FlushData]


def ids(path: Path) -> list[str]:
    return [json.loads(line)["request_id"] for line in path.read_bytes().splitlines()]


def test_a_request_is_a_line_and_the_next_one_another(tmp_path: Path, request_data: Make) -> None:
    path = tmp_path / "traces.jsonl"
    for request_id in ("r-1", "r-2"):
        JsonLinesTracer.flush(request_data(request_id, {"path": str(path)}))
    assert ids(path) == ["r-1", "r-2"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_batch_is_appended_in_order(tmp_path: Path, request_data: Make) -> None:
    path = tmp_path / "traces.jsonl"
    JsonLinesTracer.flush_batch([request_data(f"r-{n}", {"path": str(path)}) for n in range(3)])
    assert ids(path) == ["r-0", "r-1", "r-2"]


def test_a_path_begins_at_the_working_folder_or_at_home(home: Path, tmp_path: Path, request_data: Make) -> None:
    JsonLinesTracer.flush(request_data(config={"path": "here.jsonl"}))
    JsonLinesTracer.flush(request_data(config={"path": "~/there.jsonl"}))
    assert ids(tmp_path / "here.jsonl") == ids(home / "there.jsonl") == ["r-1"]


def test_a_line_that_a_killed_process_left_without_an_end_is_ended(tmp_path: Path, request_data: Make) -> None:
    path = tmp_path / "traces.jsonl"
    path.write_bytes(b'{"request_id": "r-0", "nod')
    JsonLinesTracer.flush(request_data("r-1", {"path": str(path)}))
    torn, whole = path.read_bytes().splitlines()
    assert torn == b'{"request_id": "r-0", "nod'
    assert json.loads(whole)["request_id"] == "r-1"


def test_processes_that_append_at_once_mix_nothing_up(tmp_path: Path) -> None:
    path = tmp_path / "traces.jsonl"
    code = """
import sys
from hush_jsonl.file import append
name, path = sys.argv[1:]
for n in range(50):
    append(path, b'{"request_id": "%s-%d", "text": "%s"}\\n' % (name.encode(), n, b"x" * 20_000))
"""
    running = [subprocess.Popen([sys.executable, "-c", code, name, str(path)]) for name in "abc"]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert sorted(ids(path)) == sorted(f"{name}-{n}" for name in "abc" for n in range(50))


def test_a_write_that_the_disk_cuts_short_leaves_nothing(
    tmp_path: Path, request_data: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "traces.jsonl"
    JsonLinesTracer.flush(request_data("r-1", {"path": str(path)}))
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:10]))
    with pytest.raises(RetryableFlushError, match="No space left on device") as raised:
        JsonLinesTracer.flush(request_data("r-2", {"path": str(path)}))
    assert isinstance(raised.value.__cause__, OSError)
    assert ids(path) == ["r-1"]


@pytest.mark.parametrize("path", ["missing/traces.jsonl", "folder", "file/traces.jsonl", "a" * 300])
def test_a_path_that_cannot_be_waits_until_somebody_acts(path: str, tmp_path: Path, request_data: Make) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationFlushError, match=f"cannot append to {path}"):
        JsonLinesTracer.flush(request_data(config={"path": path}))


def test_a_fault_of_the_disk_is_worth_another_try(
    tmp_path: Path, request_data: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(RetryableFlushError, match="Input/output error"):
        JsonLinesTracer.flush(request_data(config={"path": str(tmp_path / "traces.jsonl")}))
    assert (tmp_path / "traces.jsonl").read_bytes() == b""


@pytest.mark.parametrize("config", [{"path": ""}, {"path": "a.jsonl", "colour": "red"}])
def test_a_configuration_that_makes_no_sense_here_waits_until_somebody_acts(
    config: dict[str, Any], request_data: Make
) -> None:
    with pytest.raises(ConfigurationFlushError):
        JsonLinesTracer.flush(request_data(config=config))
