"""Secrets are taken out of text in every shape in which they are met; the text stays readable."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hush_core.delivery.redaction import Redaction

SECRET = 'sk-l"f/ä+7d9&21'


def test_text_without_a_secret_stays_as_it_is() -> None:
    assert Redaction([SECRET])("connection refused by 10.0.0.1:443") == "connection refused by 10.0.0.1:443"
    assert Redaction()("anything") == "anything"


@pytest.mark.parametrize("shape", [str, repr, json.dumps, quote, lambda text: quote(text, safe="")])
def test_a_secret_is_found_in_each_shape(shape: object) -> None:
    written = shape(SECRET)  # type: ignore[operator]
    assert "7d9" in written
    redacted = Redaction([SECRET])(f"POST /?key={written} failed")
    assert "7d9" not in redacted and redacted.startswith("POST /?key=") and redacted.endswith(" failed")


@given(st.binary(max_size=5), st.binary(max_size=5))
def test_a_secret_is_found_within_base64(before: bytes, after: bytes) -> None:
    secret = "a-long-secret-key-0123456789"
    written = base64.b64encode(before + secret.encode() + after).decode()
    redacted = Redaction([secret])(f"header {written}")
    assert len(redacted.replace("[redacted]", "")) < len("header ") + 8 * 2 + 4


def test_of_two_secrets_that_begin_alike_nothing_is_left() -> None:
    assert Redaction(["abcd", "abcdefgh"])("x abcdefgh y abcd") == "x [redacted] y [redacted]"


def test_a_secret_of_several_lines_is_found_line_by_line() -> None:
    key = "-----BEGIN KEY-----\nMIIEpAIBAAKCAQEA\nq8Zt+1hRk\n-----END KEY-----"
    assert "MIIE" not in Redaction([key])("loaded MIIEpAIBAAKCAQEA ok")


def test_a_value_too_short_to_guard_anything_is_left() -> None:
    assert Redaction(["1", "", "eu"])("eu region 1") == "eu region 1"


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ("send Authorization: Bearer abc.def-123 to host", "send Authorization: [redacted] to host"),
        ("{'Authorization': 'Basic cGs6c2s=', 'Accept': '*/*'}", "{'Authorization': '[redacted]', 'Accept': '*/*'}"),
        ('{"x-api-key": "k-1", "a": 1}', '{"x-api-key": "[redacted]", "a": 1}'),
        (r"header: b'authorization: Basic eA==\r\n'", r"header: b'authorization: [redacted]\r\n'"),
        ("[('authorization', 'Token t0k')]", "[('authorization', '[redacted]')]"),
        ("got bearer eyJhbGciOi.J9 back", "got bearer [redacted] back"),
        ("Basic authentication is required", "Basic authentication is required"),
    ],
)
def test_what_looks_like_a_credential_is_taken_out_though_nobody_named_it(said: str, left: str) -> None:
    assert Redaction()(said) == left


def test_what_is_redacted_stays_as_it_is_when_redacted_again() -> None:
    redaction = Redaction([SECRET])
    once = redaction(f"Authorization: Basic {SECRET}")
    assert redaction(once) == once


def test_the_beginning_of_a_long_text_says_how_long_it_was() -> None:
    assert Redaction().beginning("x" * 50, 10) == "xxxxxxxxxx... (50 characters in all)"
    assert Redaction().beginning("x" * 10, 10) == "x" * 10


@given(st.integers(0, 400), st.integers(5, 40))
def test_no_part_of_a_secret_is_left_where_a_long_text_is_cut(before: int, length: int) -> None:
    secret = "0123456789abcdef"
    text = "." * before + secret * 60
    assert not any(part in Redaction([secret]).beginning(text, length) for part in ("0123", "abcd", "4567"))
