"""`hush doctor`: whether every record is accounted for, and what to do if not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from hush_core.cli.options import db_option, json_option

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.text import Text

    from hush_core.cli.examination import Examination, Finding


_JOURNALS_SHOWN: Final = 8


@click.command()
@json_option("one JSON object")
@db_option
@click.pass_context
def doctor(context: click.Context, as_json: bool, db_path: Path) -> None:
    """Check the writer, the journals, the database and the settings, and that every record is accounted for:

    \b
      accepted = stored + in the journal + set aside + dropped

    It may run at any time, beside live processes. The exit code is 1 when something is wrong.

    \b
    Examples:
      hush doctor
      hush doctor --db /srv/app/traces.db
      hush doctor --json | jq .records
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
        "settings": {"path": str(seen.settings_path) if seen.settings_path else None, **(seen.settings or {})},
        "versions": seen.versions,
    }
    plain["database"].pop("journals", None)
    plain["database"].pop("totals", None)
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
        "settings": _settings,
    }
    for part, describe in parts.items():
        mark = Text("✗ ", "bold red") if part in wrong else Text("✓ ", "green")
        for number, line in enumerate(describe(seen)):
            begin = mark + Text(padded(part, 10), "bold") if number == 0 else Text(" " * 12)
            console.print(begin + line)
    versions = ", ".join(f"{name} {version}" for name, version in seen.versions.items())
    console.print(Text("  ") + Text(padded("versions", 10), "bold") + Text(versions))
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
    for tracer, states_of in holdings.undelivered.items():
        waiting = ", ".join(f"{count(number)} {status}" for status, number in states_of.items())
        yield Text(f"{safe(tracer)}: {waiting}", "yellow")


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


def _settings(seen: Examination) -> Iterator[Text]:
    from rich.text import Text

    from hush_core.cli.render import safe

    yield Text(safe(seen.settings_path) if seen.settings_path is not None else "the defaults: there is no hush.toml")
    for table, values in (seen.settings or {}).items():
        yield Text(f"{table}: " + ", ".join(f"{name} = {safe(value)}" for name, value in values.items()))
