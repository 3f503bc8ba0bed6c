"""A VM that is built anew: what it keeps, and its old disks, which wait under names with the job's id.

The definition says which disks are the VM's: it bears the id of the job that gave it other ones. Until then everything
can be put back, and an old disk is deleted only when the new one is there.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from maglica.actions.vm.build import VmBuild
from maglica.errors import MaglicaError, Refused
from maglica.host_worker.clone import plan
from maglica.host_worker.disk import dependants, modes
from maglica.host_worker.domain import domain_xml, guarding, look, record, saved
from maglica.host_worker.domain.domain_xml import Domain
from maglica.host_worker.domain.look import ACTIVE
from maglica.host_worker.host import Host
from maglica.host_worker.work import Work

log = logging.getLogger("maglica.host_worker")

# What a mark says of how the disks came about: another disk, other words.
OF_THE_DISK = ("kind", "image", "archive", "job", "mode", "customize", "seed", "bases", "built")
OF_THE_ADDRESS = ("ip", "address", "gateway", "dns")


class Old(NamedTuple):
    """The VM as it is: its definition, and the disks that can be replaced, target -> path."""

    text: str
    domain: Domain
    disks: dict[str, str]
    capacity_bytes: int  # of the first of them

    @property
    def files(self) -> dict[str, str]:
        """All files that a new disk or firmware may lie in the place of."""
        return {**self.disks, **({"nvram": self.domain.nvram} if self.domain.nvram else {})}

    @property
    def macs(self) -> list[str]:
        return [str(nic["mac"]) for nic in self.domain.nics]


def find(want: VmBuild, host: Host) -> Old | None:
    """The VM that is built anew; None for one that is made. `Refused` where it cannot be what was asked for."""
    hypervisor = host.hypervisor
    known = dict(hypervisor.states())
    if not want.rebuild:
        if want.name in known:
            raise Refused(
                "already_exists", f"{want.name} exists on {host.name} ({known[want.name]})",
                f"`maglica vm build {want.name} --rebuild` gives it a new disk",
            )  # fmt: skip
        return None
    if want.name not in known:
        raise Refused("unknown_entity", f"there is no VM {want.name} on {host.name}", "leave out --rebuild")
    state, text = known[want.name], hypervisor.definition(want.name)
    domain = domain_xml.read(text)
    if domain_xml.is_image(domain, state in ACTIVE):
        raise Refused("protected", f"{want.name} is an image", "a new version of it gets a new name")
    if state in ACTIVE:
        raise Refused("wrong_state", f"{want.name} is {state}: its disk cannot be replaced", "stop it first")
    guarding.refuse_protected(want.name, "vm build --rebuild", host)
    guarding.refuse_retired(domain)
    saved.refuse_change(domain, hypervisor, runs=False)
    _refuse_snapshots(want.name, host)
    sources = look.sources(hypervisor, domain, host.storage)
    if not sources:
        raise Refused("wrong_state", f"{want.name} has no disk that could be replaced", "give it one, or remove it")
    return Old(text, domain, {source.disk.target: source.path for source in sources}, sources[0].capacity_bytes)


def _refuse_snapshots(name: str, host: Host) -> None:
    if count := host.hypervisor.details(name)["snapshots"]:
        raise Refused("wrong_state", f"{name} has {count} snapshots, which are of its old disk", "remove them first")


def refuse_firmware(old: Old, uefi: bool, what: str) -> None:
    """Refuse a disk that the VM's firmware could not boot from."""
    if domain_xml.boots_by_uefi(old.text) != uefi:
        words = ("UEFI", "a BIOS") if not uefi else ("a BIOS", "UEFI")
        raise Refused(
            "wrong_state", f"{old.domain.name} boots by {words[0]}, {what} is for {words[1]}", "build another VM of it"
        )


def refuse_changed(old: Old, targets: Iterable[str], host: Host) -> None:
    """Right before its disks are set aside: what was looked at may be long ago, and others can start it as well."""
    name = old.domain.name
    state = host.hypervisor.state(name)
    if state in ACTIVE:
        raise Refused("wrong_state", f"{name} is {state} by now: its disk cannot be replaced", "stop it first")
    _refuse_snapshots(name, host)
    refuse(old, targets, host)


def filled(want: VmBuild, old: Old | None) -> VmBuild:
    """The same request, with what the record of the VM says where nothing was said."""
    if old is None:
        return want
    values, mark = want.values(), old.domain.mark
    if not (want.archive or want.image or want.barebones):
        made_of = {"archive": mark.get("archive"), "image": mark.get("image"), "barebones": mark.get("built") == "bare"}
        if not any(made_of.values()):
            raise Refused(
                "wrong_input", f"nothing is known of what {want.name} was made from",
                "say --archive=SOURCE, --image=NAME or --barebones",
            )  # fmt: skip
        values |= made_of
    if want.ip is None and mark.get("address") and not values["barebones"]:
        dns = [server for server in mark.get("dns", "").split(",") if server]
        values |= {"ip": mark["address"], "gateway": mark.get("gateway") or None, "dns": dns or None}
    return VmBuild(**values)


def refuse(old: Old, targets: Iterable[str], host: Host) -> None:
    """Refuse to replace disks that the VM has not, that are no files, or that somebody else needs."""
    for target in targets:
        path = old.disks.get(target)
        if path is None:
            has = ", ".join(old.disks)
            raise Refused("wrong_state", f"{old.domain.name} has no disk {target}: it has {has}", "build another VM")
        if not os.path.isfile(path):
            raise Refused("wrong_state", f"{path} is no file that could be set aside", "remove the VM, and build it")
    own = [old.disks[target] for target in targets]
    _, used = look.users_of(host.hypervisor, old.domain.name, own)
    used |= {one.base: one.domain or f"the overlay {one.path}" for one in dependants.of(host.hypervisor, own)}
    if used:
        path, user = next(iter(used.items()))
        raise Refused(
            "protected", f"{old.domain.name} cannot be built anew: {user} uses its disk {path}",
            f"`maglica vm flatten {user}` makes that one independent", details={"used": used},
        )  # fmt: skip


def set_aside(old: Old, paths: Mapping[str, str], work: Work) -> list[str]:
    """Give the old disks, and the seed that one may have, names with the job's id; these. `paths`: target -> where the
    new disk will lie.
    """
    files = {old.disks[target]: new for target, new in paths.items()}
    seed = old.domain.mark.get("seed")
    if seed and os.path.isfile(seed):
        files[seed] = next(iter(paths.values()))
    aside = []
    for path, new in files.items():
        name = f"{path}.{work.job}.replaced"
        work.undo("settle_replaced", path=name, original=path, uuid=old.domain.uuid, job=work.job, new=new)
        os.rename(path, name)
        aside.append(name)
    return aside


def drop(aside: Sequence[str], host: Host, work: Work) -> None:
    """Delete the old disks: everything is right. From the first of them on there is no way back, and none is tried."""
    if not aside:
        return
    work.commit("settle_replaced")
    for path in aside:
        behind = look.chain(path, None)[1:]
        os.unlink(path)
        try:
            dependants.release(host.hypervisor, behind)
        except MaglicaError as error:  # the next start of the host worker looks for such files
            log.warning("what %s rested on stays read-only for now: %s", path, error.message)


def mark(old: Old, new: dict[str, str]) -> dict[str, str]:
    """What is kept with the VM from now on: the words of people stay."""
    gone = OF_THE_DISK + (OF_THE_ADDRESS if "address" in new else ())
    kept = {key: value for key, value in old.domain.mark.items() if key not in gone}
    return {**record.with_tags(kept, more=new.get("tags", "").split(",") if new.get("tags") else ()), **new}


def definition(old: Old, disks: dict[str, tuple[str, str]], want: VmBuild, new: dict[str, str]) -> str:
    """The VM's definition with its new disks."""
    return domain_xml.refit(old.text, disks, want.vcpus, want.memory, mark(old, new))


def told(old: Old, targets: Iterable[str]) -> dict[str, Any]:
    """What a dry run says of it."""
    return {"replaces": [old.disks[target] for target in targets]}


def place(
    want: VmBuild, old: Old | None, target: str, pools: Sequence[dict[str, Any]], pool: str | None, needed: int
) -> tuple[dict[str, Any], str]:
    """(pool, path) of the disk: where the old one lies, or under the VM's name in the pool with most room.

    `pools` as `look.pools` gives them, `pool`: the one of the settings, `needed` bytes at once.
    """
    if old is not None and want.pool is None and old.disks[target].endswith(".qcow2"):
        folder = os.path.dirname(old.disks[target])
        for one in pools:
            if one["path"] == folder and int(one["room_bytes"]) >= needed:
                return one, old.disks[target]
    chosen = modes.roomiest(pools, want.pool or pool, needed)
    return chosen, os.path.join(str(chosen["path"]), f"{plan.stem(want.name)}.qcow2")
