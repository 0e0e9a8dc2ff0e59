"""`hush_mask` of the plugins that `[mask] plugins` names: it may change what is recorded, and fails closed."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fake_plugin
import msgspec
import pytest
from disk import files_below
from waiting import wait_until

from hush_core import LocalTracer, code_node
from hush_core.capture.mask import DATA, Mask
from hush_core.capture.place import current
from hush_core.capture.state import MemoryState
from hush_core.model import NODE, NODE_FIELDS, REQUEST_COMPLETE, REQUEST_COMPLETE_FIELDS, REQUEST_START_FIELDS
from hush_core.store.trace_store import TraceStore, get_store

SECRET = "hunter2-CORRECT-horse"

Install = Callable[..., None]
Record = Callable[..., dict[str, Any]]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """`install(name, body, head=..., hook=...)`: install a plugin whose `hush_mask(record)` does this."""
    folder = tmp_path / "installed"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")])))
    monkeypatch.setattr("hush_core.plugins.host._hosts", {})  # of another test's plugins, by the same names

    def install(name: str, body: str, *, head: str = "", hook: str = "hush_mask(record)") -> None:
        text = textwrap.indent(textwrap.dedent(body).strip(), "    ")
        fake_plugin.install(folder, name, f"{head}\nfrom hush_core import hookimpl\n@hookimpl\ndef {hook}:\n{text}\n")

    yield install
    for name in [name for name in sys.modules if name.startswith("fake_") and name != "fake_plugin"]:
        del sys.modules[name]


@pytest.fixture
def record(recording: Any) -> Record:
    """Encodes a node through the masks of plugins; gives what is in the record."""

    def record(*plugins: str, keys: tuple[str, ...] = (), **fields: Any) -> dict[str, Any]:
        mask = Mask(keys, plugins, report=recording.report)
        payload = mask.encode((NODE, *({"request_id": "r", **fields}.get(name) for name in NODE_FIELDS)))
        return dict(zip(NODE_FIELDS, msgspec.msgpack.decode(payload)[1:], strict=True))

    return record


SCRUB = """
def clean(value):
    if isinstance(value, str):
        return value.replace("hunter2-CORRECT-horse", "[scrubbed]")
    if isinstance(value, dict):
        return {key: clean(item) for key, item in value.items()}
    return [clean(item) for item in value] if isinstance(value, list) else value
for name in ("input_data", "output_data", "metadata", "media", "error", "tags", "user_id", "session_id"):
    if name in record:
        record[name] = clean(record[name])
"""


def test_a_plugin_changes_what_the_data_of_a_record_is(install: Install, record: Record, recording: Any) -> None:
    install("scrub", SCRUB)
    kept = record(
        "scrub",
        input_data={"text": f"it is {SECRET}", "odd": {1: (SECRET, 2)}},
        output_data=[SECRET],
        metadata={"m": SECRET},
        media=[{"url": SECRET}],
        error=f"ValueError: {SECRET}\nTraceback ...",
        tags=[SECRET, "t"],
        user_id=SECRET,
        model="gpt",
        total_tokens=7,
    )
    assert kept["input_data"] == {"text": "it is [scrubbed]", "odd": {"1": ["[scrubbed]", 2]}}
    assert kept["output_data"] == ["[scrubbed]"]
    assert (kept["metadata"], kept["media"]) == ({"m": "[scrubbed]"}, [{"url": "[scrubbed]"}])
    assert kept["error"] == "ValueError: [scrubbed]\nTraceback ..."
    assert (kept["tags"], kept["user_id"], kept["session_id"]) == (["[scrubbed]", "t"], "[scrubbed]", None)
    assert (kept["model"], kept["total_tokens"]) == ("gpt", 7)
    assert recording.reported == []


def test_a_plugin_may_return_another_record(install: Install, record: Record) -> None:
    install("other", 'return {"input_data": {"all": "gone"}, "request_id": "mine"}')
    kept = record("other", input_data={"a": SECRET}, output_data=SECRET, total_tokens=7)
    assert (kept["input_data"], kept["output_data"]) == ({"all": "gone"}, None)
    assert (kept["request_id"], kept["total_tokens"]) == ("r", 7)


def test_what_the_journal_cannot_do_without_is_put_back(install: Install, record: Record) -> None:
    install("spoil", 'record.update(dict.fromkeys(record, 99)); record["more"] = 1; record.pop("input_data")')
    said = {name: at for at, name in enumerate(NODE_FIELDS) if name not in DATA}
    kept = record("spoil", input_data=SECRET, **said)
    assert {name: kept[name] for name in said} == said
    assert {name: kept[name] for name in DATA} == {**dict.fromkeys(DATA, 99), "input_data": None}


def test_a_plugin_cannot_reach_the_workflows_own_values(install: Install, recording: Any) -> None:
    install("reach", 'record["tracer_config"]["url"] = record["tags"][0] = "changed"')
    config, tags = {"url": "u", "api_key": "k"}, ["a"]
    mask = Mask(["api_key"], ["reach"], report=recording.report)
    fields = msgspec.msgpack.decode(mask.encode((REQUEST_COMPLETE, "r", "T", config, tags, "T")))
    assert (config, tags) == ({"url": "u", "api_key": "k"}, ["a"])
    assert fields[3:5] == [{"url": "u", "api_key": "k"}, ["changed"]]


def test_a_plugin_can_fill_a_field_that_the_record_had_left_out(install: Install, recording: Any) -> None:
    install("fill", 'record["tags"] = ["filled"]')
    mask = Mask([], ["fill"], report=recording.report)
    fields = msgspec.msgpack.decode(mask.encode((NODE, "r", "flow", "n")))
    assert dict(zip(NODE_FIELDS, fields[1:], strict=True))["tags"] == ["filled"]


def test_keys_are_masked_before_a_plugin_sees_a_record_and_after(install: Install, record: Record) -> None:
    install(
        "open",
        """
        import json
        assert record["input_data"]["password"] == "[masked]"
        record["output_data"] = json.loads(record["output_data"])
        """,
    )
    kept = record(
        "open", keys=("password",), input_data={"password": SECRET}, output_data=f'{{"password": "{SECRET}"}}'
    )
    assert (kept["input_data"], kept["output_data"]) == ({"password": "[masked]"}, {"password": "[masked]"})


def test_whatever_a_plugin_leaves_is_recorded_with_care(install: Install, record: Record, recording: Any) -> None:
    install(
        "odd",
        """
        ring = record["input_data"]
        ring["ring"], ring["file"] = ring, open
        record["output_data"] = 2 ** 70
        """,
    )
    kept = record("odd", input_data={})
    assert kept["input_data"] == {"ring": "… [cycle]", "file": "<built-in function open>"}
    assert kept["output_data"] == str(2**70)
    assert recording.reported == []


def test_plugins_see_a_record_one_after_the_other_in_the_order_of_the_setting(install: Install, record: Record) -> None:
    install("one", 'record["input_data"].append(1)')
    install("two", 'record["input_data"].append(2)')
    assert record("two", "one", input_data=[])["input_data"] == [2, 1]
    assert record("one", "two", input_data=[])["input_data"] == [1, 2]
    assert record("one", input_data=[])["input_data"] == [1]  # a plugin that is not named is not asked


def test_every_kind_of_record_passes_with_its_fields_by_name(install: Install, recording: Any, tmp_path: Path) -> None:
    install(
        "see", 'seen.append((record["kind"], set(record) - {"kind"}))', head="import sys; seen = sys.hush_seen = []"
    )
    recording.mask = Mask([], ["see"], report=recording.report)
    store = TraceStore(tmp_path / "unused.db", background=recording)
    state = MemoryState("flow", trace_store=store)
    current.set(state.root)

    @code_node
    def work(n: int) -> int:
        return n

    with LocalTracer().trace("flow") as traced:
        pass
    assert traced.has_trace_store
    work(1)
    current.set(None)
    store.insert_node_trace("r", "f", "n", None, None, 1, 1, 2, 1.0, None, None)
    store.record((4, "r", "flow"))
    store.mark_request_complete("r", "LocalTracer", {})
    names = {"node": NODE_FIELDS, "request_start": REQUEST_START_FIELDS, "request_complete": REQUEST_COMPLETE_FIELDS}
    seen = sys.hush_seen  # type: ignore[attr-defined]
    assert [kind for kind, _ in seen] == ["node_start", "node_end", "node", "request_start", "request_complete"]
    assert all(fields == set(names.get(kind, NODE_FIELDS)) for kind, fields in seen)


# -- failing closed ---------------------------------------------------------------------------------------------------

FAILING = {
    "raises": ("raise ValueError(str(record))", "ValueError"),
    "exits": ("import sys; sys.exit(str(record))", "SystemExit"),
    "recurses": ("hush_mask(record)", "RecursionError"),
    "changes half": ('record["input_data"] = "half"; record["output_data"]["no"]["such"]', "TypeError"),
    "returns no record": ("return 5", "PluginError"),
}


@pytest.mark.parametrize(("body", "kind"), FAILING.values(), ids=FAILING)
def test_a_mask_that_fails_withholds_the_data_of_its_record(
    body: str, kind: str, install: Install, record: Record, recording: Any
) -> None:
    install("fails", body)
    data = dict.fromkeys(DATA - {"output_data", "tags"}, SECRET)
    kept = record("fails", **data, output_data={"no": 1}, tags=[SECRET], node_name="n", total_tokens=7, start_time=1)
    note = f"… [withheld: the mask of the plugin 'fails' failed: {kind}]"
    assert {name: kept[name] for name in DATA} == {**dict.fromkeys(DATA, note), "tags": [note]}
    assert (kept["request_id"], kept["node_name"], kept["total_tokens"], kept["start_time"]) == ("r", "n", 7, 1)
    ((problem, doing),) = recording.reported
    assert doing == "masking with the plugin 'fails'"
    assert SECRET not in str(problem)
    assert problem.__cause__ is None


def test_what_there_was_none_of_is_not_withheld(install: Install, record: Record) -> None:
    install("fails", "raise ValueError")
    assert [record("fails")[name] for name in DATA] == [None] * len(DATA)


def test_a_mask_that_failed_once_is_asked_again(install: Install, record: Record, recording: Any) -> None:
    install("sometimes", 'if record["input_data"] == 1: raise ValueError')
    mask = Mask([], ["sometimes"], report=recording.report)
    kept = [msgspec.msgpack.decode(mask.encode((NODE, "r", *[None] * 8, value)))[-1] for value in (1, 2)]
    assert kept == ["… [withheld: the mask of the plugin 'sometimes' failed: ValueError]", 2]


def test_a_keyboard_interrupt_in_a_mask_is_the_users_and_passes(install: Install, record: Record) -> None:
    install("interrupted", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        record("interrupted", input_data=1)


def test_a_plugin_that_is_not_installed_withholds_everything(record: Record, recording: Any) -> None:
    kept = record("nowhere", input_data=SECRET, node_name="n")
    assert kept["input_data"] == "… [withheld: the mask of the plugin 'nowhere' cannot be loaded]"
    assert kept["node_name"] == "n"
    ((problem, _),) = recording.reported
    assert "not installed" in str(problem)


@pytest.mark.parametrize(
    ("change", "said"),
    [({"head": "import nothing_of_this_name"}, "nothing_of_this_name"), ({"hook": "hush_maks(record)"}, "hush_mask")],
    ids=["that cannot be imported", "that misspells its hook"],
)
def test_a_plugin_that_is_broken_withholds_everything(
    change: dict[str, str], said: str, install: Install, record: Record, recording: Any
) -> None:
    install("broken", "pass", **change)
    kept = record("broken", input_data=SECRET)
    assert kept["input_data"] == "… [withheld: the mask of the plugin 'broken' cannot be loaded]"
    assert said in str(recording.reported[0][0])


def test_a_plugin_without_the_hook_withholds_everything(install: Install, record: Record, recording: Any) -> None:
    install("maskless", "pass", hook="hush_before_flush(tracer_name, flush_data)")
    assert record("maskless", input_data=SECRET)["input_data"] == "… [withheld: the plugin 'maskless' has no hush_mask]"


def test_a_plugin_that_is_blocked_withholds_everything(
    install: Install, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("blocked", "pass")
    monkeypatch.setenv("HUSH_BLOCK_PLUGINS", "blocked")
    assert "cannot be loaded" in record("blocked", input_data=SECRET)["input_data"]


def test_inputs_that_are_kept_until_a_node_ends_are_withheld_too(
    install: Install, recording: Any, tmp_path: Path
) -> None:
    recording.mask = Mask([], ["nowhere"], report=recording.report)
    recording.start_records = False
    state = MemoryState("flow", trace_store=TraceStore(tmp_path / "unused.db", background=recording))
    current.set(state.root)

    @code_node
    def work(text: str) -> str:
        return text

    assert work(SECRET) == SECRET
    current.set(None)
    assert SECRET.encode() not in b"".join(recording.payloads)


# -- masks and the workflow -------------------------------------------------------------------------------------------


def test_what_a_mask_records_itself_is_withheld_and_ends(install: Install, recording: Any, tmp_path: Path) -> None:
    install(
        "busy",
        """
        sys.hush_store.insert_node_trace("r", "f", "inner", None, None, 1, 1, 2, 1.0, record["input_data"], None)
        record["input_data"] = "masked"
        """,
        head="import sys",
    )
    recording.mask = Mask([], ["busy"], report=recording.report)
    store = sys.hush_store = TraceStore(tmp_path / "unused.db", background=recording)  # type: ignore[attr-defined]
    store.insert_node_trace("r", "f", "outer", None, None, 1, 1, 2, 1.0, SECRET, None)
    assert [(node["node_name"], node["input_data"]) for node in recording.nodes()] == [
        ("inner", "… [withheld: recorded while a mask was at work]"),
        ("outer", "masked"),
    ]


def test_threads_that_record_while_a_mask_is_being_loaded_are_masked(install: Install, recording: Any) -> None:
    install("slow", 'record["input_data"] = "masked"', head="import time; time.sleep(0.2)")
    mask = Mask([], ["slow"], report=recording.report)
    kept: list[Any] = []

    def work() -> None:
        kept.append(msgspec.msgpack.decode(mask.encode((NODE, "r", *[None] * 8, SECRET)))[-1])

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert kept == ["masked"] * 8


def test_a_real_process_and_its_forked_children_record_what_a_plugin_leaves(install: Install, tmp_path: Path) -> None:
    install("scrub", SCRUB)
    (tmp_path / "hush.toml").write_text('[mask]\nkeys = ["password"]\nplugins = ["scrub"]\n')
    app = """
        import os, sys, threading
        from hush_core import LocalTracer, code_node, get_store
        secret = "hunter2-" + "CORRECT-horse"

        @code_node
        def work(text, password):
            raise ValueError("kept-error " + text)

        def run(request_id):
            with LocalTracer(tags=["kept-tag", secret]).trace("flow", request_id=request_id, user_id=secret) as state:
                try:
                    work("kept-text " + secret, secret)
                except ValueError:
                    pass
                state.set_output([secret])

        get_store()
        thread = threading.Thread(target=run, args=("t",))  # loads the plugin while this thread forks
        thread.start()
        children = []
        for number in range(4):
            child = os.fork()
            if child == 0:
                run(f"c{number}")
                os._exit(0)
            children.append(child)
        assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
        thread.join()
        assert get_store().sync(60)
        """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(app)],
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    ids = {"t", "c0", "c1", "c2", "c3"}
    wait_until(
        lambda: {each.request_id for each in get_store().iter_requests() if each.status == "completed"} == ids,
        "all five requests to be stored",
    )
    requests = {request.request_id: request for request in get_store().iter_requests()}
    for request_id, request in requests.items():
        assert (request.user_id, request.tags) == ("[scrubbed]", ["kept-tag", "[scrubbed]"])
        work = next(node for node in get_store().get_request(request_id).nodes if node.node_name == "work")
        assert work.input_data == {"text": "kept-text [scrubbed]", "password": "[masked]"}
        assert work.error is not None
        assert work.error.startswith("ValueError: kept-error kept-text [scrubbed]")
    for path, content in files_below(tmp_path).items():
        assert "installed" in path.parts or SECRET.encode() not in content
