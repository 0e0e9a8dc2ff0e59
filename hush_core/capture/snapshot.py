"""Records whole: encoded with care, cut to a size, read with care.

The fast way (`record`) encodes values as they are; it fails on what msgpack does not know, and can make of odd dict
keys a record that no plain decoder reads. What is here takes any value, in bounded space and time, to what msgpack and
JSON both hold. Where both ways can encode a value they say the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from hush_core import model
from hush_core.capture.budget import BOUNDS, Bounds, Budget, unrecordable
from hush_core.capture.reread import Reader, split
from hush_core.capture.walk import Walk
from hush_core.interrupt import is_interrupt

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder().decode

#: Bytes of a record that the budget leaves free for the notes of what was left out.
_ROOM_FOR_NOTES: Final = 16 * 1024

_SMALL: Final = frozenset({int, float, bool})

#: The fields, by kind of record, that hold what the workflow's data is; all others are names, numbers and times.
_PAYLOADS: Final = frozenset(
    {"input_data", "output_data", "metadata", "media", "tags", "tracers", "tracer_config", "origin"}
)
FIELDS: Final[dict[object, tuple[str, ...]]] = {
    model.NODE: model.NODE_FIELDS,
    model.NODE_START: model.NODE_FIELDS,
    model.NODE_END: model.NODE_FIELDS,
    model.REQUEST_START: model.REQUEST_START_FIELDS,
    model.REQUEST_COMPLETE: model.REQUEST_COMPLETE_FIELDS,
}


def field_names(kind: object) -> tuple[str, ...]:
    """The names of a record's fields, in order; none if the kind is not known."""
    return FIELDS.get(kind, ()) if isinstance(kind, int) else ()


def _payload_places(kind: object, width: int) -> list[int]:
    """Where in a record of this kind and width the workflow's own data is: the last first, as outputs matter most."""
    names = field_names(kind)
    return [at for at in range(width - 1, 0, -1) if at > len(names) or names[at - 1] in _PAYLOADS]


#: Copies a field of a record within a budget, given its name ("" if it has none) and its value.
CopyField = Callable[[str, Any, Budget], Any]


def _walk(name: str, value: Any, budget: Budget) -> Any:
    return Walk(budget).value(value)


def walk_record(fields: Sequence[Any], bounds: Bounds = BOUNDS, copy: CopyField = _walk) -> list[Any]:
    """A copy of a record, of plain types alone. Names, numbers, times, usage and errors come first; the payloads share
    what is left, so that a large input cannot push out the output.
    """
    return _copy_record(fields, fields[0], bounds, copy)


def _copy_record(fields: Sequence[Any], kind: object, bounds: Bounds, copy: CopyField) -> list[Any]:
    names = ("", *field_names(kind), *[""] * len(fields))
    budget = Budget(bounds)
    budget.bytes_left -= min(_ROOM_FOR_NOTES, bounds.record_bytes // 4)
    payloads = _payload_places(kind, len(fields))
    copies: list[Any] = [None] * len(fields)
    for at in sorted(set(range(len(fields))) - set(payloads)):
        value = fields[at]
        if value is None:
            continue
        if type(value) in _SMALL or (type(value) is str and len(value) <= 64):  # nothing that could starve the others
            value = copy(names[at], value, budget)
        else:
            value = _share_of(budget, 2, names[at], value, copy)
        copies[at] = budget.text(value, bounds.name_chars) if type(value) is str else value
    payloads = [at for at in payloads if fields[at] is not None]
    for number, at in enumerate(payloads):
        copies[at] = _share_of(budget, len(payloads) - number, names[at], fields[at], copy)
    return copies


def _share_of(budget: Budget, parts: int, name: str, value: Any, copy: CopyField) -> Any:
    """Copy a value within one of the parts that the budget still has to serve."""
    part = budget.share(parts)
    before = part.bytes_left
    copied = copy(name, value, part)
    budget.bytes_left -= before - part.bytes_left
    return copied


def encode_carefully(fields: tuple[Any, ...], limit_bytes: int = BOUNDS.record_bytes) -> bytes:
    """Encode a record whatever is in it, to no more than `limit_bytes`, in bounded time.

    Never raises but an interrupt (see `hush_core.interrupt`). What could not be kept says so in its place.
    """
    try:
        return encode_walked(fields, limit_bytes)
    except BaseException as problem:  # no memory, or no stack left, for even a small walk
        if is_interrupt(problem):
            raise
        return last_resort(fields, problem)


def encode_walked(fields: Sequence[Any], limit_bytes: int = BOUNDS.record_bytes, copy: CopyField = _walk) -> bytes:
    """Encode a copy of a record to no more than `limit_bytes`. Raises when there is no memory or no stack for it."""
    return _encode_within(limit_bytes, lambda bounds: walk_record(fields, bounds, copy))


def encode_value_carefully(value: Any, copy: CopyField = _walk) -> bytes:
    """Encode one value of a record, as `encode_carefully` does the whole."""
    try:
        return _encode(copy("", value, Budget(BOUNDS)))
    except BaseException as problem:
        if is_interrupt(problem):
            raise
        return _encode(unrecordable(type(value), problem))


def _encode_within(limit_bytes: int, copy: Callable[[Bounds], list[Any]]) -> bytes:
    """Encode a copy of a record; copy it again within less if the notes in it have taken it over the limit."""
    bounds = BOUNDS._replace(record_bytes=limit_bytes, name_chars=min(BOUNDS.name_chars, limit_bytes // 128))
    while True:
        payload = _encode(copy(bounds))
        if len(payload) <= limit_bytes or bounds.record_bytes < 64:
            return payload
        bounds = bounds._replace(record_bytes=bounds.record_bytes // 4, name_chars=max(bounds.name_chars // 4, 16))


def last_resort(fields: Sequence[Any], problem: BaseException) -> bytes:
    """The small plain values of a record alone."""
    kept = []
    for value in fields:
        small = value is None or type(value) in (bool, float) or (type(value) is str and len(value) <= 256)
        if small or (type(value) is int and value.bit_length() < 64):
            try:
                _encode(value)
            except Exception as refused:
                if is_interrupt(refused):
                    raise
            else:
                kept.append(value)
                continue
        kept.append(unrecordable(type(value), problem))
    return _encode(kept)


# -- records that are bytes already -----------------------------------------------------------------------------------


def shrink(payload: bytes, limit_bytes: int) -> bytes:
    """An encoded record, cut to no more than `limit_bytes`: fields that are small stay as they are.

    Never raises but an interrupt (see `hush_core.interrupt`). A payload that is no record is given back as it is.
    """
    if len(payload) <= limit_bytes:
        return payload
    try:
        fields = split(payload)
        return _encode_within(limit_bytes, lambda bounds: _reread_record(fields, bounds, _cut))
    except BaseException as problem:
        if is_interrupt(problem):
            raise
        return payload


def decode_carefully(payload: bytes) -> list[Any]:
    """A record's fields from bytes that a plain decoder refuses, or makes something of that JSON cannot hold: dict keys
    that are containers themselves, nesting too deep for this interpreter.

    Raises JournalError if the payload is not exactly one array of values.
    """
    # The budget bounds depth and items; all bytes of a record that was accepted are let through.
    size = len(payload)
    bounds = BOUNDS._replace(record_bytes=8 * size + 4 * _ROOM_FOR_NOTES, text_chars=size, name_chars=size, time_s=10.0)
    return _reread_record(split(payload), bounds, _read)


def _reread_record(
    fields: list[memoryview], bounds: Bounds, copy: Callable[[str, memoryview | None, Budget], Any]
) -> list[Any]:
    kind = _read("", fields[0], Budget(bounds)) if fields else None
    return _copy_record([None if bytes(field[:2]) == _NIL else field for field in fields], kind, bounds, copy)


_NIL: Final = b"\xc0"


def _read(name: str, field: memoryview | None, budget: Budget) -> Any:
    return None if field is None else Reader(field, budget).whole()


def _cut(name: str, field: memoryview | None, budget: Budget) -> Any:
    """A field as it is if it is within the budget, else what of it is."""
    if field is None:
        return None
    if field.nbytes > budget.bytes_left:
        return _read(name, field, budget)
    budget.bytes_left -= field.nbytes
    return msgspec.Raw(field)
