"""What the writer answers when an app or a command asks: its state, a drain, a pruning, and all about deliveries."""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import msgspec

from hush_core import __version__
from hush_core.delivery.environment import OF_A_COMMAND
from hush_core.errors import HushError, StoreError
from hush_core.store.ledger import TracerKey
from hush_core.store.queries import RequestFilter
from hush_core.store.queries.requests import oldest_settled
from hush_core.store.retention import Retention
from hush_core.store.rows import to_faithful_json

if TYPE_CHECKING:
    from hush_core.background.source import Source
    from hush_core.background.writer import Writer

_LOOK_AGAIN_S: Final = 0.004
#: Requests in one page of a replay: each page is one answer, between which the writer does its other work.
_PAGE_MAX: Final = 1000

_Request = dict[str, Any]


class Answers:
    """The verbs of the writer's doorbell: each takes the request, a JSON object, and gives a JSON object."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._started_at = time.monotonic()
        self._verbs = {
            "status": self.status,
            "drain": self.drain,
            "prune": self.prune,
            "environment": self.environment,
            "tried": self.tried,
            "flush": self.flush,
            "redrive": self.redrive,
            "replay": self.replay,
        }

    def answer(self, request: _Request) -> _Request:
        """Answer a request by its `verb`. An error is an answer too: {"error": why}."""
        verb = self._verbs.get(str(request.get("verb")))
        if verb is None:
            return {"error": f"unknown verb {request.get('verb')!r}; known: {', '.join(sorted(self._verbs))}"}
        try:
            return verb(request)
        except HushError as problem:
            return {"error": str(problem)}
        except Exception as problem:  # whatever somebody asks, the writer goes on
            return {"error": f"{type(problem).__name__}: {problem}"}

    def hear(self, request: _Request) -> None:
        """The same for a writer that is about to end, and answers nobody: it takes what was handed in."""
        if request.get("verb") == "environment":
            self.answer(request)

    def status(self, _: _Request) -> _Request:
        """Who the writer is, and what is in its way."""
        return {
            "pid": os.getpid(),
            "version": __version__,
            "python": sys.version.split()[0],
            "sqlite": sqlite3.sqlite_version,
            "uptime_s": round(time.monotonic() - self._started_at, 3),
            "journals": [source.name for source in self._writer.sources],
            "problem": self._writer.problems.present,
            "sync_faults": self._writer.syncer.faults,
            "delivery": self._writer.delivery.status(),
        }

    def drain(self, request: _Request) -> _Request:
        """Store everything that is in the journals now, within `timeout_s` (5), and not what comes meanwhile."""
        deadline = time.monotonic() + float(request.get("timeout_s", 5.0))
        writer = self._writer
        writer.scan()
        until = {source.name: source.written() for source in writer.sources}
        while time.monotonic() < deadline:
            stored = writer.drain_once()
            if writer.problems.present is not None:
                time.sleep(_LOOK_AGAIN_S)
            elif not stored or all(_is_stored(source, until.get(source.name)) for source in writer.sources):
                return {"drained": True, "journals": len(writer.sources)}
        return {
            "drained": False,
            "problem": writer.problems.present or "there is more than could be stored in this time",
        }

    def prune(self, request: _Request) -> _Request:
        """Prune to `keep_s` and `max_size_bytes`, either may be null; with `dry_run` only say what would go."""
        keep_s, max_bytes = request.get("keep_s"), request.get("max_size_bytes")
        rules = Retention(
            keep_s=None if keep_s is None else float(keep_s),
            max_size_bytes=None if max_bytes is None else int(max_bytes),
        )
        dry_run = bool(request.get("dry_run"))
        return rules.prune(self._writer.store, dry_run=dry_run, between=self._writer.drain_once)._asdict()

    # -- deliveries ---------------------------------------------------------------------------------------------------

    def environment(self, request: _Request) -> _Request:
        """An app hands its environment `variables` over, for the requests of its `journal`."""
        writer = self._writer
        writer.scan()
        since_ns = request.get("since_ns")
        since_ns = since_ns if isinstance(since_ns, int) else time.monotonic_ns()
        writer.take_environment(str(request.get("journal")), since_ns, _texts(request.get("variables")))
        writer.drain_once()  # the journal's first record says of which origin it is
        writer.file_environments()
        if _version(request.get("hush")) > _version(__version__):
            writer.end_soon()  # a newer hush is about: the next ring starts its writer
        return {"taken": True}

    def tried(self, _: _Request) -> _Request:
        """Whether everything that is due has been tried. What waits for its next attempt has been."""
        writer = self._writer
        writer.scan()
        stored_all = not writer.drain_once()
        writer.deliver()
        return {"tried": stored_all and writer.delivery.tried(), "pending": writer.store.ledger.count_open()}

    def flush(self, request: _Request) -> _Request:
        """Make what waits due now, for the `tracer` of a name or all; `variables` may bring what was missing.

        `present` has tracers as they are configured now, each [name, type, config, target]: what waits for an older
        configuration of the same name, of apps with the same settings file `config`, is delivered by them.
        """
        writer = self._writer
        self.drain({"timeout_s": 1.0})
        for tracer in request.get("present") or ():
            writer.store.ledger.adopt(_key(*tracer), request.get("config"))
        if request.get("variables") is not None:
            writer.delivery.environments.hand_over(OF_A_COMMAND, _texts(request["variables"]))
        due, tracers = writer.store.ledger.flush_now(request.get("tracer"), time.time_ns())
        writer.delivery.wake(tracers)
        return {"due": due}

    def redrive(self, request: _Request) -> _Request:
        """Make dead letters due again: of a `tracer` by its name or of all, of one `request_id` or of all."""
        ledger = self._writer.store.ledger
        return {"redriven": ledger.redrive(request.get("tracer"), request.get("request_id"), time.time_ns())}

    def replay(self, request: _Request) -> _Request:
        """Make a page of stored requests due to a `tracer` [name, type, config, target], for apps of an `origin`.

        `where` has the fields of a `RequestFilter`; `cursor` is what the page before gave, null for the first.
        """
        key = _key(*request["tracer"])
        wanted = msgspec.convert(request.get("where") or {}, RequestFilter)
        store = self._writer.store
        if request.get("cursor") is None:
            self.drain({"timeout_s": 1.0})
        limit = min(int(request.get("limit", _PAGE_MAX)), _PAGE_MAX)
        page = oldest_settled(store.connection, wanted, limit=limit, after=request.get("cursor"))
        if not page:
            return {"queued": 0, "seen": 0, "cursor": None}
        ids = [row for row, _ in page]
        config = (request.get("origin") or {}).get("config")
        chosen = store.ledger.to_send(key, config, ids, again=bool(request.get("again")))
        if chosen and not request.get("dry_run"):
            lane = store.lane(key, request.get("origin"))
            if request.get("variables") is not None:
                self._writer.delivery.environments.hand_over(lane.origin, _texts(request["variables"]))
            store.ledger.send_again(lane, chosen, time.time_ns())
        last, recorded_ns = page[-1]
        return {"queued": len(chosen), "seen": len(page), "cursor": [recorded_ns, last]}


def _is_stored(source: Source, until: tuple[int, int] | None) -> bool:
    """Whether a journal that was there when it was asked is stored up to a position; and ended, if its owner has."""
    return until is None or (not source.gone and (source.state.segment, source.state.offset) >= until)


def _key(name: object, kind: object, config: object, target: object) -> TracerKey:
    if not all(isinstance(text, str) for text in (name, kind, target)) or not isinstance(config, dict):
        raise StoreError('a tracer is ["name", "type", {config}, "module:Class"]')
    return TracerKey(str(name), str(kind), str(target), to_faithful_json(config) or "{}")


def _texts(variables: object) -> dict[str, str]:
    if not isinstance(variables, dict):
        raise StoreError("variables are an object of texts")
    return {str(name): str(value) for name, value in variables.items()}


def _version(text: object) -> tuple[int, ...]:
    """The numbers of a version, for comparing: 0.10.2 is later than 0.9."""
    return tuple(int(part) for part in str(text).split(".") if part.isdigit())
