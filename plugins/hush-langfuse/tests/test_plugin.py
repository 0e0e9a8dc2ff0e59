"""hush finds the plugin by its entry point; neither that nor recording loads the vendor's library into the app."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

import pluggy

from hush_core import BaseTracer, get_registered_tracers, get_tracer
from hush_langfuse import plugin
from hush_langfuse.tracer import LangfuseTracer

#: What only a delivery needs. `email` and `http.client` are what HTTP libraries bring.
HEAVY: Final = {
    "hush_langfuse.client", "hush_langfuse.mapping", "hush_langfuse.media", "hush_langfuse.transport", "http.client",
    "httpcore", "httpx", "langfuse", "opentelemetry", "pydantic", "requests",
}  # fmt: skip


def test_the_tracer_is_found_by_its_name() -> None:
    assert get_registered_tracers()["langfuse"] is LangfuseTracer
    assert isinstance(get_tracer("langfuse", base_url="http://localhost:3000"), LangfuseTracer)


def test_the_plugin_offers_a_tracer_and_nothing_else() -> None:
    manager = pluggy.PluginManager("hush")
    hooks = [name for name in vars(plugin) if manager.parse_hookimpl_opts(plugin, name) is not None]
    assert hooks == ["hush_register_tracers"]


def test_the_tracer_can_be_made_in_code() -> None:
    tracer: BaseTracer = LangfuseTracer(tags=["prod"])
    assert tracer.tags == ["prod"]


def test_asking_for_the_tracer_and_recording_loads_nothing_that_only_a_delivery_needs() -> None:
    code = """
import sys
from hush_core import code_node, get_tracer

@code_node(model="gpt-4o")
def answer(question):
    return {"answer": "Paris", "$usage": {"prompt_tokens": 3}, "$media": b"PNG"}

# A key that nobody has: the delivery waits for it, and no writer stays to try again.
tracer = get_tracer("langfuse", base_url="http://127.0.0.1:9", public_key="${NO_SUCH_KEY}", secret_key="sk-lf-1")
with tracer.trace("geography", user_id="ann"):
    answer("What is the capital of France?")
print(*sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True, timeout=60)
    assert HEAVY.isdisjoint(done.stdout.split())
