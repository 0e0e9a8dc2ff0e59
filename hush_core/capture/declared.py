"""What `@code_node` knows of a function: worked out once, so that a call has only to fill it in."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import CodeType
from typing import Any, Final

from hush_core.capture.opened import NOTHING, Findings, OpenNode, error_text, is_success
from hush_core.capture.place import Place
from hush_core.capture.reserved import has_reserved, take_reserved

# Flags of a code object (inspect.CO_*; importing inspect takes milliseconds).
_VARARGS: Final = 0x04
GENERATOR: Final = 0x20
COROUTINE: Final = 0x80
ASYNC_GENERATOR: Final = 0x200

#: Defaults of these types are recorded; others are mostly sentinels.
_PLAIN: Final = (str, int, float, bool, type(None))


def code_of(function: Any) -> CodeType | None:
    """The code that a call runs, where it can be told: of a partial its function's, of an object its `__call__`'s."""
    while isinstance(function, functools.partial):
        function = function.func
    code = getattr(function, "__code__", None)
    if code is None:
        code = getattr(getattr(type(function), "__call__", None), "__code__", None)  # noqa: B004 - it is what is called
    return code


class Declared:
    """The name, the options and the parameters of a node's function. Immutable; for any number of threads."""

    __slots__ = (
        "_defaults", "_is_method", "_keep_input", "_model", "_name", "_names", "_node_type", "_varargs", "_width",
        "keep_output",
    )  # fmt: skip

    def __init__(
        self,
        function: Callable[..., Any],
        name: str | None,
        node_type: str,
        model: str | None,
        keep_input: bool,
        keep_output: bool,
    ) -> None:
        self._name: str = name or getattr(function, "__name__", None) or type(function).__name__
        self._node_type = node_type
        self._model = model
        self._keep_input = keep_input
        self.keep_output = keep_output
        self._read_parameters(function)

    def _read_parameters(self, function: Any) -> None:
        while hasattr(function, "__wrapped__"):  # as inspect.signature does
            function = function.__wrapped__
        code = getattr(function, "__code__", None)
        names: tuple[str, ...] = code.co_varnames[: code.co_argcount] if code is not None else ()
        self._varargs = "args"
        if code is not None and code.co_flags & _VARARGS:
            self._varargs = code.co_varnames[code.co_argcount + code.co_kwonlyargcount]
        values = getattr(function, "__defaults__", None) or ()
        defaults = dict(zip(names[len(names) - len(values) :], values, strict=True))
        defaults.update(getattr(function, "__kwdefaults__", None) or {})
        self._defaults = tuple((name, value) for name, value in defaults.items() if type(value) in _PLAIN)
        self._is_method = names[:1] in (("self",), ("cls",))
        self._names = names[1:] if self._is_method else names
        self._width = len(self._names)

    def open(self, parent: Place, args: tuple[Any, ...], kwargs: dict[str, Any]) -> OpenNode:
        """Record the start of a call."""
        inputs = self.inputs(args, kwargs) if self._keep_input else None
        return OpenNode(parent.state, parent, self._name, inputs, self._node_type, self._model)

    def inputs(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments by name, without `self`, with plain defaults. Those that do not fit are kept, too: the call is
        about to fail for it.
        """
        if self._is_method:
            args = args[1:]
        inputs: dict[str, Any] = dict(zip(self._names, args, strict=False))
        if len(args) > self._width:
            inputs[self._varargs] = args[self._width :]
        if kwargs:
            inputs.update(kwargs)
        for name, value in self._defaults:
            if name not in inputs:
                inputs[name] = value
        return inputs

    def close(self, node: OpenNode, result: Any) -> Any:
        """Record the end of a call; gives what the caller gets: the result without its reserved keys."""
        if has_reserved(result):
            found = Findings()
            result = take_reserved(result, found, node.state)
            node.end(result if self.keep_output else None, found)
        else:
            node.end(result if self.keep_output else None, NOTHING)
        return result

    @staticmethod
    def fail(node: OpenNode, error: BaseException, found: Findings | None = None, output: Any = None) -> None:
        """Record the end of a call that an exception ended."""
        found = found or Findings()
        if not is_success(error):
            found.error = error_text(error)
        node.end(output, found)
