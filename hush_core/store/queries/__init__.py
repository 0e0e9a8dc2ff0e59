"""Every read of the store: requests, their nodes, what is new, and the account of all records.

Readers open the file with `mode=ro` and hold no transaction: each read is one short statement that fetches all it
returns, so that the writer is never slowed and its log never kept from being copied back.
"""

from __future__ import annotations

from hush_core.store.queries.reader import open_reader, reading
from hush_core.store.queries.requests import (
    RequestFilter,
    find_request,
    get_request,
    iter_filtered,
    iter_requests,
    load_trace,
    shortest_beginnings,
)
from hush_core.store.stored import RequestTrace, StoredDelivery, StoredNode, StoredRequest

__all__ = [
    "RequestFilter",
    "RequestTrace",
    "StoredDelivery",
    "StoredNode",
    "StoredRequest",
    "find_request",
    "get_request",
    "iter_filtered",
    "iter_requests",
    "load_trace",
    "open_reader",
    "reading",
    "shortest_beginnings",
]
