"""`@code_node`: a function whose calls are nodes of a trace.

A call's arguments are recorded before the body runs, its result or error and its time when it ends; see `opened`. To
its caller the function stays the same: signature, result, exceptions, and what `inspect` says it is.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from types import CodeType, CoroutineType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar, cast, overload

from hush_core.capture.declared import ASYNC_GENERATOR, COROUTINE, GENERATOR, Declared, code_of
from hush_core.capture.place import Place, current
from hush_core.capture.stream import drive, drive_async

if TYPE_CHECKING:
    from hush_core.capture.opened import OpenNode
    from hush_core.capture.state import MemoryState

P = ParamSpec("P")
Q = ParamSpec("Q")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class CodeNode(Protocol[P, T_co]):
    """A function wrapped by `code_node`."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T_co: ...

    @overload
    def __get__(self, instance: None, owner: type) -> CodeNode[P, T_co]: ...
    @overload
    def __get__(self: CodeNode[Concatenate[Any, Q], T_co], instance: object, owner: type) -> Callable[Q, T_co]: ...

    def under(self, parent: MemoryState | Place | None = None) -> Callable[P, T_co]:
        """The function bound to a place, to be called in any thread or task: `pool.map(rank.under(), questions)`.

        :param parent: the place of the running code, if not given. For a method: `state.under(self.rank)`.
        """


@overload
def code_node(function: Callable[P, T], /) -> CodeNode[P, T]: ...
@overload
def code_node(
    *,
    name: str | None = None,
    node_type: str = "code",
    model: str | None = None,
    capture_input: bool = True,
    capture_output: bool = True,
) -> Callable[[Callable[P, T]], CodeNode[P, T]]: ...
def code_node(
    function: Any = None,
    /,
    *,
    name: str | None = None,
    node_type: str = "code",
    model: str | None = None,
    capture_input: bool = True,
    capture_output: bool = True,
) -> Any:
    """Make a function's calls nodes of the trace that they run in. Outside of a trace it is the plain function.

    For functions and methods, sync and async, and generators of both kinds, which are nodes until their stream ends.
    Keys of a returned (or yielded) dict that are reserved go to the trace and not to the caller: `$tags, $model,
    $usage, $cost, $metadata, $media`; a yielded dict with no other keys is not passed on at all.

    When the body starts, the arguments are recorded by value: what it does to them later changes no record. Recording
    never raises into the function or its caller.

    :param name: of the node; the function's name if not given.
    :param model: marks the node as a generation of that model.
    :param capture_input: whether the arguments are recorded; ``capture_output`` whether the result is.

    Raises TypeError for what is no function.
    """
    if function is None:
        return functools.partial(
            code_node,
            name=name,
            node_type=node_type,
            model=model,
            capture_input=capture_input,
            capture_output=capture_output,
        )
    if isinstance(function, (staticmethod, classmethod)):
        inner = Declared(function.__func__, name, node_type, model, capture_input, capture_output)
        return type(function)(_wrap(function.__func__, inner))
    if not callable(function) or isinstance(function, type):
        raise TypeError(f"@code_node is for functions and methods, not for {function!r}.")
    return _wrap(function, Declared(function, name, node_type, model, capture_input, capture_output))


def _wrap(function: Callable[..., Any], declared: Declared) -> Any:
    code = code_of(function)
    flags = 0 if code is None else code.co_flags
    if code is not None and flags & (GENERATOR | ASYNC_GENERATOR):
        return StreamNode(function, code, declared, is_async=bool(flags & ASYNC_GENERATOR))
    wrapper = (_wrap_async if flags & COROUTINE else _wrap_sync)(function, declared)
    wrapper.under = functools.partial(_under, wrapper)  # type: ignore[attr-defined]
    return wrapper


# A `try` per call and no other layer: this is the path that every node takes.


def _wrap_sync(function: Callable[..., Any], declared: Declared) -> Callable[..., Any]:
    get_place, set_place, begin, close = current.get, current.set, declared.open, declared.close

    @functools.wraps(function)
    def code_node(*args: Any, **kwargs: Any) -> Any:
        parent = get_place()
        if parent is None:
            return function(*args, **kwargs)
        node = begin(parent, args, kwargs)
        try:
            set_place(node)  # inside: an interrupt comes right after a call
            result = function(*args, **kwargs)
        except BaseException as error:
            set_place(parent)
            declared.fail(node, error)
            raise
        set_place(parent)
        return close(node, result) if type(result) is not CoroutineType else _end_later(declared, node, result)

    return code_node


def _end_later(declared: Declared, node: OpenNode, coroutine: Any) -> Any:
    """A call that gave a coroutine (a plain decorator is around an async function) ends when that does."""

    async def code_node() -> Any:
        outside = current.get()
        try:
            current.set(node)
            result = await coroutine
        except BaseException as error:
            if not isinstance(error, GeneratorExit) or current.get() is node:
                current.set(outside)
            declared.fail(node, error)
            raise
        current.set(outside)
        return declared.close(node, result)

    later: Any = code_node()
    later.__qualname__ = coroutine.__qualname__  # for who forgets to await it
    return later


def _wrap_async(function: Callable[..., Any], declared: Declared) -> Callable[..., Any]:
    get_place, set_place, begin, close = current.get, current.set, declared.open, declared.close

    @functools.wraps(function)
    async def code_node(*args: Any, **kwargs: Any) -> Any:
        parent = get_place()
        if parent is None:
            return await function(*args, **kwargs)
        node = begin(parent, args, kwargs)
        try:
            set_place(node)  # inside: an interrupt comes right after a call
            result = await function(*args, **kwargs)
        except BaseException as error:
            # A coroutine that is dropped half way ends wherever the last reference to it goes.
            if not isinstance(error, GeneratorExit) or get_place() is node:
                set_place(parent)
            declared.fail(node, error)
            raise
        set_place(parent)
        return close(node, result)

    return code_node


class StreamNode:
    """A generator function as a node. An object, so that the place is taken when it is called: the stream may be
    consumed elsewhere, after the trace's code has gone on. `inspect` sees a generator function all the same.
    """

    __code__: CodeType
    __defaults__: tuple[Any, ...] | None
    __kwdefaults__: dict[str, Any] | None

    def __init__(self, function: Callable[..., Any], code: CodeType, declared: Declared, *, is_async: bool) -> None:
        functools.update_wrapper(self, function)
        self.__code__ = code
        self.__defaults__ = getattr(function, "__defaults__", None)
        self.__kwdefaults__ = getattr(function, "__kwdefaults__", None)
        self._function = function
        self._declared = declared
        self._drive: Callable[..., Any] = drive_async if is_async else drive

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        source = self._function(*args, **kwargs)
        parent = current.get()
        return source if parent is None else self._drive(self._declared, parent, source, args, kwargs)

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        from types import MethodType

        return self if instance is None else MethodType(self, instance)

    def __reduce__(self) -> str:
        return self.__qualname__  # type: ignore[attr-defined, no-any-return]  # by name, as functions pickle

    def __repr__(self) -> str:
        return f"<code_node {self._function!r}>"

    def under(self, parent: MemoryState | Place | None = None) -> Callable[..., Any]:
        return _under(self, parent)


# -- explicit parents -------------------------------------------------------------------------------------------------


def _under(function: Callable[..., Any], parent: MemoryState | Place | None = None) -> Callable[..., Any]:
    place = current.get() if parent is None else parent if isinstance(parent, Place) else parent.here
    return bind(function, place)


def bind(function: Callable[P, T], place: Place | None) -> Callable[P, T]:
    """The function as it is called at a place, in any thread or task. No place, or one of a trace that is not recorded,
    is outside of any trace.
    """
    if place is not None and not place.state.has_trace_store:
        place = None
    code = code_of(getattr(function, "__func__", function))
    bound = _bind_async if code is not None and code.co_flags & COROUTINE else _bind_sync
    return cast("Callable[P, T]", bound(function, place))


def _bind_sync(function: Callable[..., Any], place: Place | None) -> Callable[..., Any]:
    @functools.wraps(function)
    def at_place(*args: Any, **kwargs: Any) -> Any:
        before = current.get()
        try:
            current.set(place)
            result = function(*args, **kwargs)
        finally:
            current.set(before)
        return result if type(result) is not CoroutineType else _run_at(place, result)

    return at_place


def _bind_async(function: Callable[..., Any], place: Place | None) -> Callable[..., Any]:
    @functools.wraps(function)
    async def at_place(*args: Any, **kwargs: Any) -> Any:
        return await _run_at(place, function(*args, **kwargs))

    return at_place


async def _run_at(place: Place | None, coroutine: Awaitable[T]) -> T:
    before = current.get()
    try:
        current.set(place)
        return await coroutine
    finally:
        current.set(before)
