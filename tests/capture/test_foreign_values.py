"""Values of libraries that hush never imports. Skipped, and shown as such, where the library is not installed."""

from __future__ import annotations

import datetime
from typing import Any

import msgspec
import pytest

from hush_core.capture.record import encode


def recorded(value: Any) -> Any:
    kept = msgspec.msgpack.decode(encode((99, value)))[1]
    msgspec.json.encode(kept)
    return kept


def test_numpy_arrays_and_scalars_are_lists_and_numbers() -> None:
    np = pytest.importorskip("numpy")
    assert recorded({"a": np.arange(4).reshape(2, 2)}) == {"a": [[0, 1], [2, 3]]}
    assert recorded([np.float64(1.5), np.int32(3), np.bool_(True), np.str_("x")]) == [1.5, 3, True, "x"]
    assert recorded({np.int64(1): np.datetime64("2020-01-01")}) == {"1": "2020-01-01"}
    assert recorded(np.array([{"a": 1}, None], dtype=object)) == [{"a": 1}, None]
    assert recorded(np.longdouble(1)) == "1.0"


def test_a_large_numpy_array_is_cut_visibly() -> None:
    np = pytest.importorskip("numpy")
    kept = recorded(np.zeros((300, 300)))
    assert len(kept) == 10_000
    assert kept[-1] == "… [truncated: 90000 items of shape 300x300]"


def test_pydantic_models_are_their_fields_without_those_they_exclude() -> None:
    pydantic = pytest.importorskip("pydantic", minversion="2")

    class Login(pydantic.BaseModel):  # type: ignore[misc, name-defined]
        model_config = pydantic.ConfigDict(extra="allow")
        user: str
        password: pydantic.SecretStr  # type: ignore[name-defined]
        hidden: str = pydantic.Field("secret", exclude=True)

    login = Login(user="u", password="secret", more=[datetime.date(2020, 1, 1)])
    kept = recorded({"login": login})["login"]
    assert kept == {"user": "u", "password": "SecretStr('**********')", "more": ["2020-01-01"]}


def test_attrs_classes_are_their_fields() -> None:
    attrs = pytest.importorskip("attrs")
    point = attrs.make_class("Point", ["x", "y"])
    assert recorded(point(1, object())) == {"x": 1, "y": "<object object>"}
