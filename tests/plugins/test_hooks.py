"""Hooks are called plugin by plugin: what one does is its own, and what it breaks is named after it."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hush_core import PermanentFlushError, PluginError, RetryableFlushError
from hush_core.plugins import hookspecs
from hush_core.plugins.host import get_host

Install = Callable[..., None]
HOOKS = sorted(name for name in vars(hookspecs) if name.startswith("hush_"))
CHECKOUT = Path(__file__).parents[2]


def hook(name: str, parameters: str, body: str, options: str = "") -> str:
    return f"from hush_core import *\n\n@hookimpl{options}\ndef {name}({parameters}):\n    {body}\n"


# -- hush_before_flush ------------------------------------------------------------------------------------------------


def test_data_goes_on_as_a_plugin_changed_it_or_returned_it(install: Install, vendor: None) -> None:
    install("editor", hook("hush_before_flush", "flush_data", "flush_data['tags'].append('edited')"))
    flushed = get_host().before_flush("prod", {"tags": ["a"]})
    assert flushed == {"tags": ["a", "edited"], "seen_by": "prod"}


def test_a_plugin_drops_a_request_by_returning_false(vendor: None) -> None:
    assert get_host().before_flush("prod", {"tags": ["private"]}) is None


def test_plugins_are_asked_in_the_order_of_their_names_unless_they_say_otherwise(install: Install) -> None:
    for name, options in {"a": "", "b": "", "c": "(tryfirst=True)", "aa": "(trylast=True)"}.items():
        install(name, hook("hush_before_flush", "flush_data", f"flush_data['by'].append({name!r})", options))
    assert get_host().before_flush("prod", {"by": []}) == {"by": ["c", "a", "b", "aa"]}


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("raise SystemExit(2)", "it called sys.exit(2)"),
        ("return 3", "it returned int, and not a dict or None"),
        ("return True", "it returned bool, and not a dict or None"),
    ],
)
def test_one_that_fails_puts_the_delivery_off_and_is_named(body: str, why: str, install: Install) -> None:
    install("bad", hook("hush_before_flush", "flush_data", body))
    with pytest.raises(RetryableFlushError) as caught:
        get_host().before_flush("prod", {})
    assert str(caught.value) == f"hush_before_flush of the plugin 'bad' failed: {why}"


def test_one_that_says_what_the_failure_is_is_taken_at_its_word(install: Install) -> None:
    install("strict", hook("hush_before_flush", "flush_data", "raise PermanentFlushError('not this one')"))
    with pytest.raises(PermanentFlushError, match="not this one"):
        get_host().before_flush("prod", {})


# -- hush_after_flush -------------------------------------------------------------------------------------------------


def test_every_plugin_learns_the_outcome_though_one_raises(
    install: Install, vendor: None, caplog: pytest.LogCaptureFixture
) -> None:
    install("bad", hook("hush_after_flush", "outcome", "raise RuntimeError('no')"))
    with caplog.at_level(logging.ERROR, "hush"):
        get_host().after_flush("prod", "r-1", "delivered")
    from hush_vendor.tracer import OUTCOMES  # type: ignore[import-not-found]

    assert OUTCOMES == [("r-1", "delivered")]
    assert caplog.messages == ["hush: hush_after_flush of the plugin 'bad' failed: RuntimeError: no"]


# -- hush_mask --------------------------------------------------------------------------------------------------------


def test_a_record_goes_on_as_a_plugin_changed_it_or_returned_it(install: Install, vendor: None) -> None:
    install("cutter", hook("hush_mask", "record", "return {**record, 'input_data': None}"))
    assert get_host().mask({"input_data": "secret"}) == {"input_data": None, "masked_by": "vendor"}


def test_a_mask_that_fails_is_an_error_that_names_its_plugin(install: Install) -> None:
    install("bad", hook("hush_mask", "record", "raise SystemExit"))
    with pytest.raises(PluginError, match=re.escape("hush_mask of the plugin 'bad' failed: it called sys.exit()")):
        get_host().mask({})


# -- hush_register_commands -------------------------------------------------------------------------------------------


def test_commands_are_those_that_each_plugin_adds(vendor: None) -> None:
    commands = get_host().commands()
    assert {plugin: list(added) for plugin, added in commands.items()} == {"hush-core": [], "vendor": ["greet"]}


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("raise SystemExit(2)", "it called sys.exit(2)"),
        (
            "import click; cli.add_command(click.Command('traces'))",
            "it adds the command 'traces', which there is already",
        ),
        (
            "import click; cli.add_command(click.Command('greet'))",
            "it adds the command 'greet', which there is already",
        ),
    ],
)
def test_a_plugin_whose_commands_cannot_be_added_is_quarantined(
    body: str, why: str, install: Install, vendor: None
) -> None:
    install("zbad", hook("hush_register_commands", "cli", body) + "\n@hookimpl\ndef hush_mask(record): 1 / 0\n")
    host = get_host()
    assert "zbad" not in host.commands(taken=["traces"])
    assert [(broken.name, broken.reason) for broken in host.broken] == [("zbad", why)]
    assert [plugin.name for plugin in host.plugins] == ["hush-core", "vendor"]
    assert host.mask({}) == {"masked_by": "vendor"}


# -- every hook -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_has_a_docstring_a_row_in_the_reference_and_a_test(name: str) -> None:
    assert getattr(hookspecs, name).__doc__
    arguments = ", ".join(getattr(hookspecs, name).__code__.co_varnames)
    assert f"| `{name}({arguments})` |" in (CHECKOUT / "docs" / "reference.md").read_text()
    assert f'"{name}"' in Path(__file__).read_text() or name == "hush_register_tracers"


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_has_a_plugin_that_uses_it(name: str, vendor: None) -> None:
    used: set[Any] = {each for plugin in get_host().plugins for each in plugin.hooks}
    assert name in used
