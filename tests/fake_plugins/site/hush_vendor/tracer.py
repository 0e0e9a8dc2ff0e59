"""The tracer: light, since the app imports it; the vendor's library is imported where it delivers."""

from __future__ import annotations

from typing import Any

from hush_core import BaseTracer

OUTCOMES: list[tuple[str, str]] = []


class VendorTracer(BaseTracer):
    def __init__(
        self,
        *,
        public_key: str,
        secret_key: str,
        host: str = "https://vendor.example",
        timeout_s: float = 5.0,
        tags: list[str] | None = None,
    ) -> None:
        super().__init__(tags=tags)
        if not host.startswith("https://"):
            raise ValueError(f"{host} is not reached over TLS (with the key {secret_key})")
        self.public_key = public_key
        self.secret_key = secret_key
        self.host = host
        self.timeout_s = timeout_s

    def _get_tracer_config(self) -> dict[str, Any]:
        return {
            "public_key": self.public_key,
            "secret_key": self.secret_key,
            "host": self.host,
            "timeout_s": self.timeout_s,
        }

    @staticmethod
    def flush(flush_data: dict[str, Any]) -> None:
        import vendor_sdk  # type: ignore[import-not-found]

        vendor_sdk.send(flush_data)
