"""Images: inactive domains that VMs are cloned from."""

from __future__ import annotations

from maglica import kinds
from maglica.declare import ADMIN, OPERATOR, Action, Where, action, arg
from maglica.errors import Refused


def default_name(source: str, day: str, *, upgrade: bool) -> str:
    """`web1` is sealed as `web1.original`; `el9:2026-11-20` is upgraded to the version of that day of `el9`."""
    return f"{source.partition(':')[0]}:{day}" if upgrade else f"{source}.original"


@action(
    where=Where.EVERY,
    columns=("name", "host", "labels"),
    wide=("vcpus", "memory_bytes", "capacity_bytes", "disks", "original", "uuid"),
    example="maglica image list -o wide",
)
class ImageList(Action):
    """List the original images: inactive domains whose name ends in .original, or that are marked as images."""

    all: bool = arg(kinds.BOOL, "every inactive domain, whatever its name", default=False)


@action(
    where=Where.PLACED,
    changes=True,
    slot="disk",
    limit=6 * 3600,
    locks=("image:{name}",),
    example="maglica image import https://images.example.jp/el9.qcow2 --name=el9:2026-11-20",
)
class ImageImport(Action):
    """Make an image of a disk from a URL, or from a file in the import folder of a host."""

    source: str = arg(kinds.SOURCE, "the URL, or the path on the host", subject=True)
    name: str = arg(kinds.IMAGE, "what the image is to be called; versions are NAME:VERSION")
    on: str | None = arg(
        kinds.HOST, "the host to put it on; the one with most room by default", default=None, values_of="host"
    )
    checksum: str | None = arg(kinds.SHA256, "what the file's SHA-256 must be", default=None)
    format: str | None = arg(
        kinds.choice("qcow2", "raw", "vmdk", "vhdx"), "what the file is; found out by default", default=None
    )
    pool: str | None = arg(kinds.NAME, "the storage pool; the one with most room by default", default=None)
    vcpus: int | None = arg(kinds.VCPUS, "virtual CPUs of its clones", default=None)
    memory: int | None = arg(kinds.MEMORY, "memory of its clones; 1G by default", default=None)
    network: str = arg(kinds.NAME, "libvirt network or bridge of its card; none = no card", default="default")
    efi: bool = arg(kinds.BOOL, "boot by UEFI firmware", default=False)
    os: str | None = arg(kinds.NAME, "the system that is in it, such as debian12; only noted", default=None)
    ignore_missing: bool = arg(kinds.BOOL, "go on although a host does not answer", default=False)

    def check(self) -> None:
        if self.source.startswith("/") and self.on is None:
            raise Refused(
                "wrong_input", f"image import: {self.source} is a path on a host", "say which one with --on=HOST"
            )


@action(
    where=Where.PLACED,
    changes=True,
    slot="move",
    limit=6 * 3600,
    locks=("image:{name}@{dest}",),
    gives="as_",
    example="maglica image copy el9:2026-11-20 --dest=host2.example.jp",
)
class ImageCopy(Action):
    """Copy an image to another host, encrypted: its definition and its disks."""

    name: str = arg(kinds.IMAGE, "the image", subject=True, values_of="image")
    dest: str = arg(kinds.HOST, "the host that gets it; all = every one that lacks it", values_of="host")
    as_: str | None = arg(kinds.IMAGE, "what it is called there; the same by default", default=None)
    from_: str | None = arg(
        kinds.HOST, "the host to take it from; the least busy one by default", default=None, values_of="host"
    )
    ignore_missing: bool = arg(kinds.BOOL, "go on although a host does not answer", default=False)


@action(
    where=Where.OWNER,
    changes=True,
    slot="guest",
    limit=2 * 3600,
    locks=("vm:{name}", "vm:{as_}", "image:{as_}"),
    gives="as_",
    example="maglica image seal web1.example.jp --as=web:2026-11-20",
)
class ImageSeal(Action):
    """Make an image of a copy of a VM that is shut off: what was the machine's own is taken away."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    as_: str | None = arg(kinds.IMAGE, "what the image is called; the VM's name and .original by default", default=None)
    ignore_missing: bool = arg(kinds.BOOL, "go on although a host does not answer", default=False)


@action(
    where=Where.OWNER,
    changes=True,
    slot="guest",
    limit=6 * 3600,
    locks=("image:{name}", "vm:{as_}", "image:{as_}"),
    gives="as_",
    example="maglica image upgrade el9:2026-11-20 --as=el9:2026-11-27",
)
class ImageUpgrade(Action):
    """Make a new version of an image with all its packages upgraded; the old version stays."""

    name: str = arg(kinds.IMAGE_AT, "the image", subject=True, values_of="image")
    as_: str | None = arg(kinds.IMAGE, "what the new version is called; NAME:TODAY by default", default=None)
    ignore_missing: bool = arg(kinds.BOOL, "go on although a host does not answer", default=False)


@action(
    where=Where.PLACED,
    changes=True,
    slot="disk",
    limit=6 * 3600,
    locks=("image:{name}",),
    example="maglica image export el9:stable --format=vmdk",
)
class ImageExport(Action):
    """Write the disks of an image as files into the export folder of a host that has it."""

    name: str = arg(kinds.IMAGE, "the image, or NAME:LABEL", subject=True, values_of="image")
    format: str = arg(kinds.choice("qcow2", "raw", "vmdk"), "what the files are to be", default="qcow2")
    compress: bool = arg(kinds.BOOL, "make them small", default=False)
    on: str | None = arg(
        kinds.HOST, "the host that writes them; the least busy one that has it by default", default=None,
        values_of="host",
    )  # fmt: skip

    def check(self) -> None:
        if self.compress and self.format == "raw":
            raise Refused("wrong_input", "image export: raw cannot be compressed", "use --format=qcow2 or vmdk")


@action(where=Where.NAMED, role=ADMIN, hidden=True)
class ImageServe(Action):
    """Serve a disk of an image to the host that has a job to copy it; without a disk, tell what there is."""

    name: str = arg(kinds.IMAGE, "the image", subject=True)
    job: str = arg(kinds.JOB, "the job of the other host")
    disk: str | None = arg(kinds.NAME, "the target of the disk, or nvram", default=None)
    over: bool = arg(kinds.BOOL, "the job needs nothing more", default=False)


@action(where=Where.EVERY, example="maglica image info el9:stable")
class ImageInfo(Action):
    """Show all that is known of an image: its hosts, whether its copies are the same, its disks as QEMU sees them."""

    name: str = arg(kinds.IMAGE, "the image, or NAME:LABEL", subject=True, values_of="image")


@action(
    where=Where.EVERY,
    columns=("name", "host", "state"),
    wide=("path", "base"),
    example="maglica image dependents el9.original",
)
class ImageDependents(Action):
    """List what rests on the disks of an image: linked clones, and overlays that no VM has."""

    name: str = arg(kinds.IMAGE, "the image", subject=True, values_of="image")


@action(
    where=Where.OWNER,
    changes=True,
    destructive=True,
    locks=("image:{name}", "vm:{name}"),
    limit=600,
    aliases=("delete",),
    example="maglica image remove el9:2026-11-20@host1.example.jp --yes",
)
class ImageRemove(Action):
    """Delete an image from a host, with its disks; refused while anything rests on them."""

    name: str = arg(kinds.IMAGE_AT, "the image", subject=True, values_of="image")
    keep_disks: bool = arg(kinds.BOOL, "delete the definition only", default=False)


@action(where=Where.CLIENT_WORKER, role=OPERATOR, example="maglica image label el9:2026-11-20 --as=testing")
class ImageLabel(Action):
    """Let a label mean an image from now on: NAME:LABEL can be used wherever an image is named."""

    name: str = arg(kinds.IMAGE, "the image", subject=True, values_of="image")
    as_: str = arg(kinds.LABEL, "the label, such as stable")
    remove: bool = arg(kinds.BOOL, "take the label away instead", default=False)


@action(where=Where.CLIENT_WORKER, role=OPERATOR, example="maglica image promote el9:testing")
class ImagePromote(Action):
    """Let a label, stable by default, mean what another label means, or a version."""

    name: str = arg(kinds.IMAGE, "the image, or NAME:LABEL", subject=True, values_of="image")
    to: str = arg(kinds.LABEL, "the label that shall mean it", default="stable")


@action(where=Where.CLIENT_WORKER, role=OPERATOR, example="maglica image rollback el9:stable")
class ImageRollback(Action):
    """Let a label mean again what it meant before."""

    name: str = arg(kinds.IMAGE, "NAME:LABEL", subject=True, values_of="image")
