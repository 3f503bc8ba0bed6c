"""Where images go, and where they come from: decided from what the hosts just told. Values in, values out.

A survey's shape stands in `place.py`; an image in it has its `content`, the checksum of what its guests see, where it
is known.
"""

from __future__ import annotations

from typing import Any

from maglica.actions.image import ImageSeal, ImageUpgrade, default_name
from maglica.client_worker.placement import place
from maglica.client_worker.placement.labels import refuse_label
from maglica.client_worker.placement.place import Choice, Reserved, Survey, Wanted
from maglica.declare import Action
from maglica.errors import Refused


def holders(name: str, surveys: dict[str, Survey]) -> dict[str, dict[str, Any]]:
    """The hosts that have an image of that name, and what each told of it."""
    found = {}
    for host, survey in surveys.items():
        for domain in survey["domains"]:
            if domain["name"] == name:
                found[host] = domain
    return found


def named(action: Action, day: str) -> Action:
    """The same action with the name of the image that it makes, where none was said: it has to be free on all hosts,
    and stays the same on whatever day the job runs.
    """
    if not isinstance(action, (ImageSeal, ImageUpgrade)) or action.as_ is not None:
        return action
    name = default_name(action.name, day, upgrade=isinstance(action, ImageUpgrade))
    return type(action)(**{**action.values(), "as_": name})


def with_nothing(surveys: dict[str, Survey]) -> dict[str, Survey]:
    """The same hosts, each as if it had an image in which there is nothing, and whose clones are files."""
    found = {}
    for host, survey in surveys.items():
        pools = [str(pool["name"]) for pool in survey["pools"] if pool.get("files", True)]
        way = {"mode": "full", "auto": True, "needed_bytes": 0, "pools": pools, "why_not": "there is no pool of files"}
        nothing = {
            "name": place.NOTHING, "state": "shut-off", "vcpus": 1, "memory_bytes": 0, "macs": [], "modes": [way],
            "image": True,
        }  # fmt: skip
        found[host] = {**survey, "domains": [*survey["domains"], nothing]}
    return found


def room(survey: Survey, reserved: Reserved) -> int:
    """Bytes that the roomiest pool of a host has to give."""
    given = dict(reserved.pools)
    rooms = (
        int(pool["free_bytes"]) - given.get(str(pool["name"]), 0) for pool in survey["pools"] if pool.get("files", True)
    )
    return max(rooms, default=0) - reserved.disk_bytes


def for_import(
    action: Action,
    surveys: dict[str, Survey],
    missing: dict[str, str],
    weights: dict[str, float],
    reserved: dict[str, Reserved],
    labels: dict[str, str],
    closed: frozenset[str] = frozenset(),
) -> Choice:
    """The host that an image from elsewhere is put on: the one that is asked for, or the one with most room. `closed`:
    hosts that are not for whoever asks.
    """
    name, on = str(getattr(action, "name")), getattr(action, "on")
    place.refuse_unknown_host(on, surveys, missing)
    refuse_label(name, labels)
    for host, domain in holders(name, surveys).items():
        hint = "images are never replaced: choose another --name, such as NAME:VERSION"
        raise place.taken(name, host, str(domain["state"]), hint)
    place.refuse_partial_view(name, missing, bool(getattr(action, "ignore_missing")))
    rooms = {
        host: room(survey, reserved.get(host, Reserved())) for host, survey in place.without(closed, surveys).items()
    }
    if on is not None:
        return Choice(on, f"--on={on}", {})
    refused = {host: "weight 0" for host in rooms if weights.get(host, 10.0) <= 0}
    refused |= {host: "no room in any pool" for host, free in rooms.items() if free <= 0}
    fitting = sorted((-free, host) for host, free in rooms.items() if host not in refused)
    if not fitting:
        told = "; ".join(f"{host}: {why}" for host, why in sorted(refused.items())) or "there is none"
        raise Refused("no_capacity", f"no host can take the image {name}: {told}", "free some room", details=refused)
    return Choice(fitting[0][1], "the most room in a pool", refused)


def for_copy(
    action: Action,
    surveys: dict[str, Survey],
    missing: dict[str, str],
    reserved: dict[str, Reserved],
    labels: dict[str, str],
    closed: frozenset[str] = frozenset(),
) -> tuple[Choice, Action]:
    """The host that gets a copy, with the action that says from where it comes: from none that is `closed`."""
    name, dest = str(getattr(action, "name")), str(getattr(action, "dest"))
    named = str(getattr(action, "as_") or name)
    refuse_label(named, labels)
    place.refuse_unknown_host(dest, surveys, missing)
    place.refuse_unknown_host(getattr(action, "from_"), surveys, missing)
    if holders(named, {dest: surveys[dest]}):
        raise Refused(
            "already_exists", f"{named} exists on {dest}", "images are never replaced; --as=NAME gives another name"
        )
    if named != name:
        place.refuse_name(named, place.index(surveys), "choose another --as")
        place.refuse_partial_view(named, missing, bool(getattr(action, "ignore_missing")))
    source = source_of(name, getattr(action, "from_"), place.without(closed, surveys), missing)
    why = unfit(name, source, surveys, dest, reserved.get(dest, Reserved()))
    if why:
        raise Refused("no_capacity", f"{dest} cannot take {name}: {why}", "make room there, or choose another --dest")
    return Choice(dest, f"from {source}", {}), type(action)(**{**action.values(), "from_": source})


def copied_first(
    want: Wanted,
    surveys: dict[str, Survey],
    missing: dict[str, str],
    weights: dict[str, float],
    reserved: dict[str, Reserved],
    ignore_missing: bool,
) -> tuple[Choice, str, Survey]:
    """The host that could take a clone if it had the image, the host that the image would come from, and what the
    first would tell of itself then.

    Each host that lacks the image is looked at as if it had it already, with as much less room.
    """
    source = source_of(want.image, None, surveys, missing)
    image = {key: value for key, value in holders(want.image, surveys)[source].items() if key != "modes"}
    size = disk_bytes(want.image, source, surveys)
    could = {}
    for host in lacking(want.image, surveys):
        pools = [{**pool, "free_bytes": int(pool["free_bytes"]) - size} for pool in surveys[host]["pools"]]
        could[host] = {**surveys[host], "pools": pools, "domains": [*surveys[host]["domains"], image]}
    if not could:
        raise Refused("no_capacity", f"every host has the image {want.image}, and none has room", "free some room")
    choice = place.choose(want, could, missing, weights, reserved, ignore_missing)
    return choice._replace(why=f"{choice.why}; gets {want.image} from {source} first"), source, could[choice.host]


def for_export(
    action: Action, surveys: dict[str, Survey], missing: dict[str, str], closed: frozenset[str] = frozenset()
) -> Choice:
    """The host that writes an image's disks as files: one that has it. `closed`: as for a copy."""
    on = getattr(action, "on")
    place.refuse_unknown_host(on, surveys, missing)
    host = source_of(str(getattr(action, "name")), on, place.without(closed, surveys), missing)
    return Choice(host, f"--on={on}" if on else "the least busy host that has it", {})


def source_of(name: str, wanted: str | None, surveys: dict[str, Survey], missing: dict[str, str]) -> str:
    """The host to take an image from: `wanted`, or the least busy one of those that have it."""
    found = holders(name, surveys)
    if not found:
        raise place.no_image(name, surveys, missing)
    if wanted is not None and wanted not in found:
        raise Refused(
            "unknown_entity", f"{wanted} does not hold an image {name}", f"it is on {', '.join(sorted(found))}"
        )
    able = {host: image for host, image in found.items() if image.get("image") and image["state"] == "shut-off"}
    able = {host: image for host, image in able.items() if wanted in (None, host)}
    if not able:
        host, image = next((host, image) for host, image in found.items() if wanted in (None, host))
        what = f"{image['state']} on {host}" if image.get("image") else f"no image but a VM, on {host}"
        raise Refused("wrong_state", f"{name} is {what}", "only images that are shut off are read")
    if wanted is None and differ(able):
        raise Refused(
            "wrong_state",
            f"{name} is not the same on {', '.join(sorted(able))}",
            "say with --from=HOST which one is meant; `maglica image info` shows their checksums",
        )
    return min(able, key=lambda host: (int(surveys[host]["active"]), host))


def differ(images: dict[str, dict[str, Any]]) -> bool:
    """Whether copies of an image are known not to be the same."""
    return len({image.get("content") for image in images.values()} - {None}) > 1


def lacking(name: str, surveys: dict[str, Survey]) -> list[str]:
    """The hosts that have no domain of that name."""
    found = holders(name, surveys)
    return sorted(host for host in surveys if host not in found)


def one(name: str, told: dict[str, Any]) -> dict[str, Any]:
    """All that hosts told of one image: what it is, which of them have it, and whether the copies are the same."""
    items, missing = told["items"], told["missing_hosts"]
    if not items:
        raise place.no_image(name, {}, {gone["host"]: gone["why"] for gone in missing})
    first = items[0]
    contents = {item.get("content") for item in items}
    same = None if None in contents and len(items) > 1 else len(contents) == 1
    # What is told of each host, and what holds for all.
    hosts = [{key: item.get(key) for key in ("host", "state", "uuid", "content", "dependents")} for item in items]
    item = {key: first[key] for key in first if key not in ("host", "state", "uuid", "dependents")}
    if len(contents - {None}) > 1:
        item["content"] = None
    return {"missing_hosts": missing, "item": {**item, "same": same, "hosts": hosts}}


def disk_bytes(name: str, host: str, surveys: dict[str, Survey]) -> int:
    """What an image's disks take."""
    return sum(int(disk["allocation_bytes"]) for disk in holders(name, surveys)[host]["disks"])


def unfit(name: str, source: str, surveys: dict[str, Survey], dest: str, reserved: Reserved) -> str:
    """Why a host cannot take a copy, or ''."""
    needed, free = disk_bytes(name, source, surveys), room(surveys[dest], reserved)
    if needed > free:
        return f"needs {needed >> 20} MiB of disk, the roomiest pool has {max(0, free) >> 20} MiB to give"
    return ""
