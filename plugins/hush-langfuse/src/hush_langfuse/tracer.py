"""The tracer. The app loads this module too, so what only a delivery needs is imported in `flush_batch`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from hush_core import BaseTracer, ConfigError, ConfigurationFlushError, FlushData
from hush_langfuse.config import check_environment, read_options


class LangfuseTracer(BaseTracer):
    """Delivers each request to Langfuse as a trace: `LangfuseTracer()`, with the LANGFUSE_* variables of the app.

    :param public_key: of the project; the variable LANGFUSE_PUBLIC_KEY if not given.
    :param secret_key: of the project, best as a reference; LANGFUSE_SECRET_KEY if not given.
    :param base_url: of Langfuse; LANGFUSE_BASE_URL or LANGFUSE_HOST if not given, else Langfuse's cloud in the EU.
    :param environment: of every trace, "production"; LANGFUSE_TRACING_ENVIRONMENT if not given.
    :param release: of the app, a commit perhaps; LANGFUSE_RELEASE if not given.
    :param version: of what is traced.
    :param headers: sent with each request to Langfuse, for a gateway before a server of one's own.
    :param upload_media: whether images, audio and other files are uploaded; if not, a note is in the place of each.
    :param timeout_s: for all that one delivery says to Langfuse, its media included. Below hush's `delivery.timeout`.
    :param tags: of every trace of this tracer.
    """

    def __init__(
        self,
        *,
        public_key: str | None = None,
        secret_key: str | None = None,
        base_url: str | None = None,
        environment: str | None = None,
        release: str | None = None,
        version: str | None = None,
        headers: Mapping[str, str] | None = None,
        upload_media: bool = True,
        timeout_s: float = 30.0,
        tags: list[str] | None = None,
    ) -> None:
        super().__init__(tags)
        self._options = read_options(
            public_key, secret_key, base_url, environment, release, version, headers, upload_media, timeout_s
        )
        check_environment(self._options.environment)

    def _get_tracer_config(self) -> dict[str, Any]:
        return self._options.as_config(os.environ)

    @staticmethod
    def flush(flush_data: FlushData) -> str | None:  # type: ignore[override]  # a text is kept as the backend's note
        return LangfuseTracer.flush_batch([flush_data])

    @staticmethod
    def flush_batch(batch: Iterable[FlushData]) -> str | None:
        """Deliver requests of one tracer, all or none. Gives what Langfuse noted, if it refused single spans."""
        requests = list(batch)
        try:
            options = read_options(**requests[0]["tracer_config"])
        except (
            ConfigError,
            TypeError,
        ) as problem:  # a reference stands for something wrong, or another version wrote it
            raise ConfigurationFlushError(str(problem)) from problem
        from hush_langfuse.client import deliver

        return deliver(options, requests)
