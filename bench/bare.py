"""The least that a round trip library -> client worker -> host worker -> back can be: bare pyzmq, no checks, no store.

`python3 bench/bare.py server PUB REP` and `python3 bench/bare.py host PUB REP` run until they are ended.
"""

from __future__ import annotations

import sys

import msgpack
import zmq


def server(pub_port: int, rep_port: int) -> None:
    """Publish every question, and give the host's answer to whoever asked."""
    context = zmq.Context()
    router, pub = context.socket(zmq.ROUTER), context.socket(zmq.PUB)
    router.bind(f"tcp://127.0.0.1:{rep_port}")
    pub.bind(f"tcp://127.0.0.1:{pub_port}")
    askers: dict[int, bytes] = {}
    number = 0
    while True:
        peer, _, body = router.recv_multipart()
        message = msgpack.unpackb(body)
        if message["op"] == "answer":
            router.send_multipart([peer, b"", b"\x80"])
            router.send_multipart([askers.pop(message["ask"]), b"", body])
        else:
            number += 1
            askers[number] = peer
            pub.send_multipart([b"host1\0", msgpack.packb({"op": "read", "ask": number})])


def host(pub_port: int, rep_port: int) -> None:
    """Answer every question at once."""
    context = zmq.Context()
    sub, req = context.socket(zmq.SUB), context.socket(zmq.REQ)
    sub.connect(f"tcp://127.0.0.1:{pub_port}")
    sub.setsockopt(zmq.SUBSCRIBE, b"host1\0")
    req.connect(f"tcp://127.0.0.1:{rep_port}")
    while True:
        _, body = sub.recv_multipart()
        req.send(msgpack.packb({"op": "answer", "ask": msgpack.unpackb(body)["ask"], "value": {"items": []}}))
        req.recv()


if __name__ == "__main__":
    {"server": server, "host": host}[sys.argv[1]](int(sys.argv[2]), int(sys.argv[3]))
