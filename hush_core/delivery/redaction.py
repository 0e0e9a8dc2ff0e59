"""Takes secrets out of text before it reaches a log, the store or a person.

Known secrets are taken out wherever they stand: as they are, as JSON and URLs write them, and as a part of base64
(`Authorization: Basic ...` is the key and the secret in one). What only looks like one, the value of an `Authorization`
header and the like, goes too. A value of fewer than four characters is left: it guards nothing, and is in everything.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import quote, unquote

REDACTED: Final = "[redacted]"

_LENGTH_MIN: Final = 4
#: The value of a header that holds a credential; and what follows Basic or Bearer, unless it is a word of prose.
_CREDENTIAL: Final = re.compile(
    r"(?i:\b((?:proxy-)?authorization|x-api-key|api-key|set-cookie|cookie)(\\?[\"']?\s*[:=,]\s*(?:[bu]?\\?[\"'])?)"
    r"(?:(?:basic|bearer|token|digest)\s+)?(?!(?:basic|bearer|token|digest)\s)[^\s\"'\\\[,;}\])]+)"
    r"|\b((?i:basic|bearer))\s+(?![A-Za-z][a-z]*\b(?![+/=_~.-]\w))[A-Za-z0-9+/_.~=-]{8,}"
)


class Redaction:
    """What is to be taken out, ready to use on any text. Safe over threads; makes no change to itself."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        forms = {form for secret in secrets for form in _forms(secret) if len(form) >= _LENGTH_MIN}
        # The longest first: a secret that is the beginning of another must not leave the other's end behind.
        longest_first = sorted(forms, key=lambda form: (-len(form), form))
        self._known = re.compile("|".join(map(re.escape, longest_first))) if forms else None
        #: No form is longer: two texts that are redacted apart, but overlap by this much, hide none between them.
        self.length_max = max(map(len, forms), default=0)

    def __call__(self, text: str) -> str:
        """The text without secrets."""
        if self._known is not None:
            text = self._known.sub(REDACTED, text)
        return _CREDENTIAL.sub(_hide_credential, text)

    def beginning(self, text: str, length_max: int) -> str:
        """The beginning of a text of any length, without secrets; how much was left out is said."""
        cut = text[: 16 * length_max]
        redacted = self(cut)
        if len(cut) < len(text):  # what is left of a secret that the cut went through is at the end
            redacted = redacted[: max(len(redacted) - self.length_max, 0)]
        if len(cut) == len(text) and len(redacted) <= length_max:
            return redacted
        kept = redacted[:length_max]
        return f"{kept}... ({len(text)} characters in all)"


def _hide_credential(found: re.Match[str]) -> str:
    return f"{found[3]} {REDACTED}" if found[3] is not None else f"{found[1]}{found[2]}{REDACTED}"


def _forms(secret: str) -> Iterator[str]:
    """A secret in the shapes in which it is met."""
    yield secret
    yield secret.strip()
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield repr(secret)[1:-1]
    yield quote(secret)
    yield quote(secret, safe="")
    yield unquote(secret)
    if "\n" in secret:  # a key file is printed line by line
        yield from (line.strip() for line in secret.splitlines() if len(line.strip()) >= 2 * _LENGTH_MIN)
    plain = secret.encode(errors="surrogatepass")
    for before in range(3):  # where in a group of three bytes it begins, when something stands before it
        text = base64.b64encode(bytes(before) + plain).decode()
        whole = text[-(-before * 4 // 3) : (before + len(plain)) * 4 // 3]  # the digits that it alone decides
        if len(whole) >= 2 * _LENGTH_MIN:
            yield whole
            yield whole.replace("+", "-").replace("/", "_")
