"""Orders about a guest's memory, which take as long as it is large: how far they are is told, and they can be ended."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from maglica.errors import MaglicaError
from maglica.host_worker.host import Host
from maglica.host_worker.work import Work

POLL = 0.25  # seconds between two looks at how far it is


def transfer(order: Callable[[], None], name: str, host: Host, work: Work) -> None:
    """Give the order and wait for its end; a job that shall stop ends it, and then raises what it is stopped for."""
    with ThreadPoolExecutor(1, "transfer") as pool:
        given = pool.submit(order)
        stopped = False
        while True:
            try:
                given.result(POLL)
                return
            except TimeoutError:
                pass
            except MaglicaError:
                work.check()
                raise
            if not stopped and (work.cancelled() or work.left <= 0):
                stopped = _stop(name, host)
            elif told := host.hypervisor.transfer(name):
                work.progress(*told)


def _stop(name: str, host: Host) -> bool:
    try:
        host.hypervisor.abort_transfer(name)
    except MaglicaError:  # it has not begun, or has just ended: the next look knows
        return False
    return True
