"""What the writer hears of a delivery process, without one: the other end of its socket is the test's."""

from __future__ import annotations

import socket

from hush_core.delivery.process import DeliveryProcess
from hush_core.delivery.protocol import Job, Outcome, Settled, Work, line


def test_what_a_process_said_before_it_ended_is_heard_also_when_it_was_given_more_to_do_since() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    process = object.__new__(DeliveryProcess)
    process._socket, process._received, process._unsent, process._has_ended = ours, bytearray(), bytearray(), False
    settled = Settled([Outcome(1, "delivered")])
    with ours:
        theirs.sendall(line(settled))
        theirs.close()
        process.send(Work([Job(2, 2, 1)]))
        assert process.receive() == [settled]
        assert process.has_ended()
