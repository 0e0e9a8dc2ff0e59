"""A function wrapped by `code_node` is recorded as a node, and is the same function to its caller."""

from __future__ import annotations

import functools
import inspect
import pickle
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from hush_core.capture.node import code_node
from hush_core.capture.place import current, spans
from hush_core.capture.state import MemoryState
from hush_core.model import NODE, NODE_END, NODE_START


@code_node
def rank(question: str, most: int = 3, *rest: int, strict: bool = False, **options: Any) -> dict[str, Any]:
    """Rank."""
    return {"answer": question}


@code_node(name="renamed", node_type="llm", model="gpt", capture_input=False, capture_output=False)
def generate(prompt: str) -> str:
    return prompt


class Engine:
    @code_node
    def method(self, x: int) -> int:
        return x + 1

    @staticmethod
    @code_node
    def static_inside(x: int) -> int:
        return x + 1

    @code_node
    @staticmethod
    def static_outside(x: int) -> int:
        return x + 1

    @classmethod
    @code_node
    def class_inside(cls, x: int) -> int:
        return x + 1

    @code_node
    @classmethod
    def class_outside(cls, x: int) -> int:
        return x + 1


# -- what is recorded -------------------------------------------------------------------------------------------------


def test_a_call_is_recorded_with_arguments_result_and_time(state: MemoryState, recording: Any) -> None:
    assert rank("q") == {"answer": "q"}
    (start,), (end,) = recording.nodes(NODE_START), recording.nodes(NODE_END)
    assert start["input_data"] == {"question": "q", "most": 3, "strict": False}
    assert end["output_data"] == {"answer": "q"}
    assert end["input_data"] is None
    assert start["span"] == end["span"]
    assert end["end_time"] >= end["start_time"] == start["start_time"]
    assert end["duration_ms"] == pytest.approx((end["end_time"] - end["start_time"]) / 1e6)
    assert (end["node_type"], end["error"], end["level"], end["contain_generation"]) == ("code", None, None, False)
    for node in (start, end):
        assert [node[name] for name in ("request_id", "workflow_name", "user_id", "session_id")] == [
            "r",
            "flow",
            "u",
            "s",
        ]


@pytest.mark.parametrize(
    ("call", "inputs"),
    [
        (lambda: rank("q", 1), {"question": "q", "most": 1, "strict": False}),
        (lambda: rank(most=1, question="q"), {"question": "q", "most": 1, "strict": False}),
        (lambda: rank("q", 1, 7, 8), {"question": "q", "most": 1, "rest": [7, 8], "strict": False}),
        (lambda: rank("q", colour="red"), {"question": "q", "most": 3, "strict": False, "colour": "red"}),
        (lambda: Engine().method(1), {"x": 1}),
        (lambda: Engine.method(Engine(), 1), {"x": 1}),
        (lambda: Engine.static_inside(1), {"x": 1}),
        (lambda: Engine().static_outside(1), {"x": 1}),
        (lambda: Engine.class_inside(1), {"x": 1}),
        (lambda: Engine().class_outside(1), {"x": 1}),
    ],
)
def test_arguments_are_recorded_by_name_without_self(
    state: MemoryState, recording: Any, call: Callable[[], Any], inputs: dict[str, Any]
) -> None:
    call()
    (start,) = recording.nodes(NODE_START)
    assert start["input_data"] == inputs


def test_the_decorator_says_name_type_model_and_what_is_captured(state: MemoryState, recording: Any) -> None:
    assert generate("secret") == "secret"
    node = recording.node("renamed")
    assert (node["node_type"], node["model"], node["contain_generation"]) == ("llm", "gpt", True)
    assert node["input_data"] is None
    assert node["output_data"] is None


def test_the_start_is_recorded_before_the_body_runs_and_the_record_never_changes(
    state: MemoryState, recording: Any
) -> None:
    seen: list[int] = []

    @code_node
    def change(values: list[int]) -> list[int]:
        seen.append(len(recording.nodes(NODE_START)))
        values.append(2)
        return values

    result = change([1])
    result.append(3)
    assert seen == [1]
    node = recording.node("change")
    assert node["input_data"] == {"values": [1]}
    assert node["output_data"] == [1, 2]


def test_without_start_records_a_node_is_recorded_whole_at_its_end(recording: Any, store: Any) -> None:
    recording.start_records = False
    state = MemoryState("flow", request_id="r", trace_store=store)

    @code_node
    def change(values: list[int]) -> int:
        assert recording.payloads == []
        values.append(2)
        return 5

    state.under(change)([1])
    (node,) = recording.nodes(NODE)
    assert node["input_data"] == {"values": [1]}
    assert node["output_data"] == 5


def test_values_that_do_not_encode_are_recorded_all_the_same(state: MemoryState, recording: Any) -> None:
    class Raises:
        def __repr__(self) -> str:
            raise RuntimeError

    @code_node
    def take(value: Any) -> Any:
        return [value]

    value = Raises()
    assert take(value)[0] is value
    node = recording.node("take")
    assert node["input_data"] == {"value": "… [unrecordable Raises: RuntimeError]"}
    assert node["output_data"] == ["… [unrecordable Raises: RuntimeError]"]


def test_defaults_that_are_no_plain_values_are_left_out(state: MemoryState, recording: Any) -> None:
    @code_node
    def call(a: int, unset: object = object()) -> None: ...

    call(1)
    assert recording.node("call")["input_data"] == {"a": 1}


def test_a_call_that_does_not_fit_fails_as_it_would_and_is_recorded(state: MemoryState, recording: Any) -> None:
    with pytest.raises(TypeError, match="positional argument"):
        Engine().method(1, 2)  # type: ignore[call-arg]
    node = recording.node("method")
    assert node["input_data"] == {"x": 1, "args": [2]}
    assert node["error"].startswith("TypeError: ")


# -- the tree ---------------------------------------------------------------------------------------------------------


@code_node
def outer(depth: int) -> None:
    inner()
    inner()


@code_node
def inner() -> None: ...


def test_nested_calls_have_the_enclosing_node_as_parent_and_an_order(state: MemoryState, recording: Any) -> None:
    outer(1)
    inner()
    assert recording.tree() == [
        ("outer", None, None),
        ("inner", "outer", None),
        ("inner", "outer", None),
        ("inner", None, None),
    ]
    assert sorted(node["execution_order"] for node in recording.nodes()) == [0, 1, 2, 3]


def test_recursion_has_exact_parents(state: MemoryState, recording: Any) -> None:
    @code_node
    def down(n: int) -> int:
        return down(n - 1) if n else 0

    down(3)
    starts = recording.nodes(NODE_START)
    assert [start["input_data"]["n"] for start in starts] == [3, 2, 1, 0]
    assert [start["parent_span"] for start in starts] == [None, *(start["span"] for start in starts[:-1])]
    assert [start["parent_name"] for start in starts] == [None, "down", "down", "down"]


def test_spans_are_unique_over_threads_and_fit_in_sqlite(state: MemoryState, recording: Any) -> None:
    def many() -> None:
        for _ in range(200):
            state.under(inner)()

    threads = [threading.Thread(target=many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ids = [node["span"] for node in recording.nodes()]
    assert len(set(ids)) == len(ids) == 800
    assert len({node["execution_order"] for node in recording.nodes()}) == 800
    assert all(0 < span < 2**63 for span in ids)


def test_a_renewed_process_takes_other_spans() -> None:
    before = next(spans.ids)
    spans.renew()
    assert next(spans.ids) >> 24 != before >> 24


def test_a_plain_thread_is_outside_of_the_trace_and_under_takes_it_there(state: MemoryState, recording: Any) -> None:
    results: list[dict[str, Any]] = []
    for target in (rank, rank.under(), state.under(rank)):
        thread = threading.Thread(target=lambda target=target: results.append(target("q")))
        thread.start()
        thread.join()
    assert results == [{"answer": "q"}] * 3
    assert recording.tree() == [("rank", None, None)] * 2


def test_under_takes_the_present_place_to_a_thread_pool(state: MemoryState, recording: Any) -> None:
    @code_node
    def fan_out(questions: list[str]) -> list[Any]:
        with ThreadPoolExecutor(2) as pool, state.iteration(1):
            return list(pool.map(rank.under(), questions))

    fan_out(["a", "b", "c"])
    assert recording.tree() == [("fan_out", None, None), *[("rank", "fan_out", "[1]")] * 3]


def test_a_thread_of_a_pool_is_left_as_it_was_found(state: MemoryState) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(rank.under(), "q").result()
        assert pool.submit(current.get).result() is None


def test_a_method_is_bound_to_a_place_by_the_state(state: MemoryState, recording: Any) -> None:
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(state.under(Engine().method), 1).result() == 2
    assert recording.node("method")["input_data"] == {"x": 1}


def test_under_a_state_that_is_not_recorded_is_the_plain_function() -> None:
    assert rank.under(MemoryState("flow"))("q") == {"answer": "q"}
    assert rank.under()("q") == {"answer": "q"}


def test_under_another_state_records_there(state: MemoryState, recording: Any, store: Any) -> None:
    other = MemoryState("other", request_id="r2", trace_store=store)
    rank.under(other)("q")
    rank("q")
    assert [node["request_id"] for node in recording.nodes()] == ["r2", "r"]


# -- errors -----------------------------------------------------------------------------------------------------------


def test_an_error_is_recorded_and_raised_unchanged(state: MemoryState, recording: Any) -> None:
    problem = ValueError("no such document")

    @code_node
    def fails() -> None:
        raise problem

    with pytest.raises(ValueError, match="no such document") as caught:
        fails()
    assert caught.value is problem
    assert problem.__context__ is None
    assert problem.__cause__ is None
    assert [frame.name for frame in traceback.extract_tb(problem.__traceback__)][-1] == "fails"
    node = recording.node("fails")
    assert node["level"] == "ERROR"
    lines = node["error"].splitlines()
    assert lines[0] == "ValueError: no such document"
    assert lines[1] == "Traceback (most recent call last):"
    assert "raise problem" in node["error"]
    assert "capture/node.py" not in node["error"]


def test_an_error_that_passes_several_nodes_has_its_traceback_at_the_innermost(
    state: MemoryState, recording: Any
) -> None:
    @code_node
    def fails() -> None:
        raise ValueError("no")

    @code_node
    def passes() -> None:
        fails()

    with pytest.raises(ValueError, match="no"):
        passes()
    assert "Traceback" in recording.node("fails")["error"]
    assert recording.node("passes")["error"] == "ValueError: no"


def test_an_error_that_is_handled_inside_is_an_error_of_the_inner_node_alone(
    state: MemoryState, recording: Any
) -> None:
    @code_node
    def fails() -> None:
        raise KeyError("k")

    @code_node
    def recovers() -> str:
        try:
            fails()
        except KeyError:
            return "recovered"
        return "impossible"

    assert recovers() == "recovered"
    assert recording.node("fails")["error"].startswith("KeyError: 'k'")
    assert recording.node("recovers").get("error") is None
    rank("q")
    assert recording.tree()[-1] == ("rank", None, None)


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


class Huge(Exception):
    def __str__(self) -> str:
        return "x" * 50_000_000


@pytest.mark.parametrize(
    "error", [Unprintable(), Huge(), SystemExit(3), KeyboardInterrupt(), GeneratorExit(), RecursionError()]
)
def test_any_exception_passes_and_its_text_is_bounded(state: MemoryState, recording: Any, error: BaseException) -> None:
    @code_node
    def fails() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        fails()
    assert caught.value is error
    text = recording.node("fails")["error"]
    assert text.startswith(type(error).__name__)
    assert len(text) < 40_000


@pytest.mark.parametrize("error", [SystemExit(), SystemExit(None), SystemExit(0), SystemExit(False)])
def test_leaving_by_a_successful_exit_is_no_error(state: MemoryState, recording: Any, error: SystemExit) -> None:
    @code_node
    def leaves() -> None:
        raise error

    with pytest.raises(SystemExit):
        leaves()
    assert recording.node("leaves").get("error") is None
    assert recording.node("leaves").get("level") is None


def test_endless_recursion_is_recorded_and_raised(state: MemoryState, recording: Any) -> None:
    @code_node
    def forever() -> None:
        forever()

    with pytest.raises(RecursionError):
        forever()
    assert any("RecursionError" in (node["error"] or "") for node in recording.nodes())
    rank("q")
    assert recording.tree()[-1] == ("rank", None, None)


# -- reserved keys ----------------------------------------------------------------------------------------------------


def test_reserved_keys_go_to_the_trace_and_not_to_the_caller(state: MemoryState, recording: Any) -> None:
    @code_node
    def answer() -> dict[str, Any]:
        return {
            "text": "hi",
            "$tags": ["cache-hit"],
            "$model": "gpt-4o",
            "$usage": {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}},
            "$cost": 0.25,
            "$metadata": {"temperature": 0.1},
            "$media": [{"type": "image/png", "url": "u"}],
        }

    assert answer() == {"text": "hi"}
    node = recording.node("answer")
    assert node["output_data"] == {"text": "hi"}
    assert node["tags"] == ["cache-hit"]
    assert state.tags == ["cache-hit"]
    assert (node["model"], node["contain_generation"], node["cost_usd"]) == ("gpt-4o", True, 0.25)
    assert [node[name] for name in ("prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens")] == [
        10,
        5,
        15,
        4,
    ]
    assert node["metadata"] == {"temperature": 0.1}
    assert node["media"] == [{"type": "image/png", "url": "u"}]


def test_a_returned_dict_that_the_function_keeps_is_not_changed(state: MemoryState, recording: Any) -> None:
    kept = {"a": 1, "$tags": "t"}

    @code_node
    def cached() -> dict[str, Any]:
        return kept

    assert cached() == cached() == {"a": 1}
    assert kept == {"a": 1, "$tags": "t"}
    assert [node["tags"] for node in recording.nodes()] == [["t"], ["t"]]
    assert state.tags == ["t"]


def test_a_result_without_reserved_keys_is_the_same_object(state: MemoryState) -> None:
    kept = {"a": 1, "$other": 2}

    @code_node
    def same() -> dict[str, Any]:
        return kept

    assert same() is kept


def test_a_subclass_of_dict_stays_one_without_its_reserved_keys(state: MemoryState) -> None:
    class Result(dict[str, Any]):
        pass

    @code_node
    def answer() -> Result:
        return Result({"a": 1, "$model": "m"})

    assert type(answer()) is Result
    assert answer() == {"a": 1}


def test_a_reserved_key_that_makes_no_sense_is_reported_and_harms_nothing(store: Any, recording: Any) -> None:
    @code_node
    def answer() -> dict[str, Any]:
        return {"a": 1, "$tags": 5, "$cost": object(), "$model": "m"}

    assert answer.under(MemoryState("flow", trace_store=store))() == {"a": 1}
    assert [doing for _, doing in recording.reported] == ["adding tags", "reading $cost of a node's result"]
    assert recording.node("answer")["model"] == "m"


# -- outside, and to its caller ---------------------------------------------------------------------------------------


def test_outside_of_a_trace_it_is_the_plain_function(recording: Any) -> None:
    @code_node
    def answer() -> dict[str, Any]:
        return {"a": 1, "$tags": ["t"]}

    assert answer() == {"a": 1, "$tags": ["t"]}
    assert recording.payloads == []


def test_a_wrapped_function_keeps_its_identity() -> None:
    assert (rank.__name__, rank.__doc__, rank.__module__) == ("rank", "Rank.", __name__)
    assert list(inspect.signature(rank).parameters) == ["question", "most", "rest", "strict", "options"]
    assert inspect.isfunction(rank)
    assert not inspect.iscoroutinefunction(rank)


def test_a_wrapped_function_pickles_by_name() -> None:
    assert pickle.loads(pickle.dumps(rank)) is rank


def test_only_functions_can_be_nodes() -> None:
    with pytest.raises(TypeError, match="functions and methods"):
        code_node(5)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="functions and methods"):
        code_node(Engine)


def test_a_partial_and_an_object_that_is_called_are_nodes_too(state: MemoryState, recording: Any) -> None:
    class Caller:
        def __call__(self, x: int) -> int:
            return x

    assert code_node(functools.partial(max, 3))(5) == 5
    assert code_node(Caller())(7) == 7
    assert [node["node_name"] for node in recording.nodes()] == ["partial", "Caller"]


def test_a_function_under_another_decorator_is_recorded_with_its_own_arguments(
    state: MemoryState, recording: Any
) -> None:
    def twice(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs) * 2

        return wrapper

    @code_node
    @twice
    def number(n: int) -> int:
        return n

    assert number(4) == 8
    assert recording.node("number")["input_data"] == {"n": 4}
