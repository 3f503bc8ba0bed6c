"""The least that a round trip library -> client worker -> host worker -> back can be: bare pyzmq, no checks, no store.

`python3 -m bench.bare SERVER SECRET server PUB REP HOSTS`, `… host PUB REP` and `… crowd PUB REP FROM TO` run until
they are ended. SERVER is the server's public key, SECRET one's own secret key.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import msgpack
import zmq

from bench.crowd import Crowd, waiting


class Curve(NamedTuple):
    """The keys that the bare loop encrypts with. It lets everybody in: it knows nobody."""

    server: str
    secret: str

    def serve(self, socket: zmq.Socket[bytes]) -> None:
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, self.secret.encode())

    def call(self, socket: zmq.Socket[bytes]) -> None:
        socket.setsockopt(zmq.CURVE_SERVERKEY, self.server.encode())
        socket.setsockopt(zmq.CURVE_PUBLICKEY, zmq.curve_public(self.secret.encode()))
        socket.setsockopt(zmq.CURVE_SECRETKEY, self.secret.encode())


def server(curve: Curve, pub_port: int, rep_port: int, hosts: int) -> None:
    """Publish every question once, and give all hosts' answers together to whoever asked."""
    context = zmq.Context()
    router, pub = context.socket(zmq.ROUTER), context.socket(zmq.PUB)
    for socket in (router, pub):
        socket.setsockopt(zmq.BACKLOG, 1024)
        curve.serve(socket)
    router.bind(f"tcp://127.0.0.1:{rep_port}")
    pub.bind(f"tcp://127.0.0.1:{pub_port}")
    askers: dict[int, tuple[bytes, list[Any]]] = {}
    number = 0
    while True:
        peer, _, body = router.recv_multipart()
        message = msgpack.unpackb(body)
        if message["op"] == "answer":
            router.send_multipart([peer, b"", b"\x80"])
            if message["ask"] not in askers:
                continue
            asker, items = askers[message["ask"]]
            items.extend(message["value"]["items"])
            if len(items) == hosts:
                del askers[message["ask"]]
                router.send_multipart([asker, b"", msgpack.packb({"items": items})])
        else:
            number += 1
            askers[number] = (peer, [])
            pub.send_multipart([b"all\0", msgpack.packb({"op": "read", "ask": number})])


def answer(name: str, question: bytes) -> bytes:
    ask = msgpack.unpackb(question)["ask"]
    packed: bytes = msgpack.packb({"op": "answer", "ask": ask, "value": {"items": [{"name": name, "version": "0"}]}})
    return packed


def host(curve: Curve, pub_port: int, rep_port: int) -> None:
    """Answer every question at once."""
    context = zmq.Context()
    sub, req = context.socket(zmq.SUB), context.socket(zmq.REQ)
    curve.call(sub), curve.call(req)
    sub.connect(f"tcp://127.0.0.1:{pub_port}")
    sub.setsockopt(zmq.SUBSCRIBE, b"all\0")
    req.connect(f"tcp://127.0.0.1:{rep_port}")
    while True:
        _, body = sub.recv_multipart()
        req.send(answer("host1", body))
        req.recv()


class BareHost:
    """One of many."""

    def __init__(self, crowd: Crowd, curve: Curve, name: str, pub_port: int, rep_port: int) -> None:
        self._name = name
        self._sub, self._dealer = crowd.context.socket(zmq.SUB), crowd.context.socket(zmq.DEALER)
        crowd.watch(self, self._sub, self._dealer)
        curve.call(self._sub), curve.call(self._dealer)
        self._sub.setsockopt(zmq.SUBSCRIBE, b"all\0")
        self._sub.connect(f"tcp://127.0.0.1:{pub_port}")
        self._dealer.connect(f"tcp://127.0.0.1:{rep_port}")

    def turn(self, now: float) -> None:
        waiting(self._dealer)
        for frames in waiting(self._sub):
            self._dealer.send_multipart([b"", answer(self._name, frames[1])])
        waiting(self._dealer)  # a send may have swallowed the sign that something came in

    def tick(self, now: float) -> None:
        self.turn(now)


def crowd(curve: Curve, pub_port: int, rep_port: int, first: int, last: int) -> None:
    """Answer every question in many names."""
    sockets = Crowd()
    members = [BareHost(sockets, curve, f"h{number}", pub_port, rep_port) for number in range(first, last)]
    for member in members:
        member.turn(time.monotonic())
    sockets.run(members)


if __name__ == "__main__":
    kinds: dict[str, Callable[..., None]] = {"server": server, "host": host, "crowd": crowd}
    kinds[sys.argv[3]](Curve(*sys.argv[1:3]), *(int(word) for word in sys.argv[4:]))
