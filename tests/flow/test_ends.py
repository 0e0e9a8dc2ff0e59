"""However an app ends, what it recorded is stored; and its end waits for nobody."""

from __future__ import annotations

import os
import signal
import time

import pytest
from waiting import wait_until

from .app import App, Node, Request, kill, whole

#: Says each request once it has returned.
RECORD_ON = """
for number in range(10**9):
    answer(f"r{number}", number)
    print(number, flush=True)
    time.sleep(0.001)
"""


def under_way(status: str, root: str = "", work: str = "", *, number: int = 0) -> Request:
    """A request that its process was at when it ended, and how far it had come with its two nodes."""
    nodes = [Node("flow", None, None, root)] if root else []
    return Request(status, [*nodes, Node("work", "flow", number, work)] if work else nodes)


def check_said(app: App, said: int, also: tuple[Request, ...]) -> None:
    """Every request that had returned is whole; the one that was under way is one of these, if it is there at all."""
    app.wait_for_end()
    found = app.stored()
    last = found.pop(f"r{said}", None)
    assert found == {f"r{number}": whole(number) for number in range(said)}
    assert last in (None, whole(said), *also)


def test_ctrl_c_ends_the_app_and_not_the_writer(app: App) -> None:
    running = app.start(app.script(RECORD_ON))
    for _ in range(50):
        app.line(running)
    writer = app.wait_for_writer()
    assert os.getsid(writer) != os.getsid(running.pid)
    os.killpg(running.pid, signal.SIGINT)  # as a terminal sends it: to the foreground process group
    out, errors = running.communicate(timeout=60)
    assert running.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in errors
    assert "hush: " not in errors
    wait_until(lambda: set(app.writers()) <= {writer}, "others, that were started while it began, to give way")
    said = 50 + out.count("\n")
    check_said(
        app,
        said,
        (
            under_way("failed"),  # it came before the root was recorded,
            under_way("failed", "interrupted"),  # or before that was known,
            under_way("interrupted", "interrupted"),  # or between that and the body,
            under_way("failed", "error"),
            *(under_way("failed", "error", work, number=said) for work in ("ok", "error", "interrupted")),
            under_way("interrupted", "interrupted", "ok", number=said),  # or just behind the body,
            under_way("completed", "interrupted", "ok", number=said),  # or before the root's end,
            under_way("interrupted", "ok", "ok", number=said),  # or before the request's
        ),
    )


def test_ctrl_c_while_an_app_waits_leaves_its_open_trace_failed(app: App) -> None:
    running = app.start(
        app.script(
            """
            with LocalTracer().trace("flow", request_id="a"):
                work(1)
                print(flush=True)
                signal.pause()
            """
        )
    )
    app.line(running)
    os.killpg(running.pid, signal.SIGINT)
    app.finish(running, status=-signal.SIGINT)
    app.check({"a": whole(1, status="failed", root="error")})


def test_sigterm_is_an_end_like_any_other_where_the_app_exits_on_it(app: App) -> None:
    running = app.start(
        app.script(
            """
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
            with LocalTracer().trace("flow", request_id="a"):
                work(1)
                print(flush=True)
                signal.pause()
            """
        )
    )
    app.line(running)
    kill(running.pid, signal.SIGTERM)
    app.finish(running)
    app.check({"a": whole(1)})


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGHUP])
def test_an_app_that_a_signal_kills_leaves_its_open_trace_interrupted(app: App, number: signal.Signals) -> None:
    running = app.start(
        app.script(
            """
            @code_node
            def wait():
                print(flush=True)
                signal.pause()

            answer("done", 1)
            with LocalTracer().trace("flow", request_id="open"):
                work(2)
                wait()
            """
        )
    )
    app.line(running)
    os.killpg(running.pid, number)  # a terminal that hangs up, or a service that is stopped, tells the whole group
    app.finish(running, status=-number)
    app.wait_for_end()
    assert app.stored() == {
        "done": whole(1),
        "open": Request(
            "interrupted",
            [
                Node("flow", None, None, "interrupted"),
                Node("wait", "flow", None, "interrupted"),
                Node("work", "flow", 2, "ok"),
            ],
        ),
    }


def test_kill_9_of_a_recording_app_loses_nothing_that_had_returned(app: App) -> None:
    running = app.start(app.script(RECORD_ON))
    for _ in range(50):
        app.line(running)
    kill(running.pid)
    out, _ = running.communicate(timeout=60)
    said = 50 + out.count("\n")
    ways = [
        under_way("interrupted", root, work, number=said)
        for root in ("interrupted", "ok")
        for work in ("", "interrupted", "ok")
    ]
    check_said(app, said, (under_way("interrupted"), *ways))


@pytest.mark.parametrize(
    "way", ["os._exit(0)", "sys.exit(0)", "raise SystemExit", "os.abort()", "os.execv('/bin/true', ['true'])"]
)
def test_every_way_to_leave_keeps_what_was_recorded(app: App, way: str) -> None:
    app.finish(app.start(app.script(f"answer('a', 1)\n{way}")), status=-signal.SIGABRT if "abort" in way else 0)
    app.check({"a": whole(1)})


def test_records_of_exit_handlers_and_of_daemon_threads_are_kept(app: App) -> None:
    app.run(
        app.script(
            """
            import atexit
            atexit.register(answer, "handler", 1)
            recorded = threading.Event()
            def record_and_stay():
                answer("thread", 2)
                recorded.set()
                threading.Event().wait()
            threading.Thread(target=record_and_stay, daemon=True).start()
            recorded.wait()
            """
        )
    )
    app.check({"handler": whole(1), "thread": whole(2)})


def test_the_writer_ends_two_seconds_after_the_last_producer(app: App) -> None:
    first = app.start(app.script("answer('a', 1)\nprint(flush=True)\nsys.stdin.read()", "first.py"))
    second = app.start(app.script("answer('b', 2)\nprint(flush=True)\nsys.stdin.read()", "second.py"))
    app.line(first)
    app.line(second)
    writer = app.wait_for_writer()
    app.finish(first, "")
    app.wait_until_stored("a", whole(1))
    wait_until(lambda: app.writers() == [writer], "others, that were started while it began, to give way")
    about_to_end = time.monotonic()
    app.finish(second, "")
    ended = time.monotonic()
    wait_until(lambda: not app.writers(), "the writer to end")
    gone = time.monotonic()
    assert gone - about_to_end > 1.5
    assert gone - ended < 10.0
    app.check({"a": whole(1), "b": whole(2)})


# -- the delay at exit ------------------------------------------------------------------------------------------------

#: What the app does before its last statement. The same without hush must end as fast.
WORK = {
    "a writer that is just being started": "answer('a', 1)",
    "everything stored": "answer('a', 1)\nassert get_store().sync(30)",
    "ten thousand records under way": "answer('a', *range(10000))",
    "a writer asleep": "answer('a', 1)\nassert get_store().sync(30)\n"
    "from hush_core.journal.format import BELL_AT\nsegment = get_store().background._journal._segment\n"
    "segment.set_bell(False)\nwhile not segment.bell[BELL_AT]:\n    time.sleep(0.01)",
}
WITHOUT_HUSH = """\
import os, signal, sys, threading, time
import msgspec, subprocess, socket

def answer(request_id, *numbers):
    pass

"""


@pytest.mark.parametrize("work", WORK, ids=lambda work: work.replace(" ", "-"))
def test_an_exit_is_delayed_by_less_than_50_ms(app: App, work: str) -> None:
    """From the last statement to the end of the process; the best of several alternating runs, as others disturb it."""
    with_hush = app.script(WORK[work] + "\nprint(time.monotonic_ns())")
    without = app.folder / "without.py"
    without.write_text(WITHOUT_HUSH + "print(time.monotonic_ns())")
    delays: dict[str, list[float]] = {with_hush: [], str(without): []}
    for _ in range(4):
        for script, seconds in delays.items():
            seconds.append(seconds_to_end(app, script))
    assert min(delays[with_hush]) - min(delays[str(without)]) < 0.05


def seconds_to_end(app: App, script: str) -> float:
    running = app.start(script)
    running.wait()  # with a timeout, it would look only now and then
    ended = time.monotonic_ns()
    return (ended - int(app.finish(running))) / 1e9
