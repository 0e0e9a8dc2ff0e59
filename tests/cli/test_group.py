"""`hush` itself: its commands, its help, its manners in a pipe."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hush_command import COMMAND, Hush
from trace_database import TraceDatabase

import hush_core
from hush_core.cli.group import _SUMMARIES

each_command = pytest.mark.parametrize("name", list(_SUMMARIES))


def test_help_lists_every_command_without_importing_it() -> None:
    code = (
        "import sys; from hush_core.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in sys.modules if name in ('rich', 'sqlite3') or name.startswith('hush_core.cli.')])"
    )
    shown = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True).stdout
    for name, summary in _SUMMARIES.items():
        assert f"{name} " in shown and summary.split()[0] in shown
    assert shown.splitlines()[-1] == "['hush_core.cli.streams', 'hush_core.cli.group']"


def test_every_module_of_a_command_is_listed() -> None:
    folder = Path(importlib.import_module("hush_core.cli").__path__[0])
    having = {path.stem for path in folder.glob("*.py") if "@click.command" in path.read_text()}
    assert having == set(_SUMMARIES)


@each_command
def test_a_command_explains_itself_with_examples(hush: Hush, name: str) -> None:
    shown = hush.output(name, "--help")
    assert f"Usage: hush {name}" in shown
    assert "Examples:" in shown and shown.count(f"hush {name}") >= 2
    assert "--json" in shown
    assert ("--db PATH" in shown) == (name != "plugins")  # the one that looks at no database


@each_command
def test_examples_have_options_that_exist(hush: Hush, name: str) -> None:
    shown = hush.output(name, "--help")
    listed = {word for line in shown.split("Options:")[1].splitlines() for word in line.replace(",", " ").split()}
    examples = shown.split("Examples:")[1].split("Options:")[0].replace("jq -r", "jq")
    assert {word for word in examples.split() if word.startswith("-") and word.strip("-")} <= listed


def test_an_unknown_command_names_the_one_that_is_meant(hush: Hush) -> None:
    result = hush("tracez")
    assert result.exit_code == 2
    assert "Did you mean 'traces'?" in result.stderr
    assert f"Commands: {', '.join(_SUMMARIES)}." in result.stderr


def test_the_version_is_that_of_the_package(hush: Hush) -> None:
    assert hush.output("--version") == f"hush-core {hush_core.__version__}\n"


def test_a_defect_keeps_its_traceback(hush: Hush, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hush_core.cli.leftover.store_leftovers", lambda path: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        hush("traces")


def test_a_command_of_somebody_else_can_be_added() -> None:
    import click

    from hush_core.cli.group import Commands

    group = Commands(name="hush")
    group.add_command(click.Command("extra", short_help="Something more."))
    assert group.list_commands(None)[-1] == "extra"
    with click.Context(group) as context:
        assert "Something more." in group.get_help(context)


@pytest.mark.parametrize("arguments", [["traces", "-n", "0"], ["traces", "-n", "0", "--json"], ["show", "--json"]])
def test_a_reader_that_goes_away_is_no_traceback(database: TraceDatabase, arguments: list[str]) -> None:
    with database.connection:
        for number in range(3000):
            database.request(f"request-{number:030d}")
        row = database.request("z", at_ms=1)
        for number in range(3000):
            database.node(row, f"n{number}")
    process = subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.read(10)
    process.stdout.close()
    complaint = process.stderr.read().decode()
    process.stderr.close()
    process.wait(30)
    assert complaint == ""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize(
    "arguments", [["traces"], ["show"], ["traces", "--json"], ["show", "--json"], ["show", "--io"]]
)
def test_an_output_of_any_encoding_takes_every_text(
    database: TraceDatabase, encoding: str, arguments: list[str]
) -> None:
    row = database.request("日本", tags=["é", "😀"])
    database.node(row, "ノード", payload={"output_data": "emoji 😀 é"}, error="Fehler: ü", status="error")
    done = subprocess.run(
        [*COMMAND, *arguments],
        env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
        capture_output=True,
        check=True,
    )
    text = done.stdout.decode(encoding)
    if "--json" in arguments:
        import json

        parsed = json.loads(text)
        assert (parsed[0] if isinstance(parsed, list) else parsed)["tags"] == ["é", "😀"]
