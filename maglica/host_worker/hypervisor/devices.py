"""Devices of domains: what is plugged in, plugging in and out of what runs."""

from __future__ import annotations

from typing import Any

from maglica.host_worker.hypervisor.connection import Connection, libvirt


class Devices(Connection):
    """A definition's devices, and those of what runs of it."""

    def layout(self, name: str) -> tuple[str | None, str]:
        """(what runs, the persistent definition with its secrets), as XML; None: nothing runs."""

        def ask(connection: Any) -> tuple[str | None, str]:
            domain = self._domain(connection, name)
            return self._live(domain), domain.XMLDesc(
                libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
            )  # fmt: skip

        return self._ask(ask)

    def layout_of(self, uuid: str) -> tuple[str | None, str] | None:
        """The same of the domain of that uuid; None: it does not exist."""

        def ask(connection: Any) -> tuple[str | None, str] | None:
            for domain in connection.listAllDomains():
                if domain.UUIDString() == uuid:
                    return self._live(domain), domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
            return None

        return self._ask(ask)

    @staticmethod
    def _live(domain: Any) -> str | None:
        return str(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_SECURE)) if domain.isActive() else None

    def layouts(self) -> list[tuple[str, str | None, str]]:
        """(name, what runs, the definition) of every domain, without secrets."""

        def ask(connection: Any) -> list[tuple[str, str | None, str]]:
            found = []
            for domain in connection.listAllDomains():
                try:
                    live = domain.XMLDesc(0) if domain.isActive() else None
                    found.append((domain.name(), live, domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)))
                except libvirt.libvirtError as error:
                    if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                        raise
            return found

        return self._ask(ask)

    def living(self) -> list[tuple[str, str]]:
        """(name, what runs) of every domain that is not off, without secrets."""

        def ask(connection: Any) -> list[tuple[str, str]]:
            found = []
            for domain in connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
                try:
                    found.append((domain.name(), domain.XMLDesc(0)))
                except libvirt.libvirtError as error:
                    if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                        raise
            return found

        return self._ask(ask)

    def attach_device(self, uuid: str, piece: str, apply: str = "live") -> None:
        """Plug a device in."""
        self._plug(uuid, apply, lambda domain, flags: domain.attachDeviceFlags(piece, flags))

    def detach_device(self, uuid: str, piece: str, apply: str = "live") -> None:
        """Ask for a device to be unplugged; a guest that runs lets go of it when it likes."""
        self._plug(uuid, apply, lambda domain, flags: domain.detachDeviceFlags(piece, flags))

    def update_device(self, uuid: str, piece: str, apply: str = "live", *, force: bool = False) -> None:
        """Change a device."""
        more = libvirt.VIR_DOMAIN_DEVICE_MODIFY_FORCE if force else 0
        self._plug(uuid, apply, lambda domain, flags: domain.updateDeviceFlags(piece, flags | more))

    def _plug(self, uuid: str, apply: str, order: Any) -> None:
        def tell(connection: Any) -> None:
            domain = connection.lookupByUUIDString(uuid)
            order(domain, self._affect(domain, apply))

        self._tell(tell)
