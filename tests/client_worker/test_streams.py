"""Streams through a client worker without sockets: both real ends, and a network that loses, doubles and mixes."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maglica import declare, wire
from maglica.client_worker.streams import streams
from maglica.config import RoleSection
from maglica.host_worker.streams.source import Opened, Source
from maglica.viewing import Anew, Event, Gap, Output, Over, Trouble, Viewing
from maglica.viewing import Opened as Open
from tests.client_worker.office import LockedOffice, Message, Office, Worker

VM = "web1"


class Host:
    """A host worker's end, with a guest that the test plays."""

    def __init__(self, office: Office, shared: bool, before: bytes = b"") -> None:
        self.office, self.shared, self.before = office, shared, before
        self.worker = Worker(office, "host1", {VM: "running"})
        self.worker.hello(features=list(wire.FEATURES))
        self.sources: dict[str, Source] = {}
        self.typed = b""
        self.unread = b""  # what the guest says when there is room for it

    def hear(self) -> None:
        """What is rung."""
        self.worker.answer_all()
        for _, message in self.office.rung:
            if message["op"] == "stream":
                self.wanted(message["stream"])
        self.office.rung.clear()

    def wanted(self, what: str) -> None:
        if what in self.sources:
            self.sources[what].rung(self.office.mono)
            return
        source = self.sources[what] = Source(what, self.office.mono)
        source.begin(Opened(-1, self.before, self.shared, "", lambda: None))

    def says(self, data: bytes) -> None:
        for source in self.sources.values():
            if self.shared:
                source.read.push(data)
        if not self.shared:
            self.unread += data
            self.pump()

    def pump(self) -> None:
        for source in self.sources.values():
            if not self.shared:
                self.unread = self.unread[source.read.put(self.unread) :]

    def answered(self, message: Message) -> None:
        source = self.sources.get(str(message.get("stream")))
        if source:
            self.typed += source.answered(message, self.office.mono)
            if message.get("close") and message.get("life") == source.life:
                del self.sources[source.what]


class Net:
    """What is under way between the three, in whatever order it arrives."""

    def __init__(self, office: Office, host: Host, chance: random.Random, loss: float) -> None:
        self.office, self.host, self.chance, self.loss = office, host, chance, loss
        self.up: list[tuple[Message, Callable[[Message], None]]] = []
        self.down: list[tuple[Message, Callable[[Message], None]]] = []
        self.held: list[tuple[Any, Callable[[Message], None]]] = []
        self.views: list[tuple[Viewing, list[Event]]] = []

    def view(self, **more: Any) -> tuple[Viewing, list[Event]]:
        action = "vm console" if self.host.shared else "vm vnc"
        made = Viewing(declare.build(action, {"name": VM}), self.office.mono, **more), list[Event]()
        self.views.append(made)
        return made

    def step(self) -> None:
        """Everybody says what he has to say; something that is under way arrives, or does not."""
        mono = self.office.mono
        for viewing, events in self.views:
            message = viewing.message(mono)
            if message:
                self._post(self.up, message, lambda a, v=viewing, e=events: e.extend(v.answered(a, self.office.mono)))
        for source in self.host.sources.values():
            told = source.message(mono)
            if told:
                self._post(self.up, {"host": "host1", **told}, self.host.answered)
        self.host.pump()
        self._deliver()
        self.office.sleep(self.chance.choice((0.001, 0.001, 0.01, 0.3 if self.loss else 0.01)))
        self.host.hear()
        self.office.turn()
        for asked, then in list(self.held):
            if asked.answers:
                self.held.remove((asked, then))
                self._post(self.down, asked.answers[0], then)

    def _post(self, queue: list[Any], message: Message, then: Callable[[Message], None]) -> None:
        for _ in range(0 if self.chance.random() < self.loss else 2 if self.chance.random() < self.loss else 1):
            queue.append((message, then))

    def _deliver(self) -> None:
        for queue in (self.up, self.down):
            if self.loss:
                self.chance.shuffle(queue)
            for _ in range(len(queue) if not self.loss else self.chance.randint(0, len(queue))):
                message, then = queue.pop(0)
                if queue is self.up:
                    self.held.append((self.office.post(message), then))
                    self.office.turn()
                else:
                    then(message)

    def restart(self) -> None:
        """The client worker is killed, and there again."""
        self.office.restart(0.1)
        self.up.clear()
        self.down.clear()
        self.held.clear()
        self.host.worker.hello(features=list(wire.FEATURES))

    def settle(self, done: Callable[[], bool]) -> None:
        self.loss = 0.0
        for _ in range(3000):
            if done():
                return
            self.step()
        assert done(), [events[-5:] for _, events in self.views]


def shown(events: list[Event]) -> bytes:
    return b"".join(event.data for event in events if isinstance(event, Output))


SAID = st.lists(st.binary(max_size=300), max_size=12)


@settings(max_examples=60, deadline=None)
@given(SAID, SAID, st.integers(0, 1 << 32), st.sampled_from((0.0, 0.1, 0.4)), st.booleans(), st.integers(0, 2))
def test_every_byte_arrives_once_and_in_order(
    said: list[bytes], typed: list[bytes], seed: int, loss: float, shared: bool, restarts: int
) -> None:
    """Whatever is lost, doubled or mixed up on the way, and although the client worker is killed in the middle."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        office = Office(Path(folder))
        try:
            host = Host(office, shared, b"before")
            net = Net(office, host, chance, 0.0)
            viewing, events = net.view()
            net.settle(lambda: any(isinstance(event, Open) for event in events))
            net.loss = loss
            left = [*(("said", data) for data in said), *(("typed", data) for data in typed)]
            chance.shuffle(left)
            gone: dict[str, bytes] = {"said": b"before", "typed": b""}
            kills = sorted(chance.sample(range(len(left) + 1), min(restarts, len(left) + 1)), reverse=True)
            for number, (what, data) in enumerate(left):
                if kills and kills[-1] == number:
                    kills.pop()
                    net.restart()
                gone[what] += data
                if what == "said":
                    host.says(data)
                else:
                    assert viewing.type(data) == len(data)
                for _ in range(chance.randint(0, 4)):
                    net.step()
            net.settle(lambda: shown(events) == gone["said"] and host.typed == gone["typed"])
            assert not [event for event in events if isinstance(event, (Gap, Anew, Over))]
        finally:
            office.close()


@pytest.mark.parametrize("shared", [True, False])
def test_much_more_than_a_window(tmp_path: Path, shared: bool) -> None:
    """A display loses nothing, however slow its viewer is; a console leaves out, and says how much."""
    office = Office(tmp_path)
    host = Host(office, shared)
    net = Net(office, host, random.Random(1), 0.0)
    viewing, events = net.view()
    net.settle(lambda: any(isinstance(event, Open) for event in events))
    data = random.Random(2).randbytes(500_000)
    for at in range(0, len(data), 50_000):
        host.says(data[at : at + 50_000])
        if at % 100_000 == 0:
            net.step()
    net.settle(lambda: viewing.have == len(data))
    gaps = sum(event.bytes for event in events if isinstance(event, Gap))
    assert len(shown(events)) + gaps == len(data)
    assert data.endswith(shown(events)[-60_000:])
    assert (gaps > 0) == shared
    if not shared:
        assert shown(events) == data
    stream = next(iter(office.broker._streams._streams.values()))
    assert len(stream.window.since(0, 1 << 30)[1]) <= stream.window.size
    office.close()


def test_much_that_is_typed_and_a_guest_that_reads_slowly(tmp_path: Path) -> None:
    office = Office(tmp_path)
    host = Host(office, True)
    net = Net(office, host, random.Random(1), 0.0)
    viewing, events = net.view()
    net.settle(lambda: any(isinstance(event, Open) for event in events))
    source = next(iter(host.sources.values()))
    source.pending += bytes(70_000)  # it has not read what was typed before
    assert viewing.type(bytes(100_000)) == 65_536, "no more than fits"
    for _ in range(50):
        net.step()
    assert host.typed == b""
    before = office.broker._streams._streams["host1", "console web1"].n
    for _ in range(20):
        net.step()
    assert office.broker._streams._streams["host1", "console web1"].n - before < 10, "nobody spins"
    source.pending.clear()
    net.settle(lambda: host.typed == bytes(65_536))
    office.close()


def test_two_viewers_share_a_source_and_it_ends_with_the_last(tmp_path: Path) -> None:
    office = Office(tmp_path)
    host = Host(office, True, b"before")
    net = Net(office, host, random.Random(1), 0.0)
    one, seen_one = net.view()
    net.settle(lambda: shown(seen_one) == b"before")
    host.says(b" later")
    net.settle(lambda: shown(seen_one) == b"before later")
    _, seen_two = net.view()
    net.settle(lambda: shown(seen_two) == b"before later")
    assert all(event.before for event in seen_two if isinstance(event, Output))
    assert len(host.sources) == 1
    office.ask(one.bye())
    net.views.pop(0)
    for _ in range(20):
        net.step()
    assert len(host.sources) == 1
    net.views.clear()  # killed: it says nothing
    for _ in range(60):
        office.sleep(0.2)
        net.step()
    assert not host.sources, "nobody has looked for some seconds"
    assert len(office.broker._streams) == 0
    office.close()


def test_a_host_that_is_too_old_is_said_to_be(tmp_path: Path) -> None:
    office = Office(tmp_path)
    worker = Worker(office, "host1", {VM: "running"})
    worker.hello(features=["reads"])
    viewing = Viewing(declare.build("vm console", {"name": VM}), office.mono)
    message = viewing.message(office.mono)
    assert message
    asked = office.ask(message)
    office.serve(worker)
    assert asked.error.code == "version_mismatch"
    assert "carries no consoles" in asked.error.message
    office.close()


def test_a_host_that_does_not_open_it_is_given_up(tmp_path: Path) -> None:
    office = Office(tmp_path)
    worker = Worker(office, "host1", {VM: "running"})
    worker.hello(features=list(wire.FEATURES))
    viewing = Viewing(declare.build("vm console", {"name": VM}), office.mono)
    events: list[Event] = []
    asked = None
    began = office.mono
    while not events and office.mono < began + 60:
        message = viewing.message(office.mono)
        asked = office.ask(message) if message else asked
        office.serve(worker)
        office.sleep(0.5)
        if asked and asked.answer:
            events += viewing.answered(asked.answer, office.mono)
            asked = None
    assert isinstance(events[0], Over)
    assert events[0].error
    assert events[0].error.code == "host_down"
    assert office.mono - began < streams.OPEN_WITHIN + 5
    office.close()


def test_a_client_worker_that_is_away_is_waited_for_and_then_given_up() -> None:
    viewing = Viewing(declare.build("vm console", {"name": VM}), 0.0)
    assert viewing.message(0.0)
    assert [type(event) for event in viewing.tick(5.0)] == [Trouble]
    assert viewing.tick(6.0) == []
    over = viewing.tick(61.0)
    assert isinstance(over[0], Over)
    assert over[0].error
    assert over[0].error.code == "unreachable"


# ----------------------------------------------------------------------------------------- who may, and how much


@pytest.fixture
def office(tmp_path: Path) -> Any:
    roles = {
        "ci": RoleSection(base="operator", vms=["ci-*"]),
        "starter": RoleSection(base="operator", actions=["vm s*"]),
    }
    found = LockedOffice(tmp_path, roles)
    yield found
    found.close()


def open_by(office: LockedOffice, key: str, worker: Worker, name: str, **more: Any) -> Any:
    """Ask for a console with somebody's key; what is asked, and the request."""
    viewing = Viewing(declare.build("vm console", {"name": name}), office.mono)
    message = viewing.message(office.mono)
    assert message
    with office.of(key):
        asked = office.ask({**message, **more})
    office.serve(worker)
    return asked, message


def flow(office: LockedOffice, worker: Worker, what: str, n: int = 1, **more: Any) -> Any:
    told = {"op": "flow", "host": "host1", "stream": what, "life": "one", "n": n, "start": 0, "at": 0, "data": b""}
    with office.of(office.host_keys["host1"]):
        return office.ask({**told, "have": {}, **more})


def test_patterns_of_a_role_hold(office: LockedOffice) -> None:
    worker = office.host("host1", {"ci-1": "running", "prod-1": "running"})
    worker.hello(features=list(wire.FEATURES))
    robot, starter = office.person("robot", "ci"), office.person("starter", "starter")
    asked, _ = open_by(office, robot, worker, "ci-1")
    assert flow(office, worker, "console ci-1", data=b"hello").good
    assert asked.good["data"] == b"hello"
    assert asked.good["silent"] == ""
    assert open_by(office, robot, worker, "prod-1")[0].error.code == "denied"
    assert open_by(office, starter, worker, "ci-1")[0].error.code == "denied"


def test_a_key_that_is_revoked_hears_nothing_more(office: LockedOffice) -> None:
    worker = office.host("host1", {VM: "running"})
    worker.hello(features=list(wire.FEATURES))
    rita = office.person("rita", "reader")
    asked, message = open_by(office, rita, worker, VM)
    flow(office, worker, "console web1")
    assert "operator" in asked.good["silent"]
    with office.of(rita):
        again = office.ask({**message, "n": 2, "life": "one"})
    assert again.answer is None, "held back"
    assert office.read("key revoke", name="rita").good
    assert again.error.code == "denied", "in the same turn"
    held = flow(office, worker, "console web1", 2, data=b"secret")
    assert not held.answer["ok"] or held.answer["close"], "and its host may close it"


def test_nobody_takes_over_the_stream_of_another(office: LockedOffice) -> None:
    worker = office.host("host1", {VM: "running"})
    worker.hello(features=list(wire.FEATURES))
    one, two = office.person("one", "operator"), office.person("two", "operator")
    _, message = open_by(office, one, worker, VM)
    with office.of(two):
        assert office.ask({**message, "n": 2}).error.code == "denied"
        assert office.ask({**message, "n": 2, "bye": True}).error.code == "denied"


def test_one_key_has_so_many(tmp_path: Path) -> None:
    office = LockedOffice(tmp_path, stream_limit=3)
    worker = office.host("host1", {VM: "running"})
    worker.hello(features=list(wire.FEATURES))
    one, two = office.person("one", "operator"), office.person("two", "operator")
    answers = [open_by(office, one, worker, VM)[0] for _ in range(4)]
    assert [asked.answer is None for asked in answers] == [True, True, True, False]
    assert answers[3].error.code == "no_capacity"
    assert open_by(office, two, worker, VM)[0].answer is None
    office.close()


def test_one_key_has_so_many_bytes_a_second(tmp_path: Path) -> None:
    office = LockedOffice(tmp_path, stream_rate=100_000)
    host = Host.__new__(Host)
    worker = office.host("host1", {VM: "running"})
    host.office, host.shared, host.before, host.worker = office, False, b"", worker
    host.sources, host.typed, host.unread = {}, b"", b""
    worker.hello(features=list(wire.FEATURES))
    net = Net(office, host, random.Random(1), 0.0)
    viewing, events = net.view()
    net.settle(lambda: any(isinstance(event, Open) for event in events))
    host.says(bytes(600_000))
    began = office.mono
    net.settle(lambda: viewing.have == 600_000)
    assert 4.0 < office.mono - began < 8.0
    office.close()


def test_the_streams_of_a_host_leave_it_half_of_its_requests(tmp_path: Path) -> None:
    """A request of 32 KiB counts as three."""
    office = Office(tmp_path, request_rate=60)
    host = Host(office, False)
    net = Net(office, host, random.Random(1), 0.0)
    viewing, events = net.view()
    net.settle(lambda: any(isinstance(event, Open) for event in events))
    host.says(bytes(1_500_000))
    began = office.mono
    net.settle(lambda: viewing.have == 1_500_000)
    assert 2.5 < office.mono - began < 7.0
    office.close()


def test_what_a_viewer_says_it_has_harms_nobody_else(office: LockedOffice) -> None:
    worker = office.host("host1", {VM: "running"})
    worker.hello(features=list(wire.FEATURES))
    liar, olga = office.person("liar", "reader"), office.person("olga", "operator")
    lied, _ = open_by(office, liar, worker, VM, life="one", have=1 << 61)
    flow(office, worker, "console web1", start=0, at=100, data=b"x" * 10)
    assert lied.answer is None
    asked, _ = open_by(office, olga, worker, VM)
    assert flow(office, worker, "console web1", 2, start=0, at=110, data=b"hello").good["got"] == 115
    assert (asked.good["at"], asked.good["life"]) == (110, "one")


def test_what_nobody_looks_at_is_closed_also_when_its_host_was_just_speaking(office: LockedOffice) -> None:
    worker = office.host("host1", {VM: "running"})
    worker.hello(features=list(wire.FEATURES))
    olga = office.person("olga", "operator")
    _, message = open_by(office, olga, worker, VM)
    assert flow(office, worker, "console web1", data=b"x").good, "no request of it is out now"
    with office.of(olga):
        assert office.ask({**message, "n": 2, "bye": True}).good
    assert flow(office, worker, "console web1", 2).good["close"]
    assert flow(office, worker, "console web1", 1, life="another").error.code == "unknown_entity"


def test_what_was_typed_is_in_the_audit_once(office: LockedOffice) -> None:
    worker = office.host("host1", {VM: "running"})
    worker.hello(features=list(wire.FEATURES))
    asked, message = open_by(office, office.person("olga", "operator"), worker, VM)
    flow(office, worker, "console web1")
    assert asked.good["life"] == "one"
    with office.of("olga".ljust(40, "1")):
        for n, word in enumerate((b"a", b"ab", b"abc"), 2):
            office.ask({**message, "n": n, "life": "one", "data": word})
    lines = [line for line in office.audit() if line["action"] == "vm console"]
    assert [(line["who"], line["object"], line["message"]) for line in lines] == [("olga", VM, "typed")]
