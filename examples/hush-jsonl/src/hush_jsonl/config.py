"""The tracer's options, checked twice: as written when an app makes the tracer, and resolved before they are used.

A wrong one is a ConfigError that says what would be right. It never shows a header's value, nor of a URL more than its
scheme and host: the rest may be a secret. A value with a reference in it (`${NAME}`) is taken as it is: what it stands
for is not known before delivery.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from hush_core import ConfigError

_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
_HEADER_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")  # no line break: it would begin another header
#: Said by the request itself.
_OWN_HEADERS: Final = frozenset({"connection", "content-length", "content-type", "host", "transfer-encoding"})


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
    return Options(None, _checked_url(url), _checked_headers(headers or {}), _checked_timeout(timeout_s))


def _checked_path(path: object) -> str:
    if not isinstance(path, str | os.PathLike) or not (text := os.fspath(path)) or isinstance(text, bytes):
        raise ConfigError(f'path of a jsonl tracer is {path!r}; it has to be the path of a file: "traces.jsonl".')
    if text.endswith("/"):
        raise ConfigError(
            f"path of a jsonl tracer is {text!r}, a folder; name a file in it: {text + 'traces.jsonl'!r}."
        )
    return text


def _checked_url(url: object) -> str:
    example = '"https://example.com/ingest"'
    if not isinstance(url, str):
        raise ConfigError(f"url of a jsonl tracer is a {type(url).__name__}; it has to be a text such as {example}.")
    if "${" in url:
        return url
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # a port that is no number raises
    except ValueError:  # its text may quote a piece of a password, and so would a traceback
        raise ConfigError(
            f"url of a jsonl tracer cannot be read: its host or its port is none. Right would be {example}."
        ) from None
    if parts.username is not None or parts.password is not None:
        raise ConfigError(
            "url of a jsonl tracer holds a user or a password, which would be shown wherever the url is. Put them into "
            'a header: headers = { Authorization = "Basic ${CREDENTIALS}" }.'
        )
    if parts.scheme not in ("http", "https") or not host or not re.fullmatch(r"[\x21-\x7e]+", url):
        raise ConfigError(
            f"url of a jsonl tracer{_shown(parts.scheme, host)} has to begin with http:// or https:// and a host, "
            f"and to hold no blank and no character beyond ASCII: {example}."
        )
    return url


def _shown(scheme: str, host: str | None) -> str:
    """Which URL it is; nothing if it has no scheme or host to tell it by."""
    return f" (to {scheme}://{host})" if scheme and host else ""


def _checked_headers(headers: object) -> dict[str, str]:
    example = 'headers = { Authorization = "Bearer ${INGEST_TOKEN}" }'
    if not isinstance(headers, Mapping):
        raise ConfigError(f"headers of a jsonl tracer have to be a table of texts: {example}.")
    for name, value in headers.items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise ConfigError(f"{name!r} cannot be the name of a header. Right would be {example}.")
        if name.lower() in _OWN_HEADERS:
            raise ConfigError(f"The header {name} of a jsonl tracer is set by the request itself. Leave it out.")
        if not isinstance(value, str) or not _HEADER_VALUE.fullmatch(value):
            raise ConfigError(
                f"The header {name} of a jsonl tracer has to be a text in one line, of Latin-1 characters: {example}."
            )
    return dict(headers)


def _checked_timeout(timeout_s: object) -> float:
    if not isinstance(timeout_s, int | float) or isinstance(timeout_s, bool) or not 0 < timeout_s < math.inf:
        raise ConfigError(f"timeout_s of a jsonl tracer is {timeout_s!r}; it has to be a number of seconds above 0.")
    return float(timeout_s)
