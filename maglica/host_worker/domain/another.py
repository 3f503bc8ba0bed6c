"""A VM that gets another name or another address: `vm rename`, `vm change-address`.

Files and disks are made ready first, in ways that can be taken back; the definition comes last, in one order to
libvirt, and bears the job's id in our mark (`altered`). Whatever a crash leaves is settled by asking for that: seen,
the new is finished; not seen, the old is brought back.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from maglica import kinds
from maglica.actions.vm.identity import VmChangeAddress, VmRename
from maglica.errors import Failed, MaglicaError, Refused
from maglica.host_worker.clone.plan import address_mark
from maglica.host_worker.disk import layering, volumes
from maglica.host_worker.disk.layering import Layer
from maglica.host_worker.disk.modes import Source
from maglica.host_worker.domain import domain_xml, look, renaming, saved, starting, stopping
from maglica.host_worker.domain.domain_xml import Domain
from maglica.host_worker.domain.look import ACTIVE
from maglica.host_worker.domain.renaming import Move
from maglica.host_worker.guest import disk as guest_disk
from maglica.host_worker.guest.model import GuestRequest, Network
from maglica.host_worker.host import Host
from maglica.host_worker.signs import sign
from maglica.host_worker.work import Work, must


class Found(NamedTuple):
    """The VM as it was found."""

    domain: Domain
    text: str
    runs: bool
    sources: list[Source]

    @property
    def disks(self) -> list[str]:
        return [source.path for source in self.sources]


def rename(want: VmRename, host: Host, work: Work) -> dict[str, Any]:
    """See `vm rename`."""
    hypervisor = host.hypervisor
    if want.to == want.name:
        hypervisor.state(want.name)  # refused where there is no such VM
        return {"name": want.name, "host": host.name, "changed": False}
    found = _look(want, "cannot be renamed", host, work.job)
    if want.to in [name for name, _ in hypervisor.states()]:
        raise Refused("already_exists", f"{want.to} exists on {host.name}", "choose another --to")
    moved = _moves(found, want, host)
    inside = want.customize != "none" and bool(found.sources)
    if inside and not hypervisor.has_files:
        raise Refused("environment_error", f"{host.name} has no real disks ({hypervisor.uri})", "use --customize=none")
    work.will({
        "rename": want.name, "to": want.to, "files": [move.shown() for move in moved], "host name inside": inside,
        "restart": found.runs,
    })  # fmt: skip
    with _off(found, want, host, work):
        layers: list[Layer] = []
        report = None
        if inside:
            # The short name of a machine without an address: only the name is taken from the request.
            request = GuestRequest(hostname=want.to, macs=())
            layers, report = _inside("rename", found, request, host, work)
            del report["was"]
        told = {
            "name": want.to, "was": want.name, "host": host.name, "uuid": found.domain.uuid,
            "state": "running" if found.runs else "shut-off", "files": [move.shown() for move in moved],
            "guest": report, "changed": True,
        }  # fmt: skip
        with work.step("rename", sign=None if found.runs else _sign(told, found, work)):
            work.point_of_no_return()
            layering.bring_in(layers, found.domain.uuid, work)
            named = _name(moved, found, work)
            for pool in {move.volume[0] for move in moved if move.volume}:
                hypervisor.refresh_pool(pool)  # it would not find them by their new names
            work.undo("settle_name", uuid=found.domain.uuid, name=want.name, text=found.text, job=work.job)
            hypervisor.rename(found.domain.uuid, want.to)
            hypervisor.define(renaming.renamed(found.text, want.to, moved, {"altered": work.job}))
            for move in named:
                os.unlink(move.old)
            layering.throw_away(layers)
    _start(want.to, f"{want.name} is called {want.to} by now", found, told, host, work)
    return {**told, "seconds": work.seconds()}


def change_address(want: VmChangeAddress, host: Host, work: Work) -> dict[str, Any]:
    """See `vm change-address`."""
    # Of several cards nobody keeps in mind what they have but the guest itself.
    known = None if want.interface else (lambda domain: _mark(want, domain.mark) if _first(want, domain) else None)
    found = _look(want, "cannot get another address", host, work.job, unless=known)
    macs = tuple(str(nic["mac"]).lower() for nic in found.domain.nics if nic["mac"])
    _refuse_unclear(want, macs)
    first = _first(want, found.domain)
    wanted = _mark(want, found.domain.mark if first else {})
    told: dict[str, Any] = {
        "name": want.name, "host": host.name, "address": want.address,
        "mac": want.mac or (macs[0] if len(macs) == 1 and not want.interface else None), "interface": want.interface,
        "gateway": wanted["gateway"] or None, "dns": [server for server in wanted["dns"].split(",") if server],
        "was": found.domain.mark.get("ip") if first else None,
        "state": "running" if found.runs else "shut-off", "guest": None, "changed": True,
    }  # fmt: skip
    if known and first and _has(found.domain.mark, wanted) and wanted["ip"]:
        return {**told, "changed": False}
    if not host.hypervisor.has_files or not found.sources:
        raise Refused("environment_error", f"{want.name} has no disk in which its address could be changed")
    static = want.address != kinds.DHCP
    network = Network(want.address, wanted["gateway"] or None, tuple(told["dns"])) if static else Network()
    alone = len(macs) == 1 and not want.interface
    request = GuestRequest(
        hostname="localhost", macs=macs, network=network, card=None if alone else want.mac, interface=want.interface
    )
    work.will({
        "change address of": want.name, "card": want.interface or want.mac or macs[0], "to": want.address,
        "was": told["was"], "restart": found.runs,
    })  # fmt: skip
    with _off(found, want, host, work):
        layers, told["guest"] = _inside("readdress", found, request, host, work)
        was = told["guest"].pop("was")
        told["was"] = told["was"] or next(iter(was), None)
        told["changed"] = bool(told["guest"]["edits"])
        kept = wanted if first or found.domain.mark.get("ip") in was else {}
        with work.step("readdress", sign=None if found.runs else _sign(told, found, work)):
            work.point_of_no_return()
            layering.bring_in(layers if told["changed"] else [], found.domain.uuid, work)
            work.undo("settle_name", uuid=found.domain.uuid, name=want.name, text=found.text, job=work.job)
            host.hypervisor.define(renaming.marked(found.text, {**kept, "altered": work.job}))
            layering.throw_away(layers)
    _start(want.name, f"{want.name} has its new address", found, told, host, work)
    return {**told, "seconds": work.seconds()}


def _refuse_unclear(want: VmChangeAddress, macs: Sequence[str]) -> None:
    """Which card is meant has to be said, of several."""
    listed = ", ".join(macs) or "none"
    if want.mac is not None and want.mac not in macs:
        raise Refused("unknown_entity", f"{want.name} has no network card {want.mac}", f"it has {listed}")
    if not macs:
        raise Refused("unknown_entity", f"{want.name} has no network card", "`maglica nic attach` gives it one")
    if len(macs) > 1 and want.mac is None and want.interface is None:
        raise Refused(
            "ambiguous_name", f"{want.name} has {len(macs)} network cards: {listed}",
            "say which with --mac, or with --interface as the guest calls it",
        )  # fmt: skip


def _first(want: VmChangeAddress, domain: Domain) -> bool:
    """Whether the card is the first one: its address is what is kept in mind of a VM."""
    macs = [str(nic["mac"]).lower() for nic in domain.nics if nic["mac"]]
    return want.mac in (None, *macs[:1]) and (want.interface is None or want.mac is not None or len(macs) == 1)


def _mark(want: VmChangeAddress, mark: dict[str, str]) -> dict[str, str]:
    """What will be kept of the address; what is not asked for stays as it was, where it can."""
    if want.address == kinds.DHCP:
        return dict.fromkeys(("ip", "address", "gateway", "dns"), "")
    gateway, network = want.gateway or mark.get("gateway", ""), ipaddress.ip_interface(want.address).network
    if gateway and ipaddress.ip_address(gateway) not in network:
        gateway = ""
    dns = want.dns if want.dns is not None else [server for server in mark.get("dns", "").split(",") if server]
    return address_mark(want.address, gateway or None, dns)


def _has(mark: dict[str, str], wanted: dict[str, str]) -> bool:
    return all(mark.get(key, "") == value for key, value in wanted.items())


# ------------------------------------------------------------------------------------------------ what both do


def _look(
    want: VmRename | VmChangeAddress, what: str, host: Host, job: str, *,
    unless: Callable[[Domain], dict[str, str] | None] | None = None,
) -> Found:  # fmt: skip
    """Everything that speaks against it; `unless`: what the mark may say already, so that nothing is to be done."""
    hypervisor, name = host.hypervisor, want.name
    state = hypervisor.state(name)
    text = hypervisor.definition(name)
    domain = domain_xml.read(text)
    runs = state in ("running", "idle")
    sources = look.sources(hypervisor, domain, host.storage) if hypervisor.has_files else []
    found = Found(domain, text, runs, sources)
    wanted = unless(domain) if unless else None
    if wanted and wanted.get("ip") and _has(domain.mark, wanted):
        return found
    if state in ACTIVE and not (runs and want.offline):
        hint = "--offline stops it, changes it and starts it again" if runs else "only a VM that is off can be changed"
        raise Refused("wrong_state", f"{name} is {state}", hint)
    if domain_xml.is_image(domain, state in ACTIVE):
        raise Refused("protected", f"{name} is an image", "clones are made of it: what it is called and holds stays")
    saved.refuse_change(domain, hypervisor, runs=state in ACTIVE)
    details = hypervisor.details(name)
    if details["snapshots"]:
        told = f"{name} {what}: it has {details['snapshots']} snapshots, which know it as it was"
        raise Refused("wrong_state", told, "remove them first")
    if hypervisor.has_files:
        starting.refuse_shared(name, found.disks, host, what)
        starting.refuse_missing(name, found.sources, what)
    if runs:
        starting.look(name, host, ignore_changed_base=False, job=job)  # it has to start again
    return found


def _moves(found: Found, want: VmRename, host: Host) -> list[Move]:
    if not host.hypervisor.has_files:
        return []
    own = [
        (source.path, source.disk.path if source.disk.source == "volume" else None)
        for source in found.sources
        if source.file
    ]
    moved = renaming.moves(found.text, own, want.to)
    for source in found.sources:
        if source.volume is not None:
            pool = (source.disk.path or "").partition("/")[0] if source.disk.source == "volume" else None
            move = renaming.volume_move(source.path, source.volume, pool, want.name, want.to)
            moved += [move] if move else []
    for move in moved:
        taken = volumes.uuid(move.logical[0], move.logical[2]) if move.logical else None
        if taken or os.path.lexists(move.new):
            what = "logical volume" if move.logical else "file"
            raise Refused("already_exists", f"the {what} {move.new} exists", "remove it, or choose another --to")
    return moved


@contextmanager
def _off(found: Found, want: VmRename | VmChangeAddress, host: Host, work: Work) -> Iterator[None]:
    """Shut it down where it runs; until the end of this nobody else touches its disks."""
    if found.runs:
        work.undo("start_again", uuid=found.domain.uuid)
        stopping.shut_down(found.domain.name, want.timeout, want.force, host, work)
    with host.storage.changing(found.disks, f"{found.domain.name} cannot be changed"):
        yield


def _inside(
    verb: str, found: Found, request: GuestRequest, host: Host, work: Work
) -> tuple[list[Layer], dict[str, Any]]:
    """Change the guest in a layer above its disks; what was done."""
    with work.step("customize") as step:
        layers = layering.over(found.sources, host, work)
        terms = guest_disk.Terms(
            kvm=host.acceleration == "kvm", deadline=min(work.left, host.settings.customize_timeout),
            on_step=work.substep, cancelled=work.cancelled, mark=work.mark,
        )  # fmt: skip
        disks = [guest_disk.Disk(layer.above, "qcow2") for layer in layers]
        report = guest_disk.alter(verb, disks, request, terms)
        step["note"] = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in report["seconds"].items())
    return layers, {key: report[key] for key in ("os", "network", "verified", "edits", "was")}


def _name(moved: Sequence[Move], found: Found, work: Work) -> list[Move]:
    """Give the files their second names, and logical volumes their new ones; the files that have two now. A link fails
    where a rename would replace.
    """
    named = []
    for move in moved:
        if move.logical:
            _name_volume(*move.logical, found, work)
            continue
        if not os.path.exists(move.old):
            continue  # a log that was never written, variables that were never set
        inode = os.stat(move.old).st_ino
        work.undo("settle_renamed", old=move.old, new=move.new, inode=inode, uuid=found.domain.uuid, job=work.job)
        try:
            os.link(move.old, move.new)
        except OSError as error:
            raise Failed("environment_error", f"cannot name {move.new}: {error.strerror}") from None
        named.append(move)
    return named


def _name_volume(group: str, old: str, new: str, found: Found, work: Work) -> None:
    """A logical volume has one name at a time: the undo gives the very one its old name back."""
    known = volumes.uuid(group, old)
    if known is None:
        raise Failed("unknown_entity", f"the logical volume {group}/{old} has just gone")
    work.undo(
        "settle_renamed_volume", group=group, old=old, new=new, volume=known, uuid=found.domain.uuid, job=work.job
    )
    must(work.run(volumes.rename(group, old, new)), f"logical volume {group}/{old}")


def _sign(told: dict[str, Any], found: Found, work: Work) -> dict[str, Any]:
    return sign("marked", told, uuid=found.domain.uuid, mark={"altered": work.job})


def _start(name: str, done: str, found: Found, told: dict[str, Any], host: Host, work: Work) -> None:
    """Start it where it ran before. What was changed stays, come what may: it may have begun to run."""
    if not found.runs:
        return
    domain = domain_xml.read(host.hypervisor.definition(name))
    disks = [source.path for source in look.sources(host.hypervisor, domain, host.storage)]
    try:
        with starting.to_be_written(name, disks, host), work.step("start", sign=sign("runs", told, name=name)):
            host.hypervisor.start(name)
    except MaglicaError as error:
        error.message = f"{done}, but could not be started: {error.message}"
        raise
