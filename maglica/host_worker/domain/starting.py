"""Before a VM is started: nothing may rest on its disks, what they rest on has to be as it was, and no other VM that
lives has its disks or MAC addresses."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

from maglica.errors import Failed, Refused
from maglica.host_worker.disk import bases, dependants
from maglica.host_worker.disk.modes import Source
from maglica.host_worker.domain import contention, domain_xml, guarding
from maglica.host_worker.domain import look as looking
from maglica.host_worker.domain.domain_xml import Domain
from maglica.host_worker.host import Host

log = logging.getLogger("maglica.host_worker")


def look(name: str, host: Host, *, ignore_changed_base: bool, job: str, text: str | None = None) -> list[str]:
    """The files that the guest will write to; refused when it must not. `text`: what will run, where that is not the
    definition."""
    defined = host.hypervisor.definition(name)
    domain = domain_xml.read(defined)
    guarding.refuse_image(domain)
    guarding.refuse_retired(domain)
    sources = looking.sources(host.hypervisor, domain, host.storage)
    disks = [source.path for source in sources]
    refuse_shared(name, disks, host)
    if host.hypervisor.has_files:
        refuse_missing(name, sources)
        _refuse_changed(domain, ignore_changed_base, host, job)
    contention.refuse(name, text or defined, host.hypervisor)
    return disks


def refuse_used(name: str, host: Host) -> None:
    """Refuse to let a VM go on that has its disks open, when others rest on them by now, or have them."""
    text = host.hypervisor.running_definition(name)
    disks = [source.path for source in looking.sources(host.hypervisor, domain_xml.read(text), host.storage)]
    refuse_shared(name, disks, host, "cannot go on")
    contention.refuse(name, text, host.hypervisor, "cannot go on")


def refuse_shared(name: str, disks: list[str], host: Host, what: str = "cannot be started") -> None:
    """A disk that others rest on must never change: every one of them would be damaged."""
    _, shared = looking.users_of(host.hypervisor, name, disks)
    resting = dependants.of(host.hypervisor, disks)
    used = shared or {one.base: one.domain or f"the overlay {one.path}" for one in resting}
    if used:
        path, user = next(iter(used.items()))
        raise Refused(
            "protected",
            f"{name} {what}: {user} uses its disk {path}",
            "clone it, or remove what depends on it first",
            details={"used": used},
        )


def refuse_used_since(name: str, disks: Sequence[str], host: Host, what: str = "cannot be started") -> None:
    """The same once nobody can come to rest on them any more: a clone may have begun and ended since it was asked."""
    if host.storage.was_used(disks):
        try:
            refuse_shared(name, list(disks), host, what)
        except Refused as error:
            raise Failed(error.code, error.message, error.hint, details=error.details) from None


def refuse_missing(name: str, sources: Sequence[Source], what: str = "cannot be started") -> None:
    """Files that a disk consists of, and that are not there."""
    for source in sources:
        disk = source.path
        for link in looking.chain(disk, source.disk.format):
            if not os.path.exists(link):
                why = f"its disk {disk} is gone" if link == disk else f"its disk {disk} rests on {link}, which is gone"
                raise Refused(
                    "unknown_entity",
                    f"{name} {what}: {why}",
                    "bring that file back as it was; without it the guest's data cannot be read",
                )


def _refuse_changed(domain: Domain, ignore: bool, host: Host, job: str) -> None:
    trouble = looking.base_trouble(host.hypervisor, domain)
    if trouble is None:
        return
    if ignore:
        log.warning("job=%s vm=%s starts although %s", job, domain.name, trouble)
        return
    raise Refused(
        "wrong_state",
        f"{domain.name} cannot be started: {trouble}",
        "bring the file back as it was when this was cloned, or clone it again; --ignore-changed-base starts it anyway,"
        " perhaps with a damaged disk",
    )


@contextmanager
def to_be_written(
    name: str, disks: Sequence[str], host: Host, text: str | None = None, *, lives: bool = True
) -> Iterator[None]:
    """Around the start: no job copies these files meanwhile, and they may be written (again). With `lives`, no other VM
    has come to life with what it has since that was looked at. `text`: what will run, where that is not the definition.
    """
    what = f"{name} cannot be started"
    with host.storage.changing(disks, what), _alone(name, text, host, what) if lives else nullcontext():
        refuse_used_since(name, disks, host)
        for disk in disks:
            bases.release(disk, unknown=True)
        yield


@contextmanager
def _alone(name: str, text: str | None, host: Host, what: str) -> Iterator[None]:
    text = text or host.hypervisor.definition(name)
    with host.storage.bringing_to_life(contention.keys(text, host.hypervisor), what):
        try:
            contention.refuse(name, text, host.hypervisor)
        except Refused as error:  # something was changed by now
            raise Failed(error.code, error.message, error.hint) from None
        yield
