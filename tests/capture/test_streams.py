"""A generator is a node that ends when its stream does, and keeps the plain protocol."""

from __future__ import annotations

import asyncio
import gc
import inspect
import pickle
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from typing import Any

import pytest

from hush_core.capture.node import code_node
from hush_core.capture.place import current
from hush_core.capture.state import MemoryState
from hush_core.model import NODE_END, NODE_START


@code_node
def step(n: int) -> int:
    return n


@code_node
def numbers(most: int) -> Iterator[int]:
    for n in range(most):
        yield step(n)


@code_node
async def numbers_later(most: int) -> AsyncIterator[int]:
    for n in range(most):
        await asyncio.sleep(0)
        yield step(n)


class Source:
    @code_node
    def items(self, most: int) -> Iterator[int]:
        yield from range(most)

    @code_node
    async def items_later(self, most: int) -> AsyncIterator[int]:
        for n in range(most):
            yield n


async def collect(stream: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in stream]


# -- what is recorded -------------------------------------------------------------------------------------------------


def test_a_stream_is_one_node_with_its_items_as_output(state: MemoryState, recording: Any) -> None:
    assert list(numbers(3)) == [0, 1, 2]
    node = recording.node("numbers")
    assert node["input_data"] == {"most": 3}
    assert node["output_data"] == [0, 1, 2]
    assert 0 <= node["time_to_first_token_ms"] <= node["duration_ms"]
    assert recording.tree() == [("numbers", None, None)] + [("step", "numbers", None)] * 3


def test_an_async_stream_is_one_node_with_its_items_as_output(state: MemoryState, recording: Any) -> None:
    assert asyncio.run(collect(numbers_later(3))) == [0, 1, 2]
    assert recording.node("numbers_later")["output_data"] == [0, 1, 2]
    assert recording.tree() == [("numbers_later", None, None)] + [("step", "numbers_later", None)] * 3


def test_between_items_the_consumer_is_where_it_was(state: MemoryState, recording: Any) -> None:
    @code_node
    def consume() -> None:
        for n in numbers(2):
            step(n * 10)

    consume()
    assert recording.tree() == [
        ("consume", None, None),
        ("numbers", "consume", None),
        ("step", "numbers", None),
        ("step", "consume", None),
        ("step", "numbers", None),
        ("step", "consume", None),
    ]


def test_two_streams_that_interleave_do_not_mix(state: MemoryState, recording: Any) -> None:
    assert list(zip(numbers(2), numbers(2), strict=True)) == [(0, 0), (1, 1)]
    spans = [node["span"] for node in recording.nodes(NODE_START) if node["node_name"] == "numbers"]
    steps = [node["parent_span"] for node in recording.nodes(NODE_START) if node["node_name"] == "step"]
    assert steps == [spans[0], spans[1], spans[0], spans[1]]


def test_a_stream_that_is_consumed_after_its_caller_ended_keeps_its_parent(state: MemoryState, recording: Any) -> None:
    @code_node
    def start() -> Iterator[int]:
        return numbers(1)

    stream = start()
    current.set(None)
    assert list(stream) == [0]
    assert recording.tree() == [("start", None, None), ("numbers", "start", None), ("step", "numbers", None)]
    assert current.get() is None


def test_an_async_stream_is_consumed_by_another_task_under_its_own_parent(state: MemoryState, recording: Any) -> None:
    @code_node
    async def start() -> AsyncIterator[int]:
        return numbers_later(2)

    async def main() -> list[int]:
        stream = await start()
        return await asyncio.create_task(collect(stream))

    assert asyncio.run(main()) == [0, 1]
    assert ("numbers_later", "start", None) in recording.tree()


def test_a_loop_in_a_stream_keeps_its_position_over_the_items(state: MemoryState, recording: Any) -> None:
    @code_node
    def looping() -> Iterator[str]:
        for word in state.loop("ab"):
            yield word
            step(1)

    for _ in looping():
        step(2)
    assert recording.tree() == [
        ("looping", None, None),
        ("step", None, None),
        ("step", "looping", "[0]"),
        ("step", None, None),
        ("step", "looping", "[1]"),
    ]


def test_items_are_recorded_as_they_were_when_they_were_yielded(state: MemoryState, recording: Any) -> None:
    @code_node
    def chunks() -> Iterator[dict[str, Any]]:
        chunk = {"n": 0}
        for n in range(3):
            chunk["n"] = n
            yield chunk

    for chunk in chunks():
        chunk["seen"] = True
    assert recording.node("chunks")["output_data"] == [{"n": 0}, {"n": 1, "seen": True}, {"n": 2, "seen": True}]


def test_an_endless_stream_is_recorded_within_bounds(state: MemoryState, recording: Any) -> None:
    stream = numbers.__wrapped__(0)  # type: ignore[attr-defined]
    assert list(stream) == []

    @code_node
    def many() -> Iterator[str]:
        for _ in range(30_000):
            yield "token"

    assert sum(1 for _ in many()) == 30_000
    output = recording.node("many")["output_data"]
    assert output[-1] == "… [truncated: 30000 items]"
    assert len(output) == 10_001


def test_reserved_keys_of_items_go_to_the_trace(state: MemoryState, recording: Any) -> None:
    @code_node
    def answer() -> Iterator[dict[str, Any]]:
        yield {"text": "a", "$tags": "streamed"}
        yield {"text": "b"}
        yield {"$usage": {"prompt_tokens": 1, "completion_tokens": 2}, "$metadata": {"a": 1}}

    assert list(answer()) == [{"text": "a"}, {"text": "b"}]
    node = recording.node("answer")
    assert (node["tags"], node["total_tokens"], node["metadata"]) == (["streamed"], 3, {"a": 1})
    assert node["output_data"] == [{"text": "a"}, {"text": "b"}]


def test_reserved_keys_of_the_return_value_go_to_the_trace(state: MemoryState, recording: Any) -> None:
    @code_node
    def answer() -> Generator[int, None, dict[str, Any]]:
        yield 1
        return {"total": 1, "$model": "m"}

    def consume() -> Generator[int, None, dict[str, Any]]:
        return (yield from answer())

    stream = consume()
    assert next(stream) == 1
    with pytest.raises(StopIteration) as stop:
        next(stream)
    assert stop.value.value == {"total": 1}
    assert recording.node("answer")["model"] == "m"


# -- how a stream ends ------------------------------------------------------------------------------------------------


def close(stream: Any) -> None:
    stream.close()


def drop(stream: Any) -> None:
    """The caller's last reference goes when it returns."""


@pytest.mark.parametrize("end", [close, drop])
def test_a_stream_that_is_closed_or_dropped_early_ends_with_what_it_gave(
    state: MemoryState, recording: Any, end: Callable[[Any], None]
) -> None:
    def consume() -> None:
        stream = numbers(10)
        next(stream)
        next(stream)
        end(stream)

    consume()
    gc.collect()
    node = recording.node("numbers")
    assert node["output_data"] == [0, 1]
    assert node["metadata"] == {"hush.stream": "closed before its end"}
    assert node.get("error") is None
    step(5)
    assert recording.tree()[-1] == ("step", None, None)


def test_a_break_ends_the_stream(state: MemoryState, recording: Any) -> None:
    for _ in numbers(10):
        break
    assert recording.node("numbers")["output_data"] == [0]


def test_a_stream_that_nobody_reads_is_no_node(state: MemoryState, recording: Any) -> None:
    numbers(3).close()  # type: ignore[attr-defined]
    numbers(3)
    numbers_later(3)
    assert recording.payloads == []


def test_an_async_stream_that_is_closed_early_ends_with_what_it_gave(state: MemoryState, recording: Any) -> None:
    async def main() -> None:
        stream = numbers_later(10)
        await stream.__anext__()
        await stream.aclose()  # type: ignore[attr-defined]

    asyncio.run(main())
    assert recording.node("numbers_later")["output_data"] == [0]


def test_an_async_stream_that_is_dropped_is_ended_by_its_event_loop(state: MemoryState, recording: Any) -> None:
    async def main() -> None:
        stream = numbers_later(10)
        await stream.__anext__()
        del stream
        gc.collect()
        while not recording.nodes(NODE_END)[1:]:  # the step's, and the stream's
            await asyncio.sleep(0)

    asyncio.run(main())
    assert recording.node("numbers_later")["metadata"] == {"hush.stream": "closed before its end"}


def test_an_async_stream_whose_consumer_is_cancelled_ends_as_cancelled(state: MemoryState, recording: Any) -> None:
    @code_node
    async def hang() -> AsyncIterator[int]:
        yield 1
        await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(collect(hang()))
        for _ in range(5):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    node = recording.node("hang")
    assert node["error"].startswith("CancelledError")
    assert node["output_data"] == [1]


def test_an_error_in_a_stream_is_recorded_with_what_it_gave(state: MemoryState, recording: Any) -> None:
    @code_node
    def fails() -> Iterator[int]:
        yield 1
        raise ValueError("no")

    stream = fails()
    assert next(stream) == 1
    with pytest.raises(ValueError, match="no"):
        next(stream)
    with pytest.raises(StopIteration):
        next(stream)
    node = recording.node("fails")
    assert node["error"].startswith("ValueError: no\nTraceback")
    assert node["output_data"] == [1]


def test_a_call_with_wrong_arguments_fails_when_it_is_called(state: MemoryState) -> None:
    with pytest.raises(TypeError):
        numbers()  # type: ignore[call-arg]


# -- the protocol -----------------------------------------------------------------------------------------------------


def echo() -> Generator[Any, Any, str]:
    """Gives back what it is sent; survives a ValueError; returns when it is told to."""
    received: Any = "begun"
    while received != "end":
        try:
            received = yield received
        except ValueError as error:
            received = f"caught {error}"
    return "ended"


async def echo_later() -> AsyncGenerator[Any, Any]:
    received: Any = "begun"
    while received != "end":
        try:
            received = yield received
        except ValueError as error:
            received = f"caught {error}"


def test_what_is_sent_thrown_and_returned_goes_through(state: MemoryState) -> None:
    for make in (echo, code_node(echo)):
        stream = make()
        assert next(stream) == "begun"
        assert stream.send("x") == "x"
        assert next(stream) is None
        assert stream.throw(ValueError("v")) == "caught v"
        with pytest.raises(StopIteration) as stop:
            stream.send("end")
        assert stop.value.value == "ended"


def test_what_is_sent_and_thrown_goes_through_an_async_stream(state: MemoryState) -> None:
    async def talk(stream: AsyncGenerator[Any, Any]) -> None:
        assert await stream.__anext__() == "begun"
        assert await stream.asend("x") == "x"
        assert await stream.athrow(ValueError("v")) == "caught v"
        with pytest.raises(StopAsyncIteration):
            await stream.asend("end")

    for make in (echo_later, code_node(echo_later)):
        asyncio.run(talk(make()))


def test_an_error_thrown_in_comes_out_with_its_own_context(state: MemoryState, recording: Any) -> None:
    problem = KeyError("k")
    stream = code_node(echo)()
    next(stream)
    with pytest.raises(KeyError) as caught:
        stream.throw(problem)
    assert caught.value is problem
    assert problem.__context__ is None
    assert recording.node("echo")["error"].startswith("KeyError: 'k'")


def test_a_stream_that_ends_while_it_is_closed_may_clean_up(state: MemoryState, recording: Any) -> None:
    cleaned: list[str] = []

    @code_node
    def careful() -> Iterator[int]:
        try:
            yield 1
        finally:
            cleaned.append("yes")

    stream = careful()
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert cleaned == ["yes"]
    assert recording.node("careful")["output_data"] == [1]


def test_inspect_still_sees_generator_functions() -> None:
    assert inspect.isgeneratorfunction(numbers)
    assert inspect.isgeneratorfunction(Source().items)
    assert inspect.isasyncgenfunction(numbers_later)
    assert inspect.isasyncgenfunction(Source.items_later)
    assert not inspect.isasyncgenfunction(numbers)
    assert list(inspect.signature(numbers).parameters) == ["most"]
    assert (numbers.__name__, numbers.__module__) == ("numbers", __name__)
    assert pickle.loads(pickle.dumps(numbers)) is numbers


def test_what_is_returned_is_a_generator(state: MemoryState) -> None:
    assert inspect.isgenerator(numbers(1))
    assert inspect.isasyncgen(numbers_later(1))


def test_methods_stream_too(state: MemoryState, recording: Any) -> None:
    assert list(Source().items(2)) == [0, 1]
    assert asyncio.run(collect(Source().items_later(2))) == [0, 1]
    assert recording.node("items")["input_data"] == recording.node("items_later")["input_data"] == {"most": 2}


def test_outside_of_a_trace_it_is_the_plain_generator(recording: Any) -> None:
    assert list(numbers(2)) == [0, 1]
    assert asyncio.run(collect(numbers_later(2))) == [0, 1]
    assert numbers(1).gi_code is numbers.__wrapped__.__code__  # type: ignore[attr-defined]
    assert recording.payloads == []


def test_a_stream_is_bound_to_a_place(state: MemoryState, recording: Any) -> None:
    bound = numbers.under(state)
    current.set(None)
    assert list(bound(1)) == [0]
    assert recording.tree() == [("numbers", None, None), ("step", "numbers", None)]
