"""A plugin that is installed for a test: a module and its distribution's metadata, as pip leaves them."""

from __future__ import annotations

import textwrap
from pathlib import Path

_TRACER = """
from hush_core import BaseTracer, hookimpl

class {kind}(BaseTracer):
    def __init__(self, address="", tags=None):
        super().__init__(tags)
        self._address = address

    def _get_tracer_config(self):
        return {{"address": self._address}}

    @staticmethod
    def flush(flush_data):
{flush}

@hookimpl
def hush_register_tracers(register):
    register("{name}", "{module}:{kind}", summary="Somewhere else")
"""


def install(folder: Path, name: str, source: str, version: str = "1.2.3", *, distribution: str = "") -> Path:
    """Put a plugin of that name into a folder, which has to be on `sys.path`.

    :param source: of its module `fake_NAME`, which is the plugin.
    :param distribution: `hush-NAME` if not given; else the module is called after it.
    """
    distribution = distribution or f"hush-{name}"
    module = f"fake_{distribution.removeprefix('hush-').replace('-', '_')}"
    folder.mkdir(exist_ok=True)
    (folder / f"{module}.py").write_text(textwrap.dedent(source))
    metadata = folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
    metadata.mkdir(exist_ok=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
    (metadata / "entry_points.txt").write_text(f"[hush]\n{name} = {module}\n")
    return folder


def install_tracer(folder: Path, name: str, flush: str, kind: str = "FakeTracer") -> Path:
    """Install a plugin whose one tracer has that name, and whose `flush(flush_data)` does this."""
    body = textwrap.indent(textwrap.dedent(flush).strip(), " " * 8)
    return install(folder, name, _TRACER.format(kind=kind, name=name, module=f"fake_{name}", flush=body))
