"""Starting, stopping and restarting VMs."""

from __future__ import annotations

from maglica import kinds
from maglica.declare import Action, Where, action, arg


@action(
    where=Where.OWNER,
    changes=True,
    whole_fleet=True,
    locks=("vm:{name}",),
    limit=120,
    example="maglica vm start web1.example.jp",
)
class VmStart(Action):
    """Start a VM."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    wait: str | None = arg(
        kinds.CONDITION, "done only when the guest is that far: it runs, has an address, answers", default=None
    )
    wait_timeout: float = arg(kinds.duration(1), "how long the guest may take for it, with --wait=…", default=300.0)
    ignore_missing: bool = arg(kinds.BOOL, "go on although a host does not answer", default=False)
    ignore_changed_base: bool = arg(
        kinds.BOOL,
        "start a linked clone although what it rests on has changed: its disks may be damaged",
        default=False,
    )
    discard: bool = arg(
        kinds.BOOL, "forget the memory that was saved of it, and boot: as after a power failure", default=False
    )


@action(
    where=Where.OWNER,
    changes=True,
    locks=("vm:{name}",),
    limit=3600,
    example="maglica vm stop web1.example.jp --timeout=2m",
)
class VmStop(Action):
    """Shut a VM down gracefully and wait until it is off."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    timeout: float = arg(kinds.DURATION, "how long the guest may take", default=60.0)
    force: bool = arg(kinds.BOOL, "pull the plug when it did not obey in time", default=False)


@action(
    where=Where.OWNER,
    changes=True,
    whole_fleet=True,
    locks=("vm:{name}",),
    limit=3600,
    example="maglica vm restart web1.example.jp",
)
class VmRestart(Action):
    """Shut a VM down gracefully and start it again."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    timeout: float = arg(kinds.DURATION, "how long the guest may take to shut down", default=60.0)
    force: bool = arg(kinds.BOOL, "pull the plug when it did not obey in time", default=False)
    wait: str | None = arg(
        kinds.CONDITION, "done only when the guest is that far: it runs, has an address, answers", default=None
    )
    wait_timeout: float = arg(kinds.duration(1), "how long the guest may take for it, with --wait=…", default=300.0)
    ignore_missing: bool = arg(kinds.BOOL, "go on although a host does not answer", default=False)
    ignore_changed_base: bool = arg(
        kinds.BOOL,
        "start a linked clone although what it rests on has changed: its disks may be damaged",
        default=False,
    )
    redefine: bool = arg(
        kinds.BOOL, "tell which changes of its definition waited for this; they are picked up in any case",
        default=False,
    )  # fmt: skip


@action(
    where=Where.OWNER,
    changes=True,
    destructive=True,
    locks=("vm:{name}",),
    example="maglica vm destroy web1.example.jp",
)
class VmDestroy(Action):
    """Pull the plug of a VM. Its disks stay."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")


@action(where=Where.OWNER, changes=True, locks=("vm:{name}",), example="maglica vm autostart web1.example.jp")
class VmAutostart(Action):
    """Have a VM started together with its host, or no longer."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    off: bool = arg(kinds.BOOL, "leave it off from now on", default=False)
