"""Booting VMs anew without switching them off, and ringing at their kernels."""

from __future__ import annotations

from maglica import kinds
from maglica.declare import Action, Where, action, arg


@action(
    where=Where.OWNER,
    changes=True,
    locks=("vm:{name}",),
    limit=3600,
    example="maglica vm reboot web1.example.jp --wait=ssh",
)
class VmReboot(Action):
    """Ask the guest of a VM to boot anew, and wait until it has come down and up; its QEMU goes on."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    through: str = arg(
        kinds.choice("auto", "acpi", "agent"),
        "who asks the guest: the power button or its agent; auto = the agent where there is one that answers",
        default="auto",
    )
    timeout: float = arg(kinds.DURATION, "how long the guest may take to come down", default=60.0)
    force: bool = arg(kinds.BOOL, "reset it when it did not obey in time", default=False)
    wait: str | None = arg(
        kinds.CONDITION, "done only when the guest is that far: it runs, has an address, answers", default=None
    )
    wait_timeout: float = arg(kinds.duration(1), "how long the guest may take for it, with --wait=…", default=300.0)


@action(
    where=Where.OWNER,
    changes=True,
    destructive=True,
    locks=("vm:{name}",),
    example="maglica vm reset web1.example.jp --yes",
)
class VmReset(Action):
    """Press the reset button of a VM: what its guest has not written is lost."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")


@action(
    where=Where.OWNER,
    changes=True,
    destructive=True,
    locks=("vm:{name}",),
    example="maglica vm nmi web1.example.jp --yes",
)
class VmNmi(Action):
    """Send a non-maskable interrupt to a VM: many a kernel writes a crash dump then, or panics."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
