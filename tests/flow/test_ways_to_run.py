"""However Python is started, and whatever surrounds it, a request is whole in the database and no process is left."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import hush_core

from .app import PRELUDE, App, python_path, whole


def test_python_c_leaves_a_whole_trace(app: App) -> None:
    app.run("-c", PRELUDE + "answer('a', 1, 2)")
    app.check({"a": whole(1, 2)})


@pytest.mark.parametrize("argument", ["-", "-i"])
def test_a_repl_on_standard_input_leaves_whole_traces(app: App, argument: str) -> None:
    app.run(argument, stdin=PRELUDE + "answer('a', 1, 2)\nprint(1)\nanswer('b', 3)\n")
    app.check({"a": whole(1, 2), "b": whole(3)})


def test_a_repl_that_waits_for_input_has_its_trace_stored_meanwhile(app: App) -> None:
    repl = app.start("-i", bufsize=1)
    assert repl.stdin is not None
    repl.stdin.write(PRELUDE + "answer('a', 1, 2)\n")
    repl.stdin.flush()
    app.wait_until_stored("a", whole(1, 2))
    app.finish(repl, "answer('b', 3)\n")
    app.check({"a": whole(1, 2), "b": whole(3)})


def test_a_script_without_a_main_guard_leaves_a_whole_trace_and_runs_once(app: App) -> None:
    assert app.run(app.script("answer('a', 1, 2)\nprint('ran')")) == "ran\n"
    app.check({"a": whole(1, 2)})


def test_a_module_run_by_its_name_leaves_a_whole_trace(app: App) -> None:
    app.script("answer('a', 1)", "package/__main__.py")
    app.run("-m", "package")
    app.check({"a": whole(1)})


@pytest.mark.parametrize("way", ["-W", "PYTHONWARNINGS"])
def test_warnings_that_are_errors_stop_neither_app_nor_writer(app: App, way: str) -> None:
    arguments = ["-W", "error"] if way == "-W" else []
    script = app.script("answer('a', 1, 2)\nassert get_store().sync(30)")
    app.run(*arguments, script, env={} if arguments else {"PYTHONWARNINGS": "error", "PYTHONDEVMODE": "1"})
    app.check({"a": whole(1, 2)})


@pytest.mark.parametrize("option", ["-I", "-E", "-OO"])
def test_an_isolated_interpreter_finds_its_writer(app: App, option: str) -> None:
    # -I and -E hide PYTHONPATH, by which a checkout may be found: the app puts it on sys.path itself.
    app.run(option, "-c", f"import sys; sys.path[:0] = {python_path().split(':')!r}\n{PRELUDE}answer('a', 1)")
    app.check({"a": whole(1)})


def test_closed_standard_streams_take_nothing_and_disturb_nothing(app: App) -> None:
    script = app.script(
        """
        answer("a", 1, 2)
        for number in range(3):
            try:
                os.write(number, b"what an app prints")
            except OSError:
                pass
        answer("b", 3)
        """
    )
    shell = subprocess.run(
        ["/bin/sh", "-c", 'exec "$0" "$1" <&- >&- 2>&-', sys.executable, script],
        env=app.environment(),
        timeout=60,
        check=False,
    )
    assert shell.returncode == 0
    app.check({"a": whole(1, 2), "b": whole(3)})


def test_an_app_may_have_modules_named_like_the_standard_librarys(app: App) -> None:
    for name in ("queue", "json", "sqlite3", "argparse", "resource"):
        (app.folder / f"{name}.py").write_text("mine = True\n")
    app.run(app.script("import queue, json\nassert queue.mine and json.mine\nanswer('a', 1)"))
    app.check({"a": whole(1)})


def test_a_database_may_lie_deeper_than_a_socket_name_can_say(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    database = app.folder.joinpath(*["a-folder-with-a-long-name"] * 9) / "traces.db"
    assert len(str(database)) > 250
    monkeypatch.setenv("HUSH_TRACES_DB", str(database))
    app.run(app.script("answer('a', 1)\nassert get_store().sync(30)\nanswer('b', 2)"))
    app.check({"a": whole(1), "b": whole(2)}, database)


def test_two_databases_at_once_have_a_writer_each_and_mix_nothing(app: App) -> None:
    app.run(
        app.script(
            """
            for n in range(20):
                for name in ("one", "two"):
                    os.environ["HUSH_TRACES_DB"] = name + ".db"
                    answer(f"{name}-{n}", n)
            """
        )
    )
    for name in ("one", "two"):
        app.check({f"{name}-{n}": whole(n) for n in range(20)}, app.folder / f"{name}.db")


def test_a_relative_database_path_counts_from_the_apps_folder(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUSH_TRACES_DB", "data/relative.db")
    app.run(app.script("store = get_store()\nanswer('a', 1)\nos.chdir('/')\nassert store.sync(30)"))
    app.check({"a": whole(1)}, app.folder / "data" / "relative.db")


def test_a_process_started_in_another_folder_records_into_the_same_database(app: App) -> None:
    other = app.script("answer('child', 1)", "elsewhere/other.py")
    app.run(
        app.script(
            f"""
            import subprocess
            answer("before", 1)
            os.chdir({str(Path(other).parent)!r})
            subprocess.run([sys.executable, "other.py"], check=True)
            answer("after", 2)
            """
        )
    )
    app.check({"after": whole(2), "before": whole(1), "child": whole(1)})


def test_a_working_folder_that_was_deleted_stops_nothing(app: App) -> None:
    (app.folder / "gone").mkdir()
    app.run(app.script("os.rmdir(os.getcwd())\nanswer('a', 1)"), cwd=app.folder / "gone")
    app.check({"a": whole(1)})


def test_the_app_is_the_package_under_test(app: App) -> None:
    assert app.run("-c", "import hush_core; print(hush_core.__file__)").strip() == hush_core.__file__
