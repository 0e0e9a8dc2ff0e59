"""A place where apps record and hush delivers: its settings, code and plugins, and what came of each delivery."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import textwrap
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from canary import CANARY
from waiting import wait_until

from hush_core.background.supervisor import control

from ..conftest import running_processes
from ..flow.app import App, leftovers, python_path

#: What an app of these tests begins with.
PRELUDE: Final = '''\
import os, sys, time
from hush_core import code_node, get_tracer

@code_node
def work(text):
    return {"answer": text.upper()}

def answer(tracer, request_id, text="why", tags=()):
    """One request, with a root and a node."""
    with tracer.trace("flow", request_id=request_id, tags=tags):
        work(text)

'''
PENDING, FLUSHING, FLUSHED, FAILED, SKIPPED = "pending", "flushing", "flushed", "failed", "skipped"
#: For a delivery that nothing is in the way of, on a shared machine: a writer and a delivery process have to start.
SOON_S: Final = 30.0


class Delivery(NamedTuple):
    """A row of the ledger."""

    request_id: str
    tracer: str
    status: str
    attempts: int
    error: str | None


class Place(App):
    """Starts apps in a folder, which is on their `sys.path` as `code`, and looks after what is delivered.

    Ended by `kill`, in a fixture, as any App.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.code = folder / "code"
        self.code.mkdir()
        self.settings("")

    # -- what is there ------------------------------------------------------------------------------------------------

    def environment(self) -> dict[str, str]:
        path = os.pathsep.join([str(self.code), python_path()])
        return {
            **os.environ,
            "PYTHONPATH": path,
            "KEY_OF_THE_APP": CANARY,
        }  # a variable is handed on, and written nowhere

    def settings(self, text: str) -> None:
        """The settings, from here on."""
        (self.folder / "hush.toml").write_text(textwrap.dedent(text))

    def module(self, name: str, text: str) -> Path:
        """A module that apps can import, and so can the delivery process. Gives its path."""
        path = self.code / f"{name}.py"
        path.write_text(textwrap.dedent(text))
        return path

    def install(self, distribution: str, module: str, text: str, *, version: str = "1.0") -> None:
        """A plugin of one module, found as pip would have installed it."""
        self.module(module, text)
        information = self.code / f"{distribution.replace('-', '_')}-{version}.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (information / "entry_points.txt").write_text(f"[hush]\n{module} = {module}\n")

    def uninstall(self, module: str) -> None:
        for path in self.code.glob("*"):
            if path.stem == module or path.name == "__pycache__":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            elif path.suffix == ".dist-info" and f"{module} = " in (path / "entry_points.txt").read_text():
                shutil.rmtree(path)

    # -- apps ---------------------------------------------------------------------------------------------------------

    def script(self, text: str, name: str = "app.py") -> str:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(PRELUDE + textwrap.dedent(text))
        return str(path)

    def record(
        self, *request_ids: str, tracer: str = "get_tracer('prod')", script: str = "record.py", **more: Any
    ) -> None:
        """Have an app record these requests, and end."""
        text = f"tracer = {tracer}\nfor request_id in {list(request_ids)!r}:\n    answer(tracer, request_id)\n"
        self.run(self.script(text, script), **more)

    def hush(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a `hush` command as somebody at a shell here would, and give all that it says."""
        code = "from hush_core.cli import main; main()"
        process = self.start("-c", code, *arguments, env=environment)
        out, errors = process.communicate(timeout=60)
        return subprocess.CompletedProcess(arguments, process.returncode, out, errors)

    # -- deliveries ---------------------------------------------------------------------------------------------------

    def deliveries(self, tracer: str | None = None) -> dict[str, Delivery]:
        """The ledger's rows of a tracer, or of the only one, by request."""
        with suppress(sqlite3.OperationalError):  # not made yet
            rows = self.query(
                "SELECT request_id, tracer_name, status, attempts, last_error FROM deliveries"
                " WHERE tracer_name = coalesce(?, tracer_name)",
                tracer,
            )
            return {row[0]: Delivery(*row) for row in rows}
        return {}

    def query(self, statement: str, *values: Any) -> list[Any]:
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as connection:
            return connection.execute(statement, values).fetchall()

    def wait_for(
        self, status: str, request_ids: Iterable[str], tracer: str | None = None, timeout_s: float = SOON_S
    ) -> list[Delivery]:
        """Wait until the deliveries of these requests are in that state. Gives them."""
        wanted = list(request_ids)
        found: dict[str, Delivery] = {}

        def are() -> bool:
            found.clear()
            found.update(self.deliveries(tracer))
            return all(each in found and found[each].status == status for each in wanted)

        try:
            wait_until(are, f"{len(wanted)} deliveries to be {status}", timeout_s)
        except BaseException:
            print(*list(found.values())[:20], sep="\n")  # what they are instead, shown with the failure
            self.show_logs()
            raise
        return [found[each] for each in wanted]

    def wait_for_error(
        self, said: str, request_id: str, tracer: str | None = None, timeout_s: float = SOON_S
    ) -> Delivery:
        """Wait until a text fits the last error of a delivery, as a regular expression. Gives the delivery."""
        found: list[Delivery] = []

        def has_failed() -> bool:
            found[:] = [each for each in self.deliveries(tracer).values() if each.request_id == request_id]
            return any(re.search(said, each.error or "") for each in found)

        try:
            wait_until(has_failed, f"a delivery to fail with {said!r}", timeout_s)
        except BaseException:
            print(*found, sep="\n")
            self.show_logs()
            raise
        return found[0]

    def flush(self, tracer: str | None = None) -> None:
        """What waits is due now, as after `hush flush`."""
        control(self.database, {"verb": "flush", "tracer": tracer, "variables": None}, timeout=SOON_S)

    def show_logs(self) -> None:
        """For the output of a test that fails."""
        for path in sorted(Path(f"{self.database}.journal").glob("*.log")):
            print(f"--- {path.name}", path.read_text(errors="replace")[-4000:], sep="\n")

    # -- processes ----------------------------------------------------------------------------------------------------

    def delivery_processes(self, tracer: str | None = None) -> list[int]:
        """The process ids of the delivery processes that the writer has, of a tracer or of all."""
        found = control(self.database, {"verb": "status"})["delivery"]["processes"]
        return [each["pid"] for each in found if tracer in (None, each["tracer"])]

    def running(self) -> list[str]:
        """Command lines of all that the apps of this place have started and that runs."""
        mine = set(leftovers(self.folder))
        return [argv for pid, argv in running_processes() if pid in mine]

    def zombies(self) -> list[int]:
        """Processes that have ended and that nobody has reaped, with one of this place as their parent."""
        mine = set(leftovers(self.folder))
        found = []
        for entry in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):  # it is gone meanwhile
                state, parent = entry.read_text().rpartition(")")[2].split()[:2]
                if state == "Z" and int(parent) in mine:
                    found.append(int(entry.parent.name))
        return found
