"""What a VM is called, how it is reached, and what people say of it."""

from __future__ import annotations

from maglica import kinds
from maglica.actions.vm.clone import check_gateway
from maglica.declare import Action, Where, action, arg
from maglica.errors import Refused


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


OFFLINE = "stop a VM that runs, and start it again afterwards"


@action(
    where=Where.OWNER,
    changes=True,
    whole_fleet=True,
    slot="guest",
    limit=3600,
    locks=("vm:{name}", "vm:{to}"),
    gives="to",
    example="maglica vm rename web1.example.jp --to=web2.example.jp --offline",
)
class VmRename(Action):
    """Give a VM another name: its disks, its console's log and its host name inside follow."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    to: str = arg(kinds.HOSTNAME, "its new name, and host name inside it; free on all hosts")
    offline: bool = arg(kinds.BOOL, OFFLINE, default=False)
    customize: str = arg(
        kinds.choice("guestfs", "none"), "change the host name inside, or leave the disks as they are",
        default="guestfs",
    )  # fmt: skip
    timeout: float = arg(kinds.DURATION, "how long the guest may take to shut down, with --offline", default=60.0)
    force: bool = arg(kinds.BOOL, "pull the plug when it did not obey in time", default=False)
    ignore_missing: bool = arg(kinds.BOOL, "go on although a host does not answer", default=False)

    def asks_whole_fleet(self) -> bool:
        return not self.ignore_missing  # the name may be taken on any host, whether anything is started or not


@action(
    where=Where.OWNER,
    changes=True,
    whole_fleet=True,
    slot="guest",
    limit=3600,
    locks=("vm:{name}",),
    example="maglica vm change-address web1.example.jp --address=192.0.2.20/24 --gateway=192.0.2.1 --offline",
)
class VmChangeAddress(Action):
    """Give a network card of a VM another static address, or have it ask by DHCP, in the files of the guest itself."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    address: str = arg(kinds.ADDRESSING, "the address of its network card, or dhcp")
    mac: str | None = arg(kinds.MAC, "which card, of several; the settings of the others stay", default=None)
    interface: str | None = arg(
        kinds.IFNAME, "which card, as the guest calls it, where its files do not name it by its MAC address",
        default=None,
    )  # fmt: skip
    gateway: str | None = arg(kinds.IP, "default gateway; as it was by default, where it fits", default=None)
    dns: list[str] | None = arg(kinds.IPS, "name servers; as they were by default", default=None)
    offline: bool = arg(kinds.BOOL, OFFLINE, default=False)
    timeout: float = arg(kinds.DURATION, "how long the guest may take to shut down, with --offline", default=60.0)
    force: bool = arg(kinds.BOOL, "pull the plug when it did not obey in time", default=False)
    ignore_missing: bool = arg(kinds.BOOL, "go on although a host does not answer", default=False)

    def check(self) -> None:
        if self.address == kinds.DHCP and (self.gateway is not None or self.dns is not None):
            told = "vm change-address: --gateway and --dns belong to a static address"
            raise Refused("wrong_input", told, "the DHCP server tells them; leave them out")
        if self.gateway is not None:
            check_gateway("vm change-address", self.address, self.gateway, "--address")
