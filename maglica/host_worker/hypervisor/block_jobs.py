"""Block jobs of a domain that runs."""

from __future__ import annotations

from typing import Any

from maglica.host_worker.hypervisor.connection import Connection, libvirt


class BlockJobs(Connection):
    """What QEMU does with disks in the background."""

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
