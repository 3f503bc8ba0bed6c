"""Files and volumes that shall be plugged into a VM: where they are, what they are, and who has them already.

Whoever may plug a disk in could read any file of the host as one, and any file that a qcow2 names as what it rests on.
So all of it has to lie in an active storage pool, and a format is never guessed from what a guest may have written.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from typing import Any, NamedTuple

from maglica.errors import Refused
from maglica.host_worker.device import belongings, disks, elements
from maglica.host_worker.disk import dependants, qcow2
from maglica.host_worker.domain import domain_xml, look
from maglica.host_worker.host import Host

FORMATS = {".qcow2": "qcow2", ".img": "raw", ".raw": "raw", ".iso": "raw"}


class Found(NamedTuple):
    """A file or device in a pool."""

    path: str
    pool: str
    block: bool


class User(NamedTuple):
    """A VM that has a file: as its disk, or behind it. `writes`: its guest may write to it."""

    name: str
    target: str
    path: str
    behind: bool
    writes: bool


def volume(word: str, pool: str | None, host: Host) -> Found:
    """What the name of a volume, or a path, means. `pool`: only there."""
    pools = [one for one in host.hypervisor.pools() if pool in (None, one["name"])]
    if not pools:
        raise Refused("unknown_entity", f"{host.name} has no active pool {pool}" if pool else "there is no active pool")
    if not host.hypervisor.has_files:
        name = os.path.basename(word)
        return Found(host.hypervisor.volume_path(str(pools[0]["name"]), name), str(pools[0]["name"]), False)
    found = [one for one in (_in(one, word) for one in pools) if one is not None]
    listed = ", ".join(sorted(str(one["name"]) for one in pools))
    if not found:
        raise Refused(
            "unknown_entity",
            f"there is no {word} in a storage pool of {host.name} (looked in {listed})",
            "expected the name of a volume, or the path of one that lies right in the folder of an active pool",
        )
    if len(found) > 1:
        where = ", ".join(one.pool for one in found)
        raise Refused("ambiguous_name", f"there is a {word} in several pools: {where}", "say which one with its path")
    return found[0]


def _in(pool: dict[str, Any], word: str) -> Found | None:
    folder = pool["path"]
    if not folder:
        return None
    path = word if word.startswith("/") else os.path.join(folder, word)
    real = os.path.realpath(path)
    logical = pool["type"] == "logical"
    inside = os.path.dirname(path) == folder if logical else os.path.dirname(real) == os.path.realpath(folder)
    if not inside:
        return None
    try:
        mode = os.stat(real).st_mode
    except OSError:
        return None
    block = stat.S_ISBLK(mode)
    if not block and not stat.S_ISREG(mode):
        return None
    return Found(path if block else real, str(pool["name"]), block)


def format_of(found: Found, told: str | None) -> str:
    """The format of a disk: as told, or by its name; never by its content."""
    if told is not None or found.block:
        return told or "raw"
    by_name = FORMATS.get(os.path.splitext(found.path)[1])
    if by_name is None:
        raise Refused(
            "wrong_input", f"the name of {found.path} does not tell its format", "say --format=qcow2 or --format=raw"
        )
    return by_name


def refuse_strange(found: Found, format: str, name: str, host: Host) -> None:
    """Refuse a disk for the VM `name` that is not of its format, or brings in files from outside of the pools or of
    other VMs.
    """
    if not host.hypervisor.has_files:
        return
    header = qcow2.header(found.path)
    if format != "qcow2":
        return
    if header is None:
        raise Refused("wrong_input", f"{found.path} is no qcow2", "say --format=raw if it is a disk all the same")
    if header.elsewhere:
        raise Refused("wrong_input", f"{found.path} has its data in another file", "qemu-img convert makes one of both")
    folders = {os.path.realpath(str(pool["path"])) for pool in host.hypervisor.pools() if pool["path"]}
    try:
        chain = qcow2.chain(found.path, format)
    except qcow2.Unreadable as error:
        raise Refused("wrong_input", str(error), "a disk may rest on files of storage pools only") from None
    for link in chain[1:]:
        if not os.path.exists(link):
            raise Refused("unknown_entity", f"{found.path} rests on {link}, which is gone", "bring that file back")
        if os.path.dirname(link) not in folders:
            hint = "a disk may rest on files of storage pools only"
            raise Refused("wrong_input", f"{found.path} rests on {link}, which lies in no pool", hint)
        belongings.refuse(link, name, host)
        _refuse_disk(link, found, name, host)


def _refuse_disk(link: str, found: Found, name: str, host: Host) -> None:
    """Refuse what rests on the disk of a VM that is no image: whoever wrote its header chose whose disk he reads."""
    images = {one.name for one, state in host.hypervisor.domains() if domain_xml.is_image(one, state in look.ACTIVE)}
    for user in users(link, host):
        if not user.behind and user.name != name and user.name not in images:
            words = f"{found.path} rests on {link}, which {user.name} has as its disk {user.target}"
            raise Refused("protected", words, "a disk may rest on disks of images, and on files that no VM has")


def users(path: str, host: Host) -> list[User]:
    """The VMs whose disks a file is, or is behind: of what runs and of what is defined."""
    wanted, found = os.path.realpath(path), set()
    for name, live, config in host.hypervisor.layouts():
        for text in (live, config):
            for target, piece in elements.disks(text).items():
                found |= _uses(wanted, name, target, piece, host)
    return sorted(found)


def _uses(wanted: str, name: str, target: str, piece: str, host: Host) -> set[User]:
    facts = disks.facts(piece)
    path = path_of(facts, host)
    if path is None:
        return set()
    writes = facts["device"] in ("disk", "lun") and not facts["readonly"]
    if os.path.realpath(path) == wanted:
        return {User(name, target, wanted, False, writes)}
    behind = look.chain(path, facts["format"])[1:] if host.hypervisor.has_files and writes else []
    return {User(name, target, wanted, True, False)} if wanted in behind else set()


def path_of(facts: dict[str, Any], host: Host) -> str | None:
    """Where the disk of such facts (`disks.facts`) lies."""
    if facts["source"] == "volume" and facts["path"]:
        return host.hypervisor.volume_path(*str(facts["path"]).split("/", 1))
    return str(facts["path"]) if facts["path"] else None


def refuse_used(
    path: str, what: str, host: Host, besides: Sequence[tuple[str, str]] = (), known: Sequence[User] | None = None
) -> None:
    """Refuse a file that a VM has, or on which something rests. `besides`: these (VM, target) do not count; `known`:
    its users, where somebody has just looked."""
    for user in users(path, host) if known is None else known:
        if (user.name, user.target) not in besides:
            how = "rests on it" if user.behind else f"has it as its disk {user.target}"
            raise Refused("protected", f"{what}: {user.name} {how} ({path})", "`maglica disk list` shows a VM's disks")
    for one in dependants.of(host.hypervisor, [path]):
        if (one.domain or "", "") not in [(name, "") for name, _ in besides]:
            raise Refused(
                "protected", f"{what}: {one.domain or one.path} rests on it ({path})", "flatten that one first"
            )


def pools_of_files(host: Host) -> list[dict[str, Any]]:
    """The active pools that take new files, with the room that each has to give."""
    found = look.pools(host.hypervisor, host.settings, host.storage)
    return [pool for pool in found if pool["type"] in domain_xml.FILE_POOLS]
