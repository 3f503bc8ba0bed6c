"""How a clone's disks can be made, and which way is taken: values in, values out. `Refused` where there is none.

| mode | the clone's disk | costs at once | depends on the image |
| --- | --- | --- | --- |
| reflink | a file that shares the image's blocks | nothing | no |
| linked | an overlay (qcow2) on the image's disk | 1 MiB | yes |
| thin | a thin snapshot of the image's logical volume | nothing | no |
| full | a copy | what the image takes | no |
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from maglica.actions.vm.clone import ANY_MODE_HINT, AUTO, MODES, THIN_POOL_HINT
from maglica.errors import Refused
from maglica.host_worker.domain import domain_xml
from maglica.host_worker.domain.domain_xml import Disk

AT_ONCE = 1 << 20  # bytes of a disk that costs nothing at once: its header, and what is written first


class Volume(NamedTuple):
    """A logical volume. `thin_pool` is None for one that is not thin."""

    group: str
    name: str
    thin_pool: str | None


class Fullness(NamedTuple):
    """How full a thin pool is, in percent. Either of them full, all volumes in it fail to write."""

    data: float
    metadata: float


class Source(NamedTuple):
    """A disk of the image with its sizes in bytes; `path` is resolved, also for volumes of a pool."""

    disk: Disk
    path: str
    capacity_bytes: int
    allocation_bytes: int
    file: bool = True  # a regular file; otherwise a device
    rests_on: str | None = None  # the file behind it
    volume: Volume | None = None
    fullness: Fullness | None = None  # of the thin pool that the volume is in, where it is known
    elsewhere: bool = False  # its data, or those of what is behind it, are in another file: only a full copy has them


class Way(NamedTuple):
    """One mode for one image: which pools can take such a clone, what it takes there, why it cannot be or is not
    chosen by `auto`."""

    mode: str
    auto: bool
    needed_bytes: int
    pools: tuple[str, ...]
    why_not: str
    full: bool = False  # nothing but room is missing

    def told(self) -> dict[str, Any]:
        """As a survey tells it."""
        return {
            "mode": self.mode,
            "auto": self.auto,
            "needed_bytes": self.needed_bytes,
            "pools": list(self.pools),
            "why_not": self.why_not,
            "full": self.full,
        }


class Choice(NamedTuple):
    """The mode that is taken, the pool (as `Hypervisor.pools` gives it), what it takes at once, and why this one."""

    mode: str
    pool: dict[str, Any]
    needed_bytes: int
    why: str


def ways(
    sources: Sequence[Source],
    pools: Sequence[dict[str, Any]],
    *,
    original: bool,
    order: Sequence[str],
    files: bool,
    thin_limit: float = 100.0,
) -> list[Way]:
    """All modes, those that `auto` tries first, in its `order`.

    `pools` are those that may be used, each with `unshared`: why the image's blocks cannot be shared by files in it, or
    ''. `original`: it is marked or named as an image, and so kept from being started while something rests on it.
    `files`: disks are files and devices of this machine (the test driver has none). `thin_limit`: percent to which a
    thin pool may be full to take another clone.
    """
    found = {mode: _way(mode, sources, pools, original, files) for mode in MODES}
    found["thin"] = _unless_full(found["thin"], sources, thin_limit)
    for mode, way in found.items():
        if mode not in order:
            found[mode] = way._replace(auto=False, why_not=way.why_not or "[host_worker] clone_modes leaves it out")
    first = [found[mode] for mode in dict.fromkeys(order)]
    return first + [way for mode, way in found.items() if mode not in order]


def _way(mode: str, sources: Sequence[Source], pools: Sequence[dict[str, Any]], original: bool, files: bool) -> Way:
    whole = sum(source.allocation_bytes for source in sources)
    apart = next((source.disk.target for source in sources if source.elsewhere), None)
    if apart is not None and mode != "full":
        return Way(mode, False, AT_ONCE * len(sources), (), f"disk {apart} has its data in another file")
    of_files = [pool for pool in pools if not files or pool["type"] in domain_xml.FILE_POOLS]
    if mode == "full":
        names = tuple(str(pool["name"]) for pool in of_files)
        return Way(mode, True, whole, names, "" if names else "there is no pool of files")
    little = AT_ONCE * len(sources)
    if not files:
        words = {"linked": "overlays need disks that are files", "reflink": "reflinks need disks that are files"}
        return Way(mode, False, little, (), words.get(mode, "there is no logical volume"))
    if mode == "reflink":
        return _reflink(sources, of_files, little)
    if mode == "thin":
        return _thin(sources, pools)
    return _linked(sources, of_files, original, little)


def _reflink(sources: Sequence[Source], pools: Sequence[dict[str, Any]], needed: int) -> Way:
    for source in sources:
        if not source.file:
            return Way("reflink", False, needed, (), f"disk {source.disk.target} is a device")
        if source.rests_on:
            # Its copy would rest on the same file, which nobody keeps from changing.
            why = f"disk {source.disk.target} itself rests on {source.rests_on}"
            return Way("reflink", False, needed, (), why)
    names = tuple(str(pool["name"]) for pool in pools if not pool["unshared"])
    reasons = dict.fromkeys(f"{pool['unshared']} ({pool['name']})" for pool in pools)
    return Way(
        "reflink", bool(names), needed, names, "" if names else "; ".join(reasons) or "there is no pool of files"
    )


def _linked(sources: Sequence[Source], pools: Sequence[dict[str, Any]], original: bool, needed: int) -> Way:
    names = tuple(str(pool["name"]) for pool in pools)
    if not names:
        return Way("linked", False, needed, (), "there is no pool of files")
    why = "" if original else "it is no image (neither marked nor named so): nothing keeps it from being started"
    for source in sources:
        if not source.file:
            why = f"disk {source.disk.target} is a device: nothing keeps it from being written"
    return Way("linked", not why, needed, names, why)


def _thin(sources: Sequence[Source], pools: Sequence[dict[str, Any]]) -> Way:
    # A snapshot takes room of its thin pool, as it is written. All of the group is often given to that.
    needed = 0
    groups = set()
    for source in sources:
        if source.volume is None:
            return Way("thin", False, needed, (), f"disk {source.disk.target} is no logical volume")
        if source.volume.thin_pool is None:
            name = f"{source.volume.group}/{source.volume.name}"
            return Way("thin", False, needed, (), f"the logical volume {name} is not thin")
        groups.add(f"/dev/{source.volume.group}")
    names = tuple(str(pool["name"]) for pool in pools if pool["type"] == "logical" and {pool["path"]} == groups)
    why = "" if names else f"no active pool of type logical is {' and '.join(sorted(groups)) or 'there'}"
    return Way("thin", bool(names), needed, names, why)


def _unless_full(way: Way, sources: Sequence[Source], limit: float) -> Way:
    """A snapshot takes next to nothing, and its clone fills the pool: in one that is nearly full it is not made."""
    if not way.pools:
        return way
    for source in sources:
        if source.volume and source.fullness and max(source.fullness) >= limit:
            why = (
                f"thin pool {source.volume.group}/{source.volume.thin_pool} is full to {source.fullness.data:g} %"
                f" (metadata: {source.fullness.metadata:g} %), [host_worker] thin_limit is {limit:g} %"
            )
            return Way("thin", False, way.needed_bytes, (), why, full=True)
    return way


def choose(asked: str, found: Sequence[Way], pools: Sequence[dict[str, Any]], wanted: str | None, what: str) -> Choice:
    """The first way that can be gone, and among the pools for it that have the room the one with most.

    `asked`: a mode, or `auto`; `pools` with `room_bytes`, what each has to give; `wanted`: the one that it has to be;
    `what` is made, for the refusal. Never another mode than the one that was asked for.
    """
    _refuse_unknown_pool(wanted, pools)
    reasons: dict[str, str] = {}
    short: dict[str, str] = {}
    for way in found:
        if way.mode != asked and not (asked == AUTO and way.auto):
            reasons[way.mode] = way.why_not
            continue
        if way.full:
            short[way.mode] = reasons[way.mode] = way.why_not
            continue
        fitting = [pool for pool in pools if pool["name"] in way.pools and wanted in (None, pool["name"])]
        if not fitting:
            reasons[way.mode] = _unfit(way, pools, wanted)
            continue
        best = max(fitting, key=lambda pool: int(pool["room_bytes"]))
        if way.needed_bytes <= int(best["room_bytes"]):
            return Choice(way.mode, best, way.needed_bytes, _why(asked, way, reasons))
        short[way.mode] = reasons[way.mode] = _short(way.needed_bytes, best)
    raise _none(asked, reasons, short, what)


def roomiest(pools: Sequence[dict[str, Any]], wanted: str | None, needed: int) -> dict[str, Any]:
    """The pool of files with most room, or the one called `wanted`, for something of that size. Pools as above."""
    of_files = [pool for pool in pools if pool["type"] in domain_xml.FILE_POOLS]
    _refuse_unknown_pool(wanted, of_files)
    best = max(
        (pool for pool in of_files if wanted in (None, pool["name"])), key=lambda pool: int(pool["room_bytes"])
    )  # fmt: skip
    if needed > int(best["room_bytes"]):
        raise Refused("no_capacity", _short(needed, best), "make room in it, or choose another host with --on")
    return best


def _short(needed: int, pool: dict[str, Any]) -> str:
    room = max(0, int(pool["room_bytes"]))
    return f"{-(-needed >> 20)} MiB of disk are needed, pool {pool['name']} has {room >> 20} MiB to give"


def _unfit(way: Way, pools: Sequence[dict[str, Any]], wanted: str | None) -> str:
    pool = next((pool for pool in pools if pool["name"] == wanted), None)
    if pool is None or not way.pools:
        return way.why_not
    if way.mode == "reflink" and pool["type"] in domain_xml.FILE_POOLS:
        return str(pool["unshared"])
    return f"pool {wanted} is of type {pool['type']}"


def _why(asked: str, way: Way, reasons: dict[str, str]) -> str:
    if asked != AUTO:
        return f"--mode={asked}"
    before = "; ".join(f"not {mode}: {why}" for mode, why in reasons.items() if why)
    return before or "the first that [host_worker] clone_modes names"


def _none(asked: str, reasons: dict[str, str], short: dict[str, str], what: str) -> Refused:
    """`short`: those ways for which nothing but room is missing; then only they matter."""
    if short:
        hint = "make room in it, or choose another --pool, or another host with --on"
        if list(short) == ["thin"]:
            hint = THIN_POOL_HINT
    else:
        hint = ANY_MODE_HINT if asked != AUTO else "`maglica host info` shows a host's pools"
    told = short or (reasons if asked == AUTO else {asked: reasons.get(asked, "")})
    words = "; ".join(f"{mode}: {why}" for mode, why in told.items() if why)
    return Refused("no_capacity" if short else "environment_error", f"{what}: {words}", hint, details={"modes": told})


def _refuse_unknown_pool(wanted: str | None, pools: Sequence[dict[str, Any]]) -> None:
    if pools and wanted in (None, *(pool["name"] for pool in pools)):
        return
    what = f"no active pool called {wanted} that takes disks" if wanted else "no active storage pool that takes disks"
    names = ", ".join(sorted(str(pool["name"]) for pool in pools))
    raise Refused(
        "environment_error",
        f"this host has {what}",
        f"it has {names}" if names else "`virsh pool-list --all` there shows its pools",
    )
