"""The client worker: wiring, and a loop that receives, asks the broker, commits, and sends."""

from __future__ import annotations

import argparse
import logging
import os

from maglica import VERSION, config, daemon, wire
from maglica.bus import Request, Server, Subscription
from maglica.client_worker.broker import Broker
from maglica.client_worker.now import now
from maglica.client_worker.outbox import Reply
from maglica.client_worker.store import Store
from maglica.config import HostSection, Settings
from maglica.errors import MaglicaError

log = logging.getLogger("maglica.client_worker")

# What a SIGHUP can change; the other keys of these sections wait for the next start.
LIVE = {
    "client": frozenset({"read_timeout", "keep_jobs", "keep_audit", "queue_limit"}),
    "host": frozenset(HostSection.FIELDS),
    "log": frozenset({"level"}),
    "paths": frozenset[str](),
}


def main() -> int:
    return daemon.run(_main, "maglica_client_worker")


def _main() -> int:
    parser = argparse.ArgumentParser(
        "maglica_client_worker",
        description="Take requests, keep jobs, tell the hosts. One per cloud.",
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="FILE", help="settings file")
    parser.add_argument("--version", action="version", version=f"maglica {VERSION}")
    options = parser.parse_args()
    settings = config.load(config.find(options.config))
    daemon.log_to_stderr(settings.log.level)
    lock = daemon.only_one(settings.paths.state, "client worker")
    store = Store(os.path.join(settings.paths.state, "jobs.db"), settings.client.store_reserve)
    server = Server(settings.client.bind, settings.client.pub_port, settings.client.rep_port)
    broker = Broker(store, settings.client, settings.hosts, VERSION, now(), (settings.paths.keys, settings.paths.state))
    log.info(
        "listening bind=%s pub_port=%d rep_port=%d store=%s epoch=%d",
        settings.client.bind, settings.client.pub_port, settings.client.rep_port, store.path, broker.epoch,
    )  # fmt: skip
    if not _loopback(settings.client.bind):
        log.warning(
            "the bus at %s is neither encrypted nor authenticated: whoever reaches it rules the hosts;"
            " keep it on a network of its own", settings.client.bind,
        )  # fmt: skip
    try:
        serve(server, broker, store, settings)
    finally:
        server.close()
        store.close()
        os.close(lock)
    return 0


def _loopback(bind: str) -> bool:
    return bind.startswith("127.") or bind in {"localhost", "::1"}


def serve(server: Server, broker: Broker, store: Store, settings: Settings) -> None:
    """Until told to stop: everything that is ready in one transaction, one commit, and only then the answers."""
    running = True
    wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    server.watch(wake)

    def rouse() -> None:
        os.eventfd_write(wake, 1)

    def stop() -> None:
        nonlocal running
        running = False
        rouse()

    def reread() -> None:
        nonlocal settings
        settings = daemon.reread(settings, LIVE)
        broker.change(settings.client, settings.hosts)

    daemon.on_stop(stop)
    duties = daemon.Duties(lambda: broker.status(now()), reread, rouse)
    daemon.notify("READY=1")
    while running:
        duties.turn(now().mono)
        events = server.receive(broker.next_tick(now()))
        _emptied(wake)
        for event in events:
            if isinstance(event, Request):
                broker.request(event.body, event.route, now())
            elif isinstance(event, Subscription):
                broker.subscribed(event.topic)
            else:
                log.warning("a subscriber at %s sent a message; all begin anew", event.address)
        broker.tick(now())
        _send(server, broker, store)
        if store.fatal:
            # Whoever asked was told. What is on the disk is looked at by the next start, not by this connection.
            raise store.fatal
        _tidy(store, idle=not events)
    daemon.notify("STOPPING=1")
    log.info("stopped")


def _emptied(wake: int) -> None:
    try:
        os.eventfd_read(wake)
    except BlockingIOError:
        pass


def _tidy(store: Store, idle: bool) -> None:
    """What the store has to do for itself, when nobody waits."""
    try:
        store.settle(idle)
        if idle:
            store.keep_room()
    except MaglicaError as error:
        log.error("%s", error.message)


def _send(server: Server, broker: Broker, store: Store) -> None:
    outbox = broker.outbox.take()
    try:
        store.commit()
    except MaglicaError as error:
        # Nothing of this turn was recorded, so nothing of it may be told but that, and refusals.
        log.error("%s", error.message)
        lost = wire.failure(error)
        outbox = [
            i._replace(message={**lost, "v": i.message["v"]}) if i.message["ok"] else i
            for i in outbox
            if isinstance(i, Reply)
        ]
    for item in outbox:
        if isinstance(item, Reply):
            server.answer(item.route, item.message)
        else:
            server.publish(item.topic, item.message)
