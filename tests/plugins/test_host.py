"""The plugin host: what is installed is loaded one by one, and what is broken is named and harms nobody."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import hush_core
from hush_core import ConfigError, DuplicateTracerError, LocalTracer, PluginLoadError, UnknownTracerError, hookimpl
from hush_core.plugins.host import Broken, find_tracer, get_host, get_plugins

Install = Callable[..., None]
Offer = Callable[..., str]


def reasons() -> dict[str, str]:
    """Why each broken plugin is."""
    return {broken.name: broken.reason for broken in get_host().broken}


# -- loading ----------------------------------------------------------------------------------------------------------


def test_the_local_tracer_comes_through_the_same_door() -> None:
    host = get_host()
    assert [plugin.module for plugin in host.plugins] == ["hush_core.plugins.builtin"]
    assert host.find("local").origin == "built in"
    assert host.load(host.find("local").target) is LocalTracer
    assert host.broken == []


def test_an_installed_plugin_is_loaded_with_its_distribution_and_version(vendor: None) -> None:
    [_, plugin] = get_host().plugins
    assert (plugin.name, plugin.distribution, plugin.version) == ("vendor", "hush-vendor", "0.3.0")
    assert plugin.module == "hush_vendor.plugin"
    assert plugin.hooks == (
        "hush_after_flush",
        "hush_before_flush",
        "hush_mask",
        "hush_register_commands",
        "hush_register_tracers",
    )
    [tracer] = plugin.tracers
    assert tracer == get_host().registrations["vendor"]
    assert (tracer.name, tracer.target) == ("vendor", "hush_vendor.tracer:VendorTracer")
    assert (tracer.summary, tracer.origin) == ("A vendor's cloud", "hush-vendor 0.3.0")


def test_the_host_is_made_once_for_as_long_as_the_same_is_installed(install: Install, offer: Offer) -> None:
    first = get_host()
    assert get_host() is first
    install("late", offer("late"))
    assert "late" in get_host().registrations


def test_a_tracer_is_found_by_its_name_and_by_the_name_of_its_class(vendor: None) -> None:
    host = get_host()
    assert host.find("vendor") is host.find("VendorTracer")


def test_a_plugin_may_be_an_object_of_its_module(tmp_path: Path, install: Install) -> None:
    source = """
        from hush_core import hookimpl
        class Plugin:
            @hookimpl
            def hush_register_tracers(self, register):
                register("object", "hush_core.tracers.local:LocalTracer")
        plugin = Plugin()
    """
    install("object", source)
    entry_points = tmp_path / "site" / "hush_object-1.2.3.dist-info" / "entry_points.txt"
    entry_points.write_text("[hush]\nobject = fake_object:plugin [extra]\n")
    assert find_tracer("object").name == "object"
    assert get_host().registrations["object"].origin == "hush-object 1.2.3"


def test_of_a_distribution_that_is_on_the_path_twice_the_first_counts(
    tmp_path: Path, on_path: Callable[[Path], None], install: Install, offer: Offer
) -> None:
    install("twice", offer("twice"), "2.0")
    first = tmp_path / "first" / "Hush.Twice-3.0.dist-info"
    first.mkdir(parents=True)
    (first / "METADATA").write_text("Metadata-Version: 2.1\nName: Hush.Twice\nVersion: 3.0\n")
    (first / "entry_points.txt").write_text("[hush]\ntwice = fake_twice\n")
    on_path(first.parent)
    assert get_host().find("twice").version == "3.0"
    assert find_tracer("twice").version == "3.0"
    assert get_host().broken == []


def test_damaged_metadata_of_others_is_passed_over_and_a_plugin_without_any_is_loaded(
    tmp_path: Path, install: Install, offer: Offer
) -> None:
    install("whole", offer("whole"))
    install("bare", offer("bare"))
    install("garbled", offer("garbled"))
    (tmp_path / "site" / "hush_bare-1.2.3.dist-info" / "METADATA").unlink()
    (tmp_path / "site" / "hush_garbled-1.2.3.dist-info" / "METADATA").write_bytes(b"Name: \xff\n")
    for name, content in {"binary": b"[hush]\n\xff\xfe = \xff", "odd": b"[hush]\nno value here\n= x\n[[[\n"}.items():
        folder = tmp_path / "site" / f"{name}-1.dist-info"
        folder.mkdir()
        (folder / "entry_points.txt").write_bytes(content)
    host = get_host()
    assert {"whole", "bare", "garbled"} <= set(host.registrations)
    assert find_tracer("whole").name == "whole"


# -- quarantine -------------------------------------------------------------------------------------------------------

REGISTER = "from hush_core import hookimpl\n@hookimpl\ndef hush_register_tracers(register):\n"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("from hush_core import nothing_of_the_kind", "ImportError: cannot import name 'nothing_of_the_kind'"),
        ("def broken(:", "SyntaxError: invalid syntax"),
        ("raise SystemExit(3)", "it called sys.exit(3)"),
        ("import sys; sys.exit('bye')", "it called sys.exit(bye)"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("class Odd(BaseException): __str__ = lambda self: 1 / 0\nraise Odd", "Odd: (its text cannot be had)"),
        ("x = 1", "it implements no hook: is @hookimpl missing?"),
        ("def hush_register_tracers(register): pass", "it implements no hook: is @hookimpl missing?"),
        (f"{REGISTER}    raise RuntimeError('no')", "RuntimeError: no"),
        (f"{REGISTER}    raise SystemExit", "it called sys.exit()"),
        (f"{REGISTER}    register('a', 'm:C')\n    1 / 0", "ZeroDivisionError: division by zero"),
        (f"{REGISTER}    register('a b', 'm:C')", "it registers 'a b' as a tracer's name"),
        (f"{REGISTER}    register('a', dict)", "it registers the tracer 'a' as <class 'dict'>, which has to be text"),
        (
            f"{REGISTER}    register('a', 'm.C')",
            "it registers the tracer 'a' as 'm.C', which has to be text: 'my_module",
        ),
        (f"{REGISTER}    register()", "TypeError: "),
        (
            "from hush_core import hookimpl\n@hookimpl\ndef hush_register_tracer(register): pass",
            "hush has no hook 'hush_register_tracer', did you mean 'hush_register_tracers'?; its hooks: ",
        ),
        (
            "from hush_core import hookimpl\n@hookimpl\ndef hush_mask(record, depth): pass",
            "PluginValidationError: Plugin 'bad' for hook 'hush_mask'",
        ),
        (
            "import pluggy\n@pluggy.HookimplMarker('hush')(wrapper=True)\ndef hush_mask(record): return (yield)",
            "its hush_mask is a wrapper, which hush does not call",
        ),
    ],
)
def test_a_broken_plugin_is_named_with_its_reason_and_harms_no_other(
    source: str, reason: str, install: Install, offer: Offer
) -> None:
    install("bad", source)
    install("good", offer("good"))
    host = get_host()
    [broken] = host.broken
    assert broken[:3] == ("bad", "hush-bad", "1.2.3")
    assert broken.reason.startswith(reason)
    assert list(host.registrations) == ["good", "local"]
    assert find_tracer("good").name == "good"


def test_asking_for_the_tracer_of_a_broken_plugin_says_why_it_is(install: Install) -> None:
    install("bad", "import no_such_module")
    with pytest.raises(PluginLoadError, match=r"'bad' \(hush-bad 1\.2\.3\) is broken: ModuleNotFoundError: No module"):
        find_tracer("bad")


def test_ctrl_c_while_a_plugin_is_loaded_is_the_users(install: Install) -> None:
    install("slow", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        get_host()


def test_a_hook_of_a_newer_hush_may_be_marked_as_optional(install: Install) -> None:
    source = """
        from hush_core import hookimpl
        @hookimpl(optionalhook=True)
        def hush_something_new(x): pass
        @hookimpl(specname="hush_register_tracers")
        def offer(register): register("newer", "hush_core.tracers.local:LocalTracer")
    """
    install("newer", source)
    assert get_host().broken == []
    assert find_tracer("newer").name == "newer"


def test_the_mark_of_a_hook_is_what_pluggy_makes() -> None:
    import pluggy

    marker = pluggy.HookimplMarker("hush")
    for options in ({}, {"tryfirst": True}, {"trylast": True, "specname": "x"}, {"optionalhook": True}):
        assert vars(hookimpl(**options)(lambda: None)) == vars(marker(**options)(lambda: None))
    assert vars(hookimpl(lambda: None)) == vars(marker(lambda: None))


# -- two of one name --------------------------------------------------------------------------------------------------


def test_two_plugins_that_offer_one_tracer_name_are_an_error_at_its_use_that_names_both(
    install: Install, offer: Offer
) -> None:
    install("one", offer("same", "only-one"))
    install("two", offer("same"), "0.2")
    host = get_host()
    for find in (host.find, find_tracer):
        with pytest.raises(
            DuplicateTracerError,
            match=r"The tracer name 'same' is that of hush-one 1\.2\.3 and hush-two 0\.2\. .*HUSH_BLOCK_PLUGINS",
        ):
            find("same")
    assert find_tracer("only-one").name == "only-one"
    assert "same" not in host.registrations
    assert host.broken == [
        Broken("one", "hush-one", "1.2.3", reasons()["one"]),
        Broken("two", "hush-two", "0.2", reasons()["two"]),
    ]
    assert reasons()["two"].startswith("the tracer name 'same' is also that of hush-one 1.2.3.")


def test_two_distributions_with_one_plugin_name_are_an_error_at_its_use_that_names_both(
    install: Install, offer: Offer
) -> None:
    install("twin", offer("twin"), distribution="hush-a")
    install("twin", offer("twin"), "2.0", distribution="hush-b")
    install("other", offer("other"))
    for find in (get_host().find, find_tracer):
        with pytest.raises(DuplicateTracerError, match=r"'twin' is that of hush-a 1\.2\.3 and hush-b 2\.0\."):
            find("twin")
    assert find_tracer("other").name == "other"
    assert [(each.distribution, each.reason[:52]) for each in get_host().broken] == [
        ("hush-a", "the plugin name 'twin' is also that of hush-b 2.0. U"),
        ("hush-b", "the plugin name 'twin' is also that of hush-a 1.2.3."),
    ]


def test_leaving_one_of_them_out_settles_it(install: Install, offer: Offer, monkeypatch: pytest.MonkeyPatch) -> None:
    install("twin", offer("twin"), distribution="hush-a")
    install("twin", offer("twin"), "2.0", distribution="hush-b")
    monkeypatch.setenv("HUSH_BLOCK_PLUGINS", "hush_a")
    assert find_tracer("twin").version == "2.0"
    assert get_host().broken == []


def test_what_is_built_in_cannot_be_taken_over(install: Install, offer: Offer) -> None:
    install("taker", offer("local", "mine"))
    host = get_host()
    assert host.find("local").origin == "built in"
    assert host.find("mine").origin == "hush-taker 1.2.3"
    assert reasons()["taker"].startswith(f"the tracer name 'local' is also that of hush-core {hush_core.__version__}.")


# -- which may be loaded ----------------------------------------------------------------------------------------------

SENTINEL = "raise RuntimeError('it was loaded')"


@pytest.mark.parametrize(
    ("variables", "settings", "loaded"),
    [
        ({}, "", ["a", "b"]),
        ({"HUSH_PLUGINS": ""}, "", []),
        ({"HUSH_PLUGINS": "a"}, "", ["a"]),
        ({"HUSH_PLUGINS": " HUSH_A , nothing"}, "", ["a"]),
        ({"HUSH_PLUGINS": "*"}, "[plugins]\nload = []", ["a", "b"]),
        ({"HUSH_BLOCK_PLUGINS": "hush.b"}, "", ["a"]),
        ({"HUSH_PLUGINS": "a,b", "HUSH_BLOCK_PLUGINS": "a"}, "", ["b"]),
        ({}, "[plugins]\nload = ['b']", ["b"]),
        ({}, "[plugins]\nblock = ['b']", ["a"]),
        ({"HUSH_BLOCK_PLUGINS": ""}, "[plugins]\nblock = ['b']", ["a", "b"]),
    ],
)
def test_the_lists_say_which_plugins_are_loaded(
    variables: dict[str, str],
    settings: str,
    loaded: list[str],
    tmp_path: Path,
    install: Install,
    offer: Offer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("a", "b"):
        install(name, offer(name) if name in loaded else SENTINEL)
    (tmp_path / "hush.toml").write_text(settings)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    host = get_host()
    assert [plugin.name for plugin in host.plugins] == ["hush-core", *loaded]
    assert [entry.name for entry in host.left_out] == [name for name in ("a", "b") if name not in loaded]
    assert host.broken == []
    assert "local" in host.registrations


def test_an_unknown_name_says_what_there_is_and_what_was_left_out_or_is_broken(
    install: Install, offer: Offer, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("langfuse", offer("langfuse"), "0.1.0")
    install("out", SENTINEL)
    install("bad", "1 / 0")
    monkeypatch.setenv("HUSH_BLOCK_PLUGINS", "out")
    with pytest.raises(UnknownTracerError) as caught:
        find_tracer("langfuze", ["prod"])
    assert str(caught.value) == (
        "No tracer named 'langfuze'. Did you mean 'langfuse'? "
        "Installed: langfuse (hush-langfuse 0.1.0), local (built in). Configured: prod. "
        "Left out by HUSH_PLUGINS, HUSH_BLOCK_PLUGINS or [plugins]: out (hush-out 1.2.3). "
        "Broken: bad (hush-bad 1.2.3); `hush plugins` says why. Check [tracers] in hush.toml."
    )
    with pytest.raises(UnknownTracerError, match="Left out by"):
        find_tracer("out")


# -- only what is needed ----------------------------------------------------------------------------------------------


def test_one_name_loads_only_the_plugin_that_is_called_so(install: Install, offer: Offer) -> None:
    install("one", offer("one"))
    install("other", "raise AssertionError('it was loaded')")
    assert find_tracer("one").name == "one"
    assert find_tracer("local").name == "local"


def test_a_tracer_of_a_plugin_with_another_name_is_found_among_all(install: Install, offer: Offer) -> None:
    install("one", offer("something-else"))
    install("other", offer("one"))
    assert find_tracer("one").origin == "hush-other 1.2.3"


def test_some_plugins_can_be_had_alone(install: Install, offer: Offer) -> None:
    install("one", offer("one"))
    install("two", offer("two"), distribution="hush-second")
    install("other", "raise AssertionError('it was loaded')")
    assert [plugin.name for plugin in get_plugins(["one", "hush_second"]).plugins] == ["hush-core", "one", "two"]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("gone", "it is not installed"),
        ("bad", "ZeroDivisionError: division by zero"),
        ("out", "HUSH_PLUGINS, HUSH_BLOCK_PLUGINS or [plugins] leaves it out"),
        ("twin", "the plugin name 'twin' is also that of hush-"),
    ],
)
def test_a_plugin_that_cannot_be_had_is_an_error_that_says_why(
    name: str, why: str, install: Install, offer: Offer, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("bad", "1 / 0")
    install("out", SENTINEL)
    install("twin", offer("twin"), distribution="hush-a")
    install("twin", offer("twin"), distribution="hush-b")
    monkeypatch.setenv("HUSH_BLOCK_PLUGINS", "out")
    with pytest.raises(PluginLoadError) as caught:
        get_plugins([name])
    assert str(caught.value).startswith(f"The plugin {name!r} cannot be loaded: {why}")


# -- targets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "error", "said"),
    [
        (None, PluginLoadError, "cannot be imported: ModuleNotFoundError: No module named 'fake_targets'"),
        ("raise SystemExit(1)", PluginLoadError, "cannot be imported: it called sys.exit(1)"),
        ("", PluginLoadError, "cannot be imported: AttributeError: module 'fake_targets' has no attribute 'Mine'"),
        ("Mine = 3", ConfigError, "is 3, which is no class derived from hush_core.BaseTracer"),
        ("class Mine: pass", ConfigError, "which is no class derived from hush_core.BaseTracer"),
    ],
)
def test_a_target_that_is_no_tracer_says_so(
    source: str | None, error: type[Exception], said: str, install: Install
) -> None:
    if source is not None:
        install("targets", source)
    with pytest.raises(error) as caught:
        get_host().load("fake_targets:Mine")
    assert said in str(caught.value)


@pytest.mark.parametrize("target", ["", "module", "module:", ":Class", "a b:C", "m:C()"])
def test_what_does_not_name_a_class_is_refused(target: str) -> None:
    with pytest.raises(ConfigError, match=r"names no class\. Write module and class: 'my_module:MyTracer'"):
        get_host().load(target)


def test_a_class_within_a_class_can_be_a_target(install: Install) -> None:
    source = """
        from hush_core import LocalTracer
        class Outer:
            class Inner(LocalTracer): pass
    """
    install("nested", source)
    assert get_host().load("fake_nested:Outer.Inner").__qualname__ == "Outer.Inner"
