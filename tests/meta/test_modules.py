"""The shape of the code: the folder listing reads as the flow, and one module reads the settings."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
PACKAGE = CHECKOUT / "hush_core"
MODULES = sorted(PACKAGE.rglob("*.py"))
STAGES = {"capture": 1, "journal": 2, "background": 3, "store": 4, "delivery": 5, "tracers": 6}

each_module = pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))


def docstring(module: Path) -> str:
    return ast.get_docstring(ast.parse(module.read_text())) or ""


@each_module
def test_a_module_has_a_docstring(module: Path) -> None:
    assert docstring(module)


@each_module
def test_a_module_has_at_most_500_lines(module: Path) -> None:
    assert len(module.read_text().splitlines()) <= 500


@pytest.mark.parametrize(
    "package", [path for path in MODULES if path.parent.name in STAGES and path.stem == "__init__"]
)
def test_a_stage_says_which_of_the_six_it_is(package: Path) -> None:
    assert docstring(package).startswith(f"Stage {STAGES[package.parent.name]} of 6")


@each_module
def test_only_config_reads_settings_from_the_environment(module: Path) -> None:
    reads = re.findall(r"(?:environ(?:\.get\(|\[)|getenv\()\s*f?[\"']HUSH_\w*", module.read_text())
    assert not reads or module.name == "config.py"


@each_module
def test_a_module_says_what_its_names_are_for(module: Path) -> None:
    assert not re.search(r"(^|_)(utils?|helpers?|common|manager|misc)(_|$)", module.stem)


def test_a_test_file_needs_no_package() -> None:
    assert not list((CHECKOUT / "tests").rglob("__init__.py"))
