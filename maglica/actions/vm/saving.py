"""Keeping what VMs have in memory: while they are off, or to look into it."""

from __future__ import annotations

from maglica import kinds
from maglica.declare import Action, Where, action, arg


@action(
    where=Where.OWNER,
    changes=True,
    slot="disk",
    locks=("vm:{name}",),
    limit=2 * 3600,
    example="maglica vm save web1.example.jp --pool=fast",
)
class VmSave(Action):
    """Write the memory of a VM to a file in a pool of its host, and switch it off; `vm restore` lets it go on."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    pool: str | None = arg(kinds.NAME, "the storage pool for the file; the one with most room by default", default=None)


@action(
    where=Where.OWNER,
    changes=True,
    whole_fleet=True,
    slot="disk",
    locks=("vm:{name}",),
    limit=2 * 3600,
    example="maglica vm restore web1.example.jp",
)
class VmRestore(Action):
    """Let a VM go on where `vm save` left it, and delete the file; refused when its disks were written since."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    paused: bool = arg(kinds.BOOL, "hold it still when it is there", default=False)
    ignore_missing: bool = arg(kinds.BOOL, "go on although a host does not answer", default=False)


@action(
    where=Where.OWNER,
    changes=True,
    slot="disk",
    locks=("vm:{name}",),
    limit=2 * 3600,
    example="maglica vm managedsave web1.example.jp",
)
class VmManagedsave(Action):
    """Switch a VM off so that its next start lets it go on where it was; libvirt keeps its memory."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    discard: bool = arg(kinds.BOOL, "forget what is kept instead: its next start boots it", default=False)


@action(
    where=Where.OWNER,
    changes=True,
    slot="disk",
    locks=("vm:{name}",),
    limit=2 * 3600,
    example="maglica vm dump web1.example.jp --memory-only",
)
class VmDump(Action):
    """Write a core dump of a VM to a file in a pool of its host, for crash(8) or gdb; it stands still meanwhile."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    memory_only: bool = arg(
        kinds.BOOL, "an ELF file of its memory and registers, without the state of its devices", default=False
    )
    live: bool = arg(kinds.BOOL, "let it run meanwhile; what is written may not fit together", default=False)
    pool: str | None = arg(kinds.NAME, "the storage pool for the file; the one with most room by default", default=None)
