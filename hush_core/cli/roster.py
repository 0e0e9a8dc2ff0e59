"""Who there is to deliver to, by name: what the database, the settings and the installed plugins say, put together.

Reads only. What is wrong with the settings or a plugin is kept beside what is known, and hides nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from hush_core.cli.render import duration, moment
from hush_core.config import TracerSettings, load_config
from hush_core.delivery.schedule import BREAKER_AFTER
from hush_core.errors import ConfigError, HushError, UnknownTracerError, closest
from hush_core.store.queries.reader import file_status
from hush_core.store.queries.tracers import TracerState, load_tracers
from hush_core.store.stored import iso_time

if TYPE_CHECKING:
    from hush_core.plugins.host import PluginHost
    from hush_core.plugins.registration import Registration


class Destination(msgspec.Struct):
    """A tracer by its name: one line of `hush tracers`, whatever number of configurations it has had."""

    name: str
    states: list[TracerState] = []  #: in the order in which the database saw them; none if nothing was ever due to it
    settings: TracerSettings | None = None  #: of `[tracers.NAME]`
    registration: Registration | None = None  #: what an installed plugin offers for it
    problem: str | None = None  #: why nothing that is installed can deliver for it

    def total(self, field: str) -> int:
        """The sum of a count over its configurations."""
        return sum(getattr(state, field) for state in self.states)

    @property
    def due(self) -> int:
        return self.total("due")

    @property
    def type(self) -> str:
        """As the settings would say it: a registered name, else what is known of its class."""
        if self.settings is not None:
            return self.settings.type
        if self.registration is not None:
            return self.registration.name
        return self.states[-1].target or self.states[-1].tracer_type

    @property
    def package(self) -> str:
        return "" if self.registration is None else self.registration.origin

    @property
    def active(self) -> list[TracerState]:
        """The configurations that matter now: the newest, and those that something is still due to."""
        return [state for state in self.states if state.due or state is self.states[-1]]

    @property
    def paused(self) -> TracerState | None:
        """The configuration that waits for somebody, if one does."""
        return next((state for state in reversed(self.active) if state.paused is not None), None)

    @property
    def last_failed(self) -> TracerState | None:
        """The configuration that had the last error."""
        failed = [state for state in self.states if state.last_error is not None]
        return max(failed, key=lambda state: state.last_error_ns or 0, default=None)

    def latest(self, field: str) -> int | None:
        return max((time for state in self.states if (time := getattr(state, field)) is not None), default=None)

    def earliest(self, field: str) -> int | None:
        return min((time for state in self.states if (time := getattr(state, field)) is not None), default=None)

    def waits_for(self, now_ns: int) -> str | None:
        """Why nothing is delivered to it now although something is due; None if something is."""
        reasons = []
        for state in self.states:
            if state.due:
                reason = obstacle(state, now_ns)
                if reason is None:
                    return None
                # What was recorded keeps the configuration that it was recorded with.
                reasons.append(
                    reason if state is self.states[-1] else f"{state.due:,} of an older configuration: {reason}"
                )
        return "; ".join(dict.fromkeys(reasons)) or None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for `--json`; nothing of a configuration's values."""
        paused, failed, offered = self.paused, self.last_failed, self.registration
        return {
            "name": self.name,
            "type": self.type,
            "target": offered.target if offered is not None else self.states[-1].target if self.states else None,
            "package": offered.distribution if offered is not None else None,
            "version": offered.version if offered is not None else None,
            "configured": self.settings is not None,
            "policy": self.settings.policy if self.settings is not None else None,
            "problem": self.problem,
            "due": self.due,
            "pending": self.total("pending"),
            "flushing": self.total("flushing"),
            "sent": self.total("sent"),
            "failed": self.total("dead"),
            "skipped": self.total("skipped"),
            "paused": paused.paused if paused is not None else None,
            "retry_time": iso_time(max((state.retry_ns for state in self.active), default=0) or None),
            "last_error": failed.last_error if failed is not None else None,
            "last_error_time": iso_time(failed.last_error_ns) if failed is not None else None,
            "last_sent_time": iso_time(self.latest("last_sent_ns")),
            "oldest_due_time": iso_time(self.earliest("oldest_due_ns")),
            "configurations": [_state_dict(state) for state in self.states],
        }


def _state_dict(state: TracerState) -> dict[str, Any]:
    return {
        "type": state.tracer_type,
        "target": state.target,
        "options": sorted(_options(state.tracer_config)),
        "pending": state.pending,
        "flushing": state.flushing,
        "sent": state.sent,
        "failed": state.dead,
        "failed_ever": state.failed,
        "skipped": state.skipped,
        "failures_in_a_row": state.failures,
        "paused": state.paused,
        "retry_time": iso_time(state.retry_ns or None),
        "next_attempt_time": iso_time(state.next_attempt_ns),
        "last_error": state.last_error,
        "last_error_time": iso_time(state.last_error_ns),
        "last_sent_time": iso_time(state.last_sent_ns),
    }


def _options(config: str) -> list[str]:
    """The names of a configuration's options."""
    try:
        return list(msgspec.json.decode(config, type=dict[str, Any]))
    except msgspec.DecodeError:  # somebody else wrote it
        return []


def obstacle(state: TracerState, now_ns: int) -> str | None:
    """What keeps a tracer from getting what is pending now; None if nothing does, or something is under way."""
    if state.flushing:
        return None
    if state.paused is not None:
        again = f"; tried again in {_until(state.retry_ns, now_ns)}" if state.retry_ns > now_ns else ""
        return f"paused: {state.paused}{again}"
    because = f" ({state.last_error})" if state.last_error else ""
    if state.retry_ns > now_ns:
        wait = f"tried again in {_until(state.retry_ns, now_ns)}"
        if state.failures >= BREAKER_AFTER:
            return f"its backend failed {state.failures:,} times in a row, {wait}{because}"
        return f"its backend asked to wait, {wait}{because}"
    if state.pending and (state.next_attempt_ns or 0) > now_ns:
        return f"the next attempt is in {_until(state.next_attempt_ns or 0, now_ns)}{because}"
    return None


def _until(ns: int, now_ns: int) -> str:
    return f"{duration((ns - now_ns) / 1e6)}, at {moment(ns)}"


class Roster(msgspec.Struct):
    """All tracers, and what is known of plugins."""

    destinations: list[Destination]  #: those that were used or are configured, then those that are only installed
    settings_problem: str | None = None  #: why the settings, and with them the plugins, could not be read
    host: PluginHost | None = None


def load_roster(db_path: Path) -> Roster:
    """Put together what is known now, also where there is no database yet. Raises StoreError as `open_reader`."""
    roster = Roster(group(load_tracers(db_path) if file_status(db_path) is not None else []))
    try:
        from hush_core.plugins.host import get_host

        config = load_config()
        roster.host = get_host()
    except ConfigError as problem:
        roster.settings_problem = str(problem)
        return roster
    by_name = {each.name: each for each in roster.destinations}
    for name, settings in config.tracers.items():
        by_name.setdefault(name, Destination(name, [])).settings = settings
    for each in by_name.values():
        _identify(each, roster.host)
    used = {each.registration.target for each in by_name.values() if each.registration is not None}
    offered = [each for each in roster.host.registrations.values() if each.target not in used]
    roster.destinations = sorted(by_name.values(), key=lambda each: each.name)
    roster.destinations += [Destination(each.name, [], registration=each) for each in offered]
    return roster


def group(states: Iterable[TracerState]) -> list[Destination]:
    """Tracers by their names."""
    by_name: dict[str, Destination] = {}
    for state in states:
        by_name.setdefault(state.tracer_name, Destination(state.tracer_name, [])).states.append(state)
    return list(by_name.values())


def _identify(destination: Destination, host: PluginHost) -> None:
    """Find what is installed for it: by its settings, else by what its records say."""
    from hush_core.plugins.target import is_target

    if destination.settings is not None:
        if is_target(destination.settings.type):
            return
        try:
            destination.registration = host.find(destination.settings.type)
        except HushError as problem:
            destination.problem = str(problem)
        return
    newest = destination.states[-1]
    for each in host.registrations.values():
        if each.target == newest.target:
            destination.registration = each
            return
    if not newest.target:  # an older record, or another engine's: its class's name is all that is known
        try:
            destination.registration = host.find(newest.tracer_type)
        except HushError as problem:
            destination.problem = str(problem)


def check_name(name: str, having: Sequence[Destination]) -> None:
    """Make sure that there is a tracer of that name: something was due to it, or the settings have it.

    Raises UnknownTracerError that lists what there is.
    """
    names = [each.name for each in having]
    if name in names:
        return
    with suppress(ConfigError):  # the settings are wrong, and that is not what was asked for
        configured = load_config().tracers
        if name in configured:
            return
        names += [each for each in configured if each not in names]
    if not names:
        raise UnknownTracerError(f"No tracer named {name!r}: nothing has been due to any tracer in this database yet.")
    meant = closest(name, names)
    suggestion = f"Did you mean {meant!r}? " if meant else ""
    raise UnknownTracerError(
        f"Nothing has ever been due to a tracer named {name!r} in this database. {suggestion}"
        f"Its tracers, and those of the settings: {', '.join(names)}."
    )
