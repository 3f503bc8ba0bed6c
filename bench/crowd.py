"""Many pairs of sockets in one process: what a thousand hosts need of one machine.

Each member has a SUB and a DEALER socket, as a host worker has; its `turn` is called whenever something may have come
in, and its `tick` a few times a second.
"""

from __future__ import annotations

import select
import time
from collections.abc import Sequence
from typing import Protocol

import zmq

SWEEP = 0.05  # seconds between two looks at everybody's clock


class Member(Protocol):
    """One of the crowd."""

    def turn(self, now: float) -> None:
        """Read until nothing is left."""

    def tick(self, now: float) -> None:
        """Do what is due."""


class Crowd:
    """The sockets and the loop."""

    def __init__(self) -> None:
        self.context = zmq.Context()
        self.context.set(zmq.MAX_SOCKETS, 20_000)
        self._poll = select.epoll()
        self._at: dict[int, Member] = {}

    def watch(self, member: Member, *sockets: zmq.Socket[bytes]) -> None:
        # The file descriptor of a zmq socket only tells that something may have changed, and tells it once.
        for socket in sockets:
            self._poll.register(socket.FD, select.EPOLLIN | select.EPOLLET)
            self._at[socket.FD] = member

    def forget(self, *sockets: zmq.Socket[bytes]) -> None:
        for socket in sockets:
            self._poll.unregister(socket.FD)
            del self._at[socket.FD]
            socket.close(linger=0)

    def run(self, members: Sequence[Member]) -> None:
        """Until the process is ended."""
        swept = 0.0
        while True:
            ready = {id(member): member for fd, _ in self._poll.poll(SWEEP) if (member := self._at.get(fd))}
            now = time.monotonic()
            for member in ready.values():
                member.turn(now)
            if now - swept >= SWEEP:
                swept = now
                for member in members:
                    member.tick(now)


def waiting(socket: zmq.Socket[bytes]) -> list[list[bytes]]:
    """Every message that has come in."""
    found = []
    while True:
        try:
            found.append(socket.recv_multipart(zmq.NOBLOCK))
        except zmq.Again:
            return found
