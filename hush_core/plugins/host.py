"""Loads plugins one by one and calls their hooks one by one, so that a broken one harms neither hush nor another.

A plugin is quarantined, and named with its distribution, version and reason, when its module cannot be imported,
whatever it raises; when it implements a hook that does not exist, or none; or when one of its hooks raises as it
registers. Where two offer the same name, neither is used, and asking for that name is an error that names both.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pluggy

from hush_core.config import PluginSettings, plugin_settings
from hush_core.errors import (
    DuplicateTracerError,
    FlushError,
    PluginError,
    PluginLoadError,
    RetryableFlushError,
    UnknownTracerError,
    closest,
)
from hush_core.interrupt import is_interrupt
from hush_core.plugins import hookspecs
from hush_core.plugins.entry import Entry, installed, named
from hush_core.plugins.registration import CHOOSE, CORE, Offers, Registration, offer
from hush_core.plugins.target import is_target, load_class, load_object, reason

if TYPE_CHECKING:
    import click

    from hush_core.tracers.base import BaseTracer


class Plugin(NamedTuple):
    """A plugin that is loaded."""

    name: str
    distribution: str
    version: str
    module: str
    hooks: tuple[str, ...]  #: those that it implements
    tracers: tuple[Registration, ...]  #: those that it offers


class Broken(NamedTuple):
    """A plugin that cannot be used, or one whose offer is refused."""

    name: str
    distribution: str
    version: str
    reason: str


class PluginHost:
    """The plugins among some entry points. `get_host` gives the one with all that are installed.

    Loaded when it is made; afterwards it changes only when a plugin is quarantined. For any number of threads.

    :param settings: which of the entries may be loaded.
    """

    def __init__(self, entries: Iterable[Entry], settings: PluginSettings) -> None:
        self._manager = pluggy.PluginManager("hush")
        self._manager.add_hookspecs(hookspecs)
        self._loaded: dict[Entry, Plugin] = {}
        self._quarantine: list[tuple[Entry, str]] = []
        self._load(_built_in())
        entries = sorted(entries, reverse=True)  # pluggy calls first whom it knows last
        permitted = [entry for entry in entries if entry.is_among(settings.load) and not entry.is_among(settings.block)]
        #: Those that the settings leave out.
        self.left_out = [entry for entry in reversed(entries) if entry not in permitted]
        for entry in permitted:
            others = [each.origin for each in permitted if each.name == entry.name and each != entry]
            if others:
                why = f"the plugin name {entry.name!r} is also that of {' and '.join(others)}. {CHOOSE}"
                self._quarantine.append((entry, why))
            else:
                self._load(entry)
        names = [entry.name for entry in permitted]
        self._clashes = {name: [entry for entry in permitted if entry.name == name] for name in names}
        self._offers = self._collect()

    # -- loading ------------------------------------------------------------------------------------------------------

    def _load(self, entry: Entry) -> None:
        offered: list[Registration] = []

        def register(name: str, target: str, *, summary: str = "") -> None:
            offered.append(offer(entry, name, target, summary))

        try:
            plugin = load_object(entry.value)
            self._manager.register(plugin, entry.name)
            hooks = self._check_hooks(plugin)
            for call in self._calls_of(entry, "hush_register_tracers"):
                call(register=register)
            self._loaded[entry] = Plugin(*_identity(entry), entry.value.partition(":")[0], hooks, tuple(offered))
        except BaseException as problem:
            if is_interrupt(problem):  # not the plugin's, and it wants none of this to go on
                raise
            self._remove(entry, problem)

    def _remove(self, entry: Entry, problem: BaseException) -> None:
        self._quarantine.append((entry, reason(problem)))
        self._loaded.pop(entry, None)
        if self._manager.has_plugin(entry.name):
            self._manager.unregister(name=entry.name)

    def _collect(self) -> Offers:
        return Offers(each for plugin in self._loaded.values() for each in plugin.tracers)

    def _check_hooks(self, plugin: Any) -> tuple[str, ...]:
        """The hooks that it implements. Raises PluginError where pluggy would pass over a mistake.

        `PluginManager.check_pending` names a misspelt hook as well, but not the one that is meant.
        """
        callers = self._manager.get_hookcallers(plugin) or []
        valid = sorted(name for name in vars(hookspecs) if name.startswith("hush_"))
        for caller in callers:
            mine = [each for each in caller.get_hookimpls() if each.plugin is plugin]
            if not caller.has_spec() and not all(each.optionalhook for each in mine):
                meant = closest(caller.name, valid)
                suggestion = f", did you mean {meant!r}?" if meant else ""
                raise PluginError(f"hush has no hook {caller.name!r}{suggestion}; its hooks: {', '.join(valid)}")
            if any(each.wrapper or each.hookwrapper for each in mine):
                raise PluginError(f"its {caller.name} is a wrapper, which hush does not call: each plugin stands alone")
        if not callers:
            raise PluginError("it implements no hook: is @hookimpl missing?")
        return tuple(sorted(caller.name for caller in callers if caller.has_spec()))

    # -- what there is ------------------------------------------------------------------------------------------------

    @property
    def plugins(self) -> list[Plugin]:
        """What is loaded, by name; first what is built in."""
        return sorted(self._loaded.values(), key=lambda plugin: (plugin.distribution != CORE, plugin))

    @property
    def broken(self) -> list[Broken]:
        """What is not usable, with the reason."""
        quarantined = [Broken(*_identity(entry), why) for entry, why in self._quarantine]
        refused = [
            Broken(*plugin[:3], why)
            for offered, why in self._offers.refused()
            for plugin in self._loaded.values()
            if any(each is offered for each in plugin.tracers)
        ]
        return sorted([*quarantined, *refused])

    @property
    def registrations(self) -> dict[str, Registration]:
        """The tracers that can be had by name."""
        return self._offers.usable

    def knows(self, name: str) -> bool:
        """Whether `find` has an answer, or the error that two plugins clash, without the plugins that are not here."""
        return bool(self._offers.of(name)) or len(self._clashes.get(name, ())) > 1

    def find(self, name: str, configured: Iterable[str] = ()) -> Registration:
        """The tracer of that name; else the one whose class has that name, as old records know it.

        Raises UnknownTracerError, which lists what there is, DuplicateTracerError, which names the plugins that offer
        it, or PluginLoadError, when the plugin of that name is broken.

        :param configured: the names in `[tracers]`, for the message.
        """
        offers = self._offers.of(name) or self._offers.by_class(name)
        if len(offers) == 1:
            return offers[0]
        origins = [each.origin for each in offers] or [each.origin for each in self._clashes.get(name, ())]
        if len(origins) > 1:
            raise DuplicateTracerError(f"The tracer name {name!r} is that of {' and '.join(sorted(origins))}. {CHOOSE}")
        for entry, why in self._quarantine:
            if entry.name == name:
                raise PluginLoadError(f"The plugin {name!r} ({entry.origin}) is broken: {why}")
        raise UnknownTracerError(self._unknown(name, list(configured)))

    def load(self, target: str) -> type[BaseTracer]:
        """The tracer class that "module:Class" names.

        Raises PluginLoadError if it cannot be imported, and ConfigError if it is no tracer.
        """
        return load_class(target)

    def _unknown(self, name: str, configured: list[str]) -> str:
        meant = closest(name, [*configured, *self.registrations])
        said = [f"No tracer named {name!r}."]
        if meant:
            said.append(f"Did you mean {meant!r}?")
        said.append(f"Installed: {', '.join(f'{each.name} ({each.origin})' for each in self.registrations.values())}.")
        if configured:
            said.append(f"Configured: {', '.join(configured)}.")
        if self.left_out:
            said.append(f"Left out by HUSH_PLUGINS, HUSH_BLOCK_PLUGINS or [plugins]: {_names(self.left_out)}.")
        if self._quarantine:
            said.append(f"Broken: {_names(entry for entry, _ in self._quarantine)}; `hush plugins` says why.")
        return " ".join([*said, "Check [tracers] in hush.toml."])

    # -- hooks --------------------------------------------------------------------------------------------------------

    def before_flush(self, tracer_name: str, flush_data: Any) -> Any:
        """What a tracer is to be given, as the plugins leave it; None if one of them drops it.

        Raises RetryableFlushError, naming the plugin, if one raises; a FlushError of its own goes on as it is.
        """
        for plugin, call in self._calls("hush_before_flush"):
            try:
                returned = call(tracer_name=tracer_name, flush_data=flush_data)
                if returned is False:
                    return None
                flush_data = _made_of(flush_data, returned)
            except (FlushError, KeyboardInterrupt):
                raise
            except BaseException as problem:
                why = f"hush_before_flush of the plugin {plugin!r} failed: {reason(problem)}"
                raise RetryableFlushError(why) from problem
        return flush_data

    def after_flush(self, tracer_name: str, request_id: str, outcome: str) -> None:
        """Tell each plugin what an attempt came to. One that raises is logged. Never raises but KeyboardInterrupt."""
        for plugin, call in self._calls("hush_after_flush"):
            try:
                call(tracer_name=tracer_name, request_id=request_id, outcome=outcome)
            except KeyboardInterrupt:
                raise
            except BaseException as problem:
                import logging

                said = "hush: hush_after_flush of the plugin %r failed: %s"
                logging.getLogger("hush").error(said, plugin, reason(problem))

    def mask(self, record: dict[str, Any]) -> dict[str, Any]:
        """The record as the plugins leave it. Raises PluginError, naming the plugin, if one raises."""
        for plugin, call in self._calls("hush_mask"):
            try:
                record = _made_of(record, call(record=record))
            except BaseException as problem:
                if is_interrupt(problem):
                    raise
                raise PluginError(f"hush_mask of the plugin {plugin!r} failed: {reason(problem)}") from problem
        return record

    def commands(self, taken: Collection[str] = ()) -> dict[str, dict[str, click.Command]]:
        """The commands that plugins add, by the plugin's name.

        A plugin that raises is quarantined, and so is one that wants a name that is taken.
        """
        import click

        found: dict[str, dict[str, click.Command]] = {}
        for entry in sorted(self._loaded):
            group = click.Group()
            try:
                for call in self._calls_of(entry, "hush_register_commands"):
                    call(cli=group)
                for name in group.commands:
                    if name in taken or any(name in others for others in found.values()):
                        raise PluginError(f"it adds the command {name!r}, which there is already")
            except KeyboardInterrupt:
                raise
            except BaseException as problem:
                self._remove(entry, problem)
                self._offers = self._collect()
            else:
                found[entry.name] = dict(group.commands)
        return found

    def _calls(self, hook: str) -> list[tuple[str, Callable[..., Any]]]:
        """Who implements a hook, and how to call it with the arguments by name; in the order in which to call them."""
        return [
            (each.plugin_name, _naming(each.function, each.argnames))
            for each in reversed(getattr(self._manager.hook, hook).get_hookimpls())
        ]

    def _calls_of(self, entry: Entry, hook: str) -> list[Callable[..., Any]]:
        return [call for name, call in self._calls(hook) if name == entry.name]


def _naming(function: Callable[..., Any], names: Iterable[str]) -> Callable[..., Any]:
    """The function, called with those of the given arguments that it names."""
    return lambda **given: function(*(given[name] for name in names))


def _made_of(before: Any, returned: Any) -> Any:
    """What a hook made of a dict: another that it returned, else the one that it may have changed."""
    if returned is None:
        return before
    if not isinstance(returned, Mapping):
        raise PluginError(f"it returned {type(returned).__name__}, and not a dict or None")
    return returned


def _built_in() -> Entry:
    from hush_core import __version__

    return Entry(CORE, "hush_core.plugins.builtin", CORE, __version__)


def _identity(entry: Entry) -> tuple[str, str, str]:
    return entry.name, entry.distribution, entry.version


def _names(entries: Iterable[Entry]) -> str:
    return ", ".join(f"{entry.name} ({entry.origin})" for entry in entries)


# -- the hosts of this process ----------------------------------------------------------------------------------------

#: By what they were made of. Without a lock: two threads at once merely load the same plugins twice.
_hosts: Final[dict[tuple[object, ...], PluginHost]] = {}


def get_host() -> PluginHost:
    """The host of every plugin that is installed and permitted: the same one for as long as these stay the same.

    Raises ConfigError if the settings cannot be read.
    """
    entries, settings = installed(), plugin_settings()
    return _host((entries, settings), entries, settings)


def get_plugins(names: Iterable[str]) -> PluginHost:
    """A host of the named plugins alone: only they are loaded.

    Raises PluginLoadError, with the reason, if one of them is not installed, not permitted or broken.
    """
    wanted, settings = tuple(names), plugin_settings()
    entries = tuple(dict.fromkeys(entry for name in wanted for entry in named(name) or _of_distribution(name)))
    host = _host((wanted, entries, settings), entries, settings)
    for name in wanted:
        mine = [entry for entry in entries if entry.is_among((name,))]
        why = next((why for entry, why in host._quarantine if entry in mine), None)
        if any(entry in host.left_out for entry in mine):
            why = "HUSH_PLUGINS, HUSH_BLOCK_PLUGINS or [plugins] leaves it out"
        if why is not None or not mine:
            raise PluginLoadError(f"The plugin {name!r} cannot be loaded: {why or 'it is not installed'}.")
    return host


def _of_distribution(name: str) -> list[Entry]:
    return [entry for entry in installed() if entry.is_among((name,))]


def find_tracer(name: str, configured: Iterable[str] = ()) -> Registration:
    """The tracer of a name or "module:Class", by way of as few plugins as it takes; errors as in `PluginHost.find`.

    First the plugin that is called like the tracer, alone, and only if that does not offer it, all.
    """
    if is_target(name):
        return Registration(name, name)
    settings = plugin_settings()
    key = (name, tuple(sys.path), settings)
    host = _hosts.get(key) or PluginHost(named(name), settings)
    if host.knows(name):
        _hosts[key] = host
        return host.find(name)
    return get_host().find(name, configured)


def _host(key: tuple[object, ...], entries: Iterable[Entry], settings: PluginSettings) -> PluginHost:
    return _hosts.get(key) or _hosts.setdefault(key, PluginHost(entries, settings))
