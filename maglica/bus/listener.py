"""A host worker's two sockets."""

from __future__ import annotations

import os
from collections.abc import Iterable

import zmq

from maglica import wire
from maglica.bus.knocking import KNOCK, KNOCKS, knock, refusal
from maglica.bus.sockets import calling, endpoint, ready, send
from maglica.errors import MaglicaError, Refused
from maglica.keys import Key


class Listener:
    """A host worker's two sockets: SUB for the bell, and one that speaks REQ's words without its lockstep.

    Only the thread that made it may use it; `wake` is the exception.
    """

    def __init__(
        self, address: str, pub_port: int, rep_port: int, topics: Iterable[bytes], key: Key | None = None
    ) -> None:
        self._address, self._pub_port, self._rep_port, self._key = address, pub_port, rep_port, key
        self._topics = list(topics)
        self._context = zmq.Context()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._sub: zmq.Socket[bytes]
        self._dealer: zmq.Socket[bytes]
        self._connect()

    def _connect(self) -> None:
        self._connect_sub()
        self._dealer = self._socket(zmq.DEALER)
        self._dealer.connect(endpoint(self._address, self._rep_port))
        self._watch()

    def _connect_sub(self) -> None:
        self._sub = self._socket(zmq.SUB)
        for topic in self._topics:
            self._sub.setsockopt(zmq.SUBSCRIBE, topic)
        self._sub.connect(endpoint(self._address, self._pub_port))

    def _socket(self, kind: int) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        calling(socket, self._address, self._key)
        socket.setsockopt(zmq.RECONNECT_IVL, 100)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 2000)
        return socket

    def _watch(self) -> None:
        self._poller = zmq.Poller()
        self._poller.register(self._sub, zmq.POLLIN)
        self._poller.register(self._dealer, zmq.POLLIN)
        self._poller.register(self._bell, zmq.POLLIN)

    def reconnect(self) -> None:
        """New sockets: whatever state the old ones were in is forgotten, unsent messages with it."""
        self._sub.close()
        self._dealer.close()
        self._connect()

    def listen_again(self) -> None:
        """A new SUB socket only; a request that is out keeps its connection."""
        self._sub.close()
        self._connect_sub()
        self._watch()

    def takes(self, key: Key, address: str, pub_port: int, rep_port: int) -> bool:
        """Go on with another key, on new sockets to where its client worker is; False when it is the one that is used
        already.
        """
        if self._key is None or key.public == self._key.public:
            return False
        self._key, self._address, self._pub_port, self._rep_port = key, address, pub_port, rep_port
        self.reconnect()
        return True

    def diagnosis(self) -> Refused | None:
        """Why nobody answers, where that can be found out within a moment: the keys do not fit."""
        found = knock(self._context, self._address, self._rep_port, self._key, KNOCK)
        where = endpoint(self._address, self._rep_port)
        return refusal(found, where, self._key) if found in KNOCKS else None

    def wake(self) -> None:
        """Make `receive` return; from any thread."""
        os.eventfd_write(self._bell, 1)

    def receive(self, timeout: float) -> tuple[list[wire.Message], list[wire.Message]]:
        """(publications, answers) that are ready, after waiting at most `timeout` seconds."""
        readable = dict(self._poller.poll(max(0, int(timeout * 1000))))
        if self._bell in readable:
            os.eventfd_read(self._bell)
        published = ready(self._sub, 1000) if self._sub in readable else ()
        replies = ready(self._dealer, 1000) if self._dealer in readable else ()
        heard = [frames[1] for frames in published if len(frames) == 2 and frames[0] in self._topics]
        answers = [frames[-1] for frames in replies if len(frames) == 2 and frames[0] == b""]
        return _decoded(heard), _decoded(answers)

    def send(self, message: wire.Message) -> None:
        """Send a request; its answer comes by `receive`. A full queue drops it, as the network might."""
        send(self._dealer, b"", wire.encode(message))

    def close(self) -> None:
        self._sub.close()
        self._dealer.close(linger=500)
        self._context.term()
        os.close(self._bell)


def _decoded(bodies: list[bytes]) -> list[wire.Message]:
    found = []
    for body in bodies:
        try:
            found.append(wire.decode(body, wire.MAX_ANSWER_BYTES))
        except MaglicaError as error:
            # A peer of another version: its answer says so in the one form that never changes.
            found.append(wire.failure(error))
    return found
