"""Which attribute says what: the names of two conventions, side by side, and nothing else.

`gen_ai.*` are the GenAI conventions of OpenTelemetry, which are in development: names there have moved before, and will
again. The others are OpenInference's. Both are sent, since each has backends that read only it. What neither has a name
for is `hush.*`. Names are changed here and nowhere else; a change that a backend can notice makes the version grow.

Sources: https://github.com/open-telemetry/semantic-conventions-genai (the attributes as of version 1.41 of the
semantic conventions) and https://arize-ai.github.io/openinference/spec/ .
"""

from __future__ import annotations

from typing import Final, NamedTuple

#: Of this table; sent with every root span.
VERSION: Final = 1


class Kind(NamedTuple):
    """What a node is in both conventions."""

    openinference: str
    operation: str | None = None  #: `gen_ai.operation.name`; None where there is none for it
    is_call: bool = False  #: whether it is a call to another service: a span of the kind CLIENT


CHAIN: Final = Kind("CHAIN")
LLM: Final = Kind("LLM", "chat", is_call=True)
EMBEDDING: Final = Kind("EMBEDDING", "embeddings", is_call=True)
RETRIEVER: Final = Kind("RETRIEVER", "retrieval")
RERANKER: Final = Kind("RERANKER")
TOOL: Final = Kind("TOOL", "execute_tool")
AGENT: Final = Kind("AGENT", "invoke_agent")
GUARDRAIL: Final = Kind("GUARDRAIL")
EVALUATOR: Final = Kind("EVALUATOR")
PROMPT: Final = Kind("PROMPT")

#: By `node_type`, in lower case. Of any other type: LLM if it called a model, else CHAIN.
KIND_OF_TYPE: Final = {
    "agent": AGENT,
    "chain": CHAIN,
    "chat": LLM,
    "chat_model": LLM,
    "completion": LLM,
    "embedding": EMBEDDING,
    "embeddings": EMBEDDING,
    "evaluation": EVALUATOR,
    "evaluator": EVALUATOR,
    "generation": LLM,
    "guardrail": GUARDRAIL,
    "iteration": CHAIN,
    "llm": LLM,
    "prompt": PROMPT,
    "rerank": RERANKER,
    "reranker": RERANKER,
    "retrieval": RETRIEVER,
    "retriever": RETRIEVER,
    "tool": TOOL,
    "workflow": CHAIN,
}

KIND: Final = "openinference.span.kind"
OPERATION: Final = "gen_ai.operation.name"

# -- who and what -----------------------------------------------------------------------------------------------------

SESSION: Final = "session.id"
CONVERSATION: Final = "gen_ai.conversation.id"  #: the session, on calls of models and agents
USER: Final = "user.id"
TAGS: Final = "tag.tags"
METADATA: Final = "metadata"
PROVIDER: Final = ("gen_ai.provider.name", "llm.provider", "llm.system")
MODEL: Final = ("gen_ai.request.model", "llm.model_name")
EMBEDDING_MODEL: Final = ("gen_ai.request.model", "embedding.model_name")
AGENT_NAME: Final = ("gen_ai.agent.name", "agent.name")
TOOL_NAME: Final = ("gen_ai.tool.name", "tool.name")

# -- content ----------------------------------------------------------------------------------------------------------

INPUT: Final = "input.value"
INPUT_TYPE: Final = "input.mime_type"
OUTPUT: Final = "output.value"
OUTPUT_TYPE: Final = "output.mime_type"
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
TOOL_ARGUMENTS: Final = "gen_ai.tool.call.arguments"
TOOL_RESULT: Final = "gen_ai.tool.call.result"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"  #: a list
FINISH_REASON: Final = "llm.finish_reason"
INVOCATION_PARAMETERS: Final = "llm.invocation_parameters"
#: Parameters of a model's call that have an attribute each, by the names that providers' APIs give them.
PARAMETERS: Final = {
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "max_output_tokens": "gen_ai.request.max_tokens",
    "max_tokens": "gen_ai.request.max_tokens",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "seed": "gen_ai.request.seed",
    "temperature": "gen_ai.request.temperature",
    "top_k": "gen_ai.request.top_k",
    "top_p": "gen_ai.request.top_p",
}

# -- figures ----------------------------------------------------------------------------------------------------------

#: Counts of tokens, by the node's field. Both conventions, as hush, count cached tokens into the prompt's and reasoning
#: into the completion's.
TOKENS: Final = {
    "prompt_tokens": ("gen_ai.usage.input_tokens", "llm.token_count.prompt"),
    "completion_tokens": ("gen_ai.usage.output_tokens", "llm.token_count.completion"),
    "total_tokens": ("llm.token_count.total",),
    "cached_tokens": ("gen_ai.usage.cache_read.input_tokens", "llm.token_count.prompt_details.cache_read"),
    "reasoning_tokens": (
        "gen_ai.usage.reasoning.output_tokens",
        "llm.token_count.completion_details.reasoning",
    ),
}
#: In US dollars. GenAI has no name for it yet; this one is what backends read.
COST: Final = ("gen_ai.usage.cost", "llm.cost.total")
TIME_TO_FIRST: Final = "gen_ai.response.time_to_first_chunk"  #: in seconds

# -- errors -----------------------------------------------------------------------------------------------------------

ERROR_TYPE: Final = "error.type"
EXCEPTION: Final = "exception"  #: the event
EXCEPTION_TYPE: Final = "exception.type"
EXCEPTION_MESSAGE: Final = "exception.message"
EXCEPTION_STACKTRACE: Final = "exception.stacktrace"

# -- what only hush says ----------------------------------------------------------------------------------------------

#: By the node's field.
OWN: Final = {
    "node_type": "hush.node_type",
    "context_id": "hush.context_id",
    "execution_order": "hush.execution_order",
    "level": "hush.level",
}
#: The sums of a turn of a loop: under no name that a backend would add up once more.
SUMS: Final = {
    "prompt_tokens": "hush.sum.prompt_tokens",
    "completion_tokens": "hush.sum.completion_tokens",
    "total_tokens": "hush.sum.total_tokens",
    "cost_usd": "hush.sum.cost_usd",
}
MEDIA: Final = "hush.media"
NODE_STATUS: Final = "hush.status"  #: of a node that did not end by itself
TRUNCATED: Final = "hush.truncated"  #: the attributes of this span that were cut
# Of root spans.
REQUEST_ID: Final = "hush.request_id"
WORKFLOW: Final = "hush.workflow_name"
REQUEST_STATUS: Final = "hush.request_status"
CONVENTION: Final = "hush.convention"
CONTENT: Final = "hush.content"  #: false where content is left out
