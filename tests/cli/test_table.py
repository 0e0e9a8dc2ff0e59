"""Columns: aligned, as narrow as they must be, and never cut without a mark."""

from __future__ import annotations

from rich.text import Text

from hush_core.cli.table import Column, Layout


def lines(layout: Layout, rows: list[list[Text]]) -> list[str]:
    return [layout.line(row).plain for row in rows]


def cells(*rows: tuple[str, ...]) -> list[list[Text]]:
    return [[Text(cell) for cell in row] for row in rows]


def test_columns_are_aligned_by_what_they_show_in_the_terminal() -> None:
    rows = cells(("日本", "1"), ("abc", "22"))
    layout = Layout((Column("name"), Column("n", "right")), rows, 80)
    assert layout.header("").plain == "name   n"
    assert lines(layout, rows) == ["日本   1", "abc   22"]


def test_a_column_without_text_is_left_out() -> None:
    rows = cells(("a", "", "1"), ("b", "", "2"))
    assert lines(Layout((Column("x"), Column("empty"), Column("n")), rows, 80), rows) == ["a  1", "b  2"]


def test_without_a_terminal_nothing_is_cut_or_left_out() -> None:
    rows = cells(("a" * 300, "b" * 300))
    layout = Layout((Column("x", least=5), Column("y", leave_out=1)), rows, None)
    assert lines(layout, rows) == [f"{'a' * 300}  {'b' * 300}"]


def test_a_cut_is_marked_and_the_widest_is_cut_first() -> None:
    rows = cells(("a" * 30, "b" * 12))
    layout = Layout((Column("x", least=5), Column("y", least=5)), rows, 30)
    assert lines(layout, rows) == [f"{'a' * 15}…  {'b' * 12}"]
    layout = Layout((Column("x", least=5), Column("y", least=5)), rows, 20)
    assert lines(layout, rows) == [f"{'a' * 8}…  {'b' * 8}…"]


def test_where_width_is_short_columns_go_by_their_number_and_are_named() -> None:
    rows = cells(("a" * 10, "b" * 10, "c" * 10))
    columns = (Column("x"), Column("y", leave_out=2), Column("z", leave_out=1))
    layout = Layout(columns, rows, 25)
    assert layout.left_out == ["y"]
    assert lines(layout, rows) == [f"{'a' * 10}  {'c' * 10}"]
    assert Layout(columns, rows, 10).left_out == ["y", "z"]


def test_what_must_not_be_cut_stays_whole_on_the_narrowest_terminal() -> None:
    rows = cells(("a" * 30,))
    assert lines(Layout((Column("x"),), rows, 5), rows) == ["a" * 30]
