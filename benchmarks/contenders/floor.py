"""The floor: encode the fields, copy the bytes into a mapped file. No checksum, no lock, no way to find them again.

Whatever records a node by value and lets it outlive its process does at least this.
"""

from __future__ import annotations

import mmap
import os
import threading
from pathlib import Path
from typing import Any, Final

import msgspec

from benchmarks.contender import Contender
from benchmarks.workload import insert_nodes
from hush_core.model import NODE

_SIZE_BYTES: Final = 4 * 1024 * 1024
_encode = msgspec.msgpack.Encoder().encode


class Floor(Contender):
    """Records as `TraceStore.insert_node_trace` does, as far as the bytes go."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        fd = os.open(folder / "floor.bytes", os.O_RDWR | os.O_CREAT, 0o600)
        # Written and not only allocated: the first touch of each page is no part of the floor.
        os.pwrite(fd, bytes(_SIZE_BYTES), 0)
        self._mapping = mmap.mmap(fd, _SIZE_BYTES)
        os.close(fd)
        self._write = self._mapping.write
        self._copied_bytes = 0
        self._lock = threading.Lock()

    def insert_node_trace(
        self,
        request_id: str,
        workflow_name: str,
        node_name: str,
        parent_name: str | None,
        context_id: str | None,
        execution_order: int,
        start_time: Any,
        end_time: Any,
        duration_ms: float | None,
        input_data: dict[str, Any] | None,
        output_data: dict[str, Any] | None,
        user_id: str | None = None,
        session_id: str | None = None,
        model: str | None = None,
        prompt_tokens: int | None = None,
        completion_tokens: int | None = None,
        total_tokens: int | None = None,
        cost_usd: float | None = None,
        contain_generation: bool = False,
        metadata: dict[str, Any] | None = None,
        *,
        node_type: str | None = None,
        error: str | None = None,
        level: str | None = None,
        media: Any = None,
        time_to_first_token_ms: float | None = None,
        cached_tokens: int | None = None,
        reasoning_tokens: int | None = None,
    ) -> None:
        payload = _encode(
            (
                NODE, request_id, workflow_name, node_name, parent_name, context_id, execution_order, start_time,
                end_time, duration_ms, input_data, output_data, user_id, session_id, model, prompt_tokens,
                completion_tokens, total_tokens, cost_usd, contain_generation, metadata, node_type, error, level, media,
                time_to_first_token_ms, cached_tokens, reasoning_tokens,
            )
        )  # fmt: skip
        try:
            self._write(payload)
        except ValueError:
            self._begin_again(len(payload))
            self._write(payload)

    def _begin_again(self, needed_bytes: int) -> None:
        """Fill the file from its start. Nobody copies meanwhile: records of a run have one size, and none fits."""
        with self._lock:
            if self._mapping.tell() + needed_bytes > _SIZE_BYTES:
                self._copied_bytes += self._mapping.tell()
                self._mapping.seek(0)

    def run(self, workload: str, calls: int, run: str) -> int:
        insert_nodes(workload, self.insert_node_trace, calls, run)
        return calls

    def arrived(self, records: int) -> int:
        """All records of a run have the same size (see `FIRST_ORDER`), so their bytes count them."""
        copied = self._copied_bytes + self._mapping.tell()
        self._copied_bytes = 0
        self._mapping.seek(0)
        length = copied // records
        return copied // length if self._begins_with_record(length) else 0

    def _begins_with_record(self, length: int) -> bool:
        """Whether the file begins with a whole record of this length."""
        try:
            record = msgspec.msgpack.decode(self._mapping[:length])
        except msgspec.DecodeError:
            return False
        return bool(record[0] == NODE)

    def close(self) -> None:
        self._mapping.close()


def make(folder: Path) -> Floor:
    return Floor(folder)
