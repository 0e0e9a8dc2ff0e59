"""What is inside an object that msgpack does not know: its parts as a dict or a list, or a text about it.

Classes of other libraries are known by their shape or by the module they live in; none is imported. All code of the
object's own that runs here may raise, lie or recurse: the walk that calls `open_up` contains it.
"""

from __future__ import annotations

import re
import sys
from collections import deque
from collections.abc import Iterable, Iterator, KeysView, Mapping, Sequence, Set, ValuesView
from decimal import Decimal
from itertools import islice
from typing import Any, Final
from uuid import UUID

import msgspec

from hush_core.capture.budget import Budget, name_of, truncated, unrecordable
from hush_core.interrupt import is_interrupt

_ABSENT: Final = object()
#: `<_io.TextIOWrapper name='x' at 0x7f12...>`: an address tells nothing and makes equal traces differ.
_ADDRESS: Final = re.compile(r" at 0x[0-9a-fA-F]+")
_MODULE_OF_NUMPY: Final = "numpy"


def open_up(value: Any, kind: type, budget: Budget) -> Any:
    """What stands for an object: a dict or list of its parts, not yet walked, or a simpler value or a text.

    Reads no more items than a container may have, and stops when the budget's time is up. A generator, a file or any
    other iterator is never advanced.
    """
    if issubclass(kind, BaseException):
        return f"{name_of(kind)}: {value}"
    if issubclass(kind, (Decimal, UUID)):
        return str(value)
    if issubclass(kind, msgspec.Struct):  # under the names that msgspec writes
        return _fields(value, kind.__struct_fields__, kind.__struct_encode_fields__)
    names = _field_names(kind)
    if names is not None:
        return _fields(value, names)
    if issubclass(kind, Mapping):
        return _mapped(value, budget)
    if issubclass(kind, (deque, Set, KeysView, ValuesView, Sequence)) and not issubclass(kind, range):
        return _listed(value, budget)
    numpy = sys.modules.get(_MODULE_OF_NUMPY)
    if numpy is not None and issubclass(kind, numpy.ndarray):
        return _array(value, budget)
    if numpy is not None and issubclass(kind, numpy.generic):
        plain = value.item()
        return str(value) if type(plain) is kind else plain
    return _described(value, kind)


def _first(items: Iterable[Any], budget: Budget) -> Iterator[Any]:
    """As many items as may be kept in the time there is."""
    for item in islice(items, budget.bounds.items - 1):
        yield item
        if budget.is_spent():
            return


def _listed(value: Any, budget: Budget) -> list[Any]:
    items = iter(value)
    parts = list(_first(items, budget))
    if next(items, _ABSENT) is not _ABSENT:
        parts.append(truncated(f"more than {len(parts)} items"))
    return parts


def _mapped(value: Any, budget: Budget) -> dict[Any, Any]:
    items = iter(value.items())
    parts = dict(_first(items, budget))
    if next(items, _ABSENT) is not _ABSENT:
        parts["…"] = truncated(f"more than {len(parts)} items")
    return parts


def _array(value: Any, budget: Budget) -> Any:
    """A numpy array as nested lists; of one with more elements than a container may have, the first ones, flat."""
    most = budget.bounds.items - 1
    if value.size <= most:
        return value.tolist()
    shape = "x".join(map(str, value.shape))
    return [*value.flat[:most].tolist(), truncated(f"{value.size} items of shape {shape}")]


# -- classes with declared fields -------------------------------------------------------------------------------------


def _class_attribute(kind: type, name: str) -> Any:
    """An attribute of a class as it was declared: no descriptor and no `__getattr__` is asked."""
    for owner in kind.__mro__:
        found = vars(owner).get(name, _ABSENT)
        if found is not _ABSENT:
            return found
    return None


def _field_names(kind: type) -> Iterable[str] | None:
    """The fields of a dataclass, an attrs class, a pydantic model; None for any other class."""
    declared = _class_attribute(kind, "__dataclass_fields__")
    if isinstance(declared, dict):
        return [name for name, field in declared.items() if getattr(field, "_field_type", None) is _dataclass_field()]
    attributes = _class_attribute(kind, "__attrs_attrs__")
    if isinstance(attributes, tuple):
        return [attribute.name for attribute in attributes]
    return _pydantic_names(kind)


def _dataclass_field() -> object:
    """What marks a dataclass's own fields; ClassVar and InitVar pseudo-fields are marked otherwise."""
    dataclasses = sys.modules["dataclasses"]
    return dataclasses._FIELD


def _pydantic_names(kind: type) -> Iterable[str] | None:
    """A model's fields but those it excludes from its own dumps, which are mostly secrets."""
    fields = _class_attribute(kind, "__pydantic_fields__")
    if fields is None:
        fields = _class_attribute(kind, "model_fields")
    if isinstance(fields, dict) and _class_attribute(kind, "model_dump") is not None:
        return [name for name, field in fields.items() if not getattr(field, "exclude", None)]
    if _class_attribute(kind, "__fields_set__") is None and _class_attribute(kind, "__validators__") is None:
        return None
    fields = _class_attribute(kind, "__fields__")  # pydantic 1
    if not isinstance(fields, dict):
        return None
    return [name for name, field in fields.items() if not getattr(getattr(field, "field_info", None), "exclude", None)]


def _fields(value: Any, names: Iterable[str], written_as: Iterable[str] | None = None) -> dict[str, Any]:
    """The fields that are set. A model's extra fields are with them."""
    names = tuple(names)
    named = zip(names, names if written_as is None else written_as, strict=True)
    parts = {written: part for name, written in named if (part := _attribute(value, name)) is not _ABSENT}
    extra = _attribute(value, "__pydantic_extra__")
    return {**parts, **extra} if isinstance(extra, dict) else parts


def _attribute(value: Any, name: str) -> Any:
    try:
        return getattr(value, name, _ABSENT)
    except BaseException as problem:  # one bad property does not hide the other fields
        if is_interrupt(problem):
            raise
        return unrecordable(type(value), problem)


# -- anything else ----------------------------------------------------------------------------------------------------

_HEAP_TYPE: Final = 1 << 9  # Py_TPFLAGS_HEAPTYPE: a class made by a `class` statement, not by C


def _described(value: Any, kind: type) -> Any:
    """A text about an object, or the public attributes of one that has nothing to say about itself."""
    if issubclass(kind, type):
        return f"<class '{value.__module__}.{name_of(value)}'>"
    if _class_attribute(kind, "isoformat") is not None:  # datetimes: with a zone, subclassed, or another library's
        return value.isoformat()
    if _class_attribute(kind, "__fspath__") is not None:
        return value.__fspath__()
    if kind.__flags__ & _HEAP_TYPE and _class_attribute(kind, "__repr__") is object.__repr__:
        return Attributes(value, kind)
    return Repr(_ADDRESS.sub("", repr(value)))


class Repr(str):
    """A text that an object's own `repr` gave: what is in it, and under which names, only the object knows."""

    __slots__ = ()


class Attributes(dict[str, Any]):
    """The public attributes of a plain object, under its class's name."""

    def __init__(self, value: Any, kind: type) -> None:
        super().__init__({"<class>": name_of(kind)})
        attributes = getattr(value, "__dict__", None)
        if isinstance(attributes, dict):
            self.update((name, part) for name, part in dict.copy(attributes).items() if not str(name).startswith("_"))
