"""Inside the child: one launched and inspected appliance for clone after clone of one image.

The first clone's disks are in the slots when the appliance is launched, so that it is inspected on them; those of each
later one take their place. Between two clones nothing is mounted and the slots are parked. What the kernel of the
appliance knows of a disk (partition table, pages, volume groups) is dropped before the next one is looked at, and the
beginning of every disk is compared with the first clone's: all begin as their image does.

After any error but a refusal that left everything in order, the child ends: an appliance in doubt serves nobody.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from maglica.errors import Failed, MaglicaError, Refused
from maglica.host_worker.guest import inspection
from maglica.host_worker.guest.inspection import Layout
from maglica.host_worker.guest.model import GuestRequest
from maglica.host_worker.guest.storage_daemon import StorageDaemon

BEGINNING = 68 << 10
"""Bytes. In there lie partition tables with their identifiers, LVM's labels, and the superblocks of file systems."""

Task = Mapping[str, Any]


class Hands(NamedTuple):
    """What the child does with libguestfs."""

    launch: Callable[[list[tuple[str, str]], int], Any]
    work: Callable[..., dict[str, Any]]
    steps: Callable[[], Any]


class Known(NamedTuple):
    """What was found on the first clone and holds for all."""

    layout: Layout
    beginnings: dict[str, str]  # of each disk


class Appliance:
    """A storage daemon, and the appliance once there is a first clone."""

    def __init__(self, daemon: StorageDaemon, memory: int, hands: Hands) -> None:
        self._daemon = daemon
        self._memory = memory
        self._hands = hands
        self._guest: Any = None
        self._known: Known | None = None

    def serve(self, task: Task) -> dict[str, Any]:
        """Customise one clone's disks; the report. `Refused` leaves everything in order once the system is known."""
        steps = self._hands.steps()
        request = GuestRequest.from_map(task["request"])
        known = self._again(task, steps) if self._known else self._first(task, steps)
        refusal: Refused | None = None
        report: dict[str, Any] = {}
        try:
            report = self._hands.work(self._guest, known.layout, "customise", request, steps)
        except Refused as error:
            refusal = error
        with steps.step("detach"):
            self._leave(known.layout)
            self._daemon.detach()
        self._known = known
        if refusal:
            raise refusal
        return {**report, "seconds": steps.seconds, "inspection": known.layout.how}

    def close(self) -> None:
        if self._guest is not None:
            self._guest.close()

    @property
    def good(self) -> bool:
        """Whether a clone was served to its end."""
        return self._known is not None

    def _first(self, task: Task, steps: Any) -> Known:
        with steps.step("attach"):
            self._daemon.attach(task["disks"])
        with steps.step("launch"):
            self._guest = self._hands.launch(self._daemon.drives(), self._memory)
        with steps.step("inspect"):
            # Before anything is mounted: that would change what all clones begin with.
            beginnings = _beginnings(self._guest, [str(one) for one in self._guest.list_devices()])
            return Known(inspection.layout(self._guest), beginnings)

    def _again(self, task: Task, steps: Any) -> Known:
        known, self._known = self._known, None
        assert known is not None
        with steps.step("greet"):
            self._guest.ping_daemon()
        with steps.step("attach"):
            self._daemon.attach(task["disks"])
            for device in known.beginnings:
                # Lets go of the pages that the kernel has of it, too.
                self._guest.blockdev_rereadpt(device)
            if known.layout.volumes:
                self._guest.lvm_scan(True)
            if _beginnings(self._guest, known.beginnings) != known.beginnings:
                raise Failed("wrong_state", "the clone's disk does not begin as its image does")
        return known

    def _leave(self, layout: Layout) -> None:
        """Nothing is mounted and no volume group holds a disk. What was mounted for writing was unmounted, and so
        written, before the second reading.
        """
        self._guest.umount_all()
        if layout.volumes:
            self._guest.vg_activate_all(False)


def _beginnings(guest: Any, devices: Iterable[str]) -> dict[str, str]:
    """A digest of what each disk begins with."""
    return {device: hashlib.sha256(guest.pread_device(device, BEGINNING, 0)).hexdigest() for device in devices}


def serve(first: Task, hear: Callable[[], Task], tell: Callable[[dict[str, Any]], None], hands: Hands) -> None:
    """Serve clones until an error leaves a doubt. `first` tells sizes and memory (bytes), and is the first clone."""
    try:
        with StorageDaemon(os.environ["LIBGUESTFS_TMPDIR"], first["sizes"]) as daemon:
            appliance = Appliance(daemon, first["memory"], hands)
            try:
                _serve(appliance, first, hear, tell)
            finally:
                appliance.close()
    except MaglicaError as error:
        tell({"event": "error", "error": error.to_wire(), "good": False})


def _serve(appliance: Appliance, task: Task, hear: Callable[[], Task], tell: Callable[[dict[str, Any]], None]) -> None:
    while True:
        try:
            tell({"event": "done", "report": appliance.serve(task)})
        except MaglicaError as error:
            # The last word of one that is no longer good comes after its appliance has ended.
            if not (isinstance(error, Refused) and appliance.good):
                raise
            tell({"event": "error", "error": error.to_wire(), "good": True})
        task = hear()
