"""The command line: `hush traces`, `hush show`, `hush tail`, `hush doctor`, `hush prune`, `hush demo`.

A command is a module of its own, imported when it is called, so that each loads only what it needs. No command ever
changes the database: what has to change, the writer is asked to change.
"""

from __future__ import annotations

from hush_core.cli.group import Commands

__all__ = ["main"]

main = Commands(
    name="hush",
    help="Look at what your LLM workflows did: every request and node, with inputs, outputs, tokens, cost and errors.",
    epilog="Every command explains itself with --help. The database is HUSH_TRACES_DB, else ~/.hush/traces.db.",
)
