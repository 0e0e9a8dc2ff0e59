"""The writer's side of delivery: which process attempts what, when; and what becomes of it.

A *lane* is one tracer for apps of one origin; it has one delivery process at a time, so that a plugin that hangs, leaks
or crashes holds up only its own lane. `turn` is called by the writer's loop and never waits: it claims what is due,
hands it over, and settles what processes have said. It may be killed at any instant: what was claimed is claimed anew
by the next writer.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from hush_core.background.problems import Problems
from hush_core.delivery.clock import Clock, SystemClock
from hush_core.delivery.environment import Environments
from hush_core.delivery.process import Origin
from hush_core.delivery.protocol import Setup
from hush_core.delivery.schedule import (
    CAP_S,
    RETRY_AFTER_MAX_S,
    SECOND_NS,
    WELL,
    Health,
    after_failure,
    after_misconfiguration,
    backoff_s,
)
from hush_core.delivery.traffic import Process, Traffic, Watch
from hush_core.secret import names_in
from hush_core.store.database import STORE_ERRORS
from hush_core.store.ledger import Lane, Ledger, Release, TracerRow

#: Deliveries that a process has at once, when its backend is well.
_WINDOW: Final = 200
#: Processes that have something to do at once: a machine with a thousand working folders is not to start a thousand.
_PROCESSES: Final = 8
#: Of these, as many for one tracer: one that hangs in each of many folders leaves room for the others.
_PROCESSES_OF_TRACER: Final = 4
#: How long a process that has nothing to do is kept: starting one, and importing an SDK, costs more than keeping it.
_IDLE_S: Final = 30.0
#: How long one is used before another takes its place, however busy: plugins are upgraded meanwhile.
_RENEW_S: Final = 600.0
#: How long one that was let go has to end.
_LEAVE_S: Final = 5.0
#: What a reason begins with for which the tracer was not even called: a plugin or a variable that is missing.
UNUSABLE: Final = "not usable: "
#: A next attempt that is further away than any wait: the clock has gone back.
_TOO_FAR_NS: Final = int((RETRY_AFTER_MAX_S + CAP_S) * SECOND_NS)


Launch = Callable[[Setup, Origin, dict[str, str]], Process]


class Dispatcher:
    """Delivers what is due. Owned by the writer's loop. Raises what the ledger raises (sqlite3.Error); then nothing is
    lost, and the next turn goes on.

    :param ledger: gives the ledger of the store as it is now.
    :param launch: starts a process.
    :param timeout_s: how long one attempt may take.
    :param memory_bytes: how much a process may allocate; None: no limit.
    :param environment_wait_s: how long an app that is new has to hand its environment over, before another one serves.
    :param live_environment: of an origin: what an app of it that still runs was started with.
    """

    def __init__(
        self,
        db_path: str,
        ledger: Callable[[], Ledger],
        launch: Launch,
        watch: Watch,
        environments: Environments,
        problems: Problems,
        *,
        timeout_s: float | None,
        memory_bytes: int | None,
        environment_wait_s: float = 0.0,
        live_environment: Callable[[int], dict[str, str] | None] = lambda origin: None,
        clock: Clock | None = None,
        dice: random.Random | None = None,
    ) -> None:
        self._db_path = db_path
        self._ledger = ledger
        self._launch = launch
        self._watch = watch
        self.environments = environments
        self.problems = problems
        self._timeout_s = timeout_s
        self._memory_bytes = memory_bytes
        self._live_environment = live_environment
        self._environment_wait_ns = int(environment_wait_s * SECOND_NS)
        self._clock = clock or SystemClock()
        self._dice = dice or random.Random()
        self._leaving: list[tuple[Process, float]] = []  # processes that are let go, and since when
        self.forget()

    def forget(self) -> None:
        """The database is another one: what is under way belongs to the old one."""
        for traffic in getattr(self, "_traffic", {}).values():
            traffic.end()
        self.environments.forget()
        self._traffic: dict[Lane, Traffic] = {}
        self._rows: dict[int, TracerRow] = {}
        self._health: dict[int, Health] = {}
        self._shown: dict[int, Health] = {}  # as commands see it: also why some lane cannot be served
        self._has_begun = False

    # -- what the loop asks -------------------------------------------------------------------------------------------

    def turn(self, *, begin: bool = True) -> None:
        """Do what there is to do now. Waits for nothing. Without ``begin``, nothing new is attempted."""
        if not self._has_begun:
            self._begin()
        for lane in self._ledger().take_new_lanes():
            self._traffic_of(lane).due_ns = 0
        for traffic in list(self._traffic.values()):
            try:
                self._turn(traffic, begin)
            except STORE_ERRORS:
                raise
            except Exception as problem:  # one lane's trouble is no other's
                traffic.end()
                why = f"the writer could not serve it: {type(problem).__name__}: {problem}"
                self.problems.say(f"serving tracer {traffic.lane.tracer}", why)
                traffic.give_back("retry", why)
                self._settle(traffic)
        self._see_off()

    def _turn(self, traffic: Traffic, begin: bool) -> None:
        traffic.listen(self._clock.monotonic())
        self._settle(traffic)
        if begin:
            self._hand_over(traffic)
            self._rest(traffic)

    def _see_off(self) -> None:
        """Processes that were let go end by themselves; one that does not is ended."""
        late = self._clock.monotonic() - _LEAVE_S
        for process, since in list(self._leaving):
            if not process.is_gone() and since < late:
                process.end()
        self._leaving[:] = [(process, since) for process, since in self._leaving if not process.is_gone()]

    def next_in_s(self) -> float:
        """How long until a turn has something to do by itself; infinite if nothing is pending."""
        now_ns = self._clock.now_ns()
        waits = [
            wait_ns
            for traffic in self._traffic.values()
            if not traffic.claims
            and ((wait_ns := self._next_ns(traffic, now_ns) - now_ns) > 0 or not self._is_held_back(traffic))
        ]
        return max(min(waits, default=float("inf")) / SECOND_NS, 0.0)

    def is_needed(self) -> bool:
        """Whether something is under way, or will be by itself. What waits for somebody does not need a writer: the
        next one tries it again.
        """
        return any(
            traffic.claims or traffic.outcomes or (
                traffic.due_ns is not None and traffic.unusable is None
                and self._health_of(traffic.lane.tracer).paused is None
            )
            for traffic in self._traffic.values()
        )  # fmt: skip

    def is_busy(self) -> bool:
        """Whether a process has something to do."""
        return any(traffic.claims for traffic in self._traffic.values())

    def tried(self) -> bool:
        """Whether nothing is due that could be tried now."""
        now_ns = self._clock.now_ns()
        return not any(
            traffic.claims or traffic.outcomes or self._next_ns(traffic, now_ns) <= now_ns
            or (traffic.due_ns is not None and traffic.hold_ns > now_ns and traffic.unusable is None)
            for traffic in self._traffic.values()
        )  # fmt: skip

    def status(self) -> dict[str, Any]:
        """The processes and what is in the way, for commands."""
        processes = [
            {"tracer": self._row(traffic.lane.tracer).key.name, "pid": traffic.process.pid, "jobs": len(traffic.claims)}
            for traffic in self._traffic.values()
            if traffic.process is not None
        ]
        return {"processes": processes, "problem": self.problems.present}

    def wake(self, tracers: Iterable[int] | None = None) -> None:
        """Something has changed for these tracers, or for all that could not even be called (None): look at once."""
        for traffic in self._traffic.values():
            tracer = traffic.lane.tracer
            if tracers is None:
                if traffic.unusable is not None:
                    traffic.hold_ns = 0
                    traffic.replace()
            elif tracer in tracers:
                self._health.pop(tracer, None)
                traffic.is_outdated = traffic.process is not None
                traffic.replace()
                traffic.due_ns = traffic.hold_ns = 0

    def on_environment(self, origin: int) -> None:
        """The environment of an origin's apps has become known, or is another one now. What was paused is tried."""
        for traffic in self._traffic.values():
            if traffic.lane.origin == origin:
                traffic.hold_ns = 0
                traffic.is_outdated = traffic.process is not None
                traffic.replace()
                health = self._health_of(traffic.lane.tracer)
                if health.paused is not None:  # its app has another key now, say
                    self._health[traffic.lane.tracer] = health._replace(retry_ns=0)
        self.wake()

    def close(self) -> None:
        """End every process. What was under way is claimed anew by the next writer."""
        for traffic in self._traffic.values():
            traffic.end()
        for process, _ in self._leaving:
            process.end()

    # -- the parts of a turn ------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Go on where the last writer stopped. What somebody may have put right since is tried at once."""
        ledger = self._ledger()
        ledger.reclaim()
        for lane in ledger.lanes():
            self._traffic_of(lane)
        self._has_begun = True

    def _settle(self, traffic: Traffic) -> None:
        """Write what came of attempts into the ledger."""
        if not traffic.outcomes:
            return
        lane, now_ns = traffic.lane, self._clock.now_ns()
        health, releases, delivered = self._health_of(lane.tracer), [], []
        failed_call: int | None = -1
        unusable: str | None = None
        for claim, outcome, call in traffic.outcomes:
            if outcome.kind == "delivered":
                delivered.append((claim, outcome.error))
                health = WELL
            elif outcome.kind in ("skipped", "permanent"):  # the backend is well, or was not asked
                health = health if outcome.kind == "skipped" else WELL
                releases.append(Release(claim, "skipped" if outcome.kind == "skipped" else "failed", outcome.error))
            elif outcome.kind == "untried":
                releases.append(Release(claim, "pending", is_attempt=False))
            elif outcome.kind == "configuration":
                error = (outcome.error or "misconfigured") if call is not None else f"{UNUSABLE}{outcome.error}"
                if call is not None:
                    health = after_misconfiguration(health, now_ns, error, self._dice)
                else:
                    unusable = error
                releases.append(Release(claim, "pending", error, now_ns, is_attempt=call is not None))
            else:
                if call != failed_call:  # a batch that failed is one failure, however many were in it
                    health = after_failure(health, now_ns, outcome.retry_after_s, self._dice)
                    failed_call = call
                wait_s = backoff_s(claim.attempt, outcome.retry_after_s, self._dice)
                next_ns = now_ns + int(wait_s * SECOND_NS)
                releases.append(Release(claim, "pending", outcome.error or "unknown error", next_ns))
        if traffic.is_outdated and health.paused is not None:  # what it missed may be in the environment known now
            health = health._replace(retry_ns=0)
        ledger = self._ledger()
        if delivered:
            ledger.ack(lane, delivered, now_ns=now_ns)
        if releases:
            ledger.release(lane, releases, now_ns=now_ns)
        shown = health._replace(paused=health.paused or unusable)
        if shown != self._shown.get(lane.tracer, self._health_of(lane.tracer)):
            ledger.note(lane.tracer, failures=health.failures, retry_ns=health.retry_ns, paused=shown.paused)
        self._health[lane.tracer], self._shown[lane.tracer] = health, shown
        traffic.unusable = unusable
        if unusable is not None:
            # What another installation or environment may have: this lane waits, and none of the tracer's others.
            traffic.hold_ns = (
                0 if traffic.is_outdated else after_misconfiguration(WELL, now_ns, "", self._dice).retry_ns
            )
        traffic.outcomes = []
        traffic.due_ns = 0
        if traffic.is_outdated:
            traffic.replace()
        self._say(lane.tracer, shown, [release for release in releases if release.is_attempt])

    def _say(self, tracer: int, health: Health, releases: list[Release]) -> None:
        doing = f"delivering to {self._row(tracer).key.name}"
        if health.paused is not None:
            self.problems.say(doing, f"paused: {health.paused}")
        elif health.retry_ns and releases:
            self.problems.say(doing, releases[-1].error or "")
        elif health.is_well:
            self.problems.solved(doing)

    def _hand_over(self, traffic: Traffic) -> None:
        """Give a lane's process as much as it takes of what is due."""
        now_ns, lane = self._clock.now_ns(), traffic.lane
        health = self._health_of(lane.tracer)
        if self._next_ns(traffic, now_ns) > now_ns:
            return
        if self._is_held_back(traffic):
            return
        if traffic.process is not None and self._clock.monotonic() - traffic.started_at > _RENEW_S:
            traffic.is_outdated = True
        limit = 1 if not health.is_well else _WINDOW - len(traffic.claims)
        if traffic.claims and (limit < _WINDOW // 2 or traffic.is_outdated):
            return
        self._make_room(traffic)
        ledger = self._ledger()
        claims = ledger.claim(lane, now_ns=now_ns, limit=limit)
        traffic.claims.update((claim.id, claim) for claim in claims)
        if len(claims) < limit:
            traffic.due_ns = self._next_due_ns(ledger, lane, now_ns)
        if not claims:
            return
        traffic.quiet_since = self._clock.monotonic()
        if traffic.process is None:
            self._start(traffic)
        traffic.give(claims)

    def _is_held_back(self, traffic: Traffic) -> bool:
        """Whether a lane has to wait for others, whose processes wake the loop when they have something to say."""
        return not self._has_room(traffic) or (
            not self._health_of(traffic.lane.tracer).is_well and self._is_probed(traffic)
        )

    def _is_probed(self, traffic: Traffic) -> bool:
        """Whether another lane of the same tracer has an attempt under way: one backend is probed once at a time."""
        return any(
            other.claims and other is not traffic and other.lane.tracer == traffic.lane.tracer
            for other in self._traffic.values()
        )

    def _next_ns(self, traffic: Traffic, now_ns: int) -> float:
        """When a lane may make its next attempt; infinite if nothing is pending."""
        if traffic.due_ns is None:
            return float("inf")
        next_ns = max(traffic.due_ns, self._health_of(traffic.lane.tracer).retry_ns, traffic.hold_ns)
        return next_ns if next_ns <= now_ns + _TOO_FAR_NS else now_ns  # see `_next_due_ns`

    def _next_due_ns(self, ledger: Ledger, lane: Lane, now_ns: int) -> int | None:
        due_ns = ledger.next_due_ns(lane)
        if due_ns is not None and due_ns > now_ns + _TOO_FAR_NS:  # the clock has gone back: nothing waits that long
            ledger.flush_now(self._row(lane.tracer).key.name, now_ns)
            return now_ns
        return due_ns

    def _has_room(self, traffic: Traffic) -> bool:
        """Whether this lane may have a process at work; one that has nothing to do makes room for it."""
        if traffic.process is not None:
            return True
        at_work = [other for other in self._with_process() if not other.is_idle]
        of_tracer = [other for other in at_work if other.lane.tracer == traffic.lane.tracer]
        return len(of_tracer) < _PROCESSES_OF_TRACER and len(at_work) < _PROCESSES

    def _make_room(self, traffic: Traffic) -> None:
        having = self._with_process()
        if traffic.process is None and len(having) >= _PROCESSES:
            next(other for other in having if other.is_idle).let_go()

    def _with_process(self) -> list[Traffic]:
        return [other for other in self._traffic.values() if other.process is not None]

    def _start(self, traffic: Traffic) -> None:
        """Start the lane's process as its app would be started; if it cannot be, what it was to do is given back."""
        row, ledger = self._row(traffic.lane.tracer), self._ledger()
        origin_row = traffic.lane.origin
        origin = Origin.read(ledger.origin(origin_row))
        config = msgspec.json.decode(row.key.config)
        setup = Setup(
            db_path=self._db_path,
            tracer_name=row.key.name,
            tracer_type=row.key.type,
            target=row.key.target,
            config=config if isinstance(config, dict) else {},
            memory_bytes=self._memory_bytes,
        )
        variables = self.environments.choose(origin_row, names_in(config), self._live_environment(origin_row))
        try:
            process = self._launch(setup, origin, variables)
        except FileNotFoundError:
            error = f"there is no interpreter {origin.executable} any more, with which {row.key.name!r} recorded"
            traffic.give_back("configuration", error)
        except OSError as problem:
            traffic.give_back("retry", f"its delivery process could not be started: {problem}")
        else:
            traffic.take_over(process)

    def _rest(self, traffic: Traffic) -> None:
        """Let a process go that has had nothing to do for a while, and forget a lane in which nothing is pending."""
        if not traffic.is_idle:
            return
        if traffic.process is None:
            if traffic.due_ns is None:
                del self._traffic[traffic.lane]
        elif self._clock.monotonic() - traffic.quiet_since > _IDLE_S:
            traffic.let_go()

    # -- what is known of lanes and tracers ---------------------------------------------------------------------------

    def _traffic_of(self, lane: Lane) -> Traffic:
        """A lane at work, begun if need be."""
        if lane not in self._traffic:
            is_known = lane.origin == 0 or self.environments.knows(lane.origin)
            hold_ns = 0 if is_known else self._clock.now_ns() + self._environment_wait_ns
            self._traffic[lane] = Traffic(lane, hold_ns, self._watch, self._timeout_s, self._leaving)
        return self._traffic[lane]

    def _row(self, tracer: int) -> TracerRow:
        if tracer not in self._rows:
            self._rows[tracer] = self._ledger().row(tracer)
        return self._rows[tracer]

    def _health_of(self, tracer: int) -> Health:
        if tracer not in self._health:
            row = self._ledger().row(tracer)
            known = Health(row.failures, row.retry_ns, row.paused)
            self._shown[tracer] = known
            # What made it unusable for the last writer may have been put right since.
            self._health[tracer] = WELL if (row.paused or "").startswith(UNUSABLE) else known
        return self._health[tracer]
