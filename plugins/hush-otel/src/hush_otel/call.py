"""One call of the OTLP service over gRPC, bounded in time. For `hush-otel[grpc]`; nothing else here imports grpc.

The request goes out as the bytes that it already is, on a channel of its own, with gRPC's own retries off: hush's are
the ones that a person can see.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, NoReturn
from urllib.parse import urlsplit

from hush_core import ConfigurationFlushError, PermanentFlushError, RetryableFlushError
from hush_otel.destination import Destination
from hush_otel.post import Deadline

try:
    import grpc
    from google.rpc.error_details_pb2 import RetryInfo
    from google.rpc.status_pb2 import Status
except ModuleNotFoundError as _problem:
    raise ConfigurationFlushError(
        f'No module named {_problem.name!r}: protocol = "grpc" needs more than hush-otel itself. Install '
        'hush-otel[grpc], or leave protocol out: protocol = "http/protobuf" needs nothing more.'
    ) from _problem

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

_METHOD: Final = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_DETAILS: Final = "grpc-status-details-bin"
_BUSY_WAIT_S: Final = 1.0
_AMBIGUOUS_WAIT_S: Final = 5.0
_SAID_MAX: Final = 500
#: How servers say that a message is over their limit, with a status that is one of being busy, or of no meaning:
#: "received message larger than max" (C, Go), "decoded message length too large" (Rust), "gRPC message exceeds maximum
#: size" (Java). It will be over it the next time, too.
_TOO_LARGE: Final = ("larger than max", "too large", "exceeds maximum size")
#: What gRPC itself says, before anything is sent: of a certificate that does not fit, and of a header.
_WRONG_HERE: Final = ("CERTIFICATE_VERIFY_FAILED", "WRONG_VERSION_NUMBER", "Hostname Verification", "Invalid metadata")

_CONFIGURATION: Final = frozenset(
    {
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.NOT_FOUND,
    }
)
_PERMANENT: Final = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.ALREADY_EXISTS,
    }
)
_BUSY: Final = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED})
_COMPRESSION: Final = {
    "none": grpc.Compression.NoCompression,
    "gzip": grpc.Compression.Gzip,
    "deflate": grpc.Compression.Deflate,
}
_CHANNEL: Final = (
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_send_message_length", -1),
    # Channels to one address share connections, and how long one that failed is left alone.
    ("grpc.use_local_subchannel_pool", 1),
)


class Reply(NamedTuple):
    """What came back."""

    rejected: int
    message: str


def call(destination: Destination, body: bytes, agent: str) -> Reply:
    """Export, and give what the server says of it. Any other status becomes the error that it means."""
    deadline = Deadline(destination.timeout_s)
    where = destination.endpoint
    channel = _channel(destination, agent)
    try:
        export: Callable[..., Any] = channel.unary_unary(
            _METHOD, request_serializer=None, response_deserializer=ExportTraceServiceResponse.FromString
        )
        # Metadata in lower case, or gRPC refuses it.
        metadata = [(name.lower(), value) for name, value in destination.headers.items()]
        partial = export(body, timeout=deadline.left_s(), metadata=metadata).partial_success
    except grpc.RpcError as problem:
        _raise(problem, where, deadline.passed_s)
    finally:
        channel.close()
    return Reply(partial.rejected_spans, partial.error_message)


def _channel(destination: Destination, agent: str) -> Any:
    parts = urlsplit(destination.endpoint)
    options = (*_CHANNEL, ("grpc.primary_user_agent", agent))
    compression = _COMPRESSION[destination.compression]
    target = parts.netloc if parts.port is not None else f"{parts.netloc}:{443 if parts.scheme == 'https' else 80}"
    if parts.scheme == "http":
        return grpc.insecure_channel(target, options, compression)
    try:
        credentials = grpc.ssl_channel_credentials(
            _read(destination.certificate),
            _read(destination.client_key or destination.client_certificate),
            _read(destination.client_certificate),
        )
    except OSError as problem:
        raise ConfigurationFlushError(f"A certificate of the tracer cannot be read: {problem}") from problem
    return grpc.secure_channel(target, credentials, options, compression)


def _read(path: str | None) -> bytes | None:
    if path is None:
        return None
    with open(path, "rb") as file:
        return file.read()


def _raise(problem: Any, where: str, passed_s: float) -> NoReturn:
    """What a status means, by the table of OTLP/gRPC and that of hush for HTTP."""
    code, details = problem.code(), problem.details() or ""
    said = f"gRPC {code.name} from {where} after {passed_s:.1f} s: {' '.join(details.split())[:_SAID_MAX]}"
    if any(sign in details for sign in _TOO_LARGE):
        raise PermanentFlushError(said) from problem
    if code in _CONFIGURATION:
        raise ConfigurationFlushError(f"{said}. Check the tracer's endpoint, and its headers.") from problem
    if code in _PERMANENT:
        raise PermanentFlushError(said) from problem
    if any(sign in details for sign in _WRONG_HERE):
        raise ConfigurationFlushError(said) from problem
    wait_s = _BUSY_WAIT_S if code in _BUSY else _AMBIGUOUS_WAIT_S
    raise RetryableFlushError(said, retry_after_s=max(wait_s, _asked_s(problem))) from problem


def _asked_s(problem: Any) -> float:
    """The seconds that the server asks to wait, in the details of its status; 0 if it asks for none."""
    for name, value in problem.trailing_metadata() or ():
        if name == _DETAILS:
            return _of_details(value)
    return 0.0


def _of_details(value: bytes) -> float:
    from google.protobuf.message import DecodeError

    info = RetryInfo()
    try:
        for each in Status.FromString(value).details:
            if each.Is(RetryInfo.DESCRIPTOR) and each.Unpack(info):
                return float(info.retry_delay.seconds + info.retry_delay.nanos / 1e9)
    except DecodeError:
        pass
    return 0.0
