"""The conversation with Langfuse: media first, then spans, within one deadline; what it answers becomes an outcome.

Through the part of Langfuse's package that says when something fails (`LangfuseAPI`). Never `Langfuse()`, which hides
every failure, starts threads, makes itself global and delays the exit. Here is no thread, no retry and nothing that
runs at the exit: hush tries again. Imported by the delivery process alone: it takes a third of a second.
"""

from __future__ import annotations

import json
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timezone
from importlib.metadata import version
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import httpx
from langfuse.api import LangfuseAPI, MediaContentType
from langfuse.api.core import ApiError
from pydantic import ValidationError

from hush_core import (
    ConfigurationFlushError,
    FlushData,
    FlushError,
    NodeData,
    PermanentFlushError,
    RetryableFlushError,
    error_for_status,
)
from hush_langfuse.config import CLOUD_URL, Options
from hush_langfuse.mapping import Labels, Span, to_resource_spans, to_spans
from hush_langfuse.media import Medium, replace_media
from hush_langfuse.transport import BoundedTransport, Deadline

T = TypeVar("T")

_SDK_VERSION: Final = version("langfuse")
_TRACES_PATH: Final = "/api/public/otel/v1/traces"
#: About how many bytes of spans go into one export. Compressed it is under a megabyte, where many a proxy stops.
_EXPORT_BYTES: Final = 4_000_000
#: After an answer that was lost, Langfuse may be at work on what it got.
_AMBIGUOUS_WAIT_S: Final = 5.0
#: From this attempt on, a medium that still cannot be uploaded no longer holds its trace up.
_LAST_MEDIA_ATTEMPT: Final = 5
#: What a server of one's own without a bucket for media says, with status 500.
_NO_BUCKET: Final = "not enabled or no bucket"


def deliver(options: Options, requests: Iterable[FlushData]) -> str | None:
    """Deliver requests, all or none. Returning means that Langfuse has all of them; a text is what it noted.

    Raises a FlushError that says what to do. It is over within `options.timeout_s`.
    """
    return _client_for(options).deliver(list(requests))


#: The client of this delivery process, which serves one tracer: connections are kept for the next delivery.
_client: Client | None = None


def _client_for(options: Options) -> Client:
    global _client
    if _client is None or _client.options != options:
        if _client is not None:
            _client.close()
        _client = Client(options)
    return _client


class Client:
    """One Langfuse project. For one thread."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._deadline = Deadline()
        base_url = options.base_url or CLOUD_URL
        # What errors name. Not the URL as it was given: if a variable holds it, hush takes it for a secret.
        self._where = urlsplit(base_url).netloc
        self._labels = Labels(
            options.environment,
            options.release,
            options.version,
            encodes_metadata=int(_SDK_VERSION.partition(".")[0]) >= 5,
        )
        self._http = httpx.Client(
            transport=BoundedTransport(self._deadline, compressed=_TRACES_PATH),
            follow_redirects=False,  # it would turn a POST into a GET, and 200 be the answer of some page
            headers={"User-Agent": f"hush-langfuse/{version('hush-langfuse')}", "Accept-Encoding": "identity"},
        )
        self._api = LangfuseAPI(
            base_url=base_url,
            username=options.public_key,
            password=options.secret_key,
            x_langfuse_sdk_name="python",  # what is sent is what that SDK sends, and is to be read so
            x_langfuse_sdk_version=_SDK_VERSION,
            x_langfuse_public_key=options.public_key,
            headers={"x-langfuse-ingestion-version": "4", **dict(options.headers)},
            httpx_client=self._http,
        )

    def close(self) -> None:
        self._http.close()

    def deliver(self, requests: list[FlushData]) -> str | None:
        """See `deliver`, above."""
        self._deadline.begin(self.options.timeout_s)
        spans = [span for request in requests for span in to_spans(self._with_media_kept(request), self._labels)]
        notes = [note for part in _parts(spans) if (note := self._export(part)) is not None]
        return "; ".join(notes) or None

    # -- spans --------------------------------------------------------------------------------------------------------

    def _export(self, spans: list[Span]) -> str | None:
        """Send spans in one request; gives what Langfuse noted of those that it refused."""
        # The SDK copies lists and dicts in Python, value by value; what it does not know it leaves to pydantic's Rust.
        resource_spans: Any = to_resource_spans(
            spans, self._labels, public_key=self.options.public_key, sdk_version=_SDK_VERSION, wrap=deque
        )
        answer = self._ask(
            lambda: self._api.opentelemetry.export_traces(
                resource_spans=resource_spans, request_options={"max_retries": 0}
            )
        )
        return _rejected(getattr(answer, "partialSuccess", None), len(spans))

    def _ask(self, call: Callable[[], T]) -> T | None:
        """Make a call of the API; None where it answered with success and nothing else. Raises a FlushError."""
        try:
            return call()
        except ApiError as problem:
            status, body = problem.status_code or 0, problem.body
            if 200 <= status < 300 and not body:
                return None
            raise self._refusal(status, problem.headers, body) from problem
        except httpx.HTTPError as problem:
            raise self._fault(problem) from problem
        except (httpx.InvalidURL, UnicodeError) as problem:
            raise ConfigurationFlushError(f"{self._where} cannot be asked: {problem}") from problem
        except ValidationError as problem:
            raise self._no_langfuse("JSON of another kind") from problem

    def _refusal(self, status: int, headers: dict[str, str] | None, body: Any) -> FlushError:
        text = body if isinstance(body, str) else json.dumps(body)
        error = error_for_status(status, headers=headers, body=text)
        return error if error is not None else self._no_langfuse(repr(text[:200]))

    def _no_langfuse(self, said: str) -> ConfigurationFlushError:
        return ConfigurationFlushError(
            f"{self._where} answers with success, and not as Langfuse does: {said}. Is base_url that of Langfuse, and "
            "not of a login page or a proxy before it?"
        )

    def _fault(self, problem: httpx.HTTPError) -> FlushError:
        """No answer: refused, reset, too late. Unless nobody was there, Langfuse may have got the request, or not."""
        if _is_about_trust(problem):
            return ConfigurationFlushError(
                f"{self._where} cannot be trusted: {problem}. Is it https that is spoken there? If its certificate is "
                "your own, set SSL_CERT_FILE to the file with the authority that signed it."
            )
        if isinstance(problem, httpx.UnsupportedProtocol):
            return ConfigurationFlushError(f"{self._where} cannot be asked: {problem}")
        if isinstance(problem, httpx.TimeoutException):
            said = f"no answer from {self._where} within {self.options.timeout_s:g} s"
        else:
            said = f"no answer from {self._where}: {str(problem) or type(problem).__name__}"
        wait_s = None if isinstance(problem, httpx.ConnectError) else _AMBIGUOUS_WAIT_S
        return RetryableFlushError(said, retry_after_s=wait_s)

    # -- media --------------------------------------------------------------------------------------------------------

    def _with_media_kept(self, request: FlushData) -> FlushData:
        """The request with its media uploaded, and a reference, or a note, in the place of each."""
        nodes = [self._with_media_of(request, node) for node in request["nodes"]]
        return {**request, "nodes": nodes}

    def _with_media_of(self, request: FlushData, node: NodeData) -> NodeData:
        kept: dict[tuple[str, str], str] = {}

        def keep(medium: Medium, field: str) -> str:
            place = (medium.id, field)
            if place not in kept:
                kept[place] = self._keep(request, node, medium, field)
            return kept[place]

        return replace_media(node, keep)

    def _keep(self, request: FlushData, node: NodeData, medium: Medium, field: str) -> str:
        """Upload a medium, unless Langfuse has it; gives what stands for it.

        What fails for good leaves a note, and the trace goes on. What may work later makes the trace wait, but not for
        ever: a bucket that can never be reached must not keep it.
        """
        if not self.options.upload_media:
            return medium.note("upload_media is off")
        try:
            return medium.reference(self._upload(request["trace_id"], node["span_id"], medium, field))
        except PermanentFlushError as problem:
            return medium.note(str(problem))
        except RetryableFlushError as problem:
            if request["attempt"] < _LAST_MEDIA_ATTEMPT and _NO_BUCKET not in str(problem):
                raise
            return medium.note(str(problem))

    def _upload(self, trace_id: str, span_id: str, medium: Medium, field: str) -> str:
        """Have Langfuse know the medium as one of that span, with its content. Gives its id there."""
        place = self._ask_of_media(
            lambda: self._api.media.get_upload_url(
                trace_id=trace_id,
                observation_id=span_id,
                content_type=MediaContentType(medium.content_type),
                content_length=len(medium.content),
                sha256hash=medium.sha256,
                field=field,
                request_options={"max_retries": 0},
            )
        )
        if place is None:
            raise PermanentFlushError("Langfuse named no place for it")
        if place.upload_url:
            self._put(place.media_id, place.upload_url, medium)
        return str(place.media_id)

    def _ask_of_media(self, call: Callable[[], T]) -> T | None:
        """As `_ask`; a wrong address is one of media alone. If there is no Langfuse at all, the spans say so."""
        try:
            return self._ask(call)
        except ConfigurationFlushError as problem:
            cause = problem.__cause__
            if isinstance(cause, ApiError) and cause.status_code in (404, 405, 501):
                raise PermanentFlushError(str(problem)) from problem
            raise

    def _put(self, media_id: str, url: str, medium: Medium) -> None:
        """Store the content where Langfuse said, and say how that went."""
        headers = {"Content-Type": medium.content_type}
        if not f".{urlsplit(url).hostname}".endswith(".storage.googleapis.com"):  # it refuses headers it did not sign
            headers |= {"x-ms-blob-type": "BlockBlob", "x-amz-checksum-sha256": medium.sha256}
        began = time.monotonic()
        try:
            answer = self._http.put(url, content=medium.content, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL) as problem:
            where = urlsplit(url).netloc  # not the rest of it, which is a key to the bucket
            said = str(problem) or type(problem).__name__
            raise RetryableFlushError(f"no answer from {where}, where Langfuse keeps media: {said}") from problem
        took_ms = int((time.monotonic() - began) * 1000)
        error = error_for_status(answer.status_code, headers=answer.headers, body=answer.content)
        self._ask_of_media(
            lambda: self._api.media.patch(
                media_id,
                uploaded_at=datetime.now(timezone.utc),
                upload_http_status=answer.status_code,
                upload_http_error=None if error is None else str(error),
                upload_time_ms=took_ms,
                request_options={"max_retries": 0},
            )
        )
        if isinstance(error, ConfigurationFlushError):  # the bucket's: not about Langfuse's keys or address
            raise PermanentFlushError(str(error)) from error
        if error is not None:
            raise error


def _is_about_trust(problem: httpx.HTTPError) -> bool:
    """Whether TLS could not be agreed on: a certificate, a protocol. Not a connection that broke off meanwhile."""
    at: BaseException | None = problem if isinstance(problem, httpx.ConnectError) else None
    while at is not None and not isinstance(at, ssl.SSLError):
        at = at.__cause__ or at.__context__
    return at is not None and not isinstance(at, (ssl.SSLEOFError, ssl.SSLSyscallError, ssl.SSLZeroReturnError))


def _parts(spans: list[Span]) -> Iterator[list[Span]]:
    """The spans in parts of a bounded size, in order."""
    part: list[Span] = []
    size = 0
    for span in spans:
        more = 500 + sum(100 + len(each["value"].get("stringValue", "").encode()) for each in span["attributes"])
        if part and size + more > _EXPORT_BYTES:
            yield part
            part, size = [], 0
        part.append(span)
        size += more
    if part:
        yield part


def _rejected(partial: Any, count: int) -> str | None:
    """What OTLP's partial success says. What was refused is not sent again: it would be refused again.

    PermanentFlushError if that is everything.
    """
    if not isinstance(partial, dict):
        return None
    said = str(partial.get("errorMessage") or "")
    rejected = str(partial.get("rejectedSpans") or 0)
    if rejected == "0":
        return said or None
    note = f"{rejected} of {count} spans were refused: {said or 'no reason given'}"
    if rejected.isdigit() and int(rejected) >= count:
        raise PermanentFlushError(note)
    return note
