"""A bootable disk image without mounting anything: no loop device, no device-mapper, works in a container.

Layout: sector 0 = GRUB's boot.img and the partition table; from sector 1 on GRUB's core.img; from 1 MiB on the one
partition, an ext4.
"""

from __future__ import annotations

import shutil
import struct
import tempfile
from pathlib import Path

from .shell import LabError, run

SECTOR = 512
PARTITION_START = 2048  # sectors: 1 MiB, the usual alignment
GRUB = Path("/usr/lib/grub/i386-pc")
# Named one by one: every release of mke2fs adds features to its defaults that the GRUB beside it may not read yet.
FEATURES = (
    "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,flex_bg,sparse_super,large_file,huge_file,"
    "dir_nlink,extra_isize"
)
GRUB_MODULES = ("biosdisk", "part_msdos", "ext2", "linux", "normal", "configfile")
BOOT_CODE_SIZE = 440  # what of sector 0 belongs to the boot loader; the disk id and the partition table follow
LINUX_PARTITION = 0x83


def write(disk: Path, tree: Path, size: int, label: str, uuid: str) -> None:
    """Make `disk`, a sparse raw image of `size` bytes that boots what is in the folder `tree`.

    The folder has to hold /boot/grub/grub.cfg, which GRUB reads from the file system at each boot.
    """
    sectors = size // SECTOR
    with disk.open("wb") as file:
        file.truncate(size)
        file.write(_boot_sector(sectors))
        file.seek(SECTOR)
        file.write(_core_image())
    file_system(disk, tree, label, uuid, offset=PARTITION_START * SECTOR, size=size)


def file_system(disk: Path, tree: Path | None, label: str, uuid: str, offset: int, size: int) -> None:
    """Make an ext4 in `disk` from byte `offset` to byte `size`, filled with the folder `tree`."""
    content: list[str | Path] = [] if tree is None else ["-d", tree]
    run(
        *("mke2fs", "-q", "-F", "-t", "ext4", "-O", FEATURES, "-b", "4096", "-L", label, "-U", uuid, "-m", "1"),
        *("-E", f"offset={offset},lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0"),
        *content,
        disk,
        f"{(size - offset) // 1024}k",
        limit=600,
    )


def _boot_sector(sectors: int) -> bytes:
    """GRUB's first stage and a partition table with one bootable Linux partition."""
    boot = (GRUB / "boot.img").read_bytes()[:BOOT_CODE_SIZE]
    # CHS fields say "look at the LBA fields": the disk is larger than they can express, or might become so
    entry = struct.pack(
        "<B3sB3sII",
        *(0x80, b"\xfe\xff\xff", LINUX_PARTITION, b"\xfe\xff\xff"),
        *(PARTITION_START, sectors - PARTITION_START),
    )
    disk_id = struct.pack("<IH", 0x6D61676C, 0)
    return boot.ljust(BOOT_CODE_SIZE, b"\0") + disk_id + entry + bytes(48) + b"\x55\xaa"


def _core_image() -> bytes:
    """GRUB's second stage. It starts at sector 1, which is where boot.img and its own block list look for it."""
    if not (GRUB / "boot.img").exists():
        raise LabError(f"GRUB's files are missing in {GRUB}; `make deps` installs grub-pc-bin")
    with tempfile.TemporaryDirectory(prefix="maglica-lab-") as name:
        early, core = Path(name, "early.cfg"), Path(name, "core.img")
        early.write_text("set root=(hd0,msdos1)\nset prefix=(hd0,msdos1)/boot/grub\nconfigfile /boot/grub/grub.cfg\n")
        run(
            *("grub-mkimage", "-O", "i386-pc", "-d", GRUB, "-p", "(hd0,msdos1)/boot/grub", "-c", early, "-o", core),
            *GRUB_MODULES,
        )
        content = core.read_bytes()
    if len(content) > (PARTITION_START - 1) * SECTOR:
        raise LabError("GRUB's core image does not fit between the boot sector and the partition")
    return content


def grub_config(tree: Path, kernel: Path, initrd: bytes, arguments: str) -> None:
    """Put kernel, initramfs and grub.cfg into the folder `tree`; there is no menu and no waiting."""
    boot = tree / "boot"
    (boot / "grub").mkdir(parents=True, exist_ok=True)
    if kernel.resolve() != (boot / "vmlinuz").resolve():
        shutil.copyfile(kernel, boot / "vmlinuz")
    (boot / "initrd.img").write_bytes(initrd)
    lines = [f"linux /boot/vmlinuz {arguments}", "initrd /boot/initrd.img", "boot"]
    (boot / "grub/grub.cfg").write_text("".join(f"{line}\n" for line in lines))


def to_qcow2(raw: Path, target: Path) -> None:
    """Convert a raw image into a sparse qcow2; `target` appears complete or not at all."""
    partial = target.with_suffix(".partial")
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, partial, limit=600)
    partial.rename(target)
