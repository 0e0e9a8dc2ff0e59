"""The README's promise about delivery, in an environment in which nothing but two wheels has been installed.

Run by `nox -s example` with that environment's Python and the example plugin's wheel. Four lines of settings and ten of
Python, as the README prints them, deliver a request; uninstalled, the next one waits with a reason that `hush` shows;
installed again, it goes through.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

CHECKOUT: Final = Path(__file__).parents[2]
sys.path.insert(0, str(CHECKOUT / "tests" / "support"))

from backend import Backend  # noqa: E402 - where it is found was said just now

HUSH: Final = str(Path(sys.executable).with_name("hush"))
TOKEN: Final = "t0ken-of-the-fresh-environment"
#: An app that has its tracer before the plugin goes, and completes a request after.
LONG_RUNNING: Final = """
from hush_core import get_tracer
tracer = get_tracer("prod")
print("ready", flush=True)
input()
with tracer.trace("geography", request_id="after"):
    pass
"""


def main(wheel: str) -> None:
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="hush-example-"))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HUSH_", "PYTHON"))}
    os.environ.clear()
    os.environ.update({**kept, "HOME": str(folder), "HUSH_TRACES_DB": str(folder / "traces.db")})
    os.environ["INGEST_TOKEN"] = TOKEN
    os.chdir(folder)
    settings, code = readme_blocks()
    try:
        with Backend() as backend:
            Path("hush.toml").write_text(settings.replace("https://example.com/ingest", backend.url))
            try_it(backend, code, wheel)
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # the writer ends by itself, seconds later
    print(f"The README's example holds in a fresh environment ({time.monotonic() - began:.0f} s).")


def readme_blocks() -> tuple[str, str]:
    """The settings and the app, as the README's section about delivery prints them."""
    section = (CHECKOUT / "README.md").read_text().split("## Deliver to a backend")[1]
    settings, code = (re.search(rf"```{kind}\n(.*?)```", section, re.DOTALL) for kind in ("toml", "python"))
    assert settings is not None and code is not None
    assert len(settings[1].splitlines()) == 4
    assert len([line for line in code[1].splitlines() if line]) <= 10
    return settings[1], code[1]


def try_it(backend: Backend, code: str, wheel: str) -> None:
    say("an app of ten lines delivers a request")
    subprocess.run([sys.executable, "-c", code], check=True)
    wait_until(lambda: len(backend.accepted) == 1)
    assert backend.posts[0].headers["Authorization"] == f"Bearer {TOKEN}"
    wait_until(lambda: tracer()["sent"] == 1)

    say("the plugin is uninstalled under a running app, and its next request waits with a reason")
    app = subprocess.Popen([sys.executable, "-c", LONG_RUNNING], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert app.stdout is not None and app.stdout.readline() == b"ready\n"
    wait_until(lambda: delivery_processes() == [])  # one that has the plugin in memory would go on with it
    pip("uninstall", "-y", "hush-jsonl")
    app.communicate(b"\n", timeout=60)
    wait_until(lambda: "jsonl" in str(tracer()["last_error"]))
    assert tracer()["due"] == 1
    assert "jsonl" in hush("tracers") and "jsonl" in hush("doctor", may_fail=True)
    assert len(backend.accepted) == 1

    say("it is installed again, and the request goes through")
    pip("install", "--no-deps", "--no-index", wheel)
    hush("flush", "--wait")
    wait_until(lambda: "after" in backend.ids)
    wait_until(lambda: tracer()["due"] == 0)
    assert TOKEN not in hush("tracers", "--json") + hush("tracers")


def tracer() -> dict[str, Any]:
    """What `hush tracers` says of the one in the settings."""
    found: list[dict[str, Any]] = json.loads(hush("tracers", "--json"))
    return next(each for each in found if each["name"] == "prod")


def delivery_processes() -> list[Any]:
    from hush_core.background.supervisor import control

    found: list[Any] = control(Path("traces.db"), {"verb": "status"})["delivery"]["processes"]
    return found


def hush(*arguments: str, may_fail: bool = False) -> str:
    return subprocess.run([HUSH, *arguments], stdout=subprocess.PIPE, text=True, check=not may_fail).stdout


def pip(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", *arguments], check=True)


def wait_until(condition: Callable[[], bool], timeout_s: float = 90.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s:g} s; hush says:\n{hush('tracers', may_fail=True)}"
        time.sleep(0.2)  # what is waited for is in other processes


def say(what: str) -> None:
    print(f"- {what}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
