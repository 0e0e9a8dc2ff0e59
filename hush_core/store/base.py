"""The stage as an interface. SQLite is its one implementation so far; a fleet will want another in its place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from hush_core.store.ledger import Ledger
from hush_core.store.sqlite import JournalState, Slice


class Store(Protocol):
    """What the writer needs of a store.

    Each call, and each of its ledger's (`claim`, `ack`, `release`), is one transaction: it does all it says, or raises
    and has done nothing.
    """

    ledger: Ledger

    def put(
        self, slices: list[Slice], *, keep_refused: Callable[[str, bytes], None], durable: bool = False
    ) -> None: ...
    def journals(self) -> dict[str, JournalState]: ...
    def end_journals(self, states: list[JournalState]) -> list[list[str]]: ...
    def forget_journals(self, states: list[JournalState]) -> None: ...
    def close(self) -> None: ...
