"""What a host remembers of its VMs: the last definition of each, as it was at the end of the last job on it.

A definition is worth something where its disks are; so it lies with them, in the host worker's own folder, one small
file for each VM, and outlives a libvirt that lost its own. A VM that is removed is forgotten; one that is undefined is
not. Losing such a file loses nothing but the memory.
"""

from __future__ import annotations

import logging
import os
import urllib.parse
from typing import Any

from maglica.declare import Action
from maglica.errors import MaglicaError
from maglica.host_worker.domain.domain_xml import Domain
from maglica.host_worker.host import Host

log = logging.getLogger("maglica.host_worker")

UNDEFINE = "vm undefine"
ABOUT = ("name", "hostname", "to")  # arguments that name a VM


def path_of(name: str, host: Host) -> str:
    """Whatever libvirt allows as a name is the name of one file."""
    return os.path.join(_folder(host), urllib.parse.quote(name, safe="") + ".xml")


def _folder(host: Host) -> str:
    return os.path.join(host.paths.state, f"host-{host.name}", "definitions")


def recall(name: str, host: Host) -> str | None:
    """The last definition that is remembered."""
    try:
        with open(path_of(name, host), encoding="utf-8") as file:
            return file.read()
    except (FileNotFoundError, UnicodeDecodeError):
        return None


def keep(name: str, text: str, host: Host) -> None:
    """It may hold the password of a display: nobody else reads it."""
    os.makedirs(_folder(host), mode=0o700, exist_ok=True)
    path = path_of(name, host)
    with open(os.open(f"{path}.new", os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(f"{path}.new", path)


def after(action: Action, host: Host) -> None:
    """At the good end of a job: remember the VMs that it was about as they are now. Never fails: it is a memory."""
    if action.NOUN not in ("vm", "nic", "snapshot", "fleet"):
        return
    values = action.values()
    for name in {str(values[key]) for key in ABOUT if values.get(key)}:
        try:
            keep(name, host.hypervisor.definition(name), host)
        except MaglicaError as error:
            if error.code == "unknown_entity" and action.NAME != UNDEFINE:
                _forget(name, host)
        except OSError as error:
            log.warning("vm=%s its definition cannot be remembered: %s", name, error)


def _forget(name: str, host: Host) -> None:
    try:
        os.unlink(path_of(name, host))
    except OSError:
        pass


def differences(old: Domain, new: Domain) -> list[str]:
    """What has changed, as `attribute: old -> new`."""
    before, now = facts(old), facts(new)
    return [
        f"{key}: {_word(before.get(key))} -> {_word(now.get(key))}"
        for key in dict.fromkeys((*before, *now))
        if before.get(key) != now.get(key)
    ]


def facts(domain: Domain) -> dict[str, Any]:
    """What is compared."""
    found: dict[str, Any] = {
        "uuid": domain.uuid, "type": domain.type, "machine": domain.machine, "vcpus": domain.vcpus,
        "memory_bytes": domain.memory_bytes, "nvram": domain.nvram, "console_log": domain.console_log,
    }  # fmt: skip
    for disk in domain.disks:
        found[f"disk {disk.target}"] = " ".join(filter(None, (disk.path, disk.format, disk.bus, disk.device)))
    for nic in domain.nics:
        found[f"nic {nic['mac']}"] = " ".join(filter(None, (nic["type"], nic["source"], nic["model"])))
    return {**found, **{f"mark {key}": value for key, value in sorted(domain.mark.items())}}


def _word(value: Any) -> str:
    return "none" if value in (None, "") else str(value)
