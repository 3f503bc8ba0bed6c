"""The sockets, against plain REQ and SUB peers and against worse."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import zmq

from maglica import wire
from maglica.bus import Breach, Client, Event, Listener, Request, Server, Subscription, endpoint, new_pair
from maglica.bus.client import PATIENCE
from maglica.bus.knocking import BUSY, KNOCK, SILENT, UNKNOWN, knock
from maglica.bus.server import SHARE
from maglica.client_worker.door.limits import Rates
from maglica.client_worker.door.turns import AT_ONCE, Turns
from maglica.client_worker.main import _answer
from maglica.client_worker.outbox import Reply
from maglica.errors import Failed, MaglicaError, Refused
from maglica.keys import Pair
from tests.daemons import free_ports
from tests.waiting import until

PING = wire.encode({"op": "ping"})


class Bell:
    """A server on free ports, and raw peers for it."""

    def __init__(self) -> None:
        self.pub_port, self.rep_port = free_ports(2)
        self.server = Server("127.0.0.1", self.pub_port, self.rep_port)
        self.context = zmq.Context()
        self.peers: list[zmq.Socket[bytes]] = []
        self.heard: list[Event] = []

    def close(self) -> None:
        for peer in self.peers:
            peer.close(linger=0)
        self.context.term()
        self.server.close()

    def peer(self, kind: int, port: int) -> zmq.Socket[bytes]:
        found = self.context.socket(kind)
        found.setsockopt(zmq.RCVTIMEO, 10_000)
        found.connect(f"tcp://127.0.0.1:{port}")
        self.peers.append(found)
        return found

    def receive(self) -> Event:
        """The next thing that happens."""
        if not self.heard:
            self.heard = until(lambda: self.server.receive(0.05))
        return self.heard.pop(0)

    def request(self) -> Request:
        while True:
            found = self.receive()
            if isinstance(found, Request):
                return found


@pytest.fixture
def bell() -> Iterator[Bell]:
    found = Bell()
    yield found
    found.close()


def serve(bell: Bell, answer: Callable[[wire.Message], wire.Message | None], stop: threading.Event) -> None:
    """A client worker that answers at once, or not at all."""
    while not stop.is_set():
        for event in bell.server.receive(0.02):
            if isinstance(event, Request):
                said = answer(wire.decode(event.body))
                if said is not None:
                    bell.server.answer(event.route, said)


@pytest.fixture
def answering(bell: Bell) -> Iterator[Callable[[Callable[[wire.Message], wire.Message | None]], Client]]:
    """A client whose requests are answered by a function, in a thread."""
    stop, threads, clients = threading.Event(), [], []

    def start(answer: Callable[[wire.Message], wire.Message | None]) -> Client:
        threads.append(threading.Thread(target=serve, args=(bell, answer, stop)))
        threads[-1].start()
        clients.append(Client("127.0.0.1", bell.rep_port))
        return clients[-1]

    yield start
    for client in clients:
        client.close()
    stop.set()
    for thread in threads:
        thread.join(10)


# ------------------------------------------------------------------------------------------------- server


@pytest.mark.parametrize(
    "envelope", [[b"x" * 800, b""], [b"a", b"b", b""], [b"x" * 100_000, b"y", b""]], ids=["long", "deep", "both"]
)
def test_an_envelope_that_nobody_needs_is_thrown_away(bell: Bell, envelope: list[bytes]) -> None:
    """It would be kept for as long as the answer is, and counted as nothing."""
    peer = bell.peer(zmq.DEALER, bell.rep_port)
    peer.send_multipart([*envelope, PING])
    peer.send_multipart([b"corr", b"", PING])
    assert bell.request().route[1:] == (b"corr", b"")
    assert not bell.heard


def test_an_answer_that_cannot_travel_is_an_error_and_no_end(bell: Bell) -> None:
    peer = bell.peer(zmq.REQ, bell.rep_port)
    peer.send(PING)
    found = bell.request()
    _answer(bell.server, Reply(found.route, {"v": wire.VERSION, "ok": True, "item": {"bytes": 1 << 70}}))
    with pytest.raises(Failed) as failed:
        wire.result(wire.decode(peer.recv()))
    assert failed.value.code == "internal_error"


def test_a_plain_req_peer_is_answered(bell: Bell) -> None:
    peer = bell.peer(zmq.REQ, bell.rep_port)
    for number in range(3):
        peer.send(wire.encode({"op": "ping", "number": number}))
        found = bell.request()
        assert wire.decode(found.body)["number"] == number
        bell.server.answer(found.route, wire.ok(number=number))
        assert wire.decode(peer.recv())["number"] == number


def test_a_req_peer_that_numbers_its_requests_is_answered(bell: Bell) -> None:
    peer = bell.peer(zmq.REQ, bell.rep_port)
    peer.setsockopt(zmq.REQ_CORRELATE, 1)
    peer.send(PING)
    found = bell.request()
    assert found.body == PING
    bell.server.answer(found.route, wire.ok())
    assert wire.decode(peer.recv())["ok"]


def test_answers_may_be_given_in_any_order_and_later(bell: Bell) -> None:
    peers = [bell.peer(zmq.REQ, bell.rep_port) for _ in range(5)]
    for number, peer in enumerate(peers):
        peer.send(wire.encode({"op": "ping", "number": number}))
    requests = [bell.request() for _ in peers]
    for found in reversed(requests):
        bell.server.answer(found.route, wire.ok(number=wire.decode(found.body)["number"]))
    assert [wire.decode(peer.recv())["number"] for peer in peers] == list(range(5))


def test_what_has_no_envelope_does_not_hang_the_loop(bell: Bell) -> None:
    """One packet of this kind made a strict REP wait for ever."""
    wild, good = bell.peer(zmq.DEALER, bell.rep_port), bell.peer(zmq.REQ, bell.rep_port)
    for frames in ([b"x"], [b"", b""], [b""], [b"a", b"b", b"c"], [b"x" * 1000], [b"", b"", b"", b""]):
        wild.send_multipart(frames)
    good.send(PING)
    deadline = time.monotonic() + 10
    found: list[Request] = []
    while not any(one.body == PING for one in found):
        assert time.monotonic() < deadline
        found += [event for event in bell.server.receive(0.05) if isinstance(event, Request)]
    for one in found:
        bell.server.answer(one.route, wire.ok())
    assert wire.decode(good.recv())["ok"]


def test_bytes_that_are_not_even_zmq_do_no_harm(bell: Bell) -> None:
    for port in (bell.pub_port, bell.rep_port):
        with socket.create_connection(("127.0.0.1", port)) as raw:
            raw.sendall(b"GET / HTTP/1.1\r\n\r\n" + b"\xff" * 1000)
    peer = bell.peer(zmq.REQ, bell.rep_port)
    peer.send(PING)
    bell.server.answer(bell.request().route, wire.ok())
    assert wire.decode(peer.recv())["ok"]


def test_a_request_that_is_too_big_is_not_taken(bell: Bell) -> None:
    huge, good = bell.peer(zmq.REQ, bell.rep_port), bell.peer(zmq.REQ, bell.rep_port)
    huge.send(b"x" * (wire.MAX_BYTES + 1))
    good.send(PING)
    assert bell.request().body == PING
    assert bell.server.receive(0.2) == []


def test_a_peer_that_is_gone_loses_its_answer_and_nobody_else_does(bell: Bell) -> None:
    gone = bell.peer(zmq.REQ, bell.rep_port)
    gone.send(PING)
    found = bell.request()
    gone.close(linger=0)
    for _ in range(3):
        bell.server.answer(found.route, wire.ok())
    bell.server.answer((b"nosuchpeer", b""), wire.ok())
    peer = bell.peer(zmq.REQ, bell.rep_port)
    peer.send(PING)
    bell.server.answer(bell.request().route, wire.ok())
    assert wire.decode(peer.recv())["ok"]


def test_many_requests_come_in_one_turn(bell: Bell) -> None:
    peers = [bell.peer(zmq.REQ, bell.rep_port) for _ in range(20)]
    for peer in peers:
        peer.send(PING)
    time.sleep(0.3)
    assert len(bell.server.receive(1.0)) == 20, "so that they share one commit"


def test_two_cannot_listen_on_one_port(bell: Bell) -> None:
    for pub_port, rep_port, key in (
        (bell.pub_port, free_ports(1)[0], "pub_port"),
        (free_ports(1)[0], bell.rep_port, "rep_port"),
    ):
        with pytest.raises(Failed, match=r"cannot listen on tcp://127\.0\.0\.1:") as failed:
            Server("127.0.0.1", pub_port, rep_port)
        assert failed.value.code == "environment_error"
        assert key in failed.value.hint


# --------------------------------------------------------------------------------------------- publications


def test_who_subscribes_is_seen_and_hears_its_own(bell: Bell) -> None:
    """D1: neither host10 nor anybody else hears what is meant for host1."""
    one, ten = bell.peer(zmq.SUB, bell.pub_port), bell.peer(zmq.SUB, bell.pub_port)
    one.setsockopt(zmq.SUBSCRIBE, wire.topic("host1"))
    assert bell.receive() == Subscription(b"host1\0")
    ten.setsockopt(zmq.SUBSCRIBE, wire.topic("host10"))
    assert bell.receive() == Subscription(b"host10\0")
    for host in ("host1", "host10"):
        bell.server.publish(wire.topic(host), {"op": "bell", "host": host})
    for peer, host in ((one, "host1"), (ten, "host10")):
        topic, body = peer.recv_multipart()
        assert (topic, wire.decode(body)["host"]) == (wire.topic(host), host)
        assert not peer.poll(100), "and nothing else"


def test_a_second_subscriber_of_a_name_is_seen_too(bell: Bell) -> None:
    """A host worker that starts again while its old connection is still there."""
    for _ in range(2):
        bell.peer(zmq.SUB, bell.pub_port).setsockopt(zmq.SUBSCRIBE, b"host1\0")
        assert bell.receive() == Subscription(b"host1\0")


def test_to_ring_where_nobody_listens_does_no_harm(bell: Bell) -> None:
    for _ in range(20_000):
        bell.server.publish(b"nobody\0", {"op": "bell", "host": "nobody"})


# --------------------------------------------------------------------------------------------------- client


def test_a_question_and_its_answer(answering: Callable[..., Client]) -> None:
    client = answering(lambda message: wire.ok(echo=message["number"]))
    for number in range(3):
        assert client.ask({"op": "ping", "number": number}, 10)["echo"] == number


def test_an_answer_that_takes_longer_than_asking_again_is_heard(
    answering: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the connection of the first question: were that given up, each answer would come too late."""
    monkeypatch.setattr("maglica.bus.client.RESEND", 0.3)

    def slow(message: wire.Message) -> wire.Message:
        time.sleep(0.8)
        return wire.ok(number=message.get("number"))

    client = answering(slow)
    for number in (1, 2):
        assert client.ask({"op": "ping", "number": number}, 5.0)["number"] == number


@pytest.mark.parametrize("family", [Refused, Failed])
def test_an_error_is_raised_as_it_is(answering: Callable[..., Client], family: type[MaglicaError]) -> None:
    client = answering(lambda message: wire.failure(family("locked", "text", "hint")))
    for _ in range(2):
        with pytest.raises(family, match="text") as error:
            client.ask({"op": "ping"}, 10)
        assert (error.value.code, error.value.hint) == ("locked", "hint")


@pytest.mark.slow
def test_nobody_there_is_known_within_three_seconds() -> None:
    """D5."""
    pub_port, port = free_ports(2)
    client = Client("127.0.0.1", port)
    began = time.monotonic()
    with pytest.raises(Failed, match=f"no client worker answers at tcp://127.0.0.1:{port}") as failed:
        client.ask({"op": "submit", "number": 1}, 60)
    assert time.monotonic() - began < 3.0
    assert failed.value.code == "unreachable"
    assert failed.value.exit_status == 8
    # Whoever was told that must be able to rely on it: nothing arrives later, when a client worker comes up.
    server = Server("127.0.0.1", pub_port, port)
    until = time.monotonic() + 1.3
    while time.monotonic() < until:
        assert server.receive(0.1) == []
    client.close()
    server.close()


def test_that_nobody_is_there_wants_to_be_seen(bell: Bell) -> None:
    """On a busy machine whoever knocks may get no time to look: that says nothing of the other side."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        assert knock(bell.context, "127.0.0.1", port, None, 0.0) == UNKNOWN
        assert knock(bell.context, "127.0.0.1", port, None, KNOCK) == SILENT, "it refuses"
        held.listen()
        assert knock(bell.context, "127.0.0.1", port, None, KNOCK) == BUSY


def test_one_that_is_there_and_busy_is_waited_for(bell: Bell, answering: Callable[..., Client]) -> None:
    """The knock is answered, the question takes its time."""
    asked: list[float] = []

    def busy(message: wire.Message) -> wire.Message | None:
        if message.get("slow"):
            asked.append(time.monotonic())
            return None
        return wire.ok()

    client = answering(busy)
    began = time.monotonic()
    with pytest.raises(Failed, match=r"gave no answer within 2.2 s") as failed:
        client.ask({"op": "ping", "slow": True}, 2.2)
    assert failed.value.code == "timeout"
    assert PATIENCE < time.monotonic() - began < PATIENCE + KNOCK
    assert len(asked) == 1
    assert client.ask({"op": "ping"}, 10)["ok"], "the lost question does not block the next one"


@pytest.mark.slow
def test_one_whose_disk_stalls_is_waited_for(bell: Bell) -> None:
    """Its loop does nothing for longer than anybody looks whether a client worker is there."""
    client = Client("127.0.0.1", bell.rep_port)

    def stall() -> None:
        time.sleep(PATIENCE + KNOCK + 0.5)
        bell.server.answer(bell.request().route, wire.ok(done=True))

    stalled = threading.Thread(target=stall)
    stalled.start()
    try:
        assert client.ask({"op": "ping"}, 15)["done"] is True
    finally:
        stalled.join()
        client.close()


def test_a_late_answer_is_not_taken_for_that_of_the_next_question(bell: Bell) -> None:
    client = Client("127.0.0.1", bell.rep_port)
    with pytest.raises(Failed):
        client.ask({"op": "ping", "number": 1}, 0.1)
    late = bell.request()
    bell.server.answer(late.route, wire.ok(number=1))
    asking = threading.Thread(target=lambda: found.append(client.ask({"op": "ping", "number": 2}, 10)))
    found: list[wire.Message] = []
    asking.start()
    request = bell.request()
    while wire.decode(request.body).get("number") != 2:
        request = bell.request()
    bell.server.answer(request.route, wire.ok(number=2))
    asking.join(10)
    assert found[0]["number"] == 2
    client.close()


@pytest.mark.parametrize("address", ["a b", "*"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    client = Client(address, 5556)
    with pytest.raises(Refused, match="is no address") as refused:
        client.ask({"op": "ping"}, 0.1)
    assert refused.value.code == "wrong_input"
    client.close()


def test_endpoints() -> None:
    assert endpoint("10.0.0.1", 5556) == "tcp://10.0.0.1:5556"
    assert endpoint("::1", 5556) == "tcp://[::1]:5556"
    assert endpoint("client.example.jp", 1) == "tcp://client.example.jp:1"
    assert endpoint("*", 5555) == "tcp://*:5555"


def test_ipv6_end_to_end() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    pub_port, rep_port = free_ports(2)
    server = Server("::1", pub_port, rep_port)
    client = Client("::1", rep_port)
    answers: list[wire.Message] = []
    asking = threading.Thread(target=lambda: answers.append(client.ask({"op": "ping"}, 10)))
    asking.start()
    (found,) = until(lambda: server.receive(0.05))
    assert isinstance(found, Request)
    server.answer(found.route, wire.ok())
    asking.join(10)
    assert answers[0]["ok"]
    client.close()
    server.close()


# ------------------------------------------------------------------------------------------------- listener


@pytest.fixture
def listener(bell: Bell) -> Iterator[Listener]:
    found = Listener("127.0.0.1", bell.pub_port, bell.rep_port, [wire.topic("host1")])
    yield found
    found.close()


def heard(listener: Listener) -> tuple[list[wire.Message], list[wire.Message]]:
    return until(lambda: next((both for both in [listener.receive(0.05)] if both != ([], [])), None))  # type: ignore[no-any-return]


def subscribed(bell: Bell, count: int) -> None:
    for _ in range(count):
        assert isinstance(bell.receive(), Subscription)


def test_a_host_hears_its_bell_and_its_answers(bell: Bell, listener: Listener) -> None:
    subscribed(bell, 1)
    bell.server.publish(wire.topic("host1"), {"op": "bell", "host": "host1"})
    assert heard(listener) == ([{"v": wire.VERSION, "op": "bell", "host": "host1"}], [])
    listener.send({"op": "sync"})
    listener.send({"op": "answer"})
    requests = [bell.request(), bell.request()]
    assert [wire.decode(one.body)["op"] for one in requests] == ["sync", "answer"], "no lockstep"
    for one in reversed(requests):
        bell.server.answer(one.route, wire.ok(op=wire.decode(one.body)["op"]))
    answers: list[wire.Message] = []
    until(lambda: answers.extend(listener.receive(0.05)[1]) or len(answers) == 2)
    assert sorted(answer["op"] for answer in answers) == ["answer", "sync"]


def test_a_topic_that_only_begins_like_its_own_is_not_heard(bell: Bell, listener: Listener) -> None:
    """D1: the frame is compared, whatever the filter lets through."""
    subscribed(bell, 1)
    bell.server.publish(b"host1\0x", {"op": "bell", "host": "host1"})
    bell.server.publish(wire.topic("host1"), {"op": "bell", "host": "host1", "number": 2})
    published, _ = heard(listener)
    assert [message.get("number") for message in published] == [2]


def test_another_version_is_heard_as_the_refusal_that_it_is(bell: Bell, listener: Listener) -> None:
    subscribed(bell, 1)
    listener.send({"op": "hello"})
    bell.server.answer(bell.request().route, {"v": 99, "ok": True})
    _, (answer,) = heard(listener)
    assert answer["error"]["code"] == "version_mismatch"


def test_it_can_be_woken_from_any_thread(bell: Bell, listener: Listener) -> None:
    subscribed(bell, 1)
    began = time.monotonic()
    threading.Timer(0.1, listener.wake).start()
    assert listener.receive(30) == ([], [])
    assert time.monotonic() - began < 10


def test_new_sockets_forget_what_the_old_ones_waited_for(bell: Bell, listener: Listener) -> None:
    """D5: no lockstep that one lost answer could break for ever."""
    subscribed(bell, 1)
    listener.send({"op": "sync", "number": 1})
    old = bell.request()
    listener.reconnect()
    subscribed(bell, 1)
    bell.server.answer(old.route, wire.ok(number=1))
    listener.send({"op": "sync", "number": 2})
    new = bell.request()
    bell.server.answer(new.route, wire.ok(number=2))
    _, answers = heard(listener)
    assert [answer["number"] for answer in answers] == [2]
    bell.server.publish(wire.topic("host1"), {"op": "bell", "host": "host1"})
    assert heard(listener)[0], "and it still hears the bell"


class Owners:
    """Everybody may connect, and hear the topic that is his own."""

    def __init__(self) -> None:
        self.topics: dict[str, bytes] = {}

    def admits(self, public: str, address: str, *, listens: bool) -> bool:
        return True

    def may_hear(self, public: str, topic: bytes) -> bool:
        return self.topics.get(public) == topic


def test_a_subscriber_cannot_get_what_its_neighbour_is_granted() -> None:
    """A grant goes to the next one in libzmq's queue, which somebody who sends a message can push out of step."""
    gate, key = Owners(), new_pair()
    pub_port, rep_port = free_ports(2)
    server = Server("127.0.0.1", pub_port, rep_port, key, gate)
    context = zmq.Context()
    try:
        victim_key, thief_key = new_pair(), new_pair()
        gate.topics = {victim_key.public: b"victim\0", thief_key.public: b"thief\0"}
        peers = []
        for own in (victim_key, thief_key, thief_key):
            peer = context.socket(zmq.XSUB)
            peer.setsockopt(zmq.RCVTIMEO, 500)
            peer.setsockopt(zmq.CURVE_SERVERKEY, key.public.encode())
            peer.setsockopt(zmq.CURVE_PUBLICKEY, own.public.encode())
            peer.setsockopt(zmq.CURVE_SECRETKEY, own.secret.encode())
            peer.connect(f"tcp://127.0.0.1:{pub_port}")
            peers.append(peer)
        victim, thief, accomplice = peers
        for _ in range(50):
            server.receive(0.01)  # all are connected
        for peer, word in ((accomplice, b"?"), (victim, b"\1victim\0"), (thief, b"\1thief\0")):
            peer.send(word)
            time.sleep(0.3)
        heard = server.receive(0.5)
        assert [event.public for event in heard if isinstance(event, Breach)] == [thief_key.public]

        def again() -> bool:
            victim.poll(0)  # a socket that nobody looks at does not subscribe again
            return Subscription(b"victim\0") in server.receive(0.05)

        until(again, 10, "the victim comes back by itself")
        server.publish(b"victim\0", {"secret": True})
        assert victim.recv_multipart()[0] == b"victim\0"
        with pytest.raises(zmq.Again):
            thief.recv_multipart()
    finally:
        context.destroy(linger=0)
        server.close()


def turns_of(bell: Bell, count: int) -> list[list[Request]]:
    """The requests of each turn, until there were so many."""
    turns: list[list[Request]] = []

    def all_there() -> bool:
        turns.append([event for event in bell.server.receive(0.05) if isinstance(event, Request)])
        return sum(map(len, turns)) == count

    until(all_there)
    return turns


def test_one_connection_has_its_share_of_a_turn_and_others_theirs(bell: Bell) -> None:
    flood, other = bell.peer(zmq.DEALER, bell.rep_port), bell.peer(zmq.REQ, bell.rep_port)
    for _ in range(100):
        flood.send_multipart([b"", PING])
    other.send(PING)
    turns = turns_of(bell, 101)
    assert max(map(len, turns)) <= SHARE + 1
    assert len({request.route[0] for turn in turns for request in turn}) == 2


class AllIn:
    """Everybody may connect."""

    def admits(self, public: str, address: str, *, listens: bool) -> bool:
        return True

    def may_hear(self, public: str, topic: bytes) -> bool:
        return False


@pytest.mark.parametrize("connections", [1, 10, 40])
def test_a_key_has_its_share_however_many_connections_it_has(connections: int) -> None:
    """How many of a flood's requests are dealt with before somebody else's is."""
    server_key, flood_key, other_key = new_pair(), new_pair(), new_pair()
    pub_port, rep_port = free_ports(2)
    server = Server("127.0.0.1", pub_port, rep_port, server_key, AllIn())
    context = zmq.Context()
    turns = Turns(Rates(1_000_000))

    def peer(own: Pair) -> zmq.Socket[bytes]:
        found = context.socket(zmq.DEALER)
        found.setsockopt(zmq.CURVE_SERVERKEY, server_key.public.encode())
        found.setsockopt(zmq.CURVE_PUBLICKEY, own.public.encode())
        found.setsockopt(zmq.CURVE_SECRETKEY, own.secret.encode())
        found.connect(f"tcp://127.0.0.1:{rep_port}")
        return found

    def turn() -> list[str]:
        for event in server.receive(0.0 if turns else 0.05):
            if isinstance(event, Request):
                turns.put(event, 0.0)
        return [one.public for one in turns.take()]

    try:
        other = peer(other_key)
        other.send_multipart([b"", PING])
        until(lambda: other_key.public in turn())
        flood = [peer(flood_key) for _ in range(connections)]
        for _ in range(20):
            for one in flood:
                one.send_multipart([b"", PING])
        until(lambda: flood_key.public in turn(), 20)
        time.sleep(0.5)  # all of it is there
        before = []
        for _ in range(3):
            other.send_multipart([b"", PING])
            time.sleep(0.1)  # and so is this
            dealt: list[str] = []
            while other_key.public not in dealt:
                dealt += turn()
            before.append(dealt.index(other_key.public))
            for one in flood:
                one.send_multipart([b"", PING])
        assert max(before) <= AT_ONCE, before
    finally:
        context.destroy(linger=0)
        server.close()


def test_a_large_message_is_a_share_alone(bell: Bell) -> None:
    flood = bell.peer(zmq.DEALER, bell.rep_port)
    for _ in range(20):
        flood.send_multipart([b"", bytes(wire.MAX_BYTES)])
    assert max(map(len, turns_of(bell, 20))) == 1


def test_every_request_says_by_which_connection_it_came(bell: Bell) -> None:
    for _ in range(2):
        bell.peer(zmq.REQ, bell.rep_port).send(PING)
    fds = {request.fd for turn in turns_of(bell, 2) for request in turn}
    assert len(fds) == 2
    for fd in fds:
        with socket.socket(fileno=os.dup(fd)) as connection:
            assert connection.getsockname()[1] == bell.rep_port
