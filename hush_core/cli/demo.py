"""`hush demo`: a traced workflow on real text, and its trace."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from hush_core.cli.options import db_option, json_option

if TYPE_CHECKING:
    from rich.console import Console

    from hush_core.store.stored import RequestTrace

_STORED_WITHIN_S: Final = 10.0


@click.command()
@click.argument("folder", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--ask", "questions", multiple=True, metavar="QUESTION", help="A question to answer; may be given again.")
@json_option("the answers and the trace as one JSON object")
@db_option
def demo(folder: Path | None, questions: tuple[str, ...], as_json: bool, db_path: Path) -> None:
    """Run a small retrieval workflow, record it, and show its trace.

    It splits the Markdown and text files of FOLDER into passages, ranks them against several questions in a loop, and
    answers the questions at once, by quoting. Without a FOLDER it reads hush's own documents. It needs no network and
    no key; its code is hush_core/demo/workflow.py, and meant to be read.

    \b
    Examples:
      hush demo
      hush demo ~/notes
      hush demo ~/notes --ask "Where are the keys?" --ask "When is the next meeting?"
    """
    from hush_core.cli.render import print_json
    from hush_core.demo.workflow import run

    # The workflow is an app like any other, which says nowhere what its database is: it takes the environment's.
    os.environ.update(HUSH_TRACES_DB=str(db_path))
    try:
        state, answers = run(folder, questions)
    except ValueError as problem:
        raise click.ClickException(str(problem)) from problem
    request = _stored(db_path, state.request_id)
    if as_json:
        print_json({"answers": answers, "database": str(db_path), "trace": request.as_dict()})
    else:
        _print(request, answers, db_path)


def _stored(db_path: Path, request_id: str) -> RequestTrace:
    """The request as it is in the database, once the writer has stored it."""
    from hush_core import StoreError, get_store

    store = get_store(db_path)
    if not store.sync(_STORED_WITHIN_S):
        raise StoreError(
            f"The workflow ran and was recorded, but is not in {db_path} after {_STORED_WITHIN_S:g} s. "
            f"`hush doctor --db {db_path}` says why."
        )
    return store.get_request(request_id)


def _print(request: RequestTrace, answers: list[dict[str, Any]], db_path: Path) -> None:
    from rich.text import Text

    from hush_core.cli.render import QUIET, make_console, safe, say
    from hush_core.cli.show import print_request

    console = make_console()
    for answer in answers:
        console.print(Text(safe(answer["question"]), "bold"))
        source = f"  ({answer['source']})" if answer["source"] else ""
        say(console, Text.assemble(safe(answer["answer"]), (safe(source), QUIET)))
        console.print()
    print_request(request)
    _print_what_is_next(console, request, db_path)


def _print_what_is_next(console: Console, request: RequestTrace, db_path: Path) -> None:
    from click.core import ParameterSource
    from rich.text import Text

    from hush_core.cli.render import QUIET, padded
    from hush_core.demo import workflow

    named = click.get_current_context().get_parameter_source("db_path") is ParameterSource.COMMANDLINE
    where = f" --db {shlex.quote(str(db_path))}" if named else ""
    short = request.request_id[:8]
    commands = {
        f"hush show {short} --full{where}": "every node by itself",
        f"hush show {short} --io{where}": "what went in and came out",
        f"hush traces{where}": "all requests",
    }
    longest = max(map(len, commands))
    console.print()
    for command, what in commands.items():
        console.print(Text.assemble((padded(command, longest), "bold"), (f"  {what}", QUIET)))
    console.print(Text(f"The workflow is {workflow.__file__}", QUIET))
