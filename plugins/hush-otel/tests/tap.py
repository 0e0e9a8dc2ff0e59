"""oteltap, an OTLP receiver that others have written, in this process: collects the spans that it was sent."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import oteltap
from ports import free_port


class Tap:
    """A context manager. `spans` grows in a thread of its own."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self._port = free_port()
        self.endpoint = f"http://127.0.0.1:{self._port}/v1/traces"
        self._up = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._receive(),))

    def __enter__(self) -> Tap:
        self._thread.start()
        assert self._up.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(10)
        self._loop.close()

    async def _receive(self) -> None:
        settings = oteltap.OtelTapHttpProtobufReceiverSettings(http_port=self._port)
        async with oteltap.OtelTapHttpProtobufReceiver(settings) as receiver:
            collecting = asyncio.create_task(self._collect(receiver))
            await asyncio.sleep(0)  # it has subscribed
            self._up.set()
            await self._over.wait()
            collecting.cancel()
            await asyncio.gather(collecting, return_exceptions=True)

    async def _collect(self, receiver: Any) -> None:
        async for span in receiver.stream_traces():
            self.spans.append(span)
