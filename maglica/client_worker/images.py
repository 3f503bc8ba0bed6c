"""Where images go, and where they come from: decided from what the hosts just told. Values in, values out.

A survey's shape stands in `place.py`; an image in it has its `content`, the checksum of what its guests see, where it
is known.
"""

from __future__ import annotations

from typing import Any

from maglica.client_worker import place
from maglica.client_worker.place import Choice, Reserved, Survey
from maglica.declare import Action, nearest
from maglica.errors import Refused


def holders(name: str, surveys: dict[str, Survey]) -> dict[str, dict[str, Any]]:
    """The hosts that have an image of that name, and what each told of it."""
    found = {}
    for host, survey in surveys.items():
        for domain in survey["domains"]:
            if domain["name"] == name:
                found[host] = domain
    return found


def room(survey: Survey, reserved: Reserved) -> int:
    """Bytes that the roomiest pool of a host has to give."""
    return max((int(pool["free_bytes"]) for pool in survey["pools"]), default=0) - reserved.disk_bytes


def for_import(
    action: Action,
    surveys: dict[str, Survey],
    missing: dict[str, str],
    weights: dict[str, float],
    reserved: dict[str, Reserved],
) -> Choice:
    """The host that an image from elsewhere is put on: the one that is asked for, or the one with most room."""
    name, on = str(getattr(action, "name")), getattr(action, "on")
    place.refuse_unknown_host(on, surveys, missing)
    for host, domain in holders(name, surveys).items():
        raise Refused(
            "already_exists",
            f"{name} exists on {host} ({domain['state']})",
            "images are never replaced: choose another --name, such as NAME:VERSION",
        )
    place.refuse_partial_view(name, missing, bool(getattr(action, "ignore_missing")))
    rooms = {host: room(survey, reserved.get(host, Reserved())) for host, survey in surveys.items()}
    if on is not None:
        return Choice(on, f"--on={on}", {})
    refused = {host: "weight 0" for host in rooms if weights.get(host, 10.0) <= 0}
    refused |= {host: "no room in any pool" for host, free in rooms.items() if free <= 0}
    fitting = sorted((-free, host) for host, free in rooms.items() if host not in refused)
    if not fitting:
        told = "; ".join(f"{host}: {why}" for host, why in sorted(refused.items())) or "there is none"
        raise Refused("no_capacity", f"no host can take the image {name}: {told}", "free some room", details=refused)
    return Choice(fitting[0][1], "the most room in a pool", refused)


def refuse_no_image(name: str, surveys: dict[str, Survey], missing: dict[str, str]) -> Refused:
    """The error that tells that there is no such image."""
    known = sorted({str(domain["name"]) for survey in surveys.values() for domain in survey["domains"]})
    close = nearest(name, known)
    hint = f"did you mean {close}?" if close else "`maglica image list` shows them"
    if missing:
        hint = f"it may be on a host that does not answer: {', '.join(missing)}"
    return Refused("unknown_entity", f"no host holds an image {name}", hint)
