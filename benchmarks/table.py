"""The results as one table of plain text."""

from __future__ import annotations

from typing import Final

from benchmarks.result import Budget, Figure, Ratio, Result

_HEADINGS: Final = ("what", "measured", "beside", "", "ratio", "budget", "")
_NOTE_CHARS: Final = 60


def render(results: list[Result]) -> str:
    """An aligned table, one row per result, a row of notes below those that have one."""
    rows = [_HEADINGS] + [_cells(each) for each in results]
    widths = [max(len(row[at]) for row in rows) for at in range(len(_HEADINGS))]
    lines = [_line(_HEADINGS, widths), "  ".join("-" * width for width in widths)]
    last = ""
    for result, row in zip(results, rows[1:], strict=True):
        shown = ("", *row[1:]) if result.what == last else row
        lines.append(_line(shown, widths))
        last = result.what
    notes = dict.fromkeys(f"{each.what}: {each.note}" for each in results if each.note and each.measured is not None)
    return "\n".join([*lines, *(["", *notes] if notes else []), "", summary(results)])


def summary(results: list[Result]) -> str:
    """One line: how many budgets there are, and how many are met."""
    verdicts = [each.met for each in results if each.budget is not None]
    parts = [f"{verdicts.count(True)} of {len(verdicts)} budgets met"]
    if False in verdicts:
        parts.append(f"{verdicts.count(False)} NOT met")
    if None in verdicts:
        parts.append(f"{verdicts.count(None)} not measured")
    return ", ".join(parts)


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _cells(result: Result) -> tuple[str, ...]:
    verdict = {True: "met", False: "NOT met", None: ""}[result.met]
    if result.measured is None:
        why = result.note.splitlines()[0][:_NOTE_CHARS] if result.note else "not measured"
        return (result.what, "-", result.beside, "", "", _budget(result), why)
    return (
        result.what,
        _figure(result.measured),
        result.beside,
        _figure(result.beside_figure),
        _ratio(result.ratio),
        _budget(result),
        verdict,
    )


def _number(value: float) -> str:
    if isinstance(value, int) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _figure(figure: Figure | None) -> str:
    return f"{_number(figure.value)} {figure.unit}" if figure is not None else ""


def _ratio(ratio: Ratio | None) -> str:
    if ratio is None:
        return ""
    return f"{_number(ratio.value)} x" if ratio.kind == "times" else f"{_number(ratio.value)} x cheaper"


def _budget(result: Result) -> str:
    budget: Budget | None = result.budget
    if budget is None:
        return ""
    sign = "<=" if budget.sense == "at most" else ">="
    if result.ratio is not None:
        return f"{sign} {budget.limit:.3g} x"
    return (
        f"{sign} {budget.limit:g} {result.measured.unit}" if result.measured is not None else f"{sign} {budget.limit:g}"
    )
