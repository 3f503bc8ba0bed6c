"""The sockets. The only file that imports zmq.

PUB on the client worker is a doorbell and may lose messages; REP is the ledger. Behind them stand XPUB (which shows who
has subscribed) and ROUTER (which can answer out of order and later); a plain SUB and a plain REQ see no difference.
"""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Iterable
from typing import NamedTuple

import zmq

from maglica import wire
from maglica.errors import Failed, MaglicaError, Refused

PATIENCE = 2.0  # seconds until an unanswered client asks whether anybody is there at all
KNOCK = 0.8  # seconds that somebody has to answer that; both together stay below 3 s
RESEND = 10.0  # seconds after which an unanswered request is given again

Route = tuple[bytes, ...]


class Request(NamedTuple):
    """A request as it came in: where its answer goes, and its bytes."""

    route: Route
    body: bytes


class Subscription(NamedTuple):
    """Somebody began to listen to a topic."""

    topic: bytes


def endpoint(address: str, port: int) -> str:
    """A zmq endpoint; IPv6 addresses get their brackets."""
    return f"tcp://[{address}]:{port}" if address.count(":") > 1 else f"tcp://{address}:{port}"


def _common(socket: zmq.Socket[bytes]) -> None:
    socket.setsockopt(zmq.LINGER, 0)
    # Dead peers (power cut, cable) are noticed without waiting for the kernel's hours.
    socket.setsockopt(zmq.HEARTBEAT_IVL, 5000)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 15000)
    socket.setsockopt(zmq.HANDSHAKE_IVL, 3000)
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)


class Server:
    """The client worker's two sockets."""

    def __init__(self, bind: str, pub_port: int, rep_port: int) -> None:
        self._context = zmq.Context()
        self._router = self._context.socket(zmq.ROUTER)
        self._xpub = self._context.socket(zmq.XPUB)
        for socket in (self._router, self._xpub):
            _common(socket)
            socket.setsockopt(zmq.BACKLOG, 1024)
            if ":" in bind:
                socket.setsockopt(zmq.IPV6, 1)
        self._router.setsockopt(zmq.MAXMSGSIZE, wire.MAX_BYTES)
        # Limits what subscribers send; what we publish is not limited by it. 64 to 256 would break a CURVE handshake.
        self._xpub.setsockopt(zmq.MAXMSGSIZE, 1024)
        self._xpub.setsockopt(zmq.SNDHWM, 10000)
        self._xpub.setsockopt(zmq.XPUB_VERBOSER, 1)
        self._bind(self._xpub, endpoint(bind, pub_port), "pub_port")
        self._bind(self._router, endpoint(bind, rep_port), "rep_port")
        self._poller = zmq.Poller()
        self._poller.register(self._router, zmq.POLLIN)
        self._poller.register(self._xpub, zmq.POLLIN)

    def _bind(self, socket: zmq.Socket[bytes], where: str, key: str) -> None:
        try:
            socket.bind(where)
        except zmq.ZMQError as error:
            self.close()
            hint = f"is another client worker running? [client] {key} and bind choose another one"
            raise Failed("environment_error", f"cannot listen on {where}: {error.strerror}", hint) from None

    def watch(self, fd: int) -> None:
        """Make `receive` return when this file descriptor becomes readable."""
        self._poller.register(fd, zmq.POLLIN)

    def receive(self, timeout: float, at_most: int = 512) -> list[Request | Subscription]:
        """Everything that is ready, after waiting at most `timeout` seconds for the first."""
        self._poller.poll(max(0, int(timeout * 1000)))
        found: list[Request | Subscription] = []
        for frames in _ready(self._xpub, at_most):
            if frames and frames[0][:1] == b"\x01":
                found.append(Subscription(frames[0][1:]))
        for frames in _ready(self._router, at_most):
            # REQ puts one empty frame before the body; REQ_CORRELATE one frame more before that.
            if b"" in frames[1:-1]:
                split = frames.index(b"", 1)
                found.append(Request(tuple(frames[: split + 1]), b"".join(frames[split + 1 :])))
        return found

    def answer(self, route: Route, message: wire.Message) -> None:
        """Send an answer. A peer that is gone or does not read loses it and will ask again."""
        try:
            self._router.send_multipart([*route, wire.encode(message)], zmq.NOBLOCK)
        except zmq.ZMQError:
            pass

    def publish(self, topic: bytes, message: wire.Message) -> None:
        """Ring. Nobody may be listening."""
        try:
            self._xpub.send_multipart([topic, wire.encode(message)], zmq.NOBLOCK)
        except zmq.ZMQError:
            pass

    def close(self) -> None:
        # The last answers still leave: without it, whoever asked for the stop would wait for its time-out.
        self._router.close(linger=200)
        self._xpub.close(linger=200)
        self._context.term()


def _ready(socket: zmq.Socket[bytes], at_most: int) -> Iterable[list[bytes]]:
    # NOBLOCK even after poll said readable: a malformed multipart makes the two disagree.
    for _ in range(at_most):
        try:
            yield socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return


class Client:
    """The library's side: one question, one answer. Not to be shared between threads."""

    def __init__(self, address: str, port: int) -> None:
        self.address, self.port = address, port
        self._context = zmq.Context()
        self._socket: zmq.Socket[bytes] | None = None

    def ask(self, message: wire.Message, timeout: float) -> wire.Message:
        """Send a request and return its answer; the error in it is raised.

        `timeout` in seconds. Within 3 s it is known whether a client worker is there at all (`unreachable`); one that
        is there and busy is waited for, and the request is repeated on a new connection: every request may be.
        """
        deadline = time.monotonic() + timeout
        data = wire.encode(message)
        while True:
            answer = self._exchange(data, min(deadline, time.monotonic() + RESEND))
            if answer is not None:
                return wire.result(wire.decode(answer, wire.MAX_ANSWER_BYTES))
            if time.monotonic() >= deadline:
                hint = "it is there but busy; try again, or look at its log"
                raise Failed(
                    "timeout", f"the client worker at {self._where()} gave no answer within {timeout:g} s", hint
                )

    def _exchange(self, data: bytes, until: float) -> bytes | None:
        socket = self._fresh()
        try:
            socket.send(data)
            if socket.poll(_left(until, PATIENCE)):
                return socket.recv()
            self._knock()
            if socket.poll(_left(until)):
                return socket.recv()
        except BaseException:
            self._hang_up()
            raise
        self._hang_up()
        return None

    def _fresh(self) -> zmq.Socket[bytes]:
        """A socket that may send: the one from before when its question was answered, otherwise a new one."""
        if self._socket is None or not self._socket.poll(0, zmq.POLLOUT):
            self._hang_up()
            self._socket = self._open()
        return self._socket

    def _hang_up(self) -> None:
        """Forget a question that was not answered: it must not be delivered later, when nobody waits for it."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    def _open(self) -> zmq.Socket[bytes]:
        # Ctrl-C in the middle of this would leave a socket that nobody knows of; closing would wait for it for ever.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            socket = self._context.socket(zmq.REQ)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        _common(socket)
        if self.address.count(":") > 1:
            socket.setsockopt(zmq.IPV6, 1)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
        try:
            socket.connect(endpoint(self.address, self.port))
        except zmq.ZMQError as error:
            socket.close()
            raise Refused("wrong_input", f"{self._where()} is no address: {error.strerror}", "check --client") from None
        return socket

    def _knock(self) -> None:
        socket = self._open()
        try:
            socket.send(wire.encode({"op": "ping"}))
            if not socket.poll(int(KNOCK * 1000)):
                raise Failed(
                    "unreachable",
                    f"no client worker answers at {self._where()}",
                    "is maglica_client_worker running there? --client, MAGLICA_CLIENT or [client] address say where",
                )
        finally:
            socket.close()

    def _where(self) -> str:
        return endpoint(self.address, self.port)

    def close(self) -> None:
        # Not term(): that would wait for ever for a socket which Ctrl-C left open between its making and its use.
        self._context.destroy(linger=0)


def _left(until: float, at_most: float | None = None) -> int:
    left = until - time.monotonic()
    # Rounded up: a millisecond too early would be time enough to ask once more, in vain.
    return max(0, math.ceil(1000 * (left if at_most is None else min(left, at_most))))


class Listener:
    """A host worker's two sockets: SUB for the bell, and one that speaks REQ's words without its lockstep.

    Only the thread that made it may use it; `wake` is the exception.
    """

    def __init__(self, address: str, pub_port: int, rep_port: int, topics: Iterable[bytes]) -> None:
        self._address, self._pub_port, self._rep_port = address, pub_port, rep_port
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
        _common(socket)
        socket.setsockopt(zmq.RECONNECT_IVL, 100)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 2000)
        if self._address.count(":") > 1:
            socket.setsockopt(zmq.IPV6, 1)
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

    def wake(self) -> None:
        """Make `receive` return; from any thread."""
        os.eventfd_write(self._bell, 1)

    def receive(self, timeout: float) -> tuple[list[wire.Message], list[wire.Message]]:
        """(publications, answers) that are ready, after waiting at most `timeout` seconds."""
        self._poller.poll(max(0, int(timeout * 1000)))
        try:
            os.eventfd_read(self._bell)
        except BlockingIOError:
            pass
        heard = [frames[1] for frames in _ready(self._sub, 1000) if len(frames) == 2 and frames[0] in self._topics]
        answers = [frames[-1] for frames in _ready(self._dealer, 1000) if len(frames) == 2 and frames[0] == b""]
        return _decoded(heard), _decoded(answers)

    def send(self, message: wire.Message) -> None:
        """Send a request; its answer comes by `receive`. A full queue drops it, as the network might."""
        try:
            self._dealer.send_multipart([b"", wire.encode(message)], zmq.NOBLOCK)
        except zmq.ZMQError:
            pass

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
