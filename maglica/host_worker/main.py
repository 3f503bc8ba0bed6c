"""The host worker: wiring, and the loop that alone talks to the bus."""

from __future__ import annotations

import argparse
import logging
import os
import random
import threading
import time

from maglica import VERSION, config, daemon, wire
from maglica.bus import Listener
from maglica.errors import from_wire
from maglica.host_worker import acceleration
from maglica.host_worker.host import Host
from maglica.host_worker.hypervisor import Hypervisor
from maglica.host_worker.journal import Journal
from maglica.host_worker.run import Runner

log = logging.getLogger("maglica.host_worker")

ANSWER_WITHIN = 2.0  # seconds; after that the sockets are made anew and everything is told again
FACTS_EVERY = 5.0  # seconds between two looks at the host
PROGRESS_EVERY = 0.5  # seconds between two reports of progress


def main() -> int:
    return daemon.run(_main, "maglica_host_worker")


def _main() -> int:
    parser = argparse.ArgumentParser(
        "maglica_host_worker", description="Carry out jobs on this hypervisor. One per host.", allow_abbrev=False
    )
    parser.add_argument("-c", "--client", metavar="ADDRESS", help="the client worker, such as client.example.jp")
    parser.add_argument("--name", help="the name of this host; its full host name by default")
    parser.add_argument("--config", metavar="FILE", help="settings file")
    parser.add_argument("--version", action="version", version=f"maglica {VERSION}")
    options = parser.parse_args()
    overrides = config.client_overrides(options.client, "--client")
    if options.name:
        overrides["host_worker", "name"] = (options.name, "--name")
    settings = config.load(config.find(options.config), overrides)
    daemon.log_to_stderr(settings.log.level)
    # A folder per name, so that a client worker and a host worker of one machine do not share theirs.
    name = config.host_name(settings)
    folder = os.path.join(settings.paths.state, f"host-{name}")
    lock = daemon.only_one(folder, "host worker")
    journal = Journal(os.path.join(folder, "journal.db"))
    found = acceleration.probe(settings.host_worker.acceleration, os.path.join(folder, "acceleration"))
    hypervisor = Hypervisor(settings.host_worker.libvirt_uri)
    host = Host(name, hypervisor, settings.host_worker, *found)
    client = settings.client
    listener = Listener(client.address, client.pub_port, client.rep_port, [wire.topic(name), wire.EVERYBODY])
    runner = Runner(host, journal, listener.wake)
    log.info("host=%s client=%s libvirt=%s acceleration=%s (%s)", name, client.address, hypervisor.uri, *found)
    status = Loop(listener, runner, client.beat).run()
    listener.close()
    journal.close()
    os.close(lock)
    return status


class Loop:
    """Hear the bell, sync, hand on, until told to stop or replaced by another worker of the same name."""

    def __init__(self, listener: Listener, runner: Runner, beat: float) -> None:
        self._listener = listener
        self._runner = runner
        self._beat = beat
        self._incarnation: int | None = None
        self._start = os.urandom(8).hex()
        self._seq = 0
        self._asked: float | None = None  # when the request that is out was sent
        self._due = 0.0  # when the next one is to be sent
        self._hurry = False
        self._refused_since: float | None = None
        self._status: int | None = None
        self._failures = 0
        self._stopping = threading.Event()
        self._stopped = threading.Event()

    def run(self) -> int:
        daemon.on_stop(self._stop)
        self._runner.recover()
        self._runner.watch(FACTS_EVERY)
        daemon.notify("READY=1")
        while self._status is None and not self._done():
            self._send_due(time.monotonic())
            published, answers = self._listener.receive(self._pause(time.monotonic()))
            for message in published:
                self._heard(message)
            for message in answers:
                self._answered(message)
            for answer in self._runner.answers():
                self._listener.send({"op": "answer", "host": self._runner.host.name, **answer})
        daemon.notify("STOPPING=1")
        log.info("stopped")
        return self._status or 0

    def _stop(self) -> None:
        if self._stopping.is_set():
            return
        self._stopping.set()
        log.info("stopping: no more jobs; running ones have %g s", self._runner.host.settings.stop_grace)
        threading.Thread(target=self._wind_down, name="stop", daemon=True).start()

    def _wind_down(self) -> None:
        self._runner.stop(self._runner.host.settings.stop_grace)
        # The last outcomes go out now; what is not acknowledged in time is told again after the next start.
        deadline = time.monotonic() + ANSWER_WITHIN
        self._listener.wake()
        while time.monotonic() < deadline and any(e.outcome for e in self._runner.journal.entries()):
            time.sleep(0.05)
        self._stopped.set()
        self._listener.wake()

    def _done(self) -> bool:
        return self._stopped.is_set()

    # -------------------------------------------------------------------------------------- when to speak

    def _pause(self, now: float) -> float:
        if self._asked is not None:
            return max(0.0, self._asked + ANSWER_WITHIN - now)
        # Progress that came right after the last report waits here for its turn.
        return min(PROGRESS_EVERY, max(0.0, self._due - now))

    def _send_due(self, now: float) -> None:
        if self._asked is not None:
            if now - self._asked >= ANSWER_WITHIN:
                self._reconnect(now)
            return
        if now < self._due and not self._urgent(now):
            return
        self._hurry = False
        self._asked = now
        self._listener.send(self._hello() if self._incarnation is None else self._sync())

    def _urgent(self, now: float) -> bool:
        # Woken by the runner: an outcome goes out at once, progress not more often than it can be read.
        return self._incarnation is not None and (self._hurry or self._runner.urgent(now, PROGRESS_EVERY))

    def _reconnect(self, now: float) -> None:
        """No answer: forget the sockets and say everything again, a little later each time, not all hosts at once."""
        self._failures += 1
        if self._failures in (1, 10) or self._failures % 100 == 0:
            log.warning("the client worker does not answer; trying again")
        self._listener.reconnect()
        self._asked = None
        self._due = now + random.uniform(0.0, min(self._beat, 0.1 * 2**self._failures))

    def _hello(self) -> wire.Message:
        return {
            "op": "hello",
            "host": self._runner.host.name,
            "journal": self._runner.journal.uuid,
            "versions": [wire.VERSION],
            "features": list(wire.FEATURES),
            "version": VERSION,
            "pid": os.getpid(),
            "starts": self._runner.journal.starts,
            "start": self._start,
            "facts": self._runner.current_facts(),
        }

    def _sync(self) -> wire.Message:
        self._seq += 1
        return {
            "op": "sync",
            "host": self._runner.host.name,
            "incarnation": self._incarnation,
            "seq": self._seq,
            "facts": self._runner.current_facts(),
            **self._runner.state(),
        }

    # ------------------------------------------------------------------------------------- what is heard

    def _heard(self, message: wire.Message) -> None:
        if message.get("op") == "bell" and message.get("host") == self._runner.host.name:
            self._hurry = True
        elif message.get("op") in ("read", "plan"):
            self._runner.read(message)

    def _answered(self, message: wire.Message) -> None:
        now = time.monotonic()
        if message.get("ok") and message.get("op") == "answer":
            return
        self._asked, self._failures = None, 0
        self._due = now + self._beat
        if not message.get("ok"):
            self._turned_down(message, now)
        elif message.get("op") == "hello":
            self._incarnation, self._beat = message["incarnation"], message["beat"]
            self._refused_since = None
            self._due = now
            log.info("accepted incarnation=%d epoch=%d", message["incarnation"], message["epoch"])
        elif message.get("op") == "sync":
            self._runner.acknowledged(message["acked"])
            for handed in message["jobs"]:
                self._runner.begin(handed)
            for job_id in message["cancel"]:
                self._runner.cancel(job_id)

    def _turned_down(self, message: wire.Message, now: float) -> None:
        error = from_wire(message.get("error") or {})
        if error.details.get("fenced"):
            log.error("%s", error.message)
            self._status = daemon.EXIT_FENCED
        elif error.code == "unknown_entity":
            self._incarnation = None  # its store is new: introduce ourselves again
            self._due = now
        elif error.code in ("already_exists", "version_mismatch"):
            self._refused(error.message, error.hint, error.exit_status, now)
        else:
            log.warning("the client worker refused: %s", error.message)

    def _refused(self, message: str, hint: str, status: int, now: float) -> None:
        """Another worker of our name may have just died; after some beats it has not."""
        if self._refused_since is None:
            log.error("refused: %s (%s)", message, hint)
            self._refused_since = now
        if now - self._refused_since > 5 * self._beat:
            log.error("giving up: %s (%s)", message, hint)
            self._status = status
