"""Imports what text stands for: an entry point's module, the class behind a tracer's name."""

from __future__ import annotations

import importlib
import re
from typing import TYPE_CHECKING, Any, Final

from hush_core.errors import ConfigError, PluginError, PluginLoadError

if TYPE_CHECKING:
    from hush_core.tracers.base import BaseTracer

_TARGET: Final = re.compile(r"[\w.]+:[\w.]+")


def is_target(text: str) -> bool:
    """Whether the text is of the form "module:Class"."""
    return _TARGET.fullmatch(text) is not None


def load_object(value: str) -> Any:
    """The module, or the object in it, that an entry point's value names: "package.plugin" or "package:plugin"."""
    module_name, _, attributes = value.partition("[")[0].replace(" ", "").partition(":")
    found: Any = importlib.import_module(module_name)
    for attribute in filter(None, attributes.split(".")):
        found = getattr(found, attribute)
    return found


def load_class(target: str) -> type[BaseTracer]:
    """The tracer class that "module:Class" names.

    Raises PluginLoadError if it cannot be imported, whatever its module does, and ConfigError if it is no tracer.
    """
    from hush_core.tracers.base import BaseTracer

    if not is_target(target):
        raise ConfigError(f"{target!r} names no class. Write module and class: 'my_module:MyTracer'.")
    try:
        found = load_object(target)
    except KeyboardInterrupt:
        raise
    except BaseException as problem:
        raise PluginLoadError(f"The tracer {target!r} cannot be imported: {reason(problem)}") from problem
    if not (isinstance(found, type) and issubclass(found, BaseTracer)):
        raise ConfigError(f"{target!r} is {found!r:.80}, which is no class derived from hush_core.BaseTracer.")
    return found


def reason(problem: BaseException) -> str:
    """What went wrong, on one line."""
    try:
        said = " ".join(str(problem).split())
    except Exception:
        said = "(its text cannot be had)"
    if isinstance(problem, PluginError):
        return said
    if isinstance(problem, SystemExit):
        return f"it called sys.exit({said})"
    return f"{type(problem).__name__}: {said}" if said else type(problem).__name__
