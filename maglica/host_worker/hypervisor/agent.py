"""QEMU's guest agent, through libvirt."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from maglica.errors import MaglicaError
from maglica.host_worker.hypervisor.connection import Connection, libvirt_qemu


class Agent(Connection):
    """What the agent inside a guest answers."""

    def agent(self, name: str, command: str, within: int, **arguments: Any) -> Any:
        """What the agent inside a guest answers to one of its commands that may be given twice; `within` seconds, or
        `Failed`.

        QEMU's docs/interop/qemu-ga-ref: https://www.qemu.org/docs/master/interop/qemu-ga-ref.html
        """
        return json.loads(self._ask(self._agent_question(name, command, within, arguments)))["return"]

    def agent_order(self, name: str, command: str, within: int, **arguments: Any) -> Any:
        """The same of a command that is given once: when the connection breaks, nobody knows whether it came."""
        return json.loads(self._tell(self._agent_question(name, command, within, arguments)))["return"]

    def _agent_question(self, name: str, command: str, within: int, arguments: dict[str, Any]) -> Callable[[Any], str]:
        spelled = {key.replace("_", "-"): value for key, value in arguments.items()}
        request = json.dumps({"execute": command, **({"arguments": spelled} if spelled else {})})

        def ask(connection: Any) -> str:
            return str(libvirt_qemu.qemuAgentCommand(self._domain(connection, name), request, within, 0))

        return ask

    def agent_commands(self, name: str, within: int) -> tuple[str, dict[str, bool]]:
        """The version of a guest's agent, and the commands that it knows: True of those that it is allowed to obey."""
        told = self.agent(name, "guest-info", within)
        known = {str(one["name"]): bool(one["enabled"]) for one in told["supported_commands"]}
        return str(told["version"]), known

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
