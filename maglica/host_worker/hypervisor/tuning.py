"""What a domain may take of its host: libvirt's typed parameters, in its own names and units; and pinning.

`where` is live or config: what runs, or the definition.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from maglica.host_worker.hypervisor.connection import Connection, libvirt

Parameters = dict[str, int | float | str | bool]


class Tuning(Connection):
    """Typed parameters and pinning of a domain."""

    def tuning(self, name: str, kind: str, device: str | None, where: str) -> Parameters:
        """What is set of one kind; `device` for blkdeviotune and iftune."""

        def ask(connection: Any) -> Parameters:
            domain = self._domain(connection, name)
            flags = self._affect(domain, where)
            if kind == "schedinfo" and not self.has_files:  # the test driver knows one way only
                return dict(domain.schedulerParameters())
            question = {
                "memtune": domain.memoryParameters,
                "numatune": domain.numaParameters,
                "blkiotune": domain.blkioParameters,
                "blkdeviotune": domain.blockIoTune,
                "iftune": domain.interfaceParameters,
                "schedinfo": domain.schedulerParametersFlags,
            }[kind]
            return dict(question(flags) if device is None else question(device, flags))

        return self._ask(ask)

    def tune(self, name: str, kind: str, device: str | None, values: Parameters, apply: str) -> None:
        """Set some of one kind; the others stay."""

        def order(connection: Any) -> None:
            domain = self._domain(connection, name)
            flags = self._affect(domain, apply)
            if kind == "schedinfo" and not self.has_files:
                domain.setSchedulerParameters(values)
                return
            give = {
                "memtune": domain.setMemoryParameters,
                "numatune": domain.setNumaParameters,
                "blkiotune": domain.setBlkioParameters,
                "blkdeviotune": domain.setBlockIoTune,
                "iftune": domain.setInterfaceParameters,
                "schedinfo": domain.setSchedulerParametersFlags,
            }[kind]
            # One at a time: libvirt's Python module reads what is set with the same flags, and libvirt reads one.
            for flag in [
                one for one in (libvirt.VIR_DOMAIN_AFFECT_LIVE, libvirt.VIR_DOMAIN_AFFECT_CONFIG) if flags & one
            ]:
                give(values, flag) if device is None else give(device, values, flag)

        self._tell(order)

    def pins(self, name: str, where: str) -> tuple[list[list[int]], list[int], int]:
        """(for each virtual CPU, for QEMU's own threads: CPUs of the host that they may run on; how many it has)."""

        def ask(connection: Any) -> tuple[list[list[int]], list[int], int]:
            domain = self._domain(connection, name)
            flags = self._affect(domain, where)
            emulator = domain.emulatorPinInfo(flags)
            each = [_numbers(pinned) for pinned in domain.vcpuPinInfo(flags)]
            return each, _numbers(emulator), int(connection.getCPUMap()[0])

        return self._ask(ask)

    def pin(self, name: str, where: str, vcpus: dict[int, Sequence[int]], emulator: Sequence[int] | None) -> None:
        """Pin these virtual CPUs, and QEMU's own threads where `emulator` says so."""

        def order(connection: Any) -> None:
            domain = self._domain(connection, name)
            flags, host = self._affect(domain, where), int(connection.getCPUMap()[0])
            for vcpu, cpus in vcpus.items():
                if self.has_files:
                    domain.pinVcpuFlags(vcpu, _map(cpus, host), flags)
                else:  # the test driver pins what runs, and nothing else
                    domain.pinVcpu(vcpu, _map(cpus, host))
            if emulator is not None:
                domain.pinEmulator(_map(emulator, host), flags)

        self._tell(order)

    def online_cpus(self) -> list[int]:
        """The numbers of the host's CPUs that are in use."""

        def ask(connection: Any) -> list[int]:
            return _numbers(connection.getCPUMap()[1])

        return self._ask(ask)


def _numbers(cpus: Sequence[bool]) -> list[int]:
    return [number for number, used in enumerate(cpus) if used]


def _map(cpus: Sequence[int], host: int) -> tuple[bool, ...]:
    return tuple(number in cpus for number in range(host))
