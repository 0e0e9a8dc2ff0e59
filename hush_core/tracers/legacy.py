"""Recording what an engine kept in memory: traces that are inserted in a batch when the request is complete.

`execution_order` lists the runs, each a dict with `node, parent, context_id, contain_generation`; `trace_metadata` has
what is known of each, under `node:context_id` or `node`. Engines differ in what they say and how: whatever is missing
is None, and nothing that is there is lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from hush_core.capture.opened import ERROR, error_text
from hush_core.capture.reserved import read_cost
from hush_core.capture.usage import NO_USAGE, Usage, read_usage
from hush_core.interrupt import is_interrupt

if TYPE_CHECKING:
    from hush_core.store.trace_store import TraceStore

#: What of an entry goes to a field of its own; the rest is the node's metadata.
_KNOWN: Final = frozenset(
    {
        "name", "node", "parent", "parent_name", "context_id", "contain_generation", "start_time", "end_time",
        "duration_ms", "input_vars", "input_data", "inputs", "output_vars", "output_data", "outputs", "model", "usage",
        "cost", "cost_usd", "metadata", "error", "level", "node_type", "type", "media", "time_to_first_token_ms",
        *Usage._fields,
    }
)  # fmt: skip


def record_legacy_traces(store: TraceStore, workflow_name: str, state: Any) -> None:
    """Record every run of a state that kept its traces in memory, in order. A run that makes no sense stops none."""
    entries = getattr(state, "trace_metadata", None) or {}
    for order, run in enumerate(getattr(state, "execution_order", None) or ()):
        try:
            _record_run(store, workflow_name, state, order, run, entries)
        except Exception as problem:
            if is_interrupt(problem):
                raise
            store.background.drop("other")
            store.background.report(problem, "recording a node that was kept in memory")


def _record_run(
    store: TraceStore, workflow_name: str, state: Any, order: int, run: Mapping[str, Any], entries: Mapping[str, Any]
) -> None:
    name: Any = run.get("node") or run.get("name")
    context_id = run.get("context_id")
    entry = entries.get(f"{name}:{context_id}") or entries.get(name) or {}
    said = {**entry, **{key: value for key, value in run.items() if value is not None}}
    usage = _usage(said)
    error = said.get("error")
    store.insert_node_trace(
        request_id=state.request_id,
        workflow_name=workflow_name,
        node_name=name,
        parent_name=said.get("parent", said.get("parent_name")),
        context_id=context_id,
        execution_order=order,
        start_time=said.get("start_time"),
        end_time=said.get("end_time"),
        duration_ms=said.get("duration_ms"),
        input_data=_values(said, ("input_data", "inputs", "input_vars"), state, name, context_id),
        output_data=_values(said, ("output_data", "outputs", "output_vars"), state, name, context_id),
        user_id=state.user_id,
        session_id=state.session_id,
        model=said.get("model"),
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.total_tokens,
        cost_usd=read_cost(said.get("cost_usd", said.get("cost"))),
        contain_generation=bool(said.get("contain_generation") or said.get("model") or usage is not NO_USAGE),
        metadata=_metadata(said),
        node_type=said.get("node_type", said.get("type")),
        error=error_text(error) if isinstance(error, BaseException) else error,
        level=said.get("level") or (ERROR if error else None),
        media=said.get("media"),
        time_to_first_token_ms=said.get("time_to_first_token_ms"),
        cached_tokens=usage.cached_tokens,
        reasoning_tokens=usage.reasoning_tokens,
    )


def _usage(said: Mapping[str, Any]) -> Usage:
    """The counts of its `usage`, else those that it has itself."""
    usage = read_usage(said.get("usage"))
    return usage if usage is not NO_USAGE else read_usage(said)


def _values(said: Mapping[str, Any], names: tuple[str, ...], state: Any, node: Any, context_id: Any) -> Any:
    """Inputs or outputs: the values themselves, or those of the state's variables that are listed by name."""
    found = next((said[name] for name in names if said.get(name) is not None), None)
    if not isinstance(found, (list, tuple)) or not all(isinstance(name, str) for name in found):
        return found
    values = {}
    for name in found:
        try:
            values[name] = state[node, name, context_id]
        except Exception as problem:  # a state that does not give its variables so: then the names are what is known
            if is_interrupt(problem):
                raise
    return values if len(values) == len(found) else found


def _metadata(said: Mapping[str, Any]) -> Any:
    """The node's metadata, with all that has no field of its own."""
    rest = {key: value for key, value in said.items() if key not in _KNOWN}
    metadata = said.get("metadata")
    if not rest:
        return metadata
    return {**metadata, **rest} if isinstance(metadata, Mapping) else {"metadata": metadata, **rest}
