"""Threads, event loops and signal handlers of one process; and what its surroundings do to files and writer."""

from __future__ import annotations

import os
import stat
import sys
import time
from pathlib import Path

import pytest

from .app import App, Node, Request, whole


def test_a_thread_pool_records_into_the_trace_it_was_given(app: App) -> None:
    app.run(
        app.script(
            """
            from concurrent.futures import ThreadPoolExecutor

            with LocalTracer().trace("flow", request_id="a"), ThreadPoolExecutor(8) as pool:
                assert list(pool.map(work.under(), range(200))) == [{"doubled": 2 * n} for n in range(200)]
            """
        )
    )
    app.check({"a": whole(*range(200))})


def test_threads_with_a_trace_each_mix_nothing(app: App) -> None:
    app.run(
        app.script(
            """
            threads = [threading.Thread(target=answer, args=(f"r{n}", *range(20))) for n in range(16)]
            for each in threads:
                each.start()
            for each in threads:
                each.join()
            """
        )
    )
    app.check({f"r{n}": whole(*range(20)) for n in range(16)})


ASYNC = """
import asyncio

@code_node
async def awork(n):
    await asyncio.sleep(0)
    if n < 0:
        await asyncio.sleep(60)
    return {"doubled": n * 2}

"""


def awaited(n: int, status: str = "ok") -> Node:
    return Node("awork", "flow", n, status)


def test_tasks_of_an_event_loop_record_each_into_its_own_trace(app: App) -> None:
    app.run(
        app.script(
            ASYNC
            + """
async def request(name):
    async with LocalTracer().trace("flow", request_id=name):
        await asyncio.gather(*(awork(n) for n in range(20)))

async def main():
    await asyncio.gather(*(request(f"r{n}") for n in range(10)))

asyncio.run(main())
"""
        )
    )
    root = Node("flow", None, None, "ok")
    app.check({f"r{n}": Request("completed", [*(awaited(n) for n in range(20)), root]) for n in range(10)})


def test_a_task_that_is_cancelled_ends_its_node_as_an_error(app: App) -> None:
    app.run(
        app.script(
            ASYNC
            + """
async def main():
    async with LocalTracer().trace("flow", request_id="a"):
        waiting = asyncio.create_task(awork(-1))
        await awork(1)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

asyncio.run(main())
"""
        )
    )
    app.check(
        {"a": Request("completed", [awaited(-1, "error"), awaited(1), Node("flow", None, None, "ok")])},
    )


def test_a_signal_handler_may_record_from_the_first_instant_on(app: App) -> None:
    """It may come while the app imports, opens its journal, starts its writer, or leaves a segment."""
    count = int(
        app.run(
            app.script(
                """
                store = get_store()
                handled = depth = 0

                def record(who, n):
                    store.insert_node_trace(
                        who, "flow", "work", "flow", None, n, None, None, None, {"n": n}, {"text": "x" * 3000}
                    )

                def handler(*_):
                    global handled, depth
                    if depth == 5:  # signals that come faster than a busy disk would end with the stack
                        return
                    depth += 1
                    number, handled = handled, handled + 1
                    record("handler", number)
                    depth -= 1

                signal.signal(signal.SIGALRM, handler)
                signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0005)
                sent = 0
                while handled < 200:
                    record("app", sent)
                    sent += 1
                signal.setitimer(signal.ITIMER_REAL, 0)
                assert store.background.dropped == {}, store.background.dropped
                print(handled * 1_000_000 + sent)
                """
            )
        )
    )
    handled, sent = divmod(count, 1_000_000)
    app.wait_for_end()
    numbers = {name: [node.n for node in request.nodes] for name, request in app.stored().items()}
    assert numbers == {"handler": list(range(handled)), "app": list(range(sent))}


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_what_it_writes_is_its_owners_alone_whatever_the_umask(
    app: App, umask: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = app.folder / "not" / "there" / "traces.db"
    monkeypatch.setenv("HUSH_TRACES_DB", str(database))
    app.run(
        app.script(
            f"""
            os.umask({umask})
            answer("a", 1)
            assert get_store().sync(30)
            for folder, names, files in os.walk("not"):
                for name in [".", *files]:
                    print(os.path.normpath(os.path.join(folder, name)))
                    print(oct(os.stat(os.path.join(folder, name)).st_mode))
            """
        )
    )
    app.check({"a": whole(1)}, database)
    for path in (app.folder / "not").rglob("*"):
        mode = path.stat().st_mode
        assert stat.S_IMODE(mode) == (0o700 if stat.S_ISDIR(mode) else 0o600), path


def test_folders_may_have_names_that_are_no_text(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(os.fsdecode(os.fsencode(app.folder) + b"/caf\xe9"))
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system takes no such name")
    monkeypatch.setenv("HUSH_TRACES_DB", str(folder / "traces.db"))
    app.run(app.script("answer('a', 1)\nassert get_store().sync(30)"), cwd=folder)
    app.check({"a": whole(1)}, folder / "traces.db")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_writer_that_has_nothing_to_do_takes_next_to_nothing(app: App) -> None:
    idle = app.start(
        app.script(
            """
            for n in range(50):
                answer(f"r{n}", *range(20))
            assert get_store().sync(30)
            print(flush=True)
            sys.stdin.read()
            """
        )
    )
    app.line(idle)
    writer = app.wait_for_writer()
    idle_s = 3.0
    time.sleep(0.5)  # it goes on looking by itself for a moment after the last record
    before = cpu_s(writer)
    time.sleep(idle_s)  # what is measured is a time in which nothing happens
    used = cpu_s(writer) - before
    assert used <= 0.02, f"{used} s of {idle_s} s, in ticks of 0.01 s; asleep it takes at most 0.3 %"
    resident = next(line for line in Path(f"/proc/{writer}/status").read_text().splitlines() if "VmRSS" in line)
    assert int(resident.split()[1]) < 40 * 1024, resident
    app.finish(idle, "")
    app.check({f"r{n}": whole(*range(20)) for n in range(50)})


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
