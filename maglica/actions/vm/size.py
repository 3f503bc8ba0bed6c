"""How large a VM is: virtual CPUs, memory, disks."""

from __future__ import annotations

from maglica import kinds
from maglica.declare import Action, Where, action, arg
from maglica.errors import Refused

_OFFLINE = "shut it down, change it, and start it again"


def _refuse_both(name: str, offline: bool, apply: str) -> None:
    if offline and apply != "both":
        raise Refused(
            "wrong_input",
            f"{name}: --offline changes what runs and the definition, --apply={apply} only one of them",
            "leave out one or the other",
        )


@action(
    where=Where.OWNER,
    changes=True,
    whole_fleet=True,
    locks=("vm:{name}",),
    limit=3600,
    example="maglica vm set-vcpus web1.example.jp --vcpus=+1",
)
class VmSetVcpus(Action):
    """Give a VM another number of virtual CPUs, while it runs where that is possible."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    vcpus: int | str = arg(kinds.COUNT_OR_CHANGE, "how many, or how many more or fewer")
    max: int | None = arg(
        kinds.VCPUS, "how many it can be given while it runs, from its next start on; as it is by default", default=None
    )
    offline: bool = arg(kinds.BOOL, _OFFLINE, default=False)
    apply: str = arg(
        kinds.APPLY, "change what runs, the definition that takes effect at the next start, or both", default="both"
    )
    timeout: float = arg(kinds.DURATION, "with --offline: how long the guest may take to shut down", default=60.0)
    force: bool = arg(kinds.BOOL, "with --offline: pull the plug when it did not obey in time", default=False)
    ignore_missing: bool = arg(kinds.BOOL, "with --offline: go on although a host does not answer", default=False)

    def check(self) -> None:
        _refuse_both(self.NAME, self.offline, self.apply)
        if self.max is not None and self.apply == "live":
            told = f"{self.NAME}: --max is about the definition, --apply=live leaves it alone"
            raise Refused("wrong_input", told, "leave out one or the other")
        if self.max is not None and isinstance(self.vcpus, int) and self.vcpus > self.max:
            told = f"{self.NAME}: --vcpus={self.vcpus} is more than --max={self.max}"
            raise Refused("wrong_input", told, f"expected at most {self.max}")


@action(
    where=Where.OWNER,
    changes=True,
    whole_fleet=True,
    locks=("vm:{name}",),
    limit=3600,
    example="maglica vm set-memory web1.example.jp --size=+2G",
)
class VmSetMemory(Action):
    """Give a VM more or less memory, while it runs where that is possible."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    size: int | str = arg(kinds.SIZE_OR_CHANGE, "how much, or how much more or less")
    offline: bool = arg(kinds.BOOL, _OFFLINE, default=False)
    shrink: bool = arg(
        kinds.BOOL, "take memory from a guest that runs, which kills its processes where it has none to spare",
        default=False,
    )  # fmt: skip
    apply: str = arg(
        kinds.APPLY, "change what runs, the definition that takes effect at the next start, or both", default="both"
    )
    timeout: float = arg(kinds.DURATION, "with --offline: how long the guest may take to shut down", default=60.0)
    force: bool = arg(kinds.BOOL, "with --offline: pull the plug when it did not obey in time", default=False)
    ignore_missing: bool = arg(kinds.BOOL, "with --offline: go on although a host does not answer", default=False)

    def check(self) -> None:
        _refuse_both(self.NAME, self.offline, self.apply)


@action(
    where=Where.OWNER,
    changes=True,
    whole_fleet=True,
    locks=("vm:{name}",),
    limit=3600,
    example="maglica vm set-max-memory web1.example.jp --size=8G --slots=16",
)
class VmSetMaxMemory(Action):
    """Set how much memory a VM can be given while it runs; it takes effect at its next start."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    size: int | str = arg(kinds.SIZE_OR_CHANGE, "the most, or how much more or less than now")
    slots: int | None = arg(
        kinds.integer(0, 255),
        "so many memory modules can be plugged in up to it; 0: none, the balloon alone; as it is by default",
        default=None,
    )
    offline: bool = arg(kinds.BOOL, _OFFLINE, default=False)
    timeout: float = arg(kinds.DURATION, "with --offline: how long the guest may take to shut down", default=60.0)
    force: bool = arg(kinds.BOOL, "with --offline: pull the plug when it did not obey in time", default=False)
    ignore_missing: bool = arg(kinds.BOOL, "with --offline: go on although a host does not answer", default=False)


@action(
    where=Where.OWNER,
    changes=True,
    slot="disk",
    locks=("vm:{name}",),
    limit=2 * 3600,
    example="maglica vm set-disk web1.example.jp --size=+10G",
)
class VmSetDisk(Action):
    """Make a disk of a VM larger, with the partition and the file system at its end; it may run meanwhile."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    size: int | str = arg(kinds.SIZE_OR_CHANGE, "how large, or how much larger")
    target: str | None = arg(kinds.NAME, "the disk, such as vdb; the first one by default", default=None)
    grow: bool = arg(kinds.BOOL, "its last partition and file system as well", default=True)
