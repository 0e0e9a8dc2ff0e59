"""Tracers by name: from the settings, from the plugins that are installed, or from a module.

Nothing is imported for it before `get_tracer` is called. Then it is the settings, pluggy and, as a rule, the one plugin
that is called like the tracer; no vendor's library.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hush_core.errors import ConfigError, HushError, closest
from hush_core.tracers.base import BaseTracer
from hush_core.tracers.fan_out import FanOutTracer

if TYPE_CHECKING:
    from hush_core.config import Config, TracerSettings

#: What errors name when there is no settings file.
_NO_FILE = "hush.toml"


def get_tracer(*names: str | None, **options: Any) -> BaseTracer:
    """A tracer by name: `get_tracer()`, `get_tracer("prod")`, `get_tracer("langfuse", public_key=...)`.

    A name is that of a `[tracers.NAME]` table of the settings; else a type that a plugin registers; else
    "module:Class". None, or no name at all, stands for the setting `default`. Several names give one tracer whose
    requests are due to each.

    :param options: keyword arguments of the tracer's class, over those of its table; and hush's own `tags`, `sample`,
        `when`.

    Raises ConfigError for a wrong setting or option, UnknownTracerError, DuplicateTracerError or PluginLoadError.
    """
    settings = _Settings.now()
    wanted = dict.fromkeys(name for name in names if name is not None) or settings.default()
    tracers = [settings.make(name, options) for name in wanted]
    return tracers[0] if len(tracers) == 1 else FanOutTracer(tracers)


def get_registered_tracers() -> dict[str, type[BaseTracer]]:
    """The tracers that are installed: each name with its class, all of them imported.

    One that cannot be imported, or whose name two plugins register, is left out; `hush plugins` says why.
    """
    from hush_core.plugins.host import get_host

    host = get_host()
    found = {}
    for name, registration in host.registrations.items():
        try:
            found[name] = host.load(registration.target)
        except HushError:
            continue
    return found


class _Settings(NamedTuple):
    """The settings as they are at one call."""

    path: Path | None
    config: Config

    @classmethod
    def now(cls) -> _Settings:
        from hush_core.config import Config, find_config, load_config

        path = find_config()
        return cls(path, Config() if path is None else load_config(path))

    def default(self) -> Iterable[str]:
        if not self.config.default:
            example, file = next(iter(self.config.tracers), "local"), self.path or _NO_FILE
            tables = f", though it has [tracers] {', '.join(self.config.tracers)}" if self.config.tracers else ""
            has = f"{file} sets no default{tables}" if self.path else "there is no settings file with a default"
            raise ConfigError(
                f"No tracer is named, and {has}. Write default = [{example!r}] at the top of {file}, or name one: "
                f"get_tracer({example!r})."
            )
        return dict.fromkeys(self.config.default)

    def make(self, name: str, options: Mapping[str, Any]) -> BaseTracer:
        """The tracer of that name."""
        table = self.config.tracers.get(name)
        asked = _Asked(name, self, table is not None, options)
        settings = asked.settings(table)
        kind = asked.load(settings.type)
        tracer = asked.construct(kind, settings)
        if table is not None:
            tracer._name = name
        tracer._policy = settings.policy
        return tracer


class _Asked(NamedTuple):
    """One name that was asked for: what errors say of it, and where."""

    name: str
    at: _Settings
    is_table: bool
    options: Mapping[str, Any]

    def error(self, key: str | None, problem: str) -> ConfigError:
        """Names the file and its key, or the call for what the call says."""
        from hush_core.config import setting_error

        keys = () if key is None else (key,)
        if self.is_table and (key is None or key not in self.options):
            return setting_error(str(self.at.path), ("tracers", self.name, *keys), problem)
        return setting_error(f"get_tracer({self.name!r})", keys, problem)

    def settings(self, table: TracerSettings | None) -> TracerSettings:
        """The table's settings with the options over them."""
        from hush_core.config import TRACER_KEYS, tracer_settings

        if table is not None and not self.options:
            return table
        if "type" in self.options:
            raise self.error("type", "not an option here: the name says which tracer")
        own = {key: getattr(table, key) for key in TRACER_KEYS} if table is not None else {"type": self.name}
        before = table.options if table is not None else {}
        return tracer_settings({**own, **before, **self.options}, f"get_tracer({self.name!r})")

    def load(self, kind: str) -> type[BaseTracer]:
        from hush_core.plugins.host import find_tracer
        from hush_core.plugins.target import load_class

        try:
            return load_class(find_tracer(kind, () if self.is_table else self.at.config.tracers).target)
        except ConfigError as problem:
            if not self.is_table:
                raise
            said = f"{self.at.path}: tracers.{self.name}.type: {problem}"
            raise type(problem)(said) from problem

    def construct(self, kind: type[BaseTracer], settings: TracerSettings) -> BaseTracer:
        """Make the tracer. What its class does not take is an error that says what it takes."""
        options = dict(settings.options)
        if settings.tags:
            options["tags"] = list(settings.tags)
        self._check(kind, options)
        try:
            return kind(**options)
        except HushError:
            raise
        except Exception as problem:
            from hush_core.secret import redacted

            said = f"{type(problem).__name__}: {problem}"
            safe = redacted(said, options, kind.secret_options)
            error = self.error(None, f"{kind.__name__} cannot be made of this: {safe}")
            raise error from (problem if safe == said else None)

    def _check(self, kind: type[BaseTracer], options: Mapping[str, Any]) -> None:
        from hush_core.config import TRACER_KEYS
        from hush_core.secret import malformed_reference

        parameters = inspect.signature(kind).parameters.values()
        named = [each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
        takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters)
        own = ["tags", "sample", "when"] if not self.is_table else list(TRACER_KEYS)
        valid = [*own, *(name for name in named if name not in TRACER_KEYS)]
        for key, value in options.items():
            if key not in named and not takes_any:
                meant = closest(key, valid)
                suggestion = f", did you mean {meant!r}?" if meant else ""
                said = f"unknown option of {kind.__name__}{suggestion}; valid here: {', '.join(valid)}"
                raise self.error(key, said)
            for text in _texts(value):
                wrong = malformed_reference(text)
                if wrong is not None:
                    raise self.error(key, f"{wrong!r} is no reference; write ${{NAME}}, or $${{ for the characters ${{")
        missing = [
            each.name
            for each in parameters
            if each.name in named and each.default is each.empty and each.name not in options
        ]
        if missing:
            raise self.error(None, f"{kind.__name__} needs {', '.join(missing)}; valid here: {', '.join(valid)}")


def _texts(value: Any) -> Iterable[str]:
    """The texts in an option."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for item in value.values() for text in _texts(item)]
    return [text for item in value for text in _texts(item)] if isinstance(value, (list, tuple)) else []
