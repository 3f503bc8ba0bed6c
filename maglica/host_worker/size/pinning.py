"""Lists of CPUs: words -> numbers -> words, checked against what there is. Values in, values out."""

from __future__ import annotations

from collections.abc import Sequence

from maglica.errors import Refused
from maglica.host_worker.size.vcpus import numbers


def chosen(wanted: str, known: Sequence[int], what: str) -> list[int]:
    """The numbers that were meant; `Refused` where one is not `known`. `what` has them, such as `host1 has CPUs`."""
    if wanted == "all":
        return list(known)
    found = numbers(wanted)
    if not found:
        raise Refused("wrong_input", f"{wanted} leaves nothing over", f"{what} {listed(known)}")
    missing = [number for number in found if number not in known]
    if missing:
        raise Refused(
            "wrong_input", f"{what} {listed(known)}, not {listed(missing)}", f"expected some of {listed(known)}"
        )
    return found


def listed(found: Sequence[int]) -> str:
    """Numbers as people write them: 0-3,8."""
    ranges: list[list[int]] = []
    for number in sorted(found):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ",".join(f"{first}-{last}" if last > first else f"{first}" for first, last in ranges) or "none"


def shown(found: Sequence[int], host: int) -> str:
    """Where something may run, of that many CPUs."""
    return "all" if len(set(found)) >= host else listed(found)
