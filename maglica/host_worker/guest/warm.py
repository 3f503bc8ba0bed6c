"""Warm appliances: launched by the first clone of an image, then used for clone after clone.

Each works in a child process of its own (`serving.py` in `child.py`), with a storage daemon that puts the clones' disks
under it. A clone waits its turn here; one clone at a time works in an appliance. Whatever leaves a doubt (an error, a
deadline, a child that died, a job that was cancelled in its middle) ends the appliance, and `Doubtful` says that the
clone's disks are to be thrown away. Nothing of it outlives the host worker: the child ends with the stdin that we hold,
and all it starts bears our mark.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from maglica.config import HostWorkerSection
from maglica.errors import Failed, MaglicaError, Refused
from maglica.host_worker.guest import conversation, queueing
from maglica.host_worker.guest.conversation import Child
from maglica.host_worker.guest.disk import Disk, Terms
from maglica.host_worker.guest.model import GuestRequest
from maglica.host_worker.guest.queueing import Image, Limits, Part, Standing

log = logging.getLogger("maglica.host_worker")

TICK = 0.1
"""Seconds between two looks at whether it is a clone's turn, and whether it was cancelled."""

GREETING = 20.0
"""Seconds that an idle appliance has to show that it still lives."""

PAUSE = 60.0
"""Seconds for which an image is not tried again after its appliance could not be launched."""

OVERHEAD = 128 << 20
"""Bytes that the processes around an appliance's memory take."""

TRANSLATED = 1 << 30
"""Bytes that QEMU may fill with translated code where there is no KVM."""


class Unfit(Exception):
    """No warm appliance for this clone; its disks are untouched. The text says why."""


class Doubtful(Exception):
    """Something went wrong in a warm appliance: the clone's disks are to be thrown away. The text says what."""


class Order(NamedTuple):
    """What is to be done for one clone."""

    image: Image
    disks: Sequence[Disk]
    request: GuestRequest
    terms: Terms


class _Appliance:
    """One appliance and who uses it."""

    def __init__(self, number: int, image: Image) -> None:
        self.number = number
        self.image = image
        self.child: Child | None = None
        self.state = "launching"
        self.since = time.monotonic()
        self.launch_seconds = 0.0
        self.served = 0

    def standing(self) -> Standing:
        return Standing(self.number, self.image, self.state, self.since, self.launch_seconds)

    def becomes(self, state: str) -> None:
        self.state, self.since = state, time.monotonic()

    def end(self) -> None:
        if self.child:
            self.child.stop()


class WarmAppliances:
    """All warm appliances of a host worker. `mark` is in the environment of all that is started."""

    def __init__(self, mark: str) -> None:
        self._mark = mark
        self._changed = threading.Condition()
        self._all: dict[int, _Appliance] = {}
        self._queue: list[tuple[Image, object]] = []
        self._numbers = 0
        self._unlaunched: dict[Image, tuple[float, str]] = {}
        self._closed = False

    def customise(self, order: Order, settings: HostWorkerSection) -> dict[str, Any]:
        """As `disk.customise`, with `appliance` and `note` in the report.

        Raises `Unfit`, `Doubtful`, `Refused` as a cold appliance would, and `Failed` with code `cancelled`.
        """
        ends = time.monotonic() + order.terms.deadline
        appliance = self._turn(order, settings, ends)
        fresh = appliance.child is None
        try:
            report = self._serve(appliance, order, settings, ends - time.monotonic())
        except MaglicaError as error:
            self._gives_back(appliance)
            if error.code == "cancelled" or (isinstance(error, Refused) and _of_the_request(error, appliance)):
                raise
            if fresh:
                with self._changed:
                    self._unlaunched[order.image] = (time.monotonic() + PAUSE, error.message)
            log.warning("the warm appliance %d was ended: %s", appliance.number, error.message)
            raise Doubtful(error.message) from error
        except BaseException:
            self._gives_back(appliance, good=False)
            raise
        note = "launched for this clone" if fresh else f"clone {appliance.served + 1} in it"
        self._gives_back(appliance)
        return {**report, "appliance": "warm", "note": note}

    def tidy(self, settings: HostWorkerSection) -> None:
        """End what stands idle too long, what memory is needed for, and those whose image has changed."""
        limits = limits_of(settings)
        with self._changed:
            standing = [one.standing() for one in self._all.values()]
            late = set(queueing.superfluous(standing, time.monotonic(), limits))
            late |= {one.number for one in standing if one.state == "idle" and not queueing.unchanged(one.image)}
            ended = [self._all.pop(number) for number in sorted(late)]
            self._unlaunched = {one: why for one, why in self._unlaunched.items() if why[0] > time.monotonic()}
        if ended:
            # It takes seconds when one does not end by itself, and whoever calls this has other duties.
            threading.Thread(target=_end, args=(ended, "idle, changed or in the way"), daemon=True).start()

    def close(self) -> None:
        """End those that are idle; those at work end with their clone, or with this process."""
        with self._changed:
            self._closed = True
            ended = [one for one in self._all.values() if one.state == "idle"]
            for one in ended:
                del self._all[one.number]
            self._changed.notify_all()
        _end(ended, "the host worker stops")

    def standing(self) -> list[Standing]:
        """How each stands."""
        with self._changed:
            return [one.standing() for one in self._all.values()]

    # ------------------------------------------------------------------------------------------ whose turn it is

    def _turn(self, order: Order, settings: HostWorkerSection, ends: float) -> _Appliance:
        """Wait for an appliance: one that was free, or a place for a new one."""
        began = time.monotonic()
        ticket = (order.image, object())
        with self._changed:
            self._queue.append(ticket)
        try:
            while True:
                self._may(order, settings)
                if order.terms.cancelled():
                    raise Failed("cancelled", "customising was cancelled (waiting for a warm appliance)")
                now = time.monotonic()
                if now > ends:
                    raise Unfit("none became free in time")
                found, ended = self._found(ticket, now - began, limits_of(settings, kvm=order.terms.kvm))
                _end(ended, "another image's clone needs its place")
                if found:
                    return found
                with self._changed:
                    self._changed.wait(TICK)
        finally:
            with self._changed:
                self._queue.remove(ticket)
                self._changed.notify_all()

    def _may(self, order: Order, settings: HostWorkerSection) -> None:
        if settings.warm_appliances < 1:
            raise Unfit("[host_worker] warm_appliances is 0")
        if not queueing.fits(order.image, order.disks) or not queueing.unchanged(order.image):
            raise Unfit("the image has changed, or its disks are no files")
        with self._changed:
            until, why = self._unlaunched.get(order.image, (0.0, ""))
            if self._closed:
                raise Unfit("the host worker stops")
        if until > time.monotonic():
            raise Unfit(f"one could not be launched a moment ago: {why}")

    def _found(
        self, ticket: tuple[Image, object], waited: float, limits: Limits
    ) -> tuple[_Appliance | None, list[_Appliance]]:
        """(the appliance that is this clone's now, those that had to make room for it)."""
        with self._changed:
            if self._closed or next(one for one in self._queue if one[0] == ticket[0]) is not ticket:
                return None, []
            standing = [one.standing() for one in self._all.values()]
            choice = queueing.choose(ticket[0], waited, standing, limits)
            if choice.take is not None:
                found = self._all[choice.take]
                found.becomes("busy")
                return found, []
            if not choice.launch:
                if not standing:
                    raise Unfit("the host is short of memory")
                return None, []
            ended = [] if choice.end is None else [self._all.pop(choice.end)]
            self._numbers += 1
            fresh = self._all[self._numbers] = _Appliance(self._numbers, ticket[0])
            return fresh, ended

    def _gives_back(self, appliance: _Appliance, *, good: bool = True) -> None:
        """It is free for the next clone, or it ends."""
        with self._changed:
            kept = good and not self._closed and appliance.child is not None and appliance.child.good
            if kept:
                appliance.served += 1
                appliance.becomes("idle")
            else:
                self._all.pop(appliance.number, None)
            self._changed.notify_all()
        if not kept:
            appliance.end()

    # ------------------------------------------------------------------------------------------ what is done in it

    def _serve(self, appliance: _Appliance, order: Order, settings: HostWorkerSection, left: float) -> dict[str, Any]:
        task = {
            "verb": "keep",
            "disks": [[disk.path, disk.format] for disk in order.disks],
            "request": order.request.to_map(),
            "sizes": [part.capacity_bytes for part in order.image],
            "memory": settings.warm_memory,
        }
        began = time.monotonic()
        heard = _Heard(order)
        fresh = appliance.child is None
        if fresh:
            appliance.child = Child(kvm=order.terms.kvm, mark=self._mark)
        assert appliance.child is not None
        deadline = left if fresh else min(left, settings.warm_timeout)
        report = conversation.converse(
            appliance.child,
            task,
            deadline=deadline,
            on_step=heard.step,
            cancelled=heard.cancelled if fresh else heard.cancelled_or_silent,
        )
        if fresh:
            appliance.launch_seconds = time.monotonic() - began
        return report


class _Heard:
    """What a child says, handed on; and whether it says anything at all."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._until = time.monotonic() + GREETING
        self._attached = False

    def step(self, name: str) -> None:
        self._attached = self._attached or name == "attach"
        self._order.terms.on_step(name)

    def cancelled(self) -> bool:
        return self._order.terms.cancelled()

    def cancelled_or_silent(self) -> bool:
        if not self._attached and time.monotonic() > self._until:
            raise Failed("timeout", f"the idle appliance did not answer within {GREETING:g} s")
        return self._order.terms.cancelled()


def _of_the_request(error: Refused, appliance: _Appliance) -> bool:
    """Whether a cold appliance would refuse as well: the request, or the system on the image."""
    return error.code == "wrong_input" or (appliance.child is not None and appliance.child.good)


def _end(appliances: Sequence[_Appliance], why: str) -> None:
    for one in appliances:
        log.info("ends warm appliance %d after %d clones: %s", one.number, one.served, why)
        one.end()


def image(parts: Sequence[tuple[str, str, int]]) -> Image:
    """An image by the (path, format, size in bytes) of its disks, as they are now. Raises `Unfit`."""
    found = []
    for path, format, capacity in parts:
        identity = queueing.identity(path)
        if identity is None:
            raise Unfit(f"{path} is no file whose changes could be seen")
        found.append(Part(path, format, capacity, identity))
    return tuple(found)


def limits_of(settings: HostWorkerSection, *, kvm: bool = True) -> Limits:
    """What the settings and the host's memory allow now."""
    left = memory_available() - settings.memory_reserve
    room = left >= settings.warm_memory + OVERHEAD + (0 if kvm else TRANSLATED)
    return Limits(settings.warm_appliances, settings.warm_idle, room=room, short=left < 0)


def memory_available() -> int:
    """Bytes that new processes could have without swapping, proc(5)."""
    with open("/proc/meminfo", encoding="ascii") as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
    return 0
