"""The tracer's options, checked twice: as written when an app makes the tracer, and resolved before they are used.

A wrong one is a ConfigError that says what would be right and shows no secret.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from hush_core import ConfigError, OptionCheck
from hush_otel.preset import PRESETS

HTTP: Final = "http/protobuf"
GRPC: Final = "grpc"
PROTOCOLS: Final = (HTTP, GRPC)
COMPRESSIONS: Final = ("none", "gzip", "deflate")

#: Said by the request itself.
_OWN_HEADERS: Final = frozenset(
    {"connection", "content-encoding", "content-length", "content-type", "host", "te", "transfer-encoding"}
)
_RESOURCE_EXAMPLE: Final = 'resource = { "deployment.environment.name" = "prod" }'

_CHECK: Final = OptionCheck("an otel tracer")

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
        timeout_s=None if timeout_s is None else _CHECK.timeout_s(timeout_s),
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
    credentials = 'Put them into basic_auth = "${USER}:${PASSWORD}".'
    return _CHECK.url("endpoint", endpoint, example='"http://localhost:4318/v1/traces"', credentials=credentials)


def checked_headers(headers: object) -> dict[str, str]:
    """The headers if they can be some."""
    return _CHECK.headers(headers, example='headers = { Authorization = "Bearer ${API_KEY}" }', own=_OWN_HEADERS)


def _has_credentials(headers: Mapping[str, str]) -> bool:
    return any(name.lower() == "authorization" for name in headers)


def _checked_basic_auth(pair: object) -> str:
    if not isinstance(pair, str) or not ("${" in pair or ":" in pair):
        raise ConfigError('basic_auth of an otel tracer has to be a user and a password: "${USER}:${PASSWORD}".')
    return pair


def _checked_choice(option: str, value: object, choices: Sequence[str]) -> str | None:
    if value is None or (isinstance(value, str) and value in choices):
        return value
    raise ConfigError(f"{option} of an otel tracer is {value!r}; it can be {_listed(choices)}.")


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
