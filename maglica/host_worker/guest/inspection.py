"""What lies on a guest's disks: which file systems, which of them is the root, which system it is.

libguestfs' own inspection looks for everything from Windows to FreeDOS and takes five seconds without KVM. A Linux of a
few well known kinds on plain partitions is recognised by three of its files in half a second; whatever is not exactly
that (LVM, btrfs, encryption, two systems, a name that is not in the table, an fstab with something unknown) goes to
`inspect_os`, which has the last word.

Sources: os-release(5), fstab(5), and libguestfs' lib/inspect_fs_unix.c for how versions are told.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from maglica.errors import Refused
from maglica.host_worker.guest.customize import HINT_NONE
from maglica.host_worker.guest.model import System

MAX_TEXT = 2 << 20
"""Bytes. Longest file that is read; libguestfs' messages end at 4 MiB."""

PLAIN = frozenset({"ext2", "ext3", "ext4", "xfs"})
"""File systems that may hold a root that is recognised here."""

HARMLESS = frozenset({"", "swap", "vfat"})
"""What may lie beside it: a boot loader's partition without a file system, swap, an EFI system partition."""

DISTROS = frozenset({"debian", "ubuntu", "fedora", "rhel", "rocky", "almalinux"})
"""ID of os-release that libguestfs calls by the same name."""

NEEDS_FILE = frozenset({"debian"})
"""Those whose os-release has no minor version; it stands in /etc/debian_version."""

DEVICE = re.compile(r"/dev/(?:[shv]|xv)d([a-z])(\d*)")
REMOVABLE = re.compile(r"/dev/(sr\d|scd\d|cdrom|fd\d)")


MISSING = ("No such file or directory", "Not a directory", "Too many levels of symbolic links")
"""strerror(3) of ENOENT, ENOTDIR and ELOOP in the appliance, which speaks no other language."""


class Layout(NamedTuple):
    """One operating system: its root, what is mounted where (/ first), what it is, and how that was found."""

    root: str
    mounts: tuple[tuple[str, str], ...]  # (mount point, device or btrfs volume)
    system: System
    how: str  # `direct` or `inspect_os`

    @property
    def volumes(self) -> bool:
        """Whether something lies on LVM, whose volumes have to be let go before a disk can be exchanged."""
        devices = [device for _, device in self.mounts]
        return any(not DEVICE.fullmatch(device) and not device.startswith("btrfsvol:/dev/sd") for device in devices)


def layout(guest: Any) -> Layout:
    """The one operating system of a launched appliance's disks; none or several are refused. Nothing stays mounted."""
    return direct(guest) or by_libguestfs(guest)


def by_libguestfs(guest: Any) -> Layout:
    """What `inspect_os` finds."""
    root = only_root(guest)
    points = guest.inspect_get_mountpoints(root)
    mounts = tuple(sorted((str(point), str(points[point])) for point in points))
    guest.mount_ro(root, "/")
    try:
        return Layout(root, mounts, _system(guest, root), "inspect_os")
    finally:
        guest.umount_all()


def only_root(guest: Any) -> str:
    """The device of the one operating system; none or several are refused."""
    roots = guest.inspect_os()
    if len(roots) == 1:
        return str(roots[0])
    found = f"{len(roots)} operating systems" if roots else "no operating system that libguestfs knows"
    raise Refused("wrong_input", f"the disks hold {found}", HINT_NONE)


def _system(guest: Any, root: str) -> System:
    distro = guest.inspect_get_distro(root) if guest.inspect_get_type(root) == "linux" else guest.inspect_get_type(root)
    release = read_text(guest, "/etc/os-release") or ""
    # For Debian libguestfs' product name is a bare "12.5".
    return System(
        distro=distro,
        product=_value(release, "PRETTY_NAME") or guest.inspect_get_product_name(root),
        major=guest.inspect_get_major_version(root),
        minor=guest.inspect_get_minor_version(root),
        like=tuple(_value(release, "ID_LIKE").split()),
    )


def _value(release: str, key: str) -> str:
    found = re.search(rf"^{key}=[\"']?([^\"'\n]+)", release, re.MULTILINE)
    return found[1] if found else ""


def read_text(guest: Any, path: str) -> str | None:
    """The text of a regular file or of a link to one; None for anything else."""
    found = _stat(guest.statns, path)
    if found is None or not stat.S_ISREG(found["st_mode"]):
        return None
    size = found["st_size"]
    if size > MAX_TEXT:
        raise Refused("environment_error", f"{path} of the image has {size} bytes, expected at most {MAX_TEXT}")
    # pread answers in one message; read_file opens a stream and takes two hundred times as long.
    content: bytes = guest.pread(path, size, 0) if size else b""
    return content.decode("utf-8", "surrogateescape")


def kind_of(guest: Any, path: str) -> int | None:
    """What lies at a path, links not followed: S_IFREG, S_IFLNK, …; None for nothing."""
    found = _stat(guest.lstatns, path)
    return None if found is None else stat.S_IFMT(found["st_mode"])


def _stat(ask: Callable[[str], dict[str, int]], path: str) -> dict[str, int] | None:
    """is_file and its kin start a process in the appliance; these do not, and take a tenth of the time."""
    try:
        return ask(path)
    except RuntimeError as error:
        # The Python binding does not tell the number.
        if str(error).endswith(MISSING):
            return None
        raise


# ---- without libguestfs' inspection ------------------------------------------------------------------------------


def direct(guest: Any) -> Layout | None:
    """The system, when it is one of the well known kinds on plain partitions; None for anything else."""
    kinds = _file_systems(guest)
    if set(kinds.values()) - PLAIN - HARMLESS:
        return None
    found = {device: _root_files(guest, device) for device, kind in kinds.items() if kind in PLAIN}
    roots = {device: files for device, files in found.items() if files is not None}
    if len(roots) != 1:
        return None
    ((root, (release, debian, fstab)),) = roots.items()
    system = system_of(release, debian)
    with_system = [device for device, kind in kinds.items() if kind]
    mounts = mounts_of(fstab, with_system, guest.vfs_uuid, guest.vfs_label)
    if system is None or mounts is None:
        return None
    return Layout(root, tuple(sorted({**mounts, "/": root}.items())), system, "direct")


def _file_systems(guest: Any) -> dict[str, str]:
    """Type of what lies on every partition, and on every disk that has none, as blkid names it; '' for nothing."""
    partitions = [str(one) for one in guest.list_partitions()]
    bare = [str(one) for one in guest.list_devices() if not any(part.startswith(one) for part in partitions)]
    return {device: str(guest.vfs_type(device)) for device in [*partitions, *bare]}


def _root_files(guest: Any, device: str) -> tuple[str, str, str] | None:
    """os-release, debian_version and fstab of a root file system; None when it is none."""
    guest.mount_ro(device, "/")
    try:
        if kind_of(guest, "/etc/fstab") != stat.S_IFREG or kind_of(guest, "/hurd") is not None:
            return None
        names = ("/etc/os-release", "/etc/debian_version", "/etc/fstab")
        release, debian, fstab = (read_text(guest, name) or "" for name in names)
        return release, debian, fstab
    finally:
        guest.umount_all()


def system_of(release: str, debian_version: str) -> System | None:
    """The system as libguestfs would name it; None when that is not certain."""
    distro, product = _value(release, "ID"), _value(release, "PRETTY_NAME")
    version = debian_version.strip() if distro in NEEDS_FILE else _value(release, "VERSION_ID")
    number = re.fullmatch(r"(\d+)(?:\.(\d+))?", version)
    if distro not in DISTROS or not product or not number:
        return None
    return System(distro, product, int(number[1]), int(number[2] or 0), tuple(_value(release, "ID_LIKE").split()))


def mounts_of(
    fstab: str, devices: Sequence[str], uuid: Callable[[str], str], label: Callable[[str], str]
) -> Mapping[str, str] | None:
    """Mount point -> device of the appliance, for what stands in an fstab beside /; None when a line is not clear.

    `devices` have file systems; `uuid` and `label` tell theirs, and are asked only when a line needs it.
    """
    found: dict[str, str] = {}
    for line in fstab.splitlines():
        fields = line.split()
        if len(fields) < 3 or fields[0].startswith("#") or not fields[1].startswith("/") or fields[1] == "/":
            continue
        spec, point = fields[0].replace('"', ""), fields[1]
        if not spec.startswith(("/dev/", "UUID=", "LABEL=", "PARTUUID=", "PARTLABEL=")) or REMOVABLE.match(spec):
            continue  # made by the kernel, or another machine's, or a drive for discs
        device = _resolved(spec, devices, uuid, label)
        if device is None:
            return None
        found[point.rstrip("/")] = device
    return found


def _resolved(spec: str, devices: Sequence[str], uuid: Callable[[str], str], label: Callable[[str], str]) -> str | None:
    kind, _, value = spec.partition("=")
    if kind in ("UUID", "LABEL"):
        same = [
            device
            for device in devices
            if (str(uuid(device)).lower() == value.lower() if kind == "UUID" else str(label(device)) == value)
        ]
        return same[0] if len(same) == 1 else None
    named = DEVICE.fullmatch(spec)
    device = f"/dev/sd{named[1]}{named[2]}" if named else ""
    return device if device in devices else None
