"""Where a running domain can be looked at: its serial console and its screens. Definitions in, values out.

https://libvirt.org/formatdomain.html#graphical-framebuffers, #consoles-serial-parallel-channel-devices
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any, NamedTuple


class Terminal(NamedTuple):
    """A serial console. `path`: the device that is the host's end of it; None while the domain is off."""

    kind: str  # pty, unix, tcp, file, …
    path: str | None


def terminal(text: str) -> Terminal | None:
    """The domain's first serial console; None when it has none."""
    root = ET.fromstring(text)
    # <console> repeats the first serial port; of a guest without serial ports it stands alone (virtio, sclp).
    found = root.find("./devices/console")
    if found is None:
        found = root.find("./devices/serial")
    if found is None:
        return None
    source = found.find("source")
    path = found.get("tty") or (source.get("path") if source is not None else None)
    return Terminal(found.get("type", ""), path)


def displays(text: str) -> list[dict[str, Any]]:
    """The domain's screens, in the order that libvirt counts them in. Passwords are not told, only that there are some.

    `port` is None while it is not known: of a domain that is off, or of a screen that listens on none.
    """
    return [_display(graphics) for graphics in ET.fromstring(text).findall("./devices/graphics")]


def _display(graphics: ET.Element) -> dict[str, Any]:
    listen = graphics.find("listen")
    socket = graphics.get("socket") or (listen.get("socket") if listen is not None else None)
    address = graphics.get("listen") or (listen.get("address") if listen is not None else None)
    kind = listen.get("type", "address") if listen is not None else "socket" if socket else "address"
    if kind == "none":
        address = None
    return {
        "type": graphics.get("type", ""),
        "listen": kind,
        "address": address,
        "port": _port(graphics.get("port")),
        "tls_port": _port(graphics.get("tlsPort")),
        "websocket": _port(graphics.get("websocket")),
        "socket": socket,
        "password": graphics.get("passwd") is not None,
        "password_until": graphics.get("passwdValidTo"),
    }


def _port(text: str | None) -> int | None:
    try:
        port = int(text or "")
    except ValueError:
        return None
    return port if port > 0 else None  # -1 and 0: chosen when it starts
