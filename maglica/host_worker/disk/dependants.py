"""Who rests on which files of this host, looked up in the files themselves: domains' disks, and overlays in pools."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress

from maglica.host_worker.disk import bases, qcow2
from maglica.host_worker.disk.bases import Dependant
from maglica.host_worker.domain import domain_xml, look
from maglica.host_worker.hypervisor import Hypervisor


def of(hypervisor: Hypervisor, paths: Sequence[str]) -> list[Dependant]:
    """Everything that rests on these files, at any depth. Overlays that belong to no domain count too: a job at work
    makes them before it defines anything, and a shared pool holds those of other hosts."""
    if not hypervisor.has_files or not paths:
        return []
    wanted = [os.path.realpath(path) for path in paths]
    return bases.dependants(wanted, _chains(hypervisor), own=wanted)


def chains(hypervisor: Hypervisor) -> list[list[str]]:
    """The files of each disk that a domain has, in what runs or in its definition."""
    found = []
    for _, live, config in hypervisor.layouts():
        for text in (live, config):
            for disk in domain_xml.read(text).disks if text else []:
                if disk.path:
                    links = look.chain(look.disk_path(hypervisor, disk), disk.format)
                    found.append([os.path.realpath(link) for link in links])
    return found


def _chains(hypervisor: Hypervisor) -> Iterator[tuple[str | None, list[str]]]:
    seen = set()
    for domain, _ in hypervisor.domains():
        for disk in domain.disks:
            if disk.path:
                chain = look.chain(look.disk_path(hypervisor, disk), disk.format)
                links = [os.path.realpath(link) for link in chain]
                seen.update(links)  # an overlay in the middle belongs to that domain as well
                yield domain.name, links
    for pool in hypervisor.pools():
        if pool["type"] in domain_xml.FILE_POOLS and pool["path"]:
            for path in _overlays(str(pool["path"])):
                if path not in seen:
                    yield None, look.chain(path, None)


def _overlays(folder: str) -> Iterator[str]:
    """The files of a folder that rest on another."""
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        if entry.is_file(follow_symlinks=False):
            found = qcow2.header(entry.path)
            if found is not None and found.backing:
                yield os.path.realpath(entry.path)


def release(hypervisor: Hypervisor, paths: Sequence[str]) -> None:
    """Let those of these files be written again on which nothing rests any more."""
    kept = [path for path in paths if bases.is_kept(path)]
    used = {dependant.base for dependant in of(hypervisor, kept)}
    for path in kept:
        if os.path.realpath(path) not in used:
            bases.release(path)


def release_forgotten(hypervisor: Hypervisor) -> None:
    """The same for all files of pools that we keep from being written: a crash may have come between the end of what
    rested on one and its release.
    """
    if not hypervisor.has_files:
        return
    for pool in hypervisor.pools():
        if pool["type"] in domain_xml.FILE_POOLS and pool["path"]:
            with suppress(OSError):
                found = [entry.path for entry in os.scandir(str(pool["path"])) if bases.is_ours(entry.path)]
                release(hypervisor, found)
