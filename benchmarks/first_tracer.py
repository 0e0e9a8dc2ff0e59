"""What the first `get_tracer` by name costs a process that has imported what a workflow imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.result import Budget, Figure, Result
from benchmarks.session import Session
from benchmarks.worker import ROOT, environment

_BUDGET_MS: Final = 15.0
#: A plugin as pip leaves it. Its name is that of the budget; it brings no vendor, which the app must not import anyway.
_PLUGIN: Final = {
    "hush_langfuse-0.1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: hush-langfuse\nVersion: 0.1.0\n",
    "hush_langfuse-0.1.0.dist-info/entry_points.txt": "[hush]\nlangfuse = hush_langfuse.plugin\n",
    "hush_langfuse/plugin.py": (
        "from hush_core import hookimpl\n"
        "@hookimpl\n"
        "def hush_register_tracers(register):\n"
        "    register('langfuse', 'hush_langfuse.tracer:LangfuseTracer', summary='Langfuse')\n"
    ),
    "hush_langfuse/tracer.py": (
        "from hush_core import BaseTracer\n"
        "class LangfuseTracer(BaseTracer):\n"
        "    def __init__(self, public_key, secret_key, tags=None): super().__init__(tags)\n"
        "    def _get_tracer_config(self): return {}\n"
        "    @staticmethod\n"
        "    def flush(flush_data): import langfuse\n"
    ),
}
_CODE: Final = (
    "from hush_core import code_node, get_tracer; import time\n"
    "began = time.perf_counter()\n"
    "get_tracer('langfuse', public_key='${PUBLIC_KEY}', secret_key='${SECRET_KEY}')\n"
    "taken = time.perf_counter() - began\n"
    "import sys; print(taken * 1000, 'langfuse' in sys.modules)\n"
)


def measure(session: Session) -> list[Result]:
    """Wall time of the call itself, each in a process of its own."""
    _install(session.folder)
    _first_call_ms(session.folder)  # the first of all writes the bytecode, as installing does
    taken = [_first_call_ms(session.folder) for _ in range(session.scale.imports)]
    what = 'get_tracer("langfuse"), first call'
    budget = Budget(_BUDGET_MS, "at most")
    return [Result("tracer", what, Figure(median(taken), "ms"), budget=budget, details={"taken_ms": taken})]


def _install(folder: Path) -> None:
    for name, text in _PLUGIN.items():
        path = folder / "site" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def _first_call_ms(folder: Path) -> float:
    variables = {**environment(folder), "PYTHONPATH": str(folder / "site")}
    done = subprocess.run(
        [sys.executable, "-c", _CODE], cwd=ROOT, env=variables, stdout=subprocess.PIPE, text=True, check=True
    )
    taken_ms, has_vendor = done.stdout.split()
    if has_vendor == "True":
        raise RuntimeError("get_tracer imported the vendor's library")
    return float(taken_ms)
