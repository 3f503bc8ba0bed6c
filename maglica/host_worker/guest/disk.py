"""A guest's disks, opened by libguestfs in a process of its own that can be killed.

`customise` makes a clone a machine of its own and reads the disk again; `verify` does only the second reading;
`inspect_disks` says what is there. All three start one appliance, which costs seconds, and hold no state between
calls. A crash in the middle of `customise` leaves a disk that is half done: its owner throws it away.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from maglica.errors import Refused
from maglica.host_worker.guest import conversation
from maglica.host_worker.guest.model import GuestRequest

FORMATS = ("raw", "qcow2", "qcow", "qed", "vmdk", "vdi", "vpc", "vhdx")


@dataclass(frozen=True)
class Disk:
    """An image file or block device. The format is never guessed: a raw disk's owner can write any header into it."""

    path: str
    format: str

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise Refused("wrong_input", f"disk format {self.format!r} is not one of {', '.join(FORMATS)}")


class Terms(NamedTuple):
    """On what terms an appliance works for somebody."""

    kvm: bool  # False makes it run without
    deadline: float  # seconds, for everything
    on_step: Callable[[str], None]  # hears each step when it begins
    cancelled: Callable[[], bool]  # asked ten times a second
    mark: str = ""  # in the environment of all that is started


class Building(NamedTuple):
    """What is done to a disk besides making its system a machine of its own: filled from an archive, or made as large
    as it can be; and scripts that run in it."""

    archive: str | None = None  # a path; not packed
    grow: bool = False
    hooks: tuple[str, ...] = ()
    agent: bool = False  # whether QEMU's guest agent has to be in it at the end


def customise(disks: Sequence[Disk], request: GuestRequest, terms: Terms) -> dict[str, Any]:
    """Change the disks (all of one machine, which must not run) as `request` says, and read them again.

    The steps are launch, inspect, read, edit, verify, close. Returns os, network, host_keys, seconds per step, verified
    and edits (texts without secrets).

    Raises `Refused` (nothing was changed: unknown system, no libguestfs, no disk) and `Failed` with `cancelled`,
    `timeout`, `wrong_state` (the second reading differs) or `environment_error`. No process is left in any case.
    """
    return _in_a_child(task("customise", disks, request), terms)


def verify(disks: Sequence[Disk], request: GuestRequest, terms: Terms) -> dict[str, Any]:
    """Read disks that `customise` changed and that were not booted since; nothing is written. Arguments, answer and
    errors as there."""
    return _in_a_child(task("verify", disks, request), terms)


def inspect_disks(disks: Sequence[Disk], terms: Terms, request: GuestRequest | None = None) -> dict[str, Any]:
    """What is on the disks: os (its family is None when it is not known) and network tool; nothing is written.

    With a request also the edits that `customise` would make, or its refusal.
    """
    return _in_a_child(task("inspect", disks, request), terms)


def alter(verb: str, disks: Sequence[Disk], request: GuestRequest, terms: Terms) -> dict[str, Any]:
    """Give a machine another name (`rename`) or another address (`readdress`), and read the disks again; `edits` is
    empty when all was so already. Arguments, answer and errors as in `customise`.
    """
    return _in_a_child(task(verb, disks, request), terms)


def build(disks: Sequence[Disk], request: GuestRequest, what: Building, terms: Terms) -> dict[str, Any]:
    """As `customise`; before that the disk gets its content, and after it scripts are run and the boot loader is
    installed. Returns also `hooks`: the exit status and the output of each.
    """
    return _in_a_child({**task("build", disks, request), "build": what._asdict()}, terms)


def prepare(disks: Sequence[Disk], terms: Terms, *, upgrade: bool) -> dict[str, Any]:
    """Make an image's disks of a machine's: take away what was its own, and read the disks again. With `upgrade` its
    packages are upgraded first, by its own package manager and over this host's network.

    Arguments and errors as in `customise`. Returns os, edits, verified, seconds per step, `cloud_init`: whether it is
    there, and `upgraded`: packages.
    """
    return _in_a_child(task("upgrade" if upgrade else "seal", disks, None), terms)


def grow(disk: Disk, terms: Terms) -> dict[str, Any]:
    """Make the last partition of a disk and the file system in it as large as the disk is now: `growing.grow` says what
    comes back. Arguments and errors as in `customise`; no operating system needs to be there.
    """
    return _in_a_child(task("grow", [disk], None), terms)


def task(verb: str, disks: Sequence[Disk], request: GuestRequest | None) -> dict[str, Any]:
    if not disks:
        raise Refused("wrong_input", "the machine has no disk to customise")
    for disk in disks:
        if not os.path.exists(disk.path):
            raise Refused("unknown_entity", f"disk {disk.path} does not exist")
    pairs = [[os.path.abspath(disk.path), disk.format] for disk in disks]
    return {"verb": verb, "disks": pairs, "request": request.to_map() if request else None}


def _in_a_child(todo: dict[str, Any], terms: Terms) -> dict[str, Any]:
    with conversation.one_task(kvm=terms.kvm, mark=terms.mark) as child:
        return conversation.converse(
            child, todo, deadline=terms.deadline, on_step=terms.on_step, cancelled=terms.cancelled
        )
