"""`hush plugins`, and the commands that plugins add to `hush`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import fake_plugin
import pytest
from hush_command import Hush, on_terminal

import hush_core

COMMANDS = """
    from hush_core import HushError, hookimpl
    @hookimpl
    def hush_register_commands(cli):
        import click
        @cli.command(short_help="Say hello.")
        @click.option("--loud", is_flag=True)
        def greet(loud):
            click.echo("HELLO" if loud else "hello")
        @cli.command()
        def fail():
            raise HushError("it did not work")
"""


def test_what_is_built_in_is_a_plugin_like_others(hush: Hush) -> None:
    assert hush.output("plugins").splitlines() == [
        "plugin     package          tracers  hooks",
        f"hush-core  hush-core {hush_core.__version__}  local    hush_register_tracers",
    ]


def test_plugins_are_listed_with_all_that_they_bring(hush: Hush, plugins: Path) -> None:
    fake_plugin.install_tracer(plugins, "cloud", "pass")
    fake_plugin.install(plugins, "greeter", COMMANDS)
    found = hush.json("plugins")
    assert [(each["name"], each["distribution"], each["version"]) for each in found["plugins"]] == [
        ("hush-core", "hush-core", hush_core.__version__),
        ("cloud", "hush-cloud", "1.2.3"),
        ("greeter", "hush-greeter", "1.2.3"),
    ]
    _, cloud, greeter = found["plugins"]
    assert cloud["tracers"] == [{"name": "cloud", "target": "fake_cloud:FakeTracer", "summary": "Somewhere else"}]
    assert (greeter["commands"], greeter["hooks"]) == (["fail", "greet"], ["hush_register_commands"])
    assert (found["broken"], found["left_out"]) == ([], [])
    assert "hush-cloud 1.2.3" in hush.output("plugins")


def test_broken_ones_are_listed_with_their_reason_and_exit_with_1(hush: Hush, plugins: Path) -> None:
    fake_plugin.install(plugins, "bad", "import no_such_module")
    fake_plugin.install(
        plugins, "rude", "from hush_core import hookimpl\n@hookimpl\ndef hush_register_commands(cli): 1 / 0"
    )
    fake_plugin.install(
        plugins,
        "empty",
        "from hush_core import hookimpl\n@hookimpl\n"
        "def hush_register_tracers(register): register('empty', 'no_such_module:Tracer')",
    )
    result = hush("plugins", "--json")
    assert result.exit_code == 1
    listed = hush("plugins")
    assert listed.exit_code == 1
    reasons = {
        "bad": "ModuleNotFoundError: No module named 'no_such_module'",
        "empty": "The tracer 'no_such_module:Tracer' cannot be imported: ModuleNotFoundError: No module named",
        "rude": "ZeroDivisionError: division by zero",
    }
    for name, reason in reasons.items():
        assert f"{name} (hush-{name} 1.2.3) is broken: {reason}" in listed.stdout
        assert reason in result.stdout


def test_those_that_are_left_out_are_said(hush: Hush, plugins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_plugin.install(plugins, "out", "1 / 0")
    monkeypatch.setenv("HUSH_BLOCK_PLUGINS", "out")
    assert "out (hush-out 1.2.3): left out by HUSH_PLUGINS, HUSH_BLOCK_PLUGINS" in hush.output("plugins")
    assert hush.json("plugins")["left_out"] == [{"name": "out", "distribution": "hush-out", "version": "1.2.3"}]


def test_the_list_fits_a_terminal(plugins: Path) -> None:
    fake_plugin.install_tracer(plugins, "cloud", "pass")
    shown = on_terminal("plugins", columns=60)
    assert "hush-cloud 1.2.3" in shown
    assert max(map(len, shown.splitlines())) < 100


def test_nothing_a_plugin_says_of_itself_can_harm_the_terminal(hush: Hush, plugins: Path) -> None:
    fake_plugin.install(plugins, "evil", "raise RuntimeError('\\x1b[2J')")
    assert "\x1b" not in hush("plugins").stdout


# -- commands of plugins ----------------------------------------------------------------------------------------------


def test_a_plugins_command_runs_like_hushs_own(hush: Hush, plugins: Path) -> None:
    fake_plugin.install(plugins, "greeter", COMMANDS)
    assert hush.output("greet", "--loud") == "HELLO\n"
    assert "Usage: hush greet" in hush.output("greet", "--help")
    result = hush("fail")
    assert (result.exit_code, result.stderr) == (1, "Error: it did not work\n")


def test_help_lists_the_commands_of_plugins_after_hushs_own(hush: Hush, plugins: Path) -> None:
    fake_plugin.install(plugins, "greeter", COMMANDS)
    own, _, added = hush.output("--help").partition("Commands of plugins:")
    assert "traces" in own and "greet" not in own
    assert "Say hello." in added


def test_an_unknown_command_names_those_of_plugins_too(hush: Hush, plugins: Path) -> None:
    fake_plugin.install(plugins, "greeter", COMMANDS)
    result = hush("gret")
    assert result.exit_code == 2
    assert "Did you mean 'greet'?" in result.stderr


def test_a_plugin_cannot_replace_a_command_of_hush(hush: Hush, plugins: Path) -> None:
    source = COMMANDS.replace("def greet", "def traces")
    fake_plugin.install(plugins, "taker", source)
    assert "List requests, newest first." in hush.output("traces", "--help")
    assert "Say hello." not in hush.output("--help")
    assert "it adds the command 'traces', which there is already" in hush("plugins").stdout


def test_hushs_own_commands_load_no_plugin(plugins: Path) -> None:
    fake_plugin.install(plugins, "loud", "print('it was loaded')")
    command = [sys.executable, "-c", "from hush_core.cli import main; main()", "prune", "--help"]
    assert "it was loaded" not in subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


@pytest.mark.parametrize("arguments", [["--help"], ["tracez"]])
def test_wrong_settings_do_not_hide_the_help(arguments: list[str], hush: Hush, tmp_path: Path) -> None:
    (tmp_path / "hush.toml").write_text("[stor]\n")
    assert "traces" in hush(*arguments).output
