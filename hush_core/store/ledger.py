"""The ledger of deliveries: who must still get what, who is trying, and who has it.

::

    pending --claim--> flushing --ack--> flushed
       ^                  |
       +----release-------+--release, for good--> failed (a dead letter, kept)

A claim is a lease with a fence. When its process dies, the lease runs out and the next claim takes the delivery, with a
higher fence; what the late process still says then changes nothing. So every state has an exit, whatever dies.
"""

from __future__ import annotations

import sqlite3
from typing import Final, NamedTuple

_CLAIM: Final = """
UPDATE delivery SET status = 'flushing', attempts = attempts + 1, lease_fence = lease_fence + 1, lease_until_ns = :until
WHERE id IN (
    SELECT id FROM delivery
    WHERE (:tracer IS NULL OR tracer_name = :tracer)
      AND ((status = 'pending' AND next_attempt_ns <= :now) OR (status = 'flushing' AND lease_until_ns <= :now))
    ORDER BY next_attempt_ns, id LIMIT :limit)
RETURNING id, request, tracer_name, tracer_type, tracer_config, origin, attempts, lease_fence,
    next_attempt_ns"""
_ACK: Final = """
UPDATE delivery SET status = 'flushed', flushed_ns = ?, lease_until_ns = NULL, last_error = NULL
WHERE id = ? AND lease_fence = ? AND status = 'flushing'"""
_RELEASE: Final = """
UPDATE delivery SET status = ?, next_attempt_ns = coalesce(?, next_attempt_ns), lease_until_ns = NULL, last_error = ?
WHERE id = ? AND lease_fence = ? AND status = 'flushing'"""


class Claim(NamedTuple):
    """A delivery that is leased to one attempt."""

    id: int
    request: int  #: the request's row, not its public id
    tracer_name: str
    tracer_type: str
    tracer_config: str  #: JSON text
    origin: int | None
    attempt: int  #: 1 for the first
    fence: int


class Ledger:
    """The deliveries of one database.

    Owned by the writer's loop: every change is a transaction of its own connection.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def claim(self, *, now_ns: int, lease_s: float, limit: int, tracer_name: str | None = None) -> list[Claim]:
        """Lease up to ``limit`` deliveries that are due, or whose lease has run out, the longest due first."""
        rows = self._connection.execute(
            _CLAIM,
            {"tracer": tracer_name, "now": now_ns, "until": now_ns + int(lease_s * 1e9), "limit": limit},
        ).fetchall()
        return [Claim(*row[:-1]) for row in sorted(rows, key=lambda row: (row[-1], row[0]))]

    def ack(self, claim: Claim, *, now_ns: int) -> bool:
        """The backend took it. When this returns True, it is never claimed again.

        False if the lease was lost meanwhile: another attempt has it, and nothing is changed.
        """
        return self._connection.execute(_ACK, (now_ns, claim.id, claim.fence)).rowcount == 1

    def release(self, claim: Claim, *, error: str, next_attempt_ns: int | None) -> bool:
        """The attempt failed.

        It is due again at a time, or a dead letter if that is None. False if the lease was lost.
        """
        status = "failed" if next_attempt_ns is None else "pending"
        row = (status, next_attempt_ns, error, claim.id, claim.fence)
        return self._connection.execute(_RELEASE, row).rowcount == 1
