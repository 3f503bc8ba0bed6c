"""A VM's VNC display: a connection of one's own, wherever the display listens, if anywhere."""

from __future__ import annotations

import os
import socket
from typing import Any

from maglica.declare import Action
from maglica.errors import Failed, MaglicaError, Refused
from maglica.host_worker.domain import displays
from maglica.host_worker.host import Host
from maglica.host_worker.streams.source import Opened

CONNECT_WITHIN = 5.0  # seconds
ANY = ("0.0.0.0", "::", "")


def opened(action: Action, host: Host) -> Opened:
    """A connection to the display of a VM that runs."""
    name = str(action.values()["name"])
    live, state = host.hypervisor.live_definition(name)
    found = displays.displays(live)
    index = chosen(name, found)
    if state in ("shut-off", "crashed", "unknown"):
        raise Refused("wrong_state", f"{name} is {state}: it shows nothing", f"`maglica vm start {name}` starts it")
    try:
        # QEMU is handed one end of a pair of sockets: no address, no port, no firewall.
        file = host.hypervisor.open_screen(name, index)
    except MaglicaError as error:
        if error.code == "host_down":
            raise
        file = _connected(name, found[index])
    os.set_blocking(file, False)
    return Opened(file, b"", False, "", lambda: None)


def chosen(name: str, found: list[dict[str, Any]]) -> int:
    """The number of the first VNC display; `Refused` where there is none."""
    kinds = [display["type"] for display in found]
    if "vnc" in kinds:
        return kinds.index("vnc")
    if "spice" in kinds:
        raise Refused(
            "wrong_state",
            f"{name} has a SPICE display, and only VNC is carried: SPICE needs several connections at once",
            f"`maglica vm display {name}` tells where it listens; or give it a <graphics type='vnc'/>",
        )
    hint = f"`maglica vm console {name}` is its serial console"
    raise Refused("wrong_state", f"{name} has no display" + (f" but {', '.join(kinds)}" if kinds else ""), hint)


def _connected(name: str, display: dict[str, Any]) -> int:
    """A connection to where it listens."""
    try:
        if display["socket"]:
            link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            link.settimeout(CONNECT_WITHIN)
            link.connect(display["socket"])
        elif display["port"]:
            address = "127.0.0.1" if (display["address"] or "") in ANY else display["address"]
            link = socket.create_connection((address, display["port"]), CONNECT_WITHIN)
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        else:
            raise Refused("wrong_state", f"{name}'s display listens nowhere", "")
    except OSError as error:
        text = f"cannot connect to the display of {name}: {error.strerror or error}"
        raise Failed("environment_error", text, f"`maglica vm display {name}` tells where it listens") from None
    return link.detach()
