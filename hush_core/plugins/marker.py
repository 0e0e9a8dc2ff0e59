"""`hookimpl`, which marks a function as a plugin's implementation of a hook.

Written out here and not made by pluggy, so that a plugin's module, which the app imports too, does not bring pluggy;
what it leaves on the function is what pluggy's own `HookimplMarker("hush")` leaves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, overload

_Function = TypeVar("_Function", bound=Callable[..., Any])


@overload
def hookimpl(function: _Function) -> _Function: ...
@overload
def hookimpl(
    *, tryfirst: bool = ..., trylast: bool = ..., optionalhook: bool = ..., specname: str | None = ...
) -> Callable[[_Function], _Function]: ...
def hookimpl(
    function: _Function | None = None,
    *,
    tryfirst: bool = False,
    trylast: bool = False,
    optionalhook: bool = False,
    specname: str | None = None,
) -> _Function | Callable[[_Function], _Function]:
    """Mark a function as an implementation of the hook of its name: `@hookimpl`, or `@hookimpl(tryfirst=True)`.

    :param tryfirst: and ``trylast``: when to be called, among plugins.
    :param optionalhook: a hook of this name need not exist in this version of hush.
    :param specname: the hook's name, if it is not the function's.
    """

    def mark(function: _Function) -> _Function:
        options = {
            "hookwrapper": False,
            "optionalhook": optionalhook,
            "tryfirst": tryfirst,
            "trylast": trylast,
            "specname": specname,
            "wrapper": False,
        }
        function.hush_impl = options  # type: ignore[attr-defined]
        return function

    return mark if function is None else mark(function)
