"""Snapshots of domains."""

from __future__ import annotations

from typing import Any

from maglica.host_worker.hypervisor.connection import Connection, libvirt

FREEZES_WITHIN = 60.0  # seconds that a guest's agent has to freeze its file systems


class Snapshots(Connection):
    """What libvirt knows of a domain's snapshots, and what it does with them; `within`: seconds that it may take."""

    def snapshots(self, name: str) -> list[tuple[str, str]]:
        """(label, XML) of each."""

        def ask(connection: Any) -> list[tuple[str, str]]:
            found = self._domain(connection, name).listAllSnapshots()
            return [(str(one.getName()), str(one.getXMLDesc())) for one in found]

        return self._ask(ask)

    def current_snapshot(self, name: str) -> str | None:
        """The label of the one that the present state goes back to."""

        def ask(connection: Any) -> str | None:
            domain = self._domain(connection, name)
            return str(domain.snapshotCurrent().getName()) if domain.hasCurrentSnapshot() else None

        return self._ask(ask)

    def has_snapshot(self, uuid: str, label: str) -> bool:
        """Whether the domain of that uuid has it."""

        def ask(connection: Any) -> bool:
            for domain in connection.listAllDomains():
                if domain.UUIDString() == uuid:
                    return label in domain.snapshotListNames()
            return False

        return self._ask(ask)

    def is_current_snapshot(self, uuid: str, label: str) -> bool:
        """Whether the present state of the domain of that uuid goes back to it."""

        def ask(connection: Any) -> bool:
            for domain in connection.listAllDomains():
                if domain.UUIDString() == uuid and domain.hasCurrentSnapshot():
                    return bool(domain.snapshotCurrent().getName() == label)
            return False

        return self._ask(ask)

    def create_snapshot(self, name: str, text: str, *, disk_only: bool, quiesce: bool, within: float) -> None:
        """Make a snapshot as that XML says: all of it, or nothing."""
        flags = 0
        if disk_only:
            flags |= libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC
        if quiesce:
            flags |= libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_QUIESCE

        def order(connection: Any) -> None:
            domain = self._with_agent(connection, name, FREEZES_WITHIN) if quiesce else self._domain(connection, name)
            domain.snapshotCreateXML(text, flags)

        self._tell(order, within)

    def revert_to_snapshot(self, name: str, label: str, *, state: str, force: bool, within: float) -> None:
        """Bring a domain back. `state`: same, running or paused."""
        flags = {
            "same": 0,
            "running": libvirt.VIR_DOMAIN_SNAPSHOT_REVERT_RUNNING,
            "paused": libvirt.VIR_DOMAIN_SNAPSHOT_REVERT_PAUSED,
        }[state]
        flags |= libvirt.VIR_DOMAIN_SNAPSHOT_REVERT_FORCE if force else 0

        def order(connection: Any) -> None:
            domain = self._domain(connection, name)
            domain.revertToSnapshot(domain.snapshotLookupByName(label), flags)

        self._tell(order, within)

    def delete_snapshot(self, name: str, label: str, *, metadata_only: bool, within: float) -> None:
        """Delete a snapshot, or libvirt's record of it."""
        flags = libvirt.VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY if metadata_only else 0
        self._tell(lambda connection: self._domain(connection, name).snapshotLookupByName(label).delete(flags), within)

    def libvirt_release(self) -> tuple[int, int]:
        """(major, minor) of the libvirt that does the work."""
        number = self._ask(lambda connection: int(connection.getLibVersion()))
        return number // 1_000_000, number // 1000 % 1000
