"""Screens, keyboards and clocks of VMs."""

from __future__ import annotations

from maglica import kinds
from maglica.declare import Action, Where, action, arg


@action(where=Where.OWNER, example="maglica vm screenshot web1.example.jp --file=web1.png")
class VmScreenshot(Action):
    """Write what a VM shows on its screen to a PNG file of this terminal's machine."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    file: str | None = arg(kinds.TEXT, "where to write it, - for standard output; NAME.png by default", default=None)
    screen: int = arg(kinds.integer(0, 15), "which of its screens", default=0)


@action(
    where=Where.OWNER,
    changes=True,
    locks=("vm:{name}",),
    example="maglica vm send-key web1.example.jp --keys=ctrl-alt-delete",
)
class VmSendKey(Action):
    """Press keys of a VM's keyboard, one stroke after the other."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    keys: list[str] = arg(kinds.KEYS, "the strokes; keys of one stroke with dashes between them")
    hold: float = arg(kinds.duration(0, 10), "how long each is held down", default=0.1)


@action(where=Where.OWNER, example="maglica vm time web1.example.jp")
class VmTime(Action):
    """Show what time it is in a guest, as its agent says, and how far that is from its host's."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")


@action(where=Where.OWNER, changes=True, locks=("vm:{name}",), example="maglica vm set-time web1.example.jp")
class VmSetTime(Action):
    """Set a guest's clock through its agent: to its host's time, or to another one."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    to: str = arg(kinds.MOMENT, "now, or a time such as 2026-11-20T08:30:00Z", default="now")
