"""Options are checked where the app makes the tracer; what is not given is what Langfuse's users have in variables."""

from __future__ import annotations

import traceback
from typing import Any

import pytest

from hush_core import ConfigError, ConfigurationFlushError
from hush_langfuse.config import Options, read_options
from hush_langfuse.tracer import LangfuseTracer

from .conftest import make_request


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"public_key": ""}, "public_key of a langfuse tracer is not a key"),
        ({"public_key": 3}, "public_key of a langfuse tracer is not a key"),
        ({"secret_key": "sk lf"}, "secret_key of a langfuse tracer is not a key"),
        ({"secret_key": "sk:lf"}, "secret_key of a langfuse tracer is not a key"),
        ({"public_key": "sk-lf-1"}, "the two keys are mixed up"),
        ({"secret_key": "pk-lf-1"}, "the two keys are mixed up"),
        ({"base_url": "cloud.langfuse.com"}, "has to begin with http:// or https://"),
        ({"base_url": ""}, "has to begin with http:// or https://"),
        ({"base_url": "https://"}, "has to begin with http:// or https:// and a host"),
        ({"base_url": "ftp://example.com"}, "has to begin with http:// or https://"),
        ({"base_url": "http://example.com/a b"}, "no blank"),
        ({"base_url": "http://example.com:port"}, "base_url of a langfuse tracer cannot be read"),
        ({"base_url": "https://example.com/api/public/otel"}, "without what comes after it"),
        ({"base_url": "https://example.com?project=1"}, "without what comes after it"),
        ({"base_url": ["https://example.com"]}, "has to be a text"),
        ({"environment": "Production"}, "at most 40 lower-case letters"),
        ({"environment": "langfuse-test"}, 'not beginning with "langfuse"'),
        ({"environment": "e" * 41}, "at most 40 lower-case letters"),
        ({"environment": 1}, "environment of a langfuse tracer is 1; it has to be a text"),
        ({"release": 1.5}, "release of a langfuse tracer is 1.5; it has to be a text"),
        ({"version": 2}, "version of a langfuse tracer is 2; it has to be a text"),
        ({"headers": ["a"]}, "have to be a table of texts"),
        ({"headers": {"a b": "c"}}, "a name that begins with 'a' and goes on"),
        ({"headers": {"Authorization": "c"}}, "The header Authorization of a langfuse tracer is set by"),
        ({"headers": {"X-Langfuse-Ingestion-Version": "3"}}, "is set by the request itself"),
        ({"headers": {"Key": 3}}, "The header Key of a langfuse tracer has to be a text"),
        ({"upload_media": "yes"}, "it has to be true or false"),
        ({"timeout_s": 0}, "a number of seconds above 0"),
        ({"timeout_s": True}, "a number of seconds above 0"),
        ({"timeout_s": float("inf")}, "a number of seconds above 0"),
        ({"timeout_s": "10s"}, "a number of seconds above 0"),
    ],
)
def test_a_wrong_option_is_an_error_that_says_what_would_be_right(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        LangfuseTracer(**options)
    assert said in str(raised.value)


@pytest.mark.parametrize(
    "options",
    [
        {"base_url": "https://me:s3cret@example.com"},
        {"base_url": "https://me:s3cret/@example.com"},
        {"base_url": "ftp://example.com/?key=s3cret"},
        {"base_url": "https://example.com/?key=s3cret"},
        {"headers": {"Key": "s3cret\n"}},
        {"secret_key": "pk-lf-s3cret"},
        {"secret_key": "s3cret key"},
    ],
)
def test_an_error_shows_no_secret(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as raised:
        LangfuseTracer(**options)
    assert "s3cret" not in "".join(traceback.format_exception(raised.type, raised.value, None))


def test_options_show_no_key() -> None:
    options = read_options("pk-lf-1", "sk-lf-1", "https://example.com", headers={"Key": "s3cret"})
    assert repr(options) == "<Options for https://example.com>"


def test_without_options_the_keys_are_the_variables_and_the_server_is_langfuses_cloud() -> None:
    assert LangfuseTracer()._get_tracer_config() == {
        "public_key": "${LANGFUSE_PUBLIC_KEY}",
        "secret_key": "${LANGFUSE_SECRET_KEY}",
        "base_url": "https://cloud.langfuse.com",
        "upload_media": True,
        "timeout_s": 30.0,
    }


def test_a_variable_that_is_set_is_recorded_as_a_reference_and_never_by_its_value(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("BASE_URL", "HOST", "TRACING_ENVIRONMENT", "RELEASE"):
        monkeypatch.setenv(f"LANGFUSE_{name}", "https://example.com")
    config = LangfuseTracer()._get_tracer_config()
    assert config["base_url"] == "${LANGFUSE_BASE_URL}"
    assert config["environment"] == "${LANGFUSE_TRACING_ENVIRONMENT}"
    assert config["release"] == "${LANGFUSE_RELEASE}"


def test_the_older_name_of_the_address_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGFUSE_BASE_URL", "")
    monkeypatch.setenv("LANGFUSE_HOST", "https://example.com")
    assert LangfuseTracer()._get_tracer_config()["base_url"] == "${LANGFUSE_HOST}"


def test_an_option_counts_more_than_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGFUSE_BASE_URL", "https://example.com")
    monkeypatch.setenv("LANGFUSE_RELEASE", "r-1")
    config = LangfuseTracer(base_url="http://localhost:3000/", release="r-2")._get_tracer_config()
    assert (config["base_url"], config["release"]) == ("http://localhost:3000", "r-2")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"public_key": "${KEY}", "secret_key": "${SECRET}", "base_url": "${URL}", "environment": "${ENV}"},
        {"base_url": "http://[::1]:3000/langfuse", "environment": "prod-eu_1", "release": "abc", "version": "2"},
        {"headers": {"CF-Access-Client-Secret": "${SECRET}"}, "upload_media": False, "timeout_s": 3},
    ],
)
def test_what_is_recorded_makes_the_same_tracer_again(options: dict[str, Any]) -> None:
    config = LangfuseTracer(**options)._get_tracer_config()
    assert LangfuseTracer(**config)._get_tracer_config() == config


@pytest.mark.parametrize(
    "config",
    [
        {"public_key": "pk-lf-1", "secret_key": "sk-lf-1", "base_url": "nowhere"},
        {"public_key": "pk-lf-1", "secret_key": "", "base_url": "https://example.com"},
        {"public_key": "pk-lf-1", "secret_key": "sk-lf-1", "colour": "red"},
    ],
)
def test_a_configuration_that_makes_no_sense_when_it_is_resolved_waits_until_somebody_acts(
    config: dict[str, Any],
) -> None:
    with pytest.raises(ConfigurationFlushError):
        LangfuseTracer.flush(make_request(tracer_config=config))


def test_an_environment_that_a_variable_holds_is_langfuses_to_judge() -> None:
    assert read_options(environment="Production").environment == "Production"


def test_a_line_break_at_the_end_of_a_key_is_none_of_it() -> None:
    assert read_options("pk-lf-1\n", " sk-lf-1").secret_key == "sk-lf-1"


def test_an_empty_variable_is_none() -> None:
    assert read_options(environment="", release="", version="") == Options()
