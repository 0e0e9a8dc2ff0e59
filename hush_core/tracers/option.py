"""Checks of the options that most tracers have: a URL, headers, a time.

One place for all tracers, because each of them is where a secret gets into a message.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Final

from hush_core.errors import ConfigError

_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
_HEADER_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")  # no line break: it would begin another header
_VISIBLE_ASCII: Final = re.compile(r"[\x21-\x7e]+")
_REFERENCE: Final = "${"
_SHOWN: Final = 40  #: so many characters of a name
_NO_TIME_S: Final = 1e9  #: thirty years: what is above is none


class OptionCheck:
    """Checks options of one type of tracer: `OptionCheck("an otel tracer").timeout_s(timeout_s)`.

    Each check returns the option if it is right, and raises ConfigError if not: the message says what would be right,
    and shows neither a header's value nor of a URL more than its scheme and host. A URL or a header's value may hold
    references (`${NAME}`), and what they stand for is known at the delivery alone: so a tracer checks its options
    twice, in `__init__` and, resolved, in `flush`.

    :param tracer: how messages name the tracer, with its article: "an otel tracer".
    """

    def __init__(self, tracer: str) -> None:
        self._tracer = tracer

    def url(self, option: str, url: object, *, example: str, credentials: str) -> str:
        """A URL of http or https; one with a reference in it is taken as it is.

        :param option: its name in the settings.
        :param example: what would be right, as it is written in the settings: `'"https://example.com/ingest"'`.
        :param credentials: where a user and a password go instead, a sentence.
        """
        from urllib.parse import urlsplit  # not in the process of an app that names no URL

        what = f"{option} of {self._tracer}"
        if not isinstance(url, str):
            raise ConfigError(f"{what} has to be a text: {example}.")
        if _REFERENCE in url:
            return url
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port  # a port that is no number raises
        except ValueError:  # its text may quote a piece of a password, and so would a traceback
            raise ConfigError(f"{what} cannot be read: its host or its port is none. Right is {example}.") from None
        if parts.username is not None or parts.password is not None:
            raise ConfigError(
                f"{what} holds a user or a password, which would be shown wherever the {option} is. {credentials}"
            )
        if parts.scheme not in ("http", "https") or not host or not _VISIBLE_ASCII.fullmatch(url):
            # What stands for the host in a URL of another scheme may be none.
            shown = f" ({parts.scheme}://{host})" if parts.scheme in ("http", "https", "ftp") and host else ""
            raise ConfigError(
                f"{what}{shown} has to begin with http:// or https:// and a host, and to hold no blank and no "
                f"character beyond ASCII: {example}."
            )
        return url

    def headers(self, headers: object, *, example: str, own: Collection[str]) -> dict[str, str]:
        """Headers of a request, by name.

        :param example: what would be right, as it is written in the settings.
        :param own: the headers, in lower case, that the tracer itself sets; one that ends with "-" is a prefix.
        """
        if not isinstance(headers, Mapping):
            raise ConfigError(f"headers of {self._tracer} have to be a table of texts: {example}.")
        reserved, prefixes = frozenset(own), tuple(name for name in own if name.endswith("-"))
        for name, value in headers.items():
            if not isinstance(name, str) or not (begin := _HEADER_NAME.match(name, 0, _SHOWN)):
                raise ConfigError(
                    f"headers of {self._tracer} have a name that cannot be one. Right would be {example}."
                )
            if not _HEADER_NAME.fullmatch(name):
                # Not all of it is shown: "Authorization: Bearer KEY" may have been taken for a name.
                raise ConfigError(
                    f"A header of {self._tracer} has a name that begins with {begin[0]!r} and goes on with what no "
                    f"header's name can hold. Right would be {example}."
                )
            if name.lower() in reserved or name.lower().startswith(prefixes):
                raise ConfigError(f"The header {name} of {self._tracer} is set by the request itself. Leave it out.")
            if not isinstance(value, str) or not _HEADER_VALUE.fullmatch(value):
                raise ConfigError(
                    f"The header {name} of {self._tracer} has to be a text in one line, of Latin-1 characters: "
                    f"{example}."
                )
        if len({name.lower() for name in headers}) < len(headers):
            raise ConfigError(
                f"headers of {self._tracer} name one header twice: they are the same in upper and lower case."
            )
        return dict(headers)

    def timeout_s(self, timeout_s: object) -> float:
        """A time, in seconds."""
        if not isinstance(timeout_s, int | float) or isinstance(timeout_s, bool) or not 0 < timeout_s < _NO_TIME_S:
            raise ConfigError(f"timeout_s of {self._tracer} has to be a number of seconds above 0.")
        return float(timeout_s)
