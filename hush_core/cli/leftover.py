"""What processes recorded and no writer has stored yet: a command that reads has it stored first."""

from __future__ import annotations

import contextlib
import os
import struct
import time
from pathlib import Path
from typing import Final

from hush_core.errors import HushError, JournalError
from hush_core.journal.format import (
    AWAKE_UNTIL_AT,
    FRAME_MAGIC_BYTES,
    HEADER_BYTES,
    STORED_AT,
    journal_directory,
    parse_segment_name,
    unpack_header,
)

#: How long the writer stores, and how long its answer is waited for.
_DRAIN_S: Final = 0.5
_WAIT_S: Final = 1.0


def store_leftovers(db_path: Path) -> str | None:
    """Have a writer store what the journals hold; starts one if none runs. Only looks if they hold nothing.

    Returns None, or what keeps some of it from being stored; reading goes on with what there is. A writer that is at
    work, and merely behind those that record, is no reason to wait for it longer, or to say anything.
    """
    directory = journal_directory(Path(os.path.realpath(db_path)))
    if not holds_more_than_stored(directory):
        return None
    from hush_core.background.supervisor import control

    try:
        if control(db_path, {"verb": "drain", "timeout_s": _DRAIN_S}, timeout=_WAIT_S).get("drained"):
            return None
        problem = control(db_path, {"verb": "status"}, timeout=_WAIT_S).get("problem")
    except (HushError, OSError) as trouble:
        return None if _is_awake(directory) else str(trouble)
    return None if problem is None else str(problem)


def _is_awake(directory: Path) -> bool:
    """Whether a writer has promised an owner to look again, and the time is not over: it is there, and busy."""
    now = time.monotonic()
    for name in os.listdir(directory):
        if parse_segment_name(name) is not None:
            with contextlib.suppress(OSError, struct.error), open(directory / name, "rb") as segment:
                if struct.unpack_from("<d", segment.read(HEADER_BYTES), AWAKE_UNTIL_AT)[0] > now:
                    return True
    return False


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
