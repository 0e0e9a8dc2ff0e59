"""The mask as the settings say it: in real processes, over forks, and where the settings cannot be read."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from disk import files_below
from waiting import wait_until

from hush_core import LocalTracer, code_node
from hush_core.background.election import elect
from hush_core.background.supervisor import get_background
from hush_core.capture.record import _encode_fast
from hush_core.journal.format import journal_directory
from hush_core.store.trace_store import get_store
from hush_core.system import FILES

SECRET = b"hunter2-CORRECT-horse"
#: Without the secret in one piece, so that it is in no file that the test itself makes.
MAKE_SECRET = 'secret = "hunter2-" + "CORRECT-horse"\n'
WITHHELD = "… [withheld: the settings cannot be read, and they have a mask]"

APP = (
    MAKE_SECRET
    + """
import dataclasses, os, sys
from hush_core import LocalTracer, code_node, get_store

@dataclasses.dataclass
class Account:
    user: str
    password: str

@code_node
def login(user, password, **more):
    return {"user": user, "token": "kept-output", "$metadata": {"headers": [("Authorization", password)]}}

@code_node
def stream(password):
    yield {"password": password}
    yield Account("kept-item", password)

@code_node
def fail(password):
    raise ValueError("kept-error")

def run(request_id):
    inputs = {"user": "kept-input", "password": secret, "Api-Key": [secret]}
    with LocalTracer().trace("flow", request_id=request_id, inputs=inputs) as state:
        login("kept-argument", secret, api_key=secret, accounts={1: Account("a", secret)})
        list(stream(secret))
        try:
            fail(secret)
        except ValueError:
            pass
        state.set_output({"password": secret, "big": "x" * 300_000})
    get_store().insert_node_trace(
        request_id, "flow", "inserted", None, None, 1, 1, 2, 0.1, {"api_key": secret}, {"password": [secret]},
        metadata={"password": secret},
    )

run("a")
child = os.fork()
if child == 0:
    run("b")
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print("recorded", flush=True)
sys.stdin.readline()
assert get_store().sync(60)
"""
)


@pytest.mark.parametrize("start_records", ["true", "false"])
def test_a_real_process_and_its_forked_child_leave_no_secret_on_the_disk(tmp_path: Path, start_records: str) -> None:
    (tmp_path / "hush.toml").write_text(
        f'[capture]\nstart_records = {start_records}\n[mask]\nkeys = ["Password", "API_KEY", "authorization"]\n'
    )
    directory = journal_directory(tmp_path / "traces.db")
    FILES.make_directory(directory)
    elected = elect(directory)  # no writer begins meanwhile, which would give up the segments that are looked at
    assert elected is not None
    with subprocess.Popen(
        [sys.executable, "-c", APP], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as app:
        try:
            assert app.stdout is not None
            assert app.stdout.readline() == "recorded\n"
            journals = files_below(tmp_path)
        finally:
            os.close(elected)
        _, errors = app.communicate("\n", timeout=60)
    assert any(b"kept-argument" in content for path, content in journals.items() if path.suffix == ".segment")
    assert (app.returncode, errors) == (0, "")
    wait_until(lambda: len(list(get_store().iter_requests())) == 2, "both requests to be stored")
    for request_id in ("a", "b"):
        nodes = {node.node_name: node for node in get_store().get_request(request_id).nodes}
        assert nodes["flow"].input_data == {"user": "kept-input", "password": "[masked]", "Api-Key": "[masked]"}
        assert nodes["login"].metadata == {"headers": [["Authorization", "[masked]"]]}
        assert nodes["stream"].output_data[1] == {"user": "kept-item", "password": "[masked]"}
        assert nodes["inserted"].output_data == {"password": "[masked]"}
        assert nodes["fail"].error.startswith("ValueError: kept-error")
    stored = files_below(tmp_path)
    assert any(b"kept-output" in content for path, content in stored.items() if path.name.startswith("traces.db"))
    for content in (*journals.values(), *stored.values()):
        assert SECRET not in content


def test_without_a_mask_records_are_encoded_as_fast_as_ever_and_no_mask_is_loaded(tmp_path: Path) -> None:
    store = get_store()
    store.insert_node_trace("r", "f", "n", None, None, 1, 1, 2, 1.0, None, None)
    assert store._encode is _encode_fast
    script = (
        "import sys; from hush_core import LocalTracer, code_node\n"
        "with LocalTracer().trace('flow'): code_node(len)('a')\n"
        "print('hush_core.capture.mask' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_mask_of_keys_loads_no_plugin_and_no_pluggy(tmp_path: Path) -> None:
    (tmp_path / "hush.toml").write_text('[mask]\nkeys = ["password"]\n')
    script = (
        "import sys; from hush_core import LocalTracer, code_node\n"
        "with LocalTracer().trace('flow'): code_node(len)('a')\n"
        "print(sorted({'pluggy', 'logging', 'sqlite3', 'hush_core.plugins.host'} & set(sys.modules)),"
        " 'hush_core.capture.mask' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.strip() == "[] True"


def test_a_forked_child_of_a_process_that_has_not_recorded_yet_masks_too(tmp_path: Path) -> None:
    (tmp_path / "hush.toml").write_text('[mask]\nkeys = ["password"]\n')
    store = get_store()  # made before the settings are read
    child = os.fork()
    if child == 0:
        try:
            store.insert_node_trace("r", "f", "n", None, None, 1, 1, 2, 1.0, {"password": SECRET.decode()}, None)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    store.insert_node_trace("r", "f", "own", None, None, 1, 1, 2, 1.0, {"password": SECRET.decode()}, None)
    assert store.sync(30)
    wait_until(lambda: len(store.get_request("r").nodes) == 2, "both nodes to be stored")
    assert [node.input_data for node in store.get_request("r").nodes] == [{"password": "[masked]"}] * 2


# -- settings that cannot be read -------------------------------------------------------------------------------------


@code_node
def ask(password: str) -> Any:
    return {"answer": 1, "$usage": {"prompt_tokens": 3, "completion_tokens": 4}, "$metadata": {"m": 1}, "$media": ["x"]}


def record_and_read() -> dict[str, Any]:
    """A request with a node, recorded and read again."""
    with LocalTracer(tags=["t"]).trace("flow", user_id="u", request_id="r") as state:
        ask(SECRET.decode())
        assert state.tags == []
    assert get_store().sync(30)
    request = get_store().get_request("r")
    node = next(node for node in request.nodes if node.node_name == "ask")
    kept = {name: getattr(node, name) for name in ("input_data", "output_data", "metadata", "media", "total_tokens")}
    return {**kept, "user_id": request.user_id, "tags": request.tags, "status": request.status}


def _write(name: str, content: str | bytes) -> Callable[[Path], None]:
    text = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(text) and None


BROKEN: dict[str, Callable[[Path], None]] = {
    "no TOML": _write("hush.toml", '[mask]\nkeys = ["password"\n'),
    "an unknown key": _write("hush.toml", '[mask]\nkeyz = ["password"]\n'),
    "a wrong type": _write("hush.toml", 'mask.keys = "password"\n'),
    "no table": _write("hush.toml", 'mask = ["password"]\n'),
    "a misspelt table": _write("hush.toml", '[Masks]\nkeys = ["password"]\n'),
    "something else is wrong": _write("hush.toml", '[store]\nkeep = "soon"\n[mask]\nkeys = ["password"]\n'),
    "no UTF-8": _write("hush.toml", '[mask]\nkeys = ["password"]\n'.encode("utf-16")),
    "in pyproject.toml": _write("pyproject.toml", "[tool.hush.mask]\nkeys = 3\n"),
}


@pytest.mark.expects_report
@pytest.mark.parametrize("write", BROKEN.values(), ids=BROKEN)
def test_settings_that_cannot_be_read_and_mention_a_mask_withhold_the_values(
    write: Callable[[Path], None], tmp_path: Path, reports: list[str]
) -> None:
    write(tmp_path)
    assert record_and_read() == {
        "input_data": WITHHELD,
        "output_data": WITHHELD,
        "metadata": WITHHELD,
        "media": WITHHELD,
        "total_tokens": 7,
        "user_id": WITHHELD,
        "tags": [WITHHELD],
        "status": "completed",
    }
    assert len(reports) == 1
    assert "reading the settings" in reports[0]
    assert "withheld" in reports[0]
    assert not any(SECRET in content for content in files_below(tmp_path).values())


@pytest.mark.expects_report
@pytest.mark.parametrize("named", ["missing.toml", ""], ids=["no such file", "a folder"])
def test_settings_that_cannot_be_seen_may_have_a_mask(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUSH_CONFIG", str(tmp_path / named))
    assert record_and_read()["input_data"] == WITHHELD


@pytest.mark.expects_report
def test_wrong_settings_that_say_nothing_of_a_mask_withhold_nothing(tmp_path: Path, reports: list[str]) -> None:
    (tmp_path / "hush.toml").write_text('[store]\nkeep = "soon"\n')
    assert record_and_read()["input_data"] == {"password": SECRET.decode()}
    assert "withheld" not in reports[0]


def test_each_database_has_the_mask_of_the_settings_as_they_were_when_it_was_first_used(tmp_path: Path) -> None:
    before = get_background(tmp_path / "a.db")
    (tmp_path / "hush.toml").write_text('[mask]\nkeys = ["password"]\n')
    assert before.mask is None
    assert get_background(tmp_path / "b.db").mask is not None
    assert get_background(tmp_path / "a.db").mask is None
