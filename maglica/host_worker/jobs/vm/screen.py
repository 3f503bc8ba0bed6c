"""Screens, keyboards and clocks of VMs."""

from __future__ import annotations

import base64
import time
from datetime import UTC, datetime
from typing import Any

from maglica import keyboard
from maglica.actions.vm.screen import VmScreenshot, VmSendKey, VmSetTime, VmTime
from maglica.errors import Refused
from maglica.host_worker.domain import domain_xml, inward, picture, standing
from maglica.host_worker.domain.look import ACTIVE
from maglica.host_worker.host import Host
from maglica.host_worker.work import Work

MOST_BYTES = 3 << 20  # of a picture: an answer may have 4 MiB, and it travels as text


def vm_screenshot(want: VmScreenshot, host: Host) -> dict[str, Any]:
    state = host.hypervisor.state(want.name)
    standing.refuse_off(want.name, state, ACTIVE)
    if host.hypervisor.has_files and not domain_xml.screens(host.hypervisor.running_definition(want.name)):
        hint = f"`maglica vm console {want.name}` shows its serial console"
        raise Refused("wrong_state", f"{want.name} has no screen: there is no video card in its definition", hint)
    _, data = host.hypervisor.picture(want.name, want.screen)
    shown = picture.png(data)
    if len(shown.png) > MOST_BYTES:
        raise Refused(
            "no_capacity",
            f"the picture of {want.name} has {len(shown.png)} bytes, more than {MOST_BYTES} that fit into an answer",
            "a smaller mode of its screen would fit",
        )
    told = {"name": want.name, "host": host.name, "width": shown.width, "height": shown.height}
    return {"item": {**told, "png_base64": base64.b64encode(shown.png).decode("ascii")}}


def vm_send_key(want: VmSendKey, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle leaves some of the strokes made."""
    state = host.hypervisor.state(want.name)
    standing.refuse_off(want.name, state, ACTIVE)
    standing.refuse(want.name, state)
    work.will({"press": want.keys})
    with work.step("send-key"):
        for place, stroke in enumerate(want.keys):
            if place:
                work.check()
                time.sleep(want.hold)  # QEMU lets the keys before go after that time
            host.hypervisor.press(want.name, keyboard.codes(stroke), round(want.hold * 1000))
    return {"name": want.name, "host": host.name, "pressed": len(want.keys), "changed": True}


def vm_time(want: VmTime, host: Host) -> dict[str, Any]:
    _refuse_without_agent(want.name, host)
    began = time.time()
    guest = host.hypervisor.guest_time(want.name)
    now = (began + time.time()) / 2
    told = {"name": want.name, "host": host.name, "guest_at": _text(guest), "host_at": _text(now)}
    return {"item": {**told, "difference_seconds": round(guest - now, 3)}}


def vm_set_time(want: VmSetTime, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle leaves the old time or the new one."""
    _refuse_without_agent(want.name, host)
    before = host.hypervisor.guest_time(want.name) - time.time()
    work.will({"set the clock of": want.name, "to": want.to})
    with work.step("set-time"):
        work.point_of_no_return()
        wanted = time.time() if want.to == "now" else datetime.fromisoformat(want.to).timestamp()
        host.hypervisor.set_guest_time(want.name, wanted)
    told = {"name": want.name, "host": host.name, "changed": True}
    return {**told, "guest_at": _text(wanted), "was_ahead_seconds": round(before, 3)}


def _refuse_without_agent(name: str, host: Host) -> None:
    """A guest's clock is its agent's matter."""
    state = host.hypervisor.state(name)
    standing.refuse_off(name, state, ACTIVE)
    standing.refuse(name, state)
    if host.hypervisor.has_files:
        inward.refuse_without_agent(name, "tells and sets its clock", host)


def _text(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
