"""Looking at a VM's console and display."""

from __future__ import annotations

from typing import Any

from maglica.actions.vm.console import VmConsoleLog, VmDisplay
from maglica.errors import Refused
from maglica.host_worker.domain import console, displays, domain_xml
from maglica.host_worker.host import Host


def vm_console_log(want: VmConsoleLog, host: Host) -> dict[str, Any]:
    live, state = host.hypervisor.live_definition(want.name)
    log = domain_xml.read(live).console_log
    if log is None:
        raise Refused(
            "wrong_state",
            f"{want.name}'s console is not kept in a file",
            "`maglica vm console` shows it live; a <log file=…/> in its <serial> keeps it",
        )
    return {"item": {"name": want.name, "state": state, "lines": console.captured(log, want.lines)}}


def vm_display(want: VmDisplay, host: Host) -> dict[str, Any]:
    live, state = host.hypervisor.live_definition(want.name)
    return {"item": {"name": want.name, "state": state, "displays": displays.displays(live)}}
