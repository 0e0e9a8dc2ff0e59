"""Images, audio and other files are uploaded once, before the trace that refers to them, or leave a note instead."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hush_core import ConfigurationFlushError, FlushData, FlushError, RetryableFlushError
from hush_langfuse.media import CONTENT_TYPES, Medium, replace_media, sniff
from hush_langfuse.tracer import LangfuseTracer

from .conftest import config, make_request, node
from .langfuse_server import BUCKET_PATH, MEDIA_PATH, Answer, Heard, LangfuseServer

PNG = b"\x89PNG\r\n\x1a\n a picture"
B64 = base64.b64encode(PNG).decode()
REFERENCE = Medium(PNG, "image/png").reference()


def replaced(value: Any, part: str = "input_data") -> Any:
    return replace_media(node(**{part: value}), lambda medium, field: f"<{medium.content_type}>")[part]  # type: ignore[literal-required]


# -- finding them -----------------------------------------------------------------------------------------------------


def test_an_id_and_a_reference_are_those_that_langfuse_computes() -> None:
    langfuse_media = pytest.importorskip("langfuse.media")
    theirs = langfuse_media.LangfuseMedia(content_bytes=PNG, content_type="image/png")
    assert theirs._reference_string == REFERENCE
    assert theirs._content_sha256_hash == Medium(PNG, "image/png").sha256


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ({"$bytes": B64}, "<image/png>"),
        (PNG, "<image/png>"),
        ({"type": "base64", "media_type": "image/jpeg", "data": B64},
         {"type": "base64", "media_type": "image/jpeg", "data": "<image/jpeg>"}),
        ({"type": "media", "mime_type": "audio/wav", "data": B64},
         {"type": "media", "mime_type": "audio/wav", "data": "<audio/wav>"}),
        ({"inline_data": {"mime_type": "application/pdf", "data": B64}},
         {"inline_data": {"mime_type": "application/pdf", "data": "<application/pdf>"}}),
        ({"inlineData": {"mimeType": "image/webp", "data": {"$bytes": B64}}},
         {"inlineData": {"mimeType": "image/webp", "data": "<image/webp>"}}),
        ({"type": "input_audio", "input_audio": {"data": B64, "format": "wav"}},
         {"type": "input_audio", "input_audio": {"data": "<audio/wav>", "format": "wav"}}),
        ({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{B64}"}},
         {"type": "image_url", "image_url": {"url": "<image/png>"}}),
        ([{"content": [f"data:text/plain;charset=utf-8;base64,{B64}"]}], [{"content": ["<text/plain>"]}]),
        ({"type": "image/x-odd", "data": {"$bytes": B64}}, {"type": "image/x-odd", "data": "<image/png>"}),
        ({"type": "image/x-odd", "data": {"$bytes": "AAEC"}},
         {"type": "image/x-odd", "data": "<application/octet-stream>"}),
    ],
)  # fmt: skip
def test_media_are_found_as_each_provider_writes_them(value: Any, found: Any) -> None:
    assert replaced(value) == found


@pytest.mark.parametrize(
    "value",
    [
        "data:nothing",
        "data:image/png;base64,***",
        "database",
        {"$bytes": "AAEC"},
        {"$bytes": "***"},
        {"$bytes": ""},
        {"type": "text/plain", "data": "four"},
        {"media_type": "image/png", "data": "no base64"},
        {"data": B64},
        {"image": REFERENCE},
        {"type": "image/png", "data": {"$bytes": ""}},
    ],
)
def test_what_is_no_file_stays_as_it_is(value: Any) -> None:
    assert replaced(value) == value


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["data", "type", "$bytes"]), inner),
    max_leaves=20,
)


@given(_VALUES)
def test_a_node_without_media_is_given_back_and_not_copied(value: Any) -> None:
    whole = node(input_data=value, output_data=value, metadata=value)
    assert replace_media(whole, lambda medium, field: "found") is whole


def test_the_node_is_not_changed() -> None:
    whole = node(media=[{"$bytes": B64}])
    assert replace_media(whole, lambda medium, field: "found")["media"] == ["found"]
    assert whole["media"] == [{"$bytes": B64}]


def test_any_bytes_that_were_recorded_as_media_are_a_file() -> None:
    assert replaced({"$bytes": "AAEC"}, "media") == "<application/octet-stream>"


def test_each_is_told_the_field_that_langfuse_will_look_in() -> None:
    heard = []
    parts = {part: {"$bytes": B64} for part in ("input_data", "output_data", "metadata", "media")}
    replace_media(node(**parts), lambda medium, field: heard.append(field) or "")  # type: ignore[func-returns-value]
    assert heard == ["input", "output", "metadata", "metadata"]


@pytest.mark.parametrize(
    ("beginning", "kind"),
    [
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "image/webp"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", "audio/wav"),
        (b"ID3\x04", "audio/mpeg"),
        (b"OggS", "audio/ogg"),
        (b"fLaC", "audio/flac"),
        (b"%PDF-1.7", "application/pdf"),
        (b"\x00\x00\x00\x18ftypmp42", "video/mp4"),
        (b"hello", None),
    ],
)
def test_a_file_is_known_by_how_it_begins(beginning: bytes, kind: str | None) -> None:
    assert sniff(beginning) == kind
    assert kind is None or kind in CONTENT_TYPES


# -- uploading them ---------------------------------------------------------------------------------------------------


def with_picture(server: LangfuseServer, *, attempt: int = 1, **options: Any) -> FlushData:
    media = [{"data": {"$bytes": B64}, "type": "image/png", "name": "chart.png"}]
    return make_request(node(number=7, media=media), attempt=attempt, tracer_config=config(server, **options))


def media_said(server: LangfuseServer) -> str:
    """What stands for the picture in the one span that was sent."""
    [span] = server.spans
    [media] = json.loads(span["attributes"]["langfuse.observation.metadata.media"])
    assert (media["type"], media["name"]) == ("image/png", "chart.png")
    said: str = media["data"]
    return said


def test_a_file_is_uploaded_before_the_trace_that_refers_to_it(server: LangfuseServer) -> None:
    LangfuseTracer.flush(with_picture(server))
    announced, stored, told, _ = server.heard
    assert [heard.method for heard in server.heard] == ["POST", "PUT", "PATCH", "POST"]
    assert announced.json == {
        "traceId": "0af7651916cd43dd8448eb211c80319c",
        "observationId": "0000000000000007",
        "contentType": "image/png",
        "contentLength": len(PNG),
        "sha256Hash": Medium(PNG, "image/png").sha256,
        "field": "metadata",
    }
    assert stored.headers["content-type"] == "image/png"
    assert stored.headers["x-amz-checksum-sha256"] == Medium(PNG, "image/png").sha256
    assert "authorization" not in stored.headers
    assert told.json["uploadHttpStatus"] == 200
    assert server.stored == {Medium(PNG, "image/png").id: PNG}
    assert media_said(server) == REFERENCE


def test_a_file_that_is_there_many_times_is_uploaded_once(server: LangfuseServer) -> None:
    twice = node("twice", 1, input_data=[{"$bytes": B64}, {"$bytes": B64}], output_data={"$bytes": B64})
    other = node("other", 2, 1, media={"$bytes": B64})
    request = make_request(twice, other, tracer_config=config(server))
    LangfuseTracer.flush_batch([request, {**request, "request_id": "r-2", "trace_id": "f" * 32}])
    assert len(server.calls("PUT", "")) == 1
    announced = [heard.json for heard in server.calls("POST", MEDIA_PATH)]
    places = [(each["traceId"][0], each["observationId"][-1], each["field"]) for each in announced]
    assert places == [
        (trace, *place) for trace in "0f" for place in [("1", "input"), ("1", "output"), ("2", "metadata")]
    ]


def test_a_second_attempt_uploads_nothing_again(server: LangfuseServer) -> None:
    server.answers = lambda heard: Answer(503) if heard.path.endswith("/v1/traces") else None
    with pytest.raises(RetryableFlushError):
        LangfuseTracer.flush(with_picture(server))
    server.answers = lambda heard: None
    LangfuseTracer.flush(with_picture(server, attempt=2))
    assert len(server.calls("PUT", "")) == 1


def test_the_id_is_the_one_that_langfuse_says(server: LangfuseServer) -> None:
    known = Answer(201, b'{"mediaId": "its-own", "uploadUrl": null}')
    server.answers = lambda heard: known if heard.path == MEDIA_PATH else None
    LangfuseTracer.flush(with_picture(server))
    assert media_said(server) == "@@@langfuseMedia:type=image/png|id=its-own|source=bytes@@@"


Fails = Callable[[Heard], bool]


def announcing(heard: Heard) -> bool:
    return heard.path == MEDIA_PATH


def storing(heard: Heard) -> bool:
    return heard.path.startswith(BUCKET_PATH)


def telling(heard: Heard) -> bool:
    return heard.method == "PATCH"


@pytest.mark.parametrize(
    ("where", "answer", "said"),
    [
        (announcing, Answer(400, b'{"message": "Invalid content type"}'), "HTTP 400 Bad Request: .*Invalid content"),
        (announcing, Answer(404, b"{}"), "HTTP 404"),
        (announcing, Answer(405, b"{}"), "HTTP 405"),
        (announcing, Answer(413, b"{}"), "HTTP 413"),
        (announcing, Answer(200, b""), "named no place for it"),
        (announcing, Answer(500, b'{"message": "Media upload to blob storage not enabled or no bucket configured"}'),
         "no bucket configured"),
        (storing, Answer(302, b"", {"Location": "/"}), "HTTP 302"),
        (storing, Answer(403, b"<Code>SignatureDoesNotMatch</Code>"), "SignatureDoesNotMatch"),
        (storing, Answer(413, b""), "HTTP 413"),
        (telling, Answer(404, b"{}"), "HTTP 404"),
        (telling, Answer(400, b"{}"), "HTTP 400"),
    ],
)  # fmt: skip
def test_a_file_that_can_never_be_uploaded_leaves_a_note_and_its_trace_goes(
    where: Fails, answer: Answer, said: str, server: LangfuseServer
) -> None:
    server.answers = lambda heard: answer if where(heard) else None
    LangfuseTracer.flush(with_picture(server))
    note = media_said(server)
    assert note.startswith(f"… [not uploaded: image/png, {len(PNG)} bytes: ")
    assert re.search(said, note)


def test_langfuse_is_told_how_storing_failed(server: LangfuseServer) -> None:
    server.answers = lambda heard: Answer(403, b"denied") if storing(heard) else None
    LangfuseTracer.flush(with_picture(server))
    [told] = server.calls("PATCH", "")
    assert (told.json["uploadHttpStatus"], "denied" in told.json["uploadHttpError"]) == (403, True)


@pytest.mark.parametrize("where", [announcing, storing, telling])
@pytest.mark.parametrize(
    "answer",
    [Answer(429, b"", {"Retry-After": "9"}), Answer(500), Answer(503), Answer(how="reset"), Answer(how="hang")],
)
def test_a_file_that_may_be_uploaded_later_makes_its_trace_wait(
    where: Fails, answer: Answer, server: LangfuseServer
) -> None:
    server.answers = lambda heard: answer if where(heard) else None
    with pytest.raises(RetryableFlushError) as raised:
        LangfuseTracer.flush(with_picture(server, timeout_s=0.5 if answer.how == "hang" else 30))
    assert raised.value.__cause__ is not None or answer.how == "answer"
    assert answer.status != 429 or raised.value.retry_after_s == 9
    assert server.spans == []


@pytest.mark.parametrize("where", [announcing, storing, telling])
def test_a_file_that_cannot_be_uploaded_in_many_attempts_no_longer_holds_its_trace_up(
    where: Fails, server: LangfuseServer
) -> None:
    server.answers = lambda heard: Answer(500, b'{"message": "broken"}') if where(heard) else None
    LangfuseTracer.flush(with_picture(server, attempt=5))
    assert "not uploaded" in media_said(server) and "HTTP 500" in media_said(server)


@pytest.mark.parametrize("status", [401, 403, 302])
def test_what_is_wrong_for_media_and_traces_alike_waits_until_somebody_acts(
    status: int, server: LangfuseServer
) -> None:
    server.answers = lambda heard: Answer(status) if announcing(heard) else None
    with pytest.raises(ConfigurationFlushError):
        LangfuseTracer.flush(with_picture(server, attempt=9))
    assert server.spans == []


def test_without_upload_media_there_is_a_note_and_no_upload(server: LangfuseServer) -> None:
    LangfuseTracer.flush(with_picture(server, upload_media=False))
    assert [heard.path for heard in server.heard] == ["/api/public/otel/v1/traces"]
    assert media_said(server) == f"… [not uploaded: image/png, {len(PNG)} bytes: upload_media is off]"


def test_no_error_shows_the_key_to_the_bucket(server: LangfuseServer) -> None:
    place = b'{"mediaId": "m", "uploadUrl": "http://127.0.0.1:9/bucket?X-Amz-Signature=s3cret"}'
    server.answers = lambda heard: Answer(201, place) if announcing(heard) else None
    with pytest.raises(FlushError) as raised:
        LangfuseTracer.flush(with_picture(server))
    assert "127.0.0.1:9" in str(raised.value) and "s3cret" not in str(raised.value)


def test_google_is_sent_no_header_that_it_did_not_sign(server: LangfuseServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    place = b'{"mediaId": "m", "uploadUrl": "http://storage.googleapis.com/bucket/m"}'

    def answers(heard: Heard) -> Answer | None:
        return Answer(201, place) if announcing(heard) else Answer() if heard.method != "POST" else None

    server.answers = answers
    LangfuseTracer.flush(with_picture(server))
    [stored] = [heard for heard in server.heard if heard.method == "PUT"]
    assert not {"x-ms-blob-type", "x-amz-checksum-sha256"} & set(stored.headers)
