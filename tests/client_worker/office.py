"""A client worker without sockets: the test hands messages in, reads what would leave, and turns the clock."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from maglica import config, wire
from maglica.client_worker.broker import Broker
from maglica.client_worker.door.keyring import Keyring
from maglica.client_worker.ledger import EPOCH_2026_MS
from maglica.client_worker.now import Now
from maglica.client_worker.outbox import Drop, Reply
from maglica.client_worker.store import Store
from maglica.config import HostSection, RoleSection
from maglica.errors import MaglicaError, from_wire
from maglica.keys import invitation

GIB = 1 << 30
IMAGE = "el9.original"
VERSION = "0.1.0"
ADDRESS = "192.0.2.7"
SERVER_KEY = "server".ljust(40, "0")
ADMIN_KEY = "admin".ljust(40, "0")

Message = dict[str, Any]


class Asked:
    """A request that was handed in; its answer is None as long as it is held back."""

    def __init__(self, office: Office, route: tuple[bytes, ...]) -> None:
        self._office = office
        self.route = route

    @property
    def answers(self) -> list[Message]:
        return self._office.answers.get(self.route, [])

    @property
    def answer(self) -> Message | None:
        assert len(self.answers) <= 1, "a REQ socket takes one answer"
        return self.answers[0] if self.answers else None

    @property
    def good(self) -> Message:
        assert self.answer is not None, "no answer yet"
        return wire.result(self.answer)

    @property
    def error(self) -> MaglicaError:
        assert self.answer is not None, "no answer yet"
        assert not self.answer["ok"], self.answer
        return from_wire(self.answer["error"])

    @property
    def job(self) -> Message:
        job: Message = self.good["job"]
        return job


class Office:
    """The broker with its store, and the loop around it in slow motion."""

    def __init__(self, folder: Path, hosts: dict[str, float] | None = None, **settings: Any) -> None:
        self._path = str(folder / "jobs.db")
        self._hosts = {name: HostSection(weight=weight) for name, weight in (hosts or {}).items()}
        self._settings = config.ClientSection(**settings)
        self.mono = 1000.0
        self.ms = EPOCH_2026_MS + 1_000_000_000
        self.answers: dict[tuple[bytes, ...], list[Message]] = {}
        self.rung: list[tuple[bytes, Message]] = []  # without beats
        self.rung_versions: list[int] = []
        self.versions: dict[tuple[bytes, ...], int] = {}  # of answers
        self.beats: dict[str, int] = {}  # host -> the number that it could have heard last
        self.drops = 0  # how often all listeners were cut off
        self._routes = itertools.count(1)
        self._start()

    def _start(self) -> None:
        self.store = Store(self._path)
        self._open = True
        self.broker = Broker(self.store, self._settings, self._hosts, VERSION, self.now, self._ring(), SERVER_KEY)

    def _ring(self) -> Keyring | None:
        """None: the bus is open."""
        return None

    @property
    def now(self) -> Now:
        return Now(self.mono, self.ms)

    def close(self) -> None:
        if self._open:
            self.store.close()
        self._open = False

    def restart(self, away: float = 0.0) -> None:
        """As after a kill: what was not committed is gone, and so is everything that was only in memory."""
        self.close()
        self.answers.clear()
        self.rung.clear()
        self.beats.clear()
        self.mono += away
        self.ms += int(away * 1000)
        self._start()

    # -------------------------------------------------------------------------------------------- turns

    def post(self, message: Message | bytes) -> Asked:
        """Hand a request in, without a turn of the loop."""
        route = (b"peer%d" % next(self._routes), b"")
        body = message if isinstance(message, bytes) else wire.encode(message)
        self.broker.request(body, route, self.now, self._key(message), ADDRESS)
        return Asked(self, route)

    def _key(self, message: Message | bytes) -> str:
        """Whose key a message comes by; none on an open bus."""
        return ""

    def turn(self) -> None:
        """The rest of a turn of the loop: tick, commit, and only then send."""
        self.broker.tick(self.now)
        outbox = self.broker.outbox.take()
        self.store.commit()
        for item in outbox:
            if isinstance(item, Drop):
                self.drops += 1
                continue
            # Through bytes, as over the bus: what cannot travel is found here.
            message = wire.decode(wire.encode(item.message), wire.MAX_ANSWER_BYTES)
            version = message.pop("v")
            if isinstance(item, Reply):
                self.versions[item.route] = version
                self.answers.setdefault(item.route, []).append(message)
            elif message["op"] == "beat":
                self.beats[item.topic[:-1].decode()] = message["number"]
            else:
                self.rung.append((item.topic, message))
                self.rung_versions.append(version)

    def ask(self, message: Message | bytes) -> Asked:
        """One request, one turn."""
        asked = self.post(message)
        self.turn()
        return asked

    def sleep(self, seconds: float) -> None:
        """Let time pass; the loop turns as often as it wants to."""
        until = self.mono + seconds
        while self.mono < until:
            step = min(max(self.broker.next_tick(self.now), 0.001), until - self.mono)
            self.mono += step
            self.ms += max(1, round(step * 1000))
            self.turn()

    # -------------------------------------------------------------------------------------------- people

    def read(self, action: str, *, timeout: float | None = None, **args: Any) -> Asked:
        return self.ask({"op": "read", "action": action, "args": args, "timeout": timeout})

    def submit(self, action: str, *, key: str = "", dry_run: bool = False, **args: Any) -> Asked:
        return self.ask(submission(action, key=key or f"key{next(self._routes)}", dry_run=dry_run, **args))

    def wait(self, job: str, rev: int = -1, timeout: float = 10.0, *, ended: bool = False) -> Asked:
        return self.ask({"op": "wait", "id": job, "rev": rev, "timeout": timeout, "ended": ended})

    def job(self, job: str) -> Message:
        """The job as people see it now."""
        item: Message = self.read("job show", id=job).good["item"]
        return item

    # --------------------------------------------------------------------------------------------- hosts

    def bells(self) -> list[str]:
        """The hosts that were rung since this was asked last."""
        rung, self.rung = self.rung, []
        return [message["host"] for _, message in rung if message["op"] == "bell"]

    def questions(self, host: str) -> list[Message]:
        """The questions that a host heard since it was asked last; others keep theirs."""
        mine = [(topic, message) for topic, message in self.rung if topic == wire.topic(host) and "ask" in message]
        self.rung = [one for one in self.rung if one not in mine]
        return [message for _, message in mine]

    def serve(self, *hosts: Worker) -> None:
        """Let these hosts answer whatever they are asked, until nothing is asked any more."""
        while sum(host.answer_all() for host in hosts):
            self.turn()


class LockedOffice(Office):
    """The same with keys. Unless somebody is named, hosts speak with their own, and an administrator asks."""

    def __init__(self, folder: Path, roles: dict[str, RoleSection] | None = None, **settings: Any) -> None:
        self.roles = roles or {}
        self.speaker: str | None = None
        self.host_keys: dict[str, str] = {}
        super().__init__(folder, **settings)

    def _ring(self) -> Keyring:
        ring = Keyring(self.store, self.roles, is_open=False)
        ring.first_administrator("admin", ADMIN_KEY, self.now)
        self.store.commit()
        return ring

    def _key(self, message: Message | bytes) -> str:
        if self.speaker is not None or not isinstance(message, dict):
            return self.speaker or ""
        return self.host_keys.get(str(message.get("host")), ADMIN_KEY)

    @contextmanager
    def of(self, key: str) -> Iterator[None]:
        """Everything meanwhile is said with that key, also in the name of hosts."""
        before, self.speaker = self.speaker, key
        try:
            yield
        finally:
            self.speaker = before

    def person(self, name: str, role: str, **more: Any) -> str:
        """A new key of somebody; the public half."""
        key = name.ljust(40, "1")
        assert self.read("key add", name=name, role=role, public_key=key, **more).good
        return key

    def invite(self, host: str, **more: Any) -> str:
        """The secret by which a host may join."""
        return invitation(self.read("host invite", name=host, **more).good["item"]["token"]).secret

    def join(self, host: str, secret: str, key: str) -> Asked:
        with self.of(key):
            return self.ask({"op": "join", "host": host, "secret": secret})

    def host(self, name: str, vms: dict[str, str] | None = None, key: str = "") -> Worker:
        """A host that was invited, has joined, and has said hello."""
        key = key or name.ljust(40, "2")
        assert self.join(name, self.invite(name), key).good
        self.host_keys[name] = key
        worker = Worker(self, name, vms)
        assert worker.hello().good
        return worker

    def audit(self, **filters: Any) -> list[Message]:
        found: list[Message] = self.read("audit list", last=1000, **filters).good["items"]
        return found


def submission(action: str, *, key: str, dry_run: bool = False, **args: Any) -> Message:
    message = {"op": "submit", "key": key, "action": action, "args": args, "dry_run": dry_run}
    return {**message, "owner": "me@here", "reason": None}


FREE = {"quick": 8, "disk": 2, "guest": 2}


class Worker:
    """A host worker's words, said when the test wants them said."""

    def __init__(self, office: Office, name: str, vms: dict[str, str] | None = None, journal: str = "") -> None:
        self.office = office
        self.name = name
        self.journal = journal or f"journal of {name}"
        self.vms = {IMAGE: "shut-off"} if vms is None else vms
        self.incarnation = 0
        self.greeting: Message = {}
        self.answers: dict[str, Callable[[Message], Message]] = {}
        self.holds: dict[str, Any] = {}  # what VMs have for themselves, by their names

    def hello(self, **more: Any) -> Asked:
        self.greeting = {
            "op": "hello",
            "host": self.name,
            "journal": self.journal,
            "versions": [wire.VERSION],
            "features": ["reads"],
            "version": VERSION,
            "pid": 7,
            "facts": {"libvirt": "ok", "vms_running": 0},
            **more,
        }
        asked = self.office.ask(self.greeting)
        if asked.answer and asked.answer["ok"]:
            self.incarnation = asked.answer["incarnation"]
        return asked

    def sync(
        self,
        *,
        have: list[str] | None = None,
        done: list[Any] | None = None,
        progress: list[Any] | None = None,
        free: dict[str, Any] | None = None,
        seq: int | None = None,
        **more: Any,
    ) -> Asked:
        return self.office.ask(
            {
                "op": "sync",
                "host": self.name,
                "incarnation": self.incarnation,
                "have": have or [],
                "done": done or [],
                "progress": progress or [],
                "free": FREE if free is None else free,
                "facts": None,
                "seq": seq,
                **more,
            }
        )

    def claim(self, **more: Any) -> list[str]:
        """The jobs that a sync hands out."""
        return [job["id"] for job in self.sync(**more).good["jobs"]]

    def run(self, job: str) -> None:
        """Report that a job has begun."""
        self.sync(have=[job], progress=[{"id": job, "step": "copy"}], free={})

    def end(self, job: str, state: str = "done", **more: Any) -> Asked:
        return self.sync(have=[job], done=[outcome(job, state, **more)], free={})

    def survey(self) -> Message:
        return {
            "driver": "test",
            "active": sum(state == "running" for state in self.vms.values()),
            "vcpus": 8,
            "memory_free_bytes": 32 * GIB,
            "domains": [
                {
                    "name": name,
                    "state": state,
                    "image": name.endswith(".original") or ":" in name,
                    "vcpus": 1,
                    "memory_bytes": 2 * GIB,
                    "macs": [],
                    "disks": [{"target": "vda", "allocation_bytes": 4 * GIB}],
                    **({"lives": self.holds[name]} if name in self.holds else {}),
                }
                for name, state in self.vms.items()
            ],
            "pools": [{"name": "default", "free_bytes": 100 * GIB}],
        }

    def answer(self, question: Message, value: Message | None = None, error: MaglicaError | None = None) -> Asked:
        return self.office.post(
            {
                "op": "answer",
                "host": self.name,
                "ask": question["ask"],
                "ok": error is None,
                "value": value,
                "error": error.to_wire() if error else None,
            }
        )

    def answer_all(self) -> bool:
        """Answer what was asked; whether there was anything."""
        questions = self.office.questions(self.name)
        for question in questions:
            action = question["action"]
            if question["op"] == "plan":
                self.answer(question, {"item": {"would": {"do": action}, "changed": True}})
            elif action in self.answers:
                self.answer(question, self.answers[action](question["args"]))
            elif action == "host survey":
                self.answer(question, self.survey())
            elif action == "vm list":
                self.answer(question, {"items": [{"name": name, "state": s} for name, s in self.vms.items()]})
            else:
                self.answer(question, {"item": {"asked": action, **question["args"]}})
        return bool(questions)


def outcome(job: str, state: str = "done", attempt: int = 1, **more: Any) -> Message:
    told: Message = {"id": job, "attempt": attempt, "state": state, "step": None, "progress": None, "steps": []}
    return {**told, "commands": [], "result": {"name": "web1"} if state == "done" else None, "error": None, **more}
