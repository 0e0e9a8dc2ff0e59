"""Forks, pools, workers and daemons: each process's part of the trace is stored once, and none is left behind."""

from __future__ import annotations

import signal
import sqlite3
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest
from ports import free_port
from waiting import wait_until

from hush_core import get_store
from hush_core.errors import StoreError

from .app import App, kill, leftovers, whole

# -- os.fork ----------------------------------------------------------------------------------------------------------


def test_a_forked_child_and_its_parent_both_record(app: App) -> None:
    app.run(
        app.script(
            """
            answer("before", 1)
            child = os.fork()
            if child == 0:
                answer("child", 2)
                os._exit(0)
            answer("beside", 3)
            assert os.waitpid(child, 0)[1] == 0
            answer("after", 4)
            """
        )
    )
    app.check({"after": whole(4), "before": whole(1), "beside": whole(3), "child": whole(2)})


def test_a_child_forked_inside_a_trace_records_into_it(app: App) -> None:
    app.run(
        app.script(
            """
            with LocalTracer().trace("flow", request_id="a"):
                work(1)
                child = os.fork()
                if child == 0:
                    work(2)
                    os._exit(0)
                assert os.waitpid(child, 0)[1] == 0
                work(3)
            """
        )
    )
    app.check({"a": whole(1, 2, 3)})


def test_a_trace_that_a_daemon_takes_over_goes_on_in_it(app: App) -> None:
    app.run(
        app.script(
            """
            from hush_core import HushError

            @code_node
            def daemonize():
                if os.fork():
                    os._exit(0)
                os.closerange(0, 3)
                while not (os.path.exists(os.environ["HUSH_TRACES_DB"]) and interrupted()):
                    time.sleep(0.01)

            def interrupted():
                try:
                    return get_store().get_request("a").status == "interrupted"
                except HushError:
                    return False

            with LocalTracer().trace("flow", request_id="a"):
                work(1)
                daemonize()
                work(2)
            """
        )
    )
    wait_until(lambda: status_of_a(app) == "completed", "the daemon to complete the trace", timeout_s=30.0)
    names = [(node.node_name, node.status) for node in get_store(app.database).get_request("a").nodes]
    assert names == [("flow", "ok"), ("work", "ok"), ("daemonize", "ok"), ("work", "ok")]


def status_of_a(app: App) -> str | None:
    """The status of request "a"; None while it is not stored."""
    try:
        return get_store(app.database).get_request("a").status
    except StoreError:
        return None


def test_a_child_that_outlives_its_parent_ends_like_any_other(app: App) -> None:
    app.run(
        app.script(
            """
            answer("parent", 1)
            parent = os.getpid()
            if os.fork() == 0:
                os.closerange(0, 3)
                while os.getppid() == parent:
                    time.sleep(0.001)
                answer("child", 2)
                sys.exit(0)
            """
        )
    )
    app.check({"child": whole(2), "parent": whole(1)})


def test_a_thread_may_fork_while_others_record(app: App) -> None:
    app.run(
        app.script(
            """
            def fork(thread):
                for n in range(5):
                    answer(f"{thread}-{n}", n)
                    child = os.fork()
                    if child == 0:
                        answer(f"{thread}-{n}-child", n)
                        os._exit(0)
                    assert os.waitpid(child, 0)[1] == 0

            threads = [threading.Thread(target=fork, args=(thread,)) for thread in range(4)]
            for each in threads:
                each.start()
            for each in threads:
                each.join()
            """
        )
    )
    app.check({f"{thread}-{n}{child}": whole(n) for thread in range(4) for n in range(5) for child in ("", "-child")})


def test_a_child_forked_while_the_writer_is_started_does_not_hold_up_who_starts_it(app: App) -> None:
    app.run(
        app.script(
            """
            import subprocess
            from hush_core.background import launch

            launch._FORK_PATIENCE_S = 30.0  # however long the start takes on a busy machine
            start_process = subprocess.Popen._execute_child
            starting = threading.Event()

            def start_slowly(*arguments):  # its pipes are made
                starting.set()
                time.sleep(0.2)
                start_process(*arguments)

            subprocess.Popen._execute_child = start_slowly
            recording = threading.Thread(target=answer, args=("a", 1))
            recording.start()
            starting.wait()
            child = os.fork()
            if child == 0:
                signal.pause()
            recording.join(10)
            held_up = recording.is_alive()
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            assert not held_up
            """
        )
    )
    app.check({"a": whole(1)})


def test_a_forked_child_imports_nothing_to_record(app: App) -> None:
    """What another thread was importing at the fork would be locked in the child for ever."""
    app.run(
        app.script(
            """
            @code_node
            def fail():
                raise ValueError("on purpose")

            get_store()
            child = os.fork()
            if child == 0:
                loaded = set(sys.modules)
                with LocalTracer().trace("flow", request_id="a", inputs={"odd": object(), "bytes": b"\\xff" * 5000}):
                    try:
                        fail()
                    except ValueError:
                        pass
                get_store().background.at_exit()
                assert get_store().sync(30)
                late = set(sys.modules) - loaded
                assert not late, late
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            """
        )
    )


def test_five_hundred_forks_under_eight_writing_threads_lose_and_double_nothing(app: App) -> None:
    forks, threads = 500, 8
    counts = app.run(
        app.script(
            f"""
            sys.setswitchinterval(1e-5)  # a fork is to find threads in the middle of an append
            store = get_store()
            ended = threading.Event()
            counts = [0] * {threads}

            def record(who, n):
                said = {{"who": who, "n": n}}
                store.insert_node_trace(who, "flow", "node", None, None, n, None, None, None, said, None)

            def keep_recording(thread):
                while not ended.wait(0.001):
                    for _ in range(5):
                        record(f"thread-{{thread}}", counts[thread])
                        counts[thread] += 1

            threads = [threading.Thread(target=keep_recording, args=(thread,)) for thread in range({threads})]
            for each in threads:
                each.start()
            children = []
            for n in range({forks}):
                child = os.fork()
                if child == 0:
                    record(f"child-{{n}}", 0)
                    record(f"child-{{n}}", 1)
                    os._exit(0)
                children.append(child)
                if len(children) >= 8:
                    assert os.waitpid(children.pop(0), 0)[1] == 0
            for child in children:
                assert os.waitpid(child, 0)[1] == 0
            ended.set()
            for each in threads:
                each.join()
            print(*counts)
            """
        )
    )
    expected = [(f"child-{child}", n) for child in range(forks) for n in range(2)]
    expected += [(f"thread-{thread}", n) for thread, count in enumerate(counts.split()) for n in range(int(count))]
    check_payloads(app, expected)


def check_payloads(app: App, expected: list[tuple[str, int]]) -> None:
    """Each of these payloads is stored once, under its own request, and nothing else is."""
    app.wait_for_end()
    with closing(sqlite3.connect(f"file:{app.database}?mode=ro", uri=True)) as connection:
        found = connection.execute(
            "SELECT input_data ->> '$.who', input_data ->> '$.n', request_id, execution_order FROM node"
            " JOIN request ON request.id = node.request JOIN node_payload ON node_payload.node = node.id"
        ).fetchall()
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        totals = connection.execute("SELECT name, count FROM total").fetchall()
    assert sorted(found) == sorted((*each, *each) for each in expected)
    assert totals == [("records_stored", len(expected))]


# -- multiprocessing --------------------------------------------------------------------------------------------------

POOLS = """
import concurrent.futures
import multiprocessing

def task(n):
    answer(f"task-{n}", n)
    return n

if __name__ == "__main__":
    answer("parent", 0)
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_of_each_start_method_record(app: App, method: str) -> None:
    app.run(
        app.script(
            POOLS
            + f"""
    context = multiprocessing.get_context({method!r})
    processes = [context.Process(target=task, args=(n,)) for n in range(4)]
    for each in processes:
        each.start()
    for each in processes:
        each.join()
        assert each.exitcode == 0
"""
        )
    )
    app.check({"parent": whole(0), **{f"task-{n}": whole(n) for n in range(4)}})


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_process_pool_executor_records(app: App, method: str) -> None:
    app.run(
        app.script(
            POOLS
            + f"""
    context = multiprocessing.get_context({method!r})
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        assert list(pool.map(task, range(8))) == list(range(8))
"""
        )
    )
    app.check({"parent": whole(0), **{f"task-{n}": whole(n) for n in range(8)}})


def test_prefork_workers_that_are_replaced_and_terminated_lose_nothing(app: App) -> None:
    """As celery's prefork pool does it: the app is loaded once, a worker is replaced after some tasks and ended by
    SIGTERM or `os._exit`, with no exit handler run.
    """
    app.run(
        app.script(
            POOLS
            + """
    with multiprocessing.get_context("fork").Pool(2, maxtasksperchild=2) as pool:
        assert pool.map(task, range(10), chunksize=1) == list(range(10))
    answer("after", 1)
"""
        )
    )
    app.check({"after": whole(1), "parent": whole(0), **{f"task-{n}": whole(n) for n in range(10)}})


def test_sixty_four_processes_at_once_on_one_database_lose_and_double_nothing(app: App) -> None:
    processes, records = 64, 150
    script = app.script(
        f"""
        who = sys.argv[1]
        store = get_store()
        print(flush=True)
        sys.stdin.read()  # until all are there
        for n in range({records}):
            store.insert_node_trace(who, "flow", "node", None, None, n, None, None, None, {{"who": who, "n": n}}, None)
        """
    )
    started = [app.start(script, str(number)) for number in range(processes)]
    for each in started:
        app.line(each)
    for each in started:
        assert each.stdin is not None
        each.stdin.close()
        each.stdin = None
    for each in started:
        app.finish(each)
    check_payloads(app, [(str(number), n) for number in range(processes) for n in range(records)])


# -- servers ----------------------------------------------------------------------------------------------------------


def test_a_daemon_made_by_double_fork_with_every_descriptor_closed_records_on(app: App) -> None:
    app.run(
        app.script(
            """
            answer("before", 1)
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    answer("daemon", 2)
                    os.closerange(0, 256)
                    own = [os.open("own", os.O_RDWR | os.O_CREAT) for _ in range(20)]
                    for n in range(300):  # enough to leave segments, and so to give up what they hold
                        get_store().insert_node_trace(
                            "many", "flow", "work", "flow", None, n, None, None, None, {"n": n}, {"text": "x" * 5000}
                        )
                    answer("closed", 3)
                    for each in own:
                        os.fstat(each)  # still the app's
                    answer("end", 4)
                os._exit(0)
            os.wait()
            """
        )
    )
    app.wait_for_end()
    found = app.stored()
    many = found.pop("many")
    assert sorted(node.n for node in many.nodes if node.n is not None) == list(range(300))
    assert found == {"before": whole(1), "closed": whole(3), "daemon": whole(2), "end": whole(4)}


def test_workers_of_a_preloading_server_record_and_leave_with_it(app: App) -> None:
    """As gunicorn does it with `preload_app`: the app is imported, and records, before the workers are forked; a worker
    leaves by `sys.exit`, through the exit handlers that it has inherited.
    """
    app.run(
        app.script(
            """
            answer("preload", 1)
            workers = {}
            for number in range(3):
                worker = os.fork()
                if worker == 0:
                    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
                    for n in range(20):
                        answer(f"worker-{number}-{n}", n)
                    open(f"ready-{number}", "w").close()
                    while True:
                        signal.pause()
                workers[number] = worker
            for number, worker in workers.items():
                while not os.path.exists(f"ready-{number}"):
                    time.sleep(0.001)
                os.kill(worker, signal.SIGTERM)
                assert os.waitpid(worker, 0)[1] == 0
            """
        )
    )
    app.check({"preload": whole(1), **{f"worker-{number}-{n}": whole(n) for number in range(3) for n in range(20)}})


def test_gunicorn_with_preloaded_app_records_every_request(app: App) -> None:
    app.script(
        """
        answer("preload", 0)

        def serve(environ, start_response):
            n = int(environ["QUERY_STRING"])
            answer(f"request-{n}", n)
            start_response("200 OK", [])
            return [str(os.getpid()).encode()]
        """,
        "served.py",
    )
    address = f"127.0.0.1:{free_port()}"
    server = app.start("-m", "gunicorn", "--preload", "--workers=2", f"--bind={address}", "served:serve")

    def ask(n: int) -> bool:
        try:
            with urllib.request.urlopen(f"http://{address}/?{n}", timeout=10) as answer:
                return bool(answer.read())
        except OSError:
            return False

    wait_until(lambda: ask(0), "gunicorn to serve")
    assert all(ask(n) for n in range(1, 20))
    kill(server.pid, signal.SIGTERM)
    app.finish(server)
    app.check({"preload": whole(0), **{f"request-{n}": whole(n) for n in range(20)}})


def test_an_app_has_no_zombie_and_its_writer_is_nobodys_child(app: App) -> None:
    idle = app.start(app.script("answer('a', 1)\nassert get_store().sync(30)\nprint(flush=True)\nsys.stdin.read()"))
    app.line(idle)
    writer = app.wait_for_writer()
    wait_until(lambda: set(leftovers(app.folder)) == {idle.pid, writer, *app.shells()}, "no other process to be left")
    assert children_of(idle.pid) == []
    kill(writer)
    app.wait_for_writer(other_than=writer)
    assert children_of(idle.pid) == []
    app.finish(idle, "")
    app.check({"a": whole(1)})


def children_of(pid: int) -> list[str]:
    """The children of a process, zombies included."""
    if not Path("/proc/self/task").exists():
        pytest.skip("needs /proc")
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
