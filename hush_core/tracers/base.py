"""What every tracer is made of: its side in the app, and `flush` for the delivery process."""

from __future__ import annotations

import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

import msgspec

from hush_core.capture.trace import Trace
from hush_core.errors import ConfigError
from hush_core.interrupt import is_interrupt
from hush_core.model import COMPLETED, FAILED
from hush_core.store.trace_store import get_store

if TYPE_CHECKING:
    from hush_core.store.trace_store import TraceStore

#: How often `shutdown_worker` asks whether everything due was tried, seconds: an answer costs the writer a query.
_ASK_AGAIN_S: Final = 0.02


class _Recorded(NamedTuple):
    """The last configuration that was recorded: sealing it each time would cost more than all the rest."""

    db_path: Path
    text: bytes  #: what it was made of
    sealed: dict[str, Any]
    files: list[str]  #: that hold its secrets
    until: float  #: time.monotonic(), when to seal again, which notes that the files are in use

    def is_kept(self) -> bool:
        """Whether nobody has deleted the files, and nobody will: `seal` notes that they are in use."""
        # Asked for each request: this is three times as fast as `os.stat`, and most have no file.
        return all(os.access(file, os.F_OK) for file in self.files) and time.monotonic() < self.until


class BaseTracer(ABC):
    """A destination for finished requests. A subclass says how it is configured and how it delivers one request.

    In the app a tracer only records: nothing here raises into a workflow, or waits for a network. `flush` runs in a
    process of its own, with data alone. Its class has to be one that this process can import: not in the script itself.

    A subclass may have a static `flush_batch(batch)`, for a backend that takes many requests at once.

    :param tags: of every request of this tracer.
    """

    #: Options that hold secrets though their names do not say so: like `api_key` and `token` they never reach a record.
    secret_options: ClassVar[Collection[str]] = ()

    _tags: list[str]
    _name: str | None = None
    _policy: dict[str, Any] | None = None
    _recorded: _Recorded | None = None

    def __init__(self, tags: list[str] | None = None) -> None:
        self._tags = list(tags or ())
        # Loaded now, and not with this module: a signal handler that traces while it is loaded would meet half of it.
        import_module("hush_core.secret")

    @property
    def tags(self) -> list[str]:
        """The tags of every request of this tracer; a copy."""
        return list(self._tags)

    @property
    def name(self) -> str:
        """What deliveries to this tracer are known by: its name in the settings, else its class's."""
        return self._name or type(self).__name__

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"  # and nothing of its configuration, which may be secret

    @abstractmethod
    def _get_tracer_config(self) -> dict[str, Any]:
        """What `flush` needs, as plain JSON. Secrets as references: `${LANGFUSE_SECRET_KEY}`."""

    @staticmethod
    @abstractmethod
    def flush(flush_data: Any) -> None:
        """Deliver one finished request. Returning means delivered; raising means not.

        Raise RetryableFlushError, PermanentFlushError or ConfigurationFlushError to say which; anything else counts as
        retryable.

        :param flush_data: a `FlushData`. A subclass may say so, or dict[str, Any]: to a type checker both are right.
        """

    def trace(
        self,
        workflow_name: str,
        *,
        inputs: Any = None,
        user_id: str | None = None,
        session_id: str | None = None,
        request_id: str | None = None,
        tags: Iterable[str] | None = None,
    ) -> Trace:
        """Trace one request: `with tracer.trace("answer") as state:`, or `async with`. Nodes that run inside are its.

        When the block is left, the request is due to this tracer, as failed if an exception left it.
        """
        store = _open_store()
        return Trace(
            workflow_name,
            store=store,
            tracers=[] if store is None else self._due(store.db_path),
            finish=lambda state: self.flush_in_background(workflow_name, state),
            inputs=inputs,
            user_id=user_id,
            session_id=session_id,
            request_id=request_id,
            tags=tags,
            static_tags=self._tags,
        )

    def flush_in_background(self, workflow_name: str, state: Any) -> None:
        """The request is complete, and due to this tracer. When this returns, that survives the death of the process.

        For any state with `request_id, user_id, session_id, tags, has_trace_store, _trace_store`. Without a trace
        store, the nodes that it keeps in `execution_order` and `trace_metadata` are recorded first. Never raises but an
        interrupt.
        """
        doing = f"completing a request of {workflow_name!r}"
        try:
            store = state._trace_store if state.has_trace_store else None
            if store is None:
                store = get_store()
                from hush_core.tracers.legacy import record_legacy_traces

                record_legacy_traces(store, workflow_name, state)
        except Exception as problem:
            if is_interrupt(problem):
                raise
            _report(problem, doing)
            return
        for tracer in self._tracers():
            try:
                tracer._complete(store, workflow_name, state)
            except Exception as problem:
                if is_interrupt(problem):
                    raise
                _report(problem, doing)

    def _complete(self, store: TraceStore, workflow_name: str, state: Any) -> None:
        """Record that a request is complete and due to this one tracer."""
        name, kind, config, target, policy = self._as_recorded(store.db_path)
        status = getattr(state, "status", None)
        store.mark_request_complete(
            request_id=state.request_id,
            tracer_type=kind,
            tracer_config=config,
            tags=self._merge_tags(state),
            tracer_name=name,
            workflow_name=workflow_name,
            user_id=state.user_id,
            session_id=state.session_id,
            status=status if status in (COMPLETED, FAILED) else None,
            error=getattr(state, "error", None),
            end_time=getattr(state, "end_time_ns", None),  # of an engine that says afterwards when something ended
            target=target,
            policy=policy,
        )

    # -- what records say of it ---------------------------------------------------------------------------------------

    def _tracers(self) -> Sequence[BaseTracer]:
        """Those that a request of this one is due to: each has a delivery of its own."""
        return [self]

    def _due(self, db_path: Path) -> list[list[Any]]:
        """To whom a request of this tracer is due, as records of that database have it. Never raises."""
        return [tracer._as_recorded(db_path) for tracer in self._tracers()]

    def _as_recorded(self, db_path: Path) -> list[Any]:
        """`[name, type, config, target, policy]`; no literal secret is in it."""
        return [self.name, type(self).__name__, self._config(db_path), self._target(), self._policy]

    def _config(self, db_path: Path) -> dict[str, Any]:
        """The tracer's own configuration, its secrets sealed; a tracer that cannot say it is still due."""
        try:
            text = msgspec.json.encode(self._get_tracer_config())
            config = msgspec.json.decode(text, type=dict[str, Any])
        except Exception as problem:
            if is_interrupt(problem):
                raise
            _report(self._without_secrets(problem), f"asking {type(self).__name__} for its configuration")
            return {}
        known = self._recorded
        if known is not None and (known.db_path, known.text) == (db_path, text) and known.is_kept():
            return known.sealed
        from hush_core import secret

        folder = secret.secrets_folder(db_path)
        try:
            sealed = secret.seal(config, folder, self.secret_options)
        except OSError as problem:
            if is_interrupt(problem):
                raise
            _report(problem, f"keeping the secrets of {self!r} (what is recorded meanwhile cannot be delivered)")
            return secret.withhold(config, self.secret_options)
        files = [str(folder / name) for name in secret.sealed_in(msgspec.json.encode(sealed).decode())]
        self._recorded = _Recorded(db_path, text, sealed, files, time.monotonic() + secret.NOTE_USE_S)
        return sealed

    def _without_secrets(self, problem: Exception) -> Exception:
        """A problem that may be told: what a tracer says of itself may quote its key."""
        kind = type(problem).__name__
        try:
            from hush_core import secret

            said = secret.redacted(str(problem), vars(self), self.secret_options)
            return problem if said == str(problem) else ConfigError(f"{kind}: {said}")
        except Exception as unreadable:  # it has no text, or the tracer holds what cannot be looked through
            if is_interrupt(unreadable):
                raise
            return ConfigError(f"{kind} (its text is not shown: a secret could be in it)")

    def _target(self) -> str:
        """Where the delivery process finds the class."""
        kind = type(self)
        if kind.__module__ == "__main__" or "<locals>" in kind.__qualname__:
            where = "the script that was started" if kind.__module__ == "__main__" else "a function"
            said = (
                f"the class {kind.__qualname__} is defined in {where}, where no other process can import it: its "
                "requests are kept, and cannot be delivered. Move the class to a module of its own"
            )
            _report(ConfigError(said), f"naming the class of {self!r} for its deliveries")
        return f"{kind.__module__}:{kind.__qualname__}"

    def _merge_tags(self, state: Any) -> list[str]:
        """The tracer's tags, then those of the request that are new, in order."""
        merged = list(self._tags)
        for tag in state.tags or ():
            if tag not in merged:
                merged.append(tag)
        return merged

    @classmethod
    def shutdown_worker(cls, timeout: float = 5.0) -> bool:
        """Wait until all that this process recorded is stored, and what is due to tracers was tried. True if in time.

        Tried is not delivered: a backend that is down is tried again later, whether this process is there or not.
        """
        deadline = time.monotonic() + timeout
        supervisor = sys.modules.get("hush_core.background.supervisor")
        if supervisor is None:
            return True
        delivering = [each.db_path for each in list(supervisor._backgrounds.values()) if each.delivers]
        return bool(supervisor.shutdown_background(timeout)) and all(_tried(path, deadline) for path in delivering)


def _open_store() -> TraceStore | None:
    """The default store; None if its path cannot be told. The workflow goes on without a trace."""
    try:
        store = get_store()
        store.background  # noqa: B018 - made here, where a problem can be reported
        return store
    except Exception as problem:
        if is_interrupt(problem):
            raise
        _report(problem, "opening the trace store")
        return None


def _tried(db_path: Path, deadline: float) -> bool:
    """Ask the writer until everything that is due has been tried, or the time is up."""
    from hush_core.background.supervisor import control
    from hush_core.errors import StoreError

    while (left := deadline - time.monotonic()) > 0:
        try:
            if control(db_path, {"verb": "tried"}, left).get("tried"):
                return True
        except StoreError:  # it does not answer in time, or is too old to know
            return False
        time.sleep(_ASK_AGAIN_S)
    return False


def _report(problem: BaseException, doing: str) -> None:
    """The funnel, also where there is no background to be had."""
    try:
        from hush_core.background.supervisor import get_background

        get_background().report(problem, doing)
    except Exception as unreported:
        if is_interrupt(unreported):
            raise
        import logging

        logging.getLogger("hush").error("hush: %s failed: %s. The workflow goes on.", doing, problem)
