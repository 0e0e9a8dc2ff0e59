"""What the table of the benchmarks says, and when a budget counts as met."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import __main__ as program
from benchmarks.result import Budget, Figure, Ratio, Result, compare, percentile
from benchmarks.session import Session
from benchmarks.table import render, summary

FLOOR_BUDGET = Budget(1.4, "at most")


def row(ratio: float, budget: Budget = FLOOR_BUDGET, kind: str = "times") -> Result:
    return Result(
        "capture", "one record", Figure(1.0, "us"), "floor", Figure(0.5, "us"), Ratio(ratio, ratio, ratio, kind), budget
    )


def test_a_ratio_is_the_median_of_the_ratios_of_each_turn() -> None:
    # The machine slowed down between the turns; hush was 2 times the floor in each but one.
    assert compare([2.0, 20.0, 90.0], [1.0, 10.0, 30.0], "times").value == 2.0
    assert compare([2.0, 20.0, 90.0], [20.0, 200.0, 90.0], "cheaper").value == 10.0


def test_a_ratio_says_how_far_the_turns_were_apart() -> None:
    ratio = compare([1.0, 2.0, 3.0], [1.0, 1.0, 1.0], "times")
    assert (ratio.low, ratio.high) == (1.0, 3.0)


def test_a_percentile_is_a_value_that_was_measured() -> None:
    assert percentile([30, 10, 20], 0.5) == 20
    assert percentile(list(range(1000)), 0.999) == 999
    assert percentile([7], 0.999) == 7


@pytest.mark.parametrize(("ratio", "met"), [(1.4, True), (1.41, False)])
def test_a_budget_of_at_most_is_met_up_to_its_limit(ratio: float, met: bool) -> None:
    assert row(ratio).met is met


@pytest.mark.parametrize(("ratio", "met"), [(10.0, True), (9.9, False)])
def test_a_budget_of_at_least_is_met_from_its_limit(ratio: float, met: bool) -> None:
    assert row(ratio, Budget(10.0, "at least"), "cheaper").met is met


def test_a_budget_without_a_ratio_is_on_the_figure_itself() -> None:
    assert Result("memory", "growth", Figure(19.0, "MB"), budget=Budget(20.0, "at most")).met is True
    assert Result("memory", "growth", Figure(21.0, "MB"), budget=Budget(20.0, "at most")).met is False


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    absent = Result(
        "capture", "one record", beside="Langfuse SDK", budget=FLOOR_BUDGET, note="langfuse is not installed"
    )
    assert absent.met is None
    assert "langfuse is not installed" in render([absent])
    assert summary([absent]) == "0 of 1 budgets met, 1 not measured"


def test_the_table_names_every_missed_budget() -> None:
    table = render([row(1.2), row(2.0)])
    assert table.count("NOT met") == 2  # its row, and the summary
    assert table.endswith("1 of 2 budgets met, 1 NOT met")


def test_the_columns_of_the_table_are_aligned() -> None:
    lines = render([row(1.2), row(200.0)]).splitlines()
    at = lines[0].index("budget")
    assert [line[at : at + 2] for line in lines[2:4]] == ["<=", "<="]


def run_main(monkeypatch: pytest.MonkeyPatch, results: list[Result], *arguments: str) -> int:
    def measure(session: Session) -> list[Result]:
        return results

    monkeypatch.setattr(program, "_BENCHMARKS", {"capture": measure})
    return program.main(["--quick", *arguments])


def test_a_missed_budget_fails_the_run_only_when_asked_to_be_strict(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_main(monkeypatch, [row(2.0)]) == 0
    assert run_main(monkeypatch, [row(2.0)], "--strict") == 1
    assert run_main(monkeypatch, [row(1.2)], "--strict") == 0


def test_a_benchmark_that_cannot_run_fails_the_run_and_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(session: Session) -> list[Result]:
        raise RuntimeError("the writer ended")

    monkeypatch.setattr(program, "_BENCHMARKS", {"broken": measure, "capture": lambda session: [row(1.2)]})
    assert program.main(["--quick"]) == 1
    said = capsys.readouterr().out
    assert "FAILED: the writer ended" in said
    assert "one record" in said  # the rest is measured all the same


def test_the_json_says_what_the_table_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    run_main(monkeypatch, [row(2.0)], "--json", str(report))
    (result,) = json.loads(report.read_text())["results"]
    assert result["ratio"]["value"] == 2.0
    assert result["met"] is False
