"""How large a disk shall be, and what speaks against it. Values in, values out; sizes in bytes."""

from __future__ import annotations

from typing import Any, NamedTuple

from maglica import kinds
from maglica.errors import Refused
from maglica.host_worker.disk.modes import Volume
from maglica.host_worker.size.memory import words

SECTOR = 512
GROWS = ("qcow2", "raw")


class Facts(NamedTuple):
    """What a decision needs. `capacity`: what the guest sees; `snapshots`: in the file; `used_by`: who rests on it.
    `pool`: where it lies, with the room that there is to give.
    """

    name: str
    target: str
    path: str
    format: str
    capacity: int
    file: bool
    volume: Volume | None
    snapshots: int
    used_by: str
    pool: str
    room: int
    limit: int


def plan(want: int | str, facts: Facts) -> int:
    """Its new size; the same as before where nothing is to be done. `Refused` says what is possible instead."""
    what = f"disk {facts.target} of {facts.name}"
    size = kinds.changed(facts.capacity, want)
    if size == facts.capacity:
        return size
    if size < facts.capacity:
        raise Refused(
            "wrong_input",
            f"{what} has {words(facts.capacity)} and cannot shrink to {words(size)}: what is at its end would be lost",
            f"attach a smaller disk and copy what you need; a clone of {facts.name} needs the same room",
        )
    if size % SECTOR:
        raise Refused("wrong_input", f"{what}: {size} bytes are not a multiple of {SECTOR}", "choose a whole size in K")
    if size > facts.limit:
        raise Refused(
            "no_capacity",
            f"{what} cannot have {words(size)}: the limit is {words(facts.limit)}",
            "[host_worker] disk_limit of that host sets it",
        )
    _refuse_kind(what, facts)
    more = size - facts.capacity
    thin = facts.volume is not None and facts.volume.thin_pool is not None
    if more > facts.room and not thin:
        raise Refused(
            "no_capacity",
            f"{what} cannot grow by {words(more)}: pool {facts.pool} has {words(max(0, facts.room))} to give",
            "make room in it, or attach a disk in another pool",
        )
    return size


def _refuse_kind(what: str, facts: Facts) -> None:
    if facts.used_by:
        raise Refused(
            "protected",
            f"{what} cannot grow: {facts.used_by} rests on it",
            "flatten or remove what depends on it first",
        )
    if not facts.file and facts.volume is None:
        raise Refused(
            "environment_error",
            f"{what} is the device {facts.path}, which is no logical volume of this host",
            "make it larger where it comes from",
        )
    if facts.format not in GROWS:
        raise Refused(
            "environment_error",
            f"{what} is of format {facts.format}, which cannot grow",
            f"expected {' or '.join(GROWS)}",
        )
    if facts.snapshots:
        raise Refused(
            "wrong_state",
            f"{what} has {facts.snapshots} snapshots in it, of the size that it has now",
            "remove them first: to go back to one of them would make it small again",
        )


def refusal(name: str, target: str | None, disks: list[Any]) -> Refused:
    """Why a disk of that name cannot be made larger: there is none, or it is none that a guest writes to."""
    own = [disk.target for disk in disks if disk.copied]
    hint = f"its disks are {', '.join(own)}" if own else f"{name} has no disk of its own"
    found = next((disk for disk in disks if disk.target == target), None)
    if found is None:
        return Refused("unknown_entity", f"{name} has no disk {target}" if target else f"{name} has no disk", hint)
    why = (
        f"is a {found.device}" if found.device not in ("disk", "lun")
        else "is on a network, or of a kind that only its owner can make larger" if found.foreign
        else "is read-only, or shared with others"
    )  # fmt: skip
    return Refused("wrong_input", f"disk {target} of {name} {why}", hint)
