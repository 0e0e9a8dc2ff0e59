"""Aligned columns that fit the terminal, and say what they leave out; of natural width where nobody looks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal, NamedTuple

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

_GAP: Final = "  "


class Column(NamedTuple):
    """One column. A column without any text is left out altogether."""

    title: str
    align: Literal["left", "right"] = "left"
    least: int | None = None  #: it may be cut to this width, each cut marked; None: never cut
    leave_out: int = 0  #: where width is short, the column with the highest number goes first; 0: never


class Layout:
    """Columns and their widths for some rows and a terminal.

    :param width: of the terminal in cells; None where the output is not one: then nothing is cut or left out.
    """

    def __init__(self, columns: Sequence[Column], rows: Iterable[Sequence[Text]], width: int | None) -> None:
        self._columns = columns
        natural = [0] * len(columns)
        for row in rows:
            for at, cell in enumerate(row):
                natural[at] = max(natural[at], cell.cell_len)
        self._shown = [at for at, cells in enumerate(natural) if cells]
        self._widths = [max(cells, cell_len(column.title)) for cells, column in zip(natural, columns, strict=True)]
        self.left_out: list[str] = []  #: the titles of the columns that did not fit
        if width is not None:
            self._fit(width)

    def _total(self) -> int:
        return sum(self._widths[at] for at in self._shown) + len(_GAP) * (len(self._shown) - 1)

    def _fit(self, width: int) -> None:
        least = [column.least for column in self._columns]
        while True:
            floor = self._total() - sum(
                max(self._widths[at] - (least[at] or 0), 0) for at in self._shown if least[at] is not None
            )
            candidates = [at for at in self._shown if self._columns[at].leave_out]
            if floor <= width or not candidates:
                break
            out = max(candidates, key=lambda at: self._columns[at].leave_out)
            self._shown.remove(out)
            self.left_out.append(self._columns[out].title)
        while (excess := self._total() - width) > 0:
            widest = max(
                (at for at in self._shown if self._widths[at] > (self._columns[at].least or self._widths[at])),
                key=lambda at: self._widths[at],
                default=None,
            )
            if widest is None:
                return
            second = max((self._widths[at] for at in self._shown if at != widest and least[at]), default=0)
            step = max(self._widths[widest] - second, 1)
            self._widths[widest] = max(self._widths[widest] - min(step, excess), least[widest] or 0)

    def header(self, style: str) -> Text:
        """The titles of the columns that are shown."""
        return self.line([Text(column.title, style) for column in self._columns])

    def line(self, row: Sequence[Text]) -> Text:
        """One row as one line."""
        cells = []
        for at in self._shown:
            cell, width = row[at], self._widths[at]
            if cell.cell_len > width:
                cell = cell.copy()
                cell.truncate(width, overflow="ellipsis")
            padding = Text(" " * (width - cell.cell_len))
            cells.append(padding + cell if self._columns[at].align == "right" else cell + padding)
        line = Text(_GAP).join(cells)
        line.rstrip()
        return line


def width_of(console: Console) -> int | None:
    """The width that output has to fit, or None where it does not go to a terminal."""
    return console.width if console.is_terminal else None
