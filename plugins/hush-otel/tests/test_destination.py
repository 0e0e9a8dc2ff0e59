"""Where an export goes; and that the keys of the environment go nowhere but to the endpoint of the environment."""

from __future__ import annotations

from typing import Any

import pytest

from hush_core import ConfigError
from hush_otel.config import GRPC, HTTP, read_options
from hush_otel.destination import Destination, to_destination

_E = "OTEL_EXPORTER_OTLP_"


def destination(environment: dict[str, str] | None = None, **options: Any) -> Destination:
    named = {f"{_E}{name}": value for name, value in (environment or {}).items()}
    return to_destination(read_options(**options), named)


def test_an_endpoint_is_used_as_it_is() -> None:
    for endpoint in ("http://localhost:4318", "https://a.example/v1/traces?x=1", "https://a.example/otlp/"):
        assert destination(endpoint=endpoint).endpoint == endpoint


@pytest.mark.parametrize(
    ("environment", "endpoint"),
    [
        ({}, "http://localhost:4318/v1/traces"),
        ({"ENDPOINT": ""}, "http://localhost:4318/v1/traces"),
        ({"ENDPOINT": "http://a.example:4318"}, "http://a.example:4318/v1/traces"),
        ({"ENDPOINT": "http://a.example/otlp/"}, "http://a.example/otlp/v1/traces"),
        ({"TRACES_ENDPOINT": "http://a.example/here"}, "http://a.example/here"),
        ({"TRACES_ENDPOINT": "http://a.example/here", "ENDPOINT": "http://b.example"}, "http://a.example/here"),
    ],
)
def test_without_one_the_environment_says_it(environment: dict[str, str], endpoint: str) -> None:
    assert destination(environment).endpoint == endpoint


@pytest.mark.parametrize(
    ("environment", "endpoint"),
    [
        ({}, "http://localhost:4317"),
        ({"ENDPOINT": "http://a.example:4317"}, "http://a.example:4317"),
        ({"ENDPOINT": "a.example:4317"}, "https://a.example:4317"),
        ({"ENDPOINT": "a.example:4317", "INSECURE": "true"}, "http://a.example:4317"),
    ],
)
def test_for_grpc_no_path_is_added(environment: dict[str, str], endpoint: str) -> None:
    found = destination({"PROTOCOL": "grpc", **environment})
    assert (found.endpoint, found.protocol) == (endpoint, GRPC)


def test_the_environment_says_the_rest_too() -> None:
    environment = {
        "ENDPOINT": "https://a.example",
        "HEADERS": "api-key=a%20b, X-Team = red",
        "TRACES_TIMEOUT": "3",
        "TIMEOUT": "4",
        "COMPRESSION": "gzip",
        "CERTIFICATE": "ca.pem",
        "CLIENT_CERTIFICATE": "client.pem",
        "CLIENT_KEY": "client.key",
    }
    assert destination(environment) == Destination(
        "https://a.example/v1/traces",
        {"api-key": "a b", "x-team": "red"},
        HTTP,
        3.0,
        "gzip",
        "ca.pem",
        "client.pem",
        "client.key",
    )


def test_what_the_tracer_says_comes_before_the_environment() -> None:
    environment = {
        "ENDPOINT": "https://a.example",
        "HEADERS": "a=1,Authorization=x",
        "TIMEOUT": "3",
        "COMPRESSION": "gzip",
    }
    found = destination(environment, headers={"A": "2"}, basic_auth="me:you", timeout_s=7, compression="none")
    assert found.headers == {"A": "2", "Authorization": "Basic bWU6eW91"}
    assert (found.timeout_s, found.compression) == (7, "none")


def test_a_tracer_with_an_endpoint_takes_nothing_from_the_environment() -> None:
    environment = {"ENDPOINT": "https://a.example", "HEADERS": "api-key=s3cret", "TIMEOUT": "3", "COMPRESSION": "gzip"}
    assert destination(environment, endpoint="https://b.example") == Destination("https://b.example", {})


def test_headers_without_an_endpoint_go_nowhere() -> None:
    assert destination({"HEADERS": "api-key=s3cret"}).headers == {}


def test_a_timeout_in_milliseconds_is_understood() -> None:
    assert destination({"TIMEOUT": "10000"}).timeout_s == 10.0


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"PROTOCOL": "http/json"}, "OTEL_EXPORTER_OTLP_PROTOCOL is 'http/json'; hush-otel knows http/protobuf, grpc"),
        ({"ENDPOINT": "a.example"}, "OTEL_EXPORTER_OTLP_ENDPOINT of the app's environment cannot be used"),
        ({"TRACES_ENDPOINT": "a.example"}, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT of the app's environment"),
        ({"ENDPOINT": "http://a.example", "HEADERS": "s3cret"}, "has to be name=value,name=value"),
        (
            {"ENDPOINT": "http://a.example", "HEADERS": "a=s3cret%0ab"},
            "The header a of an otel tracer has to be a text",
        ),
        ({"TIMEOUT": "soon"}, "OTEL_EXPORTER_OTLP_TIMEOUT is 'soon'"),
        ({"COMPRESSION": "zstd"}, "hush-otel knows none, gzip, deflate"),
    ],
)
def test_a_variable_that_makes_no_sense_is_named(environment: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        destination(environment)
    assert said in str(raised.value)
    assert "s3cret" not in str(raised.value)
