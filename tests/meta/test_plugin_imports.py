"""A plugin stands on what hush_core says is public, and on nothing else of it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import hush_core

CHECKOUT = Path(__file__).parents[2]
SOURCES = [*CHECKOUT.glob("examples/*/src"), *CHECKOUT.glob("plugins/*/src")]


def of_hush(module: Path) -> Iterator[str]:
    """What a module imports of hush_core: "hush_core" itself, a name in it, or a module below it."""
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            names = [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [f"{node.module}.{each.name}" for each in node.names]
        else:
            continue
        yield from (name for name in names if name.partition(".")[0] == "hush_core")


def test_the_plugins_are_found() -> None:
    assert {"hush-jsonl", "hush-langfuse", "hush-otel"} <= {folder.parent.name for folder in SOURCES}


@pytest.mark.parametrize("folder", SOURCES, ids=lambda folder: folder.parent.name)
def test_a_plugin_imports_only_public_names(folder: Path) -> None:
    public = {"hush_core", *(f"hush_core.{name}" for name in hush_core.__all__)}
    modules = list(folder.rglob("*.py"))
    imported = {module: set(of_hush(module)) for module in modules}
    assert any(imported.values())
    assert {module.name: names - public for module, names in imported.items() if names - public} == {}
