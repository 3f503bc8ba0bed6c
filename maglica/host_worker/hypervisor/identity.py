"""What a domain is called, and what is written in its definition for us."""

from __future__ import annotations

from typing import Any

from maglica.host_worker.domain import domain_xml
from maglica.host_worker.hypervisor.connection import Connection, libvirt


class Identity(Connection):
    """Domains by their uuid, which no renaming changes."""

    def definition_of(self, uuid: str) -> str | None:
        """The persistent definition of the domain of that uuid, with secrets; None where there is no such domain."""

        def ask(connection: Any) -> str | None:
            domain = self._by_uuid(connection, uuid)
            flags = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
            return str(domain.XMLDesc(flags)) if domain else None

        return self._ask(ask)

    def mark_of(self, uuid: str) -> dict[str, str] | None:
        """Our mark in that definition."""
        text = self.definition_of(uuid)
        return domain_xml.read(text).mark if text else None

    def rename(self, uuid: str, name: str) -> None:
        """Give the domain of that uuid, which is off, another name, unless it has it; nothing where there is none."""

        def order(connection: Any) -> None:
            domain = self._by_uuid(connection, uuid)
            if domain and domain.name() != name:
                domain.rename(name, 0)

        self._tell(order)

    def start_again(self, uuid: str) -> None:
        """Start the domain of that uuid, unless it runs; nothing where there is none."""

        def order(connection: Any) -> None:
            domain = self._by_uuid(connection, uuid)
            if domain and not domain.isActive():
                domain.create()

        self._tell(order)

    def halt(self, uuid: str) -> None:
        """Pull the plug of the domain of that uuid, if it runs; nothing where there is none."""

        def order(connection: Any) -> None:
            domain = self._by_uuid(connection, uuid)
            if domain and domain.isActive():
                domain.destroy()

        self._tell(order)

    def forget(self, uuid: str) -> None:
        """Undefine the domain of that uuid, which is off, and delete nothing; nothing where there is none."""

        def order(connection: Any) -> None:
            domain = self._by_uuid(connection, uuid)
            if domain:
                domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM if self.has_files else 0)

        self._tell(order)

    @staticmethod
    def _by_uuid(connection: Any, uuid: str) -> Any:
        try:
            return connection.lookupByUUIDString(uuid)
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                return None
            raise
