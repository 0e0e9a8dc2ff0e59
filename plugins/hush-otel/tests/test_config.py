"""Options are checked where the app makes the tracer, with a message that says what would be right."""

from __future__ import annotations

import traceback
from typing import Any

import pytest

from hush_core import ConfigError, get_tracer
from hush_otel.config import read_options
from hush_otel.preset import PRESETS
from hush_otel.tracer import OTelTracer


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"endpoint": 3}, "endpoint of an otel tracer has to be a text"),
        ({"endpoint": "localhost:4318"}, "has to begin with http:// or https://"),
        ({"endpoint": "https://"}, "has to begin with http:// or https:// and a host"),
        ({"endpoint": "http://example.com/a b"}, "no blank"),
        ({"endpoint": "http://example.com:port"}, "endpoint of an otel tracer cannot be read"),
        ({"endpoint": "http://me:s3cret@example.com"}, 'basic_auth = "${USER}:${PASSWORD}"'),
        ({"headers": ["a"]}, "have to be a table of texts"),
        ({"headers": {"a b": "c"}}, "a name that begins with 'a' and goes on"),
        ({"headers": {"Content-Type": "c"}}, "The header Content-Type of an otel tracer is set by"),
        ({"headers": {"Key": 3}}, "The header Key of an otel tracer has to be a text"),
        ({"headers": {"Key": "a", "key": "b"}}, "name one header twice"),
        ({"headers": {"authorization": "a"}, "basic_auth": "a:b"}, "Leave one of them out"),
        ({"basic_auth": "nobody"}, 'a user and a password: "${USER}:${PASSWORD}"'),
        ({"protocol": "http/json"}, 'it can be "http/protobuf", "grpc"'),
        ({"compression": "zstd"}, 'it can be "none", "gzip", "deflate"'),
        ({"timeout_s": 0}, "a number of seconds above 0"),
        ({"timeout_s": True}, "a number of seconds above 0"),
        ({"timeout_s": "10s"}, "a number of seconds above 0"),
        ({"timeout_s": float("nan")}, "a number of seconds above 0"),
        ({"certificate": ""}, 'it has to be a text such as "ca.pem"'),
        ({"client_key": "k.pem"}, "goes with a client_certificate"),
        ({"service_name": 3}, "service_name of an otel tracer is 3"),
        ({"resource": "a=b"}, "resource of an otel tracer has to be a table"),
        ({"resource": {"a": [1]}}, "a in the resource of an otel tracer has to be a text, a number, true or false"),
        ({"resource": {"a": float("inf")}}, "has to be a text, a number, true or false"),
        ({"resource": {"a": 2**63}}, "64 bits cannot hold"),
        ({"content": "no"}, "false leaves them out"),
        ({"preset": ["phoenix"]}, "there are"),
        ({"preset": "honeycrisp"}, 'there are "grafana", "honeycomb"'),
        ({"preset": "phoenix", "protocol": "grpc"}, "The preset 'phoenix' is for HTTP"),
    ],
)
def test_a_wrong_option_is_an_error_that_says_what_would_be_right(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        OTelTracer(**options)
    assert said in str(raised.value)


@pytest.mark.parametrize(
    "options",
    [
        {"endpoint": "https://me:s3cret@example.com"},
        {"endpoint": "https://me:s3cret/@example.com"},
        {"endpoint": "ftp://example.com/?key=s3cret"},
        {"endpoint": "https://me:s3cret@example.com:port"},
        {"headers": {"Key": "s3cret\n"}},
        {"headers": {"Key": "s3cret", "KEY": "s3cret"}},
        {"basic_auth": "s3cret"},
    ],
)
def test_an_error_shows_no_secret(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as raised:
        read_options(**options)
    assert "s3cret" not in "".join(traceback.format_exception(raised.type, raised.value, None))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"endpoint": "${OTLP_ENDPOINT}", "headers": {"Authorization": "Bearer ${KEY}"}},
        {"endpoint": "http://[::1]:4317", "protocol": "grpc", "timeout_s": 3, "compression": "gzip"},
        {"service_name": "shop", "resource": {"a": 1, "b": "c", "d": True, "e": 0.5}, "content": False},
        {"endpoint": "https://a.example", "certificate": "ca", "client_certificate": "c", "client_key": "k"},
        {"preset": "langfuse"},
        {"preset": "honeycomb", "endpoint": "https://api.eu1.honeycomb.io/v1/traces"},
    ],
)
def test_what_is_recorded_makes_the_same_tracer_again(options: dict[str, Any]) -> None:
    config = OTelTracer(**options)._get_tracer_config()
    assert "preset" not in config
    assert OTelTracer(**config)._get_tracer_config() == config
    assert all(config[name] == value for name, value in options.items() if name != "preset")


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_an_endpoint_and_headers(name: str) -> None:
    config = get_tracer("otel", preset=name)._get_tracer_config()
    assert set(config) <= {"endpoint", "headers", "basic_auth"}
    assert config["endpoint"].endswith("/v1/traces")


def test_what_is_given_beside_a_preset_comes_first() -> None:
    options = read_options(
        preset="mlflow", endpoint="https://ml.example/v1/traces", headers={"X-MLflow-Experiment-Id": "7"}
    )
    assert options.endpoint == "https://ml.example/v1/traces"
    assert options.headers == {"X-MLflow-Experiment-Id": "7"}
    own = read_options(preset="langfuse", headers={"Authorization": "Basic ${PAIR}"})
    assert own.basic_auth is None
    assert own.headers == {"x-langfuse-ingestion-version": "4", "Authorization": "Basic ${PAIR}"}
