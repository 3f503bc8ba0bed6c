"""Changing the memory of a guest that runs: by its balloon, or by modules that are plugged in."""

from __future__ import annotations

import time
from typing import Any

from maglica.host_worker.host import Host
from maglica.host_worker.hypervisor.size import Shape
from maglica.host_worker.signs import sign
from maglica.host_worker.size import applying, inside, memory
from maglica.host_worker.size.memory import Facts, Plan
from maglica.host_worker.work import Work

SETTLES_WITHIN = 10.0  # seconds after which a guest is not waited for that gives or takes memory slowly, or not at all
POLL = 0.2


def change(found: Shape, todo: Plan, facts: Facts, host: Host, work: Work, told: dict[str, Any]) -> dict[str, Any]:
    """Do what was planned; what the guest has of it then, and what is left to be done there."""
    assert facts.live is not None  # it is a plan for what runs
    # What the definition has may be another size altogether: it is then written anew, as a whole.
    stored, live = facts.stored, facts.live
    if todo.modules:
        at_once = todo.define and (stored.total, stored.slots, stored.now) == (live.total, live.slots, live.total)
    else:
        at_once = todo.define and todo.size <= stored.total
    apply = "both" if at_once else "live"
    alone = at_once or not todo.define
    shown = sign("is_sized", told, name=found.name, live=bool(todo.modules), stored=todo.define, memory=todo.size)
    if todo.balloon:
        with work.step("balloon", sign=shown if alone and at_once and not todo.modules else None):
            host.hypervisor.set_memory(found.name, min(todo.size, live.total), "live" if todo.modules else apply)
    if todo.modules:
        modules = [memory.module(size, cell) for cell, size in enumerate(todo.modules)]
        with work.step("plug in", sign=shown if alone else None):
            host.hypervisor.plug_memory(found.name, modules, apply)
    if not alone:
        applying.redefine(found, memory.rewrite(found.stored, todo.size), host, work, shown)
    if todo.modules:
        return inside.take_memory(found, host)
    with work.step("wait for the guest", sign=shown if todo.define else None):
        return _settled(found.name, todo.size, host, work)


def _settled(name: str, size: int, host: Host, work: Work) -> dict[str, Any]:
    until, seen = time.monotonic() + SETTLES_WITHIN, host.hypervisor.memory_now(name)
    while seen != size and time.monotonic() < until:
        work.check()
        time.sleep(POLL)
        seen = host.hypervisor.memory_now(name)
    note = None if seen == size else "its balloon has not come that far yet: a driver in the guest moves it"
    return {"guest_bytes": seen, "note": note}
