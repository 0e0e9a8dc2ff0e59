"""What a tracer's requests are recorded with: whom they are due to, and nothing that is secret."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from canary import CANARY
from disk import files_below

from hush_core import BaseTracer, LocalTracer, get_store
from hush_core.model import LOCAL_TARGET
from hush_core.secret import resolve, secrets_folder
from hush_core.tracers.fan_out import FanOutTracer

SECRET = CANARY


class KeyTracer(BaseTracer):
    """A tracer with a key; its name in the settings is "prod", unless a test says otherwise."""

    secret_options = frozenset({"room"})

    def __init__(self, api_key: str = SECRET, tags: list[str] | None = None, **more: Any) -> None:
        super().__init__(tags=tags)
        self.config = {"api_key": api_key, "timeout_s": 2.5, **more}
        self._name = "prod"

    def _get_tracer_config(self) -> dict[str, Any]:
        return self.config

    @staticmethod
    def flush(flush_data: dict[str, Any]) -> None:
        raise NotImplementedError


class FailingTracer(KeyTracer):
    def _get_tracer_config(self) -> dict[str, Any]:
        raise ValueError(f"{self.config['api_key']} does not fit")


def due(tracer: BaseTracer, tmp_path: Path) -> list[Any]:
    """What a record of this test's database says of the tracer."""
    [[*entry]] = tracer._due(tmp_path / "traces.db")
    return entry


def stored_deliveries(request_id: str) -> list[Any]:
    assert get_store().sync(30)
    found: list[Any] = get_store().get_request(request_id).deliveries
    return sorted(found, key=lambda delivery: str(delivery.tracer_name))


# -- what is recorded -------------------------------------------------------------------------------------------------


def test_an_entry_has_name_type_sealed_configuration_target_and_policy(tmp_path: Path) -> None:
    tracer = KeyTracer()
    tracer._policy = {"sample": 0.2}
    name, kind, config, target, policy = due(tracer, tmp_path)
    assert (name, kind, policy) == ("prod", "KeyTracer", {"sample": 0.2})
    assert target == f"{KeyTracer.__module__}:KeyTracer"
    assert re.fullmatch(r"\$\{sealed:[0-9a-f]{32}\}", config["api_key"])
    folder = secrets_folder(tmp_path / "traces.db")
    assert resolve(config, {}, folder) == ({"api_key": SECRET, "timeout_s": 2.5}, [SECRET])


def test_the_local_tracer_has_the_target_that_the_store_knows(tmp_path: Path) -> None:
    assert due(LocalTracer(), tmp_path) == ["LocalTracer", "LocalTracer", {}, LOCAL_TARGET, None]


def test_a_class_names_options_that_are_secret_beside_those_whose_name_says_so(tmp_path: Path) -> None:
    config = due(KeyTracer(room="war-room", house="h"), tmp_path)[2]
    assert (config["house"], config["room"][:9]) == ("h", "${sealed:")


def test_sealing_happens_once_for_as_long_as_the_configuration_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracer = KeyTracer()
    first = due(tracer, tmp_path)
    monkeypatch.setattr("hush_core.secret.seal", lambda *_: {"sealed": "again"})
    assert due(tracer, tmp_path) == first
    tracer.config["timeout_s"] = 9.0
    assert due(tracer, tmp_path)[2] == {"sealed": "again"}


def test_a_secret_whose_file_was_deleted_is_kept_again(tmp_path: Path) -> None:
    tracer = KeyTracer()
    first = due(tracer, tmp_path)
    folder = secrets_folder(tmp_path / "traces.db")
    [sealed] = [path for path in folder.iterdir() if path.name != "key"]
    sealed.unlink()
    assert due(tracer, tmp_path) == first
    shutil.rmtree(folder)
    again = due(tracer, tmp_path)
    assert again != first  # the key that names it was gone too
    assert resolve(again[2], {}, folder).config["api_key"] == SECRET


def test_a_tracer_in_use_has_its_secrets_noted_as_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hush_core.secret.NOTE_USE_S", 0.0)
    tracer = KeyTracer()
    first = due(tracer, tmp_path)
    [sealed] = [path for path in secrets_folder(tmp_path / "traces.db").iterdir() if path.name != "key"]
    os.utime(sealed, (1, 1))
    assert due(tracer, tmp_path) == first
    assert sealed.stat().st_mtime > 1


def test_a_configuration_is_recorded_as_plain_json(tmp_path: Path) -> None:
    assert due(KeyTracer("${KEY}", pair=(1, 2)), tmp_path)[2]["pair"] == [1, 2]


@pytest.mark.expects_report
@pytest.mark.parametrize("config", [{"api_key": object()}, {"a": {1, 2}.__iter__()}, [1], None])
def test_a_configuration_that_is_no_json_is_reported_and_the_request_still_due(
    config: Any, tmp_path: Path, reports: list[str]
) -> None:
    tracer = KeyTracer()
    tracer.config = config
    assert due(tracer, tmp_path)[2] == {}
    [report] = reports
    assert report.startswith("asking KeyTracer for its configuration")


@pytest.mark.expects_report
def test_a_tracer_that_quotes_its_key_when_it_fails_shows_it_nowhere(
    tmp_path: Path, reports: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert due(FailingTracer(), tmp_path)[2] == {}
    assert reports and SECRET not in str(reports) + caplog.text
    assert "ValueError: [redacted] does not fit" in caplog.text


@pytest.mark.expects_report
def test_a_tracer_that_cannot_be_looked_through_shows_nothing_of_what_failed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tracer = FailingTracer()
    tracer.config["itself"] = tracer.config
    assert due(tracer, tmp_path)[2] == {}
    assert "ValueError (its text is not shown: a secret could be in it)" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.expects_report
def test_a_secret_that_cannot_be_kept_is_withheld_and_kept_when_it_can_be(tmp_path: Path, reports: list[str]) -> None:
    (tmp_path / "traces.db.journal").touch()  # in the way of the folder
    tracer = KeyTracer()
    withheld = due(tracer, tmp_path)[2]
    assert withheld == {"api_key": "${sealed:0}", "timeout_s": 2.5}
    assert "keeping the secrets of <KeyTracer 'prod'>" in reports[0]
    (tmp_path / "traces.db.journal").unlink()
    assert due(tracer, tmp_path)[2] != withheld


def test_a_representation_shows_name_and_class_and_no_configuration() -> None:
    assert repr(KeyTracer()) == str(KeyTracer()) == "<KeyTracer 'prod'>"
    assert repr(LocalTracer(tags=["a"])) == "<LocalTracer 'LocalTracer'>"


def test_no_literal_secret_is_in_the_database_the_journal_or_the_log(tmp_path: Path) -> None:
    tracer = FanOutTracer([KeyTracer(room="war-room-7"), KeyTracer(url="https://u:pa55word@h/")])
    with tracer.trace("flow", request_id="r-1"):
        pass
    assert len(stored_deliveries("r-1")) == 2
    files = files_below(tmp_path)
    written = b"".join(content for path, content in files.items() if path.parent.name != "secrets")
    assert b"KeyTracer" in written and b"${sealed:" in written
    assert not any(secret in written for secret in (SECRET.encode(), b"war-room-7", b"pa55word"))


# -- where the class is -----------------------------------------------------------------------------------------------


@pytest.mark.expects_report
def test_a_class_in_a_function_is_reported_and_its_requests_are_kept(reports: list[str]) -> None:
    class Hidden(LocalTracer):
        pass

    with Hidden().trace("flow", request_id="r-1"):
        pass
    [delivery] = stored_deliveries("r-1")
    assert delivery.tracer_type == "Hidden"
    assert "naming the class of <Hidden 'Hidden'> for its deliveries" in reports[0]
    assert "is defined in a function, where no other process can import it" in reports[0]


def test_a_class_in_the_script_is_reported_once_with_what_to_do(tmp_path: Path) -> None:
    script = """
        import logging
        logging.basicConfig()
        from hush_core import LocalTracer, shutdown_background
        class Mine(LocalTracer): pass
        for number in range(3):
            with Mine().trace("flow", request_id=f"r-{number}"): pass
        assert shutdown_background(30)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], stderr=subprocess.PIPE, text=True, check=True
    )
    assert done.stderr.count("is defined in the script that was started") == 1
    assert "Move the class to a module of its own" in done.stderr
    assert [delivery.tracer_type for delivery in stored_deliveries("r-2")] == ["Mine"]


# -- several tracers --------------------------------------------------------------------------------------------------


def fan_out() -> FanOutTracer:
    one, other = KeyTracer("${KEY}", tags=["a", "b"]), LocalTracer(tags=["b", "c"])
    one._policy = {"sample": 0.5}
    return FanOutTracer([FanOutTracer([one]), other])


def test_one_trace_of_several_tracers_is_one_request_that_is_due_to_each() -> None:
    with fan_out().trace("flow", request_id="r-1", tags=["mine"]) as state:
        assert state.tags == ["mine"]
    request = get_store().sync(30) and get_store().get_request("r-1")
    assert request.tags == ["a", "b", "c", "mine"]
    assert [node.node_name for node in request.nodes] == ["flow"]
    local, prod = stored_deliveries("r-1")
    assert (local.tracer_name, local.tracer_type, local.status) == ("LocalTracer", "LocalTracer", "flushed")
    assert (prod.tracer_name, prod.tracer_type) == ("prod", "KeyTracer")


def test_a_request_that_is_killed_is_due_to_each_as_well(tmp_path: Path) -> None:
    script = """
        import os, signal
        from hush_core import LocalTracer
        from hush_core.tracers.fan_out import FanOutTracer
        one, other = LocalTracer(tags=["a"]), LocalTracer(tags=["b"])
        one._name = "one"
        with FanOutTracer([one, other]).trace("flow", request_id="killed"):
            os.kill(os.getpid(), signal.SIGKILL)
    """
    assert subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False).returncode == -9
    store = get_store()
    store.insert_node_trace("other", "w", "n", None, None, 0, None, None, None, None, None)
    assert store.sync(30)
    from waiting import wait_until

    wait_until(lambda: store.get_request("killed").status == "interrupted", "the request to be interrupted")
    assert store.get_request("killed").tags == ["a", "b"]
    assert [delivery.tracer_name for delivery in stored_deliveries("killed")] == ["LocalTracer", "one"]


def test_an_engines_own_state_is_due_to_each_and_recorded_once() -> None:
    class State:
        request_id, user_id, session_id, tags = "r-1", None, None, ["dynamic"]
        has_trace_store, _trace_store = False, None
        execution_order: list[dict[str, Any]] = [{"node": "n"}]  # noqa: RUF012
        trace_metadata: dict[str, Any] = {}  # noqa: RUF012

    fan_out().flush_in_background("flow", State())
    assert [delivery.tracer_name for delivery in stored_deliveries("r-1")] == ["LocalTracer", "prod"]
    assert [node.node_name for node in get_store().get_request("r-1").nodes] == ["n"]


def test_what_policy_and_target_a_request_was_recorded_with_is_in_the_database(tmp_path: Path) -> None:
    with fan_out().trace("flow", request_id="r-1"):
        pass
    assert len(stored_deliveries("r-1")) == 2
    with closing(sqlite3.connect(f"file:{tmp_path}/traces.db?mode=ro", uri=True)) as connection:
        found = dict(connection.execute("SELECT tracer_name, target FROM tracer").fetchall())
    assert found == {"prod": f"{KeyTracer.__module__}:KeyTracer", "LocalTracer": LOCAL_TARGET}


def test_a_fan_out_itself_delivers_nothing() -> None:
    from hush_core import ConfigurationFlushError

    with pytest.raises(ConfigurationFlushError):
        FanOutTracer.flush({})
