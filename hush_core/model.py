"""What is recorded: the kinds of record, the order of their fields, and the states a request can be in.

A record is one msgpack array: its kind, then the fields of that kind in the order given here. The order is part of the
journal's format: a field is only ever added at the end (a reader takes a missing one as None), never moved or removed.
"""

from __future__ import annotations

from typing import Final

# Kinds of record: the first element of the array.
NODE: Final = (
    1  #: a node that has ended, recorded in one piece (`TraceStore.insert_node_trace`; others without start records)
)
NODE_START: Final = 2  #: a node that has begun; a NODE_END with the same `span` follows, or the process died
NODE_END: Final = 3  #: the end of a node whose NODE_START has the same `span`
REQUEST_START: Final = 4  #: a request has begun (`BaseTracer.trace`)
REQUEST_COMPLETE: Final = 5  #: a request is complete and due to one tracer (`mark_request_complete`)
ORIGIN: Final = 6  #: where this journal's records come from: interpreter, sys.path, working directory, config file

#: The fields of NODE, NODE_START and NODE_END after the kind. Times are ISO 8601 strings, datetimes or int nanoseconds
#: since the epoch, as the caller gave them; the writer makes nanoseconds of them.
NODE_FIELDS: Final = (
    "request_id",
    "workflow_name",
    "node_name",
    "parent_name",
    "context_id",
    "execution_order",
    "start_time",
    "end_time",
    "duration_ms",
    "input_data",
    "output_data",
    "user_id",
    "session_id",
    "model",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "cost_usd",
    "contain_generation",
    "metadata",
    "node_type",
    "error",
    "level",
    "media",
    "time_to_first_token_ms",
    "cached_tokens",
    "reasoning_tokens",
    "span",  # int, unique within the database: joins a start to its end; None for a NODE of insert_node_trace
    "parent_span",  # int or None: the exact parent, where a name could be ambiguous (recursion)
    "tags",  # list[str] or None: dynamic tags of the request, from `$tags`
)

#: Where a node's metadata has the ids that another tracing system gave it, `TraceStore.begin_span`: its `trace_id`,
#: `span_id` and `parent_span_id`, in hex. They count only where `span_id` is the field `span`, as a signed integer.
GIVEN_IDS: Final = "otel"

REQUEST_START_FIELDS: Final = (
    "request_id",
    "workflow_name",
    "user_id",
    "session_id",
    "start_time",
    "tags",
    "tracers",  # list of [name, type, config, target, policy]: to whom an interrupted request is due
)

REQUEST_COMPLETE_FIELDS: Final = (
    "request_id",
    "tracer_type",
    "tracer_config",
    "tags",
    "tracer_name",
    "workflow_name",
    "user_id",
    "session_id",
    "status",  # a request status below, or None for COMPLETED
    "error",
    "end_time",
    "target",  # "module:Class" of the tracer, or None: then it is found among the plugins, by its type
    "policy",  # {"sample": 0.2, "when": [...]} or None: which requests the tracer wants, see `hush_core.store.policy`
)

#: The class of the tracer whose backend is the store itself: what is due to it is delivered by being stored.
LOCAL_TRACER: Final = "LocalTracer"
LOCAL_TARGET: Final = "hush_core.tracers.local:LocalTracer"

# The states of a request.
RUNNING: Final = "running"  #: records have come, no end yet
COMPLETED: Final = "completed"  #: marked complete
FAILED: Final = "failed"  #: marked complete by an exception that left the trace
INTERRUPTED: Final = "interrupted"  #: every process that recorded for it ended without marking it complete
REQUEST_STATUSES: Final = (RUNNING, COMPLETED, FAILED, INTERRUPTED)

# The states of a node.
NODE_RUNNING: Final = "running"
NODE_OK: Final = "ok"
NODE_ERROR: Final = "error"
NODE_INTERRUPTED: Final = "interrupted"
NODE_STATUSES: Final = (NODE_RUNNING, NODE_OK, NODE_ERROR, NODE_INTERRUPTED)

# The states of a delivery.
PENDING: Final = "pending"
FLUSHING: Final = "flushing"
FLUSHED: Final = "flushed"
DEAD: Final = "failed"
SKIPPED: Final = "skipped"  #: not wanted: by the tracer's `sample` or `when`, or dropped by a plugin
DELIVERY_STATUSES: Final = (PENDING, FLUSHING, FLUSHED, DEAD, SKIPPED)
