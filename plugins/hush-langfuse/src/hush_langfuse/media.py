"""Images, audio and other files of a request: found, and replaced by what stands for them in a trace.

They are in what a node recorded as `$media`, and in inputs, outputs and metadata as the providers write them::

    {"$bytes": "aGk="}                                              bytes, as hush records them
    {"data": {"$bytes": "aGk="}, "mime_type": "image/png", ...}     the same with its type
    {"type": "base64", "media_type": "image/png", "data": "aGk="}   Anthropic
    {"inline_data": {"mime_type": "image/png", "data": "aGk="}}     Gemini
    {"input_audio": {"data": "aGk=", "format": "wav"}}              OpenAI
    "data:image/png;base64,aGk="                                    a data URI, anywhere

Pure: what is done with each that is found, and what is put in its place, the caller says.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any, Final, NamedTuple, cast

from hush_core import NodeData

#: What Langfuse takes.
CONTENT_TYPES: Final = frozenset(
    """
    image/png image/jpeg image/jpg image/webp image/gif image/svg+xml image/tiff image/bmp image/avif image/heic
    audio/mpeg audio/mp3 audio/wav audio/ogg audio/oga audio/aac audio/mp4 audio/flac audio/opus audio/webm
    video/mp4 video/webm video/ogg video/mpeg video/quicktime video/x-msvideo video/x-matroska
    text/plain text/html text/css text/csv text/markdown text/x-python text/x-typescript
    application/javascript application/x-yaml application/pdf application/json application/xml application/rtf
    application/x-ndjson application/octet-stream application/zip application/gzip application/x-tar
    application/x-7z-compressed application/msword application/vnd.ms-excel application/vnd.apache.parquet
    application/vnd.openxmlformats-officedocument.spreadsheetml.sheet
    application/vnd.openxmlformats-officedocument.wordprocessingml.document
    application/vnd.openxmlformats-officedocument.presentationml.presentation
    """.split()  # noqa: SIM905 - 52 quoted lines would be read by nobody
)
_UNKNOWN: Final = "application/octet-stream"
#: How files of some types begin, from which byte on.
_BEGINNINGS: Final = (
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF8", "image/gif"),
    (8, b"WEBP", "image/webp"),
    (0, b"BM", "image/bmp"),
    (0, b"II*\x00", "image/tiff"),
    (0, b"MM\x00*", "image/tiff"),
    (4, b"ftypavif", "image/avif"),
    (4, b"ftypheic", "image/heic"),
    (0, b"%PDF-", "application/pdf"),
    (8, b"WAVE", "audio/wav"),
    (0, b"ID3", "audio/mpeg"),
    (0, b"\xff\xfb", "audio/mpeg"),
    (0, b"\xff\xf3", "audio/mpeg"),
    (0, b"OggS", "audio/ogg"),
    (0, b"fLaC", "audio/flac"),
    (4, b"ftypM4A", "audio/mp4"),
    (4, b"ftyp", "video/mp4"),
    (0, b"\x1aE\xdf\xa3", "video/webm"),
)
_TYPE_KEYS: Final = ("mime_type", "mimeType", "media_type", "mediaType", "content_type", "contentType", "type")
_DATA_KEYS: Final = ("data", "bytes", "content")
_DATA_URI: Final = re.compile(r"data:([\w.+-]+/[\w.+-]+)((?:;[^,;]{1,100})*);base64,", re.ASCII)
#: Of these, text beside the type can be nothing but base64.
_BINARY: Final = re.compile(r"(?:image|audio|video)/|application/pdf\Z")
#: Containers within containers; media are not deeper than this.
_DEPTH_MAX: Final = 40


class Medium(NamedTuple):
    """One file."""

    content: bytes
    content_type: str  #: one that Langfuse takes

    @property
    def sha256(self) -> str:
        return base64.b64encode(sha256(self.content).digest()).decode()

    @property
    def id(self) -> str:
        """What Langfuse calls it: the same content has the same id."""
        return self.sha256.replace("+", "-").replace("/", "_")[:22]

    def reference(self, media_id: str | None = None) -> str:
        """What stands for it in a trace, once it is uploaded."""
        return f"@@@langfuseMedia:type={self.content_type}|id={media_id or self.id}|source=bytes@@@"

    def note(self, reason: str) -> str:
        """What stands for it in a trace when it is not uploaded."""
        return f"… [not uploaded: {self.content_type}, {len(self.content)} bytes: {reason}]"


#: Is given a file and the field it is in ("input", "output", "metadata"); gives what stands for it.
Keep = Callable[[Medium, str], str]


def replace_media(node: NodeData, keep: Keep) -> NodeData:
    """The node, with what stands for them in the place of its media. The node itself is not changed."""
    found: dict[str, Any] = {}
    for part, field in (("input_data", "input"), ("output_data", "output"), ("metadata", "metadata")):
        found[part] = _Search(keep, field).value(node[part])  # type: ignore[literal-required]
    found["media"] = _Search(keep, "metadata", all_bytes=True).value(node["media"])
    if all(found[part] is node[part] for part in found):  # type: ignore[literal-required]
        return node
    return cast(NodeData, {**node, **found})


class _Search:
    """Goes through one value; what holds no media is given back as it is, and not copied.

    :param all_bytes: whether any bytes are a file; else only those that begin as one does.
    """

    def __init__(self, keep: Keep, field: str, *, all_bytes: bool = False) -> None:
        self._keep = keep
        self._field = field
        self._all_bytes = all_bytes

    def value(self, value: Any, depth: int = 0) -> Any:
        if isinstance(value, str):
            medium = _of_data_uri(value) if value.startswith("data:") else None
            return value if medium is None else self._keep(medium, self._field)
        if depth >= _DEPTH_MAX:
            return value
        if isinstance(value, bytes | bytearray):
            return self._bytes(bytes(value), value)
        if isinstance(value, dict):
            return self._dict(value, depth)
        if isinstance(value, list):
            items = [self.value(item, depth + 1) for item in value]
            return value if all(map(_is, items, value)) else items
        return value

    def _bytes(self, content: bytes, as_it_is: Any) -> Any:
        content_type = sniff(content)
        if not content or (content_type is None and not self._all_bytes):
            return as_it_is
        return self._keep(Medium(content, content_type or _UNKNOWN), self._field)

    def _dict(self, value: dict[Any, Any], depth: int) -> Any:
        if value.keys() == {"$bytes"}:
            content = _decoded(value["$bytes"])
            return value if content is None else self._bytes(content, value)
        for key in _DATA_KEYS:
            medium = _typed(value, key) if key in value else None
            if medium is not None:
                return {**value, key: self._keep(medium, self._field)}
        copy = {key: self.value(item, depth + 1) for key, item in value.items()}
        return value if all(map(_is, copy.values(), value.values())) else copy


def _is(one: object, other: object) -> bool:
    return one is other


# -- what is a file ---------------------------------------------------------------------------------------------------


def sniff(content: bytes) -> str | None:
    """The type of a file by how it begins; None if it is not known."""
    return next((kind for at, begins, kind in _BEGINNINGS if content.startswith(begins, at)), None)


def _medium(content: bytes | None, declared: str) -> Medium | None:
    if not content:
        return None
    declared = declared.lower().strip()
    return Medium(content, declared if declared in CONTENT_TYPES else sniff(content) or _UNKNOWN)


def _of_data_uri(text: str) -> Medium | None:
    found = _DATA_URI.match(text)
    return None if found is None else _medium(_decoded(text[found.end() :]), found[1])


def _typed(value: Mapping[Any, Any], key: str) -> Medium | None:
    """The file under a key of a dict whose other keys say of which type it is."""
    data = value[key]
    declared = _declared(value)
    if declared is None:
        return None
    if isinstance(data, bytes | bytearray):
        return _medium(bytes(data), declared)
    if isinstance(data, dict):
        return _medium(_decoded(data.get("$bytes")), declared) if data.keys() == {"$bytes"} else None
    if isinstance(data, str) and (_BINARY.match(declared) or value.get("type") == "base64"):
        return _medium(_decoded(data), declared)
    return None


def _declared(value: Mapping[Any, Any]) -> str | None:
    for key in _TYPE_KEYS:
        said = value.get(key)
        if isinstance(said, str) and re.fullmatch(r"[\w.+-]+/[\w.+-]+(?:\s*;.*)?", said, re.ASCII):
            return said.partition(";")[0]
    audio = value.get("format")
    return f"audio/{audio}" if isinstance(audio, str) and f"audio/{audio}" in CONTENT_TYPES else None


def _decoded(text: object) -> bytes | None:
    """The bytes that base64 text stands for; None if it is none."""
    if not isinstance(text, str):
        return None
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
