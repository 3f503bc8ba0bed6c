"""Any device, as libvirt's XML describes it: plugged in, unplugged, changed. libvirt finds and checks it."""

from __future__ import annotations

from typing import Any

from maglica.errors import Refused
from maglica.host_worker.device import elements, plugging
from maglica.host_worker.host import Host
from maglica.host_worker.work import Work


def attach(name: str, kind: str, piece: str, apply: str, host: Host, work: Work) -> dict[str, Any]:
    subject = plugging.look(name, host)
    where = plugging.places(subject, apply)
    work.will({"plug in": kind, "vm": name, **where.told()})
    if where.live:
        with work.step("plug in"):
            plugging.attach_live(subject, piece, host, work)
    if where.config:
        with work.step("define"):
            plugging.define(subject, elements.added(subject.config, piece), host, work)
    return {"name": name, "host": host.name, "device": kind, **where.told(), "changed": True}


def detach(name: str, kind: str, piece: str, apply: str, timeout: float, host: Host, work: Work) -> dict[str, Any]:
    subject = plugging.look(name, host)
    where = plugging.places(subject, apply)
    for text, asked in ((subject.live, where.live), (subject.config, where.config)):
        if asked and elements.like(text, piece) is None:
            hint = f"`maglica vm detach-device {name} --apply=…` takes it from where it is"
            raise Refused("unknown_entity", f"{name} has no such <{kind}>", hint if any(where) else "")
    work.will({"unplug": kind, "vm": name, **where.told()})
    if where.live:
        with work.step("unplug"):
            plugging.detach_live(subject, piece, f"the {kind}", timeout, host, work)
    if where.config:
        with work.step("define"):
            work.undo("redefine", uuid=subject.uuid, text=subject.config)
            host.hypervisor.detach_device(subject.uuid, piece, "config")
    return {"name": name, "host": host.name, "device": kind, **where.told(), "changed": True}


def update(name: str, kind: str, piece: str, apply: str, host: Host, work: Work, *, force: bool) -> dict[str, Any]:
    subject = plugging.look(name, host)
    where = plugging.places(subject, apply)
    before = [elements.like(text, piece) for text in (subject.live, subject.config)]
    for old, asked in zip(before, where, strict=True):
        if asked and old is None:
            hint = f"`maglica vm attach-device {name}` plugs one in"
            raise Refused("unknown_entity", f"{name} has no such <{kind}> to be changed", hint)
    work.will({"change": kind, "vm": name, **where.told()})
    if where.live:
        with work.step("change"):
            plugging.update_live(subject, str(before[0]), piece, host, work, force=force)
    if where.config:
        with work.step("define"):
            work.undo("redefine", uuid=subject.uuid, text=subject.config)
            host.hypervisor.update_device(subject.uuid, piece, "config", force=force)
    after = host.hypervisor.layout(name)
    changed = after != (subject.live, subject.config)
    return {"name": name, "host": host.name, "device": kind, **where.told(), "changed": changed}
