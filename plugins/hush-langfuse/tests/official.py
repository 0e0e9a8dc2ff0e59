"""Records one trace with Langfuse's own SDK, against a server, and ends: `official.py URL PUBLIC_KEY SECRET_KEY`.

A process of its own, since the SDK makes itself global. `test_official.py` sends the same trace through hush.
"""

from __future__ import annotations

import sys
from datetime import datetime, timezone

from langfuse import Langfuse, propagate_attributes
from langfuse.media import LangfuseMedia


def main(url: str, public_key: str, secret_key: str) -> None:
    langfuse = Langfuse(
        public_key=public_key, secret_key=secret_key, base_url=url, environment="staging", release="abc123"
    )
    with (
        propagate_attributes(
            trace_name="geography", user_id="ann", session_id="s-1", tags=["prod", "vip"], version="7"
        ),
        langfuse.start_as_current_observation(
            name="geography", as_type="chain", input={"question": "capital?"}, output={"answer": "Paris"}
        ),
    ):
        record_inner(langfuse)
    langfuse.flush()


def record_inner(langfuse: Langfuse) -> None:
    langfuse.start_observation(
        name="answer",
        as_type="generation",
        input=[{"role": "user", "content": "capital? é漢"}],
        output="Paris",
        model="gpt-4o",
        model_parameters={"temperature": 0.5, "max_tokens": 100},
        completion_start_time=datetime(2025, 1, 31, 12, 0, 0, 370500, tzinfo=timezone.utc),
        usage_details={
            "input": 15, "input_cached_tokens": 5, "output": 7, "output_reasoning_tokens": 2, "total": 29,
        },
        cost_details={"total": 0.25},
        metadata={"provider": "openai", "retries": 2, "deep": {"a": [1, None, 2**60]}, "ratio": 0.5, "ok": True},
    ).end()  # fmt: skip
    langfuse.start_observation(
        name="vectors", as_type="embedding", input=["Paris"], model="ada", usage_details={"input": 3}
    ).end()
    picture = LangfuseMedia(content_bytes=b"\x89PNG\r\n\x1a\n picture", content_type="image/png")
    langfuse.start_observation(
        name="draw", as_type="tool", input={"of": "Paris"}, metadata={"media": [{"data": picture, "type": "image/png"}]}
    ).end()
    langfuse.start_observation(
        name="search", as_type="retriever", level="ERROR", status_message="ValueError: no index"
    ).end()
    langfuse.start_observation(name="plan", as_type="agent", level="WARNING", status_message="slow").end()
    langfuse.start_observation(name="check", as_type="guardrail", output={"safe": True}).end()
    langfuse.start_observation(name="judge", as_type="evaluator", output=float("nan")).end()
    langfuse.start_observation(name="work", as_type="span", input="", output=[], level="DEBUG").end()


main(*sys.argv[1:])
