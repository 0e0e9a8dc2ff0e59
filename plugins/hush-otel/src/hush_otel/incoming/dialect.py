"""What libraries call things in the attributes of their spans: for each field of a node its names, the best one first.

The other direction than `hush_otel.convention`, and wider: what is sent follows two conventions, what comes in follows
five, each in several versions. Names are added here and nowhere else.

Sources: the GenAI conventions of OpenTelemetry up to 1.41, with their deprecated names (`gen_ai.*`); OpenInference
(`llm.*`, `input.value`, ...); OpenLLMetry (`traceloop.*`, `llm.usage.*`, numbered `gen_ai.prompt.N`); Langfuse's SDK
(`langfuse.*`); pydantic-ai and Logfire (`logfire.*`, `events`, `final_result`, ...). Each was read in the packages
themselves, and tests/test_incoming_libraries.py runs some of them.
"""

from __future__ import annotations

from typing import Final

Names = tuple[str, ...]

# -- what it is -------------------------------------------------------------------------------------------------------

#: Says what kind of thing a span is, the most exact first.
TYPE: Final = (
    "openinference.span.kind",
    "langfuse.observation.type",
    "traceloop.span.kind",
    "gen_ai.operation.name",
    "llm.request.type",
)
#: What several of these call by other words than hush; any other word is kept, in lower case.
TYPE_OF: Final = {
    "chat": "llm",
    "completion": "llm",
    "create_agent": "agent",
    "embeddings": "embedding",
    "execute_tool": "tool",
    "generate_content": "llm",
    "generation": "llm",
    "invoke_agent": "agent",
    "invoke_workflow": "workflow",
    "rerank": "reranker",
    "retrieval": "retriever",
    "text_completion": "llm",
}
NO_TYPE: Final = frozenset({"", "unknown"})
LLM: Final = "llm"
EMBEDDING: Final = "embedding"
TOOL: Final = "tool"
SPAN: Final = "span"  #: of a span that says nothing of what it is
#: What calls a model itself. Others may say what the models that they called used together, which the spans of those
#: calls say again: it stays with their attributes, and no sum has it twice.
CALLS: Final = frozenset({LLM, EMBEDDING, "reranker"})

WORKFLOW: Final = ("langfuse.trace.name", "traceloop.workflow.name", "gen_ai.workflow.name")
USER: Final = (
    "user.id",
    "langfuse.user.id",
    "enduser.id",
    "gen_ai.user",
    "llm.user",
    "traceloop.association.properties.user_id",
)
SESSION: Final = (
    "session.id",
    "langfuse.session.id",
    "gen_ai.conversation.id",
    "traceloop.association.properties.session_id",
)
TAGS: Final = ("tag.tags", "langfuse.trace.tags", "logfire.tags")
LEVEL: Final = "langfuse.observation.level"
STATUS_MESSAGE: Final = "langfuse.observation.status_message"
LEVEL_NUMBER: Final = "logfire.level_num"
#: Logfire's numbers, from which on they have a name of hush's.
LEVELS: Final = ((17, "ERROR"), (13, "WARNING"), (9, "INFO"), (0, "DEBUG"))
TEMPLATE: Final = "logfire.msg_template"
MESSAGE: Final = "logfire.msg"
ERROR_TYPE: Final = "error.type"

# -- models -----------------------------------------------------------------------------------------------------------

#: What answered, which may be a dated version of what was asked for.
MODEL: Final = (
    "langfuse.observation.model.name",
    "gen_ai.response.model",
    "llm.response.model_name",
    "llm.model_name",
    "embedding.model_name",
    "reranker.model_name",
    "gen_ai.request.model",
    "llm.request.model_name",
)
#: What a library says where it does not know which one.
NO_MODEL: Final = frozenset({"", "unknown"})
PROVIDER: Final = ("gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system")
PROMPT_TOKENS: Final = (
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.prompt_tokens",
    "llm.token_count.prompt",
    "llm.usage.prompt_tokens",
)
COMPLETION_TOKENS: Final = (
    "gen_ai.usage.output_tokens",
    "gen_ai.usage.completion_tokens",
    "llm.token_count.completion",
    "llm.usage.completion_tokens",
)
TOTAL_TOKENS: Final = ("gen_ai.usage.total_tokens", "llm.token_count.total", "llm.usage.total_tokens")
CACHED_TOKENS: Final = (
    "gen_ai.usage.cache_read.input_tokens",
    "gen_ai.usage.cache_read_input_tokens",
    "gen_ai.usage.details.cache_read_tokens",
    "llm.token_count.prompt_details.cache_read",
    "llm.usage.cache_read_input_tokens",
)
#: Written to a cache. hush has no field for it; it matters where it is counted apart from the prompt's.
CACHE_WRITTEN_TOKENS: Final = (
    "gen_ai.usage.cache_creation.input_tokens",
    "gen_ai.usage.cache_creation_input_tokens",
    "gen_ai.usage.details.cache_write_tokens",
    "llm.token_count.prompt_details.cache_write",
)
REASONING_TOKENS: Final = (
    "gen_ai.usage.reasoning.output_tokens",
    "gen_ai.usage.reasoning_tokens",
    "gen_ai.usage.details.reasoning_tokens",
    "llm.token_count.completion_details.reasoning",
    "llm.usage.reasoning_tokens",
)
COST: Final = ("gen_ai.usage.cost", "llm.cost.total", "operation.cost", "gen_ai.usage.total_cost")
USAGE_DETAILS: Final = "langfuse.observation.usage_details"
COST_DETAILS: Final = "langfuse.observation.cost_details"
SECONDS_TO_FIRST: Final = ("gen_ai.response.time_to_first_chunk", "gen_ai.server.time_to_first_token")
COMPLETION_START: Final = "langfuse.observation.completion_start_time"
#: Events at the first piece of a stream.
FIRST_PIECE: Final = frozenset({"First Token Stream Event", "gen_ai.content.completion.chunk"})
#: The parameters of a call as JSON, and one by one under a prefix.
PARAMETERS: Final = (
    "langfuse.observation.model.parameters",
    "llm.invocation_parameters",
    "embedding.invocation_parameters",
)
PARAMETER_PREFIX: Final = "gen_ai.request."
#: Any of these makes a span that says nothing of what it is a call of a model.
OF_A_CALL: Final = (*MODEL, *PROMPT_TOKENS, *COMPLETION_TOKENS, *TOTAL_TOKENS)

# -- inputs and outputs -----------------------------------------------------------------------------------------------

LANGFUSE_INPUT: Final = "langfuse.observation.input"
LANGFUSE_OUTPUT: Final = "langfuse.observation.output"
INPUT: Final = ("input.value", "input.mime_type")
OUTPUT: Final = ("output.value", "output.mime_type")
JSON: Final = "application/json"
#: Messages as JSON.
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
INSTRUCTIONS: Final = "gen_ai.system_instructions"
#: A whole conversation as JSON, of an agent, and where the messages of this run begin.
CONVERSATION: Final = ("pydantic_ai.all_messages", "all_messages_events")
NEW_MESSAGES: Final = "pydantic_ai.new_message_index"
#: Messages as JSON, each of them as the event that it would be.
EVENTS: Final = "events"
#: Any of these, as JSON or text, where nothing above is there.
OTHER_INPUT: Final = (
    "gen_ai.tool.call.arguments",
    "tool_arguments",
    "traceloop.entity.input",
    "gen_ai.task.input",
    "gen_ai.retrieval.query.text",
    "reranker.query",
    "gen_ai.prompt",
    "request_data",
)
OTHER_OUTPUT: Final = (
    "gen_ai.tool.call.result",
    "tool_response",
    "final_result",
    "traceloop.entity.output",
    "gen_ai.task.output",
    "gen_ai.retrieval.documents",
    "gen_ai.completion",
    "response_data",
)
#: Of the whole request, said by its root.
TRACE_INPUT: Final = "langfuse.trace.input"
TRACE_OUTPUT: Final = "langfuse.trace.output"

#: Lists whose elements have numbers in their names: `llm.input_messages.0.message.role`.
NUMBERED_INPUT: Final = ("llm.input_messages.", "gen_ai.prompt.", "llm.prompts.")
NUMBERED_OUTPUT: Final = ("llm.output_messages.", "gen_ai.completion.", "llm.choices.")
DOCUMENTS: Final = ("retrieval.documents.", "reranker.output_documents.")
#: Texts with their vectors, which the output has already.
EMBEDDINGS: Final = "embedding.embeddings."
NUMBERED: Final = (*NUMBERED_INPUT, *NUMBERED_OUTPUT, *DOCUMENTS, EMBEDDINGS)

# -- metadata ---------------------------------------------------------------------------------------------------------

#: The user's own, as JSON, and one by one under a prefix.
METADATA: Final = ("metadata", "langfuse.observation.metadata", "langfuse.trace.metadata")
METADATA_PREFIXES: Final = (
    "langfuse.observation.metadata.",
    "langfuse.trace.metadata.",
    "traceloop.association.properties.",
)
#: Says which other attributes hold JSON. They are recognised without it, and nobody else reads it.
SCHEMA: Final = "logfire.json_schema"

# -- all of them ------------------------------------------------------------------------------------------------------

#: A span with none of these names, and none that begins so, says nothing that hush has a field for: most spans that are
#: no call of a model, and most spans when they begin.
KNOWN: Final = frozenset(
    (
        *TYPE, *WORKFLOW, *USER, *SESSION, *TAGS, LEVEL, STATUS_MESSAGE, LEVEL_NUMBER, TEMPLATE, *MODEL, *PROVIDER,
        *PROMPT_TOKENS, *COMPLETION_TOKENS, *TOTAL_TOKENS, *CACHED_TOKENS, *REASONING_TOKENS, *COST, USAGE_DETAILS,
        COST_DETAILS, *SECONDS_TO_FIRST, COMPLETION_START, *PARAMETERS, LANGFUSE_INPUT, LANGFUSE_OUTPUT, INPUT[0],
        OUTPUT[0], INPUT_MESSAGES, OUTPUT_MESSAGES, *CONVERSATION, EVENTS, *OTHER_INPUT, *OTHER_OUTPUT, TRACE_INPUT,
        TRACE_OUTPUT, *METADATA, SCHEMA,
    )
)  # fmt: skip
BEGINNINGS: Final = (*NUMBERED, PARAMETER_PREFIX, *METADATA_PREFIXES)
#: Begin so, and are no part of what is named by it.
WHOLE: Final = frozenset(
    {
        "gen_ai.prompt.name",
        "gen_ai.request.model",
        "traceloop.association.properties.session_id",
        "traceloop.association.properties.user_id",
    }
)
