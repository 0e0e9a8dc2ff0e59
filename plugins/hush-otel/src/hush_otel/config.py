"""The tracer's options, checked twice: as written when an app makes the tracer, and resolved before they are used.

A wrong one is a ConfigError that says what would be right. It never shows a header's value, which may be a secret.
A value with a reference in it (`${NAME}`) is taken as it is: what it stands for is not known before delivery.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from hush_core import ConfigError
from hush_otel.preset import PRESETS

HTTP: Final = "http/protobuf"
GRPC: Final = "grpc"
PROTOCOLS: Final = (HTTP, GRPC)
COMPRESSIONS: Final = ("none", "gzip", "deflate")

_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
_HEADER_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")  # no line break: it would begin another header
#: Said by the request itself.
_OWN_HEADERS: Final = frozenset(
    {"connection", "content-encoding", "content-length", "content-type", "host", "te", "transfer-encoding"}
)
_HEADERS_EXAMPLE: Final = 'headers = { Authorization = "Bearer ${API_KEY}" }'
_RESOURCE_EXAMPLE: Final = 'resource = { "deployment.environment.name" = "prod" }'

ResourceValue = str | bool | int | float


class Options(NamedTuple):
    """Where spans go, and what is said of who made them. None: as the environment of the app says, or as usual."""

    endpoint: str | None = None
    headers: Mapping[str, str] = {}
    basic_auth: str | None = None
    protocol: str | None = None
    timeout_s: float | None = None
    compression: str | None = None
    certificate: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None
    service_name: str | None = None
    resource: Mapping[str, ResourceValue] = {}
    content: bool = True

    def as_config(self) -> dict[str, Any]:
        """As plain JSON, from which `read_options` makes the same again; without what is as usual."""
        usual = Options()
        plain = {name: dict(value) if isinstance(value, Mapping) else value for name, value in self._asdict().items()}
        return {name: value for name, value in plain.items() if value != getattr(usual, name)}


def read_options(
    endpoint: str | None = None,
    headers: Mapping[str, str] | None = None,
    basic_auth: str | None = None,
    protocol: str | None = None,
    timeout_s: float | None = None,
    compression: str | None = None,
    certificate: str | None = None,
    client_certificate: str | None = None,
    client_key: str | None = None,
    service_name: str | None = None,
    resource: Mapping[str, ResourceValue] | None = None,
    content: bool = True,
    preset: str | None = None,
) -> Options:
    """The options if they are right; ConfigError if not. A preset is gone by then: it has become what it stands for."""
    checked = checked_headers(headers or {})
    if preset is not None:
        found = PRESETS.get(str(preset))
        if found is None:
            raise ConfigError(f"preset of an otel tracer is {preset!r}; there are {_listed(PRESETS)}.")
        if protocol == GRPC and endpoint is None:
            raise ConfigError(f"The preset {preset!r} is for HTTP. Name the endpoint for gRPC, or leave protocol out.")
        endpoint = endpoint or found.endpoint
        if not _has_credentials(checked):
            basic_auth = basic_auth or found.basic_auth
        given = {name.lower() for name in checked}
        checked = {**{name: value for name, value in found.headers.items() if name.lower() not in given}, **checked}
    if basic_auth is not None and _has_credentials(checked):
        raise ConfigError("An otel tracer has both basic_auth and the header Authorization. Leave one of them out.")
    if client_key is not None and client_certificate is None:
        raise ConfigError("client_key of an otel tracer goes with a client_certificate: the path of a PEM file.")
    return Options(
        endpoint=None if endpoint is None else checked_endpoint(endpoint),
        headers=checked,
        basic_auth=None if basic_auth is None else _checked_basic_auth(basic_auth),
        protocol=_checked_choice("protocol", protocol, PROTOCOLS),
        timeout_s=None if timeout_s is None else _checked_timeout(timeout_s),
        compression=_checked_choice("compression", compression, COMPRESSIONS),
        certificate=_checked_text("certificate", certificate, "ca.pem"),
        client_certificate=_checked_text("client_certificate", client_certificate, "client.pem"),
        client_key=_checked_text("client_key", client_key, "client.key"),
        service_name=_checked_text("service_name", service_name, "my-app"),
        resource=_checked_resource(resource or {}),
        content=_checked_content(content),
    )


def checked_endpoint(endpoint: object) -> str:
    """The endpoint if it can be one."""
    example = '"http://localhost:4318/v1/traces"'
    if not isinstance(endpoint, str):
        raise ConfigError(f"endpoint of an otel tracer is {endpoint!r}; it has to be a text such as {example}.")
    if "${" in endpoint:
        return endpoint
    try:
        parts = urlsplit(endpoint)
        host, _ = parts.hostname, parts.port  # a port that is no number raises
    except ValueError as problem:
        raise ConfigError(f"endpoint of an otel tracer cannot be read: {problem}. Right would be {example}.") from None
    if parts.username is not None or parts.password is not None:
        raise ConfigError(
            "endpoint of an otel tracer holds a user or a password, which would be shown wherever the endpoint is. Put "
            'them into basic_auth = "${USER}:${PASSWORD}".'
        )
    if parts.scheme not in ("http", "https") or not host or not re.fullmatch(r"[\x21-\x7e]+", endpoint):
        raise ConfigError(
            f"endpoint of an otel tracer is {endpoint!r}; it has to begin with http:// or https:// and a host, and to "
            f"hold no blank and no character beyond ASCII: {example}."
        )
    return endpoint


def _has_credentials(headers: Mapping[str, str]) -> bool:
    return any(name.lower() == "authorization" for name in headers)


def checked_headers(headers: object) -> dict[str, str]:
    """The headers if they can be some. An error shows no value."""
    if not isinstance(headers, Mapping):
        raise ConfigError(f"headers of an otel tracer have to be a table of texts: {_HEADERS_EXAMPLE}.")
    for name, value in headers.items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise ConfigError(f"{name!r} cannot be the name of a header. Right would be {_HEADERS_EXAMPLE}.")
        if name.lower() in _OWN_HEADERS:
            raise ConfigError(f"The header {name} of an otel tracer is set by the request itself. Leave it out.")
        if not isinstance(value, str) or not _HEADER_VALUE.fullmatch(value):
            raise ConfigError(
                f"The header {name} of an otel tracer has to be a text in one line, of Latin-1 characters: "
                f"{_HEADERS_EXAMPLE}."
            )
    if len({name.lower() for name in headers}) < len(headers):
        raise ConfigError("headers of an otel tracer name one header twice: they are the same in upper and lower case.")
    return dict(headers)


def _checked_basic_auth(pair: object) -> str:
    if not isinstance(pair, str) or not ("${" in pair or ":" in pair):
        raise ConfigError('basic_auth of an otel tracer has to be a user and a password: "${USER}:${PASSWORD}".')
    return pair


def _checked_choice(option: str, value: object, choices: Sequence[str]) -> str | None:
    if value is None or (isinstance(value, str) and value in choices):
        return value
    raise ConfigError(f"{option} of an otel tracer is {value!r}; it can be {_listed(choices)}.")


def _checked_timeout(timeout_s: object) -> float:
    if not isinstance(timeout_s, int | float) or isinstance(timeout_s, bool) or not 0 < timeout_s < math.inf:
        raise ConfigError(f"timeout_s of an otel tracer is {timeout_s!r}; it has to be a number of seconds above 0.")
    return float(timeout_s)


def _checked_text(option: str, value: object, example: str) -> str | None:
    if value is None or (isinstance(value, str) and value):
        return value
    raise ConfigError(f'{option} of an otel tracer is {value!r}; it has to be a text such as "{example}".')


def _checked_resource(resource: object) -> dict[str, ResourceValue]:
    if not isinstance(resource, Mapping) or not all(isinstance(name, str) and name for name in resource):
        raise ConfigError(f"resource of an otel tracer has to be a table: {_RESOURCE_EXAMPLE}.")
    for name, value in resource.items():
        if not isinstance(value, str | bool | int | float) or (isinstance(value, float) and not math.isfinite(value)):
            raise ConfigError(
                f"{name} in the resource of an otel tracer has to be a text, a number, true or false: "
                f"{_RESOURCE_EXAMPLE}."
            )
        if isinstance(value, int) and abs(value) >= 2**63:
            raise ConfigError(f"{name} in the resource of an otel tracer is a number that 64 bits cannot hold.")
    return dict(resource)


def _checked_content(content: object) -> bool:
    if not isinstance(content, bool):
        raise ConfigError(
            f"content of an otel tracer is {content!r}; true sends inputs, outputs and the like, false leaves them out."
        )
    return content


def _listed(choices: Iterable[str]) -> str:
    return ", ".join(f'"{each}"' for each in choices)
