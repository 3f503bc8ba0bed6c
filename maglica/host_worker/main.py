"""The host worker: wiring, and the loop that alone talks to the bus."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from maglica import VERSION, cluster, config, daemon, declare, keys, wire
from maglica.bus import Listener
from maglica.config import HostWorkerSection
from maglica.declare import Where
from maglica.errors import Failed, MaglicaError, Refused, from_wire
from maglica.host_worker import acceleration, allegiance, join, telling, undo
from maglica.host_worker.allegiance import Allegiance
from maglica.host_worker.disk.storage import Storage
from maglica.host_worker.guest.warm import WarmAppliances
from maglica.host_worker.host import Host
from maglica.host_worker.hypervisor import Hypervisor
from maglica.host_worker.image.serving import Serving
from maglica.host_worker.journal import open_journal
from maglica.host_worker.needs import Needs
from maglica.host_worker.reading import Reading
from maglica.host_worker.rhythm import ANSWER_WITHIN, PROGRESS_EVERY, Rhythm
from maglica.host_worker.run import Runner
from maglica.host_worker.streams.carrying import Carrying
from maglica.host_worker.unexpected import unexpected

log = logging.getLogger("maglica.host_worker")

# What a SIGHUP can change; the other keys of these sections wait for the next start.
LIVE = {
    "host_worker": frozenset(HostWorkerSection.FIELDS) - {"name", "libvirt_uri", "acceleration"},
    "client": frozenset[str](),
    "log": frozenset({"level"}),
    "paths": frozenset[str](),
}
HERE = (Where.EVERY, Where.OWNER, Where.PLACED, Where.NAMED)  # what a host may be asked to do
REPEAT = 600.0  # seconds after which a lasting refusal is logged again
DENIED_EVERY = 15.0  # seconds between two tries while our key is not accepted
FACTS_EVERY = 5.0  # seconds between two looks at the host


def main() -> int:
    return daemon.run(_main, "maglica_host_worker")


def _main() -> int:
    parser = argparse.ArgumentParser(
        "maglica_host_worker", description="Carry out jobs on this hypervisor. One per host.", allow_abbrev=False
    )
    parser.add_argument("-c", "--client", metavar="ADDRESS", help="the client worker, such as client.example.jp")
    parser.add_argument("--name", help="the name of this host; that of its key, or its full host name by default")
    parser.add_argument(
        "--join", metavar="TOKEN", help="the invitation that `maglica host invite` printed; - reads it from stdin"
    )
    parser.add_argument("--config", metavar="FILE", help="settings file")
    parser.add_argument(
        "--accept", action="store_true", help="forget which client worker this host knew, take the next one, and end"
    )
    parser.add_argument("--version", action="version", version=f"maglica {VERSION}")
    options = parser.parse_args()
    if options.join and options.join != join.FROM_STDIN:
        join.hide(options.join)
    overrides = config.client_overrides(options.client, "--client")
    if options.name:
        overrides["host_worker", "name"] = (options.name, "--name")
    settings = config.load(config.find(options.config), overrides)
    daemon.log_to_stderr(settings.log.level)
    name, key = join.identity(settings, sys.stdin.read() if options.join else None)
    # Disks hold passwords and keys: what we make is root's alone until it is given another mode, as volumes of libvirt
    # are. A QEMU that is not root gets them from libvirt, which changes the owner of what it starts.
    os.umask(0o077)
    # A folder per name, so that a client worker and a host worker of one machine do not share theirs.
    folder = os.path.join(settings.paths.state, f"host-{name}")
    if options.accept:
        known = allegiance.forget(folder)
        print(f"{name} takes the next client worker that answers" + ("" if known else "; it knew none"))
        return 0
    try:
        lock = daemon.only_one(folder, "host worker")
    except Failed as error:
        if not (options.join and error.code == "locked"):
            raise
        print(f"{name} has joined; its host worker runs here already, and goes on with the new key")
        return 0
    journal = open_journal(os.path.join(folder, "journal.db"), undo.HARMLESS)
    found = acceleration.probe(settings.host_worker.acceleration, os.path.join(folder, "acceleration"))
    hypervisor = Hypervisor(settings.host_worker.libvirt_uri)
    address, pub_port, rep_port = config.reach(settings, key)
    listener = Listener(address, pub_port, rep_port, [wire.topic(name)], key)
    needs, serving, warm = Needs(listener.wake), Serving(journal.mark), WarmAppliances(journal.mark)
    host = Host(
        name,
        hypervisor,
        settings.host_worker,
        *found,
        Storage(),
        address,
        settings.paths,
        needs,
        serving,
        warm,
        Reading(),
    )
    host.clear_short_folder()
    runner = Runner(host, journal, listener.wake)
    log.info("host=%s client=%s libvirt=%s acceleration=%s (%s)", name, address, hypervisor.uri, *found)
    if options.join:
        log.info("works until Ctrl-C; as a service from then on: systemctl enable --now maglica-host-worker")

    def reread() -> None:
        nonlocal settings
        settings = daemon.reread(settings, LIVE, overrides)
        runner.change(settings.host_worker)

    def invited_anew() -> Joined | None:
        """The key that is there now, which may be another one, and where its client worker is."""
        if key is None:
            return None
        found = keys.load(keys.host_file(settings.paths.keys, name))
        return Joined(found, *config.reach(settings, found))

    client_worker = Allegiance(folder, key.public if key else "")
    status = Loop(listener, runner, client_worker, settings.client.beat, invited_anew).run(reread)
    listener.close()
    journal.close()
    os.close(lock)
    return status


class Joined(NamedTuple):
    """The key of a host, and where the client worker is that expects it."""

    key: keys.Key
    address: str
    pub_port: int
    rep_port: int


class Loop:
    """Hear the bell, sync, hand on, until told to stop or replaced by another worker of the same name."""

    def __init__(
        self,
        listener: Listener,
        runner: Runner,
        allegiance: Allegiance,
        beat: float,
        invited_anew: Callable[[], Joined | None] = lambda: None,
    ) -> None:
        """`invited_anew`: reads the key that this host has now; it may have joined beside us. Raises `Refused`."""
        self._invited_anew = invited_anew
        self._listener = listener
        self._runner = runner
        self._allegiance = allegiance
        self._carrying = Carrying(lambda: runner.host, listener.wake)
        self._protocol = wire.OLDEST
        self._parts = False  # the client worker puts long answers together
        self._rhythm = Rhythm(beat)
        self._incarnation: int | None = None
        self._start = os.urandom(8).hex()
        self._seq = 0
        self._life: str | None = None  # the client worker's, whose incarnation we are
        self._beat = ("", 0)  # the last one heard: whose life it was of, its number
        self._hurry = False
        self._refused_since: float | None = None
        self._status: int | None = None
        self._stopping = threading.Event()
        self._stopped = threading.Event()

    def run(self, reread: Callable[[], None]) -> int:
        """`reread`: what a SIGHUP asks for."""
        daemon.on_stop(self._stop)
        duties = daemon.Duties(self._doing, reread, self._listener.wake)
        self._runner.recover()
        self._runner.watch(FACTS_EVERY)
        daemon.notify("READY=1")
        while self._status is None and not self._done():
            duties.turn(time.monotonic())
            self.speak(time.monotonic())
            self.hear(*self._listener.receive(self.pause(time.monotonic())))
        daemon.ends()
        self._carrying.close()
        self._allegiance.close()
        log.info("stopped")
        return self._status or 0

    def speak(self, now: float) -> None:
        """Send the answers that are ready, and a report when one is due."""
        for answer in self._runner.answers():
            whole = {"v": self._protocol, "op": "answer", "ack": False, "host": self._runner.host.name, **answer}
            for message in wire.split(whole, parts=self._parts):
                self._listener.send(message)
        for need in self._runner.host.needs.outgoing() if self._runner.host.needs else ():
            self._say({"host": self._runner.host.name, **need})
        for flow in self._carrying.outgoing(now):
            self._say({"host": self._runner.host.name, **flow})
        self._report(now)

    def hear(self, published: list[wire.Message], answers: list[wire.Message]) -> None:
        """Act on what came in."""
        for message in published:
            self._heard(message)
        for message in answers:
            self._answered(message)

    def _doing(self) -> str:
        """A line for systemd."""
        if self._rhythm.failures:
            return "the client worker does not answer"
        if self._incarnation is None:
            return "not accepted by the client worker; the log says why" if self._refused_since else "says hello"
        libvirt = self._runner.current_facts().get("libvirt", "not asked yet")
        return f"{'stopping; ' if self._stopping.is_set() else ''}jobs: {self._runner.count()}; libvirt: {libvirt}"

    def _stop(self) -> None:
        if self._stopping.is_set():
            return
        self._stopping.set()
        log.info("stopping: no more jobs; running ones have %g s", self._runner.host.settings.stop_grace)
        threading.Thread(target=self._wind_down, name="stop", daemon=True).start()

    def _wind_down(self) -> None:
        try:
            self._runner.stop(self._runner.host.settings.stop_grace)
            # The last outcomes go out now; what is not acknowledged in time is told again after the next start.
            deadline = time.monotonic() + ANSWER_WITHIN
            self._listener.wake()
            while time.monotonic() < deadline and any(e.outcome for e in self._runner.journal.entries()):
                time.sleep(0.05)
        finally:  # also when the journal's disk has failed: whoever stops it does not wait for ever
            self._stopped.set()
            self._listener.wake()

    def _done(self) -> bool:
        return self._stopped.is_set()

    # -------------------------------------------------------------------------------------- when to speak

    def pause(self, now: float) -> float:
        """Seconds that nothing has to be said for."""
        return min(self._rhythm.pause(now), self._carrying.pause(now))

    def _report(self, now: float) -> None:
        """Send the report that is due, on new sockets where the old ones do not serve."""
        if self._rhythm.unanswered(now):
            self._rhythm.reconnects(now)
            if not self._takes_new_key():
                self._listener.reconnect()
            if self._rhythm.failures in (1, 10) or self._rhythm.failures % 100 == 0:
                self._explain()
        if self._rhythm.deaf(now):
            self._rhythm.listens_anew(now)
            self._listener.listen_again()
            log.warning("the client worker answers, but no beat of it is heard; listening again on a new connection")
        if not self._rhythm.waiting and (self._rhythm.due(now) or self._urgent(now)):
            self._hurry = False
            self._rhythm.asks(now)
            self._say(self._hello() if self._incarnation is None else self._sync())

    def _say(self, message: wire.Message) -> None:
        whole = {"v": self._protocol, **message}
        try:
            self._listener.send(whole)
        except (TypeError, ValueError, OverflowError) as error:
            # Figures of the host, the words with which a stream ended: what a message must hold was looked at before.
            unexpected(error, f"op={message['op']}", self._runner.host.name)
            self._listener.send(telling.bare(whole))

    def _takes_new_key(self) -> bool:
        """Whether there is another key than the one in use: the host was invited again while this worker ran."""
        try:
            found = self._invited_anew()
        except Refused:
            return False  # it is just being written, or gone
        if found is None or not self._listener.takes(*found):
            return False
        self._allegiance.joined(found.key.public)
        self._runner.host = self._runner.host._replace(client=found.address)
        log.info("goes on with a new key client=%s", found.address)
        return True

    def _explain(self) -> None:
        """Say why nobody answers, as far as that can be found out."""
        why = self._listener.diagnosis()
        if why:
            log.error("%s (%s); trying again", why.message, why.hint)
        else:
            log.warning("the client worker does not answer; trying again")

    def _urgent(self, now: float) -> bool:
        # Woken by the runner: an outcome goes out at once, progress not more often than it can be read.
        return self._incarnation is not None and (self._hurry or self._runner.urgent(now, PROGRESS_EVERY))

    def _hello(self) -> wire.Message:
        return {
            "op": "hello",
            "v": wire.OLDEST,
            "host": self._runner.host.name,
            "journal": self._runner.journal.uuid,
            "versions": list(wire.VERSIONS),
            "features": list(wire.FEATURES),
            "actions": [name for name, action in declare.load_all().items() if action.WHERE in HERE],
            **self._allegiance.refresh().told(),
            "version": VERSION,
            "pid": os.getpid(),
            "starts": self._runner.journal.starts,
            "start": self._start,
            "clock": time.time(),
            "facts": self._runner.current_facts(),
        }

    def _sync(self) -> wire.Message:
        self._seq += 1
        return {
            "op": "sync",
            "host": self._runner.host.name,
            "incarnation": self._incarnation,
            "seq": self._seq,
            "life": self._life,
            "heard": self._beat[1] if self._beat[0] == self._life else 0,
            "clock": time.time(),
            "facts": self._runner.current_facts(),
            **self._runner.state(),
        }

    # ------------------------------------------------------------------------------------- what is heard

    def _heard(self, message: wire.Message) -> None:
        self._rhythm.heard(time.monotonic())
        if message.get("op") == "beat":
            self._beat = message["life"], message["number"]
        elif message.get("op") == "bell" and message.get("host") == self._runner.host.name:
            self._hurry = True
        elif message.get("op") in ("read", "plan"):
            self._runner.read(message)
        elif message.get("op") == "stream" and message.get("host") == self._runner.host.name:
            self._carrying.wanted(message, time.monotonic())

    def _answered(self, message: wire.Message) -> None:
        now = time.monotonic()
        if message.get("ok") and message.get("op") == "answer":
            return
        if message.get("op") == "flow":
            self._carrying.answered(message, now)
            return
        if message.get("op") == "need" and self._runner.host.needs:
            self._runner.host.needs.answered(message)
            return
        if message.get("op") == "sync" and message.get("seq", self._seq) != self._seq:
            return  # late, or come twice: what it hands out may have been done and forgotten since
        self._rhythm.answered(now)
        if not message.get("ok"):
            self._turned_down(message, now)
        elif message.get("op") == "hello":
            self._welcomed(message, now)
        elif message.get("op") == "sync":
            self._allegiance.handed([handed["id"] for handed in message["jobs"]], now)
            self._runner.acknowledged(message["acked"])
            for handed in message["jobs"]:
                self._runner.begin(handed)
            for job_id in message["cancel"]:
                self._runner.cancel(job_id)

    def _welcomed(self, message: wire.Message, now: float) -> None:
        told = cluster.heard(message)
        wrong = cluster.refusal(self._runner.host.name, self._allegiance.known, told)
        if wrong:
            self._disowned(wrong, now)
            return
        self._allegiance.accept(told)
        self._incarnation, self._rhythm.beat = message["incarnation"], message["beat"]
        self._life = message.get("life")
        self._rhythm.listens = "beats" in message.get("features", ())
        self._parts = "parts" in message.get("features", ())
        self._protocol = message.get("protocol", wire.OLDEST)
        self._refused_since = None
        self._rhythm.at_once(now)
        log.info("accepted incarnation=%d epoch=%d", message["incarnation"], message["epoch"])

    def _disowned(self, error: MaglicaError, now: float) -> None:
        """Not our client worker, or its memory is not what it was. Nothing is done for it; it may be put right."""
        if self._refused_since is None or now - self._refused_since > REPEAT:
            log.error("refused: %s (%s)", error.message, error.hint)
            self._refused_since = now

    def _turned_down(self, message: wire.Message, now: float) -> None:
        error = from_wire(message.get("error") or {})
        if error.details.get("fenced"):
            log.error("%s", error.message)
            self._status = daemon.EXIT_FENCED
        elif error.code == "unknown_entity":
            self._incarnation = None  # its store is new: introduce ourselves again
            self._rhythm.at_once(now)
        elif error.code in ("wrong_cluster", "store_went_back"):
            self._disowned(error, now)
        elif error.code == "denied":
            self._incarnation, self._rhythm.listens = None, False
            if not self._takes_new_key():
                # An administrator may let us in again; until then it is asked for now and then.
                self._disowned(error, now)
                self._rhythm.later(now, DENIED_EVERY)
        elif error.code in ("already_exists", "version_mismatch"):
            self._refused(error.message, error.hint, error.exit_status, now)
        else:
            log.warning("the client worker refused: %s", error.message)

    def _refused(self, message: str, hint: str, status: int, now: float) -> None:
        """Another worker of our name may have just died; after some beats it has not."""
        if self._refused_since is None:
            log.error("refused: %s (%s)", message, hint)
            self._refused_since = now
        if now - self._refused_since > 5 * self._rhythm.beat:
            log.error("giving up: %s (%s)", message, hint)
            self._status = status
