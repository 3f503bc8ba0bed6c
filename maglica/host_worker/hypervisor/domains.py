"""What libvirt knows of domains, and what it does with one as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

from maglica.host_worker.domain import domain_xml
from maglica.host_worker.domain.domain_xml import Domain
from maglica.host_worker.hypervisor.connection import STATES, Connection, libvirt, or_else

T = TypeVar("T")


class Domains(Connection):
    """Domains: looking at them, defining, starting, ending them."""

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

    def running_definition(self, name: str) -> str:
        """What runs, with secrets, as XML; of a domain that is off, its definition."""
        return self._ask(lambda connection: str(self._domain(connection, name).XMLDesc(libvirt.VIR_DOMAIN_XML_SECURE)))

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
                "snapshots": or_else(lambda: int(domain.snapshotNum()), None),
                "managed_save": or_else(lambda: bool(domain.hasManagedSaveImage()), None),
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
            yield or_else(partial(domain.interfaceAddresses, source), {})

    @staticmethod
    def _addresses(domain: Any) -> list[str]:
        if not domain.isActive():
            return []
        for cards in Domains._sources(domain):
            found = [str(address["addr"]) for card in cards.values() for address in card["addrs"] or ()]
            if found:
                return list(dict.fromkeys(found))
        return []

    def addresses_by_mac(self, name: str) -> list[tuple[str, str]]:
        """(MAC, address) as leases and the neighbour table know them."""

        def ask(connection: Any) -> list[tuple[str, str]]:
            domain = self._domain(connection, name)
            cards = [card for source in self._sources(domain) for card in source.values()]
            return [(str(card["hwaddr"]).lower(), str(one["addr"])) for card in cards for one in card["addrs"] or ()]

        return list(dict.fromkeys(self._ask(ask)))

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

    def define(self, text: str) -> None:
        """Define a domain."""
        self._tell(lambda connection: connection.defineXML(text))

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

    def redefine(self, uuid: str, text: str) -> None:
        """Give the domain of that uuid another definition, where there is one."""

        def order(connection: Any) -> None:
            try:
                connection.lookupByUUIDString(uuid)
            except libvirt.libvirtError as error:
                if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                    return
                raise
            connection.defineXML(text)

        self._tell(order)

    def set_mark(self, name: str, mark: dict[str, str]) -> None:
        """Put our mark into a domain's definition, and into what runs of it."""

        def order(connection: Any) -> None:
            domain = self._domain(connection, name)
            flags = libvirt.VIR_DOMAIN_AFFECT_CONFIG | (libvirt.VIR_DOMAIN_AFFECT_LIVE if domain.isActive() else 0)
            text, space = domain_xml.marked(mark), domain_xml.NAMESPACE
            domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, text, "maglica", space, flags)

        self._tell(order)
