"""What is done inside a running guest, through QEMU's guest agent."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from maglica.actions.vm.inside import (
    MOST_KEPT,
    VmExec,
    VmFstrim,
    VmInterfaces,
    VmPasswd,
    VmPut,
    VmReadFile,
    VmSshKey,
)
from maglica.errors import Failed, MaglicaError, Refused
from maglica.host_worker.domain import domain_xml
from maglica.host_worker.host import Host
from maglica.host_worker.inside import files, keys, reach, running
from maglica.host_worker.signs import sign
from maglica.host_worker.work import Work

WITHIN = 10  # seconds that an agent has for what makes it start a program
TRIM_WITHIN = 240  # seconds for all its file systems


def vm_exec(want: VmExec, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle leaves the command running in the guest, and its end unknown."""
    reach.refuse(want.name, host, *running.NAMES)
    what = running.shown(want.command)
    work.will({"run": what, "in": want.name})
    stdin = want.input["base64"] if want.input else None
    with work.step("run", what):
        pid = running.begin(host.hypervisor, want.name, want.command, MOST_KEPT, stdin)
        work.step_aside(keep=True)
        try:
            ran = running.finish(
                host.hypervisor, want.name, pid, MOST_KEPT, want.timeout,
                stop=lambda: "cancelled" if work.cancelled() else "",
            )  # fmt: skip
        except running.Overdue as error:
            error.details = {**_told(want.name, host, error.ran), "overdue": True} if error.ran else {}
            raise
    if ran.status == 0:
        return _told(want.name, host, ran)
    raise Failed(
        "environment_error", f"{what} ended with status {ran.status} in {want.name}", _last_line(ran.stderr),
        details=_told(want.name, host, ran),
    )  # fmt: skip


def _told(name: str, host: Host, ran: running.Ran) -> dict[str, Any]:
    """A command's end. Output that is no text stands under `…_base64`."""
    found: dict[str, Any] = {"name": name, "host": host.name, "exit_status": ran.status, "changed": None}
    for stream, data in (("stdout", ran.stdout), ("stderr", ran.stderr)):
        try:
            found |= {stream: data.decode(), f"{stream}_base64": None}
        except UnicodeDecodeError:
            found |= {stream: None, f"{stream}_base64": base64.b64encode(data).decode()}
    return {**found, "cut": ran.cut}


def _last_line(stderr: bytes) -> str:
    return (stderr.decode(errors="replace").strip().splitlines() or [""])[-1][:300]


def vm_put(want: VmPut, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle leaves the old file or the new one. What was written beside it is removed by the next start
    of the host worker, if the guest still runs then.
    """
    name, hypervisor = want.name, host.hypervisor
    reach.refuse(name, host, *files.WRITE)
    data = base64.b64decode(want.file["base64"])
    there = files.look(hypervisor, name, want.to)
    files.refuse(there, name, want.to)
    target = there.path or want.to
    mode = next(one for one in (want.mode, there.mode, want.file["mode"], 0o644) if one is not None)
    sha256 = hashlib.sha256(data).hexdigest()
    told = {"name": name, "host": host.name, "path": target, "bytes": len(data), "mode": f"{mode:04o}"}
    if files.placed(there, sha256, mode, want.owner):
        return {**told, "changed": False}
    result = {**told, "changed": True}
    work.will({"write": target, "bytes": len(data), "mode": f"{mode:04o}", "in": name})
    part = files.part(target, work.job)
    work.undo("remove_in_guest", name=name, path=part)
    with work.step("copy", f"{len(data)} bytes"):
        files.write(hypervisor, name, part, data)
    whole = {"sha256": sha256, "mode": mode, "owner": want.owner}
    with work.step("place", sign=sign("holds", result, name=name, path=target, **whole)):
        work.point_of_no_return()
        files.place(hypervisor, name, part, target, mode, want.owner or there.owner, sha256)
    return result


def vm_read_file(want: VmReadFile, host: Host) -> dict[str, Any]:
    if want.offset == 0:
        reach.refuse(want.name, host, *files.READ)
    data, ends = files.read(host.hypervisor, want.name, want.path, want.offset, want.length)
    told = {"name": want.name, "path": want.path, "offset": want.offset, "bytes": len(data), "ends": ends}
    return {"item": {**told, "base64": base64.b64encode(data).decode()}}


def vm_passwd(want: VmPasswd, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle leaves the old password or the new one: the guest's own chpasswd replaces the file."""
    reach.refuse(want.name, host, "guest-set-user-password")
    work.will({"set the password of": want.user, "in": want.name})
    encoded = base64.b64encode(want.password_hash.encode()).decode()
    with work.step("set password"):
        work.point_of_no_return()
        try:
            host.hypervisor.agent_order(
                want.name, "guest-set-user-password", WITHIN, username=want.user, password=encoded, crypted=True
            )
        except MaglicaError as error:
            error.message = error.message.replace(want.password_hash, "***").replace(encoded, "***")
            error.hint = f"is there a user {want.user}? `maglica vm exec {want.name} -- getent passwd {want.user}`"
            raise
    return {"name": want.name, "host": host.name, "user": want.user, "changed": True}


def vm_ssh_key(want: VmSshKey, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle leaves the keys as they were or as they shall be: the agent replaces the file."""
    verb = "remove" if want.remove else "add"
    order = f"guest-ssh-{verb}-authorized-keys"
    reach.refuse(want.name, host, "guest-ssh-get-authorized-keys", order)
    there = _keys_of(want, host)
    choose = keys.to_remove if want.remove else keys.to_add
    chosen = choose(there, keys.lines(want.key))
    told = {"name": want.name, "host": host.name, "user": want.user}
    count = len(there) + (-len(chosen) if want.remove else len(chosen))
    if not chosen:
        return {**told, "keys": count, "changed": False}
    work.will({verb: f"{len(chosen)} of the keys", "of": want.user, "in": want.name})
    with work.step(f"{verb} keys", f"{len(chosen)} of user {want.user}"):
        work.point_of_no_return()
        host.hypervisor.agent_order(want.name, order, WITHIN, username=want.user, keys=chosen)
    return {**told, "keys": count, "changed": True}


def _keys_of(want: VmSshKey, host: Host) -> list[str]:
    """The keys that a user has; none when there is no file yet."""
    try:
        told = host.hypervisor.agent(want.name, "guest-ssh-get-authorized-keys", WITHIN, username=want.user)
    except MaglicaError as error:
        if "authorized_keys" in error.message:
            return []
        if error.code == "host_down":
            raise
        hint = f"`maglica vm exec {want.name} -- getent passwd {want.user}` looks for it"
        raise Refused("unknown_entity", f"user {want.user} of {want.name}: {files.words(error)}", hint) from None
    return [str(key) for key in told["keys"]]


def vm_fstrim(want: VmFstrim, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle leaves some blocks given back, others not; nothing else."""
    reach.refuse(want.name, host, "guest-fstrim")
    work.will({"trim the file systems of": want.name})
    more = {"minimum": want.minimum} if want.minimum else {}
    with work.step("trim"):
        told = host.hypervisor.agent_order(want.name, "guest-fstrim", TRIM_WITHIN, **more)
    found = [
        {"path": one["path"], "trimmed_bytes": one.get("trimmed"), "problem": one.get("error")} for one in told["paths"]
    ]
    if found and all(one["problem"] for one in found):
        first = found[0]
        raise Failed("environment_error", f"{want.name} can trim nothing: {first['path']}: {first['problem']}")
    passed = domain_xml.discards(host.hypervisor.definition(want.name))
    note = None if passed else "no disk has discard='unmap' in its <driver>: the host gets nothing back"
    total = sum(one["trimmed_bytes"] or 0 for one in found)
    return {
        "name": want.name, "host": host.name, "trimmed_bytes": total, "filesystems": found, "note": note,
        "changed": total > 0,
    }  # fmt: skip


def vm_interfaces(want: VmInterfaces, host: Host) -> dict[str, Any]:
    reach.refuse(want.name, host, "guest-network-get-interfaces")
    told = host.hypervisor.agent(want.name, "guest-network-get-interfaces", WITHIN)
    return {"item": {"name": want.name, "interfaces": [_interface(card) for card in told]}}


def _interface(card: dict[str, Any]) -> dict[str, Any]:
    counted = card.get("statistics") or {}
    return {
        "interface": card["name"],
        "mac": card.get("hardware-address"),
        "ips": [f"{one['ip-address']}/{one['prefix']}" for one in card.get("ip-addresses", [])],
        "received_bytes": counted.get("rx-bytes"),
        "sent_bytes": counted.get("tx-bytes"),
    }
