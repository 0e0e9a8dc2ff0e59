"""The tracer's options, checked twice: as written when an app makes the tracer, and resolved before they are used.

A wrong one is a ConfigError that says what would be right and shows no secret.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from hush_core import ConfigError, OptionCheck

#: Said by the request itself.
_OWN_HEADERS: Final = frozenset({"connection", "content-length", "content-type", "host", "transfer-encoding"})
_HEADERS_EXAMPLE: Final = 'headers = { Authorization = "Bearer ${INGEST_TOKEN}" }'
_CREDENTIALS: Final = 'Put them into a header: headers = { Authorization = "Basic ${CREDENTIALS}" }.'
_CHECK: Final = OptionCheck("a jsonl tracer")


class Options(NamedTuple):
    """Where lines go: exactly one of `path` and `url` is given."""

    path: str | None = None
    url: str | None = None
    headers: Mapping[str, str] = {}
    timeout_s: float = 10.0

    def as_config(self) -> dict[str, Any]:
        """As plain JSON, from which `read_options` makes the same again."""
        if self.path is not None:
            return {"path": self.path}
        return {"url": self.url, "headers": dict(self.headers), "timeout_s": self.timeout_s}


def read_options(
    path: str | os.PathLike[str] | None = None,
    url: str | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = 10.0,
) -> Options:
    """The options if they are right; ConfigError if not."""
    if (path is None) == (url is None):
        raise ConfigError(
            'A jsonl tracer needs a path or a url, and not both: path = "traces.jsonl" appends to a file, '
            'url = "https://example.com/ingest" posts.'
        )
    if path is not None:
        if headers is not None:
            raise ConfigError("headers of a jsonl tracer go with a url; this one has a path. Leave them out.")
        return Options(path=_checked_path(path))
    return Options(
        url=_CHECK.url("url", url, example='"https://example.com/ingest"', credentials=_CREDENTIALS),
        headers=_CHECK.headers(headers or {}, example=_HEADERS_EXAMPLE, own=_OWN_HEADERS),
        timeout_s=_CHECK.timeout_s(timeout_s),
    )


def _checked_path(path: object) -> str:
    if not isinstance(path, str | os.PathLike) or not (text := os.fspath(path)) or isinstance(text, bytes):
        raise ConfigError(f'path of a jsonl tracer is {path!r}; it has to be the path of a file: "traces.jsonl".')
    if text.endswith("/"):
        raise ConfigError(
            f"path of a jsonl tracer is {text!r}, a folder; name a file in it: {text + 'traces.jsonl'!r}."
        )
    return text
