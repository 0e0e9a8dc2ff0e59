"""A backend that is a folder: a plugin's tracer puts each request's id into it, unless a file there says otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fake_plugin import install_tracer

from hush_core import get_tracer

_FLUSH = """
import os, time
from pathlib import Path
from hush_core import ConfigurationFlushError, PermanentFlushError, RetryableFlushError
box = Path(flush_data["tracer_config"]["address"])
errors = {"down": RetryableFlushError, "refusing": PermanentFlushError, "locked": ConfigurationFlushError}
for name, error in errors.items():
    if (box / name).exists():
        raise error(f"the box is {name}")
while (box / "slow").exists():
    time.sleep(0.01)
with open(box / "requests", "a") as file:
    file.write(flush_data["request_id"] + "\\n")
"""


def record(tracer: str, *request_ids: str, **trace: Any) -> None:
    """Record a request of each id for a tracer, and wait until each has been tried."""
    made = get_tracer(tracer)
    for request_id in request_ids:
        with made.trace(**{"workflow_name": "flow", **trace, "request_id": request_id}):
            pass
    assert made.shutdown_worker(20)


class Box:
    """The folder, and what is in it.

    :param plugins: where the plugin `box` is installed.
    """

    def __init__(self, folder: Path, plugins: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        install_tracer(plugins, "box", _FLUSH, kind="BoxTracer")

    def settings(self, *names: str) -> str:
        """Tables of `hush.toml` for tracers that put requests into it."""
        return "".join(f"[tracers.{name}]\ntype = 'box'\naddress = '{self.folder}'\n" for name in names)

    def be(self, *states: str) -> None:
        """Be "down", "refusing", "locked" or "slow"; with nothing, take everything."""
        for state in states:  # first: an attempt may look in between
            (self.folder / state).touch()
        for state in {"down", "refusing", "locked", "slow"} - set(states):
            (self.folder / state).unlink(missing_ok=True)

    @property
    def requests(self) -> list[str]:
        """The ids of the requests it has, in order; one that came twice is there twice."""
        path = self.folder / "requests"
        return path.read_text().split() if path.exists() else []
