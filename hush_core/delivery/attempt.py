"""Attempts: what is due is read, given to the tracer, and what came of it is told to the writer.

One request is in memory at a time; for a tracer that takes several at once (`flush_batch`), a chunk that is bounded by
count and by size. The writer knows what is under way before anything of it is read, so that what takes the process down
is to blame, and nothing else; and it knows what was delivered before a plugin or the tracer is called again.
"""

from __future__ import annotations

import os
import sqlite3
import traceback
from collections import deque
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from hush_core.delivery.channel import Channel
from hush_core.delivery.flush_data import FlushData, Tracer, build, load, payload_size
from hush_core.delivery.outcome import of_error, of_return
from hush_core.delivery.output import Output
from hush_core.delivery.protocol import Job, Outcome
from hush_core.delivery.schedule import BREAKER_AFTER
from hush_core.errors import FlushError, PermanentFlushError
from hush_core.store.queries.reader import open_reader

#: The most requests, and about how many bytes of payload, of one call of `flush_batch`.
_CHUNK: Final = 100
_CHUNK_BYTES_MAX: Final = 8_000_000
_FRAMES_MAX: Final = 40


class Hooks(Protocol):
    """What plugins do about deliveries: `hush_core.plugins.host.PluginHost`."""

    def before_flush(self, tracer_name: str, flush_data: Any, /) -> Any: ...
    def after_flush(self, tracer_name: str, request_id: str, outcome: str, /) -> None: ...


class _Chunk(NamedTuple):
    """What goes into one call."""

    jobs: list[Job]
    request_ids: list[str]
    data: list[FlushData]
    rest: list[Job]  #: what did not fit


class Attempts:
    """Attempts deliveries to one tracer, by its class. Used by one thread.

    :param is_full: whether the process has grown so large that it should end; asked after each call.
    """

    def __init__(
        self,
        tracer: Tracer,
        kind: Any,
        hooks: Hooks,
        *,
        db_path: Path,
        channel: Channel,
        output: Output,
        is_full: Callable[[], bool],
    ) -> None:
        self._tracer = tracer
        self._hooks = hooks
        self._db_path = db_path
        self._channel = channel
        self._output = output
        self._is_full = is_full
        self._flush_batch: Callable[[list[FlushData]], object] | None = getattr(kind, "flush_batch", None)
        self._flush: Callable[[FlushData], object] = kind.flush
        self._reader: sqlite3.Connection | None = None
        self._failures = 0

    def work(self, jobs: list[Job]) -> bool:
        """Attempt each. When this returns, the writer has an outcome for all of them.

        False when the process has grown too large: then the rest were not tried, and it should end.
        """
        at_once = 1 if self._flush_batch is None else _CHUNK
        waiting = deque(jobs[at : at + at_once] for at in range(0, len(jobs), at_once))
        self._failures = 0
        is_full = False
        try:
            while waiting and self._failures < BREAKER_AFTER and not is_full:  # after so many, the backend is down
                chunk = self._load(waiting.popleft())
                if chunk.rest:
                    waiting.appendleft(chunk.rest)
                if chunk.jobs:
                    waiting.extendleft(self._attempt(chunk))
                    del chunk  # before the next one is read
                    is_full = self._is_full()
        finally:
            if self._reader is not None:
                self._reader.close()  # an idle process holds no file of the database
                self._reader = None
        self._channel.settle([Outcome(job.id, "untried") for left in waiting for job in left])
        self._channel.push()
        return not is_full

    # -- before -------------------------------------------------------------------------------------------------------

    def _load(self, jobs: list[Job]) -> _Chunk:
        """Read requests, as far as they go into one call. Those that are not to be sent are settled."""
        chunk = _Chunk([], [], [], [])
        size = 0
        self._output.begin()
        self._channel.begin([job.id for job in jobs])  # now: a plugin, or a request of gigabytes, may be the end of it
        for at, job in enumerate(jobs):
            try:
                if self._reader is None:
                    self._reader = open_reader(self._db_path)
                more = payload_size(self._reader, job.request)
                if chunk.jobs and size + more > _CHUNK_BYTES_MAX:
                    return chunk._replace(rest=jobs[at:])
                found = load(self._reader, job.request)
            except Exception as error:
                self._fail([job], error, "reading the request")
                continue
            size += more
            if found is None:
                self._settle([Outcome(job.id, "permanent", "the request is no longer stored")])
                continue
            request, nodes = found
            tracer = self._tracer._replace(config=deepcopy(self._tracer.config))  # what is done to it is done to this
            data = self._prepare(job, request.request_id, build(request, nodes, tracer, job.attempt))
            if data is not None:
                chunk.jobs.append(job)
                chunk.request_ids.append(request.request_id)
                chunk.data.append(data)
        return chunk

    def _prepare(self, job: Job, request_id: str, data: FlushData) -> FlushData | None:
        """What the plugins make of it; None when one has dropped it, or failed: then it is settled."""
        try:
            prepared: FlushData | None = self._hooks.before_flush(self._tracer.name, data)
        except BaseException as error:
            self._leave_if_forked()
            self._tell_plugins([request_id], self._fail([job], error, "hush_before_flush"))
            return None
        if prepared is None:
            dropped = Outcome(job.id, "skipped", "a plugin's hush_before_flush dropped it")
            self._settle([dropped])
            self._tell_plugins([request_id], [dropped])
        return prepared

    # -- the call -----------------------------------------------------------------------------------------------------

    def _attempt(self, chunk: _Chunk) -> list[list[Job]]:
        """Call the tracer. Gives what is to be attempted next: the halves of a refused batch, the second first.

        A refused batch holds one request that is refused, or more: it is halved until each stands alone. They are read
        anew, since the tracer may have changed what it got.
        """
        jobs = chunk.jobs
        try:
            returned = self._flush(chunk.data[0]) if self._flush_batch is None else self._flush_batch(chunk.data)
        except BaseException as error:  # also SystemExit: it ends an attempt, and not the process
            self._leave_if_forked()
            if isinstance(error, PermanentFlushError) and len(jobs) > 1:
                middle = len(jobs) // 2
                return [jobs[middle:], jobs[:middle]]
            outcomes = self._fail(jobs, error, "flush")
        else:
            self._leave_if_forked()
            outcomes = [of_return(job.id, returned, self._output.redaction) for job in jobs]
            self._settle(outcomes)
        self._tell_plugins(chunk.request_ids, outcomes)
        return []

    def _leave_if_forked(self) -> None:
        """The tracer has forked, and this is the child: whatever it was to do, it does nothing of its parent's."""
        if self._channel.is_in_child:
            os._exit(0)

    # -- after --------------------------------------------------------------------------------------------------------

    def _fail(self, jobs: list[Job], error: BaseException, doing: str) -> list[Outcome]:
        """They came to the same error, in one `Settled`: one failure of the backend."""
        outcomes = [of_error(job.id, error, self._output.redaction) for job in jobs]
        self._settle(outcomes)
        which = ", ".join(f"{job.id} (attempt {job.attempt})" for job in jobs[:3])
        more = f" and {len(jobs) - 3} more" if len(jobs) > 3 else ""
        said = f"{doing} of delivery {which}{more}: {outcomes[0].kind}: {outcomes[0].error}"
        if not isinstance(error, FlushError):  # nobody meant it: where it came from may be all there is to go by
            frames = traceback.format_exception(type(error), error, error.__traceback__, limit=-_FRAMES_MAX)
            said = f"{said}\n{''.join(frames)}"
        self._output.note(said)
        return outcomes

    def _settle(self, outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            if outcome.kind in ("retry", "configuration"):
                self._failures += 1
            elif outcome.kind in ("delivered", "permanent"):  # the backend has answered
                self._failures = 0
        self._channel.settle(outcomes)

    def _tell_plugins(self, request_ids: list[str], outcomes: list[Outcome]) -> None:
        # First the writer: a plugin that hangs here, or crashes, must not have a request delivered again for it.
        self._channel.push()
        for request_id, outcome in zip(request_ids, outcomes, strict=True):
            try:
                self._hooks.after_flush(self._tracer.name, request_id, outcome.kind)
            except BaseException as error:
                self._leave_if_forked()
                self._output.note(f"hush_after_flush: {error!r}")
