"""Shutting a guest down: it is asked until it obeys, and its plug is pulled only where that was allowed."""

from __future__ import annotations

import time
from typing import Any

from maglica.errors import Failed, MaglicaError
from maglica.host_worker.domain import standing
from maglica.host_worker.domain.look import ACTIVE
from maglica.host_worker.host import Host
from maglica.host_worker.work import Work

POLL = 0.2  # seconds between two looks at a guest that is shutting down
ASK_AGAIN = 10.0  # seconds after which a guest is asked again: one that is booting ignores the power button


def shut_down(
    name: str, timeout: float, force: bool, host: Host, work: Work, last: dict[str, Any] | None = None
) -> None:
    """Two steps of a job, the second only with `force`; `timeout` in seconds. `last`: the sign of the whole job, where
    it ends with this.
    """
    if host.hypervisor.state(name) not in standing.STILL:  # what stands still cannot obey
        with work.step("shut down", sign=last):
            if _obeys(name, timeout, host, work):
                return
    if not force:
        raise Failed(
            "environment_error",
            f"{name} is still {host.hypervisor.state(name)} {timeout:g} s after it was asked to shut down",
            "give it more --timeout, or --force to pull the plug when it does not obey",
        )
    with work.step("destroy", sign=last):
        host.hypervisor.destroy(name)


def _obeys(name: str, timeout: float, host: Host, work: Work) -> bool:
    until = time.monotonic() + timeout
    again = 0.0
    while host.hypervisor.state(name) in ACTIVE:
        now = time.monotonic()
        if now >= until:
            return False
        if now >= again:
            again = now + ASK_AGAIN
            _ask(name, host)
        work.check()
        time.sleep(POLL)
    return True


def _ask(name: str, host: Host) -> None:
    try:
        host.hypervisor.shutdown(name)
    except MaglicaError:
        if host.hypervisor.state(name) in ACTIVE:
            raise  # it did not just go off by itself
