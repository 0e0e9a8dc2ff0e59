"""A contender in a process of its own, driven over pipes: one line of JSON for a call, one for its answer.

Its own process, because contenders must not share a heap, a garbage collector, a GIL or a global provider; over pipes,
because then they can take turns, and one may even run under another interpreter (an SDK in an environment of its own).
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
#: Packages that a contender may lack; anything else that cannot be imported is a failure.
_OPTIONAL = ("hush_otel", "langfuse", "opentelemetry")


class NotInstalled(Exception):
    """A contender's package is not there. The rest is measured without it."""


class WorkerFailed(Exception):
    """A contender raised, or its process ended. Says what it said."""


class Worker:
    """A running contender: a context manager. `call` runs one of its methods and waits for what that returns.

    :param module: has a function `make(folder)` that gives the contender.
    :param folder: the contender's own; also its home and, for hush, the place of its database.
    """

    def __init__(self, module: str, folder: Path, *, python: str = sys.executable) -> None:
        self.name = module.rpartition(".")[2]
        self.folder = folder
        self._process = subprocess.Popen(
            [python, "-m", "benchmarks.worker", module, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env=environment(folder),
            text=True,
        )
        try:
            self.receive()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, method: str, *arguments: Any) -> Any:
        """Run a method of the contender, and wait."""
        self.send(method, *arguments)
        return self.receive()

    def send(self, method: str, *arguments: Any) -> None:
        """Begin a call whose answer `receive` will give: for contenders that work at the same time."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([method, *arguments]) + "\n")
        self._process.stdin.flush()

    def receive(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise WorkerFailed(f"{self.name}: its process ended with status {self._process.wait()}")
        answer = json.loads(line)
        if "not_installed" in answer:
            raise NotInstalled(f"{answer['not_installed']} is not installed")
        if "failed" in answer:
            raise WorkerFailed(f"{self.name}: {answer['failed']}")
        return answer["returned"]

    @property
    def pid(self) -> int:
        return self._process.pid

    def close(self) -> None:
        """End the process, and wait for it."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def environment(folder: Path) -> dict[str, str]:
    """The environment of a contender: no settings of the person who measures, a home and a database of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HUSH_", "OTEL_", "LANGFUSE_"))}
    settings = folder / "hush.toml"
    settings.touch()
    return kept | {
        "HOME": str(folder),
        "HUSH_CONFIG": str(settings),
        "HUSH_TRACES_DB": str(folder / "traces.db"),
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "",  # what pip installs has its bytecode: to compile is no cost of a contender
    }


def serve(module: str, folder: Path) -> None:
    """The worker's side: make the contender, answer calls until the pipe closes."""
    # Calls and answers have a descriptor of their own: what an SDK prints goes to standard error.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(content: dict[str, Any]) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    try:
        contender = importlib.import_module(module).make(folder)
    except ModuleNotFoundError as problem:
        package = (problem.name or "").partition(".")[0]
        if package not in _OPTIONAL:
            raise
        answer({"not_installed": package})
        return
    answer({"returned": None})
    for line in sys.stdin:
        method, *arguments = json.loads(line)
        try:
            answer({"returned": getattr(contender, method)(*arguments)})
        except Exception as problem:
            answer({"failed": f"{type(problem).__name__}: {problem}"})
            raise
    contender.close()


def main(arguments: list[str]) -> None:
    """`python -m benchmarks.worker MODULE FOLDER [METHOD ARGUMENTS-AS-JSON]`: serve, or make one call and end."""
    module, folder, *call = arguments
    if not call:
        serve(module, Path(folder))
        return
    method, given = call
    contender = importlib.import_module(module).make(Path(folder))
    getattr(contender, method)(*json.loads(given))
    contender.close()


if __name__ == "__main__":
    main(sys.argv[1:])
