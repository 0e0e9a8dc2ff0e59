"""The writer of a database: one, whoever starts how many; and another soon after something has killed it."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from waiting import wait_until

from hush_core.background.supervisor import control

from ..crash.children import open_journal
from .app import App, Node, kill, whole

#: Within a second, as it is promised, plus what a very busy machine takes to start a Python.
_SOON_S = 8.0

#: A hundred requests a second, each said once it has returned, and when.
RECORD_ON = """
for number in range(10**9):
    answer(f"r{number}", number)
    print(number, time.monotonic_ns(), flush=True)
    if os.path.exists("stop"):
        break
    time.sleep(0.01)
"""


def test_of_twenty_writers_started_at_once_one_is_elected_and_the_others_leave(app: App) -> None:
    journal = open_journal(app.database)  # a producer that starts no writer of its own
    journal.append(b"\x91\x01")
    writers = [app.start("-m", "hush_core.background", str(app.database)) for _ in range(20)]
    wait_until(lambda: sum(each.poll() is None for each in writers) == 1, "all but one to leave", 30.0)
    (elected,) = [each for each in writers if each.returncode is None]
    assert control(app.database, {"verb": "status"})["pid"] == elected.pid
    for each in writers:
        if each is not elected:
            app.finish(each)
    assert elected.poll() is None
    elected.terminate()
    app.finish(elected)


def test_apps_that_begin_together_have_one_writer(app: App) -> None:
    script = app.script("answer(sys.argv[1], 1)\nassert get_store().sync(30)\nprint(flush=True)\nsys.stdin.read()")
    started = [app.start(script, str(number)) for number in range(8)]
    for each in started:
        app.line(each)
    wait_until(lambda: len(app.writers()) == 1, "one writer to be left")
    for each in started:
        app.finish(each, "")
    app.check({str(number): whole(1) for number in range(8)})


def test_a_writer_killed_while_the_app_idles_is_there_again_soon(app: App) -> None:
    idle = app.start(
        app.script("answer('a', 1)\nprint(flush=True)\nsys.stdin.readline()\nanswer('b', 2)\nsys.stdin.read()")
    )
    app.wait_until_stored("a", whole(1))
    for _ in range(2):
        writer = app.wait_for_writer()
        kill(writer)
        app.wait_for_writer(other_than=writer, timeout_s=_SOON_S)
    app.finish(idle, "\n")
    app.check({"a": whole(1), "b": whole(2)})


def test_a_writer_killed_asleep_with_its_shell_is_there_for_the_next_record(app: App) -> None:
    idle = app.start(
        app.script(
            """
            from hush_core.journal.format import BELL_AT
            answer("a", 1)
            segment = get_store().background._journal._segment
            assert get_store().sync(30)
            segment.set_bell(False)
            while not segment.bell[BELL_AT]:  # the writer arms it, and sleeps
                time.sleep(0.001)
            print(flush=True)
            for line in sys.stdin:
                answer(line.strip(), 2)
            """
        )
    )
    app.line(idle)
    app.wait_for_writer()
    kill_all(app)

    def is_gone() -> bool:
        kill_all(app)  # again: a shell may have started one just before it was killed
        return not app.writers() and not app.writer_answers()  # of a process that dies, the command line goes first

    wait_until(is_gone, "the writer to be gone")
    assert idle.stdin is not None
    idle.stdin.write("b\n")
    idle.stdin.flush()
    app.wait_until_stored("b", whole(2), _SOON_S)
    app.finish(idle, "")
    app.check({"a": whole(1), "b": whole(2)})


def test_a_writer_killed_while_an_app_records_goes_on_soon(app: App) -> None:
    with_kills(app, times=3, kill_it=lambda: kill(app.wait_for_writer()))


def test_writer_and_shell_killed_together_while_an_app_records_go_on_soon(app: App) -> None:
    # More often than the starts of a writer may double the time to the next: each of these had begun well.
    with_kills(app, times=5, kill_it=lambda: kill_all(app))


def with_kills(app: App, times: int, kill_it: Callable[[], None]) -> None:
    """Kill while an app records a hundred requests a second; what it recorded afterwards is stored soon."""
    recording = app.start(app.script(RECORD_ON))
    said = -1
    for _ in range(times):
        app.wait_for_writer()
        kill_it()
        said = said_after(app, recording, time.monotonic_ns())
        app.wait_until_stored(f"r{said}", whole(said), _SOON_S)
    (app.folder / "stop").touch()
    count = said + 1 + app.finish(recording).count("\n")
    app.check({f"r{number}": whole(number) for number in range(count)})


def said_after(app: App, recording: subprocess.Popen[str], instant_ns: int) -> int:
    """The number of the first request that returned after an instant."""
    while True:
        number, returned_ns = map(int, app.line(recording).split())
        if returned_ns > instant_ns:
            return number


def kill_all(app: App) -> None:
    """As `pkill -9 -f hush_core.background` does."""
    for pid in [*app.shells(), *app.writers()]:
        kill(pid)


def test_a_writer_that_is_told_to_end_leaves_nobody_waiting(app: App) -> None:
    """Whoever rings while it has not noticed yet, at its longest in half a second, has rung for nothing else."""
    idle = app.start(app.script("for line in sys.stdin:\n    answer(line.strip(), 1)", "idle.py"))
    assert idle.stdin is not None
    once = app.script("print(flush=True)\nanswer(sys.stdin.readline().strip(), 1)", "once.py")
    for delay in range(6):
        ready = app.start(once)
        app.line(ready)
        idle.stdin.write(f"idle-{delay}\n")
        idle.stdin.flush()
        app.wait_until_stored(f"idle-{delay}", whole(1), _SOON_S)
        writer = app.wait_for_writer()
        time.sleep(0.2)  # it goes on looking by itself for a moment; what is meant is one that sleeps
        kill(writer, signal.SIGTERM)
        time.sleep(delay / 10)
        app.finish(ready, f"r{delay}\n")
        app.wait_until_stored(f"r{delay}", whole(1), _SOON_S)
    app.finish(idle, "")
    app.check({f"{who}{delay}": whole(1) for who in ("idle-", "r") for delay in range(6)})


def test_the_first_record_after_a_writer_was_told_to_end_is_stored(app: App) -> None:
    """Of an app that is slow, in the middle of a request; also where the writer was awake, and no bell armed."""
    slow = app.start(
        app.script(
            """
            store = get_store()
            print(flush=True)
            for line in sys.stdin:
                store.insert_node_trace("slow", "flow", line.strip(), None, None, 1, 1, 2, 0.1, None, None)
                print(flush=True)
            """
        )
    )
    app.line(slow)
    assert slow.stdin is not None
    for number in range(4):
        slow.stdin.write(f"{number}\n")
        slow.stdin.flush()
        app.line(slow)
        wait_until(lambda n=number: len(nodes_of(app, "slow")) == n + 1, f"record {number} to be stored", _SOON_S)
        kill(app.wait_for_writer(), signal.SIGTERM)
        wait_until(lambda: not app.writers(), "the writer to end")
    app.finish(slow, "")


def nodes_of(app: App, request_id: str) -> list[Node]:
    request = app.stored().get(request_id)
    return [] if request is None else request.nodes


def test_a_killed_writer_of_a_dead_app_is_started_again_and_stores_all(app: App) -> None:
    """Nobody else would notice: the app is gone, and records nothing that could ring."""
    recording = app.start(app.script("answer('a', *range(3000))\nprint(flush=True)\nsignal.pause()"))
    app.line(recording)
    wait_until(lambda: bool(app.writers()), "a writer")
    kill(recording.pid)
    for writer in app.writers():
        kill(writer)
    app.finish(recording, status=-9)
    app.check({"a": whole(*range(3000))})


def test_records_left_by_a_killed_app_and_writer_are_stored_by_the_next_writer(app: App) -> None:
    recording = app.start(app.script("answer('a', *range(3000))\nprint(flush=True)\nsignal.pause()"))
    app.line(recording)
    kill(recording.pid)
    kill_all(app)
    app.finish(recording, status=-9)
    app.run(app.script("answer('b', 1)", "next.py"))
    app.check({"a": whole(*range(3000)), "b": whole(1)})


def test_the_writer_holds_none_of_the_apps_files_and_stands_in_none_of_its_folders(app: App) -> None:
    idle = app.start(
        app.script(
            "kept = open('kept', 'w'); os.set_inheritable(kept.fileno(), True)\n"
            "answer('a', 1)\nprint(flush=True)\nsys.stdin.read()"
        )
    )
    app.line(idle)
    writer = app.wait_for_writer()
    for pid in [writer, *app.shells()]:
        process = Path("/proc", str(pid))
        if process.exists():  # Linux
            assert app.folder / "kept" not in held_by(process)
            with contextlib.suppress(FileNotFoundError):  # a shell whose writer has given way
                assert (process / "cwd").readlink() == Path("/")
    app.finish(idle, "")
    app.check({"a": whole(1)})


def held_by(process: Path) -> list[Path]:
    """What a process has open; it opens and closes files meanwhile."""
    held = []
    with contextlib.suppress(FileNotFoundError):
        for link in (process / "fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                held.append(link.readlink())
    return held
