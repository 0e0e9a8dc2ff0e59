"""Servers that others have written, each started for one test module from the command that the environment names.

`python3 dev.py receivers` installs both and names them: `PHOENIX_COMMAND`, `MLFLOW_COMMAND`. Where one is not named,
its tests are skipped.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from ports import free_port
from waiting import wait_until

_STARTS_S = 180.0


class Receiver:
    """A server of its own process group, on a port and in a folder that it keeps when it is started again."""

    def __init__(self, command: list[str], variables: dict[str, str], health: str, port: int, folder: Path) -> None:
        self.origin = f"http://127.0.0.1:{port}"
        self.endpoint = f"{self.origin}/v1/traces"
        self._command = command
        self._variables = variables
        self._health = health
        self._log = folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdout=log,
                stderr=log,
                env={**os.environ, **self._variables},
                start_new_session=True,
            )
        wait_until(self._is_up, f"{self._command[0]} to start, see {self._log}", _STARTS_S)

    def kill(self) -> None:
        """As if the power went."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def ask(self, path: str, body: Any = None) -> Any:
        content = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(f"{self.origin}{path}", content, {"Content-Type": "application/json"})
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return json.load(answer)

    def _is_up(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            pytest.fail(f"{self._command[0]} ended by itself:\n{self._log.read_text()[-4000:]}")
        try:
            urllib.request.urlopen(f"{self.origin}{self._health}", timeout=5).close()
        except (OSError, urllib.error.URLError):
            return False
        return True


def _command(name: str) -> str:
    found = os.environ.get(name)
    if not found:
        pytest.skip(f"{name} is not set: python3 dev.py receivers")
    return found


def _running(receiver: Receiver) -> Iterator[Receiver]:
    try:
        receiver.start()
        yield receiver
    finally:
        receiver.kill()


@pytest.fixture(scope="module")
def phoenix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    folder, port = tmp_path_factory.mktemp("phoenix"), free_port()
    variables = {
        "HOME": str(folder),
        "PHOENIX_HOST": "127.0.0.1",
        "PHOENIX_PORT": str(port),
        "PHOENIX_GRPC_PORT": str(free_port()),
        "PHOENIX_WORKING_DIR": str(folder),
        "PHOENIX_TELEMETRY_ENABLED": "false",
        "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
    }
    yield from _running(Receiver([_command("PHOENIX_COMMAND"), "serve"], variables, "/healthz", port, folder))


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port()
    command = [
        *(_command("MLFLOW_COMMAND"), "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}", "--artifacts-destination", str(folder)),
    ]
    variables = {"HOME": str(folder), "MLFLOW_DISABLE_TELEMETRY": "true"}
    yield from _running(Receiver(command, variables, "/health", port, folder))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing of the person who runs the tests is read or written."""
    for variable in [name for name in os.environ if name.startswith(("HUSH_", "OTEL_"))]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HUSH_TRACES_DB", str(tmp_path / "traces.db"))
    monkeypatch.chdir(tmp_path)
    return tmp_path
