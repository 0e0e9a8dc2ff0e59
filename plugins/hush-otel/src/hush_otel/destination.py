"""Where an export goes: what the tracer says, and for a tracer that names no endpoint, what its app's environment says.

The variables are those of every OpenTelemetry exporter. They are one set: its headers, which may be a vendor's key, go
to its endpoint and to no other. So a tracer that names an endpoint takes nothing from them: no two tracers share a key.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import unquote

from hush_core import ConfigError
from hush_otel.config import COMPRESSIONS, GRPC, HTTP, PROTOCOLS, Options, checked_endpoint, checked_headers

_PREFIX: Final = "OTEL_EXPORTER_OTLP_"
#: Where a collector on this machine listens.
_DEFAULT: Final = {HTTP: "http://localhost:4318/v1/traces", GRPC: "http://localhost:4317"}
_PATH: Final = "/v1/traces"
#: Longer than the ten seconds of an SDK. Nobody waits for a delivery; but one that is given up too soon may have
#: arrived all the same, and is sent again.
_TIMEOUT_S: Final = 30.0
#: Nobody waits so many seconds; whoever writes so many means milliseconds, as the specification has it. The SDK for
#: Python reads seconds.
_MILLISECONDS_FROM: Final = 1000


class Destination(NamedTuple):
    """Where to, and how."""

    endpoint: str  #: the whole URL for HTTP
    headers: Mapping[str, str]
    protocol: str = HTTP
    timeout_s: float = _TIMEOUT_S
    compression: str = "none"
    certificate: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None


def to_destination(options: Options, environment: Mapping[str, str]) -> Destination:
    """What the options come to in an environment. ConfigError for a variable that makes no sense."""
    if options.endpoint is not None:
        return _named(options, options.endpoint)
    return _of_environment(options, _Variables(environment))


def _named(options: Options, endpoint: str) -> Destination:
    if "${" in endpoint:
        raise ConfigError("endpoint of an otel tracer holds ${ that begins no reference; one is written ${NAME}.")
    return Destination(
        endpoint,
        _with_credentials(options.headers, options),
        options.protocol or HTTP,
        options.timeout_s or _TIMEOUT_S,
        options.compression or "none",
        options.certificate,
        options.client_certificate,
        options.client_key,
    )


def _of_environment(options: Options, variables: _Variables) -> Destination:
    protocol = options.protocol or variables.choice("PROTOCOL", PROTOCOLS) or HTTP
    endpoint = variables.endpoint(protocol)
    headers = dict(options.headers)
    if endpoint is not None:  # else it is the default, for which they were not meant
        given = {name.lower() for name in headers} | ({"authorization"} if options.basic_auth else set())
        headers = {**{name: value for name, value in variables.headers().items() if name not in given}, **headers}
    return Destination(
        endpoint or _DEFAULT[protocol],
        _with_credentials(headers, options),
        protocol,
        options.timeout_s or variables.timeout_s() or _TIMEOUT_S,
        options.compression or variables.choice("COMPRESSION", COMPRESSIONS) or "none",
        options.certificate or variables.get("CERTIFICATE"),
        options.client_certificate or variables.get("CLIENT_CERTIFICATE"),
        options.client_key or variables.get("CLIENT_KEY"),
    )


def _with_credentials(headers: Mapping[str, str], options: Options) -> dict[str, str]:
    if options.basic_auth is None:
        return dict(headers)
    return {**headers, "Authorization": f"Basic {b64encode(options.basic_auth.encode()).decode()}"}


class _Variables:
    """`OTEL_EXPORTER_OTLP_TRACES_NAME`, else `OTEL_EXPORTER_OTLP_NAME`. An empty one is none."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def get(self, name: str) -> str | None:
        return self._get(f"TRACES_{name}") or self._get(name)

    def _get(self, name: str) -> str | None:
        return self._environment.get(f"{_PREFIX}{name}", "").strip() or None

    def choice(self, name: str, choices: tuple[str, ...]) -> str | None:
        value = self.get(name)
        if value is not None and value.lower() not in choices:
            raise ConfigError(
                f"{_PREFIX}{name} is {value!r}; hush-otel knows {', '.join(choices)}. Set it so, or give the tracer "
                f"{name.lower()} and endpoint of its own."
            )
        return None if value is None else value.lower()

    def endpoint(self, protocol: str) -> str | None:
        """The whole URL: a path is added to the one for all signals, and not to the one for traces."""
        of_traces, of_all = self._get("TRACES_ENDPOINT"), self._get("ENDPOINT")
        found = of_traces or of_all
        if found is None:
            return None
        if protocol == GRPC and "://" not in found:
            insecure = (self.get("INSECURE") or "").lower() == "true"
            found = f"{'http' if insecure else 'https'}://{found}"
        elif protocol == HTTP and of_traces is None:
            found = f"{found.rstrip('/')}{_PATH}"
        try:
            return checked_endpoint(found)
        except ConfigError as problem:
            name = f"{_PREFIX}TRACES_ENDPOINT" if of_traces else f"{_PREFIX}ENDPOINT"
            raise ConfigError(f"{name} of the app's environment cannot be used: {problem}") from problem

    def headers(self) -> dict[str, str]:
        """`name=value,name=value`, with the values as URLs write them; names in lower case."""
        headers = {}
        for pair in (self.get("HEADERS") or "").split(","):
            name, equals, value = pair.partition("=")
            if equals:
                headers[unquote(name).strip().lower()] = unquote(value).strip()
            elif pair.strip():
                raise ConfigError(f"{_PREFIX}HEADERS of the app's environment has to be name=value,name=value.")
        return checked_headers(headers)

    def timeout_s(self) -> float | None:
        value = self.get("TIMEOUT")
        try:
            seconds = float(value) if value is not None else 0.0
        except ValueError:
            seconds = -1.0
        if not 0 <= seconds < float("inf"):
            raise ConfigError(f"{_PREFIX}TIMEOUT is {value!r}; it has to be a number of seconds.")
        return seconds / 1000 if seconds >= _MILLISECONDS_FROM else seconds
