"""Chat messages, as providers' APIs spell them, in the form that `gen_ai.input.messages` asks for.

A message there is `{"role": ..., "parts": [{"type": "text", "content": ...}, ...]}`. What is not recognised gives None,
and is sent as the input or output that it is, and as nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from hush_otel.plain import to_json

#: More make an attribute that no backend shows.
_MESSAGES_MAX: Final = 1000
#: A finish reason is required there; what nobody said is not made up.
_UNKNOWN: Final = "unknown"

Message = dict[str, Any]


def input_messages(value: object) -> list[Message] | None:
    """The messages of a model's input: a list of them, or under "messages"; None if that is not what it is."""
    found = value.get("messages") if isinstance(value, Mapping) else value
    if not isinstance(found, list) or not found or len(found) > _MESSAGES_MAX:
        return None
    messages = []
    for each in found:
        if not isinstance(each, Mapping) or not isinstance(each.get("role"), str):
            return None
        messages.append({"role": each["role"], "parts": _parts(each)})
    system = value.get("system") if isinstance(value, Mapping) else None  # as Anthropic has it
    if isinstance(system, (str, list)) and system:
        messages.insert(0, {"role": "system", "parts": _content_parts(system)})
    return messages


def output_messages(value: object) -> list[Message] | None:
    """The messages of a model's output: a text, a message, or the choices of a response; None if it is neither."""
    if isinstance(value, str):
        return [_answer({"content": value})]
    if not isinstance(value, Mapping):
        return None
    choices = value.get("choices")
    if isinstance(choices, list):
        answers = [
            _answer(each["message"], each.get("finish_reason"))
            for each in choices
            if isinstance(each, Mapping) and isinstance(each.get("message"), Mapping)
        ]
        return answers or None
    if "role" in value or "content" in value or "tool_calls" in value:
        return [_answer(value)]
    return None


def finish_reasons(messages: Iterable[Message]) -> list[str]:
    """Those of the messages that have one."""
    return [each["finish_reason"] for each in messages if each.get("finish_reason", _UNKNOWN) != _UNKNOWN]


def _answer(message: Mapping[str, Any], reason: object = None) -> Message:
    role = message.get("role")
    said = reason or message.get("finish_reason") or message.get("stop_reason")
    return {
        "role": role if isinstance(role, str) else "assistant",
        "parts": _parts(message),
        "finish_reason": said if isinstance(said, str) else _UNKNOWN,
    }


def _parts(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    content = message.get("content")
    if message.get("role") == "tool":
        return [{"type": "tool_call_response", "id": message.get("tool_call_id"), "response": content}]
    parts = _content_parts(content)
    calls = message.get("tool_calls")
    if isinstance(calls, list):
        parts += [_call(each) for each in calls if isinstance(each, Mapping)]
    return parts


def _content_parts(content: object) -> list[dict[str, Any]]:
    if content is None:
        return []
    if isinstance(content, list):
        return [_part(each) for each in content]
    return [_text(content)]


def _part(block: object) -> dict[str, Any]:
    if not isinstance(block, Mapping) or not isinstance(block.get("type"), str):
        return _text(block)
    kind = block["type"]
    if kind in ("text", "input_text", "output_text") and "text" in block:
        return _text(block["text"])
    if kind == "tool_use":
        return {"type": "tool_call", "id": block.get("id"), "name": block.get("name"), "arguments": block.get("input")}
    if kind == "tool_result":
        return {"type": "tool_call_response", "id": block.get("tool_use_id"), "response": block.get("content")}
    return dict(block)  # an image, say: any part with a type is one


def _text(content: object) -> dict[str, Any]:
    return {"type": "text", "content": content if isinstance(content, str) else to_json(content)}


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call.get("function")
    said = function if isinstance(function, Mapping) else call
    return {
        "type": "tool_call",
        "id": call.get("id"),
        "name": said.get("name"),
        "arguments": said.get("arguments", said.get("args")),
    }
