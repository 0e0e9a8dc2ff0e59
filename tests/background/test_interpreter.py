"""Which Python the writer runs in, where the app itself is none: frozen, or embedded in another program."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from hush_core.background.launch import origin, start_writer
from hush_core.system import python_interpreter

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.mark.parametrize("name", ["python", "python3.11", "python3-dbg", "pypy3.10", "Python", "python3.13t"])
def test_an_interpreter_is_known_by_its_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", f"/opt/bin/{name}")
    assert python_interpreter() == f"/opt/bin/{name}"


@pytest.mark.parametrize("executable", ["/usr/bin/uwsgi", "/opt/app/server", "", None])
@pytest.mark.parametrize("name", [f"python{VERSION}", "python3"])
def test_of_an_embedded_one_the_installation_tells(
    executable: str | None, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert python_interpreter() is None
    found = tmp_path / "bin" / name
    found.parent.mkdir()
    found.write_text("")
    assert python_interpreter() is None, "it cannot be run"
    found.chmod(0o755)
    assert python_interpreter() == origin(None)["executable"] == str(found)


@pytest.mark.parametrize("name", ["server", "python-app", "pythonic"])
def test_a_frozen_app_is_no_interpreter_whatever_its_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", f"/opt/app/{name}")
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert python_interpreter() is None
    assert origin(None)["executable"] is None
    with pytest.raises(OSError, match=r"python -m hush_core\.background /data/traces\.db"):
        start_writer(Path("/data/traces.db"))


def test_a_frozen_app_is_not_run_again_and_a_writer_beside_it_stores_its_records(tmp_path: Path) -> None:
    again = tmp_path / "server"
    again.write_text(f"#!/bin/sh\necho again >> {tmp_path}/again\n")
    again.chmod(0o755)
    script = tmp_path / "app.py"
    script.write_text(
        textwrap.dedent(f"""
        import sys
        sys.executable, sys.frozen = {str(again)!r}, True
        from hush_core import LocalTracer, code_node, get_store

        @code_node
        def answer(number):
            return number

        for number in range(40):
            with LocalTracer().trace("flow", request_id=f"r-{{number}}"):
                answer(number)
        print(get_store().sync(0.2), flush=True)
        sys.stdin.readline()
        print(get_store().sync(20), flush=True)
        """)
    )
    app = subprocess.Popen(
        [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert app.stdin and app.stdout
    assert app.stdout.readline() == "False\n"
    writer = subprocess.Popen([sys.executable, "-m", "hush_core.background", os.environ["HUSH_TRACES_DB"]])
    out, errors = app.communicate("go on\n", timeout=30)
    assert out == "True\n"
    assert errors.count("python -m hush_core.background") == errors.count("\n") == 1, "it is said once, on one line"
    assert not (tmp_path / "again").exists()
    assert writer.wait(30) == 0
