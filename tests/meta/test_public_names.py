"""A public name is a deliberate act: exported, typed, documented and tested."""

from __future__ import annotations

import ast
import inspect
import re
from functools import cache
from itertools import chain
from pathlib import Path

import pytest

import hush_core

CHECKOUT = Path(__file__).parents[2]
NAMES = [name for name in hush_core.__all__ if name != "__version__"]
DOCUMENTS = [CHECKOUT / "README.md", CHECKOUT / "ARCHITECTURE.md", *(CHECKOUT / "docs").rglob("*.md")]


def imported_for_typing() -> dict[str, str]:
    """The names that type checkers see, by the module that they come from."""
    tree = ast.parse(Path(hush_core.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_is_what_type_checkers_see(name: str) -> None:
    assert getattr(hush_core, name).__module__ == imported_for_typing()[name]


def test_the_public_names_are_those_of_the_typing_imports_and_no_more() -> None:
    assert sorted(NAMES) == sorted(imported_for_typing())
    assert set(hush_core.__all__) <= set(dir(hush_core))


def test_every_error_is_public() -> None:
    from hush_core import errors

    raised = [name for name, value in vars(errors).items() if inspect.isclass(value)]
    assert set(raised) <= set(NAMES)
    assert all(issubclass(getattr(errors, name), hush_core.HushError) for name in raised)


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'hush_core' has no attribute 'get_tracr'"):
        hush_core.get_tracr  # noqa: B018


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_has_a_docstring(name: str) -> None:
    assert inspect.getdoc(getattr(hush_core, name))


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_is_in_the_documents(name: str) -> None:
    assert any(re.search(rf"`@?{name}\b", page.read_text()) for page in DOCUMENTS if page.exists())


@cache
def used_in_tests() -> set[str]:
    """What tests import from hush_core or take from it as an attribute; a mention in a text is no use."""
    used = set()
    others = [path for path in (CHECKOUT / "tests").rglob("*.py") if path != Path(__file__)]
    for node in chain.from_iterable(ast.walk(ast.parse(path.read_text())) for path in others):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "hush_core":
            used.update(alias.name for alias in node.names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "hush_core":
            used.add(node.attr)
    return used


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_is_used_in_a_test(name: str) -> None:
    assert name in used_in_tests()
