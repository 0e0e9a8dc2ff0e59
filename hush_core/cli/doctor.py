"""`hush doctor`: whether every record is accounted for, and what to do if not."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from hush_core.cli.options import db_option, json_option
from hush_core.model import DEAD, FLUSHING, PENDING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.text import Text

    from hush_core.cli.examination import Examination, Finding
    from hush_core.cli.roster import Destination
    from hush_core.store.queries.holdings import Holdings


_JOURNALS_SHOWN: Final = 8


@click.command()
@json_option("one JSON object")
@db_option
@click.pass_context
def doctor(context: click.Context, as_json: bool, db_path: Path) -> None:
    """Check the writer, the journals, the database, tracers, plugins and settings, and that all is accounted for:

    \b
      records accepted = stored + in the journal + set aside + dropped
      deliveries       = delivered + waiting + dead letters + skipped

    It may run at any time, beside live processes. The exit code is 1 when something is wrong.

    \b
    Examples:
      hush doctor
      hush doctor --db /srv/app/traces.db
      hush doctor --json | jq .records
      hush doctor --json | jq '.tracers[] | select(.due > 0)'
    """
    from hush_core.cli.examination import examine

    seen = examine(db_path)
    if as_json:
        from hush_core.cli.render import print_json

        print_json(_as_dict(seen))
    else:
        _print(seen)
    context.exit(1 if seen.problems else 0)


def _as_dict(seen: Examination) -> dict[str, Any]:
    import msgspec

    account, holdings = seen.account, seen.holdings
    plain: dict[str, Any] = {
        "ok": not seen.problems,
        "problems": [_finding_dict(finding) for finding in seen.problems],
        "notes": [_finding_dict(finding) for finding in seen.findings if not finding.is_problem],
        "database": {"path": str(seen.db_path), **(msgspec.to_builtins(holdings) if holdings is not None else {})},
        "writer": seen.writer,
        "records": None,
        "journals": [],
        "deliveries": None,
        "tracers": [each.as_dict() for each in seen.roster.destinations] if seen.roster is not None else [],
        "plugins": _plugins_dict(seen),
        "settings": {"path": str(seen.settings_path) if seen.settings_path else None, **(seen.settings or {})},
        "versions": seen.versions,
    }
    for moved in ("journals", "totals", "delivered", "undelivered", "skipped"):
        plain["database"].pop(moved, None)
    if holdings is not None:
        plain["deliveries"] = {**_sums(holdings), "undelivered": holdings.undelivered}
    if account is not None:
        plain["records"] = {
            "accepted": account.accepted,
            "stored": account.stored,
            "in_journal": account.in_journal,
            "set_aside": account.set_aside,
            "dropped": account.dropped,
            "adds_up": account.adds_up,
        }
        plain["journals"] = [
            {**msgspec.to_builtins(journal), "accepted": journal.accepted} for journal in account.journals
        ]
    return plain


def _sums(holdings: Holdings) -> dict[str, int]:
    """What became of each pair of a stored request and a tracer: the first is the sum of the others."""
    states = holdings.undelivered.values()
    waiting = sum(each.get(PENDING, 0) + each.get(FLUSHING, 0) for each in states)
    sums = {
        "delivered": holdings.delivered,
        "waiting": waiting,
        "dead_letters": sum(each.get(DEAD, 0) for each in states),
        "skipped": holdings.skipped,
    }
    return {"total": sum(sums.values()), **sums}


def _plugins_dict(seen: Examination) -> dict[str, Any] | None:
    host = seen.plugins
    if host is None:
        return None
    return {
        "loaded": [
            {"name": each.name, "package": each.distribution, "version": each.version, "hooks": list(each.hooks)}
            for each in host.plugins
        ],
        "broken": [
            {"name": each.name, "package": each.distribution, "version": each.version, "reason": each.reason}
            for each in host.broken
        ],
    }


def _finding_dict(finding: Finding) -> dict[str, str]:
    return {"part": finding.part, "what": finding.what, "todo": finding.todo}


# -- drawn ------------------------------------------------------------------------------------------------------------


def _print(seen: Examination) -> None:
    from rich.text import Text

    from hush_core.cli.render import QUIET, make_console, padded, plural, safe_lines, say

    console = make_console()
    wrong = {finding.part for finding in seen.problems}
    parts = {
        "database": _database,
        "writer": _writer,
        "journals": _journals,
        "records": _records,
        "deliveries": _deliveries,
        "plugins": _plugins,
        "settings": _settings,
    }
    for part, describe in parts.items():
        mark = Text("✗ ", "bold red") if part in wrong else Text("✓ ", "green")
        for number, line in enumerate(describe(seen)):
            begin = mark + Text(padded(part, 12), "bold") if number == 0 else Text(" " * 14)
            console.print(begin + line)
    versions = ", ".join(f"{name} {version}" for name, version in seen.versions.items())
    console.print(Text("  ") + Text(padded("versions", 12), "bold") + Text(versions))
    for finding in sorted(seen.findings, key=lambda finding: finding.is_problem):
        console.print()
        mark = Text("✗ ", "bold red") if finding.is_problem else Text("• ", QUIET)
        say(console, mark + Text("\n  ".join(safe_lines(finding.what))))
        for todo in safe_lines(finding.todo):
            say(console, f"  {todo}", QUIET)
    console.print()
    if seen.problems:
        say(console, f"{plural(len(seen.problems), 'problem')}.", "bold red")
    else:
        say(console, "Everything is in order.", "green")


def _database(seen: Examination) -> Iterator[Text]:
    from rich.text import Text

    from hush_core.cli.render import count, plural, safe, size

    yield Text(safe(seen.db_path))
    holdings = seen.holdings
    if holdings is None:
        yield Text("" if os.path.exists(seen.db_path) else "not there yet: nothing has been recorded")
        return
    states = ", ".join(f"{count(number)} {safe(status)}" for status, number in holdings.requests.items() if number)
    total = sum(holdings.requests.values())
    yield Text(f"{plural(total, 'request')}{f' ({states})' if states else ''}, {plural(holdings.nodes, 'node')}")
    yield Text(f"{size(holdings.size_bytes)}, schema {holdings.schema}")


def _writer(seen: Examination) -> Iterator[Text]:
    from rich.text import Text

    from hush_core.cli.render import duration

    if seen.writer is None:
        yield Text("none runs; the next record starts one")
        return
    uptime = duration(float(seen.writer.get("uptime_s", 0.0)) * 1000)
    yield Text(f"process {seen.writer.get('pid')}, hush-core {seen.writer.get('version')}, for {uptime}")


def _journals(seen: Examination) -> Iterator[Text]:
    from rich.text import Text

    from hush_core.cli.render import plural, size

    journals = seen.account.journals if seen.account is not None else []
    alive = [journal for journal in journals if journal.alive]
    if not journals:
        yield Text("none: no process records now")
        return
    yield Text(
        f"{plural(len(journals), 'journal')}, of which {len(alive):,} of live processes; "
        f"{size(sum(journal.size_bytes for journal in journals))}"
    )
    for journal in alive[:_JOURNALS_SHOWN]:
        yield Text(f"process {journal.pid}: {plural(journal.accepted, 'record')}")
    if len(alive) > _JOURNALS_SHOWN:
        yield Text(f"and {len(alive) - _JOURNALS_SHOWN:,} more; --json has all")


def _records(seen: Examination) -> Iterator[Text]:
    from rich.text import Text

    from hush_core.cli.render import count

    account = seen.account
    if account is None:
        yield Text("not counted: the database cannot be read")
        return
    dropped = sum(account.dropped.values())
    yield Text(f"{count(account.accepted)} accepted")
    yield Text(
        f"= {count(account.stored)} stored + {count(account.in_journal)} in the journal"
        f" + {count(account.set_aside)} set aside + {count(dropped)} dropped"
    )
    for reason, number in account.dropped.items():
        yield Text(f"{count(number)} dropped: {reason}", "yellow")


def _deliveries(seen: Examination) -> Iterator[Text]:
    from rich.text import Text

    from hush_core.cli.render import count, plural, safe

    if seen.holdings is None or seen.roster is None:
        yield Text("none yet" if not os.path.exists(seen.db_path) else "not counted: the database cannot be read")
        return
    sums = _sums(seen.holdings)
    yield Text(plural(sums["total"], "delivery"))
    yield Text(
        f"= {count(sums['delivered'])} delivered + {count(sums['waiting'])} waiting"
        f" + {plural(sums['dead_letters'], 'dead letter')} + {count(sums['skipped'])} skipped"
    )
    now_ns = time.time_ns()
    for tracer in seen.roster.destinations:
        if tracer.due:
            yield Text(safe(f"{tracer.name}: {count(tracer.due)} waiting{_how(tracer, now_ns)}"), "yellow")


def _how(tracer: Destination, now_ns: int) -> str:
    """How what is due to a tracer stands, in a few words: the findings have more."""
    waits_for = tracer.waits_for(now_ns)
    if tracer.paused is not None:
        return ", paused"
    if waits_for is not None:
        return f", {waits_for.partition(' (')[0]}"
    return ", under way" if tracer.total("flushing") else ""


def _plugins(seen: Examination) -> Iterator[Text]:
    from rich.text import Text

    from hush_core.cli.render import plural, safe
    from hush_core.plugins.registration import CORE

    host = seen.plugins
    if host is None:
        yield Text("not known: the settings cannot be read" if seen.config is None else "not looked for")
        return
    others = [each for each in host.plugins if each.distribution != CORE]
    broken = f", and {plural(len(host.broken), 'broken one')}" if host.broken else ""
    yield Text(f"{plural(len(others), 'plugin')}{broken}")
    for each in others:
        yield Text(safe(f"{each.name}: {each.distribution} {each.version}"))


def _settings(seen: Examination) -> Iterator[Text]:
    from rich.text import Text

    from hush_core.cli.render import safe

    yield Text(safe(seen.settings_path) if seen.settings_path is not None else "the defaults: there is no hush.toml")
    for table, values in (seen.settings or {}).items():
        yield Text(f"{table}: " + ", ".join(f"{name} = {safe(value)}" for name, value in values.items()))
