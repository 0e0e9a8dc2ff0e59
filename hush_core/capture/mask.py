"""The mask: what `[mask]` in the settings says must not reach the journal does not.

Values of `[mask] keys` are left out by the walk that copies a record (`masked`). Then the `hush_mask` of each plugin
that `[mask] plugins` names sees the copy, and may change what the workflow's data is in it. It fails closed: where the
mask cannot do its work, that data is withheld, visibly, and reported; names, numbers and times stay.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgspec

from hush_core import model
from hush_core.capture.budget import MASKED, Budget, name_of, withheld
from hush_core.capture.masked import LEAVES, Keys, MaskedWalk, PlainCopy
from hush_core.capture.snapshot import encode_value_carefully, encode_walked, field_names, last_resort, walk_record
from hush_core.capture.walk import Walk
from hush_core.errors import HushError, PluginError
from hush_core.interrupt import is_interrupt

_encode: Final = msgspec.msgpack.Encoder().encode

#: Tells the funnel (`Background.report`) what went wrong, and what was being done.
Report = Callable[[BaseException, str], None]

#: The fields that hold what the workflow's data is: what a mask may change, and what is withheld when it cannot.
#: All others a journal cannot do without, or are numbers.
DATA: Final = frozenset(
    {"input_data", "output_data", "metadata", "media", "error", "tags", "user_id", "session_id"},
)
#: The fields without keys of the workflow's: a tracer's configuration needs its own, and has its secrets sealed.
_SETTINGS: Final = frozenset({"tracer_config", "tracers", "target", "policy"})
_NO_KEYS: Final = Keys(())
#: How long threads wait for one that loads the plugins, once: it may itself wait for them, or be lost in a fork.
_PATIENCE_S: Final = 10.0
#: What a kind of record is called in `record["kind"]`.
KINDS: Final = {
    model.NODE: "node",
    model.NODE_START: "node_start",
    model.NODE_END: "node_end",
    model.REQUEST_START: "request_start",
    model.REQUEST_COMPLETE: "request_complete",
}


class _Failed(PluginError):
    """A plugin's mask cannot be relied on: whose, and why. Without a word of the record: this will be logged."""

    def __init__(self, plugin: str, reason: str, detail: str = "") -> None:
        said = f"{reason} ({detail})" if detail else reason
        super().__init__(f"{said}; what it was to mask is withheld")
        self.plugin = plugin
        self.reason = reason


class _Hook:
    """The `hush_mask` of one plugin. Raises `_Failed`, when it is made and when it is called, and interrupts."""

    __slots__ = ("_mask", "_plugin")

    def __init__(self, plugin: str) -> None:
        self._plugin = plugin
        try:
            from hush_core.plugins.host import get_plugins

            host = get_plugins((plugin,))
            self._mask = host.mask
            if any("hush_mask" in each.hooks for each in host.plugins):
                return
        except BaseException as problem:
            if is_interrupt(problem):
                raise
            said = str(problem) if isinstance(problem, HushError) else name_of(type(problem))
            raise _Failed(plugin, f"the mask of the plugin {plugin!r} cannot be loaded", said) from None
        raise _Failed(plugin, f"the plugin {plugin!r} has no hush_mask")

    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        """The record as the plugin leaves it."""
        try:
            return dict(self._mask(record))
        except BaseException as problem:  # whose text may hold what was to be masked
            if is_interrupt(problem):
                raise
            kind = name_of(type(problem.__cause__ or problem))
            raise _Failed(self._plugin, f"the mask of the plugin {self._plugin!r} failed: {kind}") from None


class Mask:
    """Encodes records so that nothing masked is in the bytes. For any number of threads; a forked child keeps it.

    `encode` and `encode_value` never raise but an interrupt, and RecursionError where the stack ends before they
    have begun.

    :param keys: names whose values are masked, at any depth of any field.
    :param plugins: names of the plugins whose `hush_mask` sees each record.
    :param unreadable: why nothing may be kept at all, if that is so.
    """

    __slots__ = ("_hooks", "_inside", "_keys", "_loading", "_lost", "_patience_s", "_plugins", "_report", "_special")

    def __init__(
        self, keys: Iterable[str] = (), plugins: Iterable[str] = (), *, report: Report, unreadable: str | None = None
    ) -> None:
        self._keys = Keys(keys)
        self._plugins = tuple(plugins)
        self._report = report
        self._lost = unreadable
        self._hooks: tuple[_Hook, ...] | None = None if self._plugins else ()
        self._special = {
            kind: [
                (at, name)
                for at, name in enumerate(field_names(kind), start=1)
                if name in _SETTINGS or (name in DATA and name in self._keys)
            ]
            for kind in KINDS
        }
        self._patience_s = _PATIENCE_S
        self._loading = threading.RLock()  # reentrant: a signal handler may record while this thread is loading
        self._inside = threading.local()  # whether this thread is in a plugin: what that records itself

    def encode(self, fields: tuple[Any, ...]) -> bytes:
        """Encode a record, masked."""
        try:
            masked = self._masked(fields)
            try:
                return _encode(self._copy_plainly(masked))
            except BaseException as problem:  # odd types, a cycle, a lone surrogate: as in `record`
                if is_interrupt(problem):
                    raise
                return encode_walked(masked, copy=self._copy)
        except BaseException as problem:  # no memory, or no stack left
            if is_interrupt(problem):
                raise
            return last_resort(_without_data(fields, name_of(type(problem))), problem)

    def encode_value(self, value: Any) -> bytes:
        """Encode a value that will be part of a record, as `msgspec.Raw`, without what its keys mask.

        Plugins see it as part of that record.
        """
        return encode_value_carefully(value if self._lost is None else withheld(self._lost), self._copy)

    def _copy_plainly(self, fields: Sequence[Any]) -> list[Any]:
        """A copy of a record of plain values, as `_copy` gives of each field. Raises for any other record."""
        copy = PlainCopy(self._keys).value
        copies = [value if type(value) in LEAVES else copy(value) for value in fields]
        for at, name in self._special[fields[0]]:
            if at < len(fields):
                value = fields[at]
                copies[at] = PlainCopy(_NO_KEYS).value(value) if name in _SETTINGS else _in_place_of(name, value)
        return copies

    def _copy(self, name: str, value: Any, budget: Budget) -> Any:
        """A copy of a field's value, or of one that will be part of a field, without what the keys mask."""
        if name in _SETTINGS or not self._keys:
            return Walk(budget).value(value)
        if name in DATA and name in self._keys:
            return _in_place_of(name, value)
        return MaskedWalk(budget, self._keys).value(value)

    def _masked(self, fields: tuple[Any, ...]) -> Sequence[Any]:
        """The record as the plugins leave it; without its data where they cannot be relied on."""
        if self._hooks is None:
            self.load()
        if self._lost is not None:
            return _without_data(fields, self._lost)
        if self._hooks == ():
            return fields
        if self._hooks is None or self._is_inside():
            return _without_data(fields, "recorded while a mask was at work")
        self._inside.now = True
        try:
            return self._through(self._hooks, fields)
        except _Failed as failed:
            self._report(failed, f"masking with the plugin {failed.plugin!r}")
            return _without_data(fields, failed.reason)
        finally:
            self._inside.now = False

    def _through(self, hooks: tuple[_Hook, ...], fields: tuple[Any, ...]) -> list[Any]:
        """Show a copy of a record to each plugin, and take over what they made of its data."""
        try:
            copies = self._copy_plainly(fields)
        except Exception as problem:
            if is_interrupt(problem):
                raise
            copies = walk_record(fields, copy=self._copy)
        names = field_names(fields[0])
        record = {"kind": KINDS.get(fields[0]), **dict.fromkeys(names)}
        record.update(zip(names, copies[1:], strict=False))
        for hook in hooks:
            record = hook(record)
        masked = [*fields, *[None] * (1 + len(names) - len(fields))]
        for at, name in enumerate(names, start=1):
            if name in DATA:
                masked[at] = record.get(name)
        while len(masked) > len(fields) and masked[-1] is None:
            masked.pop()
        return masked

    def load(self) -> None:
        """Load the plugins, the first time; the other threads wait. Never raises but an interrupt."""
        if self._hooks is not None or self._is_inside():
            return
        if not self._loading.acquire(timeout=self._patience_s):
            self._patience_s = 0.0
            return
        self._inside.now = True
        try:
            if self._hooks is None:
                self._hooks = tuple(_Hook(name) for name in self._plugins)
        except _Failed as failed:
            self._lost, self._hooks = failed.reason, ()
            self._report(failed, f"masking with the plugin {failed.plugin!r}")
        finally:
            self._inside.now = False
            self._loading.release()

    def _is_inside(self) -> bool:
        return getattr(self._inside, "now", False)


def _in_place_of(name: str, value: Any, note: str = MASKED) -> Any:
    """What stands for a whole field's value."""
    return None if value is None else [note] if name == "tags" else note


def _without_data(fields: tuple[Any, ...], reason: str) -> list[Any]:
    """A record with a note in the place of its data."""
    note, names = withheld(reason), field_names(fields[0])
    return [
        _in_place_of(names[at - 1] if at <= len(names) else "", value, note)
        if at and (at > len(names) or names[at - 1] in DATA)
        else value
        for at, value in enumerate(fields)
    ]
