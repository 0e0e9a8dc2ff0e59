"""Settings: where they are found, what they mean, and what is said when they are wrong."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hush_core import ConfigError
from hush_core.config import (
    Condition,
    Config,
    Duration,
    PluginSettings,
    Size,
    default_db_path,
    find_config,
    load_config,
    parse_duration,
    parse_size,
    plugin_settings,
    resolve_db_path,
)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def complaint(folder: Path, text: str) -> str:
    """What ConfigError says about the text, without the file's name, which it has to begin with."""
    path = write(folder / "hush.toml", text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    said = str(caught.value)
    assert said.startswith(str(path))
    return said.removeprefix(str(path)).lstrip(": ")


# Where settings come from


def test_without_a_file_every_setting_has_its_default() -> None:
    assert find_config() is None
    config = load_config()
    assert config == Config()
    assert (config.store.keep.seconds, config.store.max_size.bytes) == (30 * 86400, 5 * 1000**3)
    assert config.store.durability == "process"
    assert (config.capture.start_records, config.capture.max_record.bytes) == (True, 8 * 1024**2)
    assert (config.default, config.tracers, config.mask.keys) == ((), {}, ())
    assert (config.plugins.load, config.plugins.block) == (("*",), ())
    assert (config.delivery.timeout.seconds, config.delivery.memory.bytes) == (60.0, 1024**3)


def test_hush_config_comes_before_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "hush.toml", 'default = ["here"]')
    named = write(tmp_path / "elsewhere" / "named.toml", 'default = ["named"]')
    monkeypatch.setenv("HUSH_CONFIG", str(named))
    assert find_config() == named
    assert load_config().default == ("named",)


def test_an_empty_hush_config_is_as_good_as_unset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = write(tmp_path / "hush.toml", "")
    monkeypatch.setenv("HUSH_CONFIG", "")
    assert find_config() == here


def test_hush_config_that_names_no_file_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUSH_CONFIG", str(tmp_path / "gone.toml"))
    with pytest.raises(ConfigError, match=r"HUSH_CONFIG names .*gone\.toml, which is not a file"):
        load_config()


def test_hush_config_may_start_with_the_home_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = write(home / "mine.toml", "")
    monkeypatch.setenv("HUSH_CONFIG", "~/mine.toml")
    assert find_config() == named


def test_hush_toml_is_looked_for_upwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    above = write(tmp_path / "hush.toml", "")
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert find_config() == above
    nearer = write(tmp_path / "a" / "hush.toml", "")
    assert find_config() == nearer


def test_hush_toml_above_comes_before_a_nearer_pyproject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    above = write(tmp_path / "hush.toml", "")
    write(tmp_path / "app" / "pyproject.toml", "[tool.hush]")
    monkeypatch.chdir(tmp_path / "app")
    assert find_config() == above


def test_pyproject_counts_only_with_a_hush_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    above = write(tmp_path / "pyproject.toml", '[tool.hush.store]\nkeep = "7d"')
    write(tmp_path / "app" / "pyproject.toml", '[project]\ndependencies = ["hush-core"]')
    monkeypatch.chdir(tmp_path / "app")
    assert find_config() == above
    assert load_config().store.keep.seconds == 7 * 86400


def test_a_broken_pyproject_that_is_not_about_hush_is_left_alone(tmp_path: Path) -> None:
    write(tmp_path / "pyproject.toml", "[[[")
    assert find_config() is None


def test_the_home_folder_comes_last(tmp_path: Path, home: Path) -> None:
    in_home = write(home / ".hush" / "hush.toml", "")
    assert find_config() == in_home
    here = write(tmp_path / "pyproject.toml", "[tool.hush]")
    assert find_config() == here


def test_a_deleted_working_folder_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert load_config() == Config()


def test_a_changed_file_is_read_again_and_an_unchanged_one_is_not(tmp_path: Path) -> None:
    path = write(tmp_path / "hush.toml", 'default = ["a"]')
    first = load_config(path)
    assert load_config(path) is first
    path.write_text('default = ["other"]')
    assert load_config(path).default == ("other",)


def test_a_file_that_was_wrong_is_accepted_once_it_is_mended(tmp_path: Path) -> None:
    path = write(tmp_path / "hush.toml", "default = 3")
    for _ in range(2):
        with pytest.raises(ConfigError):
            load_config(path)
    path.write_text("default = []")
    assert load_config(path) == Config()


def test_many_threads_may_load_at_once(tmp_path: Path) -> None:
    write(tmp_path / "hush.toml", 'default = ["a"]')
    loaded: list[Config] = []
    threads = [threading.Thread(target=lambda: loaded.append(load_config())) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [config.default for config in loaded] == [("a",)] * 16


@pytest.mark.parametrize("path", ["missing.toml", "."])
def test_a_file_that_cannot_be_read_is_named_with_the_reason(path: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"Cannot read the settings in {tmp_path}.*(No such file|Is a directory)"):
        load_config(tmp_path / path)


def test_importing_settings_reads_no_environment_and_no_toml_parser() -> None:
    code = "import os, sys; os.environ.clear(); import hush_core.config; print({'tomllib', 'tomli'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# Where the database is


def test_the_database_path_is_read_when_asked(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUSH_TRACES_DB", "~/mine.db")
    assert default_db_path() == home / "mine.db"
    monkeypatch.setenv("HUSH_TRACES_DB", "relative.db")
    assert default_db_path() == Path.cwd() / "relative.db"
    monkeypatch.setenv("HUSH_TRACES_DB", "")
    assert default_db_path() == home / ".hush" / "traces.db"
    monkeypatch.delenv("HUSH_TRACES_DB")
    assert default_db_path() == home / ".hush" / "traces.db"


def test_an_unknown_home_folder_is_an_error_that_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUSH_TRACES_DB", "~nobody-of-that-name/traces.db")
    with pytest.raises(ConfigError, match="Set HOME, or HUSH_TRACES_DB to a full path"):
        default_db_path()


def test_a_database_is_one_path_whatever_leads_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to("data")
    real = tmp_path / "data" / "traces.db"
    for way in (tmp_path / "link" / "traces.db", "link/traces.db", "link/../data/traces.db"):
        assert resolve_db_path(way) == real
    monkeypatch.setenv("HUSH_TRACES_DB", str(tmp_path / "link" / "traces.db"))
    assert resolve_db_path() == real


# What settings mean


def test_every_setting_can_be_set(tmp_path: Path) -> None:
    path = write(
        tmp_path / "hush.toml",
        """
        default = ["prod"]
        [tracers.prod]
        type = "langfuse"
        tags = ["prod", "ml-team"]
        public_key = "${LANGFUSE_PUBLIC_KEY}"
        sample = 0.2
        when = ["error", "slow > 2s", "tag:vip"]
        [tracers.prod.retry]
        attempts = 3
        [mask]
        keys = ["password"]
        plugins = ["hush-redact"]
        [plugins]
        load = ["langfuse"]
        block = ["hush-otel"]
        [delivery]
        timeout = "1.5s"
        memory = "unlimited"
        [store]
        keep = "forever"
        max_size = "unlimited"
        durability = "power"
        [capture]
        start_records = false
        max_record = "64KiB"
        """,
    )
    config = load_config(path)
    prod = config.tracers["prod"]
    assert (config.default, prod.type, prod.tags, prod.sample) == (("prod",), "langfuse", ("prod", "ml-team"), 0.2)
    assert [(rule.tag, rule.slower_than_s) for rule in prod.when] == [(None, None), (None, 2.0), ("vip", None)]
    assert prod.when[0] == "error"
    assert (config.store.keep.seconds, config.store.max_size.bytes, config.store.durability) == (None, None, "power")
    assert (config.capture.start_records, config.capture.max_record.bytes) == (False, 65536)
    assert (config.mask.keys, config.mask.plugins) == (("password",), ("hush-redact",))
    assert (config.plugins.load, config.plugins.block) == (("langfuse",), ("hush-otel",))
    assert (config.delivery.timeout.seconds, config.delivery.memory.bytes) == (1.5, None)


def test_a_tracers_own_keys_are_kept_as_written_and_references_unresolved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    path = write(tmp_path / "hush.toml", '[tracers.x]\ntype = "t"\nkey = "${SECRET}"\noptions = 1\nretry.attempts = 3')
    config = load_config(path)
    assert config.tracers["x"].options == {"key": "${SECRET}", "options": 1, "retry": {"attempts": 3}}
    assert "hunter2" not in repr(config)


def test_settings_cannot_be_changed_by_whom_they_are_handed_to() -> None:
    with pytest.raises(AttributeError):
        load_config().store.durability = "power"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "seconds"), [("30d", 2592000), ("1w", 604800), ("12h", 43200), ("5 m", 300), ("1.5s", 1.5), ("20ms", 0.02)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "size"),
    [("0B", 0), ("1KB", 1000), ("5GB", 5 * 1000**3), ("4MiB", 4194304), ("1.5 KiB", 1536), ("1TB", 10**12)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@given(st.text())
def test_any_other_text_is_a_value_error_and_nothing_else(text: str) -> None:
    for parse in (parse_duration, parse_size, Duration, Size, Condition):
        try:
            parse(text)
        except ValueError as problem:
            assert repr(text) in str(problem) or text.startswith("slow")


@pytest.mark.parametrize("text", ["", "d", "30", "30 days", "-3d", "1e3s", "30D", "٣d", "nan s", "3d4h"])
def test_what_is_no_duration_is_refused_with_the_units(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration such as '30d'; units: ms, s, m, h, d, w"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("written", "policy"),
    [
        ("", None),
        ("sample = 1", None),
        ("sample = 0.2", {"sample": 0.2}),
        ("sample = 0", {"sample": 0.0}),
        ("when = ['error', 'slow > 2s']", {"when": ["error", "slow > 2s"]}),
        ("sample = 0.5\nwhen = ['tag:vip']", {"sample": 0.5, "when": ["tag:vip"]}),
    ],
)
def test_the_policy_of_a_tracer_says_only_what_is_set(
    written: str, policy: dict[str, object] | None, tmp_path: Path
) -> None:
    path = write(tmp_path / "hush.toml", f"[tracers.x]\ntype = 't'\n{written}")
    assert load_config(path).tracers["x"].policy == policy


def test_variables_stand_in_for_the_lists_of_plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "hush.toml", "[plugins]\nload = ['a']\nblock = ['b']")
    assert plugin_settings() == PluginSettings(("a",), ("b",))
    monkeypatch.setenv("HUSH_PLUGINS", " c, d ,")
    monkeypatch.setenv("HUSH_BLOCK_PLUGINS", "")
    assert plugin_settings() == PluginSettings(("c", "d"), ())
    monkeypatch.setenv("HUSH_PLUGINS", "")
    assert plugin_settings().load == ()
    monkeypatch.delenv("HUSH_PLUGINS")
    assert plugin_settings(Config()) == PluginSettings(("*",), ())


# What is said when they are wrong


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[stor]",
            "stor: unknown setting, did you mean 'store'?; valid here: default, tracers, mask, store, capture, "
            "delivery, plugins.",
        ),
        (
            "[store]\nkep = 1",
            "store.kep: unknown setting, did you mean 'keep'?; valid here: keep, max_size, durability.",
        ),
        ("[capture]\nx = 1", "capture.x: unknown setting; valid here: start_records, max_record."),
        ("[mask]\nkey = []", "mask.key: unknown setting, did you mean 'keys'?; valid here: keys, plugins."),
        ("[plugins]\nloads = []", "plugins.loads: unknown setting, did you mean 'load'?; valid here: load, block."),
        ("[plugins]\nload = 'langfuse'", "plugins.load: expected array, got str."),
        ("[delivery]\ntimeout = 'forever'", "delivery.timeout: expected a duration from 100ms to 24h."),
        ("[delivery]\ntimeout = '2d'", "delivery.timeout: expected a duration from 100ms to 24h."),
        ("[delivery]\nmemory = '1MB'", "delivery.memory: expected a size from 64MiB to 1TiB."),
        ("store = 3", "store: expected a table, got an integer."),
        ("tracers = []", "tracers: expected a table, got an array."),
        ("tracers.x = 'langfuse'", "tracers.x: expected a table, got a string."),
        ("[tracers.x]", 'tracers.x: needs a type, for example type = "local".'),
        ("[tracers.x]\ntype = 3", "tracers.x.type: expected str, got int."),
        ("[tracers.x]\ntype = 't'\ntags = ['a', 3]", "tracers.x.tags[1]: expected str, got int."),
        ("[tracers.x]\ntype = 't'\nsample = 1.5", "tracers.x.sample: expected float <= 1.0."),
        ("default = 'prod'", "default: expected array, got str."),
        ("[store]\nkeep = 30", "store.keep: expected a string, got an integer."),
        ("[store]\nkeep = '30'", "store.keep: '30' is not a duration such as '30d'; units: ms, s, m, h, d, w."),
        ("[store]\ndurability = 'disk'", "store.durability: expected one of power, process."),
        ("[capture]\nstart_records = 'no'", "capture.start_records: expected bool, got str."),
        ("[capture]\nmax_record = '1GB'", "capture.max_record: expected a size from 4KiB to 64MiB."),
        ("[capture]\nmax_record = 'unlimited'", "capture.max_record: expected a size from 4KiB to 64MiB."),
        ("[capture]\nmax_record = 2020-01-01", "capture.max_record: expected a string, got a date or time."),
    ],
)
def test_what_is_wrong_is_said_with_its_key_and_the_valid_choices(text: str, said: str, tmp_path: Path) -> None:
    assert complaint(tmp_path, text) == said


@pytest.mark.parametrize("rule", ["errors", "slow", "slow >", "slow > 2", "slow < 2s", "tag:", ""])
def test_what_is_no_condition_is_refused(rule: str, tmp_path: Path) -> None:
    said = complaint(tmp_path, f"[tracers.x]\ntype = 't'\nwhen = ['error', '{rule}']")
    assert said.startswith("tracers.x.when[1]: ")
    assert "'slow > 2s'" in said or "units: ms, s" in said


def test_what_is_not_toml_is_said_with_its_line(tmp_path: Path) -> None:
    assert "is not valid TOML" in complaint(tmp_path, "[store")
    (tmp_path / "hush.toml").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="is not valid TOML"):
        load_config(tmp_path / "hush.toml")


def test_a_wrong_setting_in_pyproject_is_named_with_its_full_key(tmp_path: Path) -> None:
    write(tmp_path / "pyproject.toml", "[tool.hush.store]\nkeeep = 1")
    with pytest.raises(
        ConfigError, match=r"pyproject\.toml: tool\.hush\.store\.keeep: unknown setting, did you mean 'keep'"
    ):
        load_config()
    write(tmp_path / "pyproject.toml", "[tool]\nhush = 3")
    with pytest.raises(ConfigError, match=r"tool\.hush: expected a table, got an integer"):
        load_config()


def test_the_cause_of_an_error_is_kept(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path / "hush.toml", "default = 3"))
    assert isinstance(caught.value.__cause__, msgspec.ValidationError)
