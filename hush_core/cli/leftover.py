"""What processes recorded and no writer has stored yet: a command that reads has it stored first."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from hush_core.errors import HushError, JournalError
from hush_core.journal.format import (
    FRAME_MAGIC_BYTES,
    HEADER_BYTES,
    STORED_AT,
    journal_directory,
    parse_segment_name,
    unpack_header,
)

_WAIT_S: Final = 1.0


def store_leftovers(db_path: Path) -> str | None:
    """Have a writer store what the journals hold; starts one if none runs. Only looks if they hold nothing.

    Returns None, or why some of it could not be stored within about a second; reading goes on with what there is.
    """

    if not holds_more_than_stored(journal_directory(Path(os.path.realpath(db_path)))):
        return None
    from hush_core.background.supervisor import control

    try:
        answer = control(db_path, {"verb": "drain", "timeout_s": _WAIT_S * 0.8}, timeout=_WAIT_S)
    except (HushError, OSError) as problem:
        return str(problem)
    return None if answer.get("drained") else str(answer.get("problem"))


def holds_more_than_stored(directory: Path) -> bool:
    """Whether a journal in the folder has a record behind what its writer has stored."""
    try:
        names = os.listdir(directory)
    except OSError:
        return False
    return any(parse_segment_name(name) is not None and _has_more(directory / name) for name in names)


def _has_more(path: Path) -> bool:
    try:
        with open(path, "rb") as segment:
            page = segment.read(HEADER_BYTES)
            unpack_header(page)
            stored = int.from_bytes(page[STORED_AT : STORED_AT + 8], "little")
            segment.seek(max(stored, HEADER_BYTES))
            return segment.read(len(FRAME_MAGIC_BYTES)) == FRAME_MAGIC_BYTES
    except (OSError, JournalError):  # given up this instant, or damaged: the writer and `hush doctor` see to it
        return False
