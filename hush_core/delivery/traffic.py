"""One lane at work: its delivery process, what that has to do, and what it has said that is not in the ledger yet."""

from __future__ import annotations

from typing import Final, Protocol

from hush_core.delivery.protocol import (
    Begun,
    Job,
    Outcome,
    OutcomeKind,
    Ready,
    Settled,
    Setup,
    ToWriter,
    Unusable,
    Work,
)
from hush_core.store.ledger import Claim, Lane

#: How long a process may take to begin, seconds.
_BEGINS_S: Final = 60.0
#: How long one that hangs has to log where, seconds.
_LAST_WORDS_S: Final = 0.2
_SEE_LOG: Final = "is hush-core installed there? The log beside the database (delivery-*.log) may say more"


class Process(Protocol):
    """What the dispatcher needs of a delivery process: `hush_core.delivery.process.DeliveryProcess` has it."""

    @property
    def pid(self) -> int: ...
    @property
    def fd(self) -> int: ...
    def send(self, message: Setup | Work) -> None: ...
    def receive(self) -> list[ToWriter]: ...
    def has_ended(self) -> bool: ...
    def log_where_it_is(self) -> None: ...
    def end(self) -> str: ...
    def let_go(self) -> None: ...
    def is_gone(self) -> bool: ...


class Watch(Protocol):
    """Who wakes the loop when a process says something: the doorbell."""

    def watch(self, fd: int) -> None: ...
    def unwatch(self, fd: int) -> None: ...


class Traffic:
    """A lane while it has a process or something to deliver. Nothing here waits.

    :param hold_ns: no attempt before: its app is about to hand its environment over.
    :param watch: who is to wake the writer's loop when the process says something.
    :param timeout_s: how long one attempt may take; None: for ever.
    :param leaving: where processes go that are not wanted any more, until they are reaped.
    """

    def __init__(
        self, lane: Lane, hold_ns: int, watch: Watch, timeout_s: float | None, leaving: list[tuple[Process, float]]
    ) -> None:
        self.lane = lane
        self.hold_ns = hold_ns
        self.due_ns: int | None = 0  #: when to look for due deliveries next; None: none is pending
        self.process: Process | None = None
        self.unusable: str | None = None  #: why its process could not even call the tracer: this lane waits, no other
        self.is_outdated = False  #: the process was started with another environment than its app's
        self.claims: dict[int, Claim] = {}  #: what the process has to do
        #: What attempts came to, and of which call of the tracer it was; None: the tracer was not called.
        self.outcomes: list[tuple[Claim, Outcome, int | None]] = []
        self.started_at = self.quiet_since = 0.0  #: monotonic; the second: when it last said, or was given, something
        self._watch = watch
        self._timeout_s = timeout_s
        self._leaving = leaving
        self._is_ready = False
        self._is_asked = False  # where it hangs
        self._begun: dict[int, int] = {}  # delivery -> the call of its tracer that it is part of
        self._calls = 0
        self._now = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether the process has nothing to do, and nothing is to be written of what it did."""
        return not self.claims and not self.outcomes

    # -- the conversation ---------------------------------------------------------------------------------------------

    def take_over(self, process: Process) -> None:
        """A process has been started for it."""
        self.process = process
        self.started_at = self.quiet_since
        self._is_ready = self._is_asked = self.is_outdated = False
        self._watch.watch(process.fd)

    def give(self, claims: list[Claim]) -> None:
        """Have the process attempt these, which are among `claims`."""
        if self.process is not None:
            self.process.send(Work([Job(claim.id, claim.request, claim.attempt) for claim in claims]))

    def listen(self, now: float) -> None:
        """Take what the process has said. One that is gone, or silent for too long, gives back what it had.

        :param now: time.monotonic()
        """
        self._now = now
        process = self.process
        if process is None:
            return
        self._take(process.receive())
        if process.has_ended():
            self._take(process.receive())  # its last words may have come between the two calls
            self._on_end()
        elif self.claims and now - self.quiet_since > self._patience_s():
            self._on_silence(now)

    def _take(self, messages: list[ToWriter]) -> None:
        for message in messages:
            self.quiet_since, self._is_asked = self._now, False
            if isinstance(message, Ready):
                self._is_ready = True
            elif isinstance(message, Begun):
                self._calls += 1
                self._begun = dict.fromkeys(message.ids, self._calls)  # what was before is settled, or not part of it
            elif isinstance(message, Settled):
                for outcome in message.outcomes:
                    self._note(outcome)
            elif isinstance(message, Unusable):
                self.give_back("configuration", message.error)

    def _patience_s(self) -> float:
        if not self._is_ready:
            return _BEGINS_S
        return self._timeout_s if self._timeout_s is not None else float("inf")

    def _note(self, outcome: Outcome) -> None:
        """An attempt is over. What is said of a delivery that this lane does not have changes nothing."""
        claim = self.claims.pop(outcome.id, None)
        call = self._begun.pop(outcome.id, None)
        if claim is not None:
            self.outcomes.append((claim, outcome, call))

    def give_back(self, kind: OutcomeKind, error: str) -> None:
        """None of what the process has will be attempted any more. ``kind`` is what becomes of those that it had begun,
        or of one if it had not begun any.
        """
        blamed = set(self._begun or list(self.claims)[:1])
        for id in list(self.claims):
            self._note(Outcome(id, kind, error) if id in blamed else Outcome(id, "untried"))

    def _on_end(self) -> None:
        """The process is gone: crashed, killed, ended by its tracer, or because it had grown too large."""
        was_ready = self._is_ready
        how = self.end()
        if not self.claims:
            return
        if self._begun:
            self.give_back("retry", f"its delivery process {how} while the tracer was at work")
        elif was_ready and how == "ended with status 0":  # it had grown too large, and makes room for another
            for id in list(self.claims):
                self._note(Outcome(id, "untried"))
        elif was_ready or "signal" in how:
            self.give_back("retry", f"its delivery process {how} before the tracer was called")
        else:
            self.give_back("configuration", f"its delivery process {how} before it could begin; {_SEE_LOG}")

    def _on_silence(self, now: float) -> None:
        """It hangs, or its backend does: have it log where, and a moment later end it."""
        assert self.process is not None
        patience_s = self._patience_s()
        if self._is_ready and now - self.quiet_since < patience_s + _LAST_WORDS_S:
            if not self._is_asked:
                self._is_asked = True
                self.process.log_where_it_is()
            return
        self.end()
        self.give_back("retry", f"no answer within {patience_s:g} s; its delivery process was ended")

    # -- the end of a process -----------------------------------------------------------------------------------------

    def replace(self) -> None:
        """What the process was started with may have changed: have the next attempt start another."""
        if self.process is not None and not self.claims:
            self.let_go()

    def let_go(self) -> None:
        """The process has nothing to do: it may end by itself."""
        assert self.process is not None
        self._watch.unwatch(self.process.fd)
        self.process.let_go()
        self._leaving.append((self.process, self._now))
        self.process, self._is_ready = None, False

    def end(self) -> str:
        """End the process, whatever it does. Gives how it had ended, in words."""
        process = self.process
        if process is None:
            return ""
        self._watch.unwatch(process.fd)
        how = process.end()
        if not process.is_gone():
            self._leaving.append((process, self._now))
        self.process, self._is_ready = None, False
        return how
