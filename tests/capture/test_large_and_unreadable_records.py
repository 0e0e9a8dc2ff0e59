"""A record that is too large is cut and stays a record; one that a plain decoder refuses can still be read."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hush_core.capture.record import encode
from hush_core.capture.snapshot import decode_carefully, encode_carefully, shrink
from hush_core.errors import JournalError
from hush_core.model import NODE, NODE_FIELDS, REQUEST_COMPLETE

from .conftest import time_stands_still

LIMIT = 4 * 1024 * 1024


def node(**fields: Any) -> tuple[Any, ...]:
    return (NODE, *(fields.get(name) for name in NODE_FIELDS))


def field(record: list[Any], name: str) -> Any:
    return record[1 + NODE_FIELDS.index(name)]


def shrunk(limit: int = LIMIT, **fields: Any) -> list[Any]:
    payload = encode(node(**fields))
    assert len(payload) > limit
    small = shrink(payload, limit)
    assert len(small) <= limit
    record: list[Any] = msgspec.msgpack.decode(small)
    assert len(record) == 1 + len(NODE_FIELDS)
    return record


def test_a_record_within_the_limit_is_not_touched() -> None:
    payload = encode(node(input_data={"a": 1}))
    assert shrink(payload, len(payload)) is payload


@pytest.mark.parametrize("letter", ["x", "é", "😀"])
def test_a_large_text_is_cut_and_says_how_long_it_was(letter: str) -> None:
    record = shrunk(request_id="r", input_data={"text": letter * 5_000_000, "k": 1}, output_data={"a": 1}, error="E")
    text = field(record, "input_data")["text"]
    assert text.startswith(letter * 1000)
    assert text.endswith("… [truncated: 5000000 chars]")
    assert field(record, "input_data")["k"] == 1
    assert field(record, "output_data") == {"a": 1}
    assert field(record, "error") == "E"


def test_shrinking_a_100_mb_record_is_quick() -> None:
    payload = encode(node(input_data={"text": "x" * 104_857_600}))
    began = time.process_time()
    shrink(payload, LIMIT)
    assert time.process_time() - began < 2.0


def test_a_large_list_keeps_its_first_items() -> None:
    record = shrunk(input_data=list(range(3_000_000)), output_data="ok")
    kept = field(record, "input_data")
    assert kept[:1000] == list(range(1000))
    assert kept[-1] == "… [truncated: 3000000 items]"
    assert field(record, "output_data") == "ok"


def test_a_large_dict_keeps_its_first_items() -> None:
    record = shrunk(output_data={f"key {n}": {"value": n} for n in range(400_000)})
    kept = field(record, "output_data")
    assert kept["key 0"] == {"value": 0}
    assert kept["…"] == "… [truncated: 400000 items]"


def test_many_texts_are_kept_until_the_record_is_full() -> None:
    record = shrunk(input_data={f"document {n}": "x" * 100_000 for n in range(60)})
    assert len(field(record, "input_data")) > 30


def test_fields_that_fit_stay_exactly_as_they_were() -> None:
    fits = {"float": 1.5, "time": "2020", "bytes": b"\xff", "nested": [{"a": None}]}
    record = shrunk(input_data="x" * 5_000_000, output_data=fits, metadata=fits, media=[fits], tags=["t"])
    assert [field(record, name) for name in ("output_data", "metadata", "media", "tags")] == [fits, fits, [fits], ["t"]]


@pytest.mark.parametrize("limit", [4096, 65_536, 1_000_000])
def test_any_limit_is_kept_to(limit: int) -> None:
    crowd = {"é" * n: ["y" * 300] * 30 for n in range(300)}
    shrunk(limit, request_id="r", input_data=crowd, output_data=crowd, metadata=crowd, error="e" * 300_000)


def test_the_configuration_of_a_completed_request_is_kept_before_its_tags() -> None:
    payload = encode((REQUEST_COMPLETE, "r", "T", {"url": "u"}, ["t" * 1000] * 9_000, "T"))
    record = msgspec.msgpack.decode(shrink(payload, LIMIT))
    assert record[:4] == [REQUEST_COMPLETE, "r", "T", {"url": "u"}]


def test_a_payload_that_is_no_record_is_given_back() -> None:
    assert shrink(b"\xc1" * 5000, 4096) == b"\xc1" * 5000


# -- reading what a plain decoder refuses -----------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Key:
    part: Any


def test_dict_keys_that_are_containers_are_read_as_their_json() -> None:
    payload = encode(node(request_id="r", input_data={Key((1, 2)): "a", (Key("k"),): "b"}, output_data={(1, 2): 3}))
    with pytest.raises(msgspec.DecodeError):
        msgspec.msgpack.decode(payload)
    record = decode_carefully(payload)
    assert field(record, "request_id") == "r"
    assert field(record, "input_data") == {'{"part":[1,2]}': "a", '[{"part":"k"}]': "b"}
    assert field(record, "output_data") == {"[1,2]": 3}


def test_nesting_too_deep_for_any_interpreter_is_read_to_the_bound() -> None:
    deep = b"\x91" * 200_000 + b"\x01"
    payload = b"\x95" + msgspec.msgpack.encode(99) + deep + msgspec.msgpack.encode("after") + deep + b"\xc3"
    record = decode_carefully(payload)
    assert record[0] == 99
    assert "below 64 levels" in str(record[1])
    assert record[2] == "after"
    assert record[4] is True


@pytest.mark.parametrize("missing", [1, 5, 30])
def test_a_record_whose_end_is_missing_is_refused(missing: int) -> None:
    payload = encode(node(request_id="r", node_name="n", input_data={"a": ["b"] * 20}))
    with pytest.raises(JournalError, match="its end is missing"):
        decode_carefully(payload[:-missing])
    with pytest.raises(JournalError):
        decode_carefully(payload + b"\x01" * missing)


@pytest.mark.parametrize("garbage", [b"", b"\xc1", b"\x01", b"\x81\x01\x02"])
def test_what_is_no_array_of_fields_is_refused(garbage: bytes) -> None:
    with pytest.raises(JournalError):
        decode_carefully(garbage)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tail: bytes) -> None:
    with contextlib.suppress(JournalError):
        record = decode_carefully(b"\x93\x01" + tail)
        assert record[:1] == [1]
        msgspec.json.encode(record)


plain_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)


@given(plain_values, plain_values)
def test_reading_with_care_gives_what_a_plain_decoder_gives(one: Any, other: Any) -> None:
    payload = encode(node(request_id="r", input_data=one, output_data=other))
    assert decode_carefully(payload) == msgspec.msgpack.decode(payload)


@given(
    st.dictionaries(
        st.integers() | st.text() | st.tuples(st.integers(), st.booleans()) | st.none() | st.floats(), st.none()
    )
)
def test_keys_read_with_care_are_those_of_the_careful_walk(value: Any) -> None:
    with time_stands_still():
        payload, carefully = encode(node(input_data=value)), encode_carefully(node(input_data=value))
    read = field(decode_carefully(payload), "input_data")
    walked = field(msgspec.msgpack.decode(carefully), "input_data")
    assert len(read) == len(walked) == len(value)
