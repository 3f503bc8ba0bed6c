"""What a clone will be, decided from facts: values in, values out. `Refused` where it cannot be."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from maglica.actions.vm.clone import VmClone
from maglica.errors import Refused
from maglica.host_worker.disk import bases, modes
from maglica.host_worker.disk.bases import Base
from maglica.host_worker.disk.modes import Choice, Source, Volume
from maglica.host_worker.domain import domain_xml
from maglica.host_worker.domain.domain_xml import Domain, Edits

EXTENSIONS = {"qcow2": "qcow2", "raw": "img"}


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
    volume: Volume | None = None  # the image's logical volume, where this will be a snapshot of it


class ClonePlan(NamedTuple):
    """Everything that a clone will do on this host."""

    image: str
    name: str
    uuid: str
    macs: list[str]
    mode: str
    why: str  # of all modes this one
    needed_bytes: int  # at once
    pool: str
    free_bytes: int  # what the pool has to give
    copies: list[Copy]
    nvram: tuple[str, str] | None  # (image's, clone's)
    emulated: bool
    job: str

    @property
    def whole_bytes(self) -> int:
        """What a full copy would take."""
        return sum(copy.allocation_bytes for copy in self.copies)

    def shown(self) -> dict[str, Any]:
        """What a dry run prints."""
        return {
            "image": self.image,
            "name": self.name,
            "mode": self.mode,
            "why": self.why,
            "needed_bytes": self.needed_bytes,
            "saved_bytes": max(0, self.whole_bytes - self.needed_bytes),
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
    order: Sequence[str],
    emulated: bool,
    files: bool,
    thin_limit: float = 100.0,
) -> ClonePlan:
    """Decide where every disk goes and what the clone will be.

    `pools` as `look.pools` gives them; `pool` is the setting, `order` that of the modes, `thin_limit` that of thin
    pools in percent; `files` says whether disks are files of this host (the test driver has none). Raises `Refused`
    when something does not fit.
    """
    _refuse_foreign_disks(image)
    macs = _macs(want, image, fresh_macs)
    original = domain_xml.is_image(image, False)
    found = modes.ways(sources, pools, original=original, order=order, files=files, thin_limit=thin_limit)
    chosen = modes.choose(want.mode, found, pools, want.pool or pool, f"{want.hostname} cannot be cloned")
    copies = [_copy(source, want, chosen, job, only=len(sources) == 1) for source in sources]
    nvram = (image.nvram, domain_xml.own_path(image.nvram, image.name, want.hostname)) if image.nvram else None
    return ClonePlan(
        image=want.image,
        name=want.hostname,
        uuid=uuid,
        macs=macs,
        mode=chosen.mode,
        why=chosen.why,
        needed_bytes=chosen.needed_bytes,
        pool=str(chosen.pool["name"]),
        free_bytes=int(chosen.pool["free_bytes"]) - int(chosen.pool["reserve_bytes"]),
        copies=copies,
        nvram=nvram,
        emulated=emulated,
        job=job,
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
    """The pools that can take a clone's disks: those of files or of logical volumes, or the one that the settings
    name."""
    takes = [pool for pool in pools if not files or (pool["type"] in TAKES_DISKS and pool["path"])]
    return [pool for pool in takes if wanted in (None, pool["name"])]


TAKES_DISKS = (*domain_xml.FILE_POOLS, "logical")


def with_room(
    pools: list[dict[str, Any]], reserve: int, reserves: Mapping[str, int], promised: Callable[[str], int]
) -> list[dict[str, Any]]:
    """Pools with `reserve_bytes`, what stays free in each, and `room_bytes`, what each has to give: less than nothing
    where there is too little."""
    return [
        {
            **pool,
            "reserve_bytes": (kept := 0 if pool["type"] == "logical" else reserves.get(pool["name"], reserve)),
            "room_bytes": int(pool["free_bytes"]) - kept - promised(pool["name"]),
        }
        for pool in pools
    ]


def _copy(source: Source, want: VmClone, chosen: Choice, job: str, *, only: bool) -> Copy:
    thin = chosen.mode == "thin"
    format = "qcow2" if chosen.mode == "linked" else source.disk.format
    extension = "" if thin else "." + EXTENSIONS.get(format, format)
    name = f"{want.hostname}{extension}" if only else f"{want.hostname}-{source.disk.target}{extension}"
    path = os.path.join(str(chosen.pool["path"] or ""), name)
    return Copy(
        target=source.disk.target,
        source=source.path,
        source_format=source.disk.format,
        part=f"{path}.{job}.part",
        path=path,
        format=format,
        capacity_bytes=source.capacity_bytes,
        allocation_bytes=source.allocation_bytes,
        volume=source.volume if thin else None,
    )


def edits(
    plan: ClonePlan, want: VmClone, paths: dict[str, str], seed: str | None = None, rests_on: Sequence[Base] = ()
) -> Edits:
    """The edits of the definition; `paths` says where each target's disk came to lie, `seed` where cloud-init's is,
    `rests_on` what the disks rest on."""
    return Edits(
        name=plan.name,
        uuid=plan.uuid,
        macs=plan.macs,
        disks={copy.target: (paths[copy.target], copy.format) for copy in plan.copies},
        nvram=plan.nvram[1] if plan.nvram else None,
        vcpus=want.vcpus,
        memory_bytes=want.memory,
        emulated=plan.emulated,
        mark=mark(plan, want, seed, rests_on),
        seed=seed,
        devices=frozenset(copy.target for copy in plan.copies if copy.volume),
        networks=tuple(want.networks or ()),
    )


def mark(plan: ClonePlan, want: VmClone, seed: str | None = None, rests_on: Sequence[Base] = ()) -> dict[str, str]:
    """What is kept with the VM of how it was made. Arguments as for `edits`."""
    return {
        "kind": "clone",
        "image": plan.image,
        "job": plan.job,
        "mode": plan.mode,
        "customize": want.customize,  # whether its machine-id was taken from it
        **({"seed": seed} if seed else {}),
        **_marks(want),
        # A static address stands in no lease, and the neighbour table forgets it.
        **(address_mark(want.ip, want.gateway, want.dns or ()) if want.ip else {}),
        **({"bases": bases.to_mark(rests_on)} if rests_on else {}),
    }


def address_mark(address: str, gateway: str | None, dns: Sequence[str]) -> dict[str, str]:
    """What is kept with a VM of a static address; '' where there is nothing to keep."""
    return {"ip": address.partition("/")[0], "address": address, "gateway": gateway or "", "dns": ",".join(dns)}


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
