"""What a clone will be, decided from facts: values in, values out. `Refused` where it cannot be."""

from __future__ import annotations

import os
import random
from typing import Any, NamedTuple

from maglica.actions.vm import VmClone
from maglica.errors import Refused
from maglica.host_worker import domain_xml
from maglica.host_worker.domain_xml import Disk, Domain, Edits

EXTENSIONS = {"qcow2": "qcow2", "raw": "img"}
LINKED_BYTES = 1 << 20


class Source(NamedTuple):
    """A disk of the image with its sizes in bytes; `path` is resolved, also for volumes."""

    disk: Disk
    path: str
    capacity_bytes: int
    allocation_bytes: int


class Copy(NamedTuple):
    """One disk of the clone: copied to `part` first, and `path` once it is right."""

    target: str
    source: str
    source_format: str
    part: str
    path: str
    format: str
    capacity_bytes: int
    allocation_bytes: int


class ClonePlan(NamedTuple):
    """Everything that a clone will do on this host."""

    image: str
    name: str
    uuid: str
    macs: list[str]
    mode: str
    pool: str
    copies: list[Copy]
    nvram: tuple[str, str] | None  # (image's, clone's)
    emulated: bool
    job: str

    def shown(self) -> dict[str, Any]:
        """What a dry run prints."""
        return {
            "image": self.image,
            "name": self.name,
            "mode": self.mode,
            "pool": self.pool,
            "disks": [
                {"target": c.target, "path": c.path, "format": c.format, "capacity_bytes": c.capacity_bytes}
                for c in self.copies
            ],
            "macs": self.macs,
            "emulated": self.emulated,
        }


def clone(
    want: VmClone,
    image: Domain,
    sources: list[Source],
    pools: list[dict[str, Any]],
    *,
    uuid: str,
    fresh_macs: list[str],
    job: str,
    pool: str | None,
    reserve: int,
    emulated: bool,
    files: bool,
) -> ClonePlan:
    """Decide where every disk goes and what the clone will be.

    `pools` as `Hypervisor.pools` gives them; `pool` is the setting; `reserve` bytes stay free in it; `files` says
    whether disks are files of this host (the test driver has none). Raises `Refused` when something does not fit.
    """
    _refuse_foreign_disks(image)
    macs = _macs(want, image, fresh_macs)
    if want.mode == "linked" and not files:
        raise Refused("environment_error", "overlays need disks that are files", "use --mode=full")
    chosen = roomiest(pools, pool, needed(want.mode, sources), reserve, files=files)
    copies = [_copy(source, want, chosen, job, only=len(sources) == 1) for source in sources]
    nvram = (image.nvram, domain_xml.own_path(image.nvram, image.name, want.hostname)) if image.nvram else None
    return ClonePlan(
        want.image, want.hostname, uuid, macs, want.mode, str(chosen["name"]), copies, nvram, emulated, job
    )


def _refuse_foreign_disks(image: Domain) -> None:
    """A disk that we cannot copy would be written to by image and clone alike."""
    for disk in image.disks:
        if disk.foreign:
            raise Refused(
                "environment_error",
                f"disk {disk.target} of {image.name} is of type {disk.source}, which cannot be copied",
                "images have disks that are files, block devices or volumes of a pool",
            )


def needed(mode: str, sources: list[Source]) -> int:
    """Bytes that the copies take at once."""
    return LINKED_BYTES * len(sources) if mode == "linked" else sum(source.allocation_bytes for source in sources)


def _macs(want: VmClone, image: Domain, fresh: list[str]) -> list[str]:
    if want.mac is None:
        return fresh[: len(image.nics)]
    if len(want.mac) != len(image.nics):
        raise Refused(
            "wrong_input",
            f"--mac names {len(want.mac)} addresses, {image.name} has {len(image.nics)} network cards",
            "give one for each card",
        )
    return list(want.mac)


def stem(name: str) -> str:
    """An image's name in the names of its files: some tools take what precedes a colon for a protocol."""
    return name.replace(":", "@")


def random_mac(chance: random.Random | random.SystemRandom) -> str:
    """A MAC address in QEMU's own range, 52:54:00."""
    return "52:54:00:" + ":".join(f"{chance.randrange(256):02x}" for _ in range(3))


def usable_pools(pools: list[dict[str, Any]], wanted: str | None, *, files: bool) -> list[dict[str, Any]]:
    """The pools that can take a clone's disks: those of files, or the one that the settings name."""
    takes_files = [pool for pool in pools if not files or (pool["type"] in domain_xml.FILE_POOLS and pool["path"])]
    return [pool for pool in takes_files if wanted in (None, pool["name"])]


def roomiest(
    pools: list[dict[str, Any]], wanted: str | None, needed: int, reserve: int, *, files: bool
) -> dict[str, Any]:
    """The pool with most room among those that can take files; the one called `wanted` when that is given."""
    usable = usable_pools(pools, wanted, files=files)
    if not usable:
        what = f"no active file pool called {wanted}" if wanted else "no active storage pool of files"
        raise Refused("environment_error", f"this host has {what}", "`virsh pool-list --all` there shows its pools")
    best = max(usable, key=lambda pool: int(pool["free_bytes"]))
    room = int(best["free_bytes"]) - reserve
    if needed > room:
        raise Refused(
            "no_capacity",
            f"{needed >> 20} MiB of disk are needed, pool {best['name']} has {max(0, room) >> 20} MiB to give",
            "make room in it, or choose another host with --on",
        )
    return best


def _copy(source: Source, want: VmClone, pool: dict[str, Any], job: str, *, only: bool) -> Copy:
    format = "qcow2" if want.mode == "linked" else source.disk.format
    extension = EXTENSIONS.get(format, format)
    name = f"{want.hostname}.{extension}" if only else f"{want.hostname}-{source.disk.target}.{extension}"
    path = os.path.join(str(pool["path"] or ""), name)
    return Copy(
        target=source.disk.target,
        source=source.path,
        source_format=source.disk.format,
        part=f"{path}.{job}.part",
        path=path,
        format=format,
        capacity_bytes=source.capacity_bytes,
        allocation_bytes=source.allocation_bytes,
    )


def edits(plan: ClonePlan, want: VmClone, paths: dict[str, str], seed: str | None = None) -> Edits:
    """The edits of the definition; `paths` says where each target's disk came to lie, `seed` where cloud-init's is."""
    return Edits(
        name=plan.name,
        uuid=plan.uuid,
        macs=plan.macs,
        disks={copy.target: (paths[copy.target], copy.format) for copy in plan.copies},
        nvram=plan.nvram[1] if plan.nvram else None,
        vcpus=want.vcpus,
        memory_bytes=want.memory,
        emulated=plan.emulated,
        mark={
            "kind": "clone",
            "image": plan.image,
            "job": plan.job,
            "mode": plan.mode,
            "customize": want.customize,  # whether its machine-id was taken from it
            **({"seed": seed} if seed else {}),
            **_marks(want),
            # A static address stands in no lease, and the neighbour table forgets it.
            **({"ip": want.ip.partition("/")[0]} if want.ip else {}),
        },
        seed=seed,
    )


def _marks(want: VmClone) -> dict[str, str]:
    """What is kept with the VM of what was asked for."""
    found = {"fleet": want.fleet, "template": want.template, "tags": ",".join(want.tags or ())}
    return {name: value for name, value in found.items() if value}


def removable(disks: list[str], others: dict[str, list[str]]) -> tuple[list[str], dict[str, str]]:
    """(disks that may be deleted, those that may not and who uses them).

    `others` maps every other domain to all files that its disks consist of, backing files included.
    """
    users = {path: name for name, chain in sorted(others.items()) for path in chain}
    kept = {path: users[path] for path in disks if path in users}
    return [path for path in disks if path not in kept], kept
