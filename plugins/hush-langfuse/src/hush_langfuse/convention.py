"""Langfuse's names: attributes, observation types and levels, as its SDK 4 and 5 send them.

A table of our own, since the vendor's constants are in a package that takes a quarter of a second to import; a test
compares the two.
"""

from __future__ import annotations

from typing import Final

TRACE_NAME: Final = "langfuse.trace.name"
TRACE_USER_ID: Final = "user.id"
TRACE_SESSION_ID: Final = "session.id"
TRACE_TAGS: Final = "langfuse.trace.tags"
TRACE_METADATA: Final = "langfuse.trace.metadata"
OBSERVATION_TYPE: Final = "langfuse.observation.type"
OBSERVATION_METADATA: Final = "langfuse.observation.metadata"
OBSERVATION_LEVEL: Final = "langfuse.observation.level"
OBSERVATION_STATUS_MESSAGE: Final = "langfuse.observation.status_message"
OBSERVATION_INPUT: Final = "langfuse.observation.input"
OBSERVATION_OUTPUT: Final = "langfuse.observation.output"
OBSERVATION_COMPLETION_START_TIME: Final = "langfuse.observation.completion_start_time"
OBSERVATION_MODEL: Final = "langfuse.observation.model.name"
OBSERVATION_MODEL_PARAMETERS: Final = "langfuse.observation.model.parameters"
OBSERVATION_USAGE_DETAILS: Final = "langfuse.observation.usage_details"
OBSERVATION_COST_DETAILS: Final = "langfuse.observation.cost_details"
OBSERVATION_PROMPT_NAME: Final = "langfuse.observation.prompt.name"
OBSERVATION_PROMPT_VERSION: Final = "langfuse.observation.prompt.version"
ENVIRONMENT: Final = "langfuse.environment"
RELEASE: Final = "langfuse.release"
VERSION: Final = "langfuse.version"
#: Of the first span of an app in a trace; and of one that another process called, which counts as a root as well.
IS_APP_ROOT: Final = "langfuse.internal.is_app_root"
AS_ROOT: Final = "langfuse.internal.as_root"

#: The scope of the SDK's spans. By this name the server knows that all that matters is in attributes of these names,
#: and does not put a copy of every one of them into the metadata.
SCOPE: Final = "langfuse-sdk"

#: How nodes are called elsewhere -> the observation type. Each type stands for itself, too.
_TYPES: Final = {
    "span": (),
    "event": (),
    "generation": ("llm", "chat", "chat_model", "completion", "text_completion", "generate_content", "llm_call"),
    "embedding": ("embeddings", "embed", "embedder"),
    "agent": ("invoke_agent", "create_agent"),
    "tool": ("function", "function_call", "tool_call", "execute_tool", "mcp"),
    "chain": ("workflow", "pipeline", "graph", "flow"),
    "retriever": ("retrieval", "retrieve", "reranker", "rerank"),
    "evaluator": ("evaluation", "eval", "judge", "score"),
    "guardrail": ("guard", "guardrails", "moderation"),
}
TYPE_OF: Final = {name: kind for kind, names in _TYPES.items() for name in (kind, *names)}

#: How levels are called -> Langfuse's, as its server reads them. DEFAULT goes without saying.
LEVEL_OF: Final = {
    **dict.fromkeys(("DEBUG", "TRACE", "VERBOSE"), "DEBUG"),
    **dict.fromkeys(("WARNING", "WARN"), "WARNING"),
    **dict.fromkeys(("ERROR", "FATAL", "CRITICAL"), "ERROR"),
}
