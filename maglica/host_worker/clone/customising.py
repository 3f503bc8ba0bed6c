"""The step of `vm clone` that makes its disks a machine of their own: in a warm appliance where one applies, otherwise
in one of its own. Where a warm one leaves a doubt, the disks are thrown away and copied anew.
"""

from __future__ import annotations

from typing import Any

from maglica.host_worker.clone.plan import ClonePlan
from maglica.host_worker.disk import copying
from maglica.host_worker.guest import disk as guest_disk
from maglica.host_worker.guest import warm
from maglica.host_worker.guest.disk import Disk
from maglica.host_worker.guest.model import GuestRequest
from maglica.host_worker.guest.warm import Doubtful, Order, Unfit
from maglica.host_worker.host import Host
from maglica.host_worker.work import Work


def customise(
    todo: ClonePlan, paths: dict[str, str], request: GuestRequest, host: Host, work: Work
) -> tuple[dict[str, str], dict[str, Any]]:
    """(where each target's disk lies now, the report). `paths` have just been copied from the image."""
    try:
        with work.step("customize") as step:
            try:
                report = _warm(todo, paths, request, host, work)
            except Unfit as unfit:
                report = _cold(todo, paths, request, host, work, str(unfit))
            except Doubtful as doubt:
                step["note"] = f"warm appliance, thrown away with the disk: {doubt}"
                raise
            step["note"] = _note(report)
            return paths, report
    except Doubtful as doubt:
        why = f"the warm one failed: {doubt}"
    with work.step("copy", "once more, after a warm appliance failed"):
        paths = copying.again(todo, host, work)
    with work.step("customize") as step:
        report = _cold(todo, paths, request, host, work, why)
        step["note"] = _note(report)
        return paths, report


def _warm(todo: ClonePlan, paths: dict[str, str], request: GuestRequest, host: Host, work: Work) -> dict[str, Any]:
    if host.warm is None:
        raise Unfit("this host keeps none")
    image = warm.image([(copy.source, copy.source_format, copy.capacity_bytes) for copy in todo.copies])
    order = Order(
        image=image,
        disks=_disks(todo, paths),
        request=request,
        terms=host.terms(work, host.settings.customize_timeout),
    )
    return host.warm.customise(order, host.settings)


def _cold(
    todo: ClonePlan, paths: dict[str, str], request: GuestRequest, host: Host, work: Work, why: str
) -> dict[str, Any]:
    terms = host.terms(work, host.settings.customize_timeout)
    report = guest_disk.customise(_disks(todo, paths), request, terms)
    return {**report, "appliance": "cold", "note": why}


def _disks(todo: ClonePlan, paths: dict[str, str]) -> list[Disk]:
    return [Disk(paths[copy.target], copy.format) for copy in todo.copies]


def _note(report: dict[str, Any]) -> str:
    took = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in report["seconds"].items())
    return f"{report['appliance']} appliance ({report['note']}): {took}"
