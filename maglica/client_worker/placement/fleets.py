"""Fleets: from what the hosts have to the jobs that a fleet's command stands for. Values in, values out.

A fleet is the VMs that are called BASE-<number> and are marked with BASE in their metadata. Neither alone will do:
`web-1` may be somebody else's, and a VM that was renamed has left.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from maglica import policy, template
from maglica.actions.fleet import FleetCreate, FleetRemove, FleetRestart, FleetStart, FleetStop
from maglica.client_worker.placement.place import Seen
from maglica.client_worker.revealing import Revealing
from maglica.client_worker.revealing import hosts as hosts_of
from maglica.declare import Action, nearest
from maglica.errors import Refused

OFF = "shut-off"


class Batch(NamedTuple):
    """What is to be done: one action, with the arguments of each."""

    action: str
    each: list[dict[str, Any]]
    note: str | None = None


class Member(NamedTuple):
    """A VM of a fleet."""

    number: int
    name: str
    host: str
    state: str
    image: str | None
    template: str | None


def pattern(base: str) -> str:
    """What the VMs of a fleet are called."""
    return base + "-{n}"


def members(base: str, seen: Seen) -> list[Member]:
    """The VMs of a fleet, the lowest number first."""
    return sorted(member for name, member in _all(seen) if name == base)


def _all(seen: Seen) -> Iterable[tuple[str, Member]]:
    for host, survey in seen.surveys.items():
        for domain in survey["domains"]:
            base = domain.get("fleet")
            number = policy.number_of(pattern(str(base)), str(domain["name"])) if base else None
            if base and number is not None:
                of, made = domain.get("image_name"), domain.get("template")
                yield str(base), Member(number, str(domain["name"]), host, str(domain["state"]), of, made)


def listed(seen: Seen) -> list[dict[str, Any]]:
    """All fleets, as a list shows them."""
    fleets: dict[str, list[Member]] = {}
    for base, member in _all(seen):
        fleets.setdefault(base, []).append(member)
    return [
        {
            "name": base,
            "vms": len(found),
            "running": sum(member.state != OFF for member in found),
            "numbers": ranges(sorted(member.number for member in found)),
            "hosts": sorted({member.host for member in found}),
            "images": sorted({member.image for member in found if member.image}),
            "templates": sorted({member.template for member in found if member.template}),
        }
        for base, found in sorted(fleets.items())
    ]


def ranges(numbers: list[int]) -> str:
    """`1-4, 7`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number in (runs[-1][1], runs[-1][1] + 1):
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def refuse_protected(base: str, protected: Iterable[str], hosts: Iterable[str]) -> None:
    """Refuse names that no fleet shall have: those that the settings protect, and those of hosts."""
    found = next((word for word in protected if fnmatchcase(base.lower(), word.lower())), None)
    if found:
        raise Refused("protected", f"fleet {base} is protected by {found} in [client] protected_names")
    host = next((name for name in hosts if base.lower() in (name.lower(), name.lower().partition(".")[0])), None)
    if host:
        instead = Refused("protected", f"{base} is no name for a fleet", "choose another name")
        what = f"{base} is the name of the host {host}, not of a fleet"
        raise Revealing("protected", what, instead.hint, about=hosts_of([host]), instead=instead)


def batch(action: Action, seen: Seen, names: Iterable[str], templates: Mapping[str, dict[str, Any]]) -> Batch:
    """The jobs that a fleet's command stands for. `names`: of VMs that are being made just now."""
    if isinstance(action, FleetCreate):
        return _create(action, seen, names, templates)
    base, found = str(getattr(action, "name")), members(str(getattr(action, "name")), seen)
    if not found:
        known = {name for name, _ in _all(seen)}
        close = nearest(base, known)
        raise Refused(
            "unknown_entity", f"there is no fleet {base}",
            f"did you mean {close}?" if close else "`maglica fleet list` shows them",
        )  # fmt: skip
    if isinstance(action, FleetStart):
        ready = [member for member in found if member.state == OFF]
        common: dict[str, Any] = {"ignore_missing": action.ignore_missing}
        return _some("vm start", action, base, found, ready, "run already", common)
    if isinstance(action, FleetStop):
        ready = [member for member in reversed(found) if member.state != OFF]
        common = {} if action.kill else {"timeout": action.timeout, "force": action.force}
        return _some("vm destroy" if action.kill else "vm stop", action, base, found, ready, "are off", common)
    if isinstance(action, FleetRestart):
        ready = [member for member in found if member.state != OFF]
        common = {"timeout": action.timeout, "force": action.force, "ignore_missing": action.ignore_missing}
        return _some("vm restart", action, base, found, ready, "are off", common)
    assert isinstance(action, FleetRemove)
    return _some("vm remove", action, base, found, list(reversed(found)), "", {"force": True})


def _some(
    name: str, action: Any, base: str, found: list[Member], ready: list[Member], others: str, common: dict[str, Any]
) -> Batch:
    """As many as are wanted, in this order; and what is to be said when there are fewer."""
    chosen = ready if action.all else ready[: action.count]
    skipped = len(found) - len(ready)
    note = None
    if not action.all and len(chosen) < action.count:
        there = f"fleet {base} has {len(found)}" + (f", of which {skipped} {others}" if skipped else "")
        note = f"{len(chosen)} of the {action.count} that were asked for: {there}"
    elif skipped and action.all:
        note = f"{skipped} of the {len(found)} VMs of fleet {base} {others}"
    return Batch(name, [{**common, "name": f"{member.name}@{member.host}"} for member in chosen], note)


def _create(action: FleetCreate, seen: Seen, names: Iterable[str], templates: Mapping[str, dict[str, Any]]) -> Batch:
    own = ("name", "count", "forks", "template")
    given = {name: value for name, value in action.values().items() if name not in own and value is not None}
    if action.template is not None:
        given = template.render(find_template(action.template, templates), {"start": False, **given})
    if "image" not in given:
        what = f"template {action.template} names no image" if action.template else "--template or --image is missing"
        hint = "`maglica template list` shows the templates, `maglica image list` the images"
        raise Refused("wrong_input", f"fleet create: {what}", hint)
    first = next_number(pattern(action.name), seen, names)
    common = {"start": False, **given, "fleet": action.name}
    every = [policy.numbered(pattern(action.name), first + number) for number in range(action.count)]
    return Batch("vm clone", [{**common, "hostname": hostname} for hostname in every])


def next_number(wanted: str, seen: Seen, names: Iterable[str]) -> int:
    """The number after the highest that a pattern has made; `names` are being made just now."""
    numbers = [policy.number_of(wanted, name) for name in (*seen.vms, *names)]
    return max((number for number in numbers if number is not None), default=0) + 1


def find_template(name: str, templates: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The template of that name."""
    if name not in templates:
        close = nearest(name, templates)
        hint = f"did you mean {close}?" if close else "`maglica template list` shows them"
        raise Refused("unknown_entity", f"there is no template {name}", hint)
    return templates[name]
