"""What a guest has in memory, written to files and read back. `within`: seconds that it may take."""

from __future__ import annotations

from typing import Any

from maglica.host_worker.hypervisor.connection import Connection, libvirt, or_else


class Memory(Connection):
    """Saving, restoring, dumping. Only one of them at a time is at work for a domain: libvirt calls it its job."""

    def save(self, name: str, path: str, within: float) -> None:
        """Write a guest's memory to a file; the domain is off afterwards. It goes on when that fails."""
        self._tell(lambda connection: self._domain(connection, name).saveFlags(path, None, 0), within)

    def restore(self, path: str, within: float, *, paused: bool) -> None:
        """Let the domain go on whose memory a file holds."""
        flags = libvirt.VIR_DOMAIN_SAVE_PAUSED if paused else libvirt.VIR_DOMAIN_SAVE_RUNNING

        def order(connection: Any) -> None:
            if self.has_files:
                connection.restoreFlags(path, None, flags)
            else:
                connection.restore(path)

        self._tell(order, within)

    def managed_save(self, name: str, within: float) -> None:
        """The same into a file of libvirt's own, from which the next start goes on."""
        self._tell(lambda connection: self._domain(connection, name).managedSave(0), within)

    def saved_definition(self, name: str, path: str | None) -> str | None:
        """What memory that was saved goes on as: what ran then. Without a path, of the managed save. None where libvirt
        does not tell.
        """

        def ask(connection: Any) -> str | None:
            domain = self._domain(connection, name)
            if path is None:
                return or_else(lambda: str(domain.managedSaveGetXMLDesc(0)), None)
            return or_else(lambda: str(connection.saveImageGetXMLDesc(path, 0)), None)

        return self._ask(ask)

    def has_managed_save(self, name: str) -> bool:
        return self._ask(
            lambda connection: bool(or_else(lambda: self._domain(connection, name).hasManagedSaveImage(), 0))
        )

    def discard_managed_save(self, name: str) -> None:
        self._tell(lambda connection: self._domain(connection, name).managedSaveRemove(0))

    def dump(self, name: str, path: str, within: float, *, memory_only: bool, live: bool) -> None:
        """Write a core dump of a guest to a file; it stands still meanwhile unless `live`."""
        flags = libvirt.VIR_DUMP_MEMORY_ONLY if memory_only else 0
        flags |= libvirt.VIR_DUMP_LIVE if live else 0
        raw = libvirt.VIR_DOMAIN_CORE_DUMP_FORMAT_RAW
        self._tell(lambda connection: self._domain(connection, name).coreDumpWithFormat(path, raw, flags), within)

    def transfer(self, name: str) -> tuple[int, int] | None:
        """(bytes done, bytes in all) of what libvirt does with a guest's memory just now; None: nothing, or the domain
        is gone."""

        def ask(connection: Any) -> tuple[int, int] | None:
            try:
                kind, _, _, total, done, *_ = connection.lookupByName(name).jobInfo()
            except libvirt.libvirtError:
                return None
            return (int(done), int(total)) if kind != libvirt.VIR_DOMAIN_JOB_NONE else None

        return self._ask(ask)

    def abort_transfer(self, name: str) -> None:
        """End that; the guest goes on as it was."""
        self._tell(lambda connection: self._domain(connection, name).abortJob())
