"""Any value at all becomes a bounded, faithful record, and recording never raises."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import datetime
import decimal
import enum
import math
import pathlib
import re
import sys
import threading
import time
import types
import uuid
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hush_core.capture.record import encode, encode_value, encoder, rescue
from hush_core.capture.snapshot import decode_carefully, encode_carefully
from hush_core.model import NODE, NODE_FIELDS

from .conftest import time_stands_still

LIMIT = 4 * 1024 * 1024


def node(**fields: Any) -> tuple[Any, ...]:
    return (NODE, *(fields.get(name) for name in NODE_FIELDS))


def field(payload: bytes, name: str) -> Any:
    return msgspec.msgpack.decode(payload)[1 + NODE_FIELDS.index(name)]


def recorded(value: Any) -> Any:
    """What a record holds of an input, once it has been walked."""
    payload = encode_carefully(node(request_id="r", input_data=value, error="e"))
    assert len(payload) <= LIMIT
    assert field(payload, "request_id") == "r"
    assert field(payload, "error") == "e"
    kept = field(payload, "input_data")
    msgspec.json.encode(kept)  # what msgpack holds, JSON text can hold too
    return kept


class Colour(enum.Enum):
    RED = "red"
    PAIR = (1, 2)


class Level(enum.IntEnum):
    LOW = 1


class Text(str):
    pass


class Count(int):
    pass


class Ratio(float):
    pass


@dataclasses.dataclass
class Point:
    x: Any
    y: Any = None
    everywhere: dataclasses.InitVar[int] = 0


@dataclasses.dataclass(frozen=True)
class Key:
    part: str


class Pair(collections.namedtuple("Pair", "left right")):
    pass


class Struct(msgspec.Struct):
    a: Any


class Plain:
    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


def a_function() -> None:
    pass


async def a_coroutine() -> None:
    pass


FAITHFUL: list[tuple[Any, Any]] = [
    ({"a": [1, 2.5, None, True]}, {"a": [1, 2.5, None, True]}),
    (Text("a"), "a"),
    (Count(3), 3),
    (Ratio(1.5), 1.5),
    (Colour.RED, "red"),
    (Colour.PAIR, [1, 2]),
    (Level.LOW, 1),
    (b"\xff", b"\xff"),
    (bytearray(b"ab"), b"ab"),
    (memoryview(b"abcd")[::2], b"ac"),
    ("a\ud800b", "a\\ud800b"),
    ("\0", "\0"),
    (2**64 - 1, 2**64 - 1),
    (2**64, "18446744073709551616"),
    (-(2**70), "-1180591620717411303424"),
    (-0.0, -0.0),
    (math.inf, math.inf),
    ((1, 2), [1, 2]),
    (Pair(1, 2), [1, 2]),
    (frozenset({1}), [1]),
    (collections.deque([1, 2]), [1, 2]),
    (collections.OrderedDict(a=1), {"a": 1}),
    (collections.ChainMap({"a": 1}), {"a": 1}),
    (collections.UserDict(a=1), {"a": 1}),
    (collections.UserList([1]), [1]),
    (types.MappingProxyType({"a": 1}), {"a": 1}),
    ({"a": 1}.keys(), ["a"]),
    ({"a": 1}.values(), [1]),
    (range(3), "range(0, 3)"),
    (Point(1, Point(2)), {"x": 1, "y": {"x": 2, "y": None}}),
    (Struct(1), {"a": 1}),
    (Plain(a=1, _b=2), {"<class>": "Plain", "a": 1}),
    (types.SimpleNamespace(a=1), "namespace(a=1)"),
    (datetime.datetime(2020, 1, 2, 3, 4, 5, 6), "2020-01-02T03:04:05.000006"),
    (datetime.datetime(2020, 1, 2, tzinfo=datetime.timezone.utc), "2020-01-02T00:00:00+00:00"),
    (datetime.date(2020, 1, 2), "2020-01-02"),
    (datetime.time(1, 2), "01:02:00"),
    (datetime.timedelta(days=1), "P1D"),
    (decimal.Decimal("1.50"), "1.50"),
    (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (pathlib.PurePosixPath("/a/b"), "/a/b"),
    (ValueError("no"), "ValueError: no"),
    (Plain, f"<class '{__name__}.Plain'>"),
    (a_function, "<function a_function>"),
    (1j, "1j"),
    ({(1, 2): "tuple", None: "none"}, {"[1,2]": "tuple", "null": "none"}),
    ({True: "true", 7: "int"}, {"true": "true", "7": "int"}),
    ({Key("k"): 1}, {'{"part":"k"}': 1}),
    ({uuid.UUID(int=1): 1, b"k": 2}, {"00000000-0000-0000-0000-000000000001": 1, "aw==": 2}),
    ({1: "int", "1": "text"}, {"1": "int", "1 (str)": "text"}),
]  # fmt: skip


# Without addresses: the processes of pytest-xdist have to agree on the names.
@pytest.mark.parametrize(
    ("value", "kept"), FAITHFUL, ids=[re.sub(" at 0x[0-9a-f]+", "", repr(value))[:40] for value, _ in FAITHFUL]
)
def test_a_value_is_recorded_faithfully(value: Any, kept: Any) -> None:
    assert recorded(value) == kept
    assert type(recorded(value)) is type(kept)


def test_nan_stays_a_nan() -> None:
    assert math.isnan(recorded(math.nan))


# -- values that lie, raise or recurse --------------------------------------------------------------------------------


class Raises:
    """Everything that could be asked of it ends the program."""

    def _end(self, *arguments: object) -> Any:
        sys.exit(3)

    __repr__ = __str__ = __len__ = __iter__ = __getattr__ = __bool__ = __eq__ = __hash__ = __getitem__ = _end  # type: ignore[assignment]


class HidesItself:
    @property
    def __dict__(self) -> Any:  # type: ignore[override]
        raise MemoryError

    @property
    def __class__(self) -> Any:
        return dict


class RecursesInRepr:
    def __repr__(self) -> str:
        return repr(self)


class ReturnsNoText:
    def __repr__(self) -> str:
        return 5  # type: ignore[return-value]


class Cancels:
    def __repr__(self) -> str:
        raise asyncio.CancelledError


class LyingList(list[int]):
    def __len__(self) -> int:
        return 10**9

    def __iter__(self) -> Iterator[int]:
        while True:
            yield 1


class LyingDict(dict[str, int]):
    def items(self) -> Any:
        raise RuntimeError

    keys = __iter__ = items

    def __len__(self) -> int:
        return -5


class EndlessMapping(collections.abc.Mapping[int, int]):
    def __getitem__(self, key: int) -> int:
        return key

    def __len__(self) -> int:
        raise OverflowError

    def __iter__(self) -> Iterator[int]:
        yield from iter(int, 1)

    def items(self) -> Any:
        return ((n, n) for n in iter(lambda: 0, 1))


class EndlessSequence(collections.UserList[int]):
    def __iter__(self) -> Iterator[int]:
        while True:
            yield 1


class EvilMeta(type):
    def __getattribute__(cls, name: str) -> Any:
        sys.exit(7)


def of_evil_meta() -> Any:
    """In a function: pytest looks at every class of a module."""

    class OfEvilMeta(metaclass=EvilMeta):
        pass

    return object.__new__(OfEvilMeta)


class EvilZone(datetime.tzinfo):
    def utcoffset(self, when: object) -> Any:
        sys.exit(9)


class HalfBroken(Point):
    @property
    def bad(self) -> Any:
        raise ValueError

    __dataclass_fields__: ClassVar[Any] = {**Point.__dataclass_fields__, "bad": Point.__dataclass_fields__["x"]}


MISBEHAVING: dict[str, Callable[[], Any]] = {
    "raises": Raises,
    "hides itself": HidesItself,
    "recurses": RecursesInRepr,
    "returns no text": ReturnsNoText,
    "is cancelled": Cancels,
    "lying list": lambda: LyingList([1]),
    "lying dict": lambda: LyingDict(a=1),
    "endless mapping": EndlessMapping,
    "endless sequence": EndlessSequence,
    "evil zone": lambda: datetime.datetime(2020, 1, 1, tzinfo=EvilZone()),
    "nested": lambda: {"deep": [Raises()]},
    "raw": lambda: msgspec.Raw(b"\xc1"),
    "extension": lambda: msgspec.msgpack.Ext(-1, b"abc"),
    "iterator": lambda: iter([1]),
    "lock": threading.Lock,
}


@pytest.mark.parametrize("make", MISBEHAVING.values(), ids=MISBEHAVING)
@pytest.mark.parametrize("way", [encode, encode_carefully, rescue])
def test_an_object_that_misbehaves_is_recorded_and_harms_nothing(
    way: Callable[[Any], bytes], make: Callable[[], Any]
) -> None:
    payload = way(node(request_id="r", node_name="n", input_data=make(), output_data={"ok": 1}))
    fields = decode_carefully(payload)
    assert fields[1] == "r"
    assert fields[1 + NODE_FIELDS.index("output_data")] in ({"ok": 1}, None)


def test_an_object_whose_class_misbehaves_is_named() -> None:
    assert recorded([of_evil_meta()]) == ["… [unrecordable OfEvilMeta: SystemExit]"]
    assert field(encode(node(input_data=of_evil_meta())), "input_data") == "… [unrecordable OfEvilMeta: SystemExit]"


def test_one_bad_attribute_does_not_hide_the_others() -> None:
    assert recorded(HalfBroken(1, 2)) == {"x": 1, "y": 2, "bad": "… [unrecordable HalfBroken: ValueError]"}


def test_what_could_not_be_read_is_named_in_its_place() -> None:
    assert recorded([ReturnsNoText(), 1]) == ["… [unrecordable ReturnsNoText: TypeError]", 1]


def test_a_lying_list_is_recorded_as_what_it_holds() -> None:
    assert recorded(LyingList([1, 2])) == [1, 2]
    assert recorded(LyingDict(a=1)) == {"a": 1}


def test_a_keyboard_interrupt_is_the_users_and_passes() -> None:
    class Interrupted:
        def __repr__(self) -> str:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode_carefully(node(input_data=Interrupted()))


def test_a_generator_is_not_consumed() -> None:
    numbers = (n for n in range(3))
    assert recorded({"numbers": numbers}) == {"numbers": f"<generator object {numbers.__qualname__}>"}
    assert list(numbers) == [0, 1, 2]


def test_a_coroutine_is_neither_awaited_nor_reported_as_never_awaited() -> None:
    coroutine = a_coroutine()
    assert recorded([coroutine]) == ["<coroutine object a_coroutine>"]
    coroutine.close()


def test_a_file_is_named_and_not_read(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "f"
    path.write_text("abc")
    with path.open() as file:
        assert str(path) in recorded(file)
        assert file.read() == "abc"


# -- cycles and bounds ------------------------------------------------------------------------------------------------


def test_a_cycle_is_cut_where_it_closes() -> None:
    ring: dict[str, Any] = {"a": 1}
    ring["self"] = [ring]
    assert recorded(ring) == {"a": 1, "self": ["… [cycle]"]}
    point = Point(1)
    point.y = point
    assert recorded(point) == {"x": 1, "y": "… [cycle]"}


def test_the_same_object_twice_is_no_cycle() -> None:
    shared = [1]
    assert recorded([shared, shared]) == [[1], [1]]


@pytest.mark.parametrize("depth", [100, 100_000])
def test_nesting_beyond_the_bound_is_cut_visibly(depth: int) -> None:
    value: Any = "bottom"
    for _ in range(depth):
        value = [value]
    text = str(recorded(value))
    assert "… [truncated: list below 64 levels]" in text
    assert "bottom" not in text


def test_a_shared_value_that_unfolds_without_end_is_cut_in_time() -> None:
    value: Any = ["leaf"]
    for _ in range(60):
        value = [value, value]
    began = time.monotonic()
    recorded(value)
    assert time.monotonic() - began < 30  # not 2**60 steps


def test_a_text_of_100_mb_is_cut_visibly() -> None:
    kept = recorded({"text": "x" * 104_857_600})
    assert kept["text"].endswith("… [truncated: 104857600 chars]")
    assert len(kept["text"]) < 1_100_000


def test_bytes_beyond_the_bound_become_a_text_that_says_so() -> None:
    kept = recorded(bytes(10_000_000))
    assert kept.startswith("AAAA")
    assert kept.endswith("… [truncated: 10000000 bytes in base64]")


def test_a_container_with_too_many_items_says_how_many_there_were() -> None:
    kept = recorded(list(range(20_000)))
    assert kept[:10_000] == list(range(10_000))
    assert kept[10_000:] == ["… [truncated: 20000 items]"]
    table = recorded({n: n for n in range(20_000)})
    assert len(table) == 10_001
    assert table["…"] == "… [truncated: 20000 items]"


def test_an_integer_with_a_million_bits_is_cut_visibly() -> None:
    kept = recorded(1 << 1_000_000)
    assert kept.startswith("0x8")
    assert kept.endswith("… [truncated: 1000001 bits]")


def test_a_large_input_does_not_push_out_output_usage_or_error() -> None:
    large = {f"k{n}": "x" * 1000 for n in range(9_000)}
    payload = encode_carefully(
        node(
            request_id="r",
            input_data=large,
            output_data={"answer": "y" * 1000},
            prompt_tokens=7,
            error="E: e",
            metadata={1: Raises()},
        )
    )
    assert len(payload) <= LIMIT
    assert field(payload, "output_data") == {"answer": "y" * 1000}
    assert field(payload, "prompt_tokens") == 7
    assert field(payload, "error") == "E: e"
    assert field(payload, "input_data")["…"] == "… [truncated: 9000 items]"


def test_two_large_payloads_share_the_record() -> None:
    large = ["x" * 10_000] * 9_000
    payload = encode_carefully(node(input_data=large, output_data=large))
    assert len(payload) <= LIMIT
    sizes = [len(field(payload, name)) for name in ("input_data", "output_data")]
    assert min(sizes) > 150


@pytest.mark.parametrize("limit", [4096, 65_536])
def test_a_record_keeps_to_a_small_limit(limit: int) -> None:
    crowd = {"a" * n: ["é" * 500] * 50 for n in range(300)}
    payload = encode_carefully(
        node(request_id="r" * 10_000, input_data=crowd, output_data=crowd, metadata=crowd), limit
    )
    assert len(payload) <= limit
    assert field(payload, "request_id").startswith("rr")


def test_a_slow_object_is_cut_off_by_the_time_bound() -> None:
    class Slow:
        def __repr__(self) -> str:
            time.sleep(0.01)
            return "slow"

    began = time.monotonic()
    kept = recorded([Slow() for _ in range(2_000)])
    assert time.monotonic() - began < 5.0
    assert kept[0] == "slow"
    assert kept[-1] == "… [truncated: 2000 items]"


def test_recording_at_the_end_of_the_stack_gives_what_is_small() -> None:
    def dive() -> bytes:
        try:
            return dive()
        except RecursionError:
            return encode_carefully(node(request_id="r", execution_order=3, input_data=[[Plain(a=1)]]))

    payload = dive()
    assert field(payload, "request_id") == "r"
    assert field(payload, "execution_order") == 3


# -- the fast way -----------------------------------------------------------------------------------------------------

plain_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)


@given(plain_values)
def test_both_ways_record_plain_values_as_they_are(value: Any) -> None:
    fields = node(request_id="r", input_data=value)
    with time_stands_still():
        carefully = encode_carefully(fields)
    assert field(encode(fields), "input_data") == field(carefully, "input_data") == value


odd_values = st.recursive(
    st.none() | st.integers() | st.floats() | st.characters() | st.text(st.characters()) | st.binary() | st.datetimes()
    | st.datetimes(timezones=st.just(datetime.timezone.utc)) | st.decimals() | st.uuids() | st.complex_numbers()
    | st.timedeltas() | st.sampled_from([Colour.RED, Level.LOW, Plain(a=1), a_function, ...]),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | inner.map(Point) | inner.map(Struct)
    | st.dictionaries(
        st.text() | st.integers() | st.tuples(st.integers(), st.text()) | st.booleans() | st.text().map(Key), inner
    ),
    max_leaves=30,
)  # fmt: skip


@given(odd_values)
def test_any_value_becomes_a_record_that_decodes_and_goes_into_json(value: Any) -> None:
    recorded(value)


def test_a_raised_recursion_limit_takes_the_careful_way_where_a_cycle_would_crash() -> None:
    ring: list[Any] = []
    ring.append(ring)
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(10**6)
    try:
        payload = encode(node(input_data=ring))
        assert encoder() is (rescue if sys.version_info < (3, 12) else encoder())
    finally:
        sys.setrecursionlimit(before)
    assert field(payload, "input_data") == ["… [cycle]"]


def test_what_was_encoded_before_is_read_again_when_the_rest_of_its_record_is_walked() -> None:
    """As the inputs of a node without a start record are, and the items of a stream, beside an odd output."""
    fields = node(input_data=msgspec.Raw(encode_value({"a": {1: [2]}})), output_data=[msgspec.Raw(b"\xa1a"), 2**70])
    payload = encode(fields)
    assert field(payload, "input_data") == {"a": {"1": [2]}}
    assert field(payload, "output_data") == ["a", str(2**70)]


def test_what_was_encoded_in_some_other_way_is_kept_as_bytes() -> None:
    assert recorded([msgspec.Raw(b'{"a": 1}'), msgspec.Raw(b"\x92\x01")]) == [
        b'{"a": 1}',
        [1, "… [truncated: 2 items]"],
    ]


def test_a_struct_is_recorded_under_the_names_that_msgspec_writes() -> None:
    class Renamed(msgspec.Struct):
        a: Any = msgspec.field(name="x-a")

    assert recorded(Renamed(1j)) == {"x-a": "1j"}
    assert field(encode(node(input_data=Renamed(1))), "input_data") == {"x-a": 1}


def test_a_record_shares_nothing_with_the_objects_it_was_made_of() -> None:
    value = {"a": [1]}
    payload = encode(node(input_data=value))
    value["a"].append(2)
    assert field(payload, "input_data") == {"a": [1]}
