"""Switching domains on and off, and what lies between."""

from __future__ import annotations

from typing import Any

from maglica.host_worker.hypervisor.connection import Connection, libvirt

# virDomainPausedReason -> words
PAUSED = (
    *("unknown", "user", "migration", "save", "dump", "I/O error", "watchdog", "from snapshot", "shutting down"),
    *("snapshot", "crashed", "starting up", "post-copy", "post-copy failed", "API error"),
)


class Power(Connection):
    """The buttons of a machine."""

    def start(self, name: str, *, fresh: bool = False) -> None:
        """Start a domain; where a managed save is kept it goes on from there. `fresh`: forget that, and boot."""

        def order(connection: Any) -> None:
            domain = self._domain(connection, name)
            if fresh and not self.has_files:  # the test driver does not know the flag
                domain.managedSaveRemove()
            domain.createWithFlags(libvirt.VIR_DOMAIN_START_FORCE_BOOT if fresh and self.has_files else 0)

        self._tell(order)

    def shutdown(self, name: str) -> None:
        """Ask the guest to power off (ACPI)."""
        self._tell(lambda connection: self._domain(connection, name).shutdown())

    def destroy(self, name: str) -> None:
        """Pull the plug."""
        self._tell(lambda connection: self._domain(connection, name).destroy())

    def reboot(self, name: str, *, through_agent: bool) -> None:
        """Ask the guest to boot anew: through its agent, or by the power button (libvirt resets it once it is down)."""

        def order(connection: Any) -> None:
            button = libvirt.VIR_DOMAIN_REBOOT_ACPI_POWER_BTN if self.has_files else 0
            flags = libvirt.VIR_DOMAIN_REBOOT_GUEST_AGENT if through_agent else button
            self._domain(connection, name).reboot(flags)

        self._tell(order)

    def reset(self, name: str) -> None:
        """Press the reset button."""
        self._tell(lambda connection: self._domain(connection, name).reset())

    def suspend(self, name: str) -> None:
        """Stop the processors."""
        self._tell(lambda connection: self._domain(connection, name).suspend())

    def resume(self, name: str) -> None:
        """Let the processors go on."""
        self._tell(lambda connection: self._domain(connection, name).resume())

    def paused_for(self, name: str) -> str:
        """Why a domain that is paused is, in the words of `PAUSED`."""

        def ask(connection: Any) -> str:
            reason = int(self._domain(connection, name).state()[1])
            return PAUSED[reason] if reason < len(PAUSED) else PAUSED[0]

        return self._ask(ask)

    def nmi(self, name: str) -> None:
        """Send a non-maskable interrupt to the first processor."""
        self._tell(lambda connection: self._domain(connection, name).injectNMI())

    def pm_suspend(self, name: str, target: str) -> None:
        """Have the guest's agent put the guest to sleep: `mem`, `disk` or `hybrid`."""
        number = getattr(libvirt, f"VIR_NODE_SUSPEND_TARGET_{target.upper()}")
        self._tell(lambda connection: self._with_agent(connection, name).pMSuspendForDuration(number, 0))

    def pm_wakeup(self, name: str) -> None:
        """Wake a guest up that sleeps in memory."""
        self._tell(lambda connection: self._domain(connection, name).pMWakeup())

    def autostarts(self, name: str) -> bool:
        """Whether a domain is started together with its host."""
        return self._ask(lambda connection: bool(self._domain(connection, name).autostart()))

    def set_autostart(self, name: str, wanted: bool) -> None:
        self._tell(lambda connection: self._domain(connection, name).setAutostart(int(wanted)))

    def is_persistent(self, name: str) -> bool:
        """Whether a definition of the domain stays when it goes off."""
        return self._ask(lambda connection: bool(self._domain(connection, name).isPersistent()))
