"""What all sockets have in common: their options, and how messages are sent and received."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterable

import zmq

from maglica.errors import Refused
from maglica.keys import Key, Pair

# Plain numbers: to join two of zmq's own flags takes as long as a send.
NOW, MORE = int(zmq.NOBLOCK), int(zmq.NOBLOCK | zmq.SNDMORE)
EVENTS, READABLE = int(zmq.EVENTS), int(zmq.POLLIN)


def new_pair() -> Pair:
    """A new CURVE key pair."""
    public, secret = zmq.curve_keypair()
    return Pair(public.decode(), secret.decode())


def endpoint(address: str, port: int) -> str:
    """A zmq endpoint; IPv6 addresses get their brackets."""
    return f"tcp://[{address}]:{port}" if address.count(":") > 1 else f"tcp://{address}:{port}"


def common(socket: zmq.Socket[bytes]) -> None:
    socket.setsockopt(zmq.LINGER, 0)
    # Dead peers (power cut, cable) are noticed without waiting for the kernel's hours.
    socket.setsockopt(zmq.HEARTBEAT_IVL, 5000)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 15000)
    # A thousand hosts that come back at once need seconds for their handshakes on two busy processors; with 3 s each
    # was cut off in its middle and began anew, for ever.
    socket.setsockopt(zmq.HANDSHAKE_IVL, 10000)
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)


def send(socket: zmq.Socket[bytes], *frames: bytes) -> None:
    """Send a message if that can be done at once."""
    try:
        for frame in frames[:-1]:
            socket.send(frame, MORE)
        socket.send(frames[-1], NOW)
    except zmq.ZMQError:
        pass


def readable(socket: zmq.Socket[bytes]) -> bool:
    """Whether there is something to receive; to find out by trying costs an exception."""
    return bool(int(socket.get(EVENTS)) & READABLE)


def rest(socket: zmq.Socket[bytes]) -> Iterable[bytes]:
    """What follows in a message of which something was received already."""
    more = True
    while more:
        frame = socket.recv(NOW, copy=False)
        more = frame.more
        yield frame.bytes


def ready(socket: zmq.Socket[bytes], at_most: int) -> Iterable[list[bytes]]:
    for _ in range(at_most):
        if not readable(socket):
            return
        try:
            # NOBLOCK although it is readable: a malformed multipart makes the two disagree.
            yield [*rest(socket)]
        except zmq.Again:
            return


def left(until: float, at_most: float | None = None) -> int:
    left = until - time.monotonic()
    # Rounded up: a millisecond too early would be time enough to ask once more, in vain.
    return max(0, math.ceil(1000 * (left if at_most is None else min(left, at_most))))


def requester(
    context: zmq.Context[zmq.Socket[bytes]], address: str, port: int, key: Key | None, *, watched: bool = False
) -> zmq.Socket[bytes]:
    """A REQ socket that connects to a client worker. `watched`: its monitor misses nothing of that."""
    # Ctrl-C in the middle of this would leave a socket that nobody knows of; closing would wait for it for ever.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        socket = context.socket(zmq.REQ)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    calling(socket, address, key)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
    # Each answer names its question: one that comes late, or twice, is not taken for the next one's.
    socket.setsockopt(zmq.REQ_CORRELATE, 1)
    if watched:
        socket.get_monitor_socket(zmq.EVENT_ALL)
    try:
        socket.connect(endpoint(address, port))
    except zmq.ZMQError as error:
        socket.close()
        what = f"{endpoint(address, port)} is no address: {error.strerror}"
        raise Refused("wrong_input", what, "check --client") from None
    return socket


def calling(socket: zmq.Socket[bytes], address: str, key: Key | None) -> None:
    """What every socket that connects has in common."""
    common(socket)
    if address.count(":") > 1:
        socket.setsockopt(zmq.IPV6, 1)
    if key:
        socket.setsockopt(zmq.CURVE_SERVERKEY, key.server.encode())
        socket.setsockopt(zmq.CURVE_PUBLICKEY, key.public.encode())
        socket.setsockopt(zmq.CURVE_SECRETKEY, key.secret.encode())
