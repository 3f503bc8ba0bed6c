"""What bears a VM's name besides itself, and the definition under another name. Values in, values out.

https://libvirt.org/formatdomain.html
"""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from maglica.host_worker.disk import volumes
from maglica.host_worker.disk.modes import Volume
from maglica.host_worker.domain.domain_xml import MARK

# What holds a path in a definition, below the elements in which it is the machine's own.
_ATTRIBUTES = ("file", "dev", "path")
_CHARACTER_DEVICES = ("serial", "parallel", "console", "channel")


class Move(NamedTuple):
    """A file or logical volume that follows. `volume`: (pool, old, new) where the definition names it so. `logical`:
    (group, old, new) of a logical volume.
    """

    old: str
    new: str
    volume: tuple[str, str, str] | None = None
    logical: tuple[str, str, str] | None = None

    def shown(self) -> dict[str, str]:
        return {"from": self.old, "to": self.new}


def carried(path: str, old: str, new: str) -> str | None:
    """The path with the new name in the place of the old; None where the file does not bear it as a whole word."""
    folder, base = os.path.split(path)
    found = re.sub(rf"(?<![A-Za-z0-9]){re.escape(old)}(?![A-Za-z0-9])", lambda _: new, base)
    return os.path.join(folder, found) if found != base else None


def volume_move(path: str, volume: Volume, pool: str | None, old: str, new: str) -> Move | None:
    """How a logical volume follows; None where it does not bear the name, or is called by a node that says none.

    `pool`: the libvirt pool by which the definition calls it.
    """
    target = carried(volume.name, old, new)
    nodes = {f"/dev/{volume.group}/{volume.name}": f"/dev/{volume.group}/{target}"}
    if target:
        nodes[volumes.in_mapper(*volume[:2])] = volumes.in_mapper(volume.group, target)
    if not target or path not in nodes:
        return None
    named = (pool, volume.name, target) if pool else None
    return Move(path, nodes[path], named, (volume.group, volume.name, target))


def moves(text: str, disks: Sequence[tuple[str, str | None]], new: str) -> list[Move]:
    """The files that follow a VM to its new name.

    `disks`: where each of its own disks lies, and POOL/VOLUME where the definition names it so.
    """
    root = ET.fromstring(text)
    old = root.findtext("name", "")
    found: dict[str, Move] = {}
    for path, volume in disks:
        target = carried(path, old, new)
        if target:
            pool, _, name = (volume or "").partition("/")
            found[path] = Move(path, target, (pool, name, os.path.basename(target)) if volume else None)
    for path in _other_files(root):
        target = carried(path, old, new)
        if target and path not in found:
            found[path] = Move(path, target)
    return list(found.values())


def _other_files(root: ET.Element) -> list[str]:
    """The machine's seed, the files that it writes its consoles to, and its firmware's variables."""
    mark = root.find(f"./metadata/{MARK}")
    paths = [mark.get("seed", "")] if mark is not None else []
    for kind in _CHARACTER_DEVICES:
        for device in root.findall(f"./devices/{kind}"):
            paths += [log.get("file", "") for log in device.findall("log")]
            if device.get("type") == "file":
                paths += [source.get("path", "") for source in device.findall("source")]
    nvram = root.find("./os/nvram")
    if nvram is not None:
        source = nvram.find("source")
        paths.append(source.get("file", "") if source is not None else (nvram.text or "").strip())
    return [path for path in paths if path]


def renamed(text: str, name: str, moved: Sequence[Move], mark: Mapping[str, str]) -> str:
    """The definition under its new name, with its files where they are by then; `mark` is added to ours."""
    root = ET.fromstring(text)
    root.attrib.pop("id", None)
    title = root.find("name")
    if title is not None:
        title.text = name
    paths = {move.old: move.new for move in moved}
    volumes = {move.volume[:2]: move.volume[2] for move in moved if move.volume}
    for element in (
        one for part in ("./devices", "./os", "./metadata") for top in root.findall(part) for one in top.iter()
    ):
        _redirect(element, paths, volumes)
    _mark(root, {**{key: paths.get(value, value) for key, value in _marked(root).items()}, **mark})
    return ET.tostring(root, encoding="unicode")


def marked(text: str, mark: Mapping[str, str]) -> str:
    """The same definition with this in our mark; an empty value takes a key away."""
    root = ET.fromstring(text)
    _mark(root, {key: value for key, value in {**_marked(root), **mark}.items() if value})
    return ET.tostring(root, encoding="unicode")


def with_uuid(text: str, uuid: str) -> str:
    """The definition of the same machine as another one."""
    root = ET.fromstring(text)
    found = root.find("uuid")
    if found is None:
        found = ET.SubElement(root, "uuid")
    found.text = uuid
    return ET.tostring(root, encoding="unicode")


def _redirect(element: ET.Element, paths: Mapping[str, str], volumes: Mapping[tuple[str, str], str]) -> None:
    for attribute in _ATTRIBUTES:
        value = element.get(attribute, "")
        if value in paths:
            element.set(attribute, paths[value])
    if element.tag == "nvram" and (element.text or "").strip() in paths:
        element.text = paths[(element.text or "").strip()]
    volume = (element.get("pool", ""), element.get("volume", ""))
    if element.tag == "source" and volume in volumes:
        element.set("volume", volumes[volume])


def _marked(root: ET.Element) -> dict[str, str]:
    mark = root.find(f"./metadata/{MARK}")
    return dict(mark.attrib) if mark is not None else {}


def _mark(root: ET.Element, mark: Mapping[str, str]) -> None:
    metadata = root.find("metadata")
    if metadata is None:
        metadata = ET.SubElement(root, "metadata")
    for old in metadata.findall(MARK):
        metadata.remove(old)
    ET.SubElement(metadata, MARK, dict(mark))
