"""Who made the spans, as every export says it: what the tracer says, over what the app's environment says.

`service.instance.id` is there only if one of them says it. An SDK makes one up, a new one in each process: a retry
would not be the same, and a backend would see as many instances as there were delivery processes.
"""

from __future__ import annotations

from typing import Any, Final

from hush_otel.config import Options
from hush_otel.plain import Value, to_number, to_text

_SERVICE: Final = "service.name"
_USUAL_SERVICE: Final = "hush"


def to_resource(options: Options) -> dict[str, Value]:
    """The resource's attributes; `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_SERVICE_NAME` are known."""
    from opentelemetry.sdk.resources import OTELResourceDetector

    found: dict[str, Any] = {_SERVICE: _USUAL_SERVICE, **OTELResourceDetector().detect().attributes, **options.resource}
    if options.service_name is not None:
        found[_SERVICE] = options.service_name
    return {to_text(name): _value(value) for name, value in found.items()}


def _value(value: object) -> Value:
    if isinstance(value, bool):
        return value
    number = to_number(value)
    return number if number is not None else to_text(value)
