"""The Langfuse SDK, its exporter replaced by one that counts spans and drops them: nothing goes to a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from langfuse import Langfuse, observe

from benchmarks.contender import Contender
from benchmarks.contenders.otel import NullExporter
from benchmarks.workload import CODE_NODE, WORKFLOW, call_nodes, insert_nodes, score


class LangfuseSdk(Contender):
    """An observation per node, with the fields where Langfuse has a place for them, else as metadata."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._exporter = NullExporter()
        self._langfuse = Langfuse(
            public_key="pk-benchmark",
            secret_key="sk-benchmark",
            base_url="http://127.0.0.1:9",  # discard: nothing may listen, nothing is sent
            span_exporter=self._exporter,
        )
        self._decorated = observe(name="score")(score)
        self._counted = 0

    def insert_node_trace(
        self,
        request_id: str,
        workflow_name: str,
        node_name: str,
        parent_name: str | None,
        context_id: str | None,
        execution_order: int,
        start_time: Any,
        end_time: Any,
        duration_ms: float | None,
        input_data: dict[str, Any] | None,
        output_data: dict[str, Any] | None,
        model: str | None = None,
        prompt_tokens: int | None = None,
        completion_tokens: int | None = None,
        total_tokens: int | None = None,
        cost_usd: float | None = None,
        contain_generation: bool = False,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        facts = {
            "request_id": request_id,
            "workflow_name": workflow_name,
            "parent_name": parent_name,
            "execution_order": execution_order,
        }
        if contain_generation:
            observation: Any = self._langfuse.start_observation(
                name=node_name,
                as_type="generation",
                input=input_data,
                output=output_data,
                metadata={**facts, **(metadata or {})},
                model=model,
                usage_details={"input": prompt_tokens, "output": completion_tokens, "total": total_tokens},
                cost_details={"total": cost_usd},
            )
        else:
            observation = self._langfuse.start_observation(
                name=node_name, input=input_data, output=output_data, metadata=facts
            )
        observation.end()

    def run(self, workload: str, calls: int, run: str) -> int:
        if workload != CODE_NODE:
            insert_nodes(workload, self.insert_node_trace, calls, run)
            return calls
        with self._langfuse.start_as_current_observation(name=WORKFLOW):
            call_nodes(self._decorated, calls)
        return calls + 1

    def hand_over(self) -> None:
        self._langfuse.flush()

    def arrived(self, records: int) -> int:
        arrived = self._exporter.spans - self._counted
        self._counted = self._exporter.spans
        return arrived

    def close(self) -> None:
        self._langfuse.shutdown()


def make(folder: Path) -> LangfuseSdk:
    return LangfuseSdk(folder)
