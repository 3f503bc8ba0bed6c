"""QEMU's guest agent, through libvirt."""

from __future__ import annotations

import json
from typing import Any

from maglica.errors import MaglicaError
from maglica.host_worker.hypervisor.connection import Connection, libvirt_qemu


class Agent(Connection):
    """What the agent inside a guest answers."""

    def agent(self, name: str, command: str, within: int, **arguments: Any) -> Any:
        """What the agent inside a guest answers to one of its commands; `within` seconds, or `Failed`.

        QEMU's docs/interop/qemu-ga-ref: https://www.qemu.org/docs/master/interop/qemu-ga-ref.html
        """
        request = json.dumps({"execute": command, **({"arguments": arguments} if arguments else {})})

        def ask(connection: Any) -> str:
            return str(libvirt_qemu.qemuAgentCommand(self._domain(connection, name), request, within, 0))

        return json.loads(self._ask(ask))["return"]

    def agent_ping(self, name: str, within: int) -> str:
        """Why a guest's agent does not answer; '' when it does."""
        try:
            self.agent(name, "guest-ping", within)
        except MaglicaError as error:
            if error.code in ("host_down", "unknown_entity"):
                raise
            return error.message.removeprefix("libvirt: ")
        return ""

    def agent_addresses(self, name: str, within: int) -> list[str]:
        """The addresses that a guest says of itself; none when there is no agent to ask."""
        try:
            cards = self.agent(name, "guest-network-get-interfaces", within)
        except MaglicaError as error:
            if error.code in ("host_down", "unknown_entity"):
                raise
            return []
        found = [str(one["ip-address"]) for card in cards for one in card.get("ip-addresses", [])]
        own = ("127.", "169.254.", "fe80:")  # of no use to anybody else
        return [address for address in found if not address.startswith(own) and address != "::1"]
