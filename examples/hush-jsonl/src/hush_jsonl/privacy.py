"""Which requests never leave the machine, whatever tracer they are due to."""

from __future__ import annotations

from hush_core import FlushData


def is_private(flush_data: FlushData) -> bool:
    """Whether the request was tagged "private". The local database keeps it all the same."""
    return "private" in flush_data["tags"]
