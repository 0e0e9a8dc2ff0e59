"""What a node was given and what it gave: the inputs and outputs of a span, wherever a library puts them.

What is said twice in two forms, a request as JSON and its messages one by one, is taken in the form that a provider's
API has, and once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from hush_otel.incoming import dialect as names
from hush_otel.incoming.conversation import is_answer, is_conversation, messages, nested, of_events, until_answered
from hush_otel.incoming.said import Said, from_json

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import Event


def take_input(said: Said, kind: str, events: list[Event]) -> Any:
    """What a node of that kind was given; taken from the attributes, or from the events."""
    value = said.content(names.LANGFUSE_INPUT)
    if value is None:
        value = said.value(*names.INPUT)
    if value is not None:
        _forget(said, (names.EMBEDDINGS,))
    if value is None or (kind == names.LLM and not is_conversation(value)):
        asked = _asked(said, events)
        value = value if asked is None else asked
    elif kind == names.LLM:
        _forget(said, names.NUMBERED_INPUT)
    if value is None:
        value = _first(said, names.OTHER_INPUT)
    trace_value = said.content(names.TRACE_INPUT)
    return trace_value if value is None else value


def _asked(said: Said, events: list[Event]) -> dict[str, Any] | None:
    """What a model or an agent was asked, as messages."""
    found: Any = _numbered(said, names.NUMBERED_INPUT)
    if found is None:
        found = said.content(names.INPUT_MESSAGES)
    if not found:
        found = _asked_before(said) or of_events(_as_dicts(said.rest.get(names.EVENTS)))[0]
    if not found:
        found = of_events(_taken(events, "message"))[0] or None
    if found is None:
        return None
    system = said.content(names.INSTRUCTIONS)
    return {"messages": found} if system is None else {"system": system, "messages": found}


def _asked_before(said: Said) -> list[Any]:
    """The beginning of an agent's conversation; the whole of it stays with the attributes."""
    begins_at = said.rest.get(names.NEW_MESSAGES)
    for name in names.CONVERSATION:
        whole = from_json(said.rest.get(name))
        if isinstance(whole, list):
            whole = of_events(whole)[0] or whole
            return until_answered(whole, begins_at if isinstance(begins_at, int) else 0)
    return []


def take_output(said: Said, kind: str, events: list[Event]) -> Any:
    """What a node of that kind gave; as `take_input`, which comes first."""
    value = said.content(names.LANGFUSE_OUTPUT)
    if value is None:
        value = said.value(*names.OUTPUT)
    documents = _numbered(said, names.DOCUMENTS)
    if documents is not None:
        return [each.get("document", each) if isinstance(each, dict) else each for each in documents]
    if value is None or (kind == names.LLM and not is_answer(value)):
        answered = _answered(said, events)
        value = value if answered is None else answered
    elif kind == names.LLM:
        _forget(said, names.NUMBERED_OUTPUT)
    if value is None:
        value = _first(said, names.OTHER_OUTPUT)
    trace_value = said.content(names.TRACE_OUTPUT)
    return trace_value if value is None else value


def _answered(said: Said, events: list[Event]) -> Any:
    """What a model answered: a message, or several."""
    found: Any = _numbered(said, names.NUMBERED_OUTPUT)
    if found is None:
        found = said.content(names.OUTPUT_MESSAGES)
    if not found and names.EVENTS in said.rest:
        found = of_events(_as_dicts(said.rest.get(names.EVENTS)))[1]
        if found:
            del said.rest[names.EVENTS]  # the messages that were asked are in it too, and were read first
    if not found:
        found = of_events(_taken(events, "choice"))[1]
    if not found:
        return None
    return found[0] if isinstance(found, list) and len(found) == 1 else found


def _numbered(said: Said, beginnings: Iterable[str]) -> list[Any] | None:
    """The first of these lists that is there."""
    for beginning in beginnings:
        found = messages(nested(said.flat[beginning])) if beginning in said.flat else None
        if found is not None:
            del said.flat[beginning]
            return found
    return None


def _forget(said: Said, beginnings: Iterable[str]) -> None:
    """What another attribute has said already."""
    for beginning in beginnings:
        said.flat.pop(beginning, None)


def _first(said: Said, wanted: Iterable[str]) -> Any:
    return from_json(said.text(wanted))


def _as_dicts(value: Any) -> list[Any]:
    structure = from_json(value)
    return structure if isinstance(structure, list) else []


def _taken(events: list[Event], last: str) -> list[dict[str, Any]]:
    """Span events that are messages, taken from the others, as the dicts that they would be in an attribute."""
    found = []
    for event in list(events):
        if event.name.startswith("gen_ai.") and event.name.rpartition(".")[2] == last:
            events.remove(event)
            said = {name: from_json(value) for name, value in (event.attributes or {}).items()}
            content = said.pop("gen_ai.event.content", None)
            whole = content if isinstance(content, dict) else {} if content is None else {"content": content}
            found.append({**said, **whole, "event.name": event.name})
    return found
