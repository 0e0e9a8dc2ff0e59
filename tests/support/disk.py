"""What is on the disk while a writer is at work there."""

from __future__ import annotations

import contextlib
from pathlib import Path


def files_below(folder: Path) -> dict[Path, bytes]:
    """All files below a folder, and what is in them now; but those that the writer deletes meanwhile."""
    found = {}
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            if path.is_file():
                found[path] = path.read_bytes()
    return found
