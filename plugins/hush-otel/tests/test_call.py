"""One attempt over gRPC, against every status there is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from ports import free_port

from hush_core import ConfigurationFlushError, FlushData, FlushError, PermanentFlushError, RetryableFlushError
from hush_otel.tracer import OTelTracer

from .collector import spans_of
from .made import request, root

Code = grpc.StatusCode
Do = Callable[[Any], Any]


class Service(TraceServiceServicer):
    """A server in this process that does with an export what it is told."""

    def __init__(self, credentials: Any = None) -> None:
        self.exports: list[Any] = []
        self.metadata: dict[str, Any] = {}
        self.do: Do = lambda context: ExportTraceServiceResponse()
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        add_TraceServiceServicer_to_server(self, self._server)
        if credentials is None:
            self.endpoint = f"http://127.0.0.1:{self._server.add_insecure_port(f'127.0.0.1:{free_port()}')}"
        else:
            self.endpoint = f"https://localhost:{self._server.add_secure_port('127.0.0.1:0', credentials)}"
        self._server.start()

    def Export(self, request: Any, context: Any) -> Any:
        self.exports.append(request)
        self.metadata = dict(context.invocation_metadata())
        return self.do(context)

    def end(self) -> None:
        self._server.stop(None).wait(10)


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    yield made
    made.end()


def to(service: Service, *nodes: Any, **options: Any) -> FlushData:
    return request(*nodes, config={"endpoint": service.endpoint, "protocol": "grpc", "timeout_s": 20.0, **options})


@pytest.mark.parametrize("compression", ["none", "gzip", "deflate"])
def test_a_request_arrives_whole(service: Service, compression: str) -> None:
    sent = OTelTracer.flush(to(service, headers={"X-Key": "abc"}, basic_auth="me:you", compression=compression))
    assert sent is None
    [export] = service.exports
    assert [span.name for span in spans_of(export)] == ["geography", "answer"]
    assert service.metadata["x-key"] == "abc"
    assert service.metadata["authorization"] == "Basic bWU6eW91"
    assert service.metadata["user-agent"].startswith("hush-otel/")


def failing(code: Code, details: str = "no", trailing: Any = ()) -> Do:
    def fail(context: Any) -> None:
        context.set_trailing_metadata(trailing)
        context.abort(code, details)

    return fail


def asking(seconds: float) -> list[tuple[str, bytes]]:
    """What a server says that asks to wait."""
    delay = Duration()
    delay.FromNanoseconds(int(seconds * 1e9))
    detail = AnyMessage()
    detail.Pack(RetryInfo(retry_delay=delay))
    return [("grpc-status-details-bin", Status(code=14, details=[detail]).SerializeToString())]


@pytest.mark.parametrize(
    ("do", "error", "wait_s"),
    [
        (failing(Code.UNAVAILABLE), RetryableFlushError, 1),
        (failing(Code.UNAVAILABLE, trailing=asking(17.5)), RetryableFlushError, 17.5),
        (failing(Code.UNAVAILABLE, trailing=[("grpc-status-details-bin", b"\xff")]), RetryableFlushError, 1),
        (failing(Code.RESOURCE_EXHAUSTED, "quota", asking(3)), RetryableFlushError, 3),
        (failing(Code.RESOURCE_EXHAUSTED, "quota"), RetryableFlushError, 1),
        (failing(Code.RESOURCE_EXHAUSTED, "grpc: received message larger than max"), PermanentFlushError, None),
        (failing(Code.OUT_OF_RANGE, "decoded message length too large"), PermanentFlushError, None),
        (failing(Code.OUT_OF_RANGE), RetryableFlushError, 5),
        (failing(Code.DEADLINE_EXCEEDED), RetryableFlushError, 5),
        (failing(Code.CANCELLED), RetryableFlushError, 5),
        (failing(Code.ABORTED), RetryableFlushError, 5),
        (failing(Code.DATA_LOSS), RetryableFlushError, 5),
        (failing(Code.INTERNAL), RetryableFlushError, 5),
        (failing(Code.UNKNOWN), RetryableFlushError, 5),
        (failing(Code.UNAUTHENTICATED), ConfigurationFlushError, None),
        (failing(Code.PERMISSION_DENIED), ConfigurationFlushError, None),
        (failing(Code.UNIMPLEMENTED), ConfigurationFlushError, None),
        (failing(Code.NOT_FOUND), ConfigurationFlushError, None),
        (failing(Code.INVALID_ARGUMENT), PermanentFlushError, None),
        (failing(Code.FAILED_PRECONDITION), PermanentFlushError, None),
    ],
)
def test_a_status_is_the_outcome_that_it_means(
    do: Do, error: type[FlushError], wait_s: float | None, service: Service
) -> None:
    service.do = do
    with pytest.raises(error, match=r"gRPC [A-Z_]+ from http://127.0.0.1:") as raised:
        OTelTracer.flush(to(service))
    assert len(service.exports) == 1  # one attempt
    assert getattr(raised.value, "retry_after_s", None) == wait_s
    assert isinstance(raised.value.__cause__, grpc.RpcError)


def test_a_proxy_of_the_environment_has_no_say(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("grpc_proxy", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert OTelTracer.flush(to(service)) is None


def test_a_part_that_was_rejected_is_noted_and_all_is_a_dead_letter(service: Service) -> None:
    partial = ExportTracePartialSuccess(rejected_spans=1, error_message="too old")
    service.do = lambda context: ExportTraceServiceResponse(partial_success=partial)
    assert OTelTracer.flush(to(service)) == "1 of 2 spans rejected: too old"
    with pytest.raises(PermanentFlushError, match="1 of 1 spans rejected: too old"):
        OTelTracer.flush(to(service, root()))


def test_a_message_over_the_limit_of_the_server_is_refused_with_a_reason(service: Service) -> None:
    nodes = [
        root(input_data="x" * 1_000_000),
        *(root(span_id=f"{n:016x}", input_data="x" * 1_000_000) for n in (1, 2, 3, 4)),
    ]
    with pytest.raises(PermanentFlushError, match="larger than max"):
        OTelTracer.flush(to(service, *nodes))


def test_a_server_that_says_nothing_is_given_up_in_time(service: Service) -> None:
    given_up = threading.Event()
    service.do = lambda context: given_up.wait(9)  # shorter than the test's end waits for
    began = time.monotonic()
    with pytest.raises(RetryableFlushError, match="DEADLINE_EXCEEDED"):
        OTelTracer.flush(to(service, timeout_s=0.3))
    assert time.monotonic() - began < 5
    given_up.set()


def test_nobody_there_is_worth_another_try(service: Service) -> None:
    service.end()
    with pytest.raises(RetryableFlushError, match="gRPC UNAVAILABLE") as raised:
        OTelTracer.flush(to(service))
    assert raised.value.retry_after_s == 1


def test_a_server_that_is_back_is_found_at_once() -> None:
    first = Service()
    made = to(first)
    first.end()
    with pytest.raises(RetryableFlushError):
        OTelTracer.flush(made)
    server = grpc.server(futures.ThreadPoolExecutor(1))
    second = Service()
    add_TraceServiceServicer_to_server(second, server)
    server.add_insecure_port(first.endpoint.removeprefix("http://"))
    server.start()
    try:
        assert OTelTracer.flush(made) is None
        assert len(second.exports) == 1
    finally:
        server.stop(None).wait(10)
        second.end()


def test_a_header_that_grpc_does_not_take_is_a_mistake_of_the_configuration(service: Service) -> None:
    with pytest.raises(ConfigurationFlushError) as raised:
        OTelTracer.flush(to(service, headers={"a$b": "s3cret"}))
    assert "s3cret" not in str(raised.value)


def test_a_secure_server_is_one_whose_certificate_is_trusted(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    mine = authority.issue_cert("localhost")
    pair = mine.private_key_pem.bytes(), b"".join(each.bytes() for each in mine.cert_chain_pems)
    service = Service(grpc.ssl_server_credentials([pair]))
    try:
        assert OTelTracer.flush(to(service, certificate=str(tmp_path / "ca.pem"))) is None
        with pytest.raises(ConfigurationFlushError, match="CERTIFICATE_VERIFY_FAILED"):
            OTelTracer.flush(to(service))
    finally:
        service.end()


def test_a_server_without_tls_is_a_mistake_of_the_configuration(service: Service) -> None:
    with pytest.raises(ConfigurationFlushError, match="WRONG_VERSION_NUMBER"):
        OTelTracer.flush(to(service, endpoint=service.endpoint.replace("http:", "https:")))


def test_certificates_that_are_not_there_are_named() -> None:
    config = {"endpoint": "https://127.0.0.1:1", "protocol": "grpc", "certificate": "missing.pem"}
    with pytest.raises(ConfigurationFlushError, match=r"missing\.pem"):
        OTelTracer.flush(request(config=config))


def test_a_request_of_the_messages_own_type_is_what_was_sent(service: Service) -> None:
    OTelTracer.flush(to(service))
    assert isinstance(service.exports[0], ExportTraceServiceRequest)
