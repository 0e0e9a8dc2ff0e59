"""Celery's prefork pool, the real one: workers are forked from a process that has recorded, and replaced."""

from __future__ import annotations

import signal
import subprocess

import pytest

from .app import App, kill, whole

TASKS = """
from celery import Celery

folders = {"data_folder_in": "queue", "data_folder_out": "queue", "processed_folder": "processed"}
app = Celery("tasks", broker="filesystem://")
app.conf.update(broker_transport_options=folders, worker_hijack_root_logger=False, task_ignore_result=True)
os.makedirs("queue", exist_ok=True)
os.makedirs("processed", exist_ok=True)

@app.task
def record(n):
    answer(f"task-{n}", n)

if __name__ != "__main__" and "worker" in sys.argv:
    answer("loaded", 0)
"""


def test_celery_prefork_workers_record_every_task(app: App) -> None:
    app.script(TASKS, "tasks.py")
    options = ("--pool=prefork", "--concurrency=2", "--max-tasks-per-child=3", "--loglevel=WARNING")
    more = ("--without-gossip", "--without-mingle", "--without-heartbeat")
    environment = {"C_FORCE_ROOT": "1", "PYTHONFAULTHANDLER": "1"}
    # Before the worker is there: it would end at a message that it finds in the folder half written.
    app.run("-c", "import tasks\nfor n in range(20): tasks.record.delay(n)")
    worker = app.start("-m", "celery", "-A", "tasks", "worker", *options, *more, env=environment)
    for n in range(20):
        app.wait_until_stored(f"task-{n}", whole(n), 30.0)
    stop(app, worker)
    app.check({"loaded": whole(0), **{f"task-{n}": whole(n) for n in range(20)}})


def stop(app: App, worker: subprocess.Popen[str]) -> None:
    """Celery's warm shutdown, with nothing said by hush.

    It hangs now and then on a busy machine, in an app without hush as well (5 times in 120): where it ends its pool,
    billiard waits for a lock that a child which was replaced took with it. That hang is no concern of ours; any other
    fails the test.
    """
    kill(worker.pid, signal.SIGTERM)
    try:
        worker.wait(15.0)
    except subprocess.TimeoutExpired:
        kill(worker.pid, signal.SIGABRT)  # says where each thread is
        _, errors = worker.communicate(timeout=15.0)
        stack = errors.partition("Current thread ")[2].partition("\n\n")[0]
        if "billiard/pool.py" not in stack or " in _terminate_pool\n" not in stack or "hush_core" in stack:
            pytest.fail(f"the worker hangs at its end:\n{errors}")
        assert "hush: " not in errors, errors
    else:
        app.finish(worker)
