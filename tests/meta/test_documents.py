"""The documents are true: what they link to, name and show exists and works."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import click
import msgspec
import pytest

import hush_core.config
from hush_core.cli import main
from hush_core.config import Config, TracerSettings, load_config

CHECKOUT = Path(__file__).parents[2]
README = CHECKOUT / "README.md"
REFERENCE = CHECKOUT / "docs" / "reference.md"
DOCUMENTS = [path for place in ("*.md", "docs/**/*.md", "examples/**/*.md") for path in sorted(CHECKOUT.glob(place))]
#: The commands that the example plugin adds.
OF_EXAMPLE = {"jsonl"}

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(CHECKOUT)))


def blocks(document: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL)


@each_document
def test_a_link_leads_to_a_file(document: Path) -> None:
    targets = re.findall(r"\]\((?!https?://|#)([^)#]+)", document.read_text())
    assert [target for target in targets if not (document.parent / target).exists()] == []


@each_document
def test_a_session_that_a_document_names_exists(document: Path) -> None:
    sessions = re.findall(r"@nox\.session.*\ndef (\w+)", (CHECKOUT / "noxfile.py").read_text())
    named = re.findall(r"(?:dev\.py|nox -s) ([a-z]+)\b", document.read_text())
    assert set(named) <= {*sessions, "list"}


@each_document
def test_a_hush_command_that_a_document_names_exists(document: Path) -> None:
    in_prose = re.findall(r"`hush ([a-z]+)", document.read_text())
    in_blocks = re.findall(r"^hush ([a-z]+)", "".join(blocks(document, "sh")), re.MULTILINE)
    assert {*in_prose, *in_blocks} - OF_EXAMPLE <= set(main.list_commands(click.Context(main)))


@each_document
def test_settings_in_a_document_are_valid(document: Path, tmp_path: Path) -> None:
    for number, block in enumerate(blocks(document, "toml")):
        path = tmp_path / f"{number}.toml"
        path.write_text(block)
        load_config(path)


def documented_settings() -> dict[str, str]:
    """The settings in the reference, with the default that it says."""
    rows = re.findall(r"^\| `([a-zNAME_.]+)` \| (?:`(.+?)`)? *\|", REFERENCE.read_text(), re.MULTILINE)
    return {name: default for name, default in rows if not name.startswith("HUSH_")}


def real_settings() -> dict[str, str]:
    """The settings that there are, with the default as it is written in TOML."""
    config = msgspec.to_builtins(Config(), enc_hook=str)
    tracer = msgspec.to_builtins(TracerSettings(type=""), enc_hook=str)
    tables = {name: table for name, table in config.items() if isinstance(table, dict) and name != "tracers"}
    found = {f"{name}.{key}": value for name, table in tables.items() for key, value in table.items()}
    found |= {f"tracers.NAME.{key}": value for key, value in tracer.items() if key != "options"}
    found["default"] = config["default"]
    written = {name: msgspec.json.encode(value).decode() for name, value in found.items()}
    return {**written, "tracers.NAME.type": ""}


def test_the_reference_has_every_setting_with_its_default() -> None:
    assert documented_settings() == real_settings()


def test_the_reference_has_every_variable() -> None:
    documented = re.findall(r"^\| `(HUSH_\w+)`", REFERENCE.read_text(), re.MULTILINE)
    assert set(documented) == set(re.findall(r"HUSH_[A-Z_]+\b", inspect.getsource(hush_core.config)))


def test_the_readme_has_every_command() -> None:
    named = re.findall(r"^\| `hush (\w+)", README.read_text(), re.MULTILINE)
    assert named == main.list_commands(click.Context(main))


def test_the_readme_has_the_two_commands_each_on_one_line() -> None:
    commands = "".join(blocks(README, "sh")).splitlines()
    assert [line.partition("#")[0].strip() for line in commands[:2]] == ["python3 dev.py demo", "python3 dev.py tests"]


def test_the_quickstart_runs_as_printed_and_its_trace_is_stored() -> None:
    check = """
from hush_core import get_store
store = get_store()
assert store.sync(30), "not stored within 30 s"
[request] = store.iter_requests()
print(request.request_id, *request.tags)
"""
    quickstart = blocks(README, "python")[0]
    done = subprocess.run([sys.executable, "-c", quickstart + check], stdout=subprocess.PIPE, text=True, check=True)
    request_id, *tags = done.stdout.split()
    assert tags == ["quickstart", "short"]
    shown = subprocess.run(
        [sys.executable, "-c", "from hush_core.cli import main; main()", "show", request_id[:12]],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert "retrieve" in shown.stdout
