"""What is plugged into a VM: disks, CD-ROMs, any other device, and what it boots from."""

from __future__ import annotations

from maglica import kinds
from maglica.declare import ADMIN, Action, Where, action, arg
from maglica.errors import Refused

WHERE_HELP = "change what runs, its definition, or both"
BOOT = kinds.list_of(kinds.choice("hd", "cdrom", "network"), at_most=3)


@action(
    where=Where.OWNER,
    changes=True,
    slot="disk",
    locks=("vm:{name}",),
    limit=600,
    undone_by="vm detach-disk",
    undone_exactly=("target", "path"),
    example="maglica vm attach-disk web1.example.jp --size=20G",
)
class VmAttachDisk(Action):
    """Give a VM another disk: a new, empty one, or one that lies in a storage pool of its host."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    size: int | None = arg(kinds.SIZE, "size of a new disk", default=None)
    source: str | None = arg(kinds.VOLUME, "an existing disk: the name of a volume, or its path", default=None)
    pool: str | None = arg(
        kinds.NAME, "the storage pool; for a new disk the one with most room by default", default=None
    )
    format: str | None = arg(
        kinds.choice("qcow2", "raw"), "format of the disk; qcow2 for a new one, by its name otherwise", default=None
    )
    bus: str | None = arg(
        kinds.choice("virtio", "scsi", "sata", "usb"), "what it is plugged into; as the first disk by default",
        default=None,
    )  # fmt: skip
    target: str | None = arg(kinds.TARGET, "its name, such as vdb; the next free one by default", default=None)
    cache: str | None = arg(
        kinds.choice("default", "none", "writethrough", "writeback", "directsync", "unsafe"),
        "how the host caches it", default=None,
    )  # fmt: skip
    serial: str | None = arg(kinds.TAG, "serial number that the guest sees", default=None)
    apply: str = arg(kinds.APPLY, WHERE_HELP, default="both")

    def check(self) -> None:
        if (self.size is None) == (self.source is None):
            raise Refused(
                "wrong_input", "vm attach-disk: a new disk has a --size, an existing one a --source", "say one of them"
            )


@action(
    where=Where.OWNER,
    changes=True,
    destructive=True,
    locks=("vm:{name}",),
    limit=600,
    example="maglica vm detach-disk web1.example.jp --target=vdb --yes",
)
class VmDetachDisk(Action):
    """Take a disk away from a VM, and wait until its guest has let go of it. The disk itself stays, or is removed."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    target: str = arg(kinds.TARGET, "which disk, such as vdb")
    path: str | None = arg(kinds.PATH, "only if it is the very one that lies there", default=None)
    remove: bool = arg(kinds.BOOL, "delete the disk when it is off the VM", default=False)
    timeout: float = arg(kinds.duration(1), "how long the guest may take to let go", default=60.0)
    apply: str = arg(kinds.APPLY, WHERE_HELP, default="both")

    def check(self) -> None:
        if self.remove and self.apply != "both":
            raise Refused(
                "wrong_input", f"vm detach-disk: --remove and --apply={self.apply}: the disk would be missed there",
                "leave out one or the other",
            )  # fmt: skip


@action(
    where=Where.OWNER,
    changes=True,
    locks=("vm:{name}",),
    undone_by="vm eject",
    undone_exactly=("target", "path"),
    example="maglica vm attach-iso web1.example.jp --iso=debian-12.iso",
)
class VmAttachIso(Action):
    """Put an ISO file into a VM's CD-ROM drive; one that is off gets a drive when it has none."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    iso: str = arg(kinds.VOLUME, "the name of a volume in a storage pool of its host, or its path")
    target: str | None = arg(kinds.TARGET, "which drive; an empty one by default", default=None)
    force: bool = arg(kinds.BOOL, "even if the guest has locked the drive", default=False)
    apply: str = arg(kinds.APPLY, WHERE_HELP, default="both")


@action(
    where=Where.OWNER,
    changes=True,
    locks=("vm:{name}",),
    example="maglica vm eject web1.example.jp",
)
class VmEject(Action):
    """Take the medium out of a VM's CD-ROM drive."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    target: str | None = arg(kinds.TARGET, "which drive; all of them by default", default=None)
    path: str | None = arg(kinds.PATH, "only the medium that lies there", default=None)
    force: bool = arg(kinds.BOOL, "even if the guest has locked the drive", default=False)
    apply: str = arg(kinds.APPLY, WHERE_HELP, default="both")


@action(
    where=Where.OWNER,
    changes=True,
    locks=("vm:{name}",),
    example="maglica vm set-boot-device web1.example.jp --dev=cdrom,hd",
)
class VmSetBootDevice(Action):
    """Say what a VM boots from, in which order. It matters from its next start on."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    dev: list[str] = arg(BOOT, "hd, cdrom, network, or several of them in order")

    def check(self) -> None:
        if not self.dev or len(set(self.dev)) < len(self.dev):
            raise Refused("wrong_input", "vm set-boot-device: --dev names each device once", "such as --dev=cdrom,hd")


@action(
    where=Where.OWNER,
    changes=True,
    role=ADMIN,
    locks=("vm:{name}",),
    limit=120,
    example="maglica vm attach-device web1.example.jp --file='<watchdog model=\"i6300esb\"/>'",
)
class VmAttachDevice(Action):
    """Plug in a device that is described in libvirt's XML."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    file: str = arg(kinds.DEVICE_XML, "file with one element of libvirt's <devices>, or the element", secret=True)
    apply: str = arg(kinds.APPLY, WHERE_HELP, default="both")


@action(
    where=Where.OWNER,
    changes=True,
    role=ADMIN,
    destructive=True,
    locks=("vm:{name}",),
    limit=600,
    example="maglica vm detach-device web1.example.jp --file='<watchdog model=\"i6300esb\"/>' --yes",
)
class VmDetachDevice(Action):
    """Unplug the device that libvirt's XML describes, and wait until the guest has let go of it."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    file: str = arg(kinds.DEVICE_XML, "file with one element of libvirt's <devices>, or the element", secret=True)
    timeout: float = arg(kinds.duration(1), "how long the guest may take to let go", default=60.0)
    apply: str = arg(kinds.APPLY, WHERE_HELP, default="both")


@action(
    where=Where.OWNER,
    changes=True,
    role=ADMIN,
    locks=("vm:{name}",),
    limit=120,
    example="maglica vm update-device web1.example.jp --file='<watchdog model=\"i6300esb\"/>'",
)
class VmUpdateDevice(Action):
    """Change a device to what libvirt's XML describes, as far as libvirt can change that kind of device."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    file: str = arg(kinds.DEVICE_XML, "file with one element of libvirt's <devices>, or the element", secret=True)
    force: bool = arg(kinds.BOOL, "even if the guest has locked it", default=False)
    apply: str = arg(kinds.APPLY, WHERE_HELP, default="both")
