"""What `hush doctor` looks at where requests are delivered: the tracers, and the plugins that they come from."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from hush_core.cli.render import duration, exact_moment, plural
from hush_core.cli.roster import Destination, load_roster, obstacle
from hush_core.errors import HushError, PluginLoadError, StoreError

if TYPE_CHECKING:
    from hush_core.cli.examination import Examination
    from hush_core.store.queries.tracers import TracerState

#: A delivery that waits longer than this deserves a look.
_LONG_NS: Final = 3600 * 1_000_000_000


def examine_deliveries(seen: Examination) -> None:
    """Look at each tracer that something was ever due to, or that is configured."""
    try:
        seen.roster = load_roster(seen.db_path)
    except StoreError:
        return  # the database cannot be read, and that is said already
    now_ns = time.time_ns()
    for tracer in seen.roster.destinations:
        _examine_tracer(seen, tracer, now_ns)
    told = any(finding.part == "deliveries" for finding in seen.problems)
    problem = ((seen.writer or {}).get("delivery") or {}).get("problem")
    if problem and not told:
        seen.problem(
            "deliveries", f"The writer has trouble delivering: {problem}", "`hush tracers` says how it stands."
        )


def _examine_tracer(seen: Examination, tracer: Destination, now_ns: int) -> None:
    name = tracer.name
    if tracer.problem is not None and tracer.settings is not None:
        seen.problem(
            "deliveries",
            f"The tracer {name!r} of the settings is not to be had: {tracer.problem}",
            f"Install its plugin here, or correct type in [tracers.{name}].",
        )
    elif tracer.problem is not None and tracer.due:
        seen.note(
            "deliveries",
            f"What is due to {name!r} was recorded with a tracer that is not installed here: {tracer.problem}",
            "Nothing, if it is where the app runs: deliveries are made with that interpreter.",
        )
    for state in tracer.states:
        if state.due:
            _examine_state(seen, state, now_ns)
    dead = tracer.total("dead")
    if dead:
        failed = tracer.last_failed
        last = f" The last error of all: {failed.last_error}" if failed is not None else ""
        seen.problem(
            "deliveries",
            f"{plural(dead, 'request')} could not be delivered to {name!r} and will not be tried again.{last}",
            f"When what was refused is put right, `hush redrive --tracer {name}`. They go when they are pruned.",
        )


def _examine_state(seen: Examination, state: TracerState, now_ns: int) -> None:
    name = state.tracer_name
    waiting = f"{plural(state.due, 'request')} {'waits' if state.due == 1 else 'wait'} for"
    reason = obstacle(state, now_ns)
    if state.paused is not None:
        seen.problem(
            "deliveries",
            f"{name!r} is paused, and {waiting} it: {state.paused}",
            f"Put that right, then `hush flush --tracer {name}`; while apps record, it is tried every few minutes.",
        )
    elif state.retry_ns > now_ns:
        seen.problem(
            "deliveries",
            f"{waiting} {name!r}: {reason or state.last_error}",
            f"Nothing, if its backend is being seen to: nothing is lost. `hush flush --tracer {name}` tries at once.",
        )
    elif state.oldest_due_ns is not None and now_ns - state.oldest_due_ns > _LONG_NS:
        since = f"{exact_moment(state.oldest_due_ns)}, for {duration((now_ns - state.oldest_due_ns) / 1e6)}"
        seen.problem(
            "deliveries",
            f"{waiting} {name!r}, the first of them since {since}."
            + (f" The last error: {state.last_error}" if state.last_error else ""),
            f"`hush flush --tracer {name} --wait` tries them now and says what keeps them.",
        )


def examine_plugins(seen: Examination) -> None:
    """Look at what is installed, and whether what is to mask does."""
    host = seen.plugins
    if host is None:
        return
    for broken in host.broken:
        seen.problem(
            "plugins",
            f"The plugin {broken.name!r} ({broken.distribution} {broken.version}) cannot be used: {broken.reason}",
            f"Upgrade or uninstall it, or leave it out: [plugins] block = [{broken.name!r}].",
        )
    named = set()
    for name in seen.config.mask.plugins if seen.config is not None else ():
        try:
            named |= _masking(name)
        except HushError as problem:
            seen.problem(
                "plugins",
                f"[mask] plugins names {name!r}: {problem}",
                "Install it, or take its name out. Until then apps with these settings withhold the values of records.",
            )
    for plugin in host.plugins:
        if "hush_mask" in plugin.hooks and plugin.name not in named:
            seen.note(
                "plugins",
                f"The plugin {plugin.name!r} ({plugin.distribution} {plugin.version}) can mask records, and is not "
                "named in [mask] plugins.",
                f"If it should: plugins = [{plugin.name!r}] in [mask].",
            )


def _masking(name: str) -> set[str]:
    """The plugins that a name of `[mask] plugins` stands for. Raises PluginLoadError if none of them masks."""
    from hush_core.plugins.host import get_plugins

    masking = {each.name for each in get_plugins((name,)).plugins if "hush_mask" in each.hooks}
    if not masking:
        raise PluginLoadError("it has no hush_mask, and so masks nothing.")
    return masking
