"""`[mask] keys`: what goes by a masked key is in no record, wherever it is; all else is recorded as without a mask."""

from __future__ import annotations

import argparse
import base64
import collections
import dataclasses
import enum
import pathlib
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hush_core import code_node
from hush_core.capture.mask import Mask
from hush_core.capture.place import current
from hush_core.capture.record import encode, rescue
from hush_core.capture.snapshot import decode_carefully
from hush_core.capture.state import MemoryState
from hush_core.model import NODE, NODE_FIELDS, REQUEST_COMPLETE, REQUEST_START
from hush_core.store.trace_store import TraceStore
from hush_core.tracers.legacy import record_legacy_traces

from .conftest import time_stands_still

SECRET = "hunter2-CORRECT-horse"
KEYS = ("password", "api_key", "Authorization", "x-token")


def fail(problem: BaseException, doing: str) -> None:
    raise AssertionError(doing) from problem


MASK = Mask(KEYS, report=fail)


def node(**fields: Any) -> tuple[Any, ...]:
    return (NODE, *(fields.get(name) for name in NODE_FIELDS))


def assert_hidden(content: bytes) -> None:
    """Nothing of the secret, in any of the forms that hush writes things in."""
    assert SECRET.encode() not in content
    for start in range(3):  # base64 has a form for each alignment
        assert base64.b64encode(b"." * start + SECRET.encode())[4:-4] not in content


def recorded(value: Any, mask: Mask | None = MASK) -> Any:
    """What a record holds of an input."""
    payload = encode(node(request_id="r", node_name="n", input_data=value, output_data={"ok": 1}), mask)
    if mask is not None:
        assert_hidden(payload)
    record = decode_carefully(payload)
    assert record[1 + NODE_FIELDS.index("output_data")] == {"ok": 1}
    return record[1 + NODE_FIELDS.index("input_data")]


# -- keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key", ["password", "PassWord", "API-Key", "api_key", "API_KEY", "authorization", "X-Token", "x_TOKEN"]
)
def test_a_key_is_masked_whatever_its_case_and_whether_it_has_hyphens_or_underscores(key: str) -> None:
    assert recorded({key: SECRET, "kept": 1}) == {key: "[masked]", "kept": 1}


@pytest.mark.parametrize("key", ["passwords", "my_password", "apikey", "api key", "token", "", "p" * 5000])
def test_only_the_exact_name_is_masked(key: str) -> None:
    assert recorded({key: "kept"}) == {key: "kept"}


def test_names_of_any_language_are_compared_without_case() -> None:
    mask = Mask(["Пароль", "straße"], report=fail)
    assert recorded({"пароль": SECRET, "STRASSE": SECRET}, mask) == {"пароль": "[masked]", "STRASSE": "[masked]"}


# -- places -----------------------------------------------------------------------------------------------------------


class Name(enum.Enum):
    PASSWORD = "password"
    PASSWORD_BYTES = b"password"


class Text(str):
    pass


@dataclasses.dataclass
class Account:
    name: str
    password: Any


@attrs.define
class Login:
    name: str
    password: str


class User(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    name: str
    password: str | None = None


class Headers(msgspec.Struct):
    host: str
    auth: str = msgspec.field(name="Authorization")


class Written(msgspec.Struct):
    password: str = msgspec.field(name="p")


class Pair(NamedTuple):
    name: str
    password: str


class Plain:
    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


class Told:
    """Has a text of its own that tells all."""

    __slots__ = ("password",)

    def __init__(self, password: str) -> None:
        self.password = password

    def __repr__(self) -> str:
        return f"Told(password={self.password!r})"


@dataclasses.dataclass(frozen=True)
class FrozenKey:
    password: str


def cycle() -> Any:
    ring: dict[str, Any] = {"password": SECRET, "kept": 1}
    ring["self"] = ring
    return ring


def deep(levels: int) -> Any:
    value: Any = {"password": SECRET, "kept": 1}
    for _ in range(levels):
        value = {"in": [value]}
    return value


M = "[masked]"
PLACES: dict[str, tuple[Callable[[], Any], Any]] = {
    "dict": (lambda: {"password": SECRET, "kept": 1}, {"password": M, "kept": 1}),
    "the whole value": (lambda: {"password": {"a": [SECRET]}, "kept": 1}, {"password": M, "kept": 1}),
    "nothing": (lambda: {"password": None, "kept": 1}, {"password": M, "kept": 1}),
    "nested": (lambda: {"a": {"b": {"password": SECRET}}, "kept": 1}, {"a": {"b": {"password": M}}, "kept": 1}),
    "list": (lambda: [1, [{"password": SECRET}]], [1, [{"password": M}]]),
    "tuple": (lambda: (1, {"password": SECRET}), [1, {"password": M}]),
    "beside odd values": (lambda: {1: Plain(a=1), "password": SECRET},
                          {"1": {"<class>": "Plain", "a": 1}, "password": M}),
    "key that is bytes": (lambda: {b"password": SECRET, "kept": 1}, {"cGFzc3dvcmQ=": M, "kept": 1}),
    "key that is an enum": (lambda: {Name.PASSWORD: SECRET}, {"password": M}),
    "key that is an enum of bytes": (lambda: {Name.PASSWORD_BYTES: SECRET}, {"cGFzc3dvcmQ=": M}),
    "key of a subclass of str": (lambda: {Text("password"): SECRET}, {"password": M}),
    "key that is a path": (lambda: {pathlib.PurePosixPath("password"): SECRET}, {"password": M}),
    "key that is an object": (lambda: {FrozenKey(SECRET): 1}, {'{"password":"[masked]"}': 1}),
    "dataclass": (lambda: Account("a", SECRET), {"name": "a", "password": M}),
    "dataclass in a list": (lambda: [Account("a", [SECRET])], [{"name": "a", "password": M}]),
    "attrs": (lambda: Login("a", SECRET), {"name": "a", "password": M}),
    "pydantic": (lambda: User(name="a", password=SECRET), {"name": "a", "password": M}),
    "pydantic extra": (lambda: User(name="a", **{"X-Token": SECRET}), {"name": "a", "password": M, "X-Token": M}),
    "Struct": (lambda: Headers("h", SECRET), {"host": "h", "Authorization": M}),
    "Struct, by its attribute": (lambda: Written(SECRET), {"p": M}),
    "named tuple": (lambda: Pair("a", SECRET), ["a", M]),
    "attributes": (lambda: Plain(a=1, password=SECRET), {"<class>": "Plain", "a": 1, "password": M}),
    "namespace": (lambda: types.SimpleNamespace(a=1, password=SECRET),
                  {"<class>": "SimpleNamespace", "a": 1, "password": M}),
    "parsed arguments": (lambda: argparse.Namespace(api_key=SECRET), {"<class>": "Namespace", "api_key": M}),
    "an object's own text": (lambda: [Told(SECRET)], ["… [masked: the text of Told has a masked key in it]"]),
    "a text of a text": (lambda: types.SimpleNamespace(_in=Account("a", SECRET)),
                         "… [masked: the text of SimpleNamespace has a masked key in it]"),
    "Mapping": (lambda: types.MappingProxyType({"password": SECRET}), {"password": M}),
    "ChainMap": (lambda: collections.ChainMap({"a": 1}, {"api-key": SECRET}), {"api-key": M, "a": 1}),
    "OrderedDict": (lambda: collections.OrderedDict(password=SECRET), {"password": M}),
    "defaultdict": (lambda: collections.defaultdict(list, password=SECRET), {"password": M}),
    "UserDict": (lambda: collections.UserDict(password=SECRET), {"password": M}),
    "deque": (lambda: collections.deque([{"password": SECRET}]), [{"password": M}]),
    "items": (lambda: {"password": SECRET, "a": 1}.items(), [["password", M], ["a", 1]]),
    "headers": (lambda: {"headers": [(b"authorization", SECRET.encode()), (b"host", b"h")]},
                {"headers": [[b"authorization", M], [b"host", b"h"]]}),
    "headers in lists": (lambda: [["X-Token", SECRET], ["a", "b"]], [["X-Token", M], ["a", "b"]]),
    "encoded before": (lambda: [msgspec.Raw(msgspec.msgpack.encode({"password": SECRET, "a": 1}))],
                       [{"password": M, "a": 1}]),
    "bytes": (lambda: {"password": SECRET.encode()}, {"password": M}),
    "a number too large": (lambda: {"password": SECRET, "n": 2**70}, {"password": M, "n": str(2**70)}),
    "a lone surrogate": (lambda: {"password": SECRET, "t": "\ud800"}, {"password": M, "t": "\\ud800"}),
    "a cycle": (cycle, {"password": M, "kept": 1, "self": "… [cycle]"}),
    "a named exception": (lambda: {"error": ValueError("wrong password")}, {"error": "ValueError: wrong password"}),
}  # fmt: skip


@pytest.mark.parametrize(("make", "kept"), PLACES.values(), ids=PLACES)
def test_what_goes_by_a_masked_key_is_not_recorded(make: Callable[[], Any], kept: Any) -> None:
    assert recorded(make()) == kept


@pytest.mark.parametrize(("make", "kept"), PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("name", ["output_data", "metadata", "media", "error", "model", "cost_usd", "tags", "user_id"])
def test_every_field_of_a_node_is_masked(name: str, make: Callable[[], Any], kept: Any) -> None:
    assert_hidden(encode(node(request_id="r", **{name: make()}), MASK))
    assert_hidden(MASK.encode((REQUEST_COMPLETE, "r", "T", {}, None, "T", make(), make(), make(), None, make())))
    assert_hidden(MASK.encode((REQUEST_START, "r", make(), make(), make(), 1, [make()], [])))


@pytest.mark.parametrize("levels", [5, 30, 100, 900])
def test_depth_hides_nothing_from_the_mask(levels: int) -> None:
    kept = str(recorded(deep(levels)))
    assert ("'password': '[masked]', 'kept': 1" in kept) is (levels <= 30)


def test_a_value_too_large_to_copy_at_once_is_masked_too() -> None:
    value = {"rows": [{"password": SECRET, "n": n} for n in range(9_000)]}
    kept = recorded(value)["rows"]
    assert kept[0] == {"password": "[masked]", "n": 0}
    assert len(kept) > 1_000


def test_what_is_masked_is_asked_for_nothing() -> None:
    class Untouchable:
        def _end(self, *arguments: object) -> Any:
            raise AssertionError("it was asked")

        __repr__ = __str__ = __len__ = __iter__ = __getattr__ = __bool__ = __eq__ = __hash__ = _end  # type: ignore[assignment]

    assert recorded({"password": Untouchable()}) == {"password": "[masked]"}
    assert recorded({1: [{"x_token": Untouchable()}]}) == {"1": [{"x_token": "[masked]"}]}


class Raises:
    def __repr__(self) -> str:
        raise SystemExit


def test_a_value_beside_a_masked_one_whose_text_raises_is_named() -> None:
    assert recorded({"password": SECRET, "a": Raises()}) == {
        "password": "[masked]",
        "a": "… [unrecordable Raises: SystemExit]",
    }


def test_texts_that_name_no_masked_key_are_kept() -> None:
    assert recorded([1j, range(3), types.SimpleNamespace(passwords=1)]) == [
        "1j",
        "range(0, 3)",
        "namespace(passwords=1)",
    ]


# -- records ----------------------------------------------------------------------------------------------------------


def test_the_tracers_configuration_is_not_masked_for_the_tracer_needs_it() -> None:
    config = {"url": "u", "api_key": "${sealed:1}", "odd": {1}}
    record = msgspec.msgpack.decode(MASK.encode((REQUEST_COMPLETE, "r", "T", config, ["a"], "T")))
    assert record[3] == {"url": "u", "api_key": "${sealed:1}", "odd": [1]}
    record = msgspec.msgpack.decode(MASK.encode((REQUEST_START, "r", "f", None, None, 1, [], [["n", "T", config]])))
    assert record[-1] == [["n", "T", {"url": "u", "api_key": "${sealed:1}", "odd": [1]}]]


def test_a_key_can_name_the_user_and_other_data_of_a_record() -> None:
    mask = Mask(["user_id", "Error", "tags", "request_id", "model"], report=fail)
    record = node(request_id="r", user_id=SECRET, error=SECRET, tags=[SECRET], model="gpt")
    for way in (mask.encode, lambda fields: mask.encode((*fields[:10], {1: 2}, *fields[11:]))):
        kept = dict(zip(NODE_FIELDS, msgspec.msgpack.decode(way(record))[1:], strict=True))
        assert (kept["user_id"], kept["error"], kept["tags"]) == ("[masked]", "[masked]", ["[masked]"])
        assert (kept["request_id"], kept["model"], kept["session_id"]) == ("r", "gpt", None)


def test_two_tags_are_no_pair_of_a_key_and_a_value() -> None:
    record = msgspec.msgpack.decode(MASK.encode((REQUEST_COMPLETE, "r", "T", {}, ["password", "reset"], "T")))
    assert record[4] == ["password", "reset"]


def test_an_exceptions_text_has_no_keys() -> None:
    """As the reference says: whoever writes a secret into an exception's text needs a plugin's mask."""
    payload = MASK.encode(node(request_id="r", error="ValueError: password=kept"))
    assert b"password=kept" in payload


def test_without_odd_values_a_masked_record_is_the_plain_record_but_for_its_masked_values() -> None:
    def fields(password: str) -> tuple[Any, ...]:
        data = {"messages": [{"role": "user", "content": "x" * 2_000_000}], "password": password, "n": [1, 2.5, None]}
        return node(request_id="r", input_data=data, output_data=(1, "é"), start_time=1, metadata={"b": b"\xff"})

    assert MASK.encode(fields(SECRET)) == encode(fields("[masked]"))


@pytest.mark.parametrize("limit", [4096, 100_000])
def test_a_large_record_is_cut_after_it_was_masked(limit: int, tmp_path: Path) -> None:
    from hush_core.capture.snapshot import shrink

    rows = [{"password": SECRET, "text": "x" * 300, "n": n} for n in range(500)]
    payload = shrink(MASK.encode(node(request_id="r", input_data=rows, output_data={"password": SECRET})), limit)
    assert len(payload) <= limit
    assert_hidden(payload)
    assert b"[masked]" in payload


def test_no_memory_for_the_walk_leaves_no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """A walk that cannot be had is made by taking away what it begins with."""

    def no_memory(*arguments: object, **more: object) -> Any:
        raise MemoryError

    monkeypatch.setattr("hush_core.capture.mask.encode_walked", no_memory)
    fields = node(
        request_id="r", user_id=SECRET, error=SECRET, input_data={1: SECRET}, output_data=SECRET, tags=[SECRET]
    )
    payload = MASK.encode(fields)
    assert_hidden(payload)
    assert dict(zip(NODE_FIELDS, msgspec.msgpack.decode(payload)[1:], strict=True))["request_id"] == "r"


def test_the_end_of_the_stack_leaves_no_secret(recording: Any, tmp_path: Path) -> None:
    recording.mask = MASK
    store = TraceStore(tmp_path / "unused.db", background=recording)
    calls = 0

    def dive() -> None:
        nonlocal calls
        try:
            dive()
        except RecursionError:
            calls += 1
            try:
                store.record(node(request_id="r", input_data={"password": SECRET}, output_data={"a": [[1]]}))
            except RecursionError:  # the call itself
                calls -= 1
            raise

    with pytest.raises(RecursionError):
        dive()
    assert store.sync()
    assert len(recording.payloads) + len(recording.dropped) == calls
    assert recording.payloads
    assert_hidden(b"".join(recording.payloads))


# -- nodes ------------------------------------------------------------------------------------------------------------


@code_node
def call(question: str, password: str = SECRET, *rest: Any, api_key: str = SECRET, **more: Any) -> Any:
    return {
        "answer": question,
        "x-token": SECRET,
        "$metadata": {"Authorization": SECRET, "kept": 1},
        "$media": [{"api_key": SECRET, "url": "u"}],
        "$usage": {"prompt_tokens": 3, "completion_tokens": 4, "api_key": SECRET},
        "$tags": ["tagged"],
    }


@code_node
def stream(password: str) -> Iterator[Any]:
    yield {"password": password, "n": 1}
    yield "text"
    yield Account("a", password)
    yield [{"deep": {"api-key": password}}]
    yield {"$metadata": {"password": password}}


@code_node
def broken(password: str) -> None:
    raise RuntimeError("no")


@pytest.fixture(params=[True, False], ids=["with start records", "without start records"])
def masked_state(request: pytest.FixtureRequest, recording: Any, tmp_path: Path) -> Iterator[MemoryState]:
    """The state of a trace with a mask, that the test's code runs in."""
    recording.mask = MASK
    recording.start_records = request.param
    store = TraceStore(tmp_path / "unused.db", background=recording)
    state = MemoryState("flow", request_id="r", trace_store=store)
    current.set(state.root)
    yield state
    current.set(None)
    assert recording.reported == []
    assert_hidden(b"".join(recording.payloads))


def test_arguments_results_and_reserved_keys_are_masked(masked_state: MemoryState, recording: Any) -> None:
    result = call("q", SECRET, 1, api_key=SECRET, Authorization=SECRET, other={"password": SECRET})
    assert result == {"answer": "q", "x-token": SECRET}  # the caller gets what it got
    kept = recording.node("call")
    assert kept["input_data"] == {
        "question": "q",
        "password": "[masked]",
        "rest": [1],
        "api_key": "[masked]",
        "Authorization": "[masked]",
        "other": {"password": "[masked]"},
    }
    assert kept["output_data"] == {"answer": "q", "x-token": "[masked]"}
    assert kept["metadata"] == {"Authorization": "[masked]", "kept": 1}
    assert kept["media"] == [{"api_key": "[masked]", "url": "u"}]
    assert (kept["total_tokens"], kept["tags"]) == (7, ["tagged"])


def test_defaults_are_masked(masked_state: MemoryState, recording: Any) -> None:
    call("q")
    assert recording.node("call")["input_data"] == {"question": "q", "password": "[masked]", "api_key": "[masked]"}


def test_the_items_of_a_stream_are_masked(masked_state: MemoryState, recording: Any) -> None:
    assert len(list(stream(SECRET))) == 4
    kept = recording.node("stream")
    assert kept["input_data"] == {"password": "[masked]"}
    assert kept["output_data"] == [
        {"password": "[masked]", "n": 1},
        "text",
        {"name": "a", "password": "[masked]"},
        [{"deep": {"api-key": "[masked]"}}],
    ]
    assert kept["metadata"] == {"password": "[masked]"}


def test_a_node_that_fails_has_its_arguments_masked(masked_state: MemoryState, recording: Any) -> None:
    with pytest.raises(RuntimeError):
        broken(SECRET)
    assert recording.node("broken")["input_data"] == {"password": "[masked]"}
    assert recording.node("broken")["error"].startswith("RuntimeError: no")


def test_what_an_engine_kept_in_memory_is_masked(masked_state: MemoryState, recording: Any) -> None:
    assert masked_state._trace_store is not None
    state = types.SimpleNamespace(
        request_id="r", user_id=None, session_id=None,
        execution_order=[
            {"node": "n", "inputs": {"password": SECRET}, "password": SECRET, "media": {"api_key": SECRET}},
        ],
        trace_metadata={"n": {"output_data": [Account("a", SECRET)], "metadata": {"X-Token": SECRET}}},
    )  # fmt: skip
    record_legacy_traces(masked_state._trace_store, "flow", state)
    kept = recording.node("n")
    assert kept["input_data"] == {"password": "[masked]"}
    assert kept["output_data"] == [{"name": "a", "password": "[masked]"}]
    assert kept["metadata"] == {"X-Token": "[masked]", "password": "[masked]"}
    assert kept["media"] == {"api_key": "[masked]"}


# -- properties -------------------------------------------------------------------------------------------------------

plain_leaves = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text()
names = st.text(max_size=12).filter(lambda name: name.casefold().replace("-", "_") not in {"password", "api_key"})
masked_names = st.sampled_from(["password", "PASSWORD", "api-key", "Api_Key"])


class Planted(NamedTuple):
    """A value with secrets, and what is to be recorded of it."""

    value: Any
    kept: Any


def _dict(parts: list[tuple[str, Planted]], hidden: list[tuple[str, Any]]) -> Planted:
    value = {**{name: part.value for name, part in parts}, **dict(hidden)}
    kept = {**{name: part.kept for name, part in parts}, **{name: "[masked]" for name, _ in hidden}}
    return Planted(value, kept)


def _account(part: Planted, hidden: Any) -> Planted:
    return Planted(Account(part.value, hidden), {"name": part.kept, "password": "[masked]"})


secrets = st.recursive(
    st.just(SECRET) | st.just(SECRET.encode()),
    lambda inner: st.lists(inner, min_size=1, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)


def planted(odd: bool) -> st.SearchStrategy[Planted]:
    """Values with secrets in them; `odd`: also with what the fast way cannot encode."""
    leaves = plain_leaves.map(lambda leaf: Planted(leaf, leaf))
    if odd:
        leaves |= st.just(Planted(2**70, str(2**70))) | st.just(Planted(1j, "1j"))

    def around(inner: st.SearchStrategy[Planted]) -> st.SearchStrategy[Planted]:
        many = st.lists(inner, max_size=4)
        pairs = st.lists(st.tuples(names, inner), max_size=3, unique_by=lambda pair: pair[0])
        hidden = st.lists(st.tuples(masked_names, secrets), max_size=2, unique_by=lambda pair: pair[0])
        made = (
            many.map(lambda parts: Planted([part.value for part in parts], [part.kept for part in parts]))
            | many.map(lambda parts: Planted(tuple(part.value for part in parts), [part.kept for part in parts]))
            | st.builds(_dict, pairs, hidden)
        )
        return made | st.builds(_account, inner, secrets) if odd else made

    return st.recursive(leaves, around, max_leaves=12)


def _same(one: Any, other: Any) -> bool:
    return bool(msgspec.msgpack.encode(one) == msgspec.msgpack.encode(other))


@given(planted(odd=False))
def test_secrets_planted_anywhere_are_in_no_record_and_the_rest_is_the_same_bytes(value: Planted) -> None:
    payload = MASK.encode(node(request_id="r", input_data=value.value, metadata=[value.value]))
    assert_hidden(payload)
    assert payload == encode(node(request_id="r", input_data=value.kept, metadata=[value.kept]))


@given(planted(odd=True))
def test_secrets_planted_among_odd_values_are_in_no_record_and_the_rest_is_as_without_a_mask(value: Planted) -> None:
    with time_stands_still():
        payload = MASK.encode(node(request_id="r", input_data=value.value, metadata=[value.value]))
        embedded = MASK.encode(node(input_data=msgspec.Raw(MASK.encode_value(value.value))))
        without_a_mask = rescue(node(input_data=value.kept))
    assert_hidden(payload)
    assert _same(msgspec.msgpack.decode(payload)[10], msgspec.msgpack.decode(without_a_mask)[10])
    assert _same(msgspec.msgpack.decode(embedded)[10], msgspec.msgpack.decode(payload)[10])
