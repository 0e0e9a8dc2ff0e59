"""The tracer's options, checked twice: as written when an app makes the tracer, and resolved before they are used.

A wrong one is a ConfigError that says what would be right; it never shows a key, or a header's value. An option that is
not given is that of the variable that Langfuse's users have for it, as a reference: the delivery process takes its
value from the environment of the app that recorded. It is never looked up there by chance: an environment that lacks
LANGFUSE_BASE_URL must not send to Langfuse's cloud what was meant for a server of one's own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from hush_core import ConfigError

CLOUD_URL: Final = "https://cloud.langfuse.com"
PUBLIC_KEY: Final = "${LANGFUSE_PUBLIC_KEY}"
SECRET_KEY: Final = "${LANGFUSE_SECRET_KEY}"
#: Option -> the variables of its default: the first that is set counts, as in Langfuse's own SDK.
_VARIABLES: Final = {
    "base_url": ("LANGFUSE_BASE_URL", "LANGFUSE_HOST"),
    "environment": ("LANGFUSE_TRACING_ENVIRONMENT",),
    "release": ("LANGFUSE_RELEASE",),
}
#: What Langfuse keeps as it is; it makes "default" of anything else, and takes a leading "langfuse" away.
_ENVIRONMENT: Final = re.compile(r"(?!langfuse)[a-z0-9_-]{1,40}")
_KEY: Final = re.compile(r"[\x21-\x39\x3b-\x7e]+")  # visible ASCII but the colon, which ends the user of basic auth
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
_HEADER_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")  # no line break: it would begin another header
#: Said by the request itself. Langfuse's own begin with `x-langfuse-`.
_OWN_HEADERS: Final = frozenset(
    {"accept-encoding", "authorization", "connection", "content-encoding", "content-length", "content-type", "host"}
)


class Options(NamedTuple):
    """How to reach Langfuse, and what is the same for every request."""

    public_key: str = PUBLIC_KEY
    secret_key: str = SECRET_KEY
    base_url: str | None = None
    environment: str | None = None
    release: str | None = None
    version: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    upload_media: bool = True
    timeout_s: float = 30.0

    def __repr__(self) -> str:
        return f"<Options for {self.base_url}>"  # no key, no header

    def as_config(self, environment: Mapping[str, str]) -> dict[str, Any]:
        """As plain JSON, from which `read_options` makes the same again.

        :param environment: the app's variables, to know which of them are set; no value of one is taken.
        """
        config = {**self._asdict(), "headers": dict(self.headers)}
        for option, variables in _VARIABLES.items():
            if config[option] is None:
                config[option] = next((f"${{{name}}}" for name in variables if environment.get(name)), None)
        config["base_url"] = config["base_url"] or CLOUD_URL
        return {option: value for option, value in config.items() if value not in (None, {})}


def read_options(
    public_key: str | None = None,
    secret_key: str | None = None,
    base_url: str | None = None,
    environment: str | None = None,
    release: str | None = None,
    version: str | None = None,
    headers: Mapping[str, str] | None = None,
    upload_media: bool = True,
    timeout_s: float = 30.0,
) -> Options:
    """The options if they are right; ConfigError if not."""
    if not isinstance(upload_media, bool):
        raise ConfigError(f"upload_media of a langfuse tracer is {upload_media!r}; it has to be true or false.")
    return Options(
        _checked_key("public_key", PUBLIC_KEY if public_key is None else public_key),
        _checked_key("secret_key", SECRET_KEY if secret_key is None else secret_key),
        _checked_url(base_url),
        _checked_text("environment", environment),
        _checked_text("release", release),
        _checked_text("version", version),
        _checked_headers(headers or {}),
        upload_media,
        _checked_timeout(timeout_s),
    )


def check_environment(environment: str | None) -> None:
    """ConfigError for an environment that Langfuse would silently replace. For one that is written in the settings:
    what a variable holds has always been Langfuse's to judge, and its users are used to what it makes of it.
    """
    if environment is not None and "${" not in environment and not _ENVIRONMENT.fullmatch(environment):
        raise ConfigError(
            f"environment of a langfuse tracer is {environment!r}; Langfuse takes at most 40 lower-case letters, "
            'digits, hyphens and underscores, not beginning with "langfuse": "production".'
        )


def _checked_key(option: str, key: object) -> str:
    kind, other = ("pk-lf-", "sk-lf-") if option == "public_key" else ("sk-lf-", "pk-lf-")
    if isinstance(key, str) and "${" in key:
        return key
    key = key.strip() if isinstance(key, str) else key  # a file that became a variable ends with a line break
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise ConfigError(
            f"{option} of a langfuse tracer is not a key: it has to be a text such as {kind}..., of visible ASCII "
            "characters. It is among the API keys in the settings of your project in Langfuse."
        )
    if key.startswith(other):
        raise ConfigError(f"{option} of a langfuse tracer begins with {other}: the two keys are mixed up.")
    return key


def _checked_url(url: object) -> str | None:
    example = f'"{CLOUD_URL}", or the address of your own server'
    if url is None:
        return None
    if not isinstance(url, str):
        raise ConfigError(f"base_url of a langfuse tracer is {url!r}; it has to be a text: {example}.")
    if "${" in url:
        return url
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # a port that is no number raises
    except ValueError as problem:
        raise ConfigError(f"base_url of a langfuse tracer cannot be read: {problem}. Right is {example}.") from problem
    if parts.username is not None or parts.password is not None:
        raise ConfigError(
            "base_url of a langfuse tracer holds a user or a password. Langfuse's keys go into public_key and "
            'secret_key; for a gateway before it, use headers = { Proxy-Authorization = "Basic ${CREDENTIALS}" }.'
        )
    if parts.scheme not in ("http", "https") or not host or not re.fullmatch(r"[\x21-\x7e]+", url):
        raise ConfigError(
            f"base_url of a langfuse tracer is {url!r}; it has to begin with http:// or https:// and a host, and to "
            f"hold no blank and no character beyond ASCII: {example}."
        )
    if parts.query or parts.fragment or "/api/public" in parts.path:
        raise ConfigError(
            f"base_url of a langfuse tracer is {url!r}; it has to be the address of Langfuse itself, without what "
            f"comes after it: {example}."
        )
    return url.rstrip("/")


def _checked_text(option: str, text: object) -> str | None:
    if text is not None and not isinstance(text, str):
        raise ConfigError(f"{option} of a langfuse tracer is {text!r}; it has to be a text.")
    return text or None


def _checked_headers(headers: object) -> tuple[tuple[str, str], ...]:
    example = 'headers = { CF-Access-Client-Secret = "${ACCESS_SECRET}" }'
    if not isinstance(headers, Mapping):
        raise ConfigError(f"headers of a langfuse tracer have to be a table of texts: {example}.")
    for name, value in headers.items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise ConfigError(f"{name!r} cannot be the name of a header. Right would be {example}.")
        if name.lower() in _OWN_HEADERS or name.lower().startswith("x-langfuse-"):
            raise ConfigError(f"The header {name} of a langfuse tracer is set by the request itself. Leave it out.")
        if not isinstance(value, str) or not _HEADER_VALUE.fullmatch(value):
            raise ConfigError(
                f"The header {name} of a langfuse tracer has to be a text in one line, of Latin-1 characters: "
                f"{example}."
            )
    return tuple(headers.items())


def _checked_timeout(timeout_s: object) -> float:
    if not isinstance(timeout_s, int | float) or isinstance(timeout_s, bool) or not 0 < timeout_s < math.inf:
        raise ConfigError(f"timeout_s of a langfuse tracer is {timeout_s!r}; it has to be a number of seconds above 0.")
    return float(timeout_s)
