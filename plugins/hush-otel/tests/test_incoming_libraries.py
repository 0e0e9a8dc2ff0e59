"""Applications that are instrumented by libraries which nobody here wrote are recorded with the right tree and fields.

They run offline, each in a process of its own: an instrumentor changes the library that it instruments for good. What
they need is installed for one version of Python, see the group `tests` in pyproject.toml.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from typing import Any

import pytest

from hush_core import get_store

pytestmark = pytest.mark.skipif(
    sys.version_info[:2] != (3, 12) and find_spec("langchain_core") is None,
    reason="the instrumented libraries are installed for Python 3.12 alone",
)

APP = """
from opentelemetry.sdk.trace import TracerProvider
from hush_otel import HushSpanProcessor

provider = TracerProvider()
provider.add_span_processor(HushSpanProcessor("local"))
"""

LANGCHAIN = """
from langchain_core.language_models.fake_chat_models import FakeMessagesListChatModel
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool

usage = {
    "input_tokens": 12, "output_tokens": 5, "total_tokens": 17,
    "input_token_details": {"cache_read": 4}, "output_token_details": {"reasoning": 2},
}
model = FakeMessagesListChatModel(responses=[AIMessage("Paris", usage_metadata=usage)])

@tool
def lookup(query: str) -> str:
    "Look something up."
    if query == "nothing":
        raise LookupError("there is nothing")
    return "found " + query

prompt = ChatPromptTemplate.from_messages([("system", "be brief"), ("user", "{question}")])
chain = prompt | model | StrOutputParser() | RunnableLambda(lambda text: lookup.invoke({"query": text}))
"""


def run(code: str) -> list[Any]:
    """The requests that an app has recorded, oldest first."""
    environment = {**os.environ, "LANGSMITH_TRACING": "false", "TRACELOOP_TRACE_CONTENT": "true"}
    whole = f"{APP}{code}\nassert provider.force_flush()\n"
    subprocess.run([sys.executable, "-W", "ignore", "-c", whole], env=environment, check=True)
    store = get_store()
    return [store.get_request(each.request_id) for each in reversed(list(store.iter_requests()))]


def tree(request: Any) -> list[tuple[str, str, str | None]]:
    names = {node.id: node.node_name for node in request.nodes}
    return [(node.node_name, node.node_type, names.get(node.parent_id)) for node in request.nodes]


def tokens(node: Any) -> tuple[int | None, ...]:
    return (node.prompt_tokens, node.completion_tokens, node.total_tokens, node.cached_tokens, node.reasoning_tokens)


def test_langchain_with_openinference() -> None:
    answer, failure = run(
        LANGCHAIN
        + """
from openinference.instrumentation import using_attributes
from openinference.instrumentation.langchain import LangChainInstrumentor

LangChainInstrumentor().instrument(tracer_provider=provider)
with using_attributes(session_id="s", user_id="u", tags=["vip"], metadata={"plan": "free"}):
    assert chain.invoke({"question": "the capital of France?"}) == "found Paris"
try:
    lookup.invoke({"query": "nothing"})
except LookupError:
    pass
"""
    )
    assert tree(answer) == [
        ("RunnableSequence", "chain", None),
        ("ChatPromptTemplate", "prompt", "RunnableSequence"),
        ("FakeMessagesListChatModel", "llm", "RunnableSequence"),
        ("StrOutputParser", "chain", "RunnableSequence"),
        ("RunnableLambda", "chain", "RunnableSequence"),
        ("lookup", "tool", "RunnableLambda"),
    ]
    assert (answer.status, answer.user_id, answer.session_id, answer.tags) == ("completed", "u", "s", ["vip"])
    assert answer.total_tokens == 17
    root, _, model, _, _, tool = answer.nodes
    assert (root.input_data, root.output_data) == ("the capital of France?", "found Paris")
    assert model.input_data == {
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "the capital of France?"},
        ]
    }
    assert model.output_data == {"role": "assistant", "content": "Paris"}
    assert tokens(model) == (12, 5, 17, 4, 2)
    assert model.contain_generation
    assert model.metadata["plan"] == "free"
    assert tool.output_data == "found Paris"
    assert (failure.status, failure.nodes[0].node_type) == ("failed", "tool")
    assert failure.nodes[0].error.startswith("LookupError: there is nothing\nTraceback")


def test_langchain_with_openllmetry() -> None:
    answer, failure = run(
        LANGCHAIN
        + """
from opentelemetry.instrumentation.langchain import LangchainInstrumentor

LangchainInstrumentor().instrument(tracer_provider=provider)
assert chain.invoke({"question": "the capital of France?"}) == "found Paris"
try:
    lookup.invoke({"query": "nothing"})
except LookupError:
    pass
"""
    )
    root, *_ = answer.nodes
    assert (root.node_type, root.parent_id) == ("workflow", None)
    assert root.input_data["inputs"] == {"question": "the capital of France?"}
    assert root.output_data["outputs"] == "found Paris"
    parents = {node.id: node.node_name for node in answer.nodes}
    (model,) = [node for node in answer.nodes if node.node_type == "llm"]
    (tool,) = [node for node in answer.nodes if node.node_type == "tool"]
    assert parents[model.parent_id] == root.node_name
    assert "RunnableLambda" in parents[tool.parent_id]
    assert len(answer.nodes) == 6
    assert "capital of France?" in str(model.input_data["messages"])
    assert "Paris" in str(model.output_data)
    assert tokens(model)[:4] == (12, 5, 17, 4)
    assert (answer.total_tokens, answer.status) == (17, "completed")
    assert tool.input_data["inputs"] == {"query": "Paris"}
    assert failure.status == "failed"
    assert failure.nodes[0].error.startswith("LookupError: there is nothing")


def test_pydantic_ai_with_its_own_instrumentation() -> None:
    (request,) = run(
        """
from pydantic_ai import Agent
from pydantic_ai.models.instrumented import InstrumentationSettings
from pydantic_ai.models.test import TestModel

Agent.instrument_all(InstrumentationSettings(tracer_provider=provider))
agent = Agent(TestModel(), name="helper", instructions="be kind")

@agent.tool_plain
def weather(city: str) -> str:
    return "sunny in " + city

agent.run_sync("What is the weather?")
"""
    )
    agent, *_ = request.nodes
    assert [(node.node_type, node.parent_id) for node in request.nodes] == [
        ("agent", None),
        ("llm", agent.id),
        ("tool", agent.id),
        ("llm", agent.id),
    ]
    system = [{"type": "text", "content": "be kind"}]
    asked = [{"role": "user", "parts": [{"type": "text", "content": "What is the weather?"}]}]
    assert agent.input_data == {"system": system, "messages": asked}
    assert agent.output_data == {"weather": "sunny in a"}
    first, tool, second = request.nodes[1:]
    assert first.input_data == {"system": system, "messages": asked}
    assert first.output_data["parts"][0]["name"] == "weather"
    assert (tool.input_data, tool.output_data) == ({"city": "a"}, "sunny in a")
    assert [(node.model, node.contain_generation) for node in (first, second)] == [("test", True)] * 2
    assert not agent.contain_generation
    assert request.total_tokens == first.total_tokens + second.total_tokens > 0
