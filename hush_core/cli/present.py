"""Tracers as an app would have them here and now, as records hold them: what commands hand over to the writer."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any


def present_tracers(names: tuple[str, ...], db_path: Path) -> list[list[Any]]:
    """[name, type, config, target] of each tracer that sends requests somewhere; a name may stand for several.

    Raises ConfigError and its kind, as `get_tracer`.
    """
    from hush_core import get_tracer
    from hush_core.model import LOCAL_TARGET

    # A tracer of the app's own is found where the app is, in the working folder, as a rule; `hush` looks elsewhere by
    # itself. Last, so that nothing there hides a module that is installed.
    with suppress(OSError):  # the folder has been deleted
        if os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())
    found = [tracer[:4] for tracer in get_tracer(*names)._due(Path(os.path.realpath(db_path)))]
    return [tracer for tracer in found if tracer[3] != LOCAL_TARGET]
