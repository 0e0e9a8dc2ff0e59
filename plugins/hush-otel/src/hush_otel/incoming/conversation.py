"""Messages and documents as libraries flatten them into attributes, in the shape that the APIs of providers have.

A list becomes attributes with numbers in their names, `llm.input_messages.0.message.role`, or span events, or the JSON
text of these. Here they are put together again: `[{"role": "user", "content": "why?"}]`. Pure; nothing here raises for
what it is given, and what is not recognised is kept as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

#: Deeper names are not taken apart; so nothing here recurses further.
_DEPTH_MAX: Final = 16
_EVENT: Final = "gen_ai."
_CHOICE: Final = "gen_ai.choice"


def nested(values: Mapping[str, Any]) -> Any:
    """What was flattened: `{"0.role": "user"}` as `[{"role": "user"}]`."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        *steps, last = name.split(".", _DEPTH_MAX)
        at = found
        for step in steps:
            inner = at.setdefault(step, {})
            if not isinstance(inner, dict):  # it is a value and has parts: the part keeps its long name
                at, last = found, name
                break
            at = inner
        at[last] = value
    return _with_lists(found)


def _with_lists(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    parts = {name: _with_lists(part) for name, part in value.items()}
    if parts and all(name.isascii() and name.isdigit() for name in parts):
        return [parts[name] for name in sorted(parts, key=lambda name: (len(name), name))]
    return parts


# -- messages ---------------------------------------------------------------------------------------------------------


def messages(flattened: Any) -> list[Any] | None:
    """The messages of `nested` attributes; None if there are none."""
    if not isinstance(flattened, list):
        return None
    return [_message(each) for each in flattened]


def _message(item: Any) -> Any:
    """One message: of OpenInference under `message`, of OpenLLMetry as it is."""
    if not isinstance(item, dict):
        return item
    for wrapper in ("message", "prompt", "completion"):
        if isinstance(item.get(wrapper), dict):
            item = {**{name: value for name, value in item.items() if name != wrapper}, **item[wrapper]}
    said = dict(item)
    found = {name: said.pop(name) for name in ("role", "content") if name in said}
    blocks, calls = said.pop("contents", None), said.pop("tool_calls", None)
    if isinstance(blocks, list):
        found["content"] = [_block(each) for each in blocks]
    if isinstance(calls, list):
        found["tool_calls"] = [_call(each) for each in calls]
    return {**found, **said}


def _block(item: Any) -> Any:
    content = item.get("message_content") if isinstance(item, dict) else None
    if not isinstance(content, dict):
        return item
    image = content.get("image")
    url = image.get("image") if isinstance(image, dict) else None
    if isinstance(url, dict) and "url" in url:
        return {"type": "image_url", "image_url": url}
    return content


def _call(item: Any) -> Any:
    call = item.get("tool_call", item) if isinstance(item, dict) else item
    if not isinstance(call, dict):
        return call
    said = dict(call)
    function = said.pop("function", None)
    if not isinstance(function, dict):
        function = {name: said.pop(name) for name in ("name", "arguments") if name in said}
    return {**said, "type": "function", "function": function}


def is_conversation(value: Any) -> bool:
    """Whether it holds messages as a provider's API takes them: then it says all that the flattened ones say."""
    found = value.get("messages") if isinstance(value, dict) else value
    return (
        isinstance(found, list)
        and bool(found)
        and all(isinstance(each, dict) and isinstance(each.get("role"), str) for each in found)
    )


def is_answer(value: Any) -> bool:
    """Whether it is a response as a provider's API gives it, or a message."""
    return isinstance(value, dict) and (isinstance(value.get("choices"), list) or isinstance(value.get("role"), str))


# -- events -----------------------------------------------------------------------------------------------------------


def of_events(events: Iterable[Any]) -> tuple[list[Any], list[Any]]:
    """Messages and answers of events such as `gen_ai.user.message` and `gen_ai.choice`, each a dict with its name."""
    asked, answered = [], []
    for event in events:
        name = event.get("event.name") if isinstance(event, dict) else None
        if not isinstance(name, str) or not name.startswith(_EVENT):
            continue
        said = {key: value for key, value in event.items() if not key.startswith(("event.", _EVENT))}
        if name == _CHOICE:
            answer = said.pop("message", None)
            answered.append({**answer, **said} if isinstance(answer, dict) else said)
        elif name.endswith(".message"):
            asked.append({"role": name.split(".")[1], **said})
    return asked, answered


def until_answered(conversation: list[Any], begins_at: int = 0) -> list[Any]:
    """The messages of an agent's run up to its first answer: what it was asked."""
    for at, each in enumerate(conversation):
        if at >= begins_at and isinstance(each, dict) and each.get("role") in ("assistant", "model"):
            return conversation[:at]
    return conversation
