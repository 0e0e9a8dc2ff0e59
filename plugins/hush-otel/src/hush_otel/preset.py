"""Backends by name, where nothing but the address and the headers is particular to them.

A preset stands for options; those that are given beside it come first, header by header. Keys are references, which
hush resolves where they are used. Backends that need more, or whose rules change from customer to customer, have none:
`endpoint` and `headers` say it all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple


class Preset(NamedTuple):
    """What a name stands for."""

    endpoint: str
    headers: Mapping[str, str] = {}
    basic_auth: str | None = None


PRESETS: Final = {
    # https://grafana.com/docs/grafana-cloud/send-data/otlp/send-data-otlp/ : the address depends on the stack, and ends
    # in /otlp; user and password are the instance's id and a token.
    "grafana": Preset(
        "${GRAFANA_CLOUD_OTLP_ENDPOINT}/v1/traces",
        basic_auth="${GRAFANA_CLOUD_INSTANCE_ID}:${GRAFANA_CLOUD_API_KEY}",
    ),
    # https://docs.honeycomb.io/send-data/opentelemetry/ : https://api.eu1.honeycomb.io/v1/traces for the EU.
    "honeycomb": Preset("https://api.honeycomb.io/v1/traces", {"x-honeycomb-team": "${HONEYCOMB_API_KEY}"}),
    # https://langfuse.com/integrations/native/opentelemetry : HTTP alone; the header is asked of direct exporters.
    "langfuse": Preset(
        "https://cloud.langfuse.com/api/public/otel/v1/traces",
        {"x-langfuse-ingestion-version": "4"},
        basic_auth="${LANGFUSE_PUBLIC_KEY}:${LANGFUSE_SECRET_KEY}",
    ),
    # https://docs.langchain.com/langsmith/trace-with-opentelemetry : eu.api.smith.langchain.com for the EU; the header
    # Langsmith-Project names a project.
    "langsmith": Preset("https://api.smith.langchain.com/otel/v1/traces", {"x-api-key": "${LANGSMITH_API_KEY}"}),
    # https://logfire.pydantic.dev/docs/how-to-guides/alternative-clients/ : the token as it is; logfire-eu for the EU.
    "logfire": Preset("https://logfire-us.pydantic.dev/v1/traces", {"Authorization": "${LOGFIRE_TOKEN}"}),
    # https://mlflow.org/docs/latest/genai/tracing/opentelemetry/ingest : an own server; HTTP alone; 0 is the default
    # experiment.
    "mlflow": Preset("http://localhost:5000/v1/traces", {"x-mlflow-experiment-id": "0"}),
    # https://arize.com/docs/phoenix/resources/frequently-asked-questions/what-is-my-phoenix-endpoint : an own server;
    # in the cloud with a header, Authorization = "Bearer ${PHOENIX_API_KEY}"; x-project-name names a project.
    "phoenix": Preset("http://localhost:6006/v1/traces"),
}
