"""What a VM that lives has for itself: disks that it writes to, and its MAC addresses. Looked at before one lives.

Two guests that write to one disk destroy what is on it, and one that reads what another one writes sees nonsense; of
two cards with one MAC address on a network each gets some of what is meant for the other. Definitions may well have the
same: a spare VM, an image and its old self. Only one of them may live at a time.
"""

from __future__ import annotations

import os
import stat
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, NamedTuple

from maglica.errors import MaglicaError, Refused
from maglica.host_worker.domain import domain_xml, look
from maglica.host_worker.hypervisor import Hypervisor

# File systems whose files are the same on every host that has mounted them from the same place.
OF_A_NETWORK = ("nfs", "nfs4", "cifs", "smb3", "ceph", "glusterfs", "fuse.glusterfs", "fuse.ceph", "beegfs", "lustre")
_WRITES = ("disk", "lun", "floppy")
# Names that no two devices of the world share. What emulated disks of a host that is itself a guest say is none.
_WORLDWIDE = ("LVM-", "mpath-", "naa.", "eui.", "uuid.")


class Hold(NamedTuple):
    """A disk of a VM, or a file behind one. `alone`: nobody else may have it meanwhile."""

    path: str  # as it is called; `PROTOCOL:NAME` when it is on a network
    alone: bool


class Mount(NamedTuple):
    """A mounted file system, as mountinfo tells of it."""

    point: str
    root: str
    kind: str
    source: str


class Named(NamedTuple):
    """A disk as a definition names it. `where`: a path, or (pool, volume)."""

    where: str | tuple[str, str]
    alone: bool
    format: str


class Said(NamedTuple):
    """What a definition says of disks and cards."""

    disks: tuple[Named, ...]
    macs: tuple[str, ...]


@lru_cache(maxsize=4096)
def said(text: str) -> Said:
    """Remembered, as a host with a hundred VMs is asked for all of them whenever one of some other host is started."""
    found = []
    for disk in ET.fromstring(text).findall("./devices/disk"):
        path = _path(disk)
        if not path:
            continue
        shared = disk.find("readonly") is not None or disk.find("shareable") is not None
        driver = disk.find("driver")
        alone = disk.get("device", "disk") in _WRITES and not shared
        found.append(Named(path, alone, driver.get("type", "raw") if driver is not None else "raw"))
    return Said(tuple(found), tuple(str(nic["mac"]).lower() for nic in domain_xml.read(text).nics if nic["mac"]))


def disks(text: str, hypervisor: Hypervisor) -> list[Hold]:
    """All that the disks of a definition consist of; media are read only."""
    found = []
    for one in said(text).disks:
        path = one.where if isinstance(one.where, str) else _volume(*one.where, hypervisor)
        if not path:
            continue
        found.append(Hold(path, one.alone))
        if hypervisor.has_files and path.startswith("/"):
            found += [Hold(link, False) for link in look.chain(path, one.format)[1:]]
    return found


def _volume(pool: str, name: str, hypervisor: Hypervisor) -> str:
    try:
        return hypervisor.volume_path(pool, name)
    except MaglicaError:
        return ""  # one that nobody knows has nobody


def _path(disk: ET.Element) -> str | tuple[str, str]:
    source = disk.find("source")
    if source is None:
        return ""
    if disk.get("type") == "network":
        hosts = sorted(f"{one.get('name', '')}:{one.get('port', '')}" for one in source.findall("host"))
        return f"{source.get('protocol')}:{source.get('name', '')}{'@' if hosts else ''}{','.join(hosts)}"
    if disk.get("type") == "volume":
        return source.get("pool", ""), source.get("volume", "")
    return source.get("file") or source.get("dev") or ""


def macs(text: str) -> list[str]:
    """The addresses of a definition's cards."""
    return list(said(text).macs)


# ------------------------------------------------------------------------------------------------ on one host


def refuse(name: str, text: str, hypervisor: Hypervisor, what: str = "cannot be started") -> None:
    """Refuse to bring to life what `text` defines, while another VM that lives here has something of it."""
    own, cards = disks(text, hypervisor), set(macs(text))
    for other, live in hypervisor.living():
        if other == name:
            continue
        taken = cards & set(macs(live))
        if taken:
            raise _refusal(name, what, f"{other} runs, and has the MAC address {min(taken)}")
        path = clash(own, disks(live, hypervisor), lambda path: _here(path, hypervisor))
        if path:
            raise _refusal(name, what, f"{other} runs, and has its disk {path}")


def keys(text: str, hypervisor: Hypervisor) -> list[str]:
    """What no second job of this host may bring to life meanwhile."""
    return [*macs(text), *(_here(hold.path, hypervisor) for hold in disks(text, hypervisor) if hold.alone)]


def clash(own: Iterable[Hold], others: Iterable[Hold], identity: Callable[[str], str]) -> str | None:
    """A disk that one side wants alone and the other one has, as the first side calls it."""
    known = {identity(hold.path): hold.alone for hold in sorted(others, key=lambda hold: hold.alone)}
    for hold in own:
        if hold.path and identity(hold.path) in known and (hold.alone or known[identity(hold.path)]):
            return hold.path
    return None


def _refusal(name: str, what: str, why: str) -> Refused:
    return Refused("wrong_state", f"{name} {what}: {why}", "stop that one first, or give one of them its own")


def _here(path: str, hypervisor: Hypervisor) -> str:
    """The same word for whatever names lead to one file or device of this host."""
    if not hypervisor.has_files or not path.startswith("/"):
        return path
    try:
        found = os.stat(path)
    except OSError:
        return os.path.realpath(path)
    return f"device {found.st_rdev}" if stat.S_ISBLK(found.st_mode) else f"file {found.st_dev} {found.st_ino}"


# -------------------------------------------------------------------------------------------- on several hosts


def told(hypervisor: Hypervisor) -> dict[str, dict[str, list[str]]]:
    """What each VM has, or will have when it is started, that those of other hosts could have as well: `macs`, disks
    that it wants `alone`, and disks that it has `along` with others. Disks of this host alone are left out.
    """
    found = {}
    mounts = _mounts() if hypervisor.has_files else []
    for name, live, config in hypervisor.layouts():
        texts = [text for text in (live, config) if text]
        holds = [hold for text in texts for hold in disks(text, hypervisor)]
        named = {(elsewhere(hold.path, mounts), hold.alone) for hold in holds}
        found[name] = {
            "macs": sorted({mac for text in texts for mac in macs(text)}),
            "alone": sorted(word for word, alone in named if word and alone),
            "along": sorted(word for word, alone in named if word and not alone),
        }
    return found


def elsewhere(path: str, mounts: list[Mount]) -> str | None:
    """What a disk is called on every host that has it; None for what one host has alone."""
    if not path.startswith("/"):
        return path  # on a network
    real = os.path.realpath(path)
    device = _device(real)
    if device:
        return device
    inside = [one for one in mounts if real == one.point or real.startswith(one.point.rstrip("/") + "/")]
    if not inside:
        return None
    best = max(reversed(inside), key=lambda one: len(one.point))  # of two on one point the later one is seen
    if best.kind not in OF_A_NETWORK:
        return None
    return f"{best.kind.rstrip('4')}:{best.source}/{(best.root + real[len(best.point) :]).strip('/')}"


def _device(path: str) -> str | None:
    """The name that a block device bears everywhere: that of the device mapper, or what its disk says of itself."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    if not stat.S_ISBLK(found.st_mode):
        return None
    folder = f"/sys/dev/block/{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"
    for file in ("dm/uuid", "wwid", "device/wwid"):
        try:
            with open(os.path.join(folder, file), encoding="ascii", errors="replace") as text:
                word = text.read().strip()
        except OSError:
            continue
        if word.startswith(_WORLDWIDE):
            return f"device:{word}"
    return None


def _mounts() -> list[Mount]:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as text:
        return mounts(text.read())


def mounts(text: str) -> list[Mount]:
    """What proc(5) says of /proc/PID/mountinfo."""
    found = []
    for line in text.splitlines():
        words, _, rest = line.partition(" - ")
        fields, more = words.split(), rest.split()
        if len(fields) > 4 and len(more) > 1:
            found.append(Mount(_plain(fields[4]), _plain(fields[3]), more[0], _plain(more[1])))
    return found


def _plain(word: str) -> str:
    for code, sign in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        word = word.replace(code, sign)
    return word


def surveyed(survey: dict[str, Any], hypervisor: Hypervisor) -> dict[str, Any]:
    """A survey in which each domain has what is `told` of it as its `lives`."""
    known = told(hypervisor)
    domains = [{**one, "lives": known[one["name"]]} if one["name"] in known else one for one in survey["domains"]]
    return {**survey, "domains": domains}
