"""A record as bytes: the one place where the way to encode is chosen.

Bytes share nothing with the workflow's objects: what the workflow does to them after the call changes no record.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from hush_core.interrupt import is_interrupt

if TYPE_CHECKING:
    from hush_core.capture.mask import Mask

#: Encodes a record, a tuple of its kind and fields. May raise anything.
Encode = Callable[[Any], bytes]

_encode_fast: Final[Encode] = msgspec.msgpack.Encoder().encode
#: The C encoder recurses on the C stack and trusts the interpreter's limit to stop it: some 200 bytes a level, 400 with
#: dataclasses. Where a program has raised the limit beyond this, a cycle would crash it on Python 3.10 and 3.11.
_SAFE_RECURSION_LIMIT: Final = 10_000


def encoder(mask: Mask | None = None) -> Encode:
    """The way to encode records from now on: fast, or with care from the start, or through a mask.

    What the fast way gives may not be what a plain decoder takes; see `snapshot.decode_carefully`.
    """
    if mask is not None:
        return mask.encode
    if sys.getrecursionlimit() > _SAFE_RECURSION_LIMIT and sys.version_info < (3, 12):
        return rescue
    return _encode_fast


def rescuer(mask: Mask | None = None) -> Encode:
    """The way to encode a record that the encoder could not."""
    return rescue if mask is None else mask.encode


def value_encoder(mask: Mask | None = None) -> Encode:
    """The way to encode values that will be part of a record."""
    return encode_value if mask is None else mask.encode_value


def rescue(fields: tuple[Any, ...]) -> bytes:
    """Encode what the fast way could not. Never raises but an interrupt, see `snapshot.encode_carefully`."""
    from hush_core.capture.snapshot import encode_carefully

    return encode_carefully(fields)


def encode(fields: tuple[Any, ...], mask: Mask | None = None) -> bytes:
    """Encode a record, the fast way if it can be. Never raises but an interrupt."""
    try:
        return encoder(mask)(fields)
    except BaseException as problem:
        if is_interrupt(problem):
            raise
        return rescuer(mask)(fields)


def encode_value(value: Any) -> bytes:
    """Encode a value that will be part of a record, to be embedded as `msgspec.Raw`. As `encode`."""
    encode_now = encoder()
    try:
        return (encode_now if encode_now is _encode_fast else _rescue_value)(value)
    except BaseException as problem:
        if is_interrupt(problem):
            raise
        return _rescue_value(value)


def _rescue_value(value: Any) -> bytes:
    from hush_core.capture.snapshot import encode_value_carefully

    return encode_value_carefully(value)
