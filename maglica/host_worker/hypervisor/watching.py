"""What a domain does just now: figures, its screen, its keyboard, its clock."""

from __future__ import annotations

from typing import Any

from maglica.errors import Failed
from maglica.host_worker.hypervisor.connection import Connection, libvirt, or_else

MOST_PIXELS_BYTES = 128 << 20  # of a picture as libvirt gives it


class Watching(Connection):
    """Looking at a domain, and touching what a person at it would touch."""

    def figures(self, name: str, disks: list[str], cards: list[str]) -> dict[str, Any]:
        """Counters since the start: `cpu_ns`, `vcpus`, `memory` (balloon), and of each disk (by target) and network
        card (by device) a tuple as libvirt gives it, None where it cannot tell."""

        def ask(connection: Any) -> dict[str, Any]:
            domain = self._domain(connection, name)
            _, _, memory_kib, vcpus, cpu_ns = domain.info()
            return {
                "cpu_ns": int(cpu_ns),
                "vcpus": int(vcpus),
                "memory_kib": int(memory_kib),
                "memory": or_else(domain.memoryStats, {}),
                "disks": {disk: or_else(lambda disk=disk: domain.blockStats(disk), None) for disk in disks},  # type: ignore[misc]
                "cards": {card: or_else(lambda card=card: domain.interfaceStats(card), None) for card in cards},  # type: ignore[misc]
            }

        return self._ask(ask)

    def memory_figures(self, name: str) -> dict[str, int]:
        """What the guest's balloon tells, KiB each: `actual`, `unused`, `usable`, `available`, `rss`, …; those of them
        that it tells."""
        return self._ask(lambda connection: or_else(lambda: self._domain(connection, name).memoryStats(), {}))

    def picture(self, name: str, screen: int) -> tuple[str, bytes]:
        """(MIME type, bytes) of what is on a screen."""

        def ask(connection: Any) -> tuple[str, bytes]:
            stream = connection.newStream(0)
            kind = str(self._domain(connection, name).screenshot(stream, screen, 0))
            parts: list[bytes] = []
            total = 0
            while data := stream.recv(1 << 18):
                parts.append(data)
                total += len(data)
                if total > MOST_PIXELS_BYTES:
                    stream.abort()
                    raise Failed("environment_error", f"the screen of {name} has more than {MOST_PIXELS_BYTES} bytes")
            stream.finish()
            return kind, b"".join(parts)

        return self._ask(ask)

    def press(self, name: str, codes: list[int], hold_ms: int) -> None:
        """Press keys together, by their numbers in Linux, and let them go."""
        linux = libvirt.VIR_KEYCODE_SET_LINUX
        self._tell(lambda connection: self._domain(connection, name).sendKey(linux, hold_ms, codes, len(codes), 0))

    def guest_time(self, name: str) -> float:
        """Seconds since 1970 by the guest's clock, as its agent says."""

        def ask(connection: Any) -> float:
            told = self._with_agent(connection, name).getTime()
            return int(told["seconds"]) + int(told["nseconds"]) / 1e9

        return self._ask(ask)

    def set_guest_time(self, name: str, seconds: float) -> None:
        whole = int(seconds)
        told = {"seconds": whole, "nseconds": int((seconds - whole) * 1e9)}
        self._tell(lambda connection: self._with_agent(connection, name).setTime(told))
