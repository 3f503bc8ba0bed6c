"""An image's disks in a launched appliance: packages upgraded, where that is asked for, and sealed.

`child.py` has the hands: how to look, to write and to read again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from maglica.errors import Failed
from maglica.host_worker.guest import sealing, upgrading
from maglica.host_worker.guest.inspection import read_text
from maglica.host_worker.guest.model import Expectation, GuestFacts, Plan, System


class Hands(NamedTuple):
    """What can be done to the guest whose file systems are mounted."""

    gather: Callable[[Sequence[str]], GuestFacts]
    apply: Callable[[Plan], None]
    reopen: Callable[[], None]
    check: Callable[[Sequence[Expectation]], None]
    step: Callable[[str], AbstractContextManager[None]]


def prepare(guest: Any, system: System, hands: Hands, *, upgrade: bool) -> dict[str, Any]:
    """Upgrade, take away all that is a machine's own, and read that again; the report."""
    told: dict[str, Any] = {}
    if upgrade:
        upgrading.refuse(system)
        with hands.step("upgrade"):
            told = {"upgraded": run_package_manager(guest, system)}
    with hands.step("edit"):
        facts = hands.gather(sealing.SEE)
        plan = sealing.plan(facts)
        hands.apply(plan)
    with hands.step("verify"):
        hands.reopen()
        hands.check(plan.expectations)
    return {
        "os": system.to_map(), "edits": [edit.describe() for edit in plan.edits], "verified": True,
        "cloud_init": facts.has(*sealing.CLOUD_INIT), **told,
    }  # fmt: skip


def run_package_manager(guest: Any, system: System) -> list[str]:
    """Run the distribution's own package manager in its own file system; the packages that changed."""
    list_packages = upgrading.LIST[system.family or ""]
    before = guest.sh(list_packages)
    try:
        guest.sh(upgrading.script(system))
    except RuntimeError as error:
        tail = read_text(guest, upgrading.LOG) or str(error)
        raise Failed(
            "environment_error",
            f"the package manager of {system.product} failed: {upgrading.reason(tail)}",
            "it worked on a copy: the image is as it was",
            details={"output": tail[-4000:]},
        ) from error
    return upgrading.changed(before, guest.sh(list_packages))
