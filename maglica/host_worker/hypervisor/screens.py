"""What libvirt knows of a domain's console and screens."""

from __future__ import annotations

from typing import Any

from maglica.host_worker.hypervisor.connection import STATES, Connection, libvirt


class Screens(Connection):
    """Consoles and screens."""

    def live_definition(self, name: str) -> tuple[str, str]:
        """(definition as it is now, with secrets; state)."""

        def ask(connection: Any) -> tuple[str, str]:
            domain = self._domain(connection, name)
            return str(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_SECURE)), STATES[domain.state()[0]]

        return self._ask(ask)

    def open_screen(self, name: str, index: int) -> int:
        """A socket to the screen of that number, wherever it listens; its password is asked for as by any other."""
        return self._ask(lambda connection: int(self._domain(connection, name).openGraphicsFD(index, 0)))
