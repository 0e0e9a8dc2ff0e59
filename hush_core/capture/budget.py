"""How much of a value a record takes, and how a record says what it left out."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Final, NamedTuple


class Bounds(NamedTuple):
    """The limits of one record. What is beyond them is left out visibly, see `truncated`."""

    depth: int = 64  #: containers within containers
    items: int = 10_000  #: of one container
    text_chars: int = 1024 * 1024  #: of one string; of one bytes object, its bytes
    name_chars: int = 16 * 1024  #: of a name, an id, an error text
    record_bytes: int = 4 * 1024 * 1024
    time_s: float = 1.0


BOUNDS: Final = Bounds()

#: What opens every note that a record makes in the place of something it does not hold.
_NOTE: Final = "… [{}]"
CYCLE: Final = _NOTE.format("cycle")
#: What stands in the place of a value whose key is masked.
MASKED: Final = "[masked]"


def truncated(what: str) -> str:
    """The note for something left out; `what` says how much of it there was: `104857600 chars`, `20000 items`."""
    return _NOTE.format(f"truncated: {what}")


def unrecordable(kind: type, problem: BaseException) -> str:
    """The note for an object that could not be read at all."""
    return _NOTE.format(f"unrecordable {name_of(kind)}: {name_of(type(problem))}")


def withheld(reason: str) -> str:
    """The note for a value that is left out because nothing could make sure that it may be kept."""
    return _NOTE.format(f"withheld: {reason}")


def masked_text(kind: type) -> str:
    """The note for an object's own text that has the name of a masked key in it."""
    return _NOTE.format(f"masked: the text of {name_of(kind)} has a masked key in it")


_name: Final[Callable[[type], str]] = type.__dict__["__name__"].__get__


def name_of(kind: type) -> str:
    """The name of a class, whatever its metaclass says."""
    return encodable(_name(kind)[:200])


def encodable(text: str) -> str:
    """The text, its lone surrogates written as escapes: UTF-8 has no other way to hold them."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text


class Budget:
    """What is left of a record's bytes and time. One walk uses it, in one thread.

    Bytes are counted as msgpack writes them or a little above, so that a walk that kept to its budget encodes to no
    more than that and the notes it left.
    """

    __slots__ = ("bounds", "bytes_left", "deadline")

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.bytes_left = bounds.record_bytes
        self.deadline = monotonic() + bounds.time_s

    def is_spent(self) -> bool:
        """Whether there is nothing left of the bytes or of the time."""
        return self.bytes_left <= 0 or monotonic() > self.deadline

    def share(self, parts: int) -> Budget:
        """A budget of its own for one of the parts that are still to come, so that none of them starves the others."""
        part = Budget(self.bounds)
        part.bytes_left = max(self.bytes_left // parts, 0)
        now = monotonic()
        part.deadline = now + max(self.deadline - now, 0.0) / parts
        return part

    def note(self, note: str) -> str:
        """Count the bytes of a note that is left."""
        self.bytes_left -= len(note) + 7
        return note

    def text(self, text: str, most_chars: int | None = None, size: int | None = None) -> str:
        """As much of an exact `str` as may be kept. `size`: of the whole, if the text is the start of a longer one."""
        size = len(text) if size is None else size
        most = self.bounds.text_chars if most_chars is None else most_chars
        kept = encodable(text[:most] if size > most else text)
        self.bytes_left -= 5
        room = max(self.bytes_left, 0) // 2  # what comes after a long text has its place too
        cut = size > most
        if kept.isascii():
            if len(kept) > room:
                kept, cut = kept[:room], True
            self.bytes_left -= len(kept)
        else:
            content = kept.encode()
            if len(content) > room:
                content, cut = content[:room], True
                kept = content.decode(errors="ignore")
            self.bytes_left -= len(content)
        return kept + self.note(truncated(f"{size} chars")) if cut else kept

    def blob(self, content: bytes | bytearray | memoryview, size: int) -> bytes | str:
        """The bytes, or a text about them if they are too many: bytes have no room for a note."""
        room = min(self.bounds.text_chars, max(self.bytes_left, 0) // 2)
        if size > room:
            import base64

            head = base64.b64encode(bytes(content[: room // 4 * 3])).decode()
            self.bytes_left -= len(head) + 5
            return head + self.note(truncated(f"{size} bytes in base64"))
        self.bytes_left -= size + 5
        return bytes(content)
