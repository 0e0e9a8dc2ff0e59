"""What commands do when their output cannot show a character, takes nothing, or is read by nobody."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hush_command import COMMAND
from trace_database import TraceDatabase

each_command = pytest.mark.parametrize(
    "arguments",
    [
        ["--help"], ["--version"], ["traces"], ["traces", "--json"], ["show"], ["show", "--json"], ["doctor"],
        ["doctor", "--json"], ["stats"], ["tracers"], ["plugins"], ["flush", "--help"], ["no-such-command"],
        ["show", "no-such-request"],
    ],
    ids=" ".join,
)  # fmt: skip
full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no disk that is always full")


@pytest.fixture(autouse=True)
def stored(database: TraceDatabase) -> None:
    row = database.request("日本", tags=["é", "😀"])
    database.node(row, "ノード", payload={"output_data": "emoji 😀 é"}, error="Fehler: ü", status="error")


def run(arguments: Sequence[str], **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], text=True, errors="strict", timeout=60, **more)  # type: ignore[call-overload, no-any-return]


@each_command
def test_a_plain_c_locale_takes_every_text(arguments: list[str]) -> None:
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHONIOENC"))}
    done = run(
        arguments,
        env={**plain, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        capture_output=True,
        encoding="utf-8",
    )
    assert "Traceback" not in done.stderr
    assert done.stdout or done.stderr.startswith(("Error: ", "Usage: "))


@full
@each_command
def test_an_output_that_cannot_be_written_is_an_error_with_a_message(arguments: list[str]) -> None:
    with open("/dev/full", "w") as nowhere:
        done = run(arguments, stdout=nowhere, stderr=subprocess.PIPE)
    if arguments[-1].startswith("no-such"):  # nothing goes there
        assert done.stderr.startswith(("Error: ", "Usage: ")) and "Traceback" not in done.stderr
    else:
        assert done.stderr == "Error: The output cannot be written: No space left on device.\n"
    assert done.returncode in ((1, 2) if arguments[-1].startswith("no-such") else (1,))


@full
@each_command
def test_neither_can_the_message_be_written(arguments: list[str]) -> None:
    with open("/dev/full", "w") as nowhere:
        assert run(arguments, stdout=nowhere, stderr=nowhere).returncode == 1


@each_command
def test_an_output_that_nobody_reads_ends_the_command_quietly(arguments: list[str]) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    done = run(arguments, stdout=theirs, stderr=subprocess.PIPE)
    os.close(theirs)
    if not arguments[-1].startswith("no-such"):
        assert done.stderr == ""
        assert done.returncode == 1
    assert "Traceback" not in done.stderr


@each_command
def test_an_output_that_is_closed_is_no_traceback(arguments: list[str]) -> None:
    script = 'exec "$0" "$@" >&-'
    done = subprocess.run(
        ["/bin/sh", "-c", script, *COMMAND, *arguments], stderr=subprocess.PIPE, text=True, timeout=60, check=False
    )
    assert "Traceback" not in done.stderr


def test_an_error_about_a_file_is_not_taken_for_one_of_the_output(tmp_path: Path) -> None:
    code = (
        "from hush_core.cli.streams import outputs\n"
        "with outputs():\n    raise OSError(28, 'No space left on device', 'a-file')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, check=False)
    assert "Traceback" in done.stderr
