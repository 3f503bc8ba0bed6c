"""Where many VMs of one kind go: as `place.choose` would choose one after the other, and much sooner.

Values in, values out. What all of them have in common is looked at once; then each costs a look at one host.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import NamedTuple

from maglica import declare
from maglica.actions.vm.build import DISK, MEMORY, VmBuild
from maglica.client_worker.placement import place
from maglica.client_worker.placement.place import Choice, Reserved, Seen, Survey, Wanted
from maglica.declare import Action
from maglica.errors import MaglicaError, Refused
from maglica.job import OPEN, Job


class Whose(NamedTuple):
    """The job that is about to give a name, with what it is about; without a job it is one of the same request."""

    job: str = ""
    vm: str | None = None
    host: str = ""

    @classmethod
    def by(cls, job: Job) -> Whose:
        return cls(job["id"], job["object"], job["host"])


class Rooms:
    """What is given away to jobs that the hosts could not tell of yet: room, and names with whose they are."""

    def __init__(self, reserved: dict[str, Reserved], names: dict[str, Whose]) -> None:
        self.reserved, self.names = reserved, names

    def copy(self) -> Rooms:
        """For a try."""
        return Rooms(dict(self.reserved), dict(self.names))

    def take(self, host: str, want: Wanted, survey: Survey, job: str) -> None:
        """Give a VM its room on a host."""
        self.reserved[host] = place.reserve(self.reserved.get(host, Reserved()), want, survey)
        self.names[want.hostname] = Whose(job, want.hostname, host)

    def refuse_name(self, name: str) -> None:
        """Refuse a name that somebody is about to give to a VM."""
        whose = self.names.get(name)
        if whose and whose.job:
            raise place.worked_on(name, *whose)
        if whose:
            raise Refused("already_exists", f"{name} is wanted twice", "give each another name")


def given_away(seen: Seen, records: Iterable[Job]) -> Rooms:
    """What these jobs, which make VMs, have been given and no host has shown in its survey yet.

    Also jobs count that were done while the hosts were asked: the one may have told what it has before, and the other
    let us wait until after.
    """
    rooms = Rooms({}, {})
    for record in records:
        survey, name = seen.surveys.get(record["host"]), str(record["object"])
        if record["state"] in OPEN or name not in seen.vms:
            rooms.names[name] = Whose.by(record)
        if survey is None or any(host == record["host"] for host, _ in seen.vms.get(name, [])):
            continue
        try:
            want = wanted(declare.build(record["action"], record["args"]))
        except MaglicaError:  # another release wrote it
            continue
        rooms.take(record["host"], want, survey, record["id"])
    return rooms


def wanted(action: Action) -> Wanted:
    """What a clone or a VM that is built wants, in placement's words."""
    if isinstance(action, VmBuild) and not action.image:
        return _of_nothing(action)
    values = (action.as_clone(action.image) if isinstance(action, VmBuild) and action.image else action).values()
    return Wanted(
        image=values["image"],
        hostname=values["hostname"],
        on=values["on"],
        vcpus=values["vcpus"],
        memory_bytes=values["memory"],
        mode=values["mode"],
        macs=tuple(values["mac"] or ()),
        pool=values.get("pool"),
        # They are sparse; what a guest writes to them later is like what it writes to its other disks.
        extra_bytes=place.LINKED_BYTES * (len(values.get("disks") or ()) + bool(values.get("swap"))),
    )


def _of_nothing(build: VmBuild) -> Wanted:
    """How large an archive is nobody knows before it is there: it is taken for as much as `ARCHIVE_BYTES`."""
    return Wanted(
        image=place.NOTHING,
        hostname=build.name,
        on=build.on,
        vcpus=build.vcpus or 1,
        memory_bytes=build.memory or MEMORY,
        mode="full",
        macs=tuple(build.mac or ()),
        pool=build.pool,
        extra_bytes=min(build.disk or DISK, place.ARCHIVE_BYTES) if build.archive else place.LINKED_BYTES,
    )


class Spread:
    """Places for VMs that differ in nothing but their names. `fill`: one host after the other; otherwise evenly.

    What is placed is taken from `rooms`.
    """

    def __init__(
        self,
        sample: Wanted,
        seen: Seen,
        rooms: Rooms,
        weights: dict[str, float],
        closed: frozenset[str],
        *,
        fill: bool,
        ignore_missing: bool,
    ) -> None:
        """Raises `Refused` when none of them can have a place, whatever room there is."""
        self._seen, self._rooms, self._weights, self._fill = seen, rooms, weights, fill
        self._surveys = place.refuse(sample, seen, ignore_missing, closed)
        self._refused = place.unfitting(sample, self._surveys, weights, rooms.reserved)
        self._line = [self._rank(host) for host in self._surveys if host not in self._refused]
        self._count = len(self._line)
        heapq.heapify(self._line)

    def _rank(self, host: str) -> tuple[float, int, str]:
        survey, reserved = self._surveys[host], self._rooms.reserved.get(host, Reserved())
        load, free = place.load(survey, reserved, self._weights.get(host, 10.0)), place.free_memory(survey, reserved)
        return (-load, free, host) if self._fill else (load, -free, host)

    def choose(self, want: Wanted) -> Choice:
        """The host for one of them."""
        place.refuse_name(want.hostname, self._seen.vms)
        self._rooms.refuse_name(want.hostname)
        if not self._line:
            raise place.full(want, self._refused)
        rank, _, host = self._line[0]
        choice = Choice(host, self._why(host, want, abs(rank)), dict(self._refused))
        self._rooms.take(host, want, self._surveys[host], "")
        full = place.unfit(want, self._surveys[host], self._rooms.reserved[host])
        if full:
            self._refused[host] = full
            heapq.heappop(self._line)
        else:
            heapq.heapreplace(self._line, self._rank(host))
        return choice

    def _why(self, host: str, want: Wanted, load: float) -> str:
        if want.on:
            return f"--on={want.on}"
        if len(self._line) == 1:
            return "the only host that fits" if self._count == 1 else "the only host with room left"
        if self._fill:
            return f"fills {host} first, {len(self._line)} have room"
        return f"least load for its weight ({load:g}) of {len(self._line)} that fit"
