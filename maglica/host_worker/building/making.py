"""`vm build`: look, plan, fetch, make the disk, fill it, define, start, run what is to run then.

The disk is made and filled under a name that holds the job's id. With `--rebuild` the VM has its old disk until the new
one is right; the old one is set aside then, and deleted at the very end. A crash at any moment leaves the one or the
other VM, or nothing of a new one: the next start of the host worker sees to it by the journal and the definition.
"""

from __future__ import annotations

import os
import random
import uuid
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

from maglica.actions.vm.build import DISK, MEMORY, NETWORK, VmBuild
from maglica.errors import Refused
from maglica.host_worker.building import postboot, replacing
from maglica.host_worker.building.replacing import Old
from maglica.host_worker.clone import cloning, customising, plan
from maglica.host_worker.clone.plan import ClonePlan, Copy
from maglica.host_worker.disk import copying
from maglica.host_worker.disk.bases import Base
from maglica.host_worker.domain import contention, domain_xml, look, new_domain, readiness, starting
from maglica.host_worker.domain.inward import AGENT
from maglica.host_worker.domain.new_domain import Machine, New
from maglica.host_worker.guest import disk as guest_disk
from maglica.host_worker.guest.disk import Building, Disk
from maglica.host_worker.guest.model import GuestRequest
from maglica.host_worker.guest.request import request_of
from maglica.host_worker.host import Host
from maglica.host_worker.image import fetch, importing
from maglica.host_worker.signs import sign
from maglica.host_worker.work import Work, must

LONGER = 3600.0  # seconds beyond [host_worker] customize_timeout for an archive, and for each script


class Site(NamedTuple):
    """What is built: its disks, the VM that it was before, and what its definition is made from: an image's, or what
    this host's QEMU offers."""

    disks: ClonePlan
    old: Old | None
    image: str | None = None
    machine: Machine | None = None
    bridge: bool = False

    @property
    def targets(self) -> list[str]:
        return [copy.target for copy in self.disks.copies]

    def shown(self, want: VmBuild) -> dict[str, Any]:
        """What a dry run prints."""
        told = self.disks.shown() if self.image else {
            "name": want.name, "archive": want.archive, "pool": self.disks.pool, "macs": self.disks.macs,
            "disks": [
                {"target": one.target, "path": one.path, "format": one.format, "capacity_bytes": one.capacity_bytes}
                for one in self.disks.copies
            ],
        }  # fmt: skip
        more = {"hooks": len(want.hook or ()), "postboot": want.postboot is not None, "start": want.starts}
        return {**told, **more, **(replacing.told(self.old, self.targets) if self.old else {})}


def build(want: VmBuild, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle leaves the VM as it was, or nothing of one that was not there."""
    if not host.hypervisor.has_files:
        raise Refused("environment_error", f"{host.name} has no real disks ({host.hypervisor.uri})")
    old = replacing.find(want, host)
    want = replacing.filled(want, old)
    site = _of_image(want, old, host, work.job) if want.image else _of_nothing(want, old, host, work.job)
    if old and want.disk is None and old.capacity_bytes > site.disks.copies[0].capacity_bytes:
        want = VmBuild(**{**want.values(), "disk": old.capacity_bytes})  # as large as it was
    if old:
        replacing.refuse(old, site.targets, host)
        if want.starts:
            contention.refuse(want.name, old.text, host.hypervisor)
    work.will(site.shown(want))
    rests_on = _make(want, site, host, work)
    report = _fill(want, site, host, work)
    told = _told(want, site, report, host, work)
    aside = _define(want, site, rests_on, told, host, work)
    return _run(want, site, aside, told, host, work)


# ---- what it will be ----------------------------------------------------------------------------------------------


def _of_image(want: VmBuild, old: Old | None, host: Host, job: str) -> Site:
    assert want.image is not None
    clone = want.as_clone(want.image)
    if old:  # what it can be waited for depends on its own definition, which stays
        clone = type(clone)(**{**clone.values(), "wait": None})
        _refuse_unable(want, old, host)
    disks, _, text = cloning.decide(clone, host, job, instead_of=old.files if old else None)
    if want.disk is not None and want.disk < disks.copies[0].capacity_bytes:
        raise Refused(
            "wrong_input", f"--disk={want.disk >> 20}M is less than the {disks.copies[0].capacity_bytes >> 20}M of"
            f" {want.image}", "a disk is not made smaller: leave it out, or say more",
        )  # fmt: skip
    if disks.mode == "thin" and (old or want.disk):
        raise Refused("environment_error", "logical volumes are neither grown nor replaced here", "choose a --pool")
    if old:
        replacing.refuse_firmware(old, domain_xml.boots_by_uefi(text), want.image)
        return Site(disks._replace(uuid=old.domain.uuid, macs=old.macs, nvram=None), old, text)
    _refuse_postboot(want, domain_xml.read(text).agent)
    return Site(disks, None, text)


def _of_nothing(want: VmBuild, old: Old | None, host: Host, job: str) -> Site:
    hypervisor = host.hypervisor
    network = want.network or NETWORK
    machine = hypervisor.machine_type(kvm=host.acceleration == "kvm")
    bridge = importing.is_bridge(network, host) if old is None else False
    target = next(iter(old.disks)) if old else "vda"
    size = want.disk or (old.capacity_bytes if old else DISK)
    known = 0
    if want.archive and fetch.local(want.archive):
        known = os.path.getsize(fetch.find(want.archive, host.settings.import_dir))
    pools = look.pools(hypervisor, host.settings, host.storage)
    pool, path = replacing.place(want, old, target, pools, host.settings.pool, known)
    if os.path.lexists(path) and not (old and path in old.disks.values()):
        raise Refused("already_exists", f"the file {path} exists on {host.name}", "remove it, or choose another name")
    if old is None:
        macs = list(want.mac or ([plan.random_mac(random.SystemRandom())] if network != "none" else []))
        if len(macs) > 1:
            raise Refused("wrong_input", f"--mac names {len(macs)} addresses, it has one card", "give one")
        console = _console_log(want.name)
        if want.wait and want.wait.startswith("console:") and not os.path.isdir(os.path.dirname(console)):
            raise Refused("environment_error", f"{host.name} keeps no consoles in {os.path.dirname(console)}")
    else:
        macs = old.macs
        _refuse_unable(want, old, host)
        if want.archive:
            replacing.refuse_firmware(old, False, "the boot loader of an archive")
    copy = Copy(target, "", "", f"{path}.{job}.part", path, "qcow2", size, 0)
    disks = ClonePlan(
        image="", name=want.name, uuid=old.domain.uuid if old else str(uuid.uuid4()), macs=macs, mode="new", why="",
        needed_bytes=known, pool=str(pool["name"]), free_bytes=int(pool["free_bytes"]) - int(pool["reserve_bytes"]),
        copies=[copy], nvram=None, emulated=host.acceleration == "tcg", job=job,
    )  # fmt: skip
    return Site(disks, old, None, machine, bridge)


def _refuse_unable(want: VmBuild, old: Old, host: Host) -> None:
    """Refuse to wait for what the VM's definition does not allow."""
    _refuse_postboot(want, old.domain.agent)
    readiness.refuse(want.wait, old.domain, host)


def _refuse_postboot(want: VmBuild, agent: bool) -> None:
    if want.postboot and not agent:
        raise Refused(
            "environment_error", f"{want.name} would have no channel for QEMU's guest agent, which runs --postboot",
            f"its definition needs {AGENT}; --run-at-first-boot needs no agent, and nobody hears how it ended",
        )  # fmt: skip


# ---- its disks ----------------------------------------------------------------------------------------------------


def _make(want: VmBuild, site: Site, host: Host, work: Work) -> list[Base]:
    """Make the disks under names that hold the job's id; what they rest on."""
    disks = site.disks
    if site.image:
        with work.step("copy", f"{disks.mode} to pool {disks.pool}"):
            made = copying.copy(disks, host, work)
            if want.disk:
                copy = disks.copies[0]
                argv = ["qemu-img", "resize", "-q", "-f", copy.format, "--", copy.part, str(want.disk)]
                must(work.run(argv), f"growing disk {copy.target}")
            return made.rests_on
    with work.step("disk", f"{disks.copies[0].capacity_bytes >> 20} MiB in pool {disks.pool}"):
        copy = disks.copies[0]
        work.undo("remove_part", path=copy.part)
        argv = ["qemu-img", "create", "-q", "-f", copy.format, "--", copy.part, str(copy.capacity_bytes)]
        must(work.run(argv), f"disk {copy.target}")
        os.chmod(copy.part, 0o600)
    return []


def _fill(want: VmBuild, site: Site, host: Host, work: Work) -> dict[str, Any] | None:
    """Put into the disks what they shall hold; the report of the appliance."""
    if want.barebones:
        return None
    request = request_of({**want.values(), "hostname": want.name, "swap": None}, site.disks.macs)
    paths = {copy.target: copy.part for copy in site.disks.copies}
    if site.image and not want.hook and not want.disk:
        # The paths stay: what a warm appliance left in doubt is copied anew under the same names.
        return customising.customise(site.disks, paths, request, host, work)[1]
    if want.archive is None:
        return _work_inside(_building(want), site, request, host, work)
    packed = f"{site.disks.copies[0].path}.{work.job}.fetched"
    importing.fetched(want.archive, want.checksum, packed, host, work)
    report = _work_inside(_building(want)._replace(archive=packed, grow=False), site, request, host, work)
    os.unlink(packed)
    return report


def _building(want: VmBuild) -> Building:
    return Building(grow=bool(want.disk), hooks=tuple(want.hook or ()), agent=want.postboot is not None)


def _work_inside(what: Building, site: Site, request: GuestRequest, host: Host, work: Work) -> dict[str, Any]:
    disks = [Disk(copy.part, copy.format) for copy in site.disks.copies]
    with work.step("build") as step:
        at_most = host.settings.customize_timeout + LONGER * (bool(what.archive) + len(what.hooks))
        report = guest_disk.build(disks, request, what, host.terms(work, at_most))
        took = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in report["seconds"].items())
        step["note"] = f"an appliance of its own: {took}"
    return {**report, "appliance": "cold", "note": "it is built"}


# ---- the VM -------------------------------------------------------------------------------------------------------


def _define(want: VmBuild, site: Site, rests_on: list[Base], told: dict[str, Any], host: Host, work: Work) -> list[str]:
    """Give the disks their names, and define the VM by them; the old disks that are left."""
    disks, old = site.disks, site.old
    paths = {copy.target: (copy.path, copy.format) for copy in disks.copies}
    mark = _mark(want, site, rests_on)
    seen = sign("marked", told, uuid=disks.uuid, mark={"job": work.job})
    with (
        host.storage.changing(list(old.disks.values()) if old else [], f"{want.name} cannot be built anew"),
        work.step("define", sign=None if want.starts else seen),
    ):
        work.point_of_no_return()
        copying.refuse_changed_meanwhile(copying.Made({}, rests_on, 0))
        if old:
            replacing.refuse_changed(old, site.targets, host)
        aside = replacing.set_aside(old, {copy.target: copy.path for copy in disks.copies}, work) if old else []
        copying.name(disks, host, work)
        if old:
            work.undo("redefine", uuid=disks.uuid, text=old.text)
            host.hypervisor.redefine(disks.uuid, replacing.definition(old, paths, want, mark))
        else:
            work.undo("undefine", uuid=disks.uuid)
            host.hypervisor.define(_definition(want, site, rests_on, mark, host))
        if old and not want.starts:
            replacing.drop(aside, host, work)
            return []
    return aside


def _definition(want: VmBuild, site: Site, rests_on: list[Base], mark: dict[str, str], host: Host) -> str:
    disks = site.disks
    if site.image and want.image:
        paths = {copy.target: copy.path for copy in disks.copies}
        edits = plan.edits(disks, want.as_clone(want.image), paths, None, rests_on)
        return domain_xml.rewrite(site.image, edits._replace(mark=mark))
    assert site.machine is not None
    new = New(
        name=want.name, uuid=disks.uuid, machine=site.machine, kvm=not disks.emulated, vcpus=want.vcpus or 1,
        memory_bytes=want.memory or MEMORY, disk=disks.copies[0].path, mac=disks.macs[0] if disks.macs else None,
        network=want.network or NETWORK, bridge=site.bridge, efi=False, console_log=_console_log(want.name), mark=mark,
        screen=want.barebones,
    )  # fmt: skip
    return new_domain.definition(new)


def _console_log(name: str) -> str:
    return f"/var/log/libvirt/qemu/{name}.console.log"


def _mark(want: VmBuild, site: Site, rests_on: list[Base]) -> dict[str, str]:
    if want.image:
        return {**plan.mark(site.disks, want.as_clone(want.image), None, rests_on), "kind": "build"}
    address = plan.address_mark(want.ip, want.gateway, want.dns or ()) if want.ip else {}
    made_of = {"archive": want.archive.partition("?")[0], "customize": "guestfs"} if want.archive else {"built": "bare"}
    tags = {"tags": ",".join(want.tags)} if want.tags else {}
    return {"kind": "build", "job": site.disks.job, **made_of, **address, **tags}


def _run(want: VmBuild, site: Site, aside: list[str], told: dict[str, Any], host: Host, work: Work) -> dict[str, Any]:
    """Boot it, wait, and run what shall run then; the whole result. Old disks go when nothing can fail any more."""
    name, keep = want.name, want.keep_failed
    if not want.starts:
        return {**told, "seconds": work.seconds()}
    waits = [one for one in (want.wait, "agent" if want.postboot and want.wait != "agent" else None) if one]
    secrets = (want.root_password_hash,) if want.root_password_hash else ()
    prepared = [readiness.prepare(one, want.wait_timeout, name, host, secrets=secrets) for one in waits]
    runs = sign("runs", {**told, "state": "running"}, name=name, uuid=site.disks.uuid)
    with _to_life(site, name, host), work.step("start", sign=None if waits else runs):
        if site.old:
            work.undo("halt", uuid=site.disks.uuid)
        host.hypervisor.start(name)
        if aside and (not waits or keep):
            readiness.refuse_ended(name, host)
            replacing.drop(aside, host, work)
            aside = []
    came: dict[str, Any] = {}
    for one in prepared:
        assert one is not None
        came |= readiness.wait(one, host, work, keep=keep)
    if want.postboot:
        came["postboot"] = postboot.run(want.postboot, want.postboot_timeout, name, host, work, keep=keep)
    state = readiness.refuse_ended(name, host)
    if aside:
        with work.step("clean up", sign=sign("marked", {**told, **came}, uuid=site.disks.uuid, mark={"job": work.job})):
            replacing.drop(aside, host, work)
    return {**told, **came, "state": state, "seconds": work.seconds()}


def _to_life(site: Site, name: str, host: Host) -> AbstractContextManager[None]:
    """Around the start: a VM that was there before has other disks and cards, which somebody else may have by now."""
    if site.old is None:
        return nullcontext()
    domain = domain_xml.read(host.hypervisor.definition(name))
    disks = [source.path for source in look.sources(host.hypervisor, domain, host.storage)]
    return starting.to_be_written(name, disks, host)


def _told(want: VmBuild, site: Site, report: dict[str, Any] | None, host: Host, work: Work) -> dict[str, Any]:
    """The result, as far as it is known before the VM is defined."""
    disks = site.disks
    return {
        "name": want.name, "host": host.name, "image": want.image, "archive": want.archive, "rebuilt": bool(site.old),
        "uuid": disks.uuid, "state": "shut-off", "macs": disks.macs,
        "ips": [want.ip.partition("/")[0]] if want.ip else [], "pool": disks.pool,
        "profile": want.customize_profile if want.profile else None,
        "disks": [
            {
                "target": one.target, "path": one.path, "format": one.format,
                "capacity_bytes": want.disk or one.capacity_bytes if number == 0 else one.capacity_bytes,
            }
            for number, one in enumerate(disks.copies)
        ],
        "guest": cloning.guest_of(report), "hooks": (report or {}).get("hooks", []), "postboot": None,
        "emulated": disks.emulated, "changed": True, "seconds": work.seconds(),
    }  # fmt: skip
