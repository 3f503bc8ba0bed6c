"""Removing VMs."""

from __future__ import annotations

from maglica import kinds
from maglica.declare import Action, Where, action, arg


@action(
    where=Where.OWNER,
    changes=True,
    destructive=True,
    locks=("vm:{name}",),
    limit=600,
    aliases=("delete",),
    example="maglica vm remove web1.example.jp --yes",
)
class VmRemove(Action):
    """Delete a VM that is shut off, with its disks; refused while another VM uses them."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    keep_disks: bool = arg(kinds.BOOL, "delete the definition only", default=False)
    force: bool = arg(kinds.BOOL, "pull the plug first when it runs", default=False)
    uuid: str | None = arg(kinds.UUID, "only if it is the very one with this UUID", default=None)
    made_by: str | None = arg(kinds.JOB, "only if it is the very one that this job made", default=None)
