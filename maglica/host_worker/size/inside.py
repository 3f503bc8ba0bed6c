"""What a guest has to do itself when it was given something while it runs; done by its agent where there is one.

Most distributions take new processors and memory by themselves, some (Debian among them) do not. QEMU's guest agent:
guest-set-vcpus, guest-set-memory-blocks.
"""

from __future__ import annotations

import time
from typing import Any

from maglica.errors import MaglicaError
from maglica.host_worker.domain import domain_xml
from maglica.host_worker.host import Host
from maglica.host_worker.hypervisor.size import Shape

ANSWER_WITHIN = 12  # seconds that an agent may take: an emulated guest needs some to bring a processor up
NOTICED_WITHIN = 5.0  # seconds after which a guest has seen what was plugged in
POLL = 0.3

TAKE_VCPUS = "in the guest: for c in /sys/devices/system/cpu/cpu*/online; do echo 1 > $c; done"
TAKE_MEMORY = "in the guest: for m in /sys/devices/system/memory/memory*/state; do echo online > $m; done"


def take_vcpus(found: Shape, count: int, host: Host) -> dict[str, Any]:
    """Let the guest use so many processors: `guest_vcpus`, how many it uses then (None: nobody can tell), and `note`,
    what is left to be done."""
    unknown = {"guest_vcpus": None, "note": f"if it does not use them: {TAKE_VCPUS}"}
    if not _has_agent(found):
        return unknown
    try:
        seen = _until(lambda: _ask(found, host, "guest-get-vcpus"), count)
        idle = [{"logical-id": one["logical-id"], "online": True} for one in seen if not one["online"]]
        if idle:
            host.hypervisor.agent(found.name, "guest-set-vcpus", ANSWER_WITHIN, vcpus=idle)
        online = sum(bool(one["online"]) for one in _ask(found, host, "guest-get-vcpus"))
    except MaglicaError as error:
        return _why(unknown, error)
    return {"guest_vcpus": online, "note": None if online == count else unknown["note"]}


def take_memory(found: Shape, host: Host) -> dict[str, Any]:
    """Let the guest use memory that was plugged in: `guest_bytes`, how much of it it uses then (None: nobody can
    tell), and `note`, what is left to be done."""
    unknown = {"guest_bytes": None, "note": f"if it does not use it: {TAKE_MEMORY}"}
    if not _has_agent(found):
        return unknown
    try:
        blocks = _ask(found, host, "guest-get-memory-blocks")
        until = time.monotonic() + NOTICED_WITHIN
        while all(one["online"] for one in blocks) and time.monotonic() < until:
            time.sleep(POLL)
            more = _ask(found, host, "guest-get-memory-blocks")
            if len(more) > len(blocks):
                break
        blocks = _ask(found, host, "guest-get-memory-blocks")
        idle = [{"phys-index": one["phys-index"], "online": True} for one in blocks if not one["online"]]
        if idle:
            host.hypervisor.agent(found.name, "guest-set-memory-blocks", ANSWER_WITHIN, **{"mem-blks": idle})
        each = int(_ask(found, host, "guest-get-memory-block-info")["size"])
        blocks = _ask(found, host, "guest-get-memory-blocks")
    except MaglicaError as error:
        return _why(unknown, error)
    used = sum(bool(one["online"]) for one in blocks)
    return {"guest_bytes": used * each, "note": None if used == len(blocks) else unknown["note"]}


def _why(unknown: dict[str, Any], error: MaglicaError) -> dict[str, Any]:
    """With the reason that its agent gave."""
    return {**unknown, "note": f"{unknown['note']} ({error.message.removeprefix('libvirt: ')})"}


def _has_agent(found: Shape) -> bool:
    return found.live is not None and domain_xml.read(found.live).agent


def _ask(found: Shape, host: Host, command: str) -> Any:
    return host.hypervisor.agent(found.name, command, ANSWER_WITHIN)


def _until(ask: Any, count: int) -> list[dict[str, Any]]:
    """The list that an agent gives, once it has so many entries or some seconds have passed."""
    until = time.monotonic() + NOTICED_WITHIN
    while True:
        found: list[dict[str, Any]] = ask()
        if len(found) >= count or time.monotonic() > until:
            return found
        time.sleep(POLL)
