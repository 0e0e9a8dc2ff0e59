"""Tracers as a delivery process meets them: good ones, and each way of being bad. They keep what they got in a file."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from hush_core.errors import ConfigurationFlushError, PermanentFlushError, RetryableFlushError
from hush_core.tracers.base import BaseTracer


def keep(data: dict[str, Any]) -> None:
    """Append what a tracer got to the file that its configuration names."""
    with open(data["tracer_config"]["file"], "a") as file:
        file.write(json.dumps(data) + "\n")


def kept(path: Path) -> list[dict[str, Any]]:
    """What the tracers got, in order."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


class Odd(BaseTracer):
    def _get_tracer_config(self) -> dict[str, Any]:
        return {}


class Keeps(Odd):
    @staticmethod
    def flush(flush_data: dict[str, Any]) -> None:
        keep(flush_data)


class KeepsBatches(Odd):
    """Refuses a batch with a request whose id begins with "bad", as a backend does: whole."""

    @staticmethod
    def flush(flush_data: dict[str, Any]) -> None:
        raise AssertionError("a tracer that takes batches is given batches")

    @staticmethod
    def flush_batch(batch: list[dict[str, Any]]) -> None:
        ids = [data["request_id"] for data in batch]
        with open(batch[0]["tracer_config"]["calls"], "a") as calls:
            calls.write(json.dumps(ids) + "\n")
        if any(each.startswith("bad") for each in ids):
            for data in batch:
                data.clear()  # what a tracer does to its data must not reach the next attempt
            raise PermanentFlushError(f"one of {len(ids)} refused")
        if any(each.startswith("busy") for each in ids):
            raise RetryableFlushError("busy", retry_after_s=7)
        for data in batch:
            keep(data)


class Notes(Odd):
    @staticmethod
    def flush(flush_data: dict[str, Any]) -> Any:
        return "2 of 5 spans rejected"


class Fails(Odd):
    """As the request's id says."""

    @staticmethod
    def flush(flush_data: dict[str, Any]) -> None:
        how = flush_data["request_id"].partition("-")[0]
        if how == "retry":
            raise RetryableFlushError("busy", retry_after_s=30)
        if how == "permanent":
            raise PermanentFlushError("no such field")
        if how == "configuration":
            raise ConfigurationFlushError("wrong key")
        if how == "crash":
            os._exit(7)
        if how == "exit":
            sys.exit(3)
        if how == "error":
            raise ValueError(f"cannot send {flush_data['tracer_config'].get('secret')}")
        if how == "vendor":
            importlib.import_module("no_such_vendor")
        keep(flush_data)


class QuotesParts(Odd):
    """Shows what its URL and its header are made of, each by itself, as HTTP libraries do."""

    @staticmethod
    def flush(flush_data: dict[str, Any]) -> None:
        config = flush_data["tracer_config"]
        url = urlsplit(config["url"])
        said = f"as {url.username} with {url.password}, {unquote(url.password or '')}, "
        said += f"to {url.hostname}{url.path}?{url.query} and {config['headers']['authorization'].split()[1]}"
        print(said)
        raise ValueError(said)


class ExitsAtOnce(Odd):
    @staticmethod
    def flush(flush_data: dict[str, Any]) -> None:
        os._exit(7)


class Crashes(Odd):
    @staticmethod
    def flush(flush_data: dict[str, Any]) -> None:
        ctypes.string_at(0)


class Sleeps(Odd):
    @staticmethod
    def flush(flush_data: dict[str, Any]) -> None:
        keep(flush_data)
        time.sleep(1000)


class Spins(Odd):
    @staticmethod
    def flush(flush_data: dict[str, Any]) -> None:
        keep(flush_data)
        while True:
            pass


class HoldsTheInterpreter(Odd):
    """No other thread of the process runs: a C function that keeps the interpreter's lock."""

    @staticmethod
    def flush(flush_data: dict[str, Any]) -> None:
        keep(flush_data)
        ctypes.PyDLL(None).sleep(1000)


class Floods(Odd):
    """Prints 50 MB, its secret among it, without and with line ends."""

    @staticmethod
    def flush(flush_data: dict[str, Any]) -> None:
        secret = flush_data["tracer_config"]["secret"]
        sys.stderr.write("first line\n")
        for _ in range(250):
            os.write(2, (f"{secret} " * 100 + "\n").encode())
            os.write(1, b"x" * 100_000 + secret.encode())
            sys.stderr.write("y" * 100_000)
        keep(flush_data)


class Prints(Odd):
    @staticmethod
    def flush(flush_data: dict[str, Any]) -> None:
        print(f"printed {flush_data['request_id']} with {flush_data['tracer_config']['secret']}")
        os.system("echo from a command: $HUSH_TEST_SECRET >&2")


class Forks(Odd):
    """Its child comes back from `flush` as if it were the parent, or leaves by an exception."""

    @staticmethod
    def flush(flush_data: dict[str, Any]) -> None:
        if os.fork() == 0:
            if flush_data["request_id"].startswith("error"):
                raise ValueError("in the child")
            return
        keep(flush_data)


class LeavesChildren(Odd):
    """A child that it forked outlives it, and holds whatever descriptors it was left."""

    @staticmethod
    def flush(flush_data: dict[str, Any]) -> None:
        pid = os.fork()
        if pid == 0:
            time.sleep(60)
            os._exit(0)
        flush_data["child"] = pid
        keep(flush_data)
        time.sleep(1000)


class Meddles(Odd):
    """Changes all that a process has only one of."""

    @staticmethod
    def flush(flush_data: dict[str, Any]) -> None:
        keep(flush_data)
        os.chdir("/")
        os.umask(0)
        sys.stdout = sys.stderr = None  # type: ignore[assignment]
        with contextlib.suppress(OSError):
            os.close(1)
        threading.Thread(target=time.sleep, args=(1000,)).start()  # not a daemon: Python waits for it at the exit
        flush_data["nodes"].clear()
        flush_data["tracer_config"].clear()
        os.environ.clear()


class ClosesDescriptors(Odd):
    @staticmethod
    def flush(flush_data: dict[str, Any]) -> None:
        os.closerange(3, 256)


_leaked: list[bytearray] = []


class Leaks(Odd):
    @staticmethod
    def flush(flush_data: dict[str, Any]) -> None:
        _leaked.append(bytearray(b"x") * (flush_data["tracer_config"]["leak_mb"] * 1024 * 1024))
        keep(flush_data)


class IsAsynchronous(Odd):
    @staticmethod
    async def flush(flush_data: dict[str, Any]) -> None: ...  # type: ignore[override]


class TakesSelf(Odd):
    def flush(self, flush_data: dict[str, Any]) -> None: ...  # type: ignore[override]


class SaysNothing(Odd):
    """Inherits `flush`, which returns."""
