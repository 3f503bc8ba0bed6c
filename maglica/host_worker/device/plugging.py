"""Plugging devices into a VM and out of it: what it has, where it is to be changed, and how long its guest may take."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from maglica.errors import Failed, MaglicaError, Refused
from maglica.host_worker.device import elements
from maglica.host_worker.domain import domain_xml, saved, standing
from maglica.host_worker.domain.domain_xml import Domain
from maglica.host_worker.host import Host
from maglica.host_worker.hypervisor import Hypervisor
from maglica.host_worker.work import Work

POLL = 0.2  # seconds between two looks
ASK_AGAIN = 15.0  # seconds after which a guest is asked again: one that was booting has not heard
UNDO_WITHIN = 10.0  # seconds that a guest has to let go of what is taken back


class Subject(NamedTuple):
    """A VM whose devices are to be changed. `live`: what runs, `config`: its definition, as XML."""

    domain: Domain
    live: str | None
    config: str

    @property
    def name(self) -> str:
        return self.domain.name

    @property
    def uuid(self) -> str:
        return self.domain.uuid

    def either(self, find: Callable[[str | None], dict[str, str]]) -> dict[str, str]:
        """What is found in what runs or in the definition, by its key; what runs comes first."""
        return {**find(self.config), **find(self.live)}


class Places(NamedTuple):
    """Where something is changed."""

    live: bool
    config: bool

    def told(self) -> dict[str, bool]:
        return {"live": self.live, "config": self.config}


def look(name: str, host: Host, *, record_only: bool = False) -> Subject:
    """The VM of that name; `Refused` for an image, for a VM without a definition that is stored, and while it is off
    with its memory kept, unless nothing but a record is to be changed.
    """
    live, config = host.hypervisor.layout(name)
    domain = domain_xml.read(config)
    if domain_xml.is_image(domain, live is not None):
        raise Refused("protected", f"{name} is an image", "its clones get their own devices: `maglica vm clone`")
    if live is not None:
        standing.refuse_transient(name, host)
    if not record_only:
        saved.refuse_change(domain, host.hypervisor, runs=live is not None)
    return Subject(domain, live, config)


def places(subject: Subject, apply: str) -> Places:
    """Where a change with this `--apply` is made."""
    runs = subject.live is not None
    if apply == "live" and not runs:
        hint = "use --apply=config, or start it"
        raise Refused("wrong_state", f"{subject.name} is off: nothing of it is live", hint)
    return Places(runs and apply != "config", apply != "live")


def unchanged(subject: Subject, host: Host, **told: Any) -> dict[str, Any]:
    """The result when there is nothing to do."""
    return {"name": subject.name, "host": host.name, **told, "live": False, "config": False, "changed": False}


def attach_live(subject: Subject, piece: str, host: Host, work: Work) -> None:
    """Plug a device into what runs; its undo is noted first."""
    before = elements.count(subject.live, piece)
    work.undo("unplug", uuid=subject.uuid, piece=piece, before=before)
    try:
        host.hypervisor.attach_device(subject.uuid, piece)
    except MaglicaError as error:
        if "No more available PCI slots" in error.message:
            raise Failed(
                "no_capacity",
                f"{subject.name}: its machine has no free PCI slot to plug something into",
                "--apply=config changes it for its next start; or choose --bus=scsi for a disk",
            ) from None
        raise


def update_live(subject: Subject, old: str, new: str, host: Host, work: Work, *, force: bool = False) -> None:
    """Change a device of what runs; its undo is noted first."""
    work.undo("update_live", uuid=subject.uuid, piece=old)
    host.hypervisor.update_device(subject.uuid, new, force=force)


def detach_live(subject: Subject, piece: str, what: str, timeout: float, host: Host, work: Work) -> None:
    """Unplug a device from what runs and wait, at most so many seconds, until the guest has let go; its undo is noted
    first."""
    before = elements.count(subject.live, piece)
    work.undo("plug_in", uuid=subject.uuid, piece=piece, before=before)
    until = time.monotonic() + timeout
    try:
        host.hypervisor.detach_device(subject.uuid, piece)
    except MaglicaError:
        if elements.count(_live(host.hypervisor, subject.uuid), piece) >= before:
            raise  # the guest did not just obey an earlier order
    again = time.monotonic() + ASK_AGAIN
    while elements.count(_live(host.hypervisor, subject.uuid), piece) >= before:
        work.check()
        now = time.monotonic()
        if now >= until:
            state = host.hypervisor.state(subject.name)
            raise Failed(
                "environment_error",
                f"{subject.name} is {state}: its guest has not let go of {what} in {timeout:g} s; it may later",
                "is the guest up, and does it support hot-unplugging? Give it more --timeout; or use --apply=config,"
                " and it is gone after the next start",
            )
        if now >= again:
            again = now + ASK_AGAIN
            with suppress(MaglicaError):  # QEMU refuses while the first order is under way
                host.hypervisor.detach_device(subject.uuid, piece)
        time.sleep(POLL)


def define(subject: Subject, text: str, host: Host, work: Work) -> None:
    """Change the definition; its undo is noted first."""
    work.undo("redefine", uuid=subject.uuid, text=subject.config)
    host.hypervisor.define(text)


def _live(hypervisor: Hypervisor, uuid: str) -> str | None:
    found = hypervisor.layout_of(uuid)
    return found[0] if found else None


# ------------------------------------------------------------------------------------------------- taking back


def take_out(hypervisor: Hypervisor, uuid: str, piece: str, before: int) -> None:
    """Unplug a device again, where it was plugged in."""
    if elements.count(_live(hypervisor, uuid), piece) <= before:
        return
    hypervisor.detach_device(uuid, piece)
    until = time.monotonic() + UNDO_WITHIN
    while elements.count(_live(hypervisor, uuid), piece) > before:
        if time.monotonic() > until:
            raise Failed("environment_error", "the guest has not let go of it")
        time.sleep(POLL)


def put_in(hypervisor: Hypervisor, uuid: str, piece: str, before: int) -> None:
    """Plug a device in again, where it was unplugged from what still runs."""
    live = _live(hypervisor, uuid)
    if live is not None and elements.count(live, piece) < before:
        hypervisor.attach_device(uuid, piece)


def put_back(hypervisor: Hypervisor, uuid: str, piece: str) -> None:
    """Change a device back, of what still runs."""
    if elements.like(_live(hypervisor, uuid), piece) is not None:
        hypervisor.update_device(uuid, piece, force=True)
