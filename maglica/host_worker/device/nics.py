"""Network cards: what an element says, and how it is written. Values in, values out."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any


def element(kind: str, source: str, mac: str, model: str, link: str) -> str:
    """A network card. `kind`: network or bridge; `link`: up or down."""
    nic = ET.Element("interface", type=kind)
    ET.SubElement(nic, "mac", address=mac)
    ET.SubElement(nic, "source", {kind: source})
    ET.SubElement(nic, "model", type=model)
    if link == "down":
        ET.SubElement(nic, "link", state="down")
    return ET.tostring(nic, encoding="unicode")


def with_link(piece: str, state: str) -> str:
    """The same card with its cable plugged in (`up`) or pulled (`down`)."""
    nic = ET.fromstring(piece)
    link = nic.find("link")
    (link if link is not None else ET.SubElement(nic, "link")).set("state", state)
    return ET.tostring(nic, encoding="unicode")


def facts(piece: str) -> dict[str, Any]:
    """What an element says of its card: `mac`, `type`, `source`, `model`, `device`, `link`."""
    nic = ET.fromstring(piece)
    mac, source, model, target, link = (nic.find(tag) for tag in ("mac", "source", "model", "target", "link"))
    names = ("network", "bridge", "dev")
    return {
        "mac": mac.get("address", "").lower() if mac is not None else None,
        "type": nic.get("type"),
        "source": next((source.get(name) for name in names if source.get(name)), None) if source is not None else None,
        "model": model.get("type") if model is not None else None,
        "device": target.get("dev") if target is not None else None,
        "link": link.get("state", "up") if link is not None else "up",
    }
