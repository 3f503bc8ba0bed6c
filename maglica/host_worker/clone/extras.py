"""A clone's further disks, empty or for swapping: planned, made under names that hold the job's id, named, defined.

They are sparse files beside its other disks; the guest finds the one for swapping by its label (mkswap(8)).
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from maglica.actions.vm.clone import VmClone
from maglica.errors import Refused
from maglica.host_worker.clone.plan import ClonePlan
from maglica.host_worker.disk import copying
from maglica.host_worker.domain.domain_xml import Domain, NewDisk
from maglica.host_worker.guest.model import SWAP_LABEL
from maglica.host_worker.host import Host
from maglica.host_worker.work import Work, must

LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Extra(NamedTuple):
    """One of them; `swap`: formatted as swap space."""

    target: str
    bus: str
    part: str
    path: str
    format: str
    size_bytes: int
    swap: bool


def plan(want: VmClone, image: Domain, todo: ClonePlan, folder: str | None, files: bool) -> list[Extra]:
    """What there shall be beside the image's disks. `folder`: the pool's; None where it has none."""
    sizes = [(size, False) for size in want.disks or ()] + ([(want.swap, True)] if want.swap else [])
    if not sizes:
        return []
    if want.format:
        raise Refused("wrong_input", "--format writes the first disk alone: --disks and --swap do nothing")
    if any(copy.volume for copy in todo.copies):
        raise Refused("environment_error", f"pool {todo.pool} takes no files for --disks and --swap", "choose --mode")
    if want.swap and not files:
        raise Refused("environment_error", "there are no real disks that could be formatted for swapping", "--swap=off")
    first = next((disk for disk in image.disks if disk.copied), None)
    prefix = first.target[:2] if first and first.target[:2] in ("vd", "sd") else "vd"
    bus = (first.bus if first and first.target[:2] == prefix else None) or ("virtio" if prefix == "vd" else "scsi")
    taken = {disk.target for disk in image.disks}
    free = [target for letter in LETTERS if (target := prefix + letter) not in taken]
    if len(sizes) > len(free):
        raise Refused("wrong_input", f"{image.name} has room for {len(free)} more disks, not {len(sizes)}")
    return [
        _extra(want, todo, folder or "", target, bus, *size, files=files)
        for target, size in zip(free, sizes, strict=False)
    ]


def _extra(
    want: VmClone, todo: ClonePlan, folder: str, target: str, bus: str, size: int, swap: bool, *, files: bool
) -> Extra:
    format = "raw" if swap or not files else "qcow2"
    name = f"{want.hostname}-{'swap' if swap else target}.{'img' if format == 'raw' else format}"
    path = os.path.join(folder, name)
    return Extra(target, bus, f"{path}.{todo.job}.part", path, format, size, swap)


def make(extras: list[Extra], todo: ClonePlan, host: Host, work: Work) -> None:
    """Make them; nothing finds them before they are named."""
    if not extras:
        return
    with work.step("disks", ", ".join(f"{one.target} {one.size_bytes >> 20} MiB" for one in extras)):
        for one in extras:
            if not host.hypervisor.has_files:
                name = os.path.basename(one.path)
                work.undo("delete_volume", pool=todo.pool, name=name)
                host.hypervisor.create_volume(todo.pool, name, one.size_bytes)
                continue
            work.undo("remove_part", path=one.part)
            argv = ["qemu-img", "create", "-q", "-f", one.format, "--", one.part, str(one.size_bytes)]
            must(work.run(argv), f"disk {one.target}")
            if one.swap:
                must(work.run(["mkswap", "-L", SWAP_LABEL, "--", one.part]), f"swap on disk {one.target}")


def name(extras: list[Extra], host: Host, work: Work) -> None:
    """Give the files their final names."""
    for one in extras:
        if host.hypervisor.has_files:
            copying.link(one.part, one.path, work)


def defined(extras: list[Extra]) -> tuple[NewDisk, ...]:
    """How they stand in the definition."""
    return tuple(NewDisk(one.target, one.bus, one.path, one.format) for one in extras)


def shown(extras: list[Extra]) -> dict[str, Any]:
    """What a dry run prints of them."""
    told = [{"target": one.target, "path": one.path, "size_bytes": one.size_bytes, "swap": one.swap} for one in extras]
    return {"further_disks": told} if told else {}


def refuse_networks(want: VmClone, image: Domain, known: list[str]) -> None:
    """Refuse networks that there are not, or of which there are more than cards."""
    if not want.networks:
        return
    if len(want.networks) > len(image.nics):
        raise Refused(
            "wrong_input", f"--networks names {len(want.networks)}, {image.name} has {len(image.nics)} network cards",
            "give one for each card, or fewer",
        )  # fmt: skip
    missing = [network for network in want.networks if network not in known]
    if missing:
        hint = f"there are {', '.join(known) or 'none'}"
        raise Refused("unknown_entity", f"there is no network {missing[0]} on this host", hint)
