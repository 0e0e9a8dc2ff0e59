"""The tracer. The app loads this module too, so OpenTelemetry is imported in `flush_batch`, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from hush_core import BaseTracer, ConfigError, ConfigurationFlushError, FlushData
from hush_otel.config import ResourceValue, read_options


class OTelTracer(BaseTracer):
    """Delivers each request as a trace of OpenTelemetry: `OTelTracer(endpoint="http://localhost:4318/v1/traces")`.

    Without an endpoint and a preset, the variables `OTEL_EXPORTER_OTLP_*` of the app say where to.

    :param endpoint: where to POST to, used as it is; for gRPC the server's address.
    :param headers: of the request; a secret as a reference: `{"Authorization": "Bearer ${API_KEY}"}`.
    :param basic_auth: `"user:password"`, for the header Authorization.
    :param preset: a well-known backend by name, see `hush_otel.preset`, instead of the three above.
    :param protocol: "http/protobuf", or "grpc" (`pip install hush-otel[grpc]`).
    :param timeout_s: for one whole export, from the connection to the end of the answer.
    :param compression: "none", "gzip" or "deflate".
    :param certificate: PEM file of the authorities that are trusted, instead of the system's.
    :param client_certificate: PEM file that the server knows this client by, with `client_key` if that is apart.
    :param service_name: `service.name` of the resource.
    :param resource: more of the resource's attributes.
    :param content: False leaves out inputs, outputs, metadata, media and the texts of errors.
    :param tags: of every request of this tracer.
    """

    secret_options = ("basic_auth",)

    def __init__(
        self,
        *,
        endpoint: str | None = None,
        headers: Mapping[str, str] | None = None,
        basic_auth: str | None = None,
        preset: str | None = None,
        protocol: str | None = None,
        timeout_s: float | None = None,
        compression: str | None = None,
        certificate: str | None = None,
        client_certificate: str | None = None,
        client_key: str | None = None,
        service_name: str | None = None,
        resource: Mapping[str, ResourceValue] | None = None,
        content: bool = True,
        tags: list[str] | None = None,
    ) -> None:
        super().__init__(tags)
        self._options = read_options(
            endpoint=endpoint,
            headers=headers,
            basic_auth=basic_auth,
            preset=preset,
            protocol=protocol,
            timeout_s=timeout_s,
            compression=compression,
            certificate=certificate,
            client_certificate=client_certificate,
            client_key=client_key,
            service_name=service_name,
            resource=resource,
            content=content,
        )

    def _get_tracer_config(self) -> dict[str, Any]:
        return self._options.as_config()

    @staticmethod
    def flush(flush_data: FlushData) -> str | None:  # type: ignore[override]
        return OTelTracer.flush_batch([flush_data])

    @staticmethod
    def flush_batch(batch: Iterable[FlushData]) -> str | None:
        """Deliver requests of one tracer in one export, all or none. What the backend noted is returned."""
        requests = list(batch)
        try:
            options = read_options(**requests[0]["tracer_config"])
        except (
            ConfigError,
            TypeError,
        ) as problem:  # a reference stands for something wrong, or a newer version wrote it
            raise ConfigurationFlushError(str(problem)) from problem
        from hush_otel.client import export

        return export(options, requests)
