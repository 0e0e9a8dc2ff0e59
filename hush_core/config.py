"""Settings: the one place that reads `hush.toml`, `[tool.hush]` and the `HUSH_*` variables, always when asked.

A setting that is unknown, of the wrong type or out of range is a `ConfigError` that names the file, the key, what is
wrong and what would be right. `${NAME}` in a value stays as written: it is a reference to a variable, resolved only
where it is used, so that no secret passes through here.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeVar

import msgspec

from hush_core.errors import ConfigError

if TYPE_CHECKING:
    from typing_extensions import Self

_Settings = TypeVar("_Settings", bound=msgspec.Struct)

_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_BYTES: Final = {
    "B": 1,
    **{f"{prefix}B": 1000**power for power, prefix in enumerate("KMGT", start=1)},
    **{f"{prefix}iB": 1024**power for power, prefix in enumerate("KMGT", start=1)},
}
_AMOUNT: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*", re.ASCII)


def parse_duration(text: str) -> float:
    """Seconds in a text such as "30d", "12h" or "1.5s". ValueError for anything else."""
    return _amount(text, _SECONDS, "a duration", "30d")


def parse_size(text: str) -> int:
    """Bytes in a text such as "5GB" (powers of 1000) or "4MiB" (powers of 1024). ValueError for anything else."""
    return int(_amount(text, _BYTES, "a size", "5GB"))


def _amount(text: str, units: dict[str, Any], what: str, example: str) -> float:
    match = _AMOUNT.fullmatch(text)
    factor = units.get(match[2]) if match else None
    if match is None or factor is None:
        raise ValueError(f"{text!r} is not {what} such as {example!r}; units: {', '.join(units)}")
    return float(match[1]) * float(factor)


class _Text(str):
    """A setting that stays the text that was written; making one of a text that is not valid is a ValueError."""

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        setting = super().__new__(cls, text)
        setting._check()
        return setting

    def _check(self) -> None:
        raise NotImplementedError


class Duration(_Text):
    """A duration such as "30d"; "forever" has no end."""

    __slots__ = ()

    def _check(self) -> None:
        _ = self.seconds  # raises ValueError

    @property
    def seconds(self) -> float | None:
        """None stands for no end."""
        return None if self == "forever" else parse_duration(self)


class Size(_Text):
    """A size such as "5GB"; "unlimited" has no bound."""

    __slots__ = ()

    def _check(self) -> None:
        _ = self.bytes  # raises ValueError

    @property
    def bytes(self) -> int | None:
        """None stands for no bound."""
        return None if self == "unlimited" else parse_size(self)


class Condition(_Text):
    """A rule of `when`: "error", "slow > 2s" or "tag:NAME"."""

    __slots__ = ()

    def _check(self) -> None:
        slow, above, _ = self.partition(">")
        if self != "error" and not self.tag and (slow.strip() != "slow" or not above):
            raise ValueError(f"{str(self)!r} is not a condition; valid are 'error', 'slow > 2s' and 'tag:NAME'")
        _ = self.slower_than_s  # raises ValueError

    @property
    def tag(self) -> str | None:
        """The tag that a request must bear, or None when the rule is another one."""
        return self.removeprefix("tag:") if self.startswith("tag:") else None

    @property
    def slower_than_s(self) -> float | None:
        """The seconds that a request must exceed, or None when the rule is another one."""
        return parse_duration(self.partition(">")[2]) if self.startswith("slow") else None


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
    """`[mask]`: the keys whose values must never reach the journal. Refused until capture can do it."""

    keys: tuple[str, ...] = ()


class TracerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[tracers.NAME]`: which tracer, for which requests. `options` holds the keys that are the tracer's own."""

    type: str
    tags: tuple[str, ...] = ()
    sample: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    when: tuple[Condition, ...] = ()
    options: dict[str, Any] = {}


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All settings; what a file does not say has its default."""

    default: tuple[str, ...] = ()
    tracers: dict[str, TracerSettings] = {}
    mask: MaskSettings = MaskSettings()
    store: StoreSettings = StoreSettings()
    capture: CaptureSettings = CaptureSettings()


def default_db_path() -> Path:
    """The database that is meant when none is named: `HUSH_TRACES_DB`, else `~/.hush/traces.db`."""
    return Path(_from_home(os.environ.get("HUSH_TRACES_DB") or "~/.hush/traces.db", "HUSH_TRACES_DB"))


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
    folders = _folders_upwards()
    candidates = [os.path.join(folder, name) for name in ("hush.toml", "pyproject.toml") for folder in folders]
    for path in [*candidates, os.path.expanduser("~/.hush/hush.toml")]:
        if os.path.isfile(path) and _load(path) is not None:
            return Path(path)
    return None


def _folders_upwards() -> list[str]:
    try:
        folder = os.getcwd()
    except OSError:  # the working folder has been deleted
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
    except OSError as problem:
        raise ConfigError(f"Cannot read the settings in {path}: {problem.strerror}.") from problem
    table = _table(path, content)
    config = None if table is None else _parse(table, path)
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
        raise ConfigError(f"{path} is not valid TOML: {problem}.") from problem
    if not in_pyproject:
        return document
    tools = document.get("tool")
    return tools.get("hush") if isinstance(tools, dict) else None


def _parse(table: object, source: str) -> Config:
    document = _Document(source)
    settings = document.table(table, (), Config)
    for key, struct in (("mask", MaskSettings), ("store", StoreSettings), ("capture", CaptureSettings)):
        document.table(settings.get(key, {}), (key,), struct)
    named = document.table(settings.pop("tracers", {}), ("tracers",))
    tracers = {name: document.tracer(tracer, ("tracers", name)) for name, tracer in named.items()}
    config = document.convert(settings, Config, ())
    most = config.capture.max_record.bytes
    if most is None or not 4 * 1024 <= most <= 64 * 1024**2:  # a reader takes a longer frame for damage
        raise document.error(("capture", "max_record"), "expected a size from 4KiB to 64MiB")
    if config.mask.keys:  # said aloud, so that nobody relies on it
        raise document.error(
            ("mask", "keys"), "this version of hush cannot mask yet, and would store the values as they are"
        )
    return msgspec.structs.replace(config, tracers=tracers)


class _Document:
    """One file while it is being checked: turns what is wrong into a ConfigError that says where."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._root = ("tool", "hush") if os.path.basename(source) == "pyproject.toml" else ()

    def error(self, keys: tuple[str, ...], problem: str) -> ConfigError:
        return ConfigError(f"{self._source}: {'.'.join((*self._root, *keys))}: {problem}.")

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
        own: dict[str, Any] = {key: table[key] for key in ("type", "tags", "sample", "when") if key in table}
        options = {key: table[key] for key in table if key not in own}
        return self.convert({**own, "options": options}, TracerSettings, at)

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


def _text_setting(kind: type[_Text], value: object) -> _Text:
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
    import difflib

    close = difflib.get_close_matches(key, valid, n=1)
    return f", did you mean {close[0]!r}?" if close else ""


def _choices(struct: type[msgspec.Struct], keys: tuple[str, ...]) -> tuple[str, ...]:
    """What a setting may be, where it is one of a few words."""
    from msgspec import inspect

    found: inspect.Type = inspect.type_info(struct)
    for key in keys:
        fields = {field.name: field.type for field in found.fields} if isinstance(found, inspect.StructType) else {}
        found = fields.get(key, found)
    return tuple(map(str, found.values)) if isinstance(found, inspect.LiteralType) else ()
