"""Lists of requests, newest first, and one request by its id or the beginning of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from hush_core.errors import StoreError, UnknownRequestError
from hush_core.model import COMPLETED, REQUEST_STATUSES, RUNNING
from hush_core.store.queries.nodes import load_nodes
from hush_core.store.queries.reader import reading
from hush_core.store.rows import to_ns
from hush_core.store.stored import RequestTrace, StoredDelivery, StoredRequest
from hush_core.store.tree import order

#: Rows in one read: short, so that the writer's log is never held; large, so that a full scan is few reads.
_PAGE: Final = 500
_NAMED_IN_ERROR: Final = 5
_LAST_CHARACTER: Final = "\U0010ffff"

#: While a request runs, its end is that of the last node: it has taken nothing yet.
_COMPUTED: Final = {"duration_ms": f"CASE WHEN r.status <> '{RUNNING}' THEN (r.end_ns - r.start_ns) / 1e6 END"}
#: Of a request `r`, for `to_request`.
REQUEST_COLUMNS: Final = ", ".join(_COMPUTED.get(name, f"r.{name}") for name in StoredRequest.__struct_fields__)


class RequestFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which requests are wanted: those that meet every condition that is given."""

    tags: tuple[str, ...] = ()  #: all of them
    status: str | None = None
    workflow: str | None = None
    user: str | None = None
    session: str | None = None
    since_ns: int | None = None  #: recorded at this time or later

    def where(self, index: str | None = None) -> tuple[str, list[Any]]:
        """The conditions on a request `r` as SQL ("1" if there are none), and their parameters.

        :param index: the column whose index is to find the requests, or None to leave the indexes to other conditions.
            There are no statistics for SQLite to choose by; a `+` before a column keeps it from that column's index.
        """
        columns = {
            "session_id": self.session, "user_id": self.user, "status": self.status, "workflow_name": self.workflow
        }  # fmt: skip
        sql = [f"{'' if name == index else '+'}r.{name} = ?" for name, value in columns.items() if value is not None]
        values: list[Any] = [value for value in columns.values() if value is not None]
        if (
            index == "status"
        ):  # its index leaves out the completed, and is used only if SQLite is told that they are out
            sql.append(f"r.status <> '{COMPLETED}'")
        sql += ["EXISTS (SELECT 1 FROM request_tag t WHERE t.tag = ? AND t.request = r.id)"] * len(self.tags)
        values += self.tags
        if self.since_ns is not None:
            sql.append("r.recorded_ns >= ?")
            values.append(self.since_ns)
        return " AND ".join(sql) or "1", values

    def best_index(self) -> str | None:
        """What likely finds the fewest requests; "tag" stands for the first tag."""
        unfinished = self.status if self.status != COMPLETED else None
        candidates = {
            "session_id": self.session, "user_id": self.user, "tag": self.tags or None, "status": unfinished,
            "workflow_name": self.workflow,
        }  # fmt: skip
        return next((name for name, value in candidates.items() if value is not None), None)


def iter_requests(
    db_path: Path | str,
    *,
    tag: str | Sequence[str] | None = None,
    status: str | None = None,
    workflow: str | None = None,
    user: str | None = None,
    session: str | None = None,
    since: str | datetime | int | None = None,
    limit: int | None = None,
) -> Iterator[StoredRequest]:
    """The requests that meet every condition, newest first; all of them if no limit is given.

    Reads in pages, each short, so it may be left half way and may run for as long as it likes. A request that is
    recorded meanwhile is not part of it.

    :param tag: a tag, or several that must all be there.
    :param status: one of `hush_core.model.REQUEST_STATUSES`.
    :param since: recorded at that time or later: ISO 8601 text, a datetime, or nanoseconds since the epoch.

    Raises StoreError as `open_reader`, and for a status or a time that is none.
    """
    if status is not None and status not in REQUEST_STATUSES:
        raise StoreError(f"No request has the status {status!r}. Valid: {', '.join(REQUEST_STATUSES)}.")
    since_ns = to_ns(since)
    if since is not None and since_ns is None:
        raise StoreError(f"{since!r} is not a time. Give ISO 8601 text such as 2025-01-31T12:00, or a datetime.")
    tags = (tag,) if isinstance(tag, str) else tuple(tag or ())
    wanted = RequestFilter(
        tags=tags, status=status, workflow=workflow, user=user, session=session, since_ns=since_ns
    )  # fmt: skip
    return iter_filtered(db_path, wanted, limit)


def iter_filtered(db_path: Path | str, wanted: RequestFilter, limit: int | None = None) -> Iterator[StoredRequest]:
    """As `iter_requests`, for conditions that are checked already."""
    with reading(db_path) as connection:
        after: StoredRequest | None = None
        left = limit
        while left is None or left > 0:
            size = _PAGE if left is None else min(left, _PAGE)
            page = newest(connection, wanted, limit=size, before=after)
            yield from page
            if len(page) < size:
                return
            after = page[-1]
            left = None if left is None else left - len(page)


def newest(
    connection: sqlite3.Connection, wanted: RequestFilter, *, limit: int, before: StoredRequest | None = None
) -> list[StoredRequest]:
    """One page, newest first: of the requests that meet the conditions, those older than one that is given."""
    place = None if before is None else (before.recorded_ns, before.id)
    return [to_request(row) for row in newest_rows(connection, wanted, REQUEST_COLUMNS, limit=limit, before=place)]


def newest_rows(
    connection: sqlite3.Connection,
    wanted: RequestFilter,
    columns: str,
    *,
    limit: int,
    before: tuple[int, int] | None = None,
) -> list[Any]:
    """As `newest`, of some columns of `r`; a page's last request is given by its ``(recorded_ns, id)``."""
    if len(wanted.tags) > 1:
        wanted = msgspec.structs.replace(wanted, tags=_rarest_first(connection, wanted.tags))
    index = wanted.best_index()
    where, values = wanted.where(index)
    source, order_by, older = "request r", "r.recorded_ns DESC, r.id DESC", "(r.recorded_ns, r.id) < (?, ?)"
    place: tuple[int, ...] = before or ()
    if index == "tag":
        # A tag's index has its requests by row, and rows are numbered in the order in which they were recorded.
        source, order_by, older = "request_tag i CROSS JOIN request r ON r.id = i.request", "i.request DESC", "r.id < ?"
        where, values, place = f"i.tag = ? AND {where}", [wanted.tags[0], *values], place[1:]
    if place:
        where, values = f"{where} AND {older}", [*values, *place]
    sql = f"SELECT {columns} FROM {source} WHERE {where} ORDER BY {order_by} LIMIT ?"
    return connection.execute(sql, (*values, limit)).fetchall()


def oldest_settled(
    connection: sqlite3.Connection, wanted: RequestFilter, *, limit: int, after: Sequence[int] | None
) -> list[tuple[int, int]]:
    """One page of the requests that meet the conditions and do not run any more, oldest first: (row, recorded_ns).

    :param after: (recorded_ns, row) of the last one of the page before.
    """
    where, values = wanted.where()
    sql = (
        f"SELECT r.id, r.recorded_ns FROM request r WHERE {where} AND r.status <> '{RUNNING}'"
        " AND (r.recorded_ns, r.id) > (?, ?) ORDER BY r.recorded_ns, r.id LIMIT ?"
    )
    place = (-1, -1) if after is None else tuple(after)
    return connection.execute(sql, (*values, *place, limit)).fetchall()


def _rarest_first(connection: sqlite3.Connection, tags: tuple[str, ...]) -> tuple[str, ...]:
    """Tags in the order of how many requests bear them; beyond a page, many is many."""
    count = f"SELECT count(*) FROM (SELECT 1 FROM request_tag WHERE tag = ? LIMIT {_PAGE})"
    return tuple(sorted(tags, key=lambda tag: int(connection.execute(count, (tag,)).fetchone()[0])))


def to_request(row: tuple[Any, ...]) -> StoredRequest:
    """A request of the values of `REQUEST_COLUMNS`."""
    fields = dict(zip(StoredRequest.__struct_fields__, row, strict=True))
    fields["tags"] = msgspec.json.decode(fields["tags"])
    return StoredRequest(**fields)


def get_request(db_path: Path | str, request_id: str) -> RequestTrace:
    """The request with that id, or the one whose id begins so, with all its nodes and deliveries.

    The nodes are in the order in which they ran, parents before children, each with the `parent_id` of its own. Raises
    UnknownRequestError when none or more than one fits, StoreError as `open_reader`.
    """
    with reading(db_path) as connection:
        return load_trace(connection, find_request(connection, request_id), payloads=True)


def load_trace(connection: sqlite3.Connection, request: StoredRequest, *, payloads: bool) -> RequestTrace:
    """A request with all its nodes, as `get_request` has them, and its deliveries."""
    return RequestTrace(
        **msgspec.structs.asdict(request),
        nodes=order(load_nodes(connection, request.id, payloads=payloads)),
        deliveries=load_deliveries(connection, request.id),
    )


def find_request(connection: sqlite3.Connection, request_id: str) -> StoredRequest:
    """The request with exactly that id, else the only one whose id begins so.

    Raises UnknownRequestError that names those that fit, or the ones that come near.
    """
    select = f"SELECT {REQUEST_COLUMNS} FROM request r WHERE r.request_id"
    exact = connection.execute(f"{select} = ?", (request_id,)).fetchall()
    if exact:
        return to_request(exact[0])
    beginning = (request_id, request_id + _LAST_CHARACTER, _NAMED_IN_ERROR + 1)
    found = (
        connection.execute(f"{select} >= ? AND r.request_id < ? LIMIT ?", beginning).fetchall() if request_id else []
    )
    if len(found) == 1:
        return to_request(found[0])
    raise _ambiguous(request_id, [to_request(row) for row in found]) if found else _unknown(connection, request_id)


def shortest_beginnings(connection: sqlite3.Connection, request_ids: Iterable[str], least: int = 8) -> dict[str, int]:
    """How many characters of each id are enough for `find_request` today, at least so many."""
    lengths = {}
    for request_id in request_ids:
        neighbours = connection.execute(
            "SELECT (SELECT max(request_id) FROM request WHERE request_id < :id),"
            " (SELECT min(request_id) FROM request WHERE request_id > :id)",
            {"id": request_id},
        ).fetchone()
        shared = max(_shared(request_id, other or "") for other in neighbours)
        lengths[request_id] = min(max(shared + 1, least), len(request_id))
    return lengths


def _shared(one: str, other: str) -> int:
    """How many characters two texts begin with together."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _ambiguous(request_id: str, found: list[StoredRequest]) -> UnknownRequestError:
    named = ", ".join(_name(request) for request in found[:_NAMED_IN_ERROR])
    more = " and more" if len(found) > _NAMED_IN_ERROR else ""
    return UnknownRequestError(f"More than one request id begins with {request_id!r}: {named}{more}. Give more of it.")


def _unknown(connection: sqlite3.Connection, request_id: str) -> UnknownRequestError:
    import difflib

    latest = newest(connection, RequestFilter(), limit=_PAGE)
    if not latest:
        return UnknownRequestError(f"No request {request_id!r}: the database holds none yet.")
    near = difflib.get_close_matches(request_id, [request.request_id for request in latest], n=3, cutoff=0.6)
    if near:
        return UnknownRequestError(f"No request id begins with {request_id!r}. Near: {', '.join(map(repr, near))}.")
    named = ", ".join(_name(request) for request in latest[:3])
    return UnknownRequestError(
        f"No request id begins with {request_id!r}. The newest are {named}; `hush traces` lists more."
    )


def _name(request: StoredRequest) -> str:
    return f"{request.request_id!r} ({request.workflow_name}, {request.start_time})"


def load_deliveries(connection: sqlite3.Connection, request: int) -> list[StoredDelivery]:
    """What became of a request, given by its row, at each of its tracers."""
    columns = ", ".join(
        f"{'t' if name.startswith('tracer_') else 'd'}.{name}" for name in StoredDelivery.__struct_fields__
    )
    sql = f"SELECT {columns} FROM delivery d JOIN tracer t ON t.id = d.tracer WHERE d.request = ? ORDER BY d.id"
    rows = connection.execute(sql, (request,)).fetchall()
    return [StoredDelivery(**dict(zip(StoredDelivery.__struct_fields__, row, strict=True))) for row in rows]
