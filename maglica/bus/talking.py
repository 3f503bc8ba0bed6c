"""The library's socket for conversations: several requests at once, answers as they come, and files beside them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import zmq

from maglica import wire
from maglica.bus.sockets import calling, endpoint, ready, send
from maglica.errors import MaglicaError
from maglica.keys import Key


class Heard(NamedTuple):
    """What was ready: answers, and file descriptors that can be read and written."""

    answers: list[wire.Message]
    readable: set[int]
    writable: set[int]


class Talker:
    """Speaks REQ's words without its lockstep. Belongs to one thread. It connects again by itself."""

    def __init__(self, address: str, port: int, key: Key | None = None) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        calling(self._socket, address, key)
        self._socket.setsockopt(zmq.RECONNECT_IVL, 100)
        self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
        self._socket.connect(endpoint(address, port))

    def send(self, message: wire.Message) -> None:
        """Send a request; to a client worker that is away, when it is back."""
        send(self._socket, b"", wire.encode(message))

    def receive(self, timeout: float, reading: Iterable[int] = (), writing: Iterable[int] = ()) -> Heard:
        """What is ready, after waiting at most `timeout` seconds for the first."""
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        wanted: dict[int, int] = dict.fromkeys(reading, int(zmq.POLLIN))
        for file in writing:
            wanted[file] = wanted.get(file, 0) | int(zmq.POLLOUT)
        for file, flags in wanted.items():
            poller.register(file, flags)
        found = dict(poller.poll(max(0, int(timeout * 1000 + 0.999))))
        answers: list[wire.Message] = []
        if found.pop(self._socket, None):
            answers = [_decoded(frames[-1]) for frames in ready(self._socket, 100) if len(frames) == 2]
        files = {int(file): flags for file, flags in found.items()}
        # A file that was closed at the other end, or is broken, says so when it is read.
        readable = {file for file, flags in files.items() if flags & ~zmq.POLLOUT}
        return Heard(answers, readable, {file for file, flags in files.items() if flags & zmq.POLLOUT})

    def close(self) -> None:
        self._socket.close(linger=200)  # a farewell still leaves
        self._context.destroy(linger=200)


def _decoded(body: bytes) -> wire.Message:
    try:
        return wire.decode(body, wire.MAX_ANSWER_BYTES)
    except MaglicaError as error:
        return wire.failure(error)
