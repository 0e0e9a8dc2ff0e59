"""What Arize Phoenix has stored of a request, field by field."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

from waiting import wait_until

from hush_otel.tracer import OTelTracer

from .conftest import Receiver
from .conversation import ANSWER, ERROR, FIGURES, KINDS, QUESTION, SPANS, conversation, span_id, tree

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def stored(phoenix: Receiver, project: str, count: int) -> dict[str, Any]:
    """The spans of a project, by their ids."""
    spans: list[Any] = []

    def are_there() -> bool:
        spans[:] = phoenix.ask(f"/v1/projects/{project}/spans?limit=1000")["data"]
        return len(spans) >= count

    wait_until(lambda: has_project(phoenix, project), "the project to be there", 60)
    wait_until(are_there, f"{count} spans to be stored", 60)
    assert len(spans) == count
    return {span["context"]["span_id"]: span for span in spans}


def has_project(phoenix: Receiver, project: str) -> bool:
    return any(each["name"] == project for each in phoenix.ask("/v1/projects?limit=100")["data"])


def ns(time: str) -> int:
    past = datetime.fromisoformat(time) - _EPOCH
    return ((past.days * 86_400 + past.seconds) * 1_000_000 + past.microseconds) * 1000


def test_phoenix_has_the_tree_the_times_the_figures_and_the_content(phoenix: Receiver) -> None:
    config = {"preset": "phoenix", "endpoint": phoenix.endpoint, "headers": {"x-project-name": "fields"}}
    assert OTelTracer.flush(conversation(config, 1)) is None
    spans = stored(phoenix, "fields", SPANS)
    found = {
        key: (
            *(span["name"], span["parent_id"], ns(span["start_time"]), ns(span["end_time"])),
            *(span["status_code"], span["status_message"]),
        )
        for key, span in spans.items()
    }
    assert found == tree(1)
    assert {number: spans[span_id(1, number)]["span_kind"] for number in KINDS} == KINDS
    root, _, answer, search, odd = (spans[key]["attributes"] for key in tree(1))
    assert {name: answer[name] for name in FIGURES} == FIGURES
    assert json.loads(answer["input.value"]) == QUESTION
    assert json.loads(answer["output.value"]) == ANSWER
    # Made by Phoenix of gen_ai.*: it has understood the messages.
    assert answer["llm.input_messages.0.message.content"] == "Where is Zürich? 🗺"
    assert answer["llm.output_messages.0.message.content"] == "東"
    assert (root["input.value"], root["output.value"], root["tag.tags"]) == ("where?", "there", ["prod", "vip"])
    assert all(
        (span["attributes"]["session.id"], span["attributes"]["user.id"]) == ("s-1", "ann") for span in spans.values()
    )
    assert json.loads(search["input.value"]) == {"q": "Zürich"}
    [event] = spans[span_id(1, 4)]["events"]
    assert event["attributes"]["exception.type"] == "TimeoutError"
    assert event["attributes"]["exception.stacktrace"] == ERROR.partition("\n")[2]
    assert (odd["input.value"], json.loads(odd["output.value"])) == ("\\udfff", {"deep": [[[1]]]})


def test_phoenix_adds_up_what_was_used_once(phoenix: Receiver) -> None:
    """The turn of the loop has the sums of what ran in it, under names that nobody adds up again."""
    config = {"endpoint": phoenix.endpoint, "headers": {"x-project-name": "sums"}}
    assert OTelTracer.flush(conversation(config, 2)) is None
    stored(phoenix, "sums", SPANS)
    query = "{ projects(first: 50) { edges { node { name tokenCountTotal } } } }"
    edges = phoenix.ask("/graphql", {"query": query})["data"]["projects"]["edges"]
    assert {edge["node"]["name"]: edge["node"]["tokenCountTotal"] for edge in edges}["sums"] == 120


def test_a_second_attempt_changes_nothing_in_phoenix(phoenix: Receiver) -> None:
    config = {"endpoint": phoenix.endpoint, "headers": {"x-project-name": "twice"}}
    for _ in range(3):
        assert OTelTracer.flush(conversation(config, 3)) is None
    stored(phoenix, "twice", SPANS)
