"""`vm clone`: look, plan, copy, customise, verify, define, start.

The domain is defined last, when its disks are right: nobody can start half a clone. Every file is made under a name
that holds the job's id and gets its final one right before the definition, so that a crash at any moment leaves
nothing that the journal cannot name: parts are removed, files with final names are removed by their inode, the domain
by its uuid.
"""

from __future__ import annotations

import os
import random
import uuid
from collections.abc import Collection, Mapping
from typing import Any

from maglica.actions.vm.clone import VmClone
from maglica.errors import MaglicaError, Refused
from maglica.host_worker.clone import customising, extras, plan, seeding
from maglica.host_worker.clone.extras import Extra
from maglica.host_worker.clone.plan import ClonePlan
from maglica.host_worker.disk import copying
from maglica.host_worker.domain import domain_xml, look, readiness
from maglica.host_worker.domain.look import ACTIVE
from maglica.host_worker.guest.request import request_of
from maglica.host_worker.host import Host
from maglica.host_worker.image import exporting
from maglica.host_worker.signs import sign
from maglica.host_worker.work import Work


def clone(want: VmClone, host: Host, work: Work) -> dict[str, Any]:
    todo, more, definition = decide(want, host, work.job)
    shown = {**todo.shown(), **extras.shown(more)}
    work.will({"export": exporting.path(want, host), **shown} if want.format else shown)
    with work.step("copy", f"{todo.mode} to pool {todo.pool}"):
        made = copying.copy(todo, host, work)
        paths = made.paths
    extras.make(more, todo, host, work)
    guest = seed = None
    if want.customize == "guestfs":
        paths, guest = customising.customise(todo, paths, request_of(want.values(), todo.macs), host, work)
    if want.customize == "cloud-init":
        seed, guest = seeding.make(want, todo, work)
    if want.format:
        return exporting.export(want, todo, paths, guest_of(guest), host, work)
    final = {copy.target: copy.path for copy in todo.copies} if host.hypervisor.has_files else paths
    told = {**_told(want, todo, final, guest, host, work), "saved_bytes": made.saved_bytes}
    with work.step("define", sign=None if want.start else sign("defined", told, uuid=todo.uuid)):
        work.point_of_no_return()
        copying.refuse_changed_meanwhile(made)
        copying.name(todo, host, work)
        extras.name(more, host, work)
        seed = seeding.name(seed, todo, work) if seed else None
        work.undo("undefine", uuid=todo.uuid)
        edits = plan.edits(todo, want, final, seed, made.rests_on)._replace(more=extras.defined(more))
        host.hypervisor.define(domain_xml.rewrite(definition, edits))
    if want.start:
        return _started(want, todo, told, host, work)
    return {**told, **_seen(want, host), "seconds": work.seconds()}


def _started(want: VmClone, todo: ClonePlan, told: dict[str, Any], host: Host, work: Work) -> dict[str, Any]:
    """Boot it, and wait until it is as far as was asked for; the whole result."""
    secrets = (want.root_password_hash,) if want.root_password_hash else ()
    wait = readiness.prepare(want.wait, want.wait_timeout, want.hostname, host, secrets=secrets)
    runs = sign("runs", {**told, "state": "running"}, name=want.hostname, uuid=todo.uuid)
    with work.step("start", sign=None if wait else runs):
        host.hypervisor.start(want.hostname)
    if wait is None:
        return {**told, **_seen(want, host), "seconds": work.seconds()}
    came = readiness.wait(wait, host, work, keep=want.on_timeout == "keep")
    return {**told, "ips": _known_addresses(want, host), **came, "seconds": work.seconds()}


def decide(
    want: VmClone, host: Host, job: str, *, instead_of: Mapping[str, str] | None = None
) -> tuple[ClonePlan, list[Extra], str]:
    """Look again on this host, right before acting: what placement saw may have changed.

    `instead_of`: the disks of the VM of that name, target -> path, that the clone's will take the place of.
    """
    hypervisor = host.hypervisor
    state = hypervisor.state(want.image)
    if state in ACTIVE:
        raise Refused("wrong_state", f"{want.image} is {state}", "an image has to be shut off to be cloned")
    known = {domain.name: domain for domain, _ in hypervisor.domains()}
    if want.hostname in known and instead_of is None:
        raise Refused("already_exists", f"{want.hostname} exists on {host.name}", "choose another --hostname")
    _refuse_customisation(want, host)
    definition = hypervisor.definition(want.image)
    image = domain_xml.read(definition)
    readiness.refuse(want.wait, image, host)
    sources = look.sources(hypervisor, image, host.storage)
    pools = look.pools(hypervisor, host.settings, host.storage)
    chance = random.SystemRandom()
    todo = plan.clone(
        want,
        image,
        sources,
        look.shared(sources, pools, host.storage),
        uuid=str(uuid.uuid4()),
        fresh_macs=[plan.random_mac(chance) for _ in image.nics],
        job=job,
        pool=host.settings.pool,
        order=host.settings.clone_modes,
        emulated=host.acceleration == "tcg",
        files=hypervisor.has_files,
        thin_limit=host.settings.thin_limit,
    )
    folder = next((pool["path"] for pool in pools if pool["name"] == todo.pool), None)
    more = extras.plan(want, image, todo, folder, hypervisor.has_files)
    extras.refuse_networks(want, image, hypervisor.networks() if want.networks else [])
    _refuse_taken_files(todo, more, host, (instead_of or {}).values())
    if want.customize == "cloud-init":
        seeding.refuse(want, todo, image.mark, host)
    if want.format and os.path.lexists(exporting.path(want, host)):
        raise Refused(
            "already_exists", f"the file {exporting.path(want, host)} exists", "remove it, or choose another --hostname"
        )
    return todo, more, definition


def _refuse_customisation(want: VmClone, host: Host) -> None:
    if want.customize == "guestfs" and not host.hypervisor.has_files:
        raise Refused(
            "environment_error", f"{host.name} has no real disks ({host.hypervisor.uri})", "use --customize=none"
        )
    if want.format and want.wait:
        raise Refused("wrong_input", f"--format makes no VM that --wait={want.wait} could wait for")
    if want.format and not host.hypervisor.has_files:
        raise Refused("environment_error", f"{host.name} has no real disks to export ({host.hypervisor.uri})")


def _refuse_taken_files(todo: ClonePlan, more: list[Extra], host: Host, own: Collection[str]) -> None:
    taken = [copy.path for copy in todo.copies] + [one.path for one in more]
    taken += [todo.nvram[1]] if todo.nvram else []
    for path in taken:
        if path not in own and _exists(path, todo.pool, host):
            raise Refused("already_exists", f"the file {path} exists", "remove it, or choose another --hostname")
    for copy in todo.copies:
        if host.hypervisor.has_files and not os.path.exists(copy.source):
            raise Refused("unknown_entity", f"disk {copy.target} of {todo.image} is missing: {copy.source}")


def _exists(path: str, pool: str, host: Host) -> bool:
    """Whether that name is taken: by a file, or by a volume where the driver only pretends to have files."""
    if host.hypervisor.has_files:
        return os.path.lexists(path)
    try:
        return bool(host.hypervisor.volume_path(pool, os.path.basename(path)))
    except MaglicaError as error:
        if error.code == "unknown_entity":
            return False
        raise


def _told(
    want: VmClone, todo: ClonePlan, paths: dict[str, str], guest: dict[str, Any] | None, host: Host, work: Work
) -> dict[str, Any]:
    """The result, as far as it is known before the last step."""
    return {
        "name": want.hostname,
        "host": host.name,
        "image": want.image,
        "uuid": todo.uuid,
        "state": "shut-off",
        "macs": todo.macs,
        "ips": [want.ip.partition("/")[0]] if want.ip else [],
        "mode": todo.mode,
        "why": todo.why,
        "pool": todo.pool,
        "profile": want.customize_profile if want.profile else None,
        "disks": [{"target": copy.target, "path": paths[copy.target], "format": copy.format} for copy in todo.copies],
        "guest": guest_of(guest),
        "emulated": todo.emulated,
        "seconds": work.seconds(),
    }


def _seen(want: VmClone, host: Host) -> dict[str, Any]:
    """What is seen of the clone at the end."""
    state = readiness.refuse_ended(want.hostname, host) if want.start else host.hypervisor.state(want.hostname)
    return {"state": state, "ips": _known_addresses(want, host)}


def _known_addresses(want: VmClone, host: Host) -> list[str]:
    """What is known right after the start: the static address, otherwise hardly ever a lease."""
    if want.ip:
        return [want.ip.partition("/")[0]]
    try:
        return host.hypervisor.addresses(want.hostname)
    except MaglicaError:
        return []


def guest_of(report: dict[str, Any] | None) -> dict[str, Any] | None:
    """What a result tells of the guest that an appliance has reported of."""
    if report is None:
        return None
    told = ("os", "network", "host_keys", "verified", "appliance", "note", "seconds")
    return {name: report.get(name) for name in told}
