"""The same request in the words of cloud-init: the files of a NoCloud seed. Pure: values in, values out.

https://cloudinit.readthedocs.io/en/latest/reference/datasources/nocloud.html says where they are looked for, the pages
beside it what they hold: user-data, meta-data and network-config in its version 2. All are JSON, which is YAML. What is
used has been there since cloud-init 18.
"""

from __future__ import annotations

import base64
import json
import shlex
from typing import Any

from maglica.errors import Refused
from maglica.host_worker.guest.customization import File, User
from maglica.host_worker.guest.model import GuestRequest

LABEL = "cidata"


def seed(request: GuestRequest, instance: str) -> dict[str, str]:
    """The seed's files by name. `instance` is the VM's uuid: to cloud-init another one is another machine.

    Raises `Refused` for a profile that differs by the family of the system: nobody has looked which it is.
    """
    if request.custom.families:
        raise Refused(
            "wrong_input",
            f"the profile has parts for {', '.join(sorted(request.custom.families))} alone, and nobody looks what the"
            " image is before cloud-init gets its seed",
            "use --customize=guestfs, or a profile without [customize NAME FAMILY]",
        )
    return {
        "user-data": "#cloud-config\n" + _text(user_data(request)),
        "meta-data": _text({"instance-id": instance, "local-hostname": request.hostname}),
        "network-config": _text(network_config(request)),
    }


def _text(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=1, sort_keys=True) + "\n"


def user_data(request: GuestRequest) -> dict[str, Any]:
    """The cloud-config. There is no default user: who may log in is what was asked for, as with any other clone.

    The full name stands in `hostname` too: cloud-init has set the first part of meta-data's name by the time when it
    reads here that the full one is preferred, and would see no change.
    """
    custom = request.custom
    found: dict[str, Any] = {
        "hostname": request.hostname,
        "fqdn": request.hostname,
        "prefer_fqdn_over_hostname": True,
        "preserve_hostname": False,
        "manage_etc_hosts": "localhost",
        "ssh_deletekeys": True,
        "disable_root": False,
        "users": [*_root(request), *(_user(user) for user in custom.users)],
    }
    if not request.root_password_hash and not any(user.password_hash for user in custom.users):
        found["ssh_pwauth"] = False
    if custom.files:
        found["write_files"] = [_file(file) for file in custom.files]
    if custom.timezone:
        found["timezone"] = custom.timezone
    if custom.locale:
        found["locale"] = custom.locale
    if custom.keyboard:
        found["keyboard"] = {"layout": custom.keyboard}
    commands = [*_hosts(request), *custom.commands]
    if commands:
        # A list each: a line for a shell of its own, whose failure leaves the others alone.
        found["runcmd"] = [["/bin/sh", "-c", command] for command in commands]
    return found


def _root(request: GuestRequest) -> list[dict[str, Any]]:
    """Root exists: cloud-init then sets nothing but what is named, and would lock the password if it were not told."""
    if not request.ssh_keys and not request.root_password_hash:
        return []
    found: dict[str, Any] = {"name": "root", "lock_passwd": False}
    if request.ssh_keys:
        found["ssh_authorized_keys"] = list(request.ssh_keys)
    if request.root_password_hash:
        found["hashed_passwd"] = request.root_password_hash
    return [found]


def _user(user: User) -> dict[str, Any]:
    found: dict[str, Any] = {"name": user.name, "lock_passwd": user.password_hash is None}
    if user.groups:
        found["groups"] = ", ".join(user.groups)
    if user.sudo:
        found["sudo"] = "ALL=(ALL) NOPASSWD:ALL"
    if user.ssh_keys:
        found["ssh_authorized_keys"] = list(user.ssh_keys)
    if user.password_hash:
        found["hashed_passwd"] = user.password_hash
    if user.uid is not None:
        found["uid"] = user.uid
    if user.comment:
        found["gecos"] = user.comment
    found["shell"] = user.shell or "/bin/bash"
    return found


def _file(file: File) -> dict[str, Any]:
    data = file.text.encode("utf-8", "surrogateescape")
    found = {"path": file.path, "permissions": f"{0o644 if file.mode is None else file.mode:04o}"}
    return {**found, "encoding": "b64", "content": base64.b64encode(data).decode()}


def _hosts(request: GuestRequest) -> list[str]:
    """A line each, unless it is there: cloud-init knows no word for them, nor for a short name beside the full one."""
    own = [f"127.0.1.1\t{request.hostname} {request.short_name}"] if request.short_name != request.hostname else []
    lines = [shlex.quote(line) for line in [*own, *request.custom.hosts]]
    return [f"grep -qxF -- {line} /etc/hosts || echo {line} >> /etc/hosts" for line in lines]


def network_config(request: GuestRequest) -> dict[str, Any]:
    """Each card by its MAC address, and named after its place: not all that cloud-init writes for can do without."""
    cards: dict[str, Any] = {}
    for number, mac in enumerate(request.macs):
        card: dict[str, Any] = {"match": {"macaddress": mac}, "set-name": f"eth{number}"}
        cards[f"eth{number}"] = {**card, **(_static(request) if number == 0 else {"dhcp4": True})}
    return {"version": 2, "ethernets": cards}


def _static(request: GuestRequest) -> dict[str, Any]:
    network = request.network
    if network.address is None:
        return {"dhcp4": True}
    found: dict[str, Any] = {"addresses": [network.address]}
    if network.gateway:
        everywhere = "0.0.0.0/0" if ":" not in network.gateway else "::/0"
        found["routes"] = [{"to": everywhere, "via": network.gateway}]
    if network.dns or network.search:
        found["nameservers"] = {"addresses": list(network.dns), "search": list(network.search)}
    return found
