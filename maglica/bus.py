"""The sockets. The only file that imports zmq.

PUB on the client worker is a doorbell and may lose messages; REP is the ledger. Behind them stand XPUB (which shows who
has subscribed) and ROUTER (which can answer out of order and later); a plain SUB and a plain REQ see no difference.

Both are encrypted by CURVE (https://rfc.zeromq.org/spec/26/). Who may connect is asked of a `Gate` in the loop of
whoever serves, and the public key of the peer comes with every request and subscription.
"""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Iterable
from typing import NamedTuple, Protocol

import zmq
from zmq.utils import z85

from maglica import wire
from maglica.errors import Failed, MaglicaError, Refused
from maglica.keys import Key, Pair, fingerprint

FIRST_LOOK = 0.4  # seconds until a client that was never answered looks whether its key is accepted
PATIENCE = 2.0  # seconds until an unanswered client asks whether anybody is there at all
KNOCK = 0.8  # seconds that somebody has to answer that; both together stay below 3 s
RESEND = 10.0  # seconds after which an unanswered request is given again

# What one peer may have in the client worker at once. A REQ has one request under way and a host worker a few; what
# somebody sends faster waits in his own TCP connection, not in our memory.
UNREAD = 16  # whole messages of one connection that wait for the loop, each of up to wire.MAX_BYTES
UNSENT = 64  # answers that wait for one connection to read them
SHARE = 2  # messages of one connection that are taken at once
SHARE_BYTES = wire.MAX_BYTES  # the same in bytes

# Plain numbers: to join two of zmq's own flags takes as long as a send.
_NOW, _MORE = int(zmq.NOBLOCK), int(zmq.NOBLOCK | zmq.SNDMORE)
_EVENTS, _READABLE = int(zmq.EVENTS), int(zmq.POLLIN)

Route = tuple[bytes, ...]


class Request(NamedTuple):
    """A request as it came in: where its answer goes, its bytes, and whose it is (no key on an open bus).

    `fd`: the file descriptor of its connection, which may be closed by now or be another one's; -1 when not known.
    """

    route: Route
    body: bytes
    public: str = ""
    address: str = ""
    fd: int = -1


class Subscription(NamedTuple):
    """Somebody who may began to listen to a topic."""

    topic: bytes


class Breach(NamedTuple):
    """A subscriber sent what no subscriber sends."""

    public: str
    address: str
    fd: int


Event = Request | Subscription | Breach


class Gate(Protocol):
    """Who may come in, and who may hear what; asked at every connection and every subscription."""

    def admits(self, public: str, address: str) -> bool:
        """Whether a peer with this public key may connect at all."""
        ...

    def may_hear(self, public: str, topic: bytes) -> bool:
        """Whether that key's owner may listen to a topic."""
        ...


def new_pair() -> Pair:
    """A new CURVE key pair."""
    public, secret = zmq.curve_keypair()
    return Pair(public.decode(), secret.decode())


def endpoint(address: str, port: int) -> str:
    """A zmq endpoint; IPv6 addresses get their brackets."""
    return f"tcp://[{address}]:{port}" if address.count(":") > 1 else f"tcp://{address}:{port}"


def _common(socket: zmq.Socket[bytes]) -> None:
    socket.setsockopt(zmq.LINGER, 0)
    # Dead peers (power cut, cable) are noticed without waiting for the kernel's hours.
    socket.setsockopt(zmq.HEARTBEAT_IVL, 5000)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 15000)
    # A thousand hosts that come back at once need seconds for their handshakes on two busy processors; with 3 s each
    # was cut off in its middle and began anew, for ever.
    socket.setsockopt(zmq.HANDSHAKE_IVL, 10000)
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)


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
        self._router = self._open(zmq.ROUTER)
        # Counts neither the parts of a message that has not ended nor subscriptions: client_worker/guard.py does.
        self._router.setsockopt(zmq.MAXMSGSIZE, wire.MAX_BYTES)
        self._router.setsockopt(zmq.RCVHWM, UNREAD)
        self._router.setsockopt(zmq.SNDHWM, UNSENT)
        self._bind(self._router, endpoint(bind, rep_port), "rep_port")
        self._poller.register(self._router, zmq.POLLIN)
        self.emptied = 0  # how often `receive` had taken every whole request that there was

    def _open(self, kind: int) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        self._open_sockets.append(socket)
        _common(socket)
        socket.setsockopt(zmq.BACKLOG, 1024)
        if ":" in self._address:
            socket.setsockopt(zmq.IPV6, 1)
        if self._key:
            socket.setsockopt(zmq.CURVE_SERVER, 1)
            socket.setsockopt(zmq.CURVE_SECRETKEY, self._key.secret.encode())
            socket.setsockopt(zmq.ZAP_DOMAIN, b"maglica")
        return socket

    def _open_xpub(self, patience: float = 0.0) -> zmq.Socket[bytes]:
        socket = self._open(zmq.XPUB)
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
            for asked in _ready(self._zap, at_most):
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
            if not _readable(self._router):
                self.emptied += 1
                return
            try:
                # NOBLOCK although it is readable: a malformed multipart makes the two disagree.
                sender = self._router.recv(_NOW)
                # The first frame of the peer's own: unlike the one before it, it always knows where it came from.
                first = self._router.recv(_NOW, copy=False)
                frames = [first.bytes, *(_rest(self._router) if first.more else ())]
            except zmq.Again:
                self.emptied += 1
                return
            # REQ puts one empty frame before the body; REQ_CORRELATE one frame more before that.
            if b"" in frames[:-1]:
                split = frames.index(b"") + 1
                route, body = (sender, *frames[:split]), b"".join(frames[split:])
                yield Request(
                    route, body, _property(first, "User-Id"), _property(first, "Peer-Address"), _source(first)
                )
            had[sender] = had.get(sender, 0) + 1
            if had[sender] >= SHARE or sum(map(len, frames)) >= SHARE_BYTES:
                return

    def _admit(self, asked: list[bytes]) -> None:
        """Answer libzmq's question about a connection: https://rfc.zeromq.org/spec/27/."""
        split = asked.index(b"", 1) + 1
        version, number, _, address, _, mechanism, *credentials = asked[split:]
        public = ""
        if mechanism == b"CURVE" and credentials and self._gate:
            public = z85.encode(credentials[0]).decode()  # type: ignore[no-untyped-call]
            good = self._gate.admits(public, address.decode(errors="replace"))
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
        _send(self._router, *route, wire.encode(message))

    def publish(self, topic: bytes, message: wire.Message) -> None:
        """Ring. Nobody may be listening."""
        _send(self._xpub, topic, wire.encode(message))

    def close(self) -> None:
        # The last answers still leave: without it, whoever asked for the stop would wait for its time-out.
        for socket in self._open_sockets:
            socket.close(linger=200)
        self._context.term()
        os.close(self._bell)


def _send(socket: zmq.Socket[bytes], *frames: bytes) -> None:
    """Send a message if that can be done at once."""
    try:
        for frame in frames[:-1]:
            socket.send(frame, _MORE)
        socket.send(frames[-1], _NOW)
    except zmq.ZMQError:
        pass


def _readable(socket: zmq.Socket[bytes]) -> bool:
    """Whether there is something to receive; to find out by trying costs an exception."""
    return bool(int(socket.get(_EVENTS)) & _READABLE)


def _rest(socket: zmq.Socket[bytes]) -> Iterable[bytes]:
    """What follows in a message of which something was received already."""
    more = True
    while more:
        frame = socket.recv(_NOW, copy=False)
        more = frame.more
        yield frame.bytes


def _ready(socket: zmq.Socket[bytes], at_most: int) -> Iterable[list[bytes]]:
    for _ in range(at_most):
        if not _readable(socket):
            return
        try:
            # NOBLOCK although it is readable: a malformed multipart makes the two disagree.
            yield [*_rest(socket)]
        except zmq.Again:
            return


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
        return str(frame.get(name))  # type: ignore[arg-type]
    except zmq.ZMQError:
        return ""


def _source(frame: zmq.Frame) -> int:
    """The file descriptor of the connection that a frame came by."""
    try:
        return int(frame.get(zmq.SRCFD))
    except zmq.ZMQError:
        return -1


class Client:
    """The library's side: one question, one answer. Not to be shared between threads.

    `key`: whose questions they are; None for a bus that is open.
    """

    def __init__(self, address: str, port: int, key: Key | None = None) -> None:
        self.address, self.port, self.key = address, port, key
        self._context = zmq.Context()
        self._socket: zmq.Socket[bytes] | None = None
        self._answered = False

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
            patience = min(until, time.monotonic() + PATIENCE)
            if not self._answered and not socket.poll(_left(patience, FIRST_LOOK)):
                self._look(patience)
            answer = self._heard(socket, patience)
            if answer is not None:
                return answer
            if self._look(until) == SILENT:
                raise Failed(
                    "unreachable",
                    f"no client worker answers at {self._where()}",
                    "is maglica_client_worker running there? --client, MAGLICA_CLIENT or [client] address say where",
                )
            answer = self._heard(socket, until)
            if answer is not None:
                return answer
        except BaseException:
            self._hang_up()
            raise
        self._hang_up()
        return None

    def _heard(self, socket: zmq.Socket[bytes], until: float) -> bytes | None:
        """The answer, when it comes in time."""
        while socket.poll(_left(until)):
            try:
                answer = socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                continue  # the late answer to an earlier question: looking for ours has thrown it away
            self._answered = True
            return answer
        return None

    def _look(self, until: float) -> str:
        """Knock, and raise what is wrong with the keys."""
        found = knock(self._context, self.address, self.port, self.key, min(KNOCK, max(0.1, until - time.monotonic())))
        if found in KNOCKS:
            raise refusal(found, self._where(), self.key)
        return found

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
        return _requester(self._context, self.address, self.port, self.key)

    def _where(self) -> str:
        return endpoint(self.address, self.port)

    def close(self) -> None:
        # Not term(): that would wait for ever for a socket which Ctrl-C left open between its making and its use.
        self._context.destroy(linger=0)


def _left(until: float, at_most: float | None = None) -> int:
    left = until - time.monotonic()
    # Rounded up: a millisecond too early would be time enough to ask once more, in vain.
    return max(0, math.ceil(1000 * (left if at_most is None else min(left, at_most))))


def _requester(context: zmq.Context[zmq.Socket[bytes]], address: str, port: int, key: Key | None) -> zmq.Socket[bytes]:
    """A REQ socket that connects to a client worker."""
    # Ctrl-C in the middle of this would leave a socket that nobody knows of; closing would wait for it for ever.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        socket = context.socket(zmq.REQ)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    _calling(socket, address, key)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
    # Each answer names its question: one that comes late, or twice, is not taken for the next one's.
    socket.setsockopt(zmq.REQ_CORRELATE, 1)
    try:
        socket.connect(endpoint(address, port))
    except zmq.ZMQError as error:
        socket.close()
        what = f"{endpoint(address, port)} is no address: {error.strerror}"
        raise Refused("wrong_input", what, "check --client") from None
    return socket


def _calling(socket: zmq.Socket[bytes], address: str, key: Key | None) -> None:
    """What every socket that connects has in common."""
    _common(socket)
    if address.count(":") > 1:
        socket.setsockopt(zmq.IPV6, 1)
    if key:
        socket.setsockopt(zmq.CURVE_SERVERKEY, key.server.encode())
        socket.setsockopt(zmq.CURVE_PUBLICKEY, key.public.encode())
        socket.setsockopt(zmq.CURVE_SECRETKEY, key.secret.encode())


# What a knock finds out.
ANSWERED = "answered"
SILENT = "silent"  # nothing accepts connections
BUSY = "busy"  # something does, and says nothing yet
KEY_REFUSED = "key refused"
OTHER_SERVER = "other server"
KEY_WANTED = "key wanted"

KNOCKS = {
    KEY_REFUSED: (
        "the client worker at {where} does not accept the key {key}",
        "it was revoked, has expired or was never known there: people get a new one by `maglica key new NAME`,"
        " hosts by `maglica host invite NAME`",
    ),
    OTHER_SERVER: (
        "whoever answers at {where} is not the client worker that the key {key} is for",
        "is the address right, is its bus encrypted ([client] security), has it been installed anew?",
    ),
    KEY_WANTED: (
        "the client worker at {where} wants a key, and the settings here say security = none",
        "remove [client] security from the settings, and give a key",
    ),
}


def refusal(found: str, where: str, key: Key | None) -> Refused:
    """The error that says what a knock found out."""
    message, hint = KNOCKS[found]
    shown = f"{key.name} ({fingerprint(key.public)})" if key else "none"
    return Refused("denied", message.format(where=where, key=shown), hint, details={"knock": found})


def knock(context: zmq.Context[zmq.Socket[bytes]], address: str, port: int, key: Key | None, seconds: float) -> str:
    """Find out within some seconds why nobody answers: a new connection, watched."""
    from zmq.utils.monitor import recv_monitor_message  # needed only when something is wrong

    socket = _requester(context, address, port, key)
    monitor = socket.get_monitor_socket(zmq.EVENT_ALL)
    poller = zmq.Poller()
    poller.register(socket, zmq.POLLIN)
    poller.register(monitor, zmq.POLLIN)
    until, breaks, found = time.monotonic() + seconds, 0, SILENT
    try:
        socket.send(wire.encode({"op": "ping"}))
        while time.monotonic() < until:
            ready = dict(poller.poll(_left(until)))
            if socket in ready:
                return ANSWERED
            if monitor not in ready:
                continue
            event = recv_monitor_message(monitor)["event"]
            if event == zmq.EVENT_CONNECTED:
                found = BUSY  # the client worker's loop decides on handshakes, and it may be waiting for its disk
            if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                return KEY_REFUSED
            if event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
                return OTHER_SERVER if key else KEY_WANTED
            # A client worker that stops in the middle of a handshake looks the same, once.
            breaks += event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
            if breaks == 2:
                return OTHER_SERVER if key else KEY_WANTED
        return found
    finally:
        socket.disable_monitor()
        monitor.close(linger=0)
        socket.close(linger=0)


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
        _calling(socket, self._address, self._key)
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

    def takes(self, key: Key) -> bool:
        """Go on with another key, on new sockets; False when it is the one that is used already."""
        if self._key is None or key.public == self._key.public:
            return False
        self._key = key
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
        published = _ready(self._sub, 1000) if self._sub in readable else ()
        replies = _ready(self._dealer, 1000) if self._dealer in readable else ()
        heard = [frames[1] for frames in published if len(frames) == 2 and frames[0] in self._topics]
        answers = [frames[-1] for frames in replies if len(frames) == 2 and frames[0] == b""]
        return _decoded(heard), _decoded(answers)

    def send(self, message: wire.Message) -> None:
        """Send a request; its answer comes by `receive`. A full queue drops it, as the network might."""
        _send(self._dealer, b"", wire.encode(message))

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
