"""Settings: the one place that reads `hush.toml`, `[tool.hush]` and the `HUSH_*` variables, always when asked.

A setting that is unknown, of the wrong type or out of range is a `ConfigError` that names the file, the key, what is
wrong and what would be right. `${NAME}` in a value stays as written: it is a reference to a variable, resolved only
where it is used, so that no secret passes through here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec

from hush_core.errors import ConfigError, closest
from hush_core.interrupt import is_interrupt
from hush_core.setting import Condition as Condition
from hush_core.setting import Duration as Duration
from hush_core.setting import Size as Size
from hush_core.setting import Text
from hush_core.setting import parse_duration as parse_duration
from hush_core.setting import parse_size as parse_size

_Settings = TypeVar("_Settings", bound=msgspec.Struct)


class StoreSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[store]`: how long and how much the database keeps, and when a request counts as complete."""

    keep: Duration = Duration("30d")
    max_size: Size = Size("5GB")
    durability: Literal["process", "power"] = "process"


class CaptureSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[capture]`: what a node records, and how large a record may be."""

    start_records: bool = True
    max_record: Size = Size("8MiB")


class MaskSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[mask]`: the keys whose values must never reach the journal, and the plugins whose `hush_mask` sees each record.

    Plugins are named, since to look for the hook in every plugin would load all of them into every user's process.
    """

    keys: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()


class PluginSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[plugins]`: which plugins may be loaded, each by its entry point's name or its distribution's."""

    load: tuple[str, ...] = ("*",)
    block: tuple[str, ...] = ()


class DeliverySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[delivery]`: what one attempt may take."""

    timeout: Duration = Duration("60s")
    memory: Size = Size("1GiB")


class TracerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[tracers.NAME]`: which tracer, for which requests. `options` holds the keys that are the tracer's own."""

    type: str
    tags: tuple[str, ...] = ()
    sample: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    when: tuple[Condition, ...] = ()
    options: dict[str, Any] = {}

    @property
    def policy(self) -> dict[str, Any] | None:
        """Which requests the tracer wants, as its records say it; None: all."""
        policy: dict[str, Any] = {} if self.sample == 1.0 else {"sample": self.sample}
        if self.when:
            policy["when"] = [str(rule) for rule in self.when]
        return policy or None


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All settings; what a file does not say has its default."""

    default: tuple[str, ...] = ()
    tracers: dict[str, TracerSettings] = {}
    mask: MaskSettings = MaskSettings()
    store: StoreSettings = StoreSettings()
    capture: CaptureSettings = CaptureSettings()
    delivery: DeliverySettings = DeliverySettings()
    plugins: PluginSettings = PluginSettings()


#: What of a `[tracers.NAME]` table is hush's; all else is the tracer's own.
TRACER_KEYS: Final = ("type", "tags", "sample", "when")

#: The tables of a file, but `[tracers]`.
_TABLES: Final[dict[str, type[msgspec.Struct]]] = {
    "mask": MaskSettings,
    "store": StoreSettings,
    "capture": CaptureSettings,
    "delivery": DeliverySettings,
    "plugins": PluginSettings,
}


def default_db_path() -> Path:
    """The database that is meant when none is named: `HUSH_TRACES_DB`, else `~/.hush/traces.db`."""
    return Path(_from_home(os.environ.get("HUSH_TRACES_DB") or "~/.hush/traces.db", "HUSH_TRACES_DB"))


def resolve_db_path(db_path: Path | str | None = None) -> Path:
    """The file that is meant by a path, or by none: one path for each database, whatever links lead to it."""
    return Path(os.path.realpath(default_db_path() if db_path is None else db_path))


def _from_home(path: str, variable: str) -> str:
    expanded = os.path.expanduser(path)
    if expanded.startswith("~"):
        raise ConfigError(f"Cannot tell which home folder {path!r} means. Set HOME, or {variable} to a full path.")
    return os.path.abspath(expanded)


def find_config() -> Path | None:
    """The file that settings come from now, or None when there is none and all have their defaults.

    `HUSH_CONFIG` when set, which must then exist; else `hush.toml` in the working folder or above it; else the nearest
    `pyproject.toml` there that has `[tool.hush]`; else `~/.hush/hush.toml`.
    """
    named = os.environ.get("HUSH_CONFIG")
    if named:
        path = _from_home(named, "HUSH_CONFIG")
        if not os.path.isfile(path):
            raise ConfigError(f"HUSH_CONFIG names {path}, which is not a file. Correct it, or unset it.")
        return Path(path)
    for path in _candidates():
        if _load(path) is not None:
            return Path(path)
    return None


def _candidates() -> list[str]:
    """The files that settings may come from when none is named, the nearest first."""
    folders = _folders_upwards()
    candidates = [os.path.join(folder, name) for name in ("hush.toml", "pyproject.toml") for folder in folders]
    return [path for path in [*candidates, os.path.expanduser("~/.hush/hush.toml")] if os.path.isfile(path)]


def may_mask() -> bool:
    """Whether settings that turned out to be wrong may have a mask: their text has the word, or cannot be read either.

    For whoever goes on with the defaults. Never raises, and answers True whenever it cannot be certain.
    """
    try:
        named = os.environ.get("HUSH_CONFIG")
        for path in [_from_home(named, "HUSH_CONFIG")] if named else _candidates():
            try:
                config = _load(path)
            except ConfigError:
                text = Path(path).read_bytes().replace(b"\0", b"")  # whatever the encoding, in ASCII's characters
                return b"mask" in text.lower()
            if config is not None:  # nothing is wrong with it, now
                return bool(config.mask.keys or config.mask.plugins)
    except Exception as problem:
        if is_interrupt(problem):
            raise
        return True
    return True  # what was wrong is not there any more


def _folders_upwards() -> list[str]:
    try:
        folder = os.getcwd()
    except OSError as problem:  # the working folder has been deleted
        if is_interrupt(problem):
            raise
        return []
    folders = [folder]
    while (parent := os.path.dirname(folders[-1])) != folders[-1]:
        folders.append(parent)
    return folders


def load_config(path: Path | str | None = None) -> Config:
    """The settings of that file, or of the one that `find_config` finds; the defaults when there is none.

    A file is read again only when it has changed. Raises ConfigError when it cannot be read or says something wrong.
    Any thread may call it, and a forked child: there is no lock, two threads at once merely read the file twice.
    """
    found = find_config() if path is None else path
    return (_load(os.path.abspath(found)) if found is not None else None) or Config()


#: What each file said when it had that modification time and size; None for a `pyproject.toml` without `[tool.hush]`.
_loaded: dict[str, tuple[tuple[int, int], Config | None]] = {}


def _load(path: str) -> Config | None:
    try:
        stat = os.stat(path)
        version = (stat.st_mtime_ns, stat.st_size)
        before = _loaded.get(path)
        if before is not None and before[0] == version:
            return before[1]
        with open(path, "rb") as file:
            content = file.read()
        table = _table(path, content)
        config = None if table is None else _parse(table, path)
    except OSError as problem:
        if is_interrupt(problem):
            raise
        wrong = ConfigError(f"Cannot read the settings in {path}: {problem.strerror}.")
        wrong.path = path
        raise wrong from problem
    except ConfigError as problem:
        problem.path = path
        raise
    _loaded[path] = (version, config)
    return config


def _table(path: str, content: bytes) -> Any:
    in_pyproject = os.path.basename(path) == "pyproject.toml"
    if in_pyproject and b"hush" not in content:
        return None  # most are not about hush: nothing to parse, and no complaint about what is wrong in them
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        document = tomllib.loads(content.decode())
    except ValueError as problem:  # not TOML, or not UTF-8
        if is_interrupt(problem):
            raise
        raise ConfigError(f"{path} is not valid TOML: {problem}.") from problem
    if not in_pyproject:
        return document
    tools = document.get("tool")
    return tools.get("hush") if isinstance(tools, dict) else None


def plugin_settings(config: Config | None = None) -> PluginSettings:
    """`[plugins]` as it holds now: `HUSH_PLUGINS` stands in for `load`, `HUSH_BLOCK_PLUGINS` for `block`.

    The variables are lists with commas. Set and empty, they name nothing: `HUSH_PLUGINS=` loads no plugin at all.
    """
    settings = (load_config() if config is None else config).plugins
    load, block = os.environ.get("HUSH_PLUGINS"), os.environ.get("HUSH_BLOCK_PLUGINS")
    return PluginSettings(
        settings.load if load is None else _names(load), settings.block if block is None else _names(block)
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for part in text.split(",") if (name := part.strip()))


def tracer_settings(table: Mapping[str, Any], source: str) -> TracerSettings:
    """The settings of a tracer that code says, checked as a `[tracers.NAME]` table is; errors name the ``source``."""
    return _Document(source).tracer(dict(table), ())


def setting_error(source: str, keys: tuple[str, ...], problem: str) -> ConfigError:
    """What is wrong with a setting of a file, or of what code says, in the words of this module."""
    return _Document(source).error(keys, problem)


def _parse(table: object, source: str) -> Config:
    document = _Document(source)
    settings = document.table(table, (), Config)
    for key, struct in _TABLES.items():
        document.table(settings.get(key, {}), (key,), struct)
    named = document.table(settings.pop("tracers", {}), ("tracers",))
    tracers = {name: document.tracer(tracer, ("tracers", name)) for name, tracer in named.items()}
    config = document.convert(settings, Config, ())
    # A reader takes a longer frame for damage.
    document.within(("capture", "max_record"), config.capture.max_record, "4KiB", "64MiB")
    document.within(("delivery", "timeout"), config.delivery.timeout, "100ms", "24h")
    if config.delivery.memory != "unlimited":
        document.within(("delivery", "memory"), config.delivery.memory, "64MiB", "1TiB")
    return msgspec.structs.replace(config, tracers=tracers)


class _Document:
    """One file while it is being checked: turns what is wrong into a ConfigError that says where."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._root = ("tool", "hush") if os.path.basename(source) == "pyproject.toml" else ()

    def error(self, keys: tuple[str, ...], problem: str) -> ConfigError:
        return ConfigError(": ".join(filter(None, (self._source, ".".join((*self._root, *keys)), f"{problem}."))))

    def table(self, value: object, at: tuple[str, ...], struct: type[msgspec.Struct] | None = None) -> dict[str, Any]:
        """The value, a table, with no key but the struct's fields."""
        if not isinstance(value, dict):
            raise self.error(at, f"expected a table, got {_toml_type(value)}")
        valid = struct.__struct_fields__ if struct else tuple(value)
        for key in value:
            if key not in valid:
                problem = f"unknown setting{_did_you_mean(key, valid)}; valid here: {', '.join(valid)}"
                raise self.error((*at, key), problem)
        return value

    def tracer(self, value: object, at: tuple[str, ...]) -> TracerSettings:
        """A `[tracers.NAME]` table: keys that are not hush's own are kept for the tracer, which checks them."""
        table = self.table(value, at)
        if "type" not in table:
            raise self.error(at, 'needs a type, for example type = "local"')
        own: dict[str, Any] = {key: table[key] for key in TRACER_KEYS if key in table}
        options = {key: table[key] for key in table if key not in own}
        return msgspec.structs.replace(self.convert(own, TracerSettings, at), options=options)

    def within(self, at: tuple[str, ...], setting: Size | Duration, least: str, most: str) -> None:
        """The amount lies between the two, and so has a bound."""
        if isinstance(setting, Size):
            what, fits = "size", parse_size(least) <= (setting.bytes or 0) <= parse_size(most)
        else:
            what, fits = "duration", parse_duration(least) <= (setting.seconds or 0) <= parse_duration(most)
        if not fits:
            raise self.error(at, f"expected a {what} from {least} to {most}")

    def convert(self, table: dict[str, Any], struct: type[_Settings], at: tuple[str, ...]) -> _Settings:
        try:
            return msgspec.convert(table, struct, dec_hook=_text_setting)
        except msgspec.ValidationError as problem:
            # msgspec says "Expected `str`, got `int` - at `$.store.keep`".
            said, _, where = str(problem).rpartition(" - at `$")
            keys = tuple(where.strip("`.").split("."))
            valid = _choices(struct, keys)
            said = f"expected one of {', '.join(valid)}" if valid else said[:1].lower() + said[1:].replace("`", "")
            raise self.error((*at, *keys), said) from problem


def _text_setting(kind: type[Text], value: object) -> Text:
    if not isinstance(value, str):
        raise ValueError(f"expected a string, got {_toml_type(value)}")
    return kind(value)


def _toml_type(value: object) -> str:
    names: dict[type, str] = {
        str: "a string",
        bool: "a boolean",
        int: "an integer",
        float: "a number",
        list: "an array",
        dict: "a table",
    }
    return names.get(type(value), "a date or time")


def _did_you_mean(key: str, valid: tuple[str, ...]) -> str:
    meant = closest(key, valid)
    return f", did you mean {meant!r}?" if meant else ""


def _choices(struct: type[msgspec.Struct], keys: tuple[str, ...]) -> tuple[str, ...]:
    """What a setting may be, where it is one of a few words."""
    from msgspec import inspect

    found: inspect.Type = inspect.type_info(struct)
    for key in keys:
        fields = {field.name: field.type for field in found.fields} if isinstance(found, inspect.StructType) else {}
        found = fields.get(key, found)
    return tuple(map(str, found.values)) if isinstance(found, inspect.LiteralType) else ()
