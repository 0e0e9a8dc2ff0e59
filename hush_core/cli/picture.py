"""The drawn tree of a request: guides, aligned numbers, and below a node its errors and values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from rich.console import Console
from rich.text import Text

from hush_core.cli.fold import Line, flatten, measured
from hush_core.cli.render import (
    QUIET,
    STATUS_STYLES,
    age,
    cost,
    count,
    duration,
    exact_moment,
    first_line,
    plural,
    preview,
    safe,
    safe_lines,
)
from hush_core.cli.table import Column, Layout, width_of
from hush_core.model import DEAD, FLUSHED, INTERRUPTED, NODE_ERROR, NODE_OK, NODE_RUNNING, RUNNING, SKIPPED
from hush_core.store.stored import RequestTrace, StoredNode
from hush_core.store.tree import Branch

#: Deeper than this, guides would leave no room for names: the depth is written as a number instead.
_DEEPEST_GUIDE: Final = 12
#: How many different errors are shown below one folded line.
_ERRORS_SHOWN: Final = 3
_PREVIEW_CHARACTERS: Final = 200
_MODELS_SHOWN: Final = 3
#: A dead letter is for somebody to look at; what a tracer did not want is as it should be. All else goes by itself.
_DELIVERY_STYLES: Final = {DEAD: "red", SKIPPED: QUIET}
#: For an output that cannot take the characters of the left side.
_ASCII: Final = str.maketrans({"│": "|", "├": "|", "└": "`", "─": "-", "✗": "x", "×": "x", "…": "~"})

_COLUMNS: Final = (
    Column("", least=24),
    Column("took", "right"),
    Column("tokens", "right", leave_out=1),
    Column("cost", "right", leave_out=2),
    Column("", least=20, leave_out=3),
)


def heading(request: RequestTrace, now_ns: int) -> Iterator[Text]:
    """What the request is: id, state, times, sums, who it was for, where it was delivered."""
    name = Text(safe(request.workflow_name or "(no workflow)"), "bold")
    status = Text(safe(request.status), STATUS_STYLES.get(request.status, ""))
    yield Text("  ").join([name, status, *_how_long(request, now_ns)])
    ids = [("request", request.request_id), ("user", request.user_id), ("session", request.session_id)]
    yield Text("  ").join(_named(label, value) for label, value in ids if value is not None)
    sums = [_named("started", exact_moment(request.start_ns))] if request.start_ns is not None else []
    sums.append(Text(plural(request.node_count, "node")))
    if request.error_count:
        sums.append(Text(plural(request.error_count, "error"), "red"))
    if request.total_tokens is not None:
        sums.append(Text(f"{count(request.total_tokens)} tokens{_tokens_each_way(request)}"))
    if request.cost_usd is not None:
        sums.append(Text(cost(request.cost_usd)))
    yield Text("  ").join(sums)
    if request.tags:
        yield Text.assemble(("tags ", QUIET), (safe(", ".join(request.tags)), "cyan"))
    if request.status == INTERRUPTED:
        yield Text("its process ended without completing it; what was recorded until then is here", "yellow")
    if request.error:
        yield Text(first_line(request.error), "red")
    for delivery in request.deliveries:
        if delivery.status != FLUSHED:
            tries = f" after {plural(delivery.attempts, 'attempt')}" if delivery.attempts else ""
            line = f"{delivery.tracer_name}: {delivery.status}{tries} {delivery.last_error or ''}"
            yield Text(safe(line), _DELIVERY_STYLES.get(delivery.status, "yellow"))


def _named(label: str, value: str) -> Text:
    return Text.assemble((f"{label} ", QUIET), safe(value))


def _how_long(request: RequestTrace, now_ns: int) -> list[Text]:
    if request.duration_ms is not None:
        return [Text(f"in {duration(request.duration_ms)}")]
    if request.status == RUNNING and request.start_ns is not None:
        return [Text(f"for {age(request.start_ns, now_ns)}")]
    return []


def _tokens_each_way(request: RequestTrace) -> str:
    if request.prompt_tokens is None and request.completion_tokens is None:
        return ""
    return f" ({count(request.prompt_tokens) or '?'} in, {count(request.completion_tokens) or '?'} out)"


class Picture:
    """The tree of a request on a console."""

    def __init__(
        self, console: Console, lines: Iterable[Line], now_ns: int, *, whole_errors: bool, with_payloads: bool
    ) -> None:
        self._console = console
        self._now_ns = now_ns
        self._whole_errors = whole_errors
        self._with_payloads = with_payloads
        self._ascii = console.options.ascii_only
        self._lines = list(flatten(lines))
        #: How many nodes are not drawn by themselves.
        self.folded_nodes = sum(len(line.nodes) for _, line in self._lines if line.is_folded)

    def print(self) -> None:
        """Print the titles and each line, and below it what belongs to it."""
        rows = [self._row(around, line) for around, line in self._lines]
        layout = Layout(_COLUMNS, rows, width_of(self._console))
        self._print(layout.header(QUIET))
        for (around, line), row in zip(self._lines, rows, strict=True):
            self._print(layout.line(row))
            beneath = Text(_rails((*around[1:], bool(line.inner))), QUIET)
            for detail in self._details(line):
                self._print_wrapped(beneath, detail)
        if layout.left_out and self._console.is_terminal:
            self._print(Text(f"no room for: {', '.join(layout.left_out)} (a wider terminal shows all)", QUIET))

    def _print(self, line: Text) -> None:
        if self._ascii:
            line.plain = line.plain.translate(_ASCII)
        self._console.print(line)

    def _print_wrapped(self, beneath: Text, detail: Text) -> None:
        width = width_of(self._console)
        lines = [detail] if width is None else detail.wrap(self._console, max(width - beneath.cell_len, 30))
        for line in lines:
            self._print(beneath + line)

    # -- one line -----------------------------------------------------------------------------------------------------

    def _row(self, around: tuple[bool, ...], line: Line) -> list[Text]:
        return [
            Text.assemble((_branch(around), QUIET), self._name(line)),
            self._took(line),
            Text(count(line.total_tokens)),
            Text(cost(line.cost_usd)),
            Text(", ".join(self._notes(line)), QUIET),
        ]

    def _name(self, line: Line) -> Text:
        if line.turns:
            return Text(plural(len(line.parts), "iteration") if line.is_folded else safe(line.name), "italic")
        style = "" if line.status == NODE_OK else STATUS_STYLES[line.status]
        return Text(f"{safe(line.name)} ×{len(line.parts):,}" if line.is_folded else safe(line.name), style)

    def _took(self, line: Line) -> Text:
        begun = [node.start_ns for node in line.nodes if node.status == NODE_RUNNING and node.start_ns is not None]
        if begun:
            return Text(age(min(begun), self._now_ns), STATUS_STYLES[NODE_RUNNING])
        return Text(duration(line.duration_ms))

    def _notes(self, line: Line) -> Iterator[str]:
        for status in (NODE_RUNNING, INTERRUPTED):
            if line.count(status):
                yield f"{line.count(status):,} {status}" if line.is_folded else status
        if line.is_folded:
            if line.count(NODE_ERROR):
                yield plural(line.count(NODE_ERROR), "error")
            slowest = measured(line.slowest)
            if slowest.duration_ms is not None:
                yield f"slowest {safe(slowest.context_id or '')} {duration(slowest.duration_ms)}".replace("  ", " ")
        models = dict.fromkeys(safe(node.model) for node in line.nodes if node.model)
        yield from list(models)[:_MODELS_SHOWN]

    # -- what belongs to it -------------------------------------------------------------------------------------------

    def _details(self, line: Line) -> Iterator[Text]:
        yield from self._errors(line)
        if self._with_payloads and line.nodes:
            slowest = line.slowest
            assert isinstance(slowest, Branch)
            yield from _payloads(slowest.node, f"of {slowest.node.context_id} " if line.is_folded else "")

    def _errors(self, line: Line) -> Iterator[Text]:
        alike: dict[str, list[StoredNode]] = {}
        for node in line.nodes:
            if node.error:
                alike.setdefault(first_line(node.error), []).append(node)
        for message, nodes in list(alike.items())[:_ERRORS_SHOWN]:
            where = ", ".join(dict.fromkeys(safe(node.context_id) for node in nodes if node.context_id))
            times = f" ×{len(nodes):,}" if len(nodes) > 1 else ""
            at = f" ({preview(where, 60)})" if line.is_folded and where else ""
            yield Text.assemble((f"✗ {message}", "red"), (f"{times}{at}", QUIET))
            if self._whole_errors:
                yield from (Text(f"  {text}", "red") for text in safe_lines(nodes[0].error)[1:])
        if len(alike) > _ERRORS_SHOWN:
            yield Text(f"and {plural(len(alike) - _ERRORS_SHOWN, 'other error')}", "red")


def _payloads(node: StoredNode, of_which: str) -> Iterator[Text]:
    for label, value in (("in", node.input_data), ("out", node.output_data), ("meta", node.metadata)):
        if value is not None:
            yield Text.assemble((f"{label:4} {safe(of_which)}", "cyan"), (preview(value, _PREVIEW_CHARACTERS), QUIET))


def _branch(around: tuple[bool, ...]) -> str:
    """What leads from the line above to a node: rails of the levels around it, and its own branch."""
    if len(around) == 1:
        return ""
    return _rails(around[1:-1]) + ("├─ " if around[-1] else "└─ ")


def _rails(levels: tuple[bool, ...]) -> str:
    """The rails of levels that go on below this line."""
    rails = "".join("│  " if more else "   " for more in levels[:_DEEPEST_GUIDE])
    return rails if len(levels) <= _DEEPEST_GUIDE else f"{rails}({len(levels)} deep) "
