"""What a VM may take of its host: limits and shares of memory, disks, networks and processors, and where it runs."""

from __future__ import annotations

from maglica import kinds
from maglica.declare import Action, Where, action, arg
from maglica.errors import Refused

KINDS = ("memtune", "numatune", "blkiotune", "blkdeviotune", "iftune", "schedinfo")
OF_A_DEVICE = {"blkdeviotune": "a disk such as vda", "iftune": "the MAC address or the name of a network card"}

KIND = kinds.choice(*KINDS)
_KIND = "memory, NUMA, all disks, one disk, one network card, or processor time"
_APPLY = "change what runs, the definition that takes effect at the next start, or both"


def _check_device(name: str, kind: str, device: str | None) -> None:
    if kind in OF_A_DEVICE and device is None:
        told = f"{name}: --device is missing: --kind={kind} is about one device"
        raise Refused("wrong_input", told, f"expected {OF_A_DEVICE[kind]}")


@action(
    where=Where.OWNER,
    changes=True,
    locks=("vm:{name}",),
    example="maglica vm tune web1.example.jp --kind=blkdeviotune --device=vda --set=total_iops_sec=500",
)
class VmTune(Action):
    """Set what a VM may take of its host; `vm tuning` shows what can be set, and what is."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    kind: str = arg(KIND, _KIND)
    set: list[str] = arg(kinds.PARAMETERS, "what to set")
    device: str | None = arg(kinds.TEXT, "of which disk or network card", default=None)
    apply: str = arg(kinds.APPLY, _APPLY, default="both")

    def check(self) -> None:
        _check_device(self.NAME, self.kind, self.device)


@action(
    where=Where.OWNER,
    columns=("parameter", "live", "config"),
    wide=("unit", "live_value", "config_value"),
    example="maglica vm tuning web1.example.jp --kind=memtune",
)
class VmTuning(Action):
    """Show what a VM may take of its host, as it runs and at its next start."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    kind: str = arg(KIND, _KIND)
    device: str | None = arg(kinds.TEXT, "of which disk or network card", default=None)

    def check(self) -> None:
        _check_device(self.NAME, self.kind, self.device)


@action(
    where=Where.OWNER,
    changes=True,
    locks=("vm:{name}",),
    example="maglica vm set-io-weight web1.example.jp --weight=250",
)
class VmSetIoWeight(Action):
    """Set a VM's share of the host's disks against other VMs: 500 is what most have."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    weight: int = arg(kinds.WEIGHT, "its weight")
    apply: str = arg(kinds.APPLY, _APPLY, default="both")


@action(
    where=Where.OWNER,
    changes=True,
    locks=("vm:{name}",),
    example="maglica vm pin web1.example.jp --cpus=2-3",
)
class VmPin(Action):
    """Let the virtual CPUs of a VM, or what emulates its devices, run on some of the host's CPUs only."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    cpus: str = arg(kinds.CPUS, "CPUs of the host; all: wherever there is time")
    vcpus: str = arg(kinds.CPUS, "which of its virtual CPUs", default="all")
    emulator: bool = arg(kinds.BOOL, "QEMU's own threads instead of the virtual CPUs", default=False)
    apply: str = arg(kinds.APPLY, _APPLY, default="both")


@action(
    where=Where.OWNER,
    columns=("thread", "live", "config"),
    example="maglica vm pinning web1.example.jp",
)
class VmPinning(Action):
    """Show on which of the host's CPUs a VM may run."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
