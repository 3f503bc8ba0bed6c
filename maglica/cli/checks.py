"""What a check-up finds in what was told. Values in, findings out; nothing is asked here.

A check is one function in `CHECKS`. It says what is wrong and the command that cures it, or in a line that all is well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from maglica import VERSION

Value = dict[str, Any]

OK, WARN, BAD = "ok", "warn", "bad"

RESTART_LIBVIRT = "`systemctl restart libvirtd`, or virtqemud where the distribution has that"
SKEW = 2.0  # seconds between two clocks
LITTLE, TIGHT = 64 << 20, 1 << 30  # bytes free below the store: less is bad, less is worth a word


class Finding(NamedTuple):
    """One line of the report. `about`: the machine or the file. `cure`: a command, or what to do; None when well."""

    state: str
    check: str
    about: str
    found: str
    cure: str | None = None


class Facts(NamedTuple):
    """All that was found out. What could not be is empty, and the check that wanted it says nothing of it."""

    address: str
    pub_port: int
    rep_port: int
    settings_file: str | None = None
    ports: dict[int, str | None] = {}  # port -> why it cannot be reached
    error: Value | None = None  # of the client worker's first answer, as MaglicaError.to_wire
    denied: Value | None = None  # why only administrators hear the rest, as MaglicaError.to_wire
    version: str | None = None  # the client worker's
    store: Value | None = None  # what `job store` tells
    hosts: list[Value] = []  # `host list`
    checked: list[Value] = []  # what `host check` tells, one for each host that answered
    missing: list[Value] = []  # hosts that did not
    clock: float | None = None  # seconds that this machine's clock is ahead of the client worker's
    name: Value | None = None  # what this machine's resolver says of the client worker's address
    folders: list[Value] = []  # with secrets, on this machine


Found = Iterator[Finding]


def settings(facts: Facts) -> Found:
    found = facts.settings_file or "none; defaults are in effect"
    yield Finding(OK, "settings", "this machine", found)


def ports(facts: Facts) -> Found:
    for number, why in facts.ports.items():
        where = f"{facts.address}:{number}"
        if why is None:
            yield Finding(OK, "ports", where, "somebody listens")
        else:
            cure = "on that machine: `systemctl status maglica-client-worker`; and let its firewall pass this port"
            yield Finding(BAD, "ports", where, f"cannot be reached: {why}", cure)


def client_worker(facts: Facts) -> Found:
    if facts.error is not None:
        cure = facts.error["hint"] or "on that machine: `journalctl -u maglica-client-worker`"
        yield Finding(BAD, "client worker", facts.address, facts.error["message"], cure)
    elif facts.denied is not None:
        text = f"answers, but was not examined: {facts.denied['message']}"
        yield Finding(WARN, "client worker", facts.address, text, facts.denied["hint"])
    elif facts.store is not None:
        told = f"answers; start {facts.store['epoch']} of cluster {facts.store['cluster']}"
        yield Finding(OK, "client worker", facts.address, told)


def versions(facts: Facts) -> Found:
    if facts.version is None:
        return
    others = [("this machine", VERSION), *((host["name"], host["version"]) for host in facts.hosts)]
    different = [(name, version) for name, version in others if version not in (None, facts.version)]
    for name, version in different:
        cure = f"install maglica {max(version, facts.version, key=_numbers)} on both, the client worker first"
        yield Finding(WARN, "versions", name, f"runs maglica {version}, the client worker {facts.version}", cure)
    if not different:
        yield Finding(OK, "versions", "all", f"maglica {facts.version}")


def _numbers(version: str) -> list[tuple[int, str]]:
    """What orders releases: 0.10 is newer than 0.9, and 0.9 than 0.9rc1."""
    parts = re.findall(r"\d+|[a-z]+", version)
    return [*((int(part), "") if part.isdigit() else (-2, part) for part in parts), (-1, "")]


def hosts(facts: Facts) -> Found:
    for host in facts.hosts:
        name, state, why = host["name"], host["state"], host["why"]
        if state == "up":
            yield Finding(OK, "hosts", name, why)
        elif state == "degraded":
            yield Finding(WARN, "hosts", name, why, _degraded(why, facts))
        else:
            yield Finding(BAD if state == "down" else WARN, "hosts", name, f"{state}: {why}", _down(name, why, facts))
    if facts.store is not None and not facts.hosts:
        cure = "`maglica host invite NAME` prints what to type on a hypervisor"
        yield Finding(WARN, "hosts", "all", "there are none", cure)


def _down(name: str, why: str, facts: Facts) -> str:
    refusals = [told for told in (facts.store or {}).get("refusals", []) if told["host"] == name and told.get("hint")]
    if why.startswith("was refused: ") and refusals:
        return str(refusals[-1]["hint"])
    if "has not joined yet" in why:
        return f"there: the command that `maglica host invite {name}` printed; asked again it prints another one"
    if "host invite" in why:
        return f"`maglica host invite {name}`; there: the command that it prints"
    return f"there: `systemctl restart maglica-host-worker`; for ever gone: `maglica host remove {name}`"


def _degraded(why: str, facts: Facts) -> str:
    if "does not hear" in why:
        return f"let the firewalls between pass port {facts.pub_port} of the client worker"
    if "libvirt" in why:
        return f"there: {RESTART_LIBVIRT}"
    if "clock" in why:
        return "there: `chronyc makestep`"
    return "there: `journalctl -u maglica-host-worker`"


def strangers(facts: Facts) -> Found:
    """Names that come twice, and names that nobody listed."""
    for told in (facts.store or {}).get("refusals", []):
        cure = told.get("hint") or "its log says what to do: `journalctl -u maglica-host-worker`"
        yield Finding(WARN, "strangers", told["host"], f"refused {told['age_seconds']:.0f} s ago: {told['why']}", cure)
    listed = (facts.store or {}).get("listed", [])
    for host in facts.hosts if listed else []:
        if host["name"] not in listed:
            name = host["name"]
            cure = f"a section [host {name}] there; or stop its host worker, then `maglica host remove {name}`"
            yield Finding(WARN, "strangers", host["name"], "is not in the settings of the client worker", cure)


def answers(facts: Facts) -> Found:
    down = {host["name"] for host in facts.hosts if host["state"] in ("down", "unknown")}
    for missing in facts.missing:
        if missing["host"] not in down:
            cure = "there: `journalctl -u maglica-host-worker`"
            yield Finding(BAD, "answers", missing["host"], f"cannot be examined: {missing['why']}", cure)


def clocks(facts: Facts) -> Found:
    """Only a warning: nothing is decided by clocks, but logs of two machines cannot be read side by side."""
    skews = [("this machine", facts.clock), *((host["name"], host["clock_skew_seconds"]) for host in facts.hosts)]
    wrong = [(name, skew) for name, skew in skews if skew is not None and abs(skew) > SKEW]
    for name, skew in wrong:
        how = f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the client worker"
        yield Finding(WARN, "clocks", name, how, "there: `apt install chrony && chronyc makestep`")
    if facts.clock is not None and not wrong:
        yield Finding(OK, "clocks", "all", f"within {SKEW:g} s")


def names(facts: Facts) -> Found:
    seen = [("this machine", told, BAD) for told in [facts.name] if told]
    seen += [(host["name"], host["client"], BAD) for host in facts.checked]
    seen += [(host["name"], host["self"], WARN) for host in facts.checked]
    wrong = [(about, *found) for about, told, worst in seen for found in [_misnamed(told, worst)] if found]
    for about, state, text in wrong:
        cure = "there: correct DNS or /etc/hosts; `getent hosts NAME` and `getent hosts ADDRESS` show what is in effect"
        yield Finding(state, "names", about, text, cure)
    if seen and not wrong:
        yield Finding(OK, "names", "all", "names and addresses lead to each other")


def _misnamed(told: Value, worst: str) -> tuple[str, str] | None:
    asked = told["asked"]
    if not told["addresses"]:
        return worst, f"{asked} has no address: {told['why']}"
    if asked in told["addresses"] or asked == "localhost":
        return None  # an address needs no name
    if not told["names"]:
        return WARN, f"{asked} is {told['addresses'][0]}, which has no name: {told['why']}"
    if asked.partition(".")[0] not in {name.partition(".")[0] for name in told["names"]}:
        return WARN, f"{asked} is {told['addresses'][0]}, which is called {told['names'][0]}"
    return None


def libvirt(facts: Facts) -> Found:
    for host in facts.checked:
        if host["libvirt"] == "ok":
            yield Finding(OK, "libvirt", host["host"], f"{host['uri']} answers")
        else:
            cure = host.get("libvirt_cure") or f"`virsh -c {host['uri']} list`; {RESTART_LIBVIRT}"
            yield Finding(BAD, "libvirt", host["host"], host["libvirt"], f"there: {cure}")


def pools(facts: Facts) -> Found:
    for host in facts.checked:
        if host.get("pools"):
            yield Finding(OK, "pools", host["host"], ", ".join(host["pools"]))
        elif host.get("pools") is not None:
            make = f"virsh -c {host['uri']} pool-define-as default dir --target /var/lib/libvirt/images"
            cure = f"there: `{make}`, then `virsh pool-start default` and `virsh pool-autostart default`"
            yield Finding(WARN, "pools", host["host"], "has no active storage pool: no VM can be made there", cure)


def programs(facts: Facts) -> Found:
    """What jobs need beside libvirt. An older release does not tell."""
    for host in facts.checked:
        lacking = host.get("lacking", [])
        for told in lacking:
            yield Finding(WARN, "programs", host["host"], f"{told['what']} is not there", f"there: {told['cure']}")
        if "lacking" in host and not lacking:
            yield Finding(OK, "programs", host["host"], "all are there")


def acceleration(facts: Facts) -> Found:
    for host in facts.checked:
        used, why = host.get("acceleration"), host.get("acceleration_why") or ""
        if why.startswith("KVM does not work"):
            cure = "there: allow virtualisation in its firmware, or in what it is a guest of"
            yield Finding(WARN, "acceleration", host["host"], why, cure)
        elif used:
            yield Finding(OK, "acceleration", host["host"], f"{used}: {why}")


def store(facts: Facts) -> Found:
    if facts.store is None:
        return
    told = facts.store
    if told["verdict"] is None:
        cure = f"while the client worker is stopped: `sqlite3 {told['path']} 'PRAGMA quick_check'`"
        yield Finding(WARN, "store", told["path"], "too large to be examined beside the work", cure)
    elif told["verdict"] == "ok":
        yield Finding(OK, "store", told["path"], "sound")
    else:
        cure = "stop the client worker, move the file aside, put the newest backup in its place"
        yield Finding(BAD, "store", told["path"], told["verdict"], cure)


def room(facts: Facts) -> Found:
    seen = [(facts.address, told) for told in [(facts.store or {}).get("room")] if told]
    seen += [(host["host"], host["room"]) for host in facts.checked]
    for about, told in seen:
        free = told["free_bytes"]
        cure = f"there: `df -h {told['path']}`, and make room"
        if free is None:
            yield Finding(WARN, "room", about, f"{told['path']}: {told['why']}", cure)
        elif free < TIGHT:
            yield Finding(BAD if free < LITTLE else WARN, "room", about, f"{told['path']}: {free >> 20} MiB free", cure)
        else:
            yield Finding(OK, "room", about, f"{told['path']}: {free >> 30} GiB free")


def secrets(facts: Facts) -> Found:
    """Keys and stores that others than their daemon could read."""
    seen = [("this machine", told) for told in facts.folders]
    seen += [(facts.address, told) for told in (facts.store or {}).get("folders", [])]
    seen += [(host["host"], told) for host in facts.checked for told in host["folders"]]
    for about, told in seen:
        if told["mode"] is None:
            continue  # it does not exist, or is none of ours
        wrong = list(_open(told))
        for path, text, cure in wrong:
            yield Finding(BAD, "secrets", about, f"{path} {text}", f"there: `{cure}`")
        if not wrong:
            yield Finding(OK, "secrets", about, f"{told['path']} is closed to others")


def _open(told: Value) -> Iterator[tuple[str, str, str]]:
    for entry, most in [(told, "0700"), *((file, "0600") for file in told["files"])]:
        if entry["ours"] is False:
            yield entry["path"], "belongs to somebody else", f"chown root: {entry['path']}"
        elif int(entry["mode"], 8) & 0o077:
            yield entry["path"], f"has mode {entry['mode']}", f"chmod {most} {entry['path']}"


CHECKS: list[Callable[[Facts], Found]] = [
    settings, ports, client_worker, versions, hosts, answers, strangers, clocks, names, libvirt, pools, programs,
    acceleration, store, room, secrets,
]  # fmt: skip


def all_of(facts: Facts) -> list[Finding]:
    """Every finding of every check; the worst first."""
    found = [finding for check in CHECKS for finding in check(facts)]
    return sorted(found, key=lambda finding: (BAD, WARN, OK).index(finding.state))
