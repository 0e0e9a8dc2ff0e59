"""The tracer's options, checked twice: as written when an app makes the tracer, and resolved before they are used.

A wrong one is a ConfigError that says what would be right; it never shows a key, or a header's value. An option that is
not given is that of the variable that Langfuse's users have for it, as a reference: the delivery process takes its
value from the environment of the app that recorded. It is never looked up there by chance: an environment that lacks
LANGFUSE_BASE_URL must not send to Langfuse's cloud what was meant for a server of one's own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from hush_core import ConfigError, OptionCheck

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
#: Said by the request itself.
_OWN_HEADERS: Final = frozenset(
    {
        "accept-encoding", "authorization", "connection", "content-encoding", "content-length", "content-type", "host",
        "x-langfuse-",
    }
)  # fmt: skip
_HEADERS_EXAMPLE: Final = 'headers = { CF-Access-Client-Secret = "${ACCESS_SECRET}" }'
_CREDENTIALS: Final = (
    "Langfuse's keys go into public_key and secret_key; for a gateway before it, use "
    'headers = { Proxy-Authorization = "Basic ${CREDENTIALS}" }.'
)
_CHECK: Final = OptionCheck("a langfuse tracer")


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
        tuple(_CHECK.headers(headers or {}, example=_HEADERS_EXAMPLE, own=_OWN_HEADERS).items()),
        upload_media,
        _CHECK.timeout_s(timeout_s),
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
    if url is None:
        return None
    example = f'"{CLOUD_URL}", or the address of your own server'
    checked = _CHECK.url("base_url", url, example=example, credentials=_CREDENTIALS)
    if "${" in checked:
        return checked
    from urllib.parse import urlsplit  # not in the process of an app that names no URL

    parts = urlsplit(checked)
    if parts.query or parts.fragment or "/api/public" in parts.path:
        raise ConfigError(
            f"base_url of a langfuse tracer ({parts.scheme}://{parts.hostname}) has to be the address of Langfuse "
            f"itself, without what comes after it: {example}."
        )
    return checked.rstrip("/")


def _checked_text(option: str, text: object) -> str | None:
    if text is not None and not isinstance(text, str):
        raise ConfigError(f"{option} of a langfuse tracer is {text!r}; it has to be a text.")
    return text or None
