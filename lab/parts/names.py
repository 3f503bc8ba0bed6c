"""What a lab is called and where its things are. Every name is derived from the lab's name; nothing here acts."""

from __future__ import annotations

import hashlib
import json
import os
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .shell import LabError

CHECKOUT = Path(__file__).resolve().parents[2]
DEFAULT_NAME = "lab"
MOST_HOSTS = 50
PUB_PORT, REP_PORT = 5555, 5556
CLIENT_HOST_PART = 254
# A unix socket's path has at most 107 characters; what daemons add to the lab's folder stays below 47
LONGEST_FOLDER = 60
LONGEST_INTERFACE_PART = 9  # of the 15 characters that Linux gives an interface's name


def base_folder() -> Path:
    """The folder that holds a folder for each lab."""
    return Path(os.environ.get("MAGLICA_LAB_DIR") or "/var/tmp/maglica-lab").absolute()


def cache_folder() -> Path:
    """The folder of built images; it outlives the labs."""
    return Path(os.environ.get("MAGLICA_LAB_CACHE") or "/var/cache/maglica-lab").absolute()


@dataclass(frozen=True)
class Host:
    """One hypervisor of a lab; `number` counts from 1."""

    number: int
    name: str
    address: str
    folder: Path
    uuid: str

    @property
    def guest_net(self) -> str:
        """The first three numbers of the network that this host's guests live in."""
        return f"192.168.{100 + self.number}"


@dataclass(frozen=True)
class Lab:
    """A lab: its name, its folder, its network 10.77.SUBNET.0/24 and how many hosts it has."""

    name: str
    folder: Path
    subnet: int
    count: int
    boot: str
    workers: bool

    @property
    def interface(self) -> str:
        """The lab's only network interface outside its namespaces."""
        part = self.name
        if len(part) > LONGEST_INTERFACE_PART:
            part = part[:3] + hashlib.sha256(part.encode()).hexdigest()[:6]
        return f"mglab-{part}"

    def address(self, part: int) -> str:
        """An address of the lab's network."""
        return f"10.77.{self.subnet}.{part}"

    @property
    def client_address(self) -> str:
        """Where the client worker listens: this machine's own address in the lab's network."""
        return self.address(CLIENT_HOST_PART)

    @property
    def hosts(self) -> list[Host]:
        """All hosts in their order."""
        return [self._host(number) for number in range(1, self.count + 1)]

    def _host(self, number: int) -> Host:
        name = f"host{number}"
        own = uuid.uuid5(uuid.NAMESPACE_URL, f"maglica-lab/{self.name}/{name}")
        return Host(number, name, self.address(number), self.folder / name, str(own))

    def host(self, name: str) -> Host:
        """The host of that name; LabError names those that exist."""
        for host in self.hosts:
            if host.name == name:
                return host
        known = ", ".join(host.name for host in self.hosts)
        raise LabError(f"lab '{self.name}' has no host '{name}'; its hosts: {known}", 2)

    @property
    def cli_config(self) -> Path:
        """The settings for bin/maglica."""
        return self.folder / "maglica.conf"

    def log(self, label: str) -> Path:
        """The log of the process with this label, e.g. client, host1, libvirtd:host1."""
        return self.folder / "log" / f"{label}.log"

    def save(self, ready: bool) -> None:
        """Write lab.json, whole or not at all; `ready` says that `up` came to its end."""
        content = {
            "name": self.name,
            "subnet": self.subnet,
            "hosts": self.count,
            "boot": self.boot,
            "workers": self.workers,
            "ready": ready,
        }
        partial = self.folder / "lab.json.partial"
        partial.write_text(json.dumps(content) + "\n")
        partial.rename(self.folder / "lab.json")


def checked_name(name: str) -> str:
    """The lab's name, or LabError when a name of a file, an interface or a namespace cannot be made of it."""
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,19}", name):
        raise LabError(f"'{name}' cannot name a lab: 1 to 20 of a-z, 0-9 and '-', beginning with a letter", 2)
    return name


def lab_folder(name: str) -> Path:
    """The folder of the lab of that name."""
    folder = base_folder() / checked_name(name)
    if len(str(folder)) > LONGEST_FOLDER:
        raise LabError(f"{folder} is too long for unix sockets below it; set MAGLICA_LAB_DIR to a shorter one", 2)
    return folder


def read(name: str) -> tuple[Lab, bool]:
    """The lab as `up` left it and whether it is complete; LabError when there is none."""
    folder = lab_folder(name)
    try:
        content: Mapping[str, Any] = json.loads((folder / "lab.json").read_text())
    except FileNotFoundError:
        raise LabError(f"there is no lab '{name}'; `lab/up --name={name}` makes it") from None
    except ValueError as error:
        raise LabError(f"{folder / 'lab.json'} is damaged ({error}); `lab/down --name={name}` clears it") from None
    lab = Lab(
        name,
        folder,
        int(content["subnet"]),
        int(content["hosts"]),
        str(content["boot"]),
        bool(content["workers"]),
    )
    return lab, bool(content["ready"])


def current_boot() -> str:
    """This boot of the machine: process ids recorded in another one mean nothing now."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
