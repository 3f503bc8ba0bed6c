"""A hostile peer: a program of its own that speaks just enough ZMTP to abuse the two ports, and stops in time.

    python -m tests.faults.attacker ATTACK --port=5556 [--seconds=5] [--peers=1] [--watch=PID --stop-at=600]

It says on stdout, as one JSON line at its end, what it did: bytes sent, connections made, connections that the other
side closed, and the most memory that the watched process held meanwhile. `--watch` and `--stop-at` end it when that
process has grown to so many MiB: an attack that succeeds must not take the machine with it.

Without keys it speaks by itself, because libzmq sends nothing of a message before its last part was given to it. With
`--key=FILE` libzmq does it, and a message without an end is one of 1.3 GB, whose parts share one buffer, or of a
million empty parts.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator

import msgpack
import zmq

from maglica import keys

LONG, MORE, COMMAND = 2, 1, 4  # ZMTP's flags of a frame
PAGE = os.sysconf("SC_PAGE_SIZE")

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)


def frame(body: bytes, flags: int = 0) -> bytes:
    """One ZMTP frame."""
    if len(body) > 255:
        return struct.pack(">BQ", flags | LONG, len(body)) + body
    return struct.pack(">BB", flags, len(body)) + body


def ready(kind: bytes) -> bytes:
    """The command that ends a handshake without keys."""
    return frame(b"\x05READY\x0bSocket-Type" + struct.pack(">I", len(kind)) + kind, COMMAND)


def greet(port: int, kind: bytes) -> socket.socket:
    """A connection whose handshake is over."""
    found = socket.create_connection(("127.0.0.1", port), 5)
    try:
        found.sendall(GREETING)
        got = 0
        while got < len(GREETING):  # libzmq drops a peer whose greeting and READY come together
            said = found.recv(len(GREETING) - got)
            if not said:
                raise ConnectionResetError
            got += len(said)
        found.sendall(ready(kind))
        return found
    except BaseException:
        found.close()
        raise


def ask(message: dict[str, object]) -> bytes:
    """A request as a DEALER sends it."""
    return frame(b"", MORE) + frame(msgpack.packb({"v": 1, **message}))


# attack -> the peer's kind, and what it sends for ever, in blocks


def endless() -> Iterator[bytes]:
    """A message that never ends, in parts of 64 KiB."""
    part = frame(bytes(65536), MORE)
    while True:
        yield part


def crumbs() -> Iterator[bytes]:
    """The same in empty parts: two bytes on the wire, 64 in memory."""
    parts = frame(b"", MORE) * 32768
    while True:
        yield parts


def subscriptions() -> Iterator[bytes]:
    """Half a million different topics, each of 100 bytes, and on."""
    number = 0
    while True:
        block = []
        for _ in range(200):
            number += 1
            block.append(frame(b"\x01" + (b"%016x" % (number * 0x9E3779B97F4A7C15 % 2**64)) * 6 + b"====", 0))
        yield b"".join(block)


def pings() -> Iterator[bytes]:
    """Requests without waiting for answers."""
    block = ask({"op": "ping"}) * 200
    while True:
        yield block


def questions() -> Iterator[bytes]:
    """Requests whose answers are long, not more of them than anybody may ask."""
    block = ask({"op": "?" * 4000}) * 5
    while True:
        time.sleep(0.01)
        yield block


def fat() -> Iterator[bytes]:
    """Whole messages as large as allowed, which mean nothing."""
    part = frame(b"", MORE) + frame(bytes(256 * 1024))
    while True:
        yield part


ATTACKS: dict[str, tuple[bytes, Callable[[], Iterator[bytes]]]] = {
    "endless": (b"DEALER", endless),
    "crumbs": (b"DEALER", crumbs),
    "subscriptions": (b"SUB", subscriptions),
    "pings": (b"DEALER", pings),
    "deaf": (b"DEALER", questions),  # never reads what it asked for
    "fat": (b"DEALER", fat),
}


class Attack:
    """What goes on, and what came of it."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.until = time.monotonic() + options.seconds
        self.sent = self.made = self.closed = self.refused = 0
        self.first_closed: float | None = None
        self.began = time.monotonic()
        self.looked = 0.0
        self.peak = 0  # bytes that the victim held at most, while it was watched

    def over(self) -> bool:
        """Whether time is up, or the victim large enough."""
        now = time.monotonic()
        if now >= self.until:
            return True
        if self.options.watch and now - self.looked > 0.005:
            self.looked = now
            held = resident(self.options.watch)
            self.peak = max(self.peak, held)
            return held >= self.options.stop_at << 20
        return False

    def connect(self, kind: bytes) -> socket.socket | None:
        try:
            found = greet(self.options.port, kind)
        except OSError:
            self.refused += 1
            time.sleep(0.02)
            return None
        self.made += 1
        return found

    def lost(self) -> None:
        self.closed += 1
        if self.first_closed is None:
            self.first_closed = time.monotonic() - self.began

    def stream(self) -> None:
        """Send and send on every connection; connect again where one is closed."""
        kind, blocks = ATTACKS[self.options.attack]
        peers: dict[socket.socket, tuple[Iterator[bytes], memoryview]] = {}
        while not self.over():
            while len(peers) < self.options.peers and not self.over():
                if self.made and not self.options.again:
                    if not peers:
                        return
                    if self.made >= self.options.peers:
                        break
                fresh = self.connect(kind)
                if fresh is not None:
                    fresh.setblocking(False)
                    peers[fresh] = (blocks(), memoryview(b""))
            readable, writable, _ = select.select(peers, peers, [], 0.05)
            for peer in set(readable) | set(writable):
                try:
                    if peer in readable and self.options.attack != "deaf" and not peer.recv(1 << 16):
                        raise ConnectionResetError
                    if peer in writable:
                        source, left = peers[peer]
                        left = left or memoryview(next(source))
                        done = peer.send(left)
                        self.sent += done
                        peers[peer] = source, left[done:]
                except BlockingIOError:
                    pass
                except OSError:
                    self.lost()
                    peers.pop(peer)
                    peer.close()
        for peer in peers:
            peer.close()

    def keyed(self) -> None:
        """The same through libzmq, with a key that is accepted. It connects again by itself."""
        key = keys.load(self.options.key)
        context = zmq.Context()
        kind = zmq.XSUB if self.options.attack == "subscriptions" else zmq.DEALER
        peers = []
        for _ in range(self.options.peers):
            peer = context.socket(kind)
            peer.setsockopt(zmq.SNDHWM, 50)
            peer.setsockopt(zmq.CURVE_SERVERKEY, key.server.encode())
            peer.setsockopt(zmq.CURVE_PUBLICKEY, key.public.encode())
            peer.setsockopt(zmq.CURVE_SECRETKEY, key.secret.encode())
            peer.connect(f"tcp://127.0.0.1:{self.options.port}")
            peers.append(peer)
        part, empty, number = bytes(65536), b"", 0
        while not self.over():
            for peer in peers:
                if self.options.attack == "endless":
                    self._send(peer, [part] * 20_000)
                elif self.options.attack == "crumbs":
                    self._send(peer, [empty] * 1_000_000)
                elif self.options.attack == "pings":
                    self._send(peer, [b"", msgpack.packb({"v": 1, "op": "ping"})])
                elif self.options.attack == "subscriptions":
                    number += 1
                    self._send(peer, [b"\x01" + (b"%016x" % (number * 0x9E3779B97F4A7C15 % 2**64)) * 6])
            if self.options.attack not in ("pings", "subscriptions"):
                time.sleep(0.05)
        context.destroy(linger=0)

    def _send(self, peer: zmq.Socket[bytes], parts: list[bytes]) -> None:
        try:
            for part in parts[:-1]:
                peer.send(part, zmq.SNDMORE | zmq.NOBLOCK, copy=len(part) < 1000)
            peer.send(parts[-1], zmq.NOBLOCK)
            self.sent += sum(map(len, parts))
        except zmq.Again:
            pass

    def idle(self) -> None:
        """Connections that say hello and then nothing, as many as can be had."""
        held: dict[socket.socket, None] = {}
        while not self.over():
            if len(held) < self.options.peers:
                fresh = self.connect(b"DEALER")
                if fresh is not None:
                    held[fresh] = None
            else:
                time.sleep(0.01)
            for peer in select.select(held, [], [], 0)[0] if len(held) < 1000 else []:
                try:
                    if peer.recv(1 << 16):
                        continue
                except OSError:
                    pass
                self.lost()
                del held[peer]
                peer.close()
        for peer in held:
            peer.close()


def resident(pid: int) -> int:
    """Bytes of memory that a process holds; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as opened:
            return int(opened.read().split()[1]) * PAGE
    except (OSError, IndexError):
        return 0


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("attack", choices=[*ATTACKS, "idle"])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--peers", type=int, default=1)
    parser.add_argument("--key", metavar="FILE")
    parser.add_argument("--again", action="store_true", help="connect again when cut off")
    parser.add_argument("--watch", type=int, default=0, metavar="PID")
    parser.add_argument("--stop-at", type=int, default=600, metavar="MIB")
    attack = Attack(parser.parse_args())
    if attack.options.key:
        attack.keyed()
    elif attack.options.attack == "idle":
        attack.idle()
    else:
        attack.stream()
    print(
        json.dumps(
            {
                "seconds": round(time.monotonic() - attack.began, 3),
                "sent": attack.sent,
                "made": attack.made,
                "closed": attack.closed,
                "refused": attack.refused,
                "first_closed": attack.first_closed,
                "peak": attack.peak,
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
