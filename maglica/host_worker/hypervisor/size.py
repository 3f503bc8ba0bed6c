"""How large a domain is, and making it larger."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from maglica.host_worker.hypervisor.connection import STATES, Connection, libvirt, or_else


class Shape(NamedTuple):
    """A domain as it is: its definition, and what runs of it (None: it is off), as XML."""

    name: str
    uuid: str
    state: str
    stored: str
    live: str | None


class FileSystem(NamedTuple):
    """A file system that a guest has mounted, as its agent tells: on which of the domain's disks."""

    point: str
    device: str
    kind: str
    targets: tuple[str, ...]


class Size(Connection):
    """Virtual CPUs, memory, disks. `apply` is one of `kinds.APPLY`."""

    def shape(self, name: str) -> Shape:
        """What a domain is, in one question."""

        def ask(connection: Any) -> Shape:
            domain = self._domain(connection, name)
            flags = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
            state = STATES[domain.state()[0]]
            return Shape(
                domain.name(),
                domain.UUIDString(),
                state,
                str(domain.XMLDesc(flags)),
                str(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_SECURE)) if domain.isActive() else None,
            )

        return self._ask(ask)

    def set_vcpus(self, name: str, count: int, apply: str) -> None:
        """Use so many of the virtual CPUs that there can be."""

        def order(connection: Any) -> None:
            domain = self._domain(connection, name)
            domain.setVcpusFlags(count, self._affect(domain, apply))

        self._tell(order)

    def set_memory(self, name: str, size_bytes: int, apply: str) -> None:
        """Let the balloon leave so much to the guest, now and at its next start."""

        def order(connection: Any) -> None:
            domain = self._domain(connection, name)
            flags = self._affect(domain, apply)
            # The test driver takes one at a time.
            for flag in [flags] if self.has_files else [one for one in (1, 2) if flags & one]:
                domain.setMemoryFlags(size_bytes >> 10, flag)

        self._tell(order)

    def plug_memory(self, name: str, modules: Sequence[str], apply: str) -> None:
        """Plug memory modules in, each an element <memory>."""

        def order(connection: Any) -> None:
            domain = self._domain(connection, name)
            for module in modules:
                domain.attachDeviceFlags(module, self._affect(domain, apply))

        self._tell(order)

    def memory_now(self, name: str) -> int:
        """Bytes that the balloon leaves to a guest at this moment."""

        def ask(connection: Any) -> int:
            domain = self._domain(connection, name)
            stats: dict[str, int] = or_else(domain.memoryStats, {})
            return int(stats.get("actual") or domain.info()[2]) << 10

        return self._ask(ask)

    def resize_disk(self, name: str, target: str, size_bytes: int) -> None:
        """Make a disk of a running domain larger, its file too; the guest notices at once."""

        def order(connection: Any) -> None:
            flags = libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES
            self._domain(connection, name).blockResize(target, size_bytes, flags)

        self._tell(order)

    def file_systems(self, name: str) -> list[FileSystem]:
        """What a guest has mounted, as its agent tells; `Failed` when there is none to ask."""

        def ask(connection: Any) -> list[FileSystem]:
            found = self._with_agent(connection, name).fsInfo()
            return [FileSystem(str(a), str(b), str(c), tuple(map(str, d or ()))) for a, b, c, d in found]

        return self._ask(ask)
