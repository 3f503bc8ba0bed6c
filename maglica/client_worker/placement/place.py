"""Where a VM goes, and where one is: decided from what the hosts just told. Values in, values out.

A survey is what `host survey` of one host gave:
`{"active": int, "vcpus": int, "memory_free_bytes": int, "domains": [{"name", "state", "image", …}],
  "pools": [{"name", "free_bytes", "files": not volumes}], "pool": str | None, "driver": str}`.
A domain has `lives` when it was asked for: what `contention.told` of its host says it has for itself.
A domain that can be cloned has `modes`, in the order in which that host tries them: `{"mode", "auto": whether
--mode=auto may take it, "needed_bytes", "pools": those that can take such a clone, "why_not", "full": nothing but room
is missing}`.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

from maglica.actions.vm.clone import ANY_MODE_HINT, AUTO, THIN_POOL_HINT
from maglica.client_worker.revealing import Revealing, hosts
from maglica.declare import nearest
from maglica.errors import Refused

Survey = dict[str, Any]


class Wanted(NamedTuple):
    """What placement has to find a place for. None = as the image has it."""

    image: str
    hostname: str
    on: str | None
    vcpus: int | None
    memory_bytes: int | None
    mode: str
    macs: tuple[str, ...]
    pool: str | None = None
    extra_bytes: int = 0  # of disks that it gets beside those of the image


class Reserved(NamedTuple):
    """What was given away on one host to jobs that have not used it yet."""

    vms: int = 0
    memory_bytes: int = 0
    disk_bytes: int = 0  # of no pool in particular
    pools: tuple[tuple[str, int], ...] = ()  # (pool, bytes) of each


class Choice(NamedTuple):
    """The host, why this one, and why not the others."""

    host: str
    why: str
    refused: dict[str, str]


class Holder(NamedTuple):
    """A VM that lives and has something for itself. `kind`: `macs`, `alone` or `along`."""

    host: str
    name: str
    state: str
    kind: str


class Lives(NamedTuple):
    """`of`: what each VM has or would have, by its host and name; `holders`: who that lives has it."""

    of: dict[tuple[str, str], dict[str, list[str]]]
    holders: dict[str, list[Holder]]


# Where each VM is, by its full name: the hosts that have one of that name, and its state there.
Index = dict[str, list[tuple[str, str]]]


class Seen:
    """What all hosts told in one survey, and who did not."""

    def __init__(self, surveys: dict[str, Survey], missing: dict[str, str], ends: int = 0) -> None:
        """`ends`: how many jobs had ended when the hosts were asked (`Jobs.ends`)."""
        self.surveys, self.missing, self.ends = surveys, missing, ends
        self.rooms: object = None  # `spread.Rooms`: what those who share this survey have been given

    @cached_property
    def vms(self) -> Index:
        """Made when it is needed first: a survey that makes no sense is told to whoever needs it."""
        return index(self.surveys)

    @cached_property
    def lives(self) -> Lives:
        """What VMs have for themselves, as far as the hosts were asked for it and know how to tell."""
        return lives(self.surveys)


OTHER_NAME = "choose another --hostname"
# The name of the image of a VM that is made of none.
NOTHING = ""
# What an overlay needs at once; it grows as its guest writes.
LINKED_BYTES = 1 << 20
# What an archive and what is in it are taken to need, as long as nobody has seen it.
ARCHIVE_BYTES = 2 << 30
# What QEMU takes beside the guest's own memory: hosts count it for each VM that is defined.
OVERHEAD = 64 << 20


def choose(
    want: Wanted,
    surveys: dict[str, Survey],
    missing: dict[str, str],
    weights: dict[str, float],
    reserved: dict[str, Reserved],
    ignore_missing: bool,
    *,
    closed: frozenset[str] = frozenset(),
    hint: str = OTHER_NAME,
) -> Choice:
    """Choose the host for a clone, or say why there is none. `closed`: hosts that are not for whoever asks. `hint`:
    what to do about a name that is taken.

    Among the hosts that hold the image and have the memory, the processors and the room: the one with the least
    `active VMs * 10 / weight` (the first Maglica's rule), then the one with most free memory, then by name.
    """
    refuse_unknown_host(want.on, surveys, missing)
    _refuse_taken(want, surveys, hint)
    refuse_partial_view(want.hostname, missing, ignore_missing)
    surveys = without(closed, surveys)
    _refuse_image(want, surveys, missing)
    refused = unfitting(want, surveys, weights, reserved)
    fitting = [host for host in surveys if host not in refused and want.on in (None, host)]
    if not fitting:
        raise full(want, refused)

    def rank(host: str) -> tuple[float, int, str]:
        return (
            load(surveys[host], reserved.get(host, Reserved()), weights.get(host, 10.0)),
            -free_memory(surveys[host], reserved.get(host, Reserved())),
            host,
        )

    best = min(fitting, key=rank)
    return Choice(best, _why(best, want, fitting, rank(best)[0]), refused)


def refuse(want: Wanted, seen: Seen, ignore_missing: bool, closed: frozenset[str]) -> dict[str, Survey]:
    """The hosts that may be thought of for VMs of this image, whatever they are called; `Refused` when there are none.

    Of the names nothing is looked at: `refuse_name` does that for each of them.
    """
    refuse_unknown_host(want.on, seen.surveys, seen.missing)
    refuse_partial_view(want.hostname, seen.missing, ignore_missing)
    surveys = without(closed, seen.surveys)
    _refuse_image(want, surveys, seen.missing)
    return {host: survey for host, survey in surveys.items() if want.on in (None, host)}


def without(closed: frozenset[str], surveys: dict[str, Survey]) -> dict[str, Survey]:
    """The hosts that are for whoever asks."""
    return {host: survey for host, survey in surveys.items() if host not in closed}


def refuse_name(name: str, vms: Index, hint: str = OTHER_NAME) -> None:
    """Refuse a name that a VM has, on whatever host."""
    for host, state in vms.get(name, []):
        raise taken(name, host, state, hint)


def unfitting(
    want: Wanted, surveys: dict[str, Survey], weights: dict[str, float], reserved: dict[str, Reserved]
) -> dict[str, str]:
    """Why each host that cannot take it cannot."""
    reasons = {host: unfit(want, survey, reserved.get(host, Reserved())) for host, survey in surveys.items()}
    if want.on is None:
        reasons |= {host: "weight 0" for host in surveys if not reasons[host] and weights.get(host, 10.0) <= 0}
    return {host: why for host, why in sorted(reasons.items()) if why}


def full(want: Wanted, refused: dict[str, str]) -> Refused:
    """The error when no host can take it."""
    shown = {want.on: refused[want.on]} if want.on else refused
    told = "; ".join(f"{host}: {why}" for host, why in shown.items())
    code, hint = "no_capacity", "free some room, or ask for less"
    if want.mode != AUTO and all(why.startswith(f"{want.mode}: ") for why in shown.values()):
        code, hint = "environment_error", ANY_MODE_HINT  # no room would help
    elif any(why.startswith("thin pool ") for why in shown.values()):
        hint = THIN_POOL_HINT
    return Refused(code, f"no host can take {want.hostname}: {told}", hint, details=shown)


def load(survey: Survey, reserved: Reserved, weight: float) -> float:
    """How much of its share a host already carries; the smaller the better."""
    return (int(survey["active"]) + reserved.vms) * 10 / weight if weight > 0 else float("inf")


def free_memory(survey: Survey, reserved: Reserved) -> int:
    """Memory in bytes that neither a defined VM nor an open job has."""
    return int(survey["memory_free_bytes"]) - reserved.memory_bytes


def unfit(want: Wanted, survey: Survey, reserved: Reserved) -> str:
    """Why a host cannot take it, or ''."""
    image = _image(want.image, survey)
    if image is None:
        return f"does not hold {want.image}"
    if image["state"] != "shut-off":
        return f"{want.image} is {image['state']} there"
    vcpus = want.vcpus or int(image["vcpus"])
    if vcpus > int(survey["vcpus"]):
        return f"needs {vcpus} vCPUs, the host has {survey['vcpus']}"
    memory, free = want.memory_bytes or int(image["memory_bytes"]), free_memory(survey, reserved)
    if memory > free:
        return f"needs {_mib(memory)} of memory, {_mib(max(0, free))} are free"
    return no_room(want, image, survey, reserved)


def no_room(want: Wanted, image: dict[str, Any], survey: Survey, reserved: Reserved) -> str:
    """Why its disks cannot be made there, or ''."""
    wanted = want.pool or survey.get("pool")
    if not any(wanted in (None, pool["name"]) for pool in survey["pools"]):
        return f"has no active pool {wanted}" if wanted else "has no active pool"
    why = ""
    for way in _ways(want, image):
        rooms = _rooms(way, want, survey, reserved)
        needed = int(way["needed_bytes"]) + want.extra_bytes
        if not rooms and way.get("full"):
            why = why or str(way["why_not"])  # room would help
        elif not rooms:
            why = why or f"{way['mode']}: {way['why_not'] or f'not possible in pool {wanted}'}"
        elif needed <= max(rooms.values()):
            return ""
        else:
            what = f"pool {wanted}" if wanted else "the roomiest pool"
            why = f"needs {_mib(needed)} of disk, {what} has {_mib(max(0, *rooms.values()))} to give"
    return why or f"cannot make a clone by --mode={want.mode}"


def _ways(want: Wanted, image: dict[str, Any]) -> list[dict[str, Any]]:
    """The ways in which that host could make it, the first one first."""
    return [way for way in _modes(image) if way["mode"] == want.mode or (want.mode == AUTO and way["auto"])]


def _modes(image: dict[str, Any]) -> list[dict[str, Any]]:
    """As the host tells them; a host of an older release tells sizes only, and copies."""
    if "modes" in image:
        return list(image["modes"])
    whole = sum(int(disk["allocation_bytes"]) for disk in image.get("disks") or ())
    old = {"auto": True, "pools": None, "why_not": ""}
    return [{**old, "mode": "full", "needed_bytes": whole}, {**old, "mode": "linked", "needed_bytes": LINKED_BYTES}]


def _rooms(way: dict[str, Any], want: Wanted, survey: Survey, reserved: Reserved) -> dict[str, int]:
    """What each pool has to give that can take a clone made in this way."""
    wanted, given = want.pool or survey.get("pool"), dict(reserved.pools)
    return {
        str(pool["name"]): int(pool["free_bytes"]) - given.get(str(pool["name"]), 0) - reserved.disk_bytes
        for pool in survey["pools"]
        if wanted in (None, pool["name"]) and (way["pools"] is None or pool["name"] in way["pools"])
    }


def _pool_taken(want: Wanted, survey: Survey, reserved: Reserved) -> tuple[str, int]:
    """The pool that the host will take, and how many bytes of it at once: the first way that has the room."""
    best = ("", want.extra_bytes)
    for way in reversed(_ways(want, _image(want.image, survey) or {})):
        rooms = _rooms(way, want, survey, reserved)
        if rooms and (max(rooms.values()) >= int(way["needed_bytes"]) + want.extra_bytes or not best[0]):
            best = max(rooms, key=lambda name: rooms[name]), int(way["needed_bytes"]) + want.extra_bytes
    return best


def needs(want: Wanted, survey: Survey, reserved: Reserved | None = None) -> Reserved:
    """What this clone will take on that host."""
    image = _image(want.image, survey) or {"memory_bytes": 0}
    _, disk = _pool_taken(want, survey, reserved or Reserved())
    return Reserved(1, want.memory_bytes or int(image["memory_bytes"]), disk)


def reserve(had: Reserved, want: Wanted, survey: Survey) -> Reserved:
    """What is given away on a host with this clone: from the pool that the host will take."""
    more = needs(want, survey, had)
    pool, _ = _pool_taken(want, survey, had)
    pools = dict(had.pools)
    pools[pool] = pools.get(pool, 0) + more.disk_bytes
    memory = had.memory_bytes + more.memory_bytes + OVERHEAD
    return Reserved(had.vms + 1, memory, had.disk_bytes, tuple(pools.items()))


def index(surveys: dict[str, Survey]) -> Index:
    """All VMs by their names: made once, also when a thousand of them are looked for."""
    found: Index = {}
    for at, survey in surveys.items():
        for domain in survey["domains"]:
            found.setdefault(str(domain["name"]), []).append((at, str(domain["state"])))
    return found


def lives(surveys: dict[str, Survey]) -> Lives:
    """What all VMs have for themselves, by what it is: made once, also when a thousand of them are started."""
    found = Lives({}, {})
    for host, survey in surveys.items():
        for domain in survey["domains"]:
            own = domain.get("lives")
            if own:
                name, state = str(domain["name"]), str(domain["state"])
                found.of[host, name] = own
                for kind in ("macs", "alone", "along") if state != "shut-off" else ():
                    for word in own[kind]:
                        found.holders.setdefault(word, []).append(Holder(host, name, state, kind))
    return found


def locate(
    name: str,
    surveys: dict[str, Survey],
    missing: dict[str, str],
    *,
    full_name: bool,
    whole_fleet: bool,
    vms: Index | None = None,
) -> tuple[str, str]:
    """(host, full name) of the VM that `name` means: NAME, NAME@HOST, or NAME up to a dot unless `full_name`.

    With `whole_fleet` the answer is refused while a host does not answer: the VM may be there too. `vms`: where all
    VMs are, for whoever looks for many.
    """
    bare, _, host = name.partition("@")
    refuse_unknown_host(host or None, surveys, missing)
    vms = index(surveys) if vms is None else vms
    found = [(at, bare) for at, _ in vms.get(bare, []) if host in ("", at)]
    everything = [] if found else [(at, vm) for vm in vms for at, _ in vms[vm] if host in ("", at)]
    if not found and not full_name:
        found = [place for place in everything if place[1].startswith(bare + ".")]
    if len(found) > 1:
        listed = ", ".join(f"{vm}@{at}" for at, vm in sorted(found))
        raise Refused("ambiguous_name", f"{name} may be {listed}", "say which one", details={"candidates": listed})
    if not found:
        raise _not_found(name, bare, everything, missing, full_name)
    if whole_fleet:
        refuse_partial_view(bare, missing, False)
    return found[0]


def refuse_double_life(name: str, host: str, vms: Index) -> None:
    """Refuse to bring a VM to life on a host while one of its name lives on another: they may share disks."""
    for other, state in vms.get(name, []):
        if other != host and state != "shut-off":
            raise Revealing(
                "wrong_state",
                f"{name} is {state} on {other}; a VM must not run on two hosts",
                f"stop {name}@{other} first, or rename one of them",
                about=[(name, other)],
                instead=Refused(
                    "wrong_state", f"another VM called {name} lives elsewhere", "give this one another name"
                ),
            )


def refuse_contended(name: str, host: str, known: Lives) -> None:
    """Refuse to bring a VM to life on a host while one that lives on another has a MAC address of it, or a disk on
    storage that they share. What other VMs of its own host have is looked at there, right before it is started.
    """
    own = known.of.get((host, name))
    wanted = [(word, kind) for kind in ("macs", "alone", "along") for word in own[kind]] if own else []
    for word, kind in wanted:
        for holder in known.holders.get(word, []):
            if holder.host != host and (kind == "macs" or "alone" in (kind, holder.kind)):
                what = f"the MAC address {word}" if kind == "macs" else f"its disk {word}"
                why = f"{name} cannot live on {host}"
                raise Revealing(
                    "wrong_state",
                    f"{why}: {holder.name} is {holder.state} on {holder.host}, and has {what}",
                    "stop that one first, or give one of them its own",
                    about=[(holder.name, holder.host)],
                    instead=Refused("wrong_state", f"{why}: another VM that lives has {what}", "give it its own"),
                )


def _not_found(
    name: str, bare: str, everything: list[tuple[str, str]], missing: dict[str, str], full_name: bool
) -> Refused:
    longer = [vm for _, vm in everything if vm.startswith(bare + ".")]
    if full_name and longer:
        hint = f"this verb wants the full name: {', '.join(sorted(longer))}"
        return Refused("unknown_entity", f"there is no VM {name}", hint)
    if missing:
        told = "; ".join(f"{host} {why}" for host, why in missing.items())
        what = f"no VM {name} was found, but not every host answers"
        instead = Refused("host_down", what, "it may be there")
        return Revealing("host_down", f"{what}: {told}", "it may be there", about=hosts(missing), instead=instead)
    close = nearest(bare, {vm for _, vm in everything})
    hint = f"did you mean {close}?" if close else "`maglica vm list` shows them"
    return Refused("unknown_entity", f"there is no VM {name}", hint)


def _image(name: str, survey: Survey) -> dict[str, Any] | None:
    return next((domain for domain in survey["domains"] if domain["name"] == name), None)


def refuse_unknown_host(host: str | None, surveys: dict[str, Survey], missing: dict[str, str]) -> None:
    """Refuse a host that does not exist, or does not answer."""
    if host is None or host in surveys:
        return
    close, what = nearest(host, surveys), f"there is no host {host}"
    hint = f"did you mean {close}?" if close else f"known are {', '.join(sorted(surveys)) or 'none'}"
    instead = Refused("unknown_entity", what, "`maglica host list` shows them")
    unknown = Revealing(instead.code, what, hint, about=hosts([close] if close else surveys), instead=instead)
    if host in missing:
        raise Revealing(
            "host_down", f"host {host} does not answer: {missing[host]}", "`maglica host list` shows its state",
            about=hosts([host]), instead=unknown,
        )  # fmt: skip
    raise unknown


def _refuse_taken(want: Wanted, surveys: dict[str, Survey], hint: str) -> None:
    for host, survey in surveys.items():
        for domain in survey["domains"]:
            if domain["name"] == want.hostname:
                raise taken(want.hostname, host, str(domain["state"]), hint)
            clash = set(want.macs) & set(domain["macs"])
            if clash:
                mac, name, hint = min(clash), str(domain["name"]), "choose another --mac"
                raise Revealing(
                    "already_exists", f"{mac} belongs to {name} on {host}", hint,
                    about=[(None if domain.get("image") else name, host)],
                    instead=Refused("already_exists", f"{mac} is taken", hint),
                )  # fmt: skip


def taken(name: str, host: str, state: str, hint: str) -> Refused:
    """The error that tells that a name is taken."""
    what, instead = f"{name} exists on {host} ({state})", Refused("already_exists", f"{name} is taken", hint)
    return Revealing("already_exists", what, hint, about=[(name, host)], instead=instead)


def worked_on(name: str, job: str, vm: str | None, host: str) -> Refused:
    """The error that tells that a job, which is about `vm` on that host, is working on something of that name."""
    what, hint = f"job {job} is working on {name}", f"`maglica job show {job}` tells what it does"
    instead = Refused("already_exists", f"{name} is taken", "choose another name, or try again later")
    return Revealing("already_exists", what, hint, about=[(vm, host)], instead=instead)


def refuse_partial_view(name: str, missing: dict[str, str], ignore_missing: bool) -> None:
    """Refuse to make something of a name that a silent host may have, unless somebody says so."""
    if missing and not ignore_missing:
        told = "; ".join(f"{host} {why}" for host, why in missing.items())
        what = f"{name} may exist on a host that does not answer"
        raise Revealing(
            "host_down",
            f"{what}: {told}",
            "wait for it; `maglica host remove` forgets one that is gone for good; --ignore-missing goes on anyway",
            about=hosts(missing),
            instead=Refused("host_down", what, "wait for it; --ignore-missing goes on anyway"),
            details={"missing_hosts": missing},
        )


def _refuse_image(want: Wanted, surveys: dict[str, Survey], missing: dict[str, str]) -> None:
    holders = {host: image for host, survey in surveys.items() if (image := _image(want.image, survey))}
    if not holders and want.image == NOTHING:
        raise Refused("no_capacity", f"there is no host for {want.hostname}", "`maglica host list` shows the hosts")
    if not holders:
        raise no_image(want.image, surveys, missing)
    if want.on is not None and want.on not in holders:
        raise Refused(
            "unknown_entity",
            f"{want.on} does not hold an image {want.image}",
            f"it is on {', '.join(sorted(holders))}; leave out --on, or choose one of them",
        )
    if all(image["state"] != "shut-off" for image in holders.values()):
        host, image = next(iter(holders.items()))
        raise Refused(
            "wrong_state", f"{want.image} is {image['state']} on {host}", "an image has to be shut off to be cloned"
        )


def no_image(name: str, surveys: dict[str, Survey], missing: dict[str, str]) -> Refused:
    """The error that tells that there is no such image."""
    known = {str(domain["name"]): domain.get("image") for survey in surveys.values() for domain in survey["domains"]}
    close = nearest(name, sorted(known))
    hint, about = "`maglica image list` shows them", hosts(missing)
    instead = Refused("unknown_entity", f"no host holds an image {name}", hint)
    if missing:
        instead.hint = "it may be on a host that does not answer"
        hint = f"{instead.hint}: {', '.join(missing)}"
    elif close:
        hint, about = f"did you mean {close}?", [(None if known[close] else close, None)]
    return Revealing(instead.code, instead.message, hint, about=about, instead=instead)


def _why(best: str, want: Wanted, fitting: list[str], score: float) -> str:
    if want.on:
        return f"--on={want.on}"
    if len(fitting) == 1:
        return "the only host that fits"
    return f"least load for its weight ({score:g}) of {len(fitting)} that fit"


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.0f} MiB"
