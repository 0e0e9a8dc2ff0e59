"""What the tests of the writer's side share: journals to drain, of both kinds of segment."""

from __future__ import annotations

from tests.journal.conftest import journals, kind

__all__ = ["journals", "kind"]
