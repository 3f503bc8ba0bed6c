"""The client worker: wiring, and a loop that receives, asks the broker, commits, and sends."""

from __future__ import annotations

import argparse
import logging
import os

from maglica import VERSION, config, daemon, keys, wire
from maglica.bus import Request, Server, Subscription, new_pair
from maglica.client_worker.broker import Broker
from maglica.client_worker.door.guard import Guard
from maglica.client_worker.door.keyring import Keyring
from maglica.client_worker.door.turns import Turns
from maglica.client_worker.now import now
from maglica.client_worker.outbox import Reply, Ring, failure
from maglica.client_worker.store import Store
from maglica.config import CustomizeSection, HostSection, RoleSection, Settings
from maglica.errors import MaglicaError, Refused
from maglica.keys import Key

log = logging.getLogger("maglica.client_worker")

# What a SIGHUP can change; the other keys of these sections wait for the next start.
LIVE = {
    "client": frozenset(
        {
            "copy_image",
            "customize_profile",
            "read_timeout",
            "keep_jobs",
            "keep_audit",
            "queue_limit",
            "forks",
            "protected_names",
            "stream_limit",
            "stream_rate",
        }
    ),
    "host": frozenset(HostSection.FIELDS),
    "role": frozenset(RoleSection.FIELDS),
    "customize": frozenset(CustomizeSection.FIELDS),
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
    is_open = open_bus(settings)
    lock = daemon.only_one(settings.paths.state, "client worker")
    store = Store(os.path.join(settings.paths.state, "jobs.db"), settings.client.store_reserve)
    keyring = Keyring(store, settings.roles, is_open=is_open)
    own = None if is_open else make_keys(settings, keyring)
    store.commit()
    broker = Broker(
        store,
        settings.client,
        settings.hosts,
        VERSION,
        now(),
        keyring,
        own.public if own else "",
        (settings.paths.keys, settings.paths.state),
    )
    broker.profiles.change(settings)
    client = settings.client
    server = Server(client.bind, client.pub_port, client.rep_port, own.pair if own else None, Gate(broker))
    log.info(
        "listening bind=%s pub_port=%d rep_port=%d store=%s epoch=%d",
        settings.client.bind, settings.client.pub_port, settings.client.rep_port, store.path, broker.epoch,
    )  # fmt: skip
    if is_open:
        log.warning(
            "THE BUS IS OPEN (security = none): whoever reaches %s, ports %d and %d, rules the hosts",
            client.bind, client.pub_port, client.rep_port,
        )  # fmt: skip
    try:
        serve(server, broker, store, settings)
    finally:
        server.close()
        store.close()
        os.close(lock)
    return 0


def open_bus(settings: config.Settings) -> bool:
    """Whether everybody who reaches the ports may do everything. `Refused` where that is hardly meant."""
    client = settings.client
    if client.security != "none":
        return False
    loopback = client.bind.startswith("127.") or client.bind in {"localhost", "::1"}
    if not loopback and not client.i_know_this_is_open:
        raise Refused(
            "wrong_input",
            f"[client] security = none with bind = {client.bind}: whoever reaches that address would rule the hosts",
            "remove security = none; or bind = 127.0.0.1; or i-know-this-is-open = yes, if it is meant",
        )
    return True


def make_keys(settings: config.Settings, keyring: Keyring) -> Key:
    """The client worker's own key, and the administrator's for root on this machine; made where they are missing."""
    client, folder = settings.client, settings.paths.keys
    own = keys.of_client_worker(folder, new_pair, known=not keyring.empty)
    path = os.path.join(folder, keys.ADMIN_FILE)
    admin = keys.load(path) if os.path.exists(path) else None
    if admin is None or admin.server != own.public:
        admin = Key(keys.ADMIN_NAME, *new_pair(), own.public, client.address, client.pub_port, client.rep_port)
        keys.save(path, admin)
        log.info("made the administrator's key file=%s", path)
    if not keyring.first_administrator(admin.name, admin.public, now()):
        log.warning("the key in %s was revoked; without that file the next start makes another one", path)
    return own


class Gate:
    """The broker's opinion of who may connect and listen, as the bus asks for it."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def admits(self, public: str, address: str, *, listens: bool) -> bool:
        return self._broker.admits(public, address, now(), listens=listens)

    def may_hear(self, public: str, topic: bytes) -> bool:
        return self._broker.may_hear(public, topic, now())


def serve(server: Server, broker: Broker, store: Store, settings: Settings) -> None:
    """Until told to stop: everything that is ready in one transaction, one commit, and only then the answers."""
    running = True

    def stop() -> None:
        nonlocal running
        running = False
        server.wake()

    def reread() -> None:
        nonlocal settings
        settings = daemon.reread(settings, LIVE)
        broker.keyring.take_roles(settings.roles)
        broker.change(settings.client, settings.hosts)
        broker.profiles.change(settings)

    client = settings.client
    guard = Guard(client.pub_port, client.rep_port, client.memory_limit, lambda: server.emptied, server.wake)
    turns = Turns(broker.rates)
    daemon.on_stop(stop)
    duties = daemon.Duties(lambda: broker.status(now()), reread, server.wake)
    guard.start()
    daemon.notify("READY=1")
    while running:
        duties.turn(now().mono)
        events = server.receive(0.0 if turns else broker.next_tick(now()))
        for event in events:
            if isinstance(event, Request):
                guard.heard(event.fd, event.public)
                why = turns.put(event, now().mono)
                if why:
                    broker.outbox.reply(event.route, wire.failure(why))
                    if turns.floods(event, now().mono):
                        guard.flooding(event.fd)
            elif isinstance(event, Subscription):
                broker.subscribed(event.topic)
            else:
                whose = keys.fingerprint(event.public) if event.public else "-"
                log.warning("a subscriber sent a message, all begin anew address=%s key=%s", event.address, whose)
                broker.breach(event.public, event.address, now())
        for cut in guard.cuts():
            broker.cut(cut.seen.key, cut.seen.address, f"{cut.reason}: {cut.amount}", now())
        for request in turns.take():
            broker.request(request.body, request.route, now(), request.public, request.address)
        broker.tick(now())
        _send(server, broker, store)
        if store.fatal:
            # Whoever asked was told. What is on the disk is looked at by the next start, not by this connection.
            raise store.fatal
        _tidy(store, idle=not events and not turns)
    daemon.ends()
    guard.close()
    log.info("stopped")


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
        broker.undone()
        lost = wire.failure(error)
        outbox = [
            i._replace(message={**lost, "v": i.message["v"]}) if i.message["ok"] else i
            for i in outbox
            if isinstance(i, Reply)
        ]
    for item in outbox:
        if isinstance(item, Reply):
            _answer(server, item)
        elif isinstance(item, Ring):
            server.publish(item.topic, item.message)
        else:
            server.drop_subscribers()


def _answer(server: Server, item: Reply) -> None:
    """An answer that cannot travel, of whatever a host told, is an error of its own and not the end of the loop."""
    try:
        server.answer(item.route, item.message)
    except Exception as error:
        server.answer(item.route, {"v": item.message["v"], **failure(error)})
