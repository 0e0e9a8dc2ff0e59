"""What the README shows works as it stands there, and it names every option."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

from hush_core import get_tracer
from hush_langfuse.tracer import LangfuseTracer

from .conftest import PUBLIC, SECRET
from .langfuse_server import LangfuseServer

README = Path(__file__).parent.parent.joinpath("README.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    """The first piece of code in a language."""
    found = re.search(rf"```{language}\n(.*?)```", README, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_first_example_becomes_a_trace(server: LangfuseServer) -> None:
    variables = {"LANGFUSE_PUBLIC_KEY": PUBLIC, "LANGFUSE_SECRET_KEY": SECRET, "LANGFUSE_BASE_URL": server.url}
    code = f"{block('python')}\nassert tracer.shutdown_worker(60)\n"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100, env={**os.environ, **variables})
    types = {span["name"]: span["attributes"]["langfuse.observation.type"] for span in server.spans}
    assert types == {"geography": "chain", "search": "retriever", "answer": "generation"}


def test_the_settings_are_valid(tmp_path: Path) -> None:
    (tmp_path / "hush.toml").write_text(block("toml"))
    assert get_tracer().tags == ["prod", "ml-team"]
    assert get_tracer("self-hosted")._get_tracer_config()["base_url"] == "https://langfuse.example.com"


def test_every_option_is_in_the_table() -> None:
    options = set(re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE)) - {"node_type"}
    assert options == set(inspect.signature(LangfuseTracer).parameters) - {"tags"}
