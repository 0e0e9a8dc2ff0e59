"""The search for the tests' secret finds it where hush could put it, and nowhere else."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from canary import CANARY, files_that_tell, is_told


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that the search after this very test leaves out."""
    made = tmp_path / "kept"
    (made / "traces.db.journal" / "secrets").mkdir(parents=True)
    (made / "traces.db").touch()
    return made


@pytest.mark.parametrize("name", ["traces.db", "traces.db-wal", "traces.db.journal/writer.log", "app.out"])
@pytest.mark.parametrize("before", ["", "p", "pk", "pk-"])
def test_a_file_that_holds_it_is_found_also_in_base64(name: str, before: str, folder: Path) -> None:
    for content in (before + CANARY, base64.b64encode(f"{before}{CANARY}:x".encode()).decode()):
        (folder / name).write_text(f"Basic {content} ")
        assert files_that_tell(folder) == [str(folder / name)]
        assert is_told(content)


@pytest.mark.parametrize("name", ["hush.toml", "app.py", "traces.db.journal/secrets/0123"])
def test_where_it_belongs_it_may_be(name: str, folder: Path) -> None:
    (folder / name).write_text(CANARY)
    assert files_that_tell(folder) == []
    assert not is_told("sk-canary")


def test_it_is_searched_for_only_where_hush_has_recorded(folder: Path) -> None:
    (folder / "traces.db").unlink()
    (folder / "dump").write_text(CANARY)
    assert files_that_tell(folder) == []
