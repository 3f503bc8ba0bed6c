"""The names that an action touches, and that have to be for whoever asks: `Keyring.may` is asked about each of them.

Values in, values out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Container, Mapping
from typing import Any

from maglica import declare
from maglica.actions.image import ImageLabel, ImagePromote
from maglica.actions.job import JobPrune
from maglica.actions.vm.devices import VmAttachDisk, VmAttachIso
from maglica.client_worker.door.keyring import EVERYTHING
from maglica.client_worker.placement import labels
from maglica.declare import READER, Action
from maglica.job import Group

# What a file's name has behind that of its VM: -vda.qcow2, -vdb-2.img, -vda.LABEL.qcow2, -swap.img, -seed.iso, .qcow2.
FORMAT = re.compile(r"\.(qcow2|img|raw|iso)$", re.IGNORECASE)
PART = re.compile(r"-((vd|sd|hd|xvd|fd)[a-z]{1,2}(-\d{1,3})?|swap|seed)(\..+)?$")
SEED = re.compile(r"-seed\.iso$", re.IGNORECASE)


def by_job(action: Action, vms: Container[str] = ()) -> list[str]:
    """Of what a job is about, or makes, the name that it gives beside that, and those whose file it takes.

    `vms`: the names of all VMs, when they are known.
    """
    names = [str(action.values()[_about(type(action))]), action.given_name()]
    if isinstance(action, VmAttachDisk) and action.source:
        names += _by_disk(os.path.basename(action.source), vms)
    elif isinstance(action, VmAttachIso):
        names += _by_iso(os.path.basename(action.iso), vms)
    return [name for name in names if name]


def _about(action: type[Action]) -> str:
    """The argument with the name of what an action is about, or makes: an image that is imported has one, too."""
    return "name" if action.NOUN == "image" else action.distinct()


def by_member(group: Group, member: Mapping[str, Any]) -> tuple[str, str | None]:
    """(VM, host) that one of a group is about in the words of whoever asked; no host where he said none."""
    said = {**group["args"], **member["args"]}
    vm, _, host = str(said.get(_about(declare.find(group["action"]).action)) or member["name"]).partition("@")
    where = host or said.get("dest") or said.get("on")
    return vm, None if where is None else str(where)


def _by_disk(file: str, vms: Container[str]) -> list[str]:
    """Whose a disk is, by its name: also when that VM is gone, or is longer than it looks."""
    return [PART.sub("", FORMAT.sub("", _plain(file))), *_begun(file, vms)]


def _by_iso(file: str, vms: Container[str]) -> list[str]:
    """An ISO file is for everybody, unless it is called like a file of a VM: cloud-init's seed has its secrets."""
    is_iso = file.lower().endswith(".iso") and not SEED.search(file)
    return _begun(file, vms) if is_iso else _by_disk(file, vms)


def _begun(file: str, vms: Container[str]) -> list[str]:
    """The longest name of a VM with which a file's name begins, if there is one."""
    name = _plain(file)
    ends = [*(found.start() for found in re.finditer(r"[.:-]", name)), len(name)]
    return [name[:end] for end in ends if name[:end] in vms][-1:]


def _plain(file: str) -> str:
    """With a colon where the files of an image have none: el9@1.qcow2 is of el9:1."""
    return file.replace("@", ":")


def hosts(action: Action) -> list[str]:
    """The hosts that somebody says: one that it is about, where something shall go, where it shall come from."""
    if isinstance(action, JobPrune):
        return [EVERYTHING]
    values, said = action.values(), ("name",) if action.NOUN == "host" else ("on", "dest", "from_")
    return [str(values[name]) for name in said if values.get(name) is not None]


def by_record(action: Action, known: Mapping[str, str]) -> list[str]:
    """Of what the client worker changes for everybody in its own records. `known`: the labels and what they mean."""
    if isinstance(action, JobPrune):
        return [EVERYTHING]
    if action.NOUN not in ("image", "template") or action.ROLE == READER:  # to look is for everybody
        return []
    name = str(getattr(action, "name"))
    if isinstance(action, (ImageLabel, ImagePromote)):
        image = known.get(name, name)
        return [image, labels.wanted(action, image)]
    return [name]
