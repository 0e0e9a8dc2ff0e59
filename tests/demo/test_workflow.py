"""The demo's workflow: what it answers, and that its trace shows everything that a trace can show."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
from hush_command import COMMAND, Hush, on_terminal, without_colours
from rich.cells import cell_len

from hush_core import get_store
from hush_core.demo import workflow
from hush_core.demo.bm25 import words
from hush_core.demo.documents import find_documents
from hush_core.store.queries import RequestTrace


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: socket.socket, address: object) -> None:
        if self.family != socket.AF_UNIX:
            pytest.fail(f"connected to {address}")
        connect(self, address)  # type: ignore[arg-type]

    connect = socket.socket.connect
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def trace(no_network: None) -> RequestTrace:
    state, _ = workflow.run()
    assert get_store().sync(30)
    return get_store().get_request(state.request_id)


def test_it_answers_the_questions_about_the_projects_own_documents(no_network: None) -> None:
    _, answers = workflow.run()
    assert [answer["question"] for answer in answers] == list(workflow.QUESTIONS)
    texts = {document.name: " ".join(document.text.split()) for document in find_documents(None)}
    for answer in answers:
        assert answer["answer"].removeprefix("- ") in texts[answer["source"]]
        assert set(words(answer["question"])) & set(words(answer["answer"]))
    assert "kill -9" in answers[0]["answer"]


def test_every_question_is_an_iteration_of_the_loop_and_of_the_answers(trace: RequestTrace) -> None:
    contexts = [f"[{number}]" for number in range(len(workflow.QUESTIONS))]
    for name in ("rank", "answer"):
        assert [node.context_id for node in trace.nodes if node.node_name == name] == contexts


def test_nodes_are_nested(trace: RequestTrace) -> None:
    names = {node.id: node.node_name for node in trace.nodes}
    inside = {(node.node_name, names.get(node.parent_id or 0)) for node in trace.nodes}
    assert inside == {
        ("demo", None),
        ("read", "demo"),
        ("split", "demo"),
        ("rank", "demo"),
        ("telling_words", "rank"),
        ("answer_all", "demo"),
        ("answer", "answer_all"),
        ("complete", "answer"),
    }


def test_several_questions_are_answered_at_once(trace: RequestTrace) -> None:
    answers = [node for node in trace.nodes if node.node_name == "answer"]
    assert max(node.start_ns or 0 for node in answers) < min(node.end_ns or 0 for node in answers)


def test_one_node_fails_once_and_is_retried(trace: RequestTrace) -> None:
    calls = [node for node in trace.nodes if node.node_name == "complete" and node.context_id == "[0]"]
    assert [node.status for node in calls] == ["error", "ok"]
    assert (calls[0].error or "").startswith("ModelNotReadyError: the model is still loading")
    assert (trace.status, trace.error_count) == ("completed", 1)


def test_tags_tokens_models_and_metadata_are_there(trace: RequestTrace) -> None:
    assert trace.tags[0] == "demo"
    assert {"answered", "unsure"} & set(trace.tags)
    calls = [node for node in trace.nodes if node.node_name == "complete" and node.status == "ok"]
    assert {node.model for node in calls} == {"extractive-1"}
    assert all(node.total_tokens == (node.prompt_tokens or 0) + (node.completion_tokens or 0) for node in calls)
    assert trace.total_tokens == sum(node.total_tokens or 0 for node in calls)
    attempts = [node.metadata["attempts"] for node in trace.nodes if node.node_name == "answer"]
    assert attempts == [2, 1, 1, 1]


def test_the_reserved_keys_do_not_reach_the_caller(no_network: None) -> None:
    _, answers = workflow.run()
    assert {key for answer in answers for key in answer} == {"question", "answer", "source"}


def test_outside_of_a_trace_its_functions_are_plain_functions() -> None:
    library = workflow.Library(workflow.split(workflow.read(None)))
    assert library.rank("What survives kill -9?")[0]["score"] > 0
    answer = asyncio.run(workflow.answer("What?", [], workflow.ExtractiveModel()))
    assert answer["answer"] == "The documents do not say."
    assert "$tags" in answer


# -- hush demo --------------------------------------------------------------------------------------------------------


def test_the_command_prints_answers_the_tree_and_what_is_next(hush: Hush) -> None:
    shown = hush.output("demo")
    request_id = hush.json("traces")[0]["request_id"]
    for question in workflow.QUESTIONS:
        assert question in shown
    assert "4 iterations" in shown and "complete ×5" in shown and "1 error" in shown
    assert f"hush show {request_id[:8]} --full" in shown
    assert workflow.__file__ in shown


def test_a_folder_of_the_users_has_questions_made_from_it(hush: Hush, tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.md").write_text(
            f"Bicycles need oil on their chain every month {number}.\n\n"
            f"Gardens want water in the summer {number} evenings.\n\n"
            f"Some other words that fill this page with nothing much {number}."
        )
    answers = hush.json("demo", str(folder))["answers"]
    assert any("bicycle" in answer["question"] for answer in answers)
    assert all(answer["source"] for answer in answers)


def test_questions_of_the_users_are_asked(hush: Hush) -> None:
    answers = hush.json("demo", "--ask", "What is a tracer?", "--ask", "xyzzy?")["answers"]
    assert [answer["question"] for answer in answers] == ["What is a tracer?", "xyzzy?"]
    assert answers[1] == {"question": "xyzzy?", "answer": "The documents do not say.", "source": None}


def test_json_has_answers_and_the_trace(hush: Hush, tmp_path: Path) -> None:
    result = hush.json("demo")
    assert result["database"] == str(tmp_path / "traces.db")
    assert result["trace"]["workflow_name"] == "demo"
    assert len(result["trace"]["nodes"]) == 21


def test_another_database_can_be_named(hush: Hush, tmp_path: Path) -> None:
    other = tmp_path / "a folder" / "other.db"
    shown = hush.output("demo", "--db", str(other))
    assert f"--db '{other}'" in shown
    assert len(hush.json("traces", "--db", str(other))) == 1
    assert not (tmp_path / "traces.db").exists()


def test_a_folder_without_text_says_so(hush: Hush, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = hush("demo", str(tmp_path / "empty"))
    assert result.exit_code == 1
    assert "There is no Markdown or text file in" in result.stderr


def test_a_folder_that_is_not_there_is_a_usage_error(hush: Hush, tmp_path: Path) -> None:
    assert hush("demo", str(tmp_path / "none")).exit_code == 2


@pytest.mark.parametrize("columns", [80, 120])
def test_on_a_terminal_no_line_but_a_path_is_wider_than_it(columns: int) -> None:
    lines = without_colours(on_terminal("demo", columns=columns)).splitlines()
    assert max(cell_len(line) for line in lines if not line.startswith("The workflow is")) <= columns


def test_it_runs_as_a_process_of_its_own(tmp_path: Path) -> None:
    import subprocess

    done = subprocess.run([*COMMAND, "demo"], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
