"""Celery's prefork pool, the real one: workers are forked from a process that has recorded, and replaced."""

from __future__ import annotations

import signal

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
    worker = app.start("-m", "celery", "-A", "tasks", "worker", *options, *more, env={"C_FORCE_ROOT": "1"})
    app.run("-c", "import tasks\nfor n in range(20): tasks.record.delay(n)")
    for n in range(20):
        app.wait_until_stored(f"task-{n}", whole(n), 30.0)
    kill(worker.pid, signal.SIGTERM)
    app.finish(worker)
    app.check({"loaded": whole(0), **{f"task-{n}": whole(n) for n in range(20)}})
