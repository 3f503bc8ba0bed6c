"""A guest that boots anew inside the same QEMU: asked for it, and seen to have done it."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from maglica.errors import Failed, MaglicaError, Refused
from maglica.host_worker import commands
from maglica.host_worker.domain import domain_xml
from maglica.host_worker.domain.look import ACTIVE
from maglica.host_worker.host import Host
from maglica.host_worker.work import Work

POLL = 0.2  # seconds between two looks
ASK_AGAIN = 10.0  # seconds after which a guest is asked again: one that is booting ignores the power button
EAR = 0.5  # seconds until virsh listens
AGENT_WITHIN = 2  # seconds that an agent has for a word


def through_agent(name: str, through: str, host: Host) -> bool:
    """Who shall ask the guest; `Refused` when it has no agent that could."""
    has = domain_xml.read(host.hypervisor.definition(name)).agent
    if through == "acpi" or (through == "auto" and not has):
        return False
    why = host.hypervisor.agent_ping(name, AGENT_WITHIN) if has else "it has no channel for one"
    if why and through == "agent":
        raise Refused("environment_error", f"the agent of {name} does not answer: {why}", "--through=acpi")
    return not why


def refuse(host: Host) -> None:
    """`Refused` where it could not be seen whether a guest has booted anew."""
    if host.hypervisor.has_files and not shutil.which("virsh"):
        raise Refused(
            "environment_error", f"{host.name} has no virsh, which hears of reboots", "install libvirt-clients there"
        )


def obeys(name: str, timeout: float, agent: bool, host: Host, work: Work) -> bool:
    """Ask a guest to boot anew, and wait until it was reset; False when it was not within `timeout` seconds."""
    if not host.hypervisor.has_files:
        host.hypervisor.reboot(name, through_agent=False)
        return True
    with _ear(name, timeout, host, work) as heard:
        until, again = time.monotonic() + timeout, 0.0
        while not heard.done():
            now = time.monotonic()
            if host.hypervisor.state(name) not in ACTIVE:
                raise Failed(
                    "environment_error",
                    f"{name} went off when it was asked to reboot",
                    f"its definition may say so (<on_reboot>); `maglica vm start {name}` starts it",
                )
            if now >= until:
                return False
            if now >= again:
                again = now + ASK_AGAIN
                host.hypervisor.reboot(name, through_agent=agent)
            work.check()
            time.sleep(POLL)
        return heard.result()


@contextmanager
def _ear(name: str, timeout: float, host: Host, work: Work) -> Iterator[Future[bool]]:
    """Whether a domain is reset while this lasts. Events alone tell; virsh hears them in a process of its own, see
    docs/design.md.
    """
    enough = threading.Event()

    def listen() -> bool:
        argv = ["virsh", "-q", "-c", host.hypervisor.uri, "event", "--domain", name, "--event", "reboot"]
        try:
            ended = commands.run(
                [*argv, "--timeout", str(round(timeout + ASK_AGAIN))], timeout=timeout + 2 * ASK_AGAIN, mark=work.mark,
                cancelled=enough.is_set,
            )  # fmt: skip
        except MaglicaError as error:
            if error.code not in ("cancelled", "timeout"):
                raise
            return False
        return ended.exit_status == 0

    with ThreadPoolExecutor(1, "ear") as pool:
        heard = pool.submit(listen)
        time.sleep(EAR)
        try:
            yield heard
        finally:
            enough.set()
