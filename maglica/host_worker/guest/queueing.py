"""Which clone gets which warm appliance, and which ones end: values in, values out."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from typing import NamedTuple

from maglica.host_worker.guest.disk import Disk


class Part(NamedTuple):
    """One disk of an image: its size for a guest in bytes, and what tells whether it is still the same."""

    path: str
    format: str
    capacity_bytes: int
    identity: tuple[int, ...]  # device, inode, time of the last change in ns, bytes


Image = tuple[Part, ...]
"""All disks of an image, in their order."""


class Standing(NamedTuple):
    """How one appliance stands. `state` is `launching`, `busy` or `idle`, `since` when that began."""

    number: int
    image: Image
    state: str
    since: float
    launch_seconds: float


class Choice(NamedTuple):
    """`take` this one, `launch` one (after ending the idle one `end`), or, with neither, wait."""

    take: int | None = None
    launch: bool = False
    end: int | None = None


class Limits(NamedTuple):
    """`most` appliances at once; `idle` seconds that one may stand idle; whether memory has `room` for one more, and
    whether it is `short` already.
    """

    most: int
    idle: float
    room: bool = True
    short: bool = False


def choose(image: Image, waited: float, standing: Sequence[Standing], limits: Limits) -> Choice:
    """What a clone of an image that has waited so many seconds shall do.

    Another appliance is launched where none is free, unless one that works will be sooner: one that is ready and busy
    is waited for as long as its launch took.
    """
    same = [one for one in standing if one.image == image]
    idle = [one for one in same if one.state == "idle"]
    if idle:
        return Choice(take=max(idle, key=lambda one: one.since).number)
    busy = [one for one in same if one.state == "busy"]
    if busy and waited < min(one.launch_seconds for one in busy):
        return Choice()
    if len(standing) < limits.most and limits.room:
        return Choice(launch=True)
    others = [one for one in standing if one.state == "idle"]
    if others and not same:
        return Choice(launch=True, end=min(others, key=lambda one: one.since).number)
    return Choice()


def superfluous(standing: Sequence[Standing], now: float, limits: Limits) -> list[int]:
    """The idle appliances that shall end: too long idle, more than may be, or memory is needed; oldest first."""
    idle = sorted((one for one in standing if one.state == "idle"), key=lambda one: one.since)
    surplus = max(0, len(standing) - limits.most)
    return [
        one.number for place, one in enumerate(idle) if place < surplus or now - one.since > limits.idle or limits.short
    ]


def identity(path: str) -> tuple[int, ...] | None:
    """What tells an image's file from any other and from itself before a change; None when there is no such file."""
    try:
        seen = os.stat(path)
    except OSError:
        return None
    return (seen.st_dev, seen.st_ino, seen.st_mtime_ns, seen.st_size) if stat.S_ISREG(seen.st_mode) else None


def unchanged(image: Image) -> bool:
    return all(identity(part.path) == part.identity for part in image)


def fits(image: Image, disks: Sequence[Disk]) -> bool:
    """Whether these can be an image's copies."""
    return len(image) == len(disks) > 0
