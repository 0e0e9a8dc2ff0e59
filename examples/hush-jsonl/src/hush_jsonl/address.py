"""Masking e-mail addresses, in the app, before a record is written anywhere."""

from __future__ import annotations

import re
from typing import Any, Final

_ADDRESS: Final = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")


def mask_addresses(value: Any) -> Any:
    """The value with `<address>` in the place of each e-mail address in its texts, at any depth; a copy."""
    if isinstance(value, str):
        return _ADDRESS.sub("<address>", value) if "@" in value else value
    if isinstance(value, dict):
        return {mask_addresses(key): mask_addresses(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [mask_addresses(item) for item in value]
    return value
