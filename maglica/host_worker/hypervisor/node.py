"""The machine that libvirtd is on."""

from __future__ import annotations

import os
from typing import Any

from maglica.host_worker.domain import domain_xml, new_domain
from maglica.host_worker.domain.new_domain import Machine
from maglica.host_worker.hypervisor.connection import Connection, libvirt, or_else


class Node(Connection):
    """The host itself."""

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

    def private_networks(self) -> set[str]:
        """The networks that end at this host: their addresses mean something here alone."""

        def ask(connection: Any) -> set[str]:
            return {net.name() for net in connection.listAllNetworks() if domain_xml.is_private(net.XMLDesc(0))}

        return self._ask(ask)

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
                "hypervisor_version": _version(or_else(connection.getVersion, 0)),
            }

        return self._ask(ask)


def _version(number: int) -> str | None:
    # libvirt's own encoding: 1,000,000 * major + 1,000 * minor + release
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}" if number else None
