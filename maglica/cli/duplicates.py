"""Which VMs of the whole cloud share what must be each one's own. Values in, findings out; nothing is asked here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from maglica.cli.checks import BAD, OK, WARN, Finding

Value = dict[str, Any]

NAMED = 4  # VMs that are named in one line; more are counted
ANYWHERE = ""


class Hit(NamedTuple):
    """Something that VMs share, or that nobody knows of them."""

    state: str
    vms: Sequence[Value]
    found: str
    cure: str


Found = Iterator[Hit]


def label(vm: Value) -> str:
    return f"{vm['name']}@{vm['host']}"


def listed(vms: Sequence[Value]) -> str:
    """VMs by name; of many only some."""
    names = [label(vm) for vm in vms]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def groups(vms: Sequence[Value], keys: Callable[[Value], Sequence[str | None]]) -> list[tuple[str, list[Value]]]:
    """(key, VMs) of every key that more than one VM has."""
    found: dict[str, list[Value]] = {}
    for vm in vms:
        for key in dict.fromkeys(keys(vm)):
            if key:
                found.setdefault(key, []).append(vm)
    return [(key, same) for key, same in sorted(found.items()) if len(same) > 1]


def names(vms: Sequence[Value]) -> Found:
    for name, same in groups(vms, lambda vm: [vm["name"]]):
        cure = (
            "say which is the right one; `virsh domrename` gives another its own name, `maglica vm remove` removes it"
        )
        yield Hit(BAD, same, f"are all called {name}", cure)


def uuids(vms: Sequence[Value]) -> Found:
    for uuid, same in groups(vms, lambda vm: [vm["uuid"]]):
        cure = "stop one, `virsh dumpxml` it, `virsh undefine` it, and define it again without its <uuid>"
        yield Hit(BAD, same, f"have UUID {uuid}", cure)


def macs(vms: Sequence[Value]) -> Found:
    for mac, same in groups(vms, lambda vm: vm["macs"]):
        cure = f"stop all but one, and give the others another <mac>: `virsh edit {same[-1]['name']}`"
        yield Hit(BAD, same, f"have MAC address {mac}", cure)


def addresses(vms: Sequence[Value]) -> Found:
    """An address of a network that ends at its host may be another one's elsewhere."""

    def keys(vm: Value) -> list[str]:
        return [f"{one['address']}@{vm['host'] if one['private'] else ANYWHERE}" for one in vm["ips"]]

    for key, same in groups(vms, keys):
        address = key.partition("@")[0]
        cure = "free the address in all guests but one; two guests with one machine-id get one lease, too"
        yield Hit(BAD, same, f"have IP address {address}", cure)


def machine_ids(vms: Sequence[Value]) -> Found:
    for machine_id, same in groups(vms, lambda vm: [vm["machine_id"]]):
        cure = "in all guests but one: `rm /etc/machine-id && systemd-machine-id-setup`, and a reboot"
        yield Hit(BAD, same, f"have machine-id {machine_id}", cure)


def twins(vms: Sequence[Value]) -> Found:
    """Clones whose identity was left in them: they have their image's, unless it has none."""
    unknown = [vm for vm in vms if vm["machine_id_from"] is None]
    for image, same in groups(unknown, lambda vm: [vm["image"]]):
        cure = "`--deep` looks into those that are off; an image without a machine-id (`image seal`) has no such clones"
        text = f"are clones of {image} that were not customised: they may share its machine-id"
        yield Hit(WARN, same, text, cure)


def unknown(vms: Sequence[Value]) -> Found:
    silent = [vm for vm in vms if vm["machine_id_from"] is None]
    if silent:
        whys = list(dict.fromkeys(vm["why"] for vm in silent if vm["why"]))
        cure = "; ".join(
            [*whys[:3], "install qemu-guest-agent in them, with its channel; or stop them, and use --deep"]
        )
        yield Hit(WARN, silent, "?: nobody can tell it", cure)


CHECKS: dict[str, list[Callable[[Sequence[Value]], Found]]] = {
    "name": [names],
    "uuid": [uuids],
    "mac": [macs],
    "ip": [addresses],
    "machine-id": [machine_ids, twins, unknown],
}


def findings(vms: Sequence[Value], about: set[str] | None = None) -> list[Finding]:
    """Every finding among these VMs, the worst first; and a line for each check that found nothing.

    `about`: labels of VMs; only what concerns one of them. Duplicates are looked for among all of them.
    """
    chosen = [vm for vm in vms if about is None or label(vm) in about]
    found = []
    for check, functions in CHECKS.items():
        hits = [hit for function in functions for hit in function(chosen if function is unknown else vms)]
        hits = [hit for hit in hits if any(vm in chosen for vm in hit.vms)]
        found += [Finding(hit.state, check, listed(hit.vms), hit.found, hit.cure) for hit in hits]
        if not hits:
            found.append(Finding(OK, check, "all" if about is None else listed(chosen), _well(check, vms)))
    return sorted(found, key=lambda one: (BAD, WARN, OK).index(one.state))


def _well(check: str, vms: Sequence[Value]) -> str:
    if check != "machine-id":
        return f"no two of {len(vms)} VMs have the same"
    seen = sum(vm["machine_id"] is not None for vm in vms)
    anew = sum(vm["machine_id_from"] == "anew" for vm in vms)
    return f"no two of {seen} that were read are the same, {anew} are made anew"
