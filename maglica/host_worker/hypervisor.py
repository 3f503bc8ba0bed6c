"""The local libvirtd. The only file that imports libvirt; its errors are translated here and go no further.

One connection per process, shared by all threads (libvirt allows it), opened at the first use and again when it broke:
the test driver keeps its world per connection, so a second one would see another.

Nothing here waits for ever: a call that has not come back at its deadline is given up and left in its thread, and the
next ones get a new connection. libvirt's own keepalive is not used, see docs/design.md.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

from maglica.errors import Failed, MaglicaError, Refused
from maglica.host_worker.deadline import Calls, Overdue
from maglica.host_worker.domain import domain_xml, new_domain
from maglica.host_worker.domain.domain_xml import Domain
from maglica.host_worker.domain.new_domain import Machine

try:
    import libvirt
    import libvirt_qemu
except ImportError:  # said at the first use, in words that help
    libvirt = None

T = TypeVar("T")

OPEN_WITHIN = 5.0  # seconds that a connection may take, and that anybody waits for one
ANSWER_WITHIN = 15.0  # seconds that a question may take: a list of some thousand domains takes some
OBEY_WITHIN = 300.0  # seconds that an order may take: a guest with much memory starts for minutes
MOST_HUNG = 16  # calls left to themselves; each holds a thread
SETTLE = 1.0  # seconds that orders which may still be on their way have, before a new connection is used

POOL_WITHIN = 60.0  # seconds that a pool is waited for in which libvirt makes a volume
REFRESH_EVERY = 30.0  # seconds between two searches for the same volume

# virDomainState -> the words of the tables
STATES = ("unknown", "running", "idle", "paused", "in-shutdown", "shut-off", "crashed", "pm-suspended")


class Hung(Failed):
    """libvirt has not answered in time; whether it will, nobody knows."""


class Hypervisor:
    """What we ask of libvirt, in plain values. Sizes in bytes. `answer_within`: seconds that a question may take."""

    def __init__(self, uri: str, *, answer_within: float = ANSWER_WITHIN) -> None:
        self.uri = uri
        self._answer_within = answer_within
        self._calls = Calls(MOST_HUNG)
        self._opening: Future[Any] | None = None
        self._opening_since = 0.0
        self._in_doubt = False  # an order was sent, and the connection broke before its answer
        self.driver = uri.split(":")[0].split("+")[0]
        self._connection: Any = None
        self._lock = threading.Lock()
        self._refreshing = threading.Lock()
        self._refreshed: dict[tuple[str, str], float] = {}  # (pool, volume) that was looked for -> when
        if libvirt is not None:
            # Errors come as exceptions; without this libvirt prints each of them as well.
            libvirt.registerErrorHandler(lambda context, error: None, None)

    @property
    def has_files(self) -> bool:
        """Whether disks are files and devices of this machine; the test driver only pretends to have some."""
        return self.driver != "test"

    # ------------------------------------------------------------------------------------- connection

    def _connect(self) -> Any:
        """The connection. One thread opens it; a libvirtd that hangs would swallow every thread that tries."""
        with self._lock:
            if self._connection is not None:
                return self._connection
            if self._opening is None:
                self._opening = Future()
                self._opening_since = time.monotonic()
                threading.Thread(target=self._open, args=(self._opening,), name="libvirt open", daemon=True).start()
            opening = self._opening
            left = self._opening_since + OPEN_WITHIN - time.monotonic()
        try:
            return opening.result(max(0.0, left))
        except TimeoutError:
            raise self._silent(time.monotonic() - self._opening_since) from None

    def _open(self, opening: Future[Any]) -> None:
        try:
            connection = self._opened()
        except BaseException as error:
            with self._lock:
                self._opening = None
            opening.set_exception(error)
            return
        with self._lock:
            self._connection, self._opening, self._in_doubt = connection, None, False
        opening.set_result(connection)

    def _opened(self) -> Any:
        if libvirt is None:
            raise Failed("environment_error", "the libvirt module for Python is missing", "install python3-libvirt")
        try:
            connection = libvirt.open(self.uri)
            if self._in_doubt:
                # What was sent on the connection that broke is carried out by a libvirtd that moves again. It shall
                # come before what is asked, or undone, from here on.
                time.sleep(SETTLE)
                connection.getLibVersion()
        except libvirt.libvirtError as error:
            raise self._unreachable(error) from None
        return connection

    def _silent(self, seconds: float) -> Hung:
        return Hung(
            "host_down",
            f"libvirt: has not answered for {seconds:.0f} s ({self.uri})",
            "libvirtd is there but hangs: `systemctl status libvirtd`, its log, and the storage it uses",
        )

    def _unreachable(self, error: Exception) -> Failed:
        return Failed(
            "host_down",
            f"libvirt: unreachable ({self.uri}: {error})",
            "is libvirtd running on that host? `systemctl status libvirtd`",
        )

    def _ask(self, question: Callable[[Any], T]) -> T:
        """Ask something that may be asked twice: a connection that broke since is opened again."""
        try:
            return self._call(question, self._answer_within)
        except Failed as failed:
            if failed.code != "host_down" or isinstance(failed, Hung):
                raise
            return self._call(question, self._answer_within)

    def _tell(self, order: Callable[[Any], T]) -> T:
        """Give an order, once, and only to a libvirt that listens: what was never given is not in doubt."""
        self._ask(lambda connection: connection.getLibVersion())
        given: list[bool] = []

        def give(connection: Any) -> T:
            given.append(True)
            return order(connection)

        try:
            return self._call(give, OBEY_WITHIN)
        except Failed as failed:
            if failed.code == "host_down" and given:
                self._in_doubt = True
                failed.message += "; whether it did what it was told is not known"
            raise

    def _call(self, work: Callable[[Any], T], within: float) -> T:
        connection = self._connect()
        try:
            return self._calls.run(lambda: work(connection), within)
        except Overdue:
            if self.has_files:  # the test driver has no other world
                self._forget(connection)  # it serves few calls at a time: the next shall not queue behind this one
            raise self._silent(within) from None
        except libvirt.libvirtError as error:
            if not self._alive(connection):
                self._forget(connection)
                raise self._unreachable(error) from None
            raise translated(error) from None

    @staticmethod
    def _alive(connection: Any) -> bool:
        try:
            return bool(connection.isAlive())
        except libvirt.libvirtError:
            return False

    def _forget(self, connection: Any) -> None:
        with self._lock:
            if self._connection is connection:
                self._connection = None

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    # ---------------------------------------------------------------------------------------- domains

    def _domain(self, connection: Any, name: str) -> Any:
        try:
            return connection.lookupByName(name)
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                raise Refused("unknown_entity", f"there is no VM {name} on this host") from None
            raise

    def domains(self) -> list[tuple[Domain, str]]:
        """(definition, state) of every domain."""
        return self._ask(lambda connection: self._each(connection, lambda domain: domain_xml.read(domain.XMLDesc(0))))

    def states(self) -> list[tuple[str, str]]:
        """(name, state) of every domain."""
        return self._ask(lambda connection: self._each(connection, lambda domain: domain.name()))

    @staticmethod
    def _each(connection: Any, look: Callable[[Any], T]) -> list[tuple[T, str]]:
        """What a look at each domain gives, and the domain's state. One that goes away meanwhile is left out."""
        found = []
        for domain in connection.listAllDomains():
            try:
                found.append((look(domain), STATES[domain.state()[0]]))
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                    raise
        return found

    def state(self, name: str) -> str:
        """The state of a domain, in the words of `STATES`."""
        return self._ask(lambda connection: STATES[self._domain(connection, name).state()[0]])

    def definition(self, name: str) -> str:
        """The persistent definition, with secrets, as XML."""

        def ask(connection: Any) -> str:
            flags = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
            return str(self._domain(connection, name).XMLDesc(flags))

        return self._ask(ask)

    def details(self, name: str) -> dict[str, Any]:
        """What `vm info` shows beyond the definition."""

        def ask(connection: Any) -> dict[str, Any]:
            domain = self._domain(connection, name)
            state, max_kib, kib, vcpus, cpu_ns = domain.info()
            live = domain.XMLDesc(0)
            return {
                "state": STATES[state],
                "max_memory_bytes": max_kib * 1024,
                "memory_bytes": kib * 1024,
                "vcpus": vcpus,
                "cpu_seconds": round(cpu_ns / 1e9, 2) if domain.isActive() else None,
                "autostart": bool(domain.autostart()),
                "persistent": bool(domain.isPersistent()),
                "snapshots": _or(lambda: int(domain.snapshotNum()), None),
                "managed_save": _or(lambda: bool(domain.hasManagedSaveImage()), None),
                "live": domain_xml.read(live),
                "addresses": self._addresses(domain),
            }

        return self._ask(ask)

    def addresses(self, name: str) -> list[str]:
        """The guest's IP addresses, as DHCP leases or the host's neighbour table know them; may be empty."""
        return self._ask(lambda connection: self._addresses(self._domain(connection, name)))

    @staticmethod
    def _sources(domain: Any) -> Iterator[dict[str, Any]]:
        """What knows of a guest's addresses: DHCP leases, then the host's neighbour table."""
        for source in (
            libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE,
            libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_ARP,
        ):
            yield _or(partial(domain.interfaceAddresses, source), {})

    @staticmethod
    def _addresses(domain: Any) -> list[str]:
        if not domain.isActive():
            return []
        for cards in Hypervisor._sources(domain):
            found = [str(address["addr"]) for card in cards.values() for address in card["addrs"] or ()]
            if found:
                return list(dict.fromkeys(found))
        return []

    # ------------------------------------------------------------------------------------ QEMU's guest agent

    def agent(self, name: str, command: str, within: int, **arguments: Any) -> Any:
        """What the agent inside a guest answers to one of its commands; `within` seconds, or `Failed`.

        QEMU's docs/interop/qemu-ga-ref: https://www.qemu.org/docs/master/interop/qemu-ga-ref.html
        """
        request = json.dumps({"execute": command, **({"arguments": arguments} if arguments else {})})

        def ask(connection: Any) -> str:
            return str(libvirt_qemu.qemuAgentCommand(self._domain(connection, name), request, within, 0))

        return json.loads(self._ask(ask))["return"]

    def agent_ping(self, name: str, within: int) -> str:
        """Why a guest's agent does not answer; '' when it does."""
        try:
            self.agent(name, "guest-ping", within)
        except MaglicaError as error:
            if error.code in ("host_down", "unknown_entity"):
                raise
            return error.message.removeprefix("libvirt: ")
        return ""

    def agent_addresses(self, name: str, within: int) -> list[str]:
        """The addresses that a guest says of itself; none when there is no agent to ask."""
        try:
            cards = self.agent(name, "guest-network-get-interfaces", within)
        except MaglicaError as error:
            if error.code in ("host_down", "unknown_entity"):
                raise
            return []
        found = [str(one["ip-address"]) for card in cards for one in card.get("ip-addresses", [])]
        own = ("127.", "169.254.", "fe80:")  # of no use to anybody else
        return [address for address in found if not address.startswith(own) and address != "::1"]

    def addresses_by_mac(self, name: str) -> list[tuple[str, str]]:
        """(MAC, address) as leases and the neighbour table know them."""

        def ask(connection: Any) -> list[tuple[str, str]]:
            domain = self._domain(connection, name)
            cards = [card for source in self._sources(domain) for card in source.values()]
            return [(str(card["hwaddr"]).lower(), str(one["addr"])) for card in cards for one in card["addrs"] or ()]

        return list(dict.fromkeys(self._ask(ask)))

    def private_networks(self) -> set[str]:
        """The networks that end at this host: their addresses mean something here alone."""

        def ask(connection: Any) -> set[str]:
            return {net.name() for net in connection.listAllNetworks() if domain_xml.is_private(net.XMLDesc(0))}

        return self._ask(ask)

    def block_sizes(self, name: str, disk: domain_xml.Disk) -> tuple[int, int]:
        """(capacity, allocation) of a disk: what the guest sees, what it takes now."""

        def ask(connection: Any) -> tuple[int, int]:
            if self.has_files:
                capacity, allocation, physical = self._domain(connection, name).blockInfo(disk.target)
                return int(capacity), int(allocation or physical)
            volume = connection.storageVolLookupByPath(disk.path)
            _, capacity, allocation = volume.info()
            return int(capacity), int(allocation)

        return self._ask(ask)

    def volume_path(self, pool: str, volume: str) -> str:
        """Where a volume lies. One that libvirt does not know yet is looked for in its pool, but seldom: its list of a
        pool is as old as its last look.
        """

        def ask(connection: Any) -> str:
            return str(connection.storagePoolLookupByName(pool).storageVolLookupByName(volume).path())

        try:
            return self._ask(ask)
        except Failed as unknown:
            if unknown.code != "unknown_entity" or not self.has_files or not self._may_refresh(pool, volume):
                raise
        self.refresh_pool(pool)
        return self._ask(ask)

    def _may_refresh(self, pool: str, volume: str) -> bool:
        now, key = time.monotonic(), (pool, volume)
        with self._lock:
            if now < self._refreshed.get(key, 0.0) + REFRESH_EVERY:
                return False
            self._refreshed[key] = now
            return True

    def refresh_pool(self, name: str) -> None:
        """Let libvirt look at a pool again. It refuses while a volume is being made there: that is waited for."""

        def order(connection: Any) -> None:
            connection.storagePoolLookupByName(name).refresh(0)

        until = time.monotonic() + POOL_WITHIN
        with self._refreshing:
            while True:
                try:
                    return self._tell(order)
                except MaglicaError as busy:
                    if "asynchronous jobs" not in busy.message:
                        raise
                    if time.monotonic() > until:
                        words = f"pool {name}: libvirt has been making a volume in it for {POOL_WITHIN:.0f} s"
                        raise Failed("locked", words, "try again when it is done") from None
                time.sleep(0.2)

    def define(self, text: str) -> None:
        """Define a domain."""
        self._tell(lambda connection: connection.defineXML(text))

    def start(self, name: str) -> None:
        self._tell(lambda connection: self._domain(connection, name).create())

    def shutdown(self, name: str) -> None:
        """Ask the guest to power off (ACPI)."""
        self._tell(lambda connection: self._domain(connection, name).shutdown())

    def destroy(self, name: str) -> None:
        """Pull the plug."""
        self._tell(lambda connection: self._domain(connection, name).destroy())

    def undefine(self, name: str) -> None:
        """Forget a domain with its NVRAM, its saved state and its snapshots' and checkpoints' records."""
        self._tell(lambda connection: self._undefine(self._domain(connection, name)))

    def _undefine(self, domain: Any) -> None:
        flags = libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
        if self.has_files:  # the test driver knows neither
            flags |= libvirt.VIR_DOMAIN_UNDEFINE_NVRAM | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
        domain.undefineFlags(flags)

    def has_domain(self, uuid: str) -> bool:
        """Whether a domain of that uuid exists."""

        def ask(connection: Any) -> bool:
            return any(domain.UUIDString() == uuid for domain in connection.listAllDomains())

        return self._ask(ask)

    def discard(self, uuid: str) -> None:
        """Destroy and undefine the domain of that uuid, where there is one."""

        def order(connection: Any) -> None:
            try:
                domain = connection.lookupByUUIDString(uuid)
            except libvirt.libvirtError as error:
                if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                    return
                raise
            if domain.isActive():
                domain.destroy()
            if domain.isPersistent():
                self._undefine(domain)

        self._tell(order)

    def set_mark(self, name: str, mark: dict[str, str]) -> None:
        """Put our mark into a domain's definition, and into what runs of it."""

        def order(connection: Any) -> None:
            domain = self._domain(connection, name)
            flags = libvirt.VIR_DOMAIN_AFFECT_CONFIG | (libvirt.VIR_DOMAIN_AFFECT_LIVE if domain.isActive() else 0)
            text, space = domain_xml.marked(mark), domain_xml.NAMESPACE
            domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, text, "maglica", space, flags)

        self._tell(order)

    # ---------------------------------------------------------------------------- block jobs of a running domain

    def pull(self, name: str, target: str, bandwidth: int) -> None:
        """Begin to copy into a disk all that it rests on; at the end it rests on nothing. `bandwidth`: bytes a second,
        0 for as fast as it goes."""

        def order(connection: Any) -> None:
            flags = libvirt.VIR_DOMAIN_BLOCK_PULL_BANDWIDTH_BYTES
            self._domain(connection, name).blockPull(target, bandwidth, flags)

        self._tell(order)

    def block_job(self, name: str, target: str) -> tuple[int, int] | None:
        """(bytes done, bytes in all) of the job at a disk; None: there is none (any more)."""

        def ask(connection: Any) -> tuple[int, int] | None:
            told = self._domain(connection, name).blockJobInfo(target)
            return (int(told["cur"]), int(told["end"])) if told else None

        return self._ask(ask)

    def abort_block_job(self, uuid: str, target: str) -> None:
        """End the job at a disk of the domain of that uuid, where there is one; the disk is as good as before."""

        def order(connection: Any) -> None:
            for domain in connection.listAllDomains():
                if domain.UUIDString() == uuid and domain.isActive() and domain.blockJobInfo(target):
                    domain.blockJobAbort(target)

        self._tell(order)

    # ------------------------------------------------------------------------------------ pools, volumes

    def pools(self) -> list[dict[str, Any]]:
        """Active pools: `name`, `type`, `path`, `capacity_bytes`, `free_bytes`."""

        def ask(connection: Any) -> list[dict[str, Any]]:
            flag = libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE
            return [self._pool(pool) for pool in connection.listAllStoragePools(flag)]

        return self._ask(ask)

    def _pool(self, pool: Any) -> dict[str, Any]:
        _, capacity, _, free = pool.info()
        kind, path = domain_xml.pool(pool.XMLDesc(0))
        if self.has_files and kind in domain_xml.FILE_POOLS and path and os.path.isdir(path):
            # libvirt's own figures are those of the last refresh; a refresh would lock the pool for a while.
            room = os.statvfs(path)
            capacity, free = room.f_blocks * room.f_frsize, room.f_bavail * room.f_frsize
        return {"name": pool.name(), "type": kind, "path": path, "capacity_bytes": capacity, "free_bytes": free}

    def clone_volume(self, source: str, pool: str, name: str) -> str:
        """Copy the volume at a path into a new volume of a pool, by libvirt itself; its path."""

        def order(connection: Any) -> str:
            original = connection.storageVolLookupByPath(source)
            text = domain_xml.volume(name, original.XMLDesc(0))
            return str(connection.storagePoolLookupByName(pool).createXMLFrom(text, original, 0).path())

        return self._tell(order)

    def create_volume(self, pool: str, name: str, size_bytes: int) -> str:
        """Make an empty volume; its path."""

        def order(connection: Any) -> str:
            text = domain_xml.empty_volume(name, size_bytes)
            return str(connection.storagePoolLookupByName(pool).createXML(text, 0).path())

        return self._tell(order)

    def delete_volume(self, pool: str, name: str) -> None:
        """Delete a volume, where there is one."""

        def order(connection: Any) -> None:
            try:
                connection.storagePoolLookupByName(pool).storageVolLookupByName(name).delete(0)
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_VOL:
                    raise

        self._tell(order)

    def delete_volume_at(self, path: str) -> None:
        """Delete the volume at a path, where there is one."""

        def order(connection: Any) -> None:
            try:
                connection.storageVolLookupByPath(path).delete(0)
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_VOL:
                    raise

        self._tell(order)

    # ---------------------------------------------------------------------------- what a new machine needs

    def machine_type(self, *, kvm: bool) -> Machine:
        """What a new machine is made of here: q35 where QEMU has it, its own choice otherwise."""

        def ask(connection: Any) -> Machine:
            arch, kind = os.uname().machine, "kvm" if kvm else "qemu"
            wanted = "q35" if arch == "x86_64" else None
            try:
                return new_domain.machine(connection.getDomainCapabilities(None, arch, wanted, kind, 0))
            except libvirt.libvirtError:
                return new_domain.machine(connection.getDomainCapabilities(None, arch, None, kind, 0))

        return self._ask(ask)

    def networks(self) -> list[str]:
        """The names of libvirt's networks here."""
        return self._ask(lambda connection: sorted(network.name() for network in connection.listAllNetworks()))

    # --------------------------------------------------------------------------------------------- node

    def node(self) -> dict[str, Any]:
        """The machine: `vcpus`, `memory_bytes`, `cpu_model`, `sockets`, `cores`, `threads`, versions."""

        def ask(connection: Any) -> dict[str, Any]:
            model, memory_mib, cpus, mhz, nodes, sockets, cores, threads = connection.getInfo()
            return {
                "cpu_model": model,
                "vcpus": cpus,
                "cpu_mhz": mhz,
                "numa_nodes": nodes,
                "sockets": sockets,
                "cores": cores,
                "threads": threads,
                "memory_bytes": memory_mib << 20,
                "libvirt_version": _version(connection.getLibVersion()),
                "hypervisor": str(connection.getType()),
                "hypervisor_version": _version(_or(connection.getVersion, 0)),
            }

        return self._ask(ask)


def _version(number: int) -> str | None:
    # libvirt's own encoding: 1,000,000 * major + 1,000 * minor + release
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}" if number else None


def _or(question: Callable[[], T], otherwise: T) -> T:
    """The answer, or something else where the driver cannot tell."""
    try:
        return question()
    except libvirt.libvirtError as error:
        words = ("NO_SUPPORT", "OPERATION_INVALID", "OPERATION_UNSUPPORTED", "ARGUMENT_UNSUPPORTED", "INVALID_ARG")
        known = [getattr(libvirt, f"VIR_ERR_{word}") for word in (*words, "INTERNAL_ERROR")]
        if error.get_error_code() in known:
            return otherwise
        raise


def translated(error: Any) -> MaglicaError:
    """A libvirt error in our words; its own text stays."""
    codes = {
        libvirt.VIR_ERR_NO_DOMAIN: "unknown_entity",
        libvirt.VIR_ERR_NO_STORAGE_POOL: "unknown_entity",
        libvirt.VIR_ERR_NO_STORAGE_VOL: "unknown_entity",
        libvirt.VIR_ERR_DOM_EXIST: "already_exists",
        libvirt.VIR_ERR_STORAGE_VOL_EXIST: "already_exists",
        libvirt.VIR_ERR_OPERATION_INVALID: "wrong_state",
        libvirt.VIR_ERR_NO_SUPPORT: "environment_error",
        libvirt.VIR_ERR_OPERATION_TIMEOUT: "locked",
    }
    code = codes.get(error.get_error_code(), "environment_error")
    text = str(error)
    if "No space left on device" in text:
        code = "no_capacity"
    return Failed(code, f"libvirt: {text}", "the host's libvirtd log may tell more")
