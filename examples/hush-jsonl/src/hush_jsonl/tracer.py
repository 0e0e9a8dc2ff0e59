"""The tracer. The app loads this module too, so what only a delivery needs is imported in `flush_batch`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from hush_core import BaseTracer, ConfigError, ConfigurationFlushError, FlushData
from hush_jsonl.config import read_options
from hush_jsonl.mapping import to_line


class JsonLinesTracer(BaseTracer):
    """Delivers each request as a line of JSON: `JsonLinesTracer(path="traces.jsonl")`, or with a `url`.

    :param path: the file to append to; made when it is not there. Relative to the app's working folder.
    :param url: where to POST to, as application/x-ndjson, one request or many at once.
    :param headers: of that request; a secret as a reference: `{"Authorization": "Bearer ${INGEST_TOKEN}"}`.
    :param timeout_s: for one whole POST, from the connection to the end of the answer.
    :param tags: of every request of this tracer.
    """

    def __init__(
        self,
        *,
        path: str | os.PathLike[str] | None = None,
        url: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 10.0,
        tags: list[str] | None = None,
    ) -> None:
        super().__init__(tags)
        self._options = read_options(path, url, headers, timeout_s)

    def _get_tracer_config(self) -> dict[str, Any]:
        return self._options.as_config()

    @staticmethod
    def flush(flush_data: FlushData) -> None:
        JsonLinesTracer.flush_batch([flush_data])

    @staticmethod
    def flush_batch(batch: Iterable[FlushData]) -> None:
        """Deliver requests of one tracer, all or none: as one write to the file, or one POST."""
        requests = list(batch)
        lines = b"".join(map(to_line, requests))
        try:
            options = read_options(**requests[0]["tracer_config"])
        except (
            ConfigError,
            TypeError,
        ) as problem:  # a reference stands for something wrong, or an older version wrote it
            raise ConfigurationFlushError(str(problem)) from problem
        if options.path is not None:
            from hush_jsonl.file import append

            append(options.path, lines)
        else:
            from hush_jsonl.endpoint import post

            post(options, lines)
