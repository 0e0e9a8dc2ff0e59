"""What the writer and a delivery process say to each other: one JSON object a line, over a socket pair.

The writer says `Setup` once, then `Work` as often as it has some. The delivery process answers `Ready` or `Unusable`
once, and for each job `Begun` before its tracer is called and one outcome in a `Settled` after it. When either side's
end closes, the other side takes it for dead.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

#: What one attempt came to. "untried": not attempted after all; it is put back and the attempt is not counted.
OutcomeKind = Literal["delivered", "skipped", "retry", "permanent", "configuration", "untried"]


class Setup(msgspec.Struct, tag="setup"):
    """Writer to process, once: which tracer it serves, of which database."""

    db_path: str
    tracer_name: str
    tracer_type: str
    target: str  #: "module:Class", or "" when only the type is known
    config: dict[str, Any]  #: references unresolved
    memory_bytes: int | None = None  #: what the process may allocate; None: no limit


class Job(msgspec.Struct):
    """One delivery to attempt."""

    id: int  #: of the delivery's row
    request: int  #: of the request's row
    attempt: int  #: 1 for the first


class Work(msgspec.Struct, tag="work"):
    """Writer to process: attempt these, in this order."""

    jobs: list[Job]


class Ready(msgspec.Struct, tag="ready"):
    """Process to writer: the tracer's class is loaded and its configuration resolved."""


class Unusable(msgspec.Struct, tag="unusable"):
    """Process to writer: it can serve no request until somebody acts (a missing plugin or variable). It ends."""

    error: str


class Begun(msgspec.Struct, tag="begun"):
    """Process to writer: the tracer is being called with these deliveries; should the process die, they are why."""

    ids: list[int]


class Outcome(msgspec.Struct, omit_defaults=True):
    """What one attempt came to."""

    id: int
    kind: OutcomeKind
    error: str | None = None  #: secrets redacted; for "delivered" None, or what the backend noted
    retry_after_s: float | None = None  #: a floor that the backend asked for


class Settled(msgspec.Struct, tag="settled"):
    """Process to writer: these attempts are over."""

    outcomes: list[Outcome]


ToProcess = Setup | Work
ToWriter = Ready | Unusable | Begun | Settled

_encode: Final = msgspec.json.Encoder().encode
to_process: Final = msgspec.json.Decoder(ToProcess).decode
to_writer: Final = msgspec.json.Decoder(ToWriter).decode


def line(message: ToProcess | ToWriter) -> bytes:
    """A message as it goes over the socket."""
    return _encode(message) + b"\n"


def split_lines(buffer: bytearray) -> list[bytes]:
    """Take the whole lines from a buffer of received bytes; what is left in it is the beginning of the next."""
    end = buffer.rfind(b"\n")
    if end < 0:
        return []
    lines = bytes(buffer[:end]).split(b"\n")
    del buffer[: end + 1]
    return lines
