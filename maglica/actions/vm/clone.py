"""Making VMs of images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from maglica import customizing, kinds
from maglica.declare import Action, Where, action, arg
from maglica.errors import Refused

# How the disks of a clone can be made; `auto`: the first of them that is possible, see host_worker/disk/modes.py.
MODES = ("reflink", "linked", "thin", "full")
AUTO = "auto"
# What helps where a mode cannot be had, whoever finds that out.
ANY_MODE_HINT = "--mode=auto takes what is possible"
THIN_POOL_HINT = "`lvextend` enlarges a thin pool and its metadata; or remove volumes from it, or take another --mode"

# What `vm clone` does inside the guest.
INSIDE = (
    "ip",
    "ssh_key",
    "root_password_hash",
    "customize_profile",
    "write",
    "upload",
    "run_at_first_boot",
    "user",
    "timezone",
)


def check_gateway(action: str, ip: str, gateway: str, option: str) -> None:
    """Refuse a gateway that is no neighbour of the address that `option` gives."""
    import ipaddress

    network = ipaddress.ip_interface(ip).network
    if ipaddress.ip_address(gateway) == ipaddress.ip_interface(ip).ip:
        raise Refused(
            "wrong_input", f"{action}: {gateway} is both {option} and --gateway", "the gateway is another machine"
        )
    if ipaddress.ip_address(gateway) not in network:
        raise Refused(
            "wrong_input", f"{action}: gateway {gateway} is not in {network}", "expected an address of that network"
        )


class Inside(Action):
    """What is done inside a new guest before it boots for the first time."""

    ip: str | None = arg(kinds.INTERFACE, "static address of the first network card, DHCP by default", default=None)
    gateway: str | None = arg(kinds.IP, "default gateway, with --ip", default=None)
    dns: list[str] | None = arg(kinds.IPS, "name servers, with --ip", default=None)
    ssh_key: str | None = arg(kinds.SSH_KEYS, "file with public keys that may log in as root", default=None)
    root_password_hash: str | None = arg(kinds.CRYPT, "root's password as a hash", default=None, secret=True)
    customize_profile: str | None = arg(
        kinds.NAME, "a profile of the client worker's settings; its default one by default, none for none", default=None
    )
    write: list[str] | None = arg(customizing.WRITE, "write a file in the guest", default=None)
    upload: list[dict[str, Any]] | None = arg(
        customizing.UPLOAD, "copy a file of this machine into the guest", default=None, secret=True
    )
    run_at_first_boot: list[str] | None = arg(
        customizing.COMMANDS, "run a command once, at the first boot", default=None
    )
    user: list[dict[str, Any]] | None = arg(customizing.USER, "a user of the guest", default=None, secret=True)
    timezone: str | None = arg(customizing.TIMEZONE, "time zone of the guest", default=None)
    profile: dict[str, Any] | None = arg(
        customizing.PROFILE, "the content of the profile", default=None, secret=True, internal=True
    )

    def check(self) -> None:
        if self.ip is None and (self.gateway or self.dns):
            raise Refused("wrong_input", f"{self.NAME}: --gateway and --dns belong to --ip", "add --ip=ADDRESS/PREFIX")
        if self.ip is not None and self.gateway is not None:
            check_gateway(self.NAME, self.ip, self.gateway, "--ip")

    def asked_inside(self) -> list[str]:
        """The options that ask for something inside the guest."""
        idle = [self.FIELDS[name].option for name in INSIDE if self.__dict__[name]]
        if self.customize_profile == "none":
            idle.remove("--customize-profile")
        return idle


@action(
    where=Where.PLACED,
    changes=True,
    whole_fleet=True,
    slot="disk",
    limit=2 * 3600,
    locks=("vm:{hostname}",),
    undone_by="vm remove",
    undone_exactly=("uuid",),
    example="maglica vm clone --image=el9.original --hostname=web1.example.jp",
)
class VmClone(Inside):
    """Clone an image into a new VM that answers to its own name."""

    image: str = arg(kinds.IMAGE, "the image to clone, NAME:VERSION or NAME:LABEL", values_of="image")
    hostname: str = arg(kinds.HOSTNAME, "name of the new VM, and host name inside it")
    on: str | None = arg(
        kinds.HOST, "the host to put it on; the best suited one by default", default=None, values_of="host"
    )
    start: bool = arg(kinds.BOOL, "boot it when it is ready", default=True)
    vcpus: int | None = arg(kinds.VCPUS, "virtual CPUs; as the image has by default", default=None)
    memory: int | None = arg(kinds.MEMORY, "memory; as the image has by default", default=None)
    ip: str | None = arg(
        kinds.INTERFACE,
        "static address of the first network card, DHCP by default; with --count 10.0.0.{n}/24 or a range of them",
        default=None,
    )
    mac: list[str] | None = arg(kinds.MACS, "MAC address of each network card; random by default", default=None)
    mode: str = arg(
        kinds.choice(AUTO, *MODES),
        "how the disks are made: sharing blocks, as overlays that depend on the image, as snapshots, as copies;"
        " auto = the cheapest that is possible",
        default=AUTO,
    )
    pool: str | None = arg(
        kinds.NAME, "the storage pool for the disks; the one with most room by default", default=None
    )
    customize: str = arg(
        kinds.choice("guestfs", "cloud-init", "none"),
        "give the guest an identity of its own, let its cloud-init do it, or leave its disks as they are",
        default="guestfs",
    )
    wait: str | None = arg(
        kinds.CONDITION, "done only when the guest is that far: it runs, has an address, answers", default=None
    )
    wait_timeout: float = arg(kinds.duration(1), "how long the guest may take for it, with --wait=…", default=300.0)
    on_timeout: str = arg(
        kinds.choice("keep", "remove"), "what becomes of a clone that did not come that far", default="keep"
    )
    format: str | None = arg(
        kinds.choice("vmdk"), "write the first disk as a file of this format instead of making a VM", default=None
    )
    disks: list[int] | None = arg(
        kinds.list_of(kinds.SIZE, at_most=16), "sizes of further, empty disks, such as 20G,100G", default=None
    )
    swap: int | None = arg(kinds.SIZE_OR_OFF, "a further disk of this size for the guest to swap to", default=None)
    networks: list[str] | None = arg(
        kinds.list_of(kinds.NAME, at_most=16), "the network of each network card; as the image has by default",
        default=None,
    )  # fmt: skip
    tags: list[str] | None = arg(kinds.list_of(kinds.TAG, at_most=16), "words that are kept with the VM", default=None)
    template: str | None = arg(
        kinds.NAME, "take what is not given here from this template", default=None, values_of="template"
    )
    fleet: str | None = arg(kinds.FLEET, "the fleet that it belongs to", default=None, values_of="fleet")
    copy_image: str | None = arg(
        kinds.choice("auto", "never"),
        "copy the image to a host with room when those that have it have none; [client] copy_image by default",
        default=None,
    )
    ignore_missing: bool = arg(kinds.BOOL, "go on although a host does not answer", default=False)

    @classmethod
    def undone_by(cls, values: Mapping[str, Any]) -> str:
        return "" if values.get("format") else cls.UNDONE_BY  # a file is nobody's VM

    def check(self) -> None:
        super().check()
        idle = self.asked_inside()
        if self.customize == "none" and idle:
            raise Refused(
                "wrong_input",
                f"vm clone: --customize=none leaves the disks alone: {', '.join(idle)} would do nothing",
                "leave out one or the other",
            )
        if self.customize == "cloud-init" and self.format:
            raise Refused(
                "wrong_input", "vm clone: a file of --format has no place for the seed of --customize=cloud-init",
                "use --customize=guestfs or none",
            )  # fmt: skip
        if self.mac is not None and len(set(self.mac)) < len(self.mac):
            raise Refused("wrong_input", "vm clone: --mac names an address twice", "every network card needs its own")
        if self.wait and not self.start:
            told = f"vm clone: --wait={self.wait} is about a VM that is started"
            raise Refused("wrong_input", told, "leave out one or the other")
        if self.image == self.hostname:
            raise Refused(
                "wrong_input",
                f"vm clone: image and new VM have the same name {self.image}",
                "choose another --hostname",
            )


@action(
    where=Where.OWNER,
    changes=True,
    slot="disk",
    locks=("vm:{name}",),
    limit=2 * 3600,
    example="maglica vm flatten web1.example.jp",
)
class VmFlatten(Action):
    """Make the disks of a linked clone its own, so that it depends on its image no more; it may run meanwhile."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    bandwidth: int | None = arg(
        kinds.SIZE, "bytes a second at most, for the sake of others; as fast as it goes by default", default=None
    )
