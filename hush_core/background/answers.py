"""What the writer answers when a command asks: its state, a drain, a pruning."""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from hush_core.errors import HushError
from hush_core.store.retention import Retention

if TYPE_CHECKING:
    from hush_core.background.writer import Writer

_LOOK_AGAIN_S: Final = 0.004


class Answers:
    """The verbs of the writer's doorbell: each takes the request, a JSON object, and gives a JSON object."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._started_at = time.monotonic()
        self._verbs = {"status": self.status, "drain": self.drain, "prune": self.prune}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer a request by its `verb`. An error is an answer too: {"error": why}."""
        verb = self._verbs.get(str(request.get("verb")))
        if verb is None:
            return {"error": f"unknown verb {request.get('verb')!r}; known: {', '.join(sorted(self._verbs))}"}
        try:
            return verb(request)
        except (HushError, sqlite3.Error, OSError, TypeError, ValueError, OverflowError) as problem:
            return {"error": str(problem)}

    def status(self, _: dict[str, Any]) -> dict[str, Any]:
        """Who the writer is, and what is in its way."""
        from hush_core import __version__

        return {
            "pid": os.getpid(),
            "version": __version__,
            "python": sys.version.split()[0],
            "sqlite": sqlite3.sqlite_version,
            "uptime_s": round(time.monotonic() - self._started_at, 3),
            "journals": [source.name for source in self._writer.sources],
            "problem": self._writer.problems.present,
            "sync_faults": self._writer.syncer.faults,
        }

    def drain(self, request: dict[str, Any]) -> dict[str, Any]:
        """Store everything that is in the journals now, within `timeout_s` (5)."""
        deadline = time.monotonic() + float(request.get("timeout_s", 5.0))
        problems = self._writer.problems
        self._writer.scan()
        while time.monotonic() < deadline:
            if not self._writer.drain_once():
                if problems.present is None:
                    return {"drained": True, "journals": len(self._writer.sources)}
                time.sleep(_LOOK_AGAIN_S)
        return {"drained": False, "problem": problems.present or "there is more than could be stored in this time"}

    def prune(self, request: dict[str, Any]) -> dict[str, Any]:
        """Prune to `keep_s` and `max_size_bytes`, either may be null; with `dry_run` only say what would go."""
        keep_s, max_bytes = request.get("keep_s"), request.get("max_size_bytes")
        rules = Retention(
            keep_s=None if keep_s is None else float(keep_s),
            max_size_bytes=None if max_bytes is None else int(max_bytes),
        )
        return rules.prune(self._writer.store, dry_run=bool(request.get("dry_run")))._asdict()
