"""From `hush.toml` and a few lines of an app to a backend, through the real processes."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from backend import OK, REFUSED, TAKES_ALL_THEN_CLOSES, UNAUTHORIZED, UNAVAILABLE, Backend
from canary import CANARY
from disk import files_below
from waiting import wait_until

from .place import FAILED, FLUSHED, FLUSHING, PENDING, SKIPPED, Place

#: A plugin of the test's own, to install and uninstall: the example's may be installed where the tests run.
POSTBOX: Final = """
import json, urllib.request
from hush_core import BaseTracer, hookimpl

class PostboxTracer(BaseTracer):
    def __init__(self, url, tags=None):
        super().__init__(tags)
        self.url = url

    def _get_tracer_config(self):
        return {"url": self.url}

    @staticmethod
    def flush(flush_data):
        url = flush_data["tracer_config"].pop("url")
        urllib.request.urlopen(url, json.dumps(flush_data).encode(), timeout=5).close()

@hookimpl
def hush_register_tracers(register):
    register("postbox", "hush_postbox:PostboxTracer", summary="for tests")
"""
#: A tracer that tells its backend what it sees around it.
WITNESS: Final = """
import json, os, sys, urllib.request
from hush_core import BaseTracer

class Witness(BaseTracer):
    def __init__(self, url, tags=None):
        super().__init__(tags)
        self.url = url

    def _get_tracer_config(self):
        return {"url": self.url}

    @staticmethod
    def flush(flush_data):
        import neighbour
        url = flush_data["tracer_config"]["url"]
        seen = {"cwd": os.getcwd(), "variable": os.environ.get("APP_NAME"), "neighbour": neighbour.NAME,
                "config": os.environ.get("HUSH_CONFIG"), "executable": sys.executable}
        flush_data["nodes"][0]["output_data"] = seen
        urllib.request.urlopen(url, json.dumps(flush_data).encode(), timeout=5).close()
"""


@pytest.fixture
def backend() -> Iterator[Backend]:
    with Backend() as server:
        yield server


def to_backend(place: Place, backend: Backend, more: str = "") -> None:
    key = "" if "headers" in more else f'headers = {{ X-Api-Key = "{CANARY}", X-App = "${{KEY_OF_THE_APP}}" }}\n'
    place.settings(f'[tracers.prod]\ntype = "jsonl"\nurl = "{backend.url}"\n{key}{more}')


def test_a_request_reaches_its_backend_whole_and_then_counts_as_flushed(place: Place, backend: Backend) -> None:
    to_backend(place, backend)
    place.record("r-1")
    place.wait_for(FLUSHED, ["r-1"])
    [post] = backend.posts
    request = json.loads(post.body)
    assert (request["request_id"], request["status"], request["workflow_name"]) == ("r-1", "completed", "flow")
    root, node = request["nodes"]
    assert (root["node_name"], node["node_name"]) == ("flow", "work")
    assert node["parent_span_id"] == root["span_id"]
    assert (node["input_data"], node["output_data"]) == ({"text": "why"}, {"answer": "WHY"})


def test_a_request_goes_to_each_of_several_tracers_with_a_status_of_its_own(place: Place, backend: Backend) -> None:
    with Backend(UNAVAILABLE) as down:
        place.settings(
            f"""
            default = ["here", "there"]
            [tracers.here]
            type = "jsonl"
            url = "{backend.url}"
            [tracers.there]
            type = "jsonl"
            url = "{down.url}"
            """
        )
        place.record("r-1", tracer="get_tracer()")
        place.wait_for(FLUSHED, ["r-1"], "here")
        assert place.wait_for_error("503", "r-1", "there").status in (PENDING, FLUSHING)  # the next attempt may be on
    assert backend.ids == {"r-1"}


def test_what_a_backend_has_not_accepted_is_not_marked_and_arrives_when_it_is_back(
    place: Place, backend: Backend
) -> None:
    to_backend(place, backend)
    backend.die()
    place.record("r-1", "r-2")
    place.wait_for_error("refused", "r-1")
    assert {each.status for each in place.deliveries().values()} <= {PENDING, FLUSHING}
    backend.come_back()
    assert place.hush("flush", "--wait").returncode == 0
    place.wait_for(FLUSHED, ["r-1", "r-2"])
    assert backend.ids == {"r-1", "r-2"}


def test_a_request_that_was_accepted_without_an_answer_is_sent_again_the_same(place: Place, backend: Backend) -> None:
    to_backend(place, backend)
    backend.script(TAKES_ALL_THEN_CLOSES)
    place.record("r-1")
    place.wait_for_error("no answer", "r-1")
    place.flush()
    place.wait_for(FLUSHED, ["r-1"])
    first, second = backend.accepted
    assert first == second


def test_a_wrong_key_waits_for_somebody_and_is_named(place: Place, backend: Backend) -> None:
    to_backend(place, backend)
    backend.answer = UNAUTHORIZED
    place.record("r-1")
    assert place.wait_for_error("401", "r-1").status == PENDING
    assert "401" in place.hush("tracers").stdout
    assert "401" in place.hush("doctor").stdout
    backend.answer = OK
    assert place.hush("flush", "--wait").returncode == 0
    place.wait_for(FLUSHED, ["r-1"])


@pytest.mark.parametrize("variables", [{}, {"PYTHONSAFEPATH": "1"}])
def test_what_lies_in_the_working_folder_is_not_taken_for_a_part_of_python(
    place: Place, backend: Backend, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    to_backend(place, backend)
    (place.folder / "json.py").write_text("raise SystemExit('the wrong json')")
    script = place.folder / "elsewhere" / "app.py"
    script.parent.mkdir()
    script.write_text("from hush_core import get_tracer\nwith get_tracer('prod').trace('f', request_id='r-1'): pass\n")
    place.run(str(script))
    place.wait_for(FLUSHED, ["r-1"])


def test_what_waits_for_a_backend_that_moved_is_delivered_by_the_settings_as_they_are_now(
    place: Place, backend: Backend
) -> None:
    place.settings('[tracers.prod]\ntype = "jsonl"\nurl = "http://127.0.0.1:9/"')  # the discard port: nobody is there
    place.record("r-1")
    place.wait_for_error("no answer", "r-1")
    to_backend(place, backend)
    done = place.hush("flush", "--wait")
    assert done.returncode == 0, done.stdout + done.stderr
    place.wait_for(FLUSHED, ["r-1"])


def test_a_request_that_its_backend_refuses_is_a_dead_letter_and_can_be_redriven(
    place: Place, backend: Backend
) -> None:
    to_backend(place, backend)
    backend.answer = lambda lines: REFUSED if any(line.request_id == "r-2" for line in lines) else OK
    place.record("r-1", "r-2", "r-3")
    place.wait_for(FLUSHED, ["r-1", "r-3"])  # the batch was taken apart
    [dead] = place.wait_for(FAILED, ["r-2"])
    assert "400" in (dead.error or "")
    assert backend.ids == {"r-1", "r-3"}
    backend.answer = OK
    assert place.hush("redrive").returncode == 0
    place.wait_for(FLUSHED, ["r-2"])


def test_a_request_that_a_hook_drops_is_skipped_and_stays_here(place: Place, backend: Backend) -> None:
    to_backend(place, backend)
    place.run(place.script('answer(get_tracer("prod"), "r-1", tags=["private"])\nanswer(get_tracer("prod"), "r-2")\n'))
    place.wait_for(SKIPPED, ["r-1"])
    place.wait_for(FLUSHED, ["r-2"])
    assert backend.ids == {"r-2"}
    assert place.query("SELECT count(*) FROM request WHERE request_id = 'r-1'") == [(1,)]


def test_what_a_plugin_masks_never_leaves_the_app(place: Place, backend: Backend) -> None:
    to_backend(place, backend, '[mask]\nplugins = ["jsonl"]\nkeys = ["password"]')
    place.run(place.script('answer(get_tracer("prod"), "r-1", "mail ann@example.com")\n'))
    place.wait_for(FLUSHED, ["r-1"])
    assert b"mail <address>" in backend.posts[0].body
    assert files_with(place.folder, b"ann@example.com", but=[place.folder / "app.py"]) == []


def test_a_plugin_that_is_gone_makes_deliveries_wait_with_a_reason_until_it_is_back(
    place: Place, backend: Backend
) -> None:
    place.install("hush-postbox", "hush_postbox", POSTBOX)
    place.settings(f'[tracers.prod]\ntype = "postbox"\nurl = "{backend.url}"')
    text = """
        tracer = get_tracer("prod")
        for line in sys.stdin:
            answer(tracer, line.strip())
    """
    app = place.start(place.script(text))
    assert app.stdin is not None
    print("r-1", file=app.stdin, flush=True)
    place.wait_for(FLUSHED, ["r-1"])

    place.uninstall("hush_postbox")
    for pid in place.delivery_processes():  # it has the plugin in memory; some day every process ends
        os.kill(pid, signal.SIGKILL)
    print("r-2", file=app.stdin, flush=True)
    waiting = place.wait_for_error("postbox", "r-2")
    assert waiting.status == PENDING
    for command in (["tracers"], ["doctor"]):
        assert "postbox" in place.hush(*command).stdout
    assert backend.ids == {"r-1"}

    place.install("hush-postbox", "hush_postbox", POSTBOX)
    assert place.hush("flush", "--wait").returncode == 0
    place.wait_for(FLUSHED, ["r-2"])
    assert backend.ids == {"r-1", "r-2"}
    place.finish(app, "")


def test_a_delivery_process_is_started_where_and_as_its_app_was(place: Place, backend: Backend) -> None:
    for name in ("first", "second"):
        folder = place.folder / name
        (folder / "modules").mkdir(parents=True)
        (folder / "hush.toml").write_text(f'[tracers.prod]\ntype = "witness:Witness"\nurl = "{backend.url}"\n')
        (folder / "modules" / "witness.py").write_text(WITNESS)
        (folder / "modules" / "neighbour.py").write_text(f"NAME = {name!r}\n")
    for name in ("first", "second"):
        folder = place.folder / name
        path = os.pathsep.join([str(folder / "modules"), place.environment()["PYTHONPATH"]])
        place.record(f"of-{name}", script=f"{name}/app.py", cwd=folder,
                     env={"PYTHONPATH": path, "APP_NAME": name})  # fmt: skip
    place.wait_for(FLUSHED, ["of-first", "of-second"])
    for post in backend.posts:
        request = json.loads(post.body)
        name = request["request_id"].removeprefix("of-")
        seen = request["nodes"][0]["output_data"]
        assert (seen["cwd"], seen["variable"], seen["neighbour"]) == (str(place.folder / name), name, name)
        assert seen["config"] == str(place.folder / name / "hush.toml")


def test_a_variable_is_handed_over_by_the_app_that_has_it_whoever_started_the_writer(
    place: Place, backend: Backend
) -> None:
    to_backend(place, backend, 'headers = { Authorization = "Bearer ${INGEST_TOKEN}" }')
    keeps_the_writer = place.start(place.script("answer(get_tracer('local'), 'r-0')\ninput()\n"))
    place.wait_for_writer()
    place.record("r-1", env={"INGEST_TOKEN": "t0ken-of-the-app"})
    place.wait_for(FLUSHED, ["r-1"], "prod")
    assert backend.posts[0].headers["Authorization"] == "Bearer t0ken-of-the-app"
    place.finish(keeps_the_writer, "\n")


def test_a_variable_that_nobody_has_is_named_and_the_next_app_that_has_it_helps(place: Place, backend: Backend) -> None:
    to_backend(place, backend, 'headers = { Authorization = "Bearer ${INGEST_TOKEN}" }')
    place.record("r-1")
    waiting = place.wait_for_error("INGEST_TOKEN", "r-1")
    assert waiting.status == PENDING
    assert "INGEST_TOKEN" in place.hush("tracers").stdout
    place.record("r-2", env={"INGEST_TOKEN": "t0ken-of-the-next"})
    place.wait_for(FLUSHED, ["r-2", "r-1"])
    assert {post.headers["Authorization"] for post in backend.posts} == {"Bearer t0ken-of-the-next"}


# -- secrets ----------------------------------------------------------------------------------------------------------

#: One that stands in the settings, one that an app has in a variable, one that is in the code of an app.
_LITERAL, _REFERRED, _IN_CODE = CANARY, "sk-referred-2d8b6e4a0c", "sk-in-code-9e1f5d3b7a"
#: A tracer that does all it can to show what it was given.
LOUD: Final = """
import sys
from hush_core import BaseTracer, PermanentFlushError, RetryableFlushError

class Loud(BaseTracer):
    def __init__(self, api_key, secret_key, tags=None):
        super().__init__(tags)
        self.options = {"api_key": api_key, "secret_key": secret_key}

    def _get_tracer_config(self):
        return dict(self.options)

    @staticmethod
    def flush(flush_data):
        config = flush_data["tracer_config"]
        assert config["api_key"].startswith("sk-") and config["secret_key"].startswith("sk-")
        print(config, flush=True)
        print("key:", config["api_key"], file=sys.stderr)
        if flush_data["request_id"] == "r-refused":
            raise PermanentFlushError(f"refused with {config}")
        if flush_data["request_id"] == "r-later":
            raise RetryableFlushError(f"not with {config['secret_key']}") from ValueError(config["api_key"])
        if flush_data["request_id"] == "r-odd":
            raise RuntimeError(config)
"""


def test_no_secret_is_in_any_file_or_output(place: Place) -> None:
    place.module("loud", LOUD)
    place.settings(
        f"""
        [tracers.prod]
        type = "loud:Loud"
        api_key = "{_LITERAL}"
        secret_key = "${{LOUD_KEY}}"
        """
    )
    ids = ["r-taken", "r-refused", "r-later", "r-odd"]
    text = f"""
        from loud import Loud
        tracers = [get_tracer("prod"), Loud(api_key="{_IN_CODE}", secret_key="${{LOUD_KEY}}")]
        for number, tracer in enumerate(tracers):
            print(repr(tracer), vars(tracer) and "", tracer.trace)
            for request_id in {ids}:
                answer(tracer, request_id)
        print(repr(tracers[0]), str(tracers[0]))
        """
    script = place.script(text)
    said = [place.run(script, env={"LOUD_KEY": _REFERRED})]
    for tracer in ("prod", "Loud"):
        place.wait_for(FLUSHED, ["r-taken"], tracer)
        place.wait_for(FAILED, ["r-refused"], tracer)
        place.wait_for_error("not with", "r-later", tracer)
        place.wait_for_error("RuntimeError", "r-odd", tracer)
    alone = [[each] for each in ("tracers", "plugins", "doctor", "stats", "traces", "redrive", "flush")]
    for arguments in [*alone, *([*each, "--json"] for each in alone), ["show", "r-refused"]]:
        done = place.hush(*arguments, LOUD_KEY=_REFERRED)
        assert done.returncode in (0, 1) and done.stdout, done.stderr
        said += [done.stdout, done.stderr]
    written = [place.folder / "hush.toml", Path(script)]
    kept_apart = Path(f"{place.database}.journal", "secrets")
    for secret in (_LITERAL, _REFERRED, _IN_CODE):
        assert [text for text in said if secret in text] == []
        assert files_with(place.folder, secret.encode(), but=[*written, kept_apart]) == []
    # What a literal one needs in order to outlive the app is readable by nobody else.
    assert kept_apart.stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in kept_apart.iterdir())
    assert files_with(kept_apart, _LITERAL.encode()) != []
    assert files_with(kept_apart, _REFERRED.encode()) == []


def files_with(folder: Path, content: bytes, but: list[Path] | None = None) -> list[Path]:
    """The files under a folder that hold these bytes."""
    found = []
    for path, held in files_below(folder).items():
        skipped = any(path == each or each in path.parents for each in but or ())
        if not skipped and "__pycache__" not in path.parts and content in held:
            found.append(path)
    return found


def test_what_is_delivered_at_full_speed_is_delivered_in_batches(place: Place, backend: Backend) -> None:
    to_backend(place, backend)
    ids = [f"r-{number}" for number in range(300)]
    place.record(*ids)
    place.wait_for(FLUSHED, ids)
    assert sorted(line.request_id for line in backend.accepted) == sorted(ids)
    assert len(backend.posts) < len(ids)
    wait_until(lambda: not place.zombies(), "every process to be reaped")
