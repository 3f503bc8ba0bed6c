"""Making what lies at the end of a disk as large as the disk is now: the last partition, and what is in it.

As virt-resize(1) expands a partition, but in place. What this cannot make larger is left alone, and told: nothing of
the partition table changes then. `guest` is a launched appliance whose first disk it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

EXT = ("ext2", "ext3", "ext4")
MOUNTED = ("xfs", "btrfs")  # these grow while they are mounted
GPT_TAIL = 34  # sectors at the end that belong to the table: a header and 32 sectors of entries
MSDOS_SECTORS = 2**32 - 1  # what a table of that kind can count

# What blkid calls it -> why it stays as it is
LEFT = {
    "": "nothing that is known",
    "swap": "swap space",
    "crypto_LUKS": "an encrypted volume, which only the guest can open",
    "ntfs": "an NTFS, which Windows itself makes larger (Disk Management, Extend Volume)",
    "vfat": "a FAT file system",
}


class Part(NamedTuple):
    """A partition; `end` is its last byte. `kind`: primary, logical or extended."""

    number: int
    start: int
    end: int
    kind: str = "primary"


class Step(Protocol):
    def __call__(self, name: str) -> AbstractContextManager[None]: ...


def last(parts: Sequence[Part]) -> Part | None:
    """The partition at the end of the disk, which holds something."""
    holding = [part for part in parts if part.kind != "extended"]
    return max(holding, key=lambda part: part.end, default=None)


def to_grow(parts: Sequence[Part], part: Part, sectors: int, sector: int, *, gpt: bool) -> list[tuple[int, int]]:
    """(number, new last sector) of the partitions that have to grow, in that order; none where there is no room."""
    end = sectors - GPT_TAIL if gpt else min(sectors, MSDOS_SECTORS) - 1
    if end <= part.end // sector:
        return []
    around = [one.number for one in parts if part.kind == "logical" and one.kind == "extended"]
    return [(number, end) for number in (*around, part.number)]


def grow(guest: Any, step: Step) -> dict[str, Any]:
    """Make it larger. Returns `grown`, `what` in words, `bytes` of its file system (None: unknown), and `note`: what is
    left to be done, or why nothing was.
    """
    disk = str(guest.list_devices()[0])
    with step("look"):
        table, parts = _partitions(guest, disk)
        part = last(parts)
        device = f"{disk}{part.number}" if part else disk
        kind = str(guest.vfs_type(device)) if table != "empty" else ""
    where = f"partition {part.number}" if part else "the disk"
    if kind not in (*EXT, *MOUNTED, "LVM2_member"):
        why = f"left as it is: {where} holds {LEFT.get(kind, kind)}"
        return {"grown": False, "what": where, "bytes": None, "note": why}
    if part:
        with step("partition"):
            if table == "gpt":
                guest.part_expand_gpt(disk)
            sector = int(guest.blockdev_getss(disk))
            sectors = int(guest.blockdev_getsize64(disk)) // sector
            for number, end in to_grow(parts, part, sectors, sector, gpt=table == "gpt"):
                guest.part_resize(disk, number, end)
    with step("file system"):
        found = _content(guest, device, kind)
    what = f"{where} and its {kind}" if part else f"its {kind}"
    note = "its volume group has the room now: lvextend -r in the guest" if kind == "LVM2_member" else None
    return {"grown": True, "what": what, "bytes": found, "note": note}


def _partitions(guest: Any, disk: str) -> tuple[str, list[Part]]:
    """The kind of the partition table ('' without one, `empty` with nothing in it), and the partitions."""
    try:
        table = str(guest.part_get_parttype(disk))
        rows = guest.part_list(disk)
    except RuntimeError:
        return "", []
    if table not in ("gpt", "msdos"):
        return "", []  # parted calls a bare file system `loop`
    kinds = {row["part_num"]: str(guest.part_get_mbr_part_type(disk, row["part_num"])) for row in rows} if (
        table == "msdos"
    ) else {}  # fmt: skip
    parts = [
        Part(row["part_num"], row["part_start"], row["part_end"], kinds.get(row["part_num"], "primary")) for row in rows
    ]
    return (table if parts else "empty"), parts


def _content(guest: Any, device: str, kind: str) -> int | None:
    """Make what is in a partition as large as that; the bytes of its file system afterwards."""
    if kind == "LVM2_member":
        guest.pvresize(device)
        return None
    if kind in EXT:
        guest.e2fsck_f(device)  # resize2fs wants to see one that was checked
        guest.resize2fs(device)
        guest.mount_ro(device, "/")
    else:
        guest.mount(device, "/")
        (guest.xfs_growfs if kind == "xfs" else guest.btrfs_filesystem_resize)("/")
    try:
        room = guest.statvfs("/")
        return int(room["blocks"]) * int(room["frsize"])
    finally:
        guest.umount_all()
