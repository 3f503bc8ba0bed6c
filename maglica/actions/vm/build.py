"""Building VMs: from an archive of a root file system, from an image, or bare; and building them anew."""

from __future__ import annotations

from maglica import customizing, kinds
from maglica.actions.vm.clone import Inside, VmClone
from maglica.declare import Where, action, arg
from maglica.errors import Refused

DISK = 10 << 30  # bytes of a disk when nobody says how large it shall be
MEMORY = 1 << 30  # bytes
NETWORK = "default"

# What an existing VM keeps when it is built anew.
KEPT = ("on", "mac", "network", "tags")


@action(
    where=Where.PLACED,
    changes=True,
    whole_fleet=True,
    slot="guest",
    limit=4 * 3600,
    locks=("vm:{name}",),
    example="maglica vm build web1.example.jp --archive=https://images.example.jp/base.tar.gz --disk=20G",
)
class VmBuild(Inside):
    """Build a VM from an archive of a root file system, from an image, or with an empty disk; or build it anew."""

    name: str = arg(kinds.HOSTNAME, "the VM, and host name inside it", subject=True)
    archive: str | None = arg(
        kinds.SOURCE, "a root file system as a tar archive, packed or not: its URL, or its path on the host",
        default=None,
    )  # fmt: skip
    checksum: str | None = arg(kinds.SHA256, "what the archive's SHA-256 must be", default=None)
    image: str | None = arg(kinds.IMAGE, "an image to start from", default=None, values_of="image")
    barebones: bool = arg(kinds.BOOL, "an empty disk and nothing else; it is not started", default=False)
    rebuild: bool = arg(
        kinds.BOOL, "give a VM that exists and is off a new disk; its old one is deleted when all is right",
        default=False,
    )  # fmt: skip
    hook: list[str] | None = arg(
        customizing.SCRIPTS, "run a script in the new system before its first boot, as root, without its services",
        default=None, secret=True,
    )  # fmt: skip
    postboot: str | None = arg(
        customizing.SCRIPT, "run a script in the guest when it has booted, through its agent", default=None, secret=True
    )
    postboot_timeout: float = arg(kinds.duration(1), "how long that script may take", default=600.0)
    keep_failed: bool = arg(
        kinds.BOOL, "let a VM stay that has booted when something fails after that; otherwise it is taken back",
        default=False,
    )  # fmt: skip
    disk: int | None = arg(kinds.SIZE, "size of its disk; 10G, as the image's, or as it was by default", default=None)
    on: str | None = arg(
        kinds.HOST, "the host to put it on; the best suited one by default", default=None, values_of="host"
    )
    pool: str | None = arg(kinds.NAME, "the storage pool for the disk; the one with most room by default", default=None)
    vcpus: int | None = arg(kinds.VCPUS, "virtual CPUs; 1, as the image has, or as it was by default", default=None)
    memory: int | None = arg(kinds.MEMORY, "memory; 1G, as the image has, or as it was by default", default=None)
    network: str | None = arg(
        kinds.NAME, "libvirt network or bridge of its first card; default, or the image's; none = no card", default=None
    )
    mac: list[str] | None = arg(kinds.MACS, "MAC address of each network card; random by default", default=None)
    tags: list[str] | None = arg(kinds.list_of(kinds.TAG, at_most=16), "words that are kept with the VM", default=None)
    start: bool | None = arg(kinds.BOOL, "boot it when it is ready; yes by default, unless --barebones", default=None)
    wait: str | None = arg(
        kinds.CONDITION, "done only when the guest is that far: it runs, has an address, answers", default=None
    )
    wait_timeout: float = arg(
        kinds.duration(1), "how long the guest may take for it, or until its agent answers for --postboot",
        default=300.0,
    )  # fmt: skip
    ignore_missing: bool = arg(kinds.BOOL, "go on although a host does not answer", default=False)

    def check(self) -> None:
        super().check()
        self._check_source()
        if self.rebuild:
            kept = [self.FIELDS[name].option for name in KEPT if self.__dict__[name]]
            if kept:
                raise self._idle("--rebuild keeps the VM's host, cards and record", kept)
        if not self.starts:
            waiting = [f"--{name}" for name in ("wait", "postboot") if self.__dict__[name]]
            if waiting:
                raise self._idle("it is not started", waiting)
        if self.network == "none" and (self.mac or self.ip):
            raise self._idle(
                "--network=none makes no card", [f"--{one}" for one in ("mac", "ip") if self.__dict__[one]]
            )
        if self.image is not None and self.image == self.name:
            raise Refused(
                "wrong_input", f"vm build: image and VM have the same name {self.name}", "choose another name"
            )

    def _check_source(self) -> None:
        given = [
            option
            for option, value in (
                ("--archive", self.archive), ("--image", self.image), ("--barebones", self.barebones)
            )
            if value
        ]  # fmt: skip
        if len(given) > 1:
            raise Refused("wrong_input", f"vm build: {' and '.join(given)} exclude each other", "say one of them")
        if not given and not self.rebuild:
            raise Refused(
                "wrong_input", "vm build: it is not said from what",
                "say --archive=SOURCE, --image=NAME or --barebones; --rebuild alone takes what the VM was made from",
            )  # fmt: skip
        if self.checksum and not self.archive:
            raise self._idle("there is no --archive", ["--checksum"])
        inside = [*self.asked_inside(), *(f"--{name}" for name in ("hook", "postboot") if self.__dict__[name])]
        if self.barebones and inside:
            raise self._idle("--barebones puts nothing on the disk", inside)
        if self.archive and self.archive.startswith("/") and self.on is None and not self.rebuild:
            raise Refused(
                "wrong_input", f"vm build: {self.archive} is a path on a host", "say which one with --on=HOST"
            )

    def _idle(self, why: str, options: list[str]) -> Refused:
        return Refused(
            "wrong_input", f"vm build: {why}: {', '.join(options)} would do nothing", "leave out one or the other"
        )

    @property
    def starts(self) -> bool:
        """Whether it is to be started at the end."""
        return not self.barebones if self.start is None else self.start

    def destroys(self) -> bool:
        return self.rebuild

    def makes_new(self) -> bool:
        return not self.rebuild

    def limit(self) -> float:
        waits = self.wait_timeout if self.wait or self.postboot else 0.0
        return self.LIMIT + waits + (self.postboot_timeout if self.postboot else 0.0)

    def as_clone(self, image: str) -> VmClone:
        """The clone of an image that is made on the way."""
        own = {name: value for name, value in self.values().items() if name in VmClone.FIELDS and name != "start"}
        networks = [self.network] if self.network else None
        return VmClone(**{**own, "image": image, "hostname": self.name, "networks": networks, "start": self.starts})
