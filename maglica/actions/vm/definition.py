"""Definitions of VMs: what libvirt has written down of them."""

from __future__ import annotations

from maglica import kinds
from maglica.declare import ADMIN, Action, Where, action, arg


@action(where=Where.OWNER, example="maglica vm conf web1.example.jp --stored --format=json")
class VmConf(Action):
    """Print a VM's definition as XML, or as a tree: of what runs, where it runs; passwords are masked."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    stored: bool = arg(kinds.BOOL, "what its next start will use, also while it runs", default=False)
    format: str = arg(
        kinds.choice("xml", "json", "dict"), "XML, or its tree as JSON or as Python writes it", default="xml"
    )
    secrets: bool = arg(kinds.BOOL, "with passwords; for administrators", default=False)

    def least_role(self) -> str:
        return ADMIN if self.__dict__["secrets"] else self.ROLE


@action(where=Where.OWNER, example="maglica vm diff web1.example.jp")
class VmDiff(Action):
    """Show what will be otherwise in a VM after its next start: what runs against its stored definition."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
