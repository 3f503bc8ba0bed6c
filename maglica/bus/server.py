"""The client worker's two sockets."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable

import zmq
from zmq.utils import z85

from maglica import wire
from maglica.bus.events import Breach, Event, Gate, Request, Route, Subscription
from maglica.bus.sockets import NOW, common, endpoint, readable, ready, rest, send
from maglica.errors import Failed
from maglica.keys import Pair

# What one peer may have in the client worker at once. A REQ has one request under way and a host worker a few; what
# somebody sends faster waits in his own TCP connection, not in our memory.
UNREAD = 16  # whole messages of one connection that wait for the loop, each of up to wire.MAX_BYTES
UNSENT = 64  # answers that wait for one connection to read them
ENVELOPE = 3  # frames before a body, its sender's name among them: REQ puts one there, REQ_CORRELATE two
ENVELOPE_BYTES = 300  # of all of them: they are kept for as long as the answer is. A name has 255 at most.
LISTENERS = b"maglica-listeners"  # the ZAP domain of the PUB port
SHARE = 2  # messages of one connection that are taken at once
SHARE_BYTES = wire.MAX_BYTES  # the same in bytes


class Server:
    """The client worker's two sockets.

    `key` and `gate`: its own key and who decides who may connect. Without a key the bus is open to everybody.
    """

    def __init__(
        self, bind: str, pub_port: int, rep_port: int, key: Pair | None = None, gate: Gate | None = None
    ) -> None:
        self._context = zmq.Context()
        self._address, self._pub_port, self._key, self._gate = bind, pub_port, key, gate
        self._poller = zmq.Poller()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poller.register(self._bell, zmq.POLLIN)
        self._open_sockets: list[zmq.Socket[bytes]] = []
        self._zap = self._context.socket(zmq.ROUTER)
        self._open_sockets.append(self._zap)
        # Before the first bind: without somebody who answers here, CURVE lets every key in (RFC 27).
        self._zap.bind("inproc://zeromq.zap.01")
        self._poller.register(self._zap, zmq.POLLIN)
        self._xpub = self._open_xpub()
        self._router = self._open(zmq.ROUTER, b"maglica")
        # Counts neither the parts of a message that has not ended nor subscriptions: client_worker/door/guard.py does.
        self._router.setsockopt(zmq.MAXMSGSIZE, wire.MAX_BYTES)
        self._router.setsockopt(zmq.RCVHWM, UNREAD)
        self._router.setsockopt(zmq.SNDHWM, UNSENT)
        self._bind(self._router, endpoint(bind, rep_port), "rep_port")
        self._poller.register(self._router, zmq.POLLIN)
        self.emptied = 0  # how often `receive` had taken every whole request that there was

    def _open(self, kind: int, domain: bytes) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        self._open_sockets.append(socket)
        common(socket)
        socket.setsockopt(zmq.BACKLOG, 1024)
        if ":" in self._address:
            socket.setsockopt(zmq.IPV6, 1)
        if self._key:
            socket.setsockopt(zmq.CURVE_SERVER, 1)
            socket.setsockopt(zmq.CURVE_SECRETKEY, self._key.secret.encode())
            socket.setsockopt(zmq.ZAP_DOMAIN, domain)
        return socket

    def _open_xpub(self, patience: float = 0.0) -> zmq.Socket[bytes]:
        socket = self._open(zmq.XPUB, LISTENERS)
        # Limits what subscribers send; what we publish is not limited by it. 64 to 256 would break a CURVE handshake.
        socket.setsockopt(zmq.MAXMSGSIZE, 1024)
        socket.setsockopt(zmq.RCVHWM, UNREAD)
        socket.setsockopt(zmq.RCVBUF, 16 * 1024)
        socket.setsockopt(zmq.SNDHWM, 10000)
        # Every subscription is shown to us, and takes effect when we say so.
        socket.setsockopt(zmq.XPUB_MANUAL, 1)
        self._bind(socket, endpoint(self._address, self._pub_port), "pub_port", patience)
        self._poller.register(socket, zmq.POLLIN)
        return socket

    def drop_subscribers(self) -> None:
        """End every subscriber's connection. Those who still may come back by themselves, within a moment."""
        self._poller.unregister(self._xpub)
        self._open_sockets.remove(self._xpub)
        self._xpub.close(linger=0)
        # libzmq gives the port back in a thread of its own, a moment after the socket was closed.
        self._xpub = self._open_xpub(patience=5.0)

    def _bind(self, socket: zmq.Socket[bytes], where: str, key: str, patience: float = 0.0) -> None:
        deadline = time.monotonic() + patience
        try:
            while True:
                try:
                    socket.bind(where)
                    return
                except zmq.ZMQError as error:
                    if error.errno != zmq.EADDRINUSE or time.monotonic() >= deadline:
                        raise
                    time.sleep(0.001)
        except zmq.ZMQError as error:
            self.close()
            hint = f"is another client worker running? [client] {key} and bind choose another one"
            raise Failed("environment_error", f"cannot listen on {where}: {error.strerror}", hint) from None

    def wake(self) -> None:
        """Make `receive` return; from any thread."""
        os.eventfd_write(self._bell, 1)

    def receive(self, timeout: float, at_most: int = 512) -> list[Event]:
        """What is ready, after waiting at most `timeout` seconds for the first.

        As soon as one connection has had its share, all others that had something have been asked: libzmq gives one
        message of each after the other. (A large message ends it at once; the next one goes on where this one was.)
        """
        readable = dict(self._poller.poll(max(0, int(timeout * 1000))))
        if self._bell in readable:
            os.eventfd_read(self._bell)
        # Connections and subscriptions are rare, and to find out in vain that there are none costs an exception each.
        if self._zap in readable:
            for asked in ready(self._zap, at_most):
                self._admit(asked)
        heard = self._subscriptions(at_most) if self._xpub in readable else ()
        return [*heard, *self._requests(at_most)]

    def _subscriptions(self, at_most: int) -> Iterable[Subscription | Breach]:
        for frame in _frames(self._xpub, at_most):
            word = frame.bytes
            if word[:1] not in (b"\0", b"\1"):
                # No subscriber says this. libzmq takes the next one in its queue for its sender: what is granted
                # from here on could go to somebody else. Everybody has to begin anew.
                self.drop_subscribers()
                yield Breach(_property(frame, "User-Id"), _property(frame, "Peer-Address"), _source(frame))
                return
            if word[:1] == b"\1" and self._grant(_property(frame, "User-Id"), word[1:]):
                yield Subscription(word[1:])

    def _requests(self, at_most: int) -> Iterable[Request]:
        had: dict[bytes, int] = {}  # by connection: messages of this turn
        for _ in range(at_most):
            if not readable(self._router):
                self.emptied += 1
                return
            try:
                # NOBLOCK although it is readable: a malformed multipart makes the two disagree.
                sender = self._router.recv(NOW)
                # The first frame of the peer's own: unlike the one before it, it always knows where it came from.
                first = self._router.recv(NOW, copy=False)
                frames = [first.bytes, *(rest(self._router) if first.more else ())]
            except zmq.Again:
                self.emptied += 1
                return
            # REQ puts one empty frame before the body; REQ_CORRELATE one frame more before that.
            split = frames.index(b"") + 1 if b"" in frames[:-1] else 0
            route, body = (sender, *frames[:split]), b"".join(frames[split:])
            if split and len(route) <= ENVELOPE and sum(map(len, route)) <= ENVELOPE_BYTES:
                yield Request(
                    route, body, _property(first, "User-Id"), _property(first, "Peer-Address"), _source(first)
                )
            had[sender] = had.get(sender, 0) + 1
            if had[sender] >= SHARE or sum(map(len, frames)) >= SHARE_BYTES:
                return

    def _admit(self, asked: list[bytes]) -> None:
        """Answer libzmq's question about a connection: https://rfc.zeromq.org/spec/27/."""
        split = asked.index(b"", 1) + 1
        version, number, domain, address, _, mechanism, *credentials = asked[split:]
        public = ""
        if mechanism == b"CURVE" and credentials and self._gate:
            public = z85.encode(credentials[0]).decode()  # type: ignore[no-untyped-call,unused-ignore]
            good = self._gate.admits(public, address.decode(errors="replace"), listens=domain == LISTENERS)
        else:
            good = self._key is None
        code, text = (b"200", b"OK") if good else (b"400", b"unknown key")
        self._zap.send_multipart([*asked[:split], version, number, code, text, public.encode(), b""], zmq.NOBLOCK)

    def _grant(self, public: str, topic: bytes) -> bool:
        """Let the peer whose subscription was received last hear a topic, if it may."""
        if self._gate and not self._gate.may_hear(public, topic):
            return False
        self._xpub.setsockopt(zmq.SUBSCRIBE, topic)
        return True

    def answer(self, route: Route, message: wire.Message) -> None:
        """Send an answer. A peer that is gone or does not read loses it and will ask again."""
        send(self._router, *route, wire.encode(message))

    def publish(self, topic: bytes, message: wire.Message) -> None:
        """Ring. Nobody may be listening."""
        send(self._xpub, topic, wire.encode(message))

    def close(self) -> None:
        # The last answers still leave: without it, whoever asked for the stop would wait for its time-out.
        for socket in self._open_sockets:
            socket.close(linger=200)
        self._context.term()
        os.close(self._bell)


def _frames(socket: zmq.Socket[bytes], at_most: int) -> Iterable[zmq.Frame]:
    """Subscriptions: one frame each, and what is done about one is done before the next is taken."""
    for _ in range(at_most):
        try:
            yield socket.recv(zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return


def _property(frame: zmq.Frame, name: str) -> str:
    """What is known of the peer that sent a frame; '' where there is nothing (an open bus)."""
    try:
        return str(frame.get(name))  # type: ignore[arg-type,unused-ignore]
    except zmq.ZMQError:
        return ""


def _source(frame: zmq.Frame) -> int:
    """The file descriptor of the connection that a frame came by."""
    try:
        return int(frame.get(zmq.SRCFD))
    except zmq.ZMQError:
        return -1
