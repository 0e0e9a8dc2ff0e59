"""One secret that tests use: after each test, the root conftest looks for it in all that the test has left behind."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

#: Written out in no file but this one and the plugins' conftest files, so whoever finds it elsewhere has found a leak.
CANARY: Final = "sk-canary-5f0c8e21b7d94a36c1e8f072"

#: As it is, and as a part of base64, whatever stands before it there.
_FORMS: Final = [CANARY.encode()] + [
    base64.b64encode(bytes(before) + CANARY.encode())[-(-before * 4 // 3) : (before + len(CANARY)) * 4 // 3]
    for before in range(3)
]
_READ_MAX: Final = 20_000_000
_SAMPLE_BYTES: Final = 1_000_000
#: What tests write themselves: settings and code.
_OF_TESTS: Final = (".toml", ".py", ".pyc")
#: Where secrets belong: literal ones as hush keeps them, and what the odd tracers were given (`odd_tracers.keep`).
_MAY_HOLD: Final = frozenset({"secrets", "kept"})


def is_told(text: str) -> bool:
    """Whether a text gives it away."""
    return any(form in text.encode(errors="replace") for form in _FORMS)


def files_that_tell(folder: Path) -> list[str]:
    """The files that give it away, in a folder in which hush has recorded; none in any other."""
    files = list(_files(str(folder)))
    if not any(path.endswith((".db", ".segment")) for path in files):
        return []
    return [path for path in files if not path.endswith(_OF_TESTS) and _tells(path)]


def _files(folder: str) -> Iterator[str]:
    try:
        entries = list(os.scandir(folder))
    except OSError:  # it may not be read, or is gone: processes are ending
        return
    for entry in entries:
        if entry.name in _MAY_HOLD:
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _files(entry.path)
        elif entry.is_file(follow_symlinks=False):
            yield entry.path


def _tells(path: str) -> bool:
    """Of a very large file only the ends are looked at."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size <= _READ_MAX:
                content = file.read()
            else:
                content = file.read(_SAMPLE_BYTES)
                file.seek(size - _SAMPLE_BYTES)
                content += file.read(_SAMPLE_BYTES)
    except OSError:
        return False
    return any(form in content for form in _FORMS)
