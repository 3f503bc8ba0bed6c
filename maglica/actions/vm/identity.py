"""What a VM is called, how it is reached, and what people say of it."""

from __future__ import annotations

from maglica import kinds
from maglica.declare import Action, Where, action, arg


@action(
    where=Where.OWNER,
    changes=True,
    locks=("vm:{name}",),
    example="maglica vm set-state web1.example.jp --state=maintenance",
)
class VmSetState(Action):
    """Say of a VM that it is online, in maintenance, or retired; one that is retired is not started."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    state: str = arg(kinds.choice("online", "maintenance", "retired"), "what to say of it")


@action(where=Where.OWNER, changes=True, locks=("vm:{name}",), example="maglica vm protect web1.example.jp")
class VmProtect(Action):
    """Protect a VM: whatever could destroy something of it is refused."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")


@action(where=Where.OWNER, changes=True, locks=("vm:{name}",), example="maglica vm unprotect web1.example.jp")
class VmUnprotect(Action):
    """Protect a VM no more."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")


@action(where=Where.OWNER, changes=True, locks=("vm:{name}",), example="maglica vm tag web1.example.jp --tags=ci,web")
class VmTag(Action):
    """Keep words with a VM, beside those that it has."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    tags: list[str] = arg(kinds.list_of(kinds.TAG, at_most=16), "the words")


@action(where=Where.OWNER, changes=True, locks=("vm:{name}",), example="maglica vm untag web1.example.jp --tags=ci")
class VmUntag(Action):
    """Take words from a VM."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    tags: list[str] | None = arg(
        kinds.list_of(kinds.TAG, at_most=16), "the words; all of them by default", default=None
    )


@action(
    where=Where.OWNER,
    changes=True,
    locks=("vm:{name}",),
    example="maglica vm describe web1.example.jp --text='shop, with its database'",
)
class VmDescribe(Action):
    """Keep a line of text with a VM."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    text: str = arg(kinds.TEXT, "the line; an empty one takes it away")


@action(where=Where.OWNER, changes=True, locks=("vm:{name}",), example="maglica vm owner web1.example.jp --owner=alice")
class VmOwner(Action):
    """Say whose a VM is."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    owner: str = arg(kinds.TEXT, "whose it is; empty: nobody's")
