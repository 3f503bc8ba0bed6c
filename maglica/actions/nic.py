"""Network cards of VMs."""

from __future__ import annotations

from maglica import kinds
from maglica.declare import Action, Where, action, arg
from maglica.errors import Refused

WHERE_HELP = "change what runs, its definition, or both"


@action(
    where=Where.OWNER,
    columns=("mac", "source", "model", "link"),
    wide=("type", "device", "live", "config"),
    example="maglica nic list web1.example.jp",
)
class NicList(Action):
    """List the network cards of a VM, of what runs and of its definition."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")


@action(
    where=Where.OWNER,
    changes=True,
    locks=("vm:{name}",),
    undone_by="nic detach",
    undone_exactly=("mac",),
    example="maglica nic attach web1.example.jp --network=default",
)
class NicAttach(Action):
    """Give a VM another network card."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    network: str | None = arg(kinds.NAME, "libvirt network of its host to connect it to", default=None)
    bridge: str | None = arg(kinds.NAME, "bridge of its host to connect it to", default=None)
    model: str | None = arg(
        kinds.choice("virtio", "e1000", "e1000e", "rtl8139"), "what the guest sees; as its first card by default",
        default=None,
    )  # fmt: skip
    mac: str | None = arg(kinds.MAC, "its MAC address; random by default", default=None)
    link: str = arg(kinds.choice("up", "down"), "whether its cable is plugged in", default="up")
    apply: str = arg(kinds.APPLY, WHERE_HELP, default="both")

    def check(self) -> None:
        if (self.network is None) == (self.bridge is None):
            raise Refused("wrong_input", "nic attach: where to? a --network or a --bridge", "say one of them")


@action(
    where=Where.OWNER,
    changes=True,
    destructive=True,
    locks=("vm:{name}",),
    limit=600,
    example="maglica nic detach web1.example.jp --mac=52:54:00:12:34:56 --yes",
)
class NicDetach(Action):
    """Take a network card away from a VM, and wait until its guest has let go of it."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    mac: str = arg(kinds.MAC, "which card: its MAC address")
    timeout: float = arg(kinds.duration(1), "how long the guest may take to let go", default=60.0)
    apply: str = arg(kinds.APPLY, WHERE_HELP, default="both")


@action(
    where=Where.OWNER,
    changes=True,
    locks=("vm:{name}",),
    example="maglica nic link web1.example.jp --state=down",
)
class NicLink(Action):
    """Plug the cable of a network card in, or pull it."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    state: str = arg(kinds.choice("up", "down"), "up = plugged in")
    mac: str | None = arg(kinds.MAC, "which card, where there are several", default=None)
    apply: str = arg(kinds.APPLY, WHERE_HELP, default="both")
