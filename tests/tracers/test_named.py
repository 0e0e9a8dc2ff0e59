"""Tracers by name: what the settings say, what plugins offer, and what is said when a name or an option is wrong."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fake_plugin
import pytest

import hush_core
from hush_core import (
    BaseTracer,
    ConfigError,
    DuplicateTracerError,
    LocalTracer,
    PluginLoadError,
    UnknownTracerError,
    get_registered_tracers,
    get_tracer,
)

FAKE_PLUGINS = Path(__file__).parents[1] / "fake_plugins" / "site"
KEYS = {"public_key": "${PUBLIC_KEY}", "secret_key": "${SECRET_KEY}"}
PROD = """
[tracers.prod]
type = "vendor"
tags = ["prod", "ml-team"]
public_key = "${PUBLIC_KEY}"
secret_key = "${SECRET_KEY}"
sample = 0.2
when = ["error", "slow > 2s", "tag:vip"]
"""


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plugin "vendor" is, and what a test puts into the folder "site"."""
    monkeypatch.setattr("hush_core.plugins.host._hosts", {})
    for folder in (FAKE_PLUGINS, tmp_path / "site"):
        monkeypatch.syspath_prepend(str(folder))


@pytest.fixture
def settings(tmp_path: Path) -> Callable[[str], Path]:
    """Write the settings file; gives its path."""

    def write(text: str) -> Path:
        path = tmp_path / "hush.toml"
        path.write_text(text)
        return path

    return write


Settings = Callable[[str], Path]


def config_of(tracer: BaseTracer) -> dict[str, Any]:
    return tracer._get_tracer_config()


# -- from a table of the settings -------------------------------------------------------------------------------------


def test_a_table_makes_a_tracer_with_its_name_tags_policy_and_options(settings: Settings) -> None:
    settings(PROD)
    tracer = get_tracer("prod")
    assert type(tracer).__name__ == "VendorTracer"
    assert (tracer.name, tracer.tags) == ("prod", ["prod", "ml-team"])
    assert tracer._policy == {"sample": 0.2, "when": ["error", "slow > 2s", "tag:vip"]}
    assert config_of(tracer) == {**KEYS, "host": "https://vendor.example", "timeout_s": 5.0}


def test_a_table_of_the_name_comes_before_a_plugin_of_it(settings: Settings) -> None:
    settings("[tracers.vendor]\ntype = 'local'\n")
    assert isinstance(get_tracer("vendor"), LocalTracer)


def test_options_in_the_call_come_before_those_of_the_table(settings: Settings) -> None:
    settings(PROD)
    tracer = get_tracer("prod", timeout_s=1.5, tags=["mine"], sample=1.0)
    assert (tracer.name, tracer.tags, tracer._policy) == ("prod", ["mine"], {"when": ["error", "slow > 2s", "tag:vip"]})
    assert config_of(tracer) == {**KEYS, "host": "https://vendor.example", "timeout_s": 1.5}


def test_a_type_may_be_a_class_of_a_module_without_a_plugin(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "my_tracers.py").write_text(
        "from hush_core import LocalTracer\nclass Mine(LocalTracer): pass\n"
    )
    settings("[tracers.mine]\ntype = 'my_tracers:Mine'\n")
    for tracer, name in ((get_tracer("mine"), "mine"), (get_tracer("my_tracers:Mine"), "Mine")):
        assert (type(tracer).__name__, tracer.name) == ("Mine", name)


# -- from a plugin ----------------------------------------------------------------------------------------------------


def test_a_type_makes_a_tracer_with_the_options_of_the_call() -> None:
    tracer = get_tracer("vendor", **KEYS, tags=["a"], sample=0.5)
    assert (tracer.name, tracer.tags, tracer._policy) == ("VendorTracer", ["a"], {"sample": 0.5})
    assert config_of(tracer)["public_key"] == "${PUBLIC_KEY}"


def test_the_local_tracer_needs_no_settings_and_no_plugin() -> None:
    tracer = get_tracer("local")
    assert type(tracer) is LocalTracer
    assert tracer._policy is None


# -- several, and none ------------------------------------------------------------------------------------------------


def test_without_a_name_it_is_the_default(settings: Settings) -> None:
    settings(f"default = ['prod']\n{PROD}")
    assert [get_tracer().name, get_tracer(None).name] == ["prod", "prod"]


def test_several_defaults_and_several_names_are_one_tracer_for_all_of_them(settings: Settings) -> None:
    settings(f"default = ['prod', 'local', 'prod']\n{PROD}")
    for tracer in (get_tracer(), get_tracer("prod", "local")):
        assert [(each.name, each.tags) for each in tracer._tracers()] == [
            ("prod", ["prod", "ml-team"]),
            ("LocalTracer", []),
        ]
        assert tracer.tags == ["prod", "ml-team"]
        assert repr(tracer) == "<FanOutTracer 'prod, LocalTracer'>"


def test_without_a_default_it_is_said_what_to_write(settings: Settings) -> None:
    with pytest.raises(ConfigError) as caught:
        get_tracer()
    assert str(caught.value) == (
        "No tracer is named, and there is no settings file with a default. Write default = ['local'] at the top of "
        "hush.toml, or name one: get_tracer('local')."
    )
    path = settings(PROD)
    with pytest.raises(ConfigError) as caught:
        get_tracer()
    assert str(caught.value) == (
        f"No tracer is named, and {path} sets no default, though it has [tracers] prod. Write default = ['prod'] at "
        f"the top of {path}, or name one: get_tracer('prod')."
    )


# -- what is wrong ----------------------------------------------------------------------------------------------------


def test_an_unknown_name_lists_what_is_installed_and_configured(settings: Settings) -> None:
    with pytest.raises(UnknownTracerError) as caught:
        get_tracer("vendr")
    assert str(caught.value) == (
        "No tracer named 'vendr'. Did you mean 'vendor'? Installed: local (built in), vendor (hush-vendor 0.3.0). "
        "Check [tracers] in hush.toml."
    )
    settings(PROD)
    with pytest.raises(UnknownTracerError, match=r"Did you mean 'prod'\? Installed: .* Configured: prod\. Check"):
        get_tracer("prdo")


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (
            "type = 'vendr'",
            "tracers.x.type: No tracer named 'vendr'. Did you mean 'vendor'? Installed: local (built in), ",
        ),
        ("type = 'os:path'", "tracers.x.type: 'os:path' is <module 'posixpath'"),
        (
            "type = 'vendor'\npublic_kye = 'a'",
            "tracers.x.public_kye: unknown option of VendorTracer, did you mean 'public_key'?; "
            "valid here: type, tags, sample, when, public_key, secret_key, host, timeout_s.",
        ),
        (
            "type = 'vendor'\npublic_key = 'a'",
            "tracers.x: VendorTracer needs secret_key; "
            "valid here: type, tags, sample, when, public_key, secret_key, host, timeout_s.",
        ),
        (
            "type = 'vendor'\npublic_key = '${PUBLIC-KEY}'\nsecret_key = 'b'",
            "tracers.x.public_key: '${PUBLIC-KEY}' is no reference; write ${NAME}, or $${ for the characters ${.",
        ),
        (
            "type = 'local'\nurl = 'x'",
            "tracers.x.url: unknown option of LocalTracer; valid here: type, tags, sample, when.",
        ),
    ],
)
def test_a_wrong_table_is_said_with_its_file_key_and_the_valid_ones(table: str, said: str, settings: Settings) -> None:
    path = settings(f"[tracers.x]\n{table}\n")
    with pytest.raises(ConfigError) as caught:
        get_tracer("x")
    assert str(caught.value).startswith(f"{path}: {said}")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"hots": "x"},
            "hots: unknown option of VendorTracer, did you mean 'host'?; valid here: tags, sample, when, public_",
        ),
        ({"sample": 2}, "sample: expected float <= 1.0."),
        ({"when": ["later"]}, "when[0]: 'later' is not a condition; valid are 'error', 'slow > 2s' and 'tag:NAME'"),
        ({"tags": "prod"}, "tags: expected array, got str."),
        ({"type": "local"}, "type: not an option here: the name says which tracer."),
    ],
)
def test_a_wrong_option_in_the_call_is_said_with_the_valid_ones(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        get_tracer("vendor", **{**KEYS, **options})
    assert str(caught.value).startswith(f"get_tracer('vendor'): {said}")


def test_what_the_class_says_of_its_options_names_the_table_and_shows_no_secret(settings: Settings) -> None:
    path = settings("[tracers.x]\ntype = 'vendor'\npublic_key = 'a'\nsecret_key = 'hunter2'\nhost = 'http://h'\n")
    with pytest.raises(ConfigError) as caught:
        get_tracer("x")
    assert str(caught.value) == (
        f"{path}: tracers.x: VendorTracer cannot be made of this: ValueError: http://h is not reached over TLS (with "
        "the key [redacted])."
    )
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_class_that_takes_anything_is_given_anything(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    source = """
from hush_core import LocalTracer
class Open(LocalTracer):
    def __init__(self, url, **more):
        super().__init__(**more)
        self.url = url
"""
    (tmp_path / "site" / "open_tracers.py").write_text(source)
    assert get_tracer("open_tracers:Open", url="u", tags=["a"]).tags == ["a"]
    with pytest.raises(
        ConfigError, match=r"get_tracer\('open_tracers:Open'\): Open cannot be made of this: TypeError: "
    ):
        get_tracer("open_tracers:Open", url="u", urk="v")


@pytest.mark.parametrize("name", ["no_such_module:Tracer", "hush_core.errors:Nothing"])
def test_a_class_that_cannot_be_imported_is_said_with_the_reason(name: str) -> None:
    with pytest.raises(PluginLoadError, match=rf"The tracer '{name}' cannot be imported: "):
        get_tracer(name)


def test_a_name_that_two_plugins_offer_is_an_error_and_no_other_is(tmp_path: Path) -> None:
    for name in ("one", "two"):
        source = "from hush_core import hookimpl\n@hookimpl\ndef hush_register_tracers(register):\n"
        fake_plugin.install(tmp_path / "site", name, f"{source}    register('same', 'hush_core:LocalTracer')\n")
    with pytest.raises(DuplicateTracerError, match=r"hush-one 1\.2\.3 and hush-two 1\.2\.3"):
        get_tracer("same")
    assert get_tracer("vendor", **KEYS).name == "VendorTracer"


def test_wrong_settings_are_said_and_not_passed_over(settings: Settings) -> None:
    settings("[stor]\n")
    with pytest.raises(ConfigError, match="stor: unknown setting"):
        get_tracer("local")


# -- what is registered -----------------------------------------------------------------------------------------------


def test_registered_tracers_are_classes_by_name() -> None:
    found = get_registered_tracers()
    assert list(found) == ["local", "vendor"]
    assert found["local"] is LocalTracer
    assert issubclass(found["vendor"], hush_core.BaseTracer)


def test_one_that_cannot_be_imported_is_left_out(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = """
        from hush_core import hookimpl
        @hookimpl
        def hush_register_tracers(register):
            register("gone", "no_such_module:Tracer")
            register("here", "hush_core:LocalTracer")
    """
    fake_plugin.install(tmp_path / "site", "mixed", source)
    fake_plugin.install(tmp_path / "site", "broken", "1 / 0")
    assert list(get_registered_tracers()) == ["here", "local", "vendor"]
    assert capfd.readouterr() == ("", "")


def test_nothing_is_asked_of_the_environment_for_a_reference(settings: Settings) -> None:
    settings(PROD)
    assert "SECRET_KEY" not in os.environ
    assert get_tracer("prod").name == "prod"
