"""`vm attach-iso`, `vm eject`: media of CD-ROM drives."""

from __future__ import annotations

import os
from typing import Any

from maglica.actions.vm.devices import VmAttachIso, VmEject
from maglica.errors import Refused
from maglica.host_worker.device import belongings, disks, elements, finding, plugging
from maglica.host_worker.device.plugging import Places, Subject
from maglica.host_worker.host import Host
from maglica.host_worker.signs import sign
from maglica.host_worker.work import Work


def insert(want: VmAttachIso, host: Host, work: Work) -> dict[str, Any]:
    subject = plugging.look(want.name, host)
    where = plugging.places(subject, want.apply)
    found = finding.volume(want.iso, None, host)
    belongings.refuse(found.path, want.name, host)
    for user in finding.users(found.path, host):
        if user.writes or user.behind:
            raise Refused("wrong_input", f"{found.path} is a disk of {user.name}, not an ISO", "choose another --iso")
    belongings.refuse_no_iso(found.path, host)
    target = _drive(want, subject, where)
    todo = _without(subject, where, target, found.path)
    told = {"target": target, "path": found.path}
    if not any(todo):
        return plugging.unchanged(subject, host, **told)
    work.will({"insert": found.path, "into": want.name, **told, **todo.told()})
    result = {"name": want.name, "host": host.name, **told, **todo.told(), "changed": True}
    _change(subject, {target: found.path}, todo, host, work, result, force=want.force)
    return result


def eject(want: VmEject, host: Host, work: Work) -> dict[str, Any]:
    subject = plugging.look(want.name, host)
    where = plugging.places(subject, want.apply)
    drives = _drives(subject)
    if want.target is not None:
        _refuse_no_drive(subject, want.target)
    chosen = {target: None for target in sorted(drives) if want.target in (None, target)}
    if want.path is not None:
        chosen = {target: None for target in chosen if _holds(subject, target, want.path)}
    full = {target for target in chosen if any(_without(subject, where, target, None))}
    if not full:
        return {**plugging.unchanged(subject, host), "ejected": []}
    media = [{"target": target, "path": disks.facts(drives[target])["path"]} for target in sorted(full)]
    work.will({"eject": media, "from": want.name, **where.told()})
    result = {"name": want.name, "host": host.name, **where.told(), "ejected": media, "changed": True}
    _change(subject, dict.fromkeys(sorted(full)), where, host, work, result, force=want.force)
    return result


def _drives(subject: Subject) -> dict[str, str]:
    """target -> element of each CD-ROM drive, of what runs or of the definition."""
    known = subject.either(elements.disks)
    return {target: piece for target, piece in known.items() if disks.facts(piece)["device"] == "cdrom"}


def _refuse_no_drive(subject: Subject, target: str) -> None:
    drives = _drives(subject)
    if target not in drives:
        hint = f"it has {', '.join(sorted(drives)) or 'none'}"
        raise Refused("unknown_entity", f"{subject.name} has no CD-ROM drive {target}", hint)


def _drive(want: VmAttachIso, subject: Subject, where: Places) -> str:
    """The drive: the one that was asked for, an empty one, or one whose medium is changed; a new one's name where there
    is none. The drive with the seed of cloud-init is the guest's own."""
    drives = _drives(subject)
    if want.target is not None and (drives or where.live):
        _refuse_no_drive(subject, want.target)
        return want.target
    seed = subject.domain.mark.get("seed")
    usable = {target: disks.facts(piece)["path"] for target, piece in drives.items()}
    usable = {target: path for target, path in usable.items() if path is None or path != seed}
    if usable:
        return min(usable, key=lambda target: (usable[target] is not None, target))
    if where.live:
        raise Refused(
            "wrong_state",
            f"{subject.name} has no CD-ROM drive, and none can be plugged into a VM that runs",
            "--apply=config gives it one for its next start",
        )
    bus = disks.drive_bus(subject.domain.machine)
    return disks.target_for(want.target, bus, subject.either(elements.disks), subject.name)


def _without(subject: Subject, where: Places, target: str, path: str | None) -> Places:
    """Where the drive does not hold that medium yet."""

    def differs(text: str | None, missing: bool) -> bool:
        piece = elements.disks(text).get(target)
        return missing if piece is None else bool(disks.facts(piece)["path"] != path)

    # A drive can be added to the definition only.
    return Places(
        where.live and differs(subject.live, False), where.config and differs(subject.config, path is not None)
    )


def _holds(subject: Subject, target: str, path: str) -> bool:
    """Whether no other medium than that is in the drive, of what runs and of the definition."""
    pieces = [elements.disks(text).get(target) for text in (subject.live, subject.config)]
    held = {disks.facts(piece)["path"] for piece in pieces if piece is not None} - {None}
    return {os.path.realpath(one) for one in held} == {os.path.realpath(path)}


def _change(
    subject: Subject, media: dict[str, str | None], where: Places, host: Host, work: Work, told: dict[str, Any], *,
    force: bool,
) -> None:  # fmt: skip
    """Change the media of these drives."""
    (last, path), seen = list(media.items())[-1], None
    if len(media) == 1:
        seen = sign("disk_is", told, uuid=subject.uuid, target=last, path=path, **where.told())
    if where.live:
        with work.step("change medium", sign=None if where.config else seen):
            for target, medium in media.items():
                piece = elements.disks(subject.live).get(target)
                if piece is not None:
                    plugging.update_live(subject, piece, disks.with_medium(piece, medium), host, work, force=force)
    if where.config:
        with work.step("define", sign=seen):
            text = subject.config
            for target, medium in media.items():
                piece = elements.disks(text).get(target)
                if piece is not None:
                    text = elements.replaced(text, piece, disks.with_medium(piece, medium))
                elif medium is not None:
                    text = elements.added(text, disks.drive(target, disks.drive_bus(subject.domain.machine), medium))
            plugging.define(subject, text, host, work)
