"""A backend as a process of its own, for throughput and for tests that kill: its account is a file.

It writes down what it accepts, with one appending write, before it answers; without fsync, since this machine stays.
"""

from __future__ import annotations

import random
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from backend import (
    BROKEN,
    CLOSES,
    OK,
    RESETS,
    TAKES_ALL_THEN_CLOSES,
    TAKES_HALF_THEN_CLOSES,
    TAKES_HALF_THEN_FAILS,
    UNAVAILABLE,
    Answer,
    Server,
    read_lines,
    throttled,
)
from ports import free_port

#: What one that fails now and then does instead of answering 200.
_FAULTS: Final = (UNAVAILABLE, BROKEN, CLOSES, RESETS, TAKES_HALF_THEN_FAILS, TAKES_HALF_THEN_CLOSES,
                  TAKES_ALL_THEN_CLOSES, throttled(0))  # fmt: skip


class Account:
    """What a backend process wrote about what arrived."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.attempts: dict[str, set[tuple[str, str]]] = {}  #: request -> the different (trace id, digest) it came with
        self.accepted: dict[str, int] = {}  #: request -> how often it was accepted
        self.nodes: dict[str, int] = {}  #: request -> how many nodes it had
        self.refused = 0
        self._read = 0

    def read(self) -> Account:
        """Take in what was written since."""
        with suppress(FileNotFoundError), self.path.open("rb") as file:
            file.seek(self._read)
            new = file.read()
            whole = new[: new.rfind(b"\n") + 1]
            self._read += len(whole)
            for line in whole.decode().splitlines():
                verdict, request_id, trace_id, digest, nodes = line.split("\t")
                self.attempts.setdefault(request_id, set()).add((trace_id, digest))
                self.nodes[request_id] = int(nodes)
                if verdict == "accepted":
                    self.accepted[request_id] = self.accepted.get(request_id, 0) + 1
                else:
                    self.refused += 1
        return self


class BackendProcess(NamedTuple):
    """A running backend process."""

    pid: int
    port: int
    account: Account

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/ingest"


@contextmanager
def backend_process(path: Path, *, port: int = 0, faults: float = 0.0, seed: int = 0) -> Iterator[BackendProcess]:
    """Run a backend as a process of its own, which writes its account to a file and ends with the block.

    :param faults: the share of POSTs that it does not answer with 200, accepted in part, in whole or not at all.
    """
    options = ["--port", str(port), "--faults", str(faults), "--seed", str(seed)]
    process = subprocess.Popen(
        [sys.executable, __file__, str(path), *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdin is not None and process.stdout is not None
        try:
            yield BackendProcess(process.pid, int(process.stdout.readline()), Account(path))
        finally:
            process.kill()


class _Clerk:
    """What the process does with a POST: decide, write down, answer."""

    def __init__(self, file: BinaryIO, faults: float, seed: int) -> None:
        self._file = file
        self._faults = faults
        self._dice = random.Random(seed)

    def take(self, headers: Mapping[str, str], body: bytes) -> Answer:
        lines = read_lines(body)
        answer = self._dice.choice(_FAULTS) if self._dice.random() < self._faults else OK
        accepted = answer.share_of(len(lines))
        said = [
            f"{'accepted' if number < accepted else 'refused'}\t{line.request_id}\t{line.trace_id}\t{line.digest}"
            f"\t{len(line.span_ids)}\n"
            for number, line in enumerate(lines)
        ]
        # One write, appended by the kernel: whole, whichever thread writes and whatever dies.
        self._file.write("".join(said).encode())
        return answer


def main(arguments: list[str]) -> None:
    parser = ArgumentParser()
    parser.add_argument("account")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--faults", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    with open(options.account, "ab", buffering=0) as file:
        server = Server(options.port or free_port(), _Clerk(file, options.faults, options.seed).take)
        print(server.server_address[1], flush=True)
        sys.stdin.buffer.read()  # until whoever started it is gone


if __name__ == "__main__":
    main(sys.argv[1:])
