"""What is installed is all of the package. With `--installed`, as in CI, that is the built wheel."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

import hush_core

CHECKOUT = Path(__file__).parents[2]
INSTALLED = Path(hush_core.__file__).parent


def files_below(folder: Path) -> set[str]:
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
    }


def test_every_file_of_the_package_is_installed_and_nothing_else() -> None:
    documents = {name for name in files_below(INSTALLED) if name.startswith("demo/documents/")}
    assert files_below(INSTALLED) - documents == files_below(CHECKOUT / "hush_core")


def test_the_wheel_holds_the_documents_that_the_demo_reads(distribution: metadata.Distribution) -> None:
    wanted = {path.name for path in CHECKOUT.glob("*.md")} | {f"docs/{name}" for name in files_below(CHECKOUT / "docs")}
    assert files_below(INSTALLED / "demo" / "documents") == wanted


def test_the_schema_and_the_mark_for_type_checkers_are_installed() -> None:
    assert (INSTALLED / "py.typed").is_file()
    assert sorted((INSTALLED / "store" / "migrations").glob("[0-9][0-9][0-9][0-9]_*.sql"))


@pytest.fixture
def distribution(request: pytest.FixtureRequest) -> metadata.Distribution:
    if not request.config.getoption("--installed"):
        pytest.skip("needs the built wheel: run it with `python3 dev.py tests`")
    return metadata.distribution("hush-core")


def test_the_distribution_has_the_version_and_license_of_the_package(distribution: metadata.Distribution) -> None:
    assert distribution.version == hush_core.__version__
    assert any(path.name == "LICENSE" for path in distribution.files or ())


def test_the_distribution_brings_the_hush_command(distribution: metadata.Distribution) -> None:
    assert {entry.name: entry.value for entry in distribution.entry_points} == {"hush": "hush_core.cli:main"}


def test_the_distribution_holds_no_top_level_name_but_the_package(distribution: metadata.Distribution) -> None:
    own = {path.parts[0] for path in distribution.files or () if ".." not in path.parts}
    assert own == {"hush_core", f"hush_core-{hush_core.__version__}.dist-info"}
