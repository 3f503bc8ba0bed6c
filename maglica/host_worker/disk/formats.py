"""What a file of a disk is, read from its first bytes by our own eyes. Bytes in, words out.

An image from elsewhere is not shown to qemu-img before this has looked: a header may name other files of the host
(backing files, data files, extents, parents), and qemu-img would open them.

qcow2: docs/interop/qcow2.txt of QEMU. VMDK: "Virtual Disk Format 1.1" of VMware. VHDX: [MS-VHDX] of Microsoft.
"""

from __future__ import annotations

from maglica.errors import Refused

HEAD = 64 << 10  # bytes that `inspect` wants to see, or the whole of a file that is shorter
FORMATS = ("qcow2", "raw", "vmdk", "vhdx")

COMPRESSED = {b"\x1f\x8b": "gz", b"\xfd7zXZ\0": "xz", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zst"}

# What is neither taken nor a raw disk: the first bytes, what it is, and what to do with it.
OTHERS = (
    (b"PK\3\4", "a zip archive", "unpack it, and import the disk that is in it"),
    (b"QED\0", "a QED disk", "qemu-img convert makes a qcow2 of it"),
    (b"conectix", "a VHD disk", "qemu-img convert -f vpc makes a qcow2 of it"),
    (b"COWD", "a VMDK of an old version", "qemu-img convert makes a qcow2 of it"),
    (b"WithoutFreeSpace", "a Parallels disk", "qemu-img convert makes a qcow2 of it"),
    (b"WithouFreSpacExt", "a Parallels disk", "qemu-img convert makes a qcow2 of it"),
    (b"\x7fELF", "a program", "is it the right file?"),
    (b"<!DOCTYPE", "a web page", "is it the right URL?"),
    (b"<html", "a web page", "is it the right URL?"),
    (b"<?xml", "an XML file", "is it the right file?"),
)


def compression(head: bytes) -> str:
    """How a file is compressed: gz, xz, bz2, zst, or '' for not at all."""
    return next((word for magic, word in COMPRESSED.items() if head.startswith(magic)), "")


def inspect(head: bytes, told: str | None, what: str) -> str:
    """The format of a disk, from its first `HEAD` bytes; `told`: what somebody says that it is; `what`: its name.

    Raises `Refused` for what is dangerous, broken or something else than what was told.
    """
    found = _format(head, what)
    if told is not None and told != found:
        raise Refused("wrong_input", f"{what} is {found}, not {told}", f"leave out --format, or say --format={found}")
    if found == "raw" and told is None and head[510:512] != b"\x55\xaa":
        raise Refused(
            "wrong_input",
            f"{what} has neither a header that is known nor a boot sector",
            "say --format=raw if it is a disk all the same",
        )
    return found


def _format(head: bytes, what: str) -> str:
    if head.startswith(b"QFI\xfb"):
        _refuse_qcow2(head, what)
        return "qcow2"
    if head.startswith(b"KDMV"):
        _refuse_vmdk(head, what)
        return "vmdk"
    if head.startswith(b"vhdxfile"):
        return "vhdx"  # QEMU's driver knows no parents, and refuses such a disk itself
    _refuse_others(head, what)
    return "raw"


def _refuse_qcow2(head: bytes, what: str) -> None:
    version = int.from_bytes(head[4:8], "big")
    if version not in (2, 3) or len(head) < 104:
        raise Refused("wrong_input", f"{what} is a qcow2 of version {version}", "expected version 2 or 3")
    if any(head[8:20]):  # offset and length of the backing file's name
        raise Refused(
            "wrong_input",
            f"{what} rests on a backing file; an image from elsewhere must not name files of this host",
            "qemu-img convert makes one of it that rests on nothing",
        )
    if any(head[32:36]):
        raise Refused("wrong_input", f"{what} is encrypted", "import what is in it: nobody here knows its secret")
    features = int.from_bytes(head[72:80], "big") if version == 3 else 0
    if features & 4:
        raise Refused(
            "wrong_input",
            f"{what} has its data in another file; an image from elsewhere must not name files of this host",
            "qemu-img convert makes one of it that stands alone",
        )
    if features & 2:
        raise Refused("wrong_input", f"{what} is marked as corrupt", "`qemu-img check -r all` may repair it")


def _refuse_vmdk(head: bytes, what: str) -> None:
    # A capacity of zero sends the reader to the descriptor, which may name any file.
    if not any(head[12:20]):
        raise Refused("wrong_input", f"{what} names other files that hold its data", "import a VMDK of one file")
    if b"parentFileNameHint" in head or _other_parent(head):
        raise Refused("wrong_input", f"{what} rests on a parent disk", "import one that stands alone")


def _other_parent(head: bytes) -> bool:
    _, found, after = head.partition(b"parentCID=")
    return bool(found) and after[:8].lower() != b"ffffffff"


def _refuse_others(head: bytes, what: str) -> None:
    for magic, name, hint in OTHERS:
        if head.startswith(magic):
            raise Refused("wrong_input", f"{what} is {name}, not a disk", hint)
    if head[257:262] == b"ustar":
        raise Refused(
            "wrong_input", f"{what} is a tar archive (an OVA?)", "unpack it, and import the disk that is in it"
        )
    if b"# Disk DescriptorFile" in head[:512]:
        raise Refused("wrong_input", f"{what} names other files that hold its data", "import a VMDK of one file")
    if head[64:68] == b"\x7f\x10\xda\xbe":
        raise Refused("wrong_input", f"{what} is a VDI disk", "qemu-img convert makes a qcow2 of it")
    if head[32769:32774] == b"CD001" and head[510:512] != b"\x55\xaa":
        raise Refused("wrong_input", f"{what} is a CD", "an image is a disk with a system on it")
