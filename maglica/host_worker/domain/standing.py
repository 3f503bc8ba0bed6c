"""Guests that stand still, and domains without a definition: what cannot be asked of them."""

from __future__ import annotations

from maglica.errors import Refused
from maglica.host_worker.host import Host

# A QEMU is there, and its guest does nothing: what it must do is to be done before it can hear anything.
WAKE = {
    "paused": "`maglica vm resume {name}` lets it go on",
    "pm-suspended": "`maglica vm pmwakeup {name}` wakes it up",
    "crashed": "`maglica vm reset {name}` and `maglica vm resume {name}` boot it anew",
}
STILL = frozenset(WAKE)


def refuse(name: str, state: str) -> None:
    """Refuse what takes a guest that hears."""
    if state in STILL:
        hint = f"{WAKE[state].format(name=name)}; `maglica vm destroy {name}` pulls the plug"
        raise Refused("wrong_state", f"{name} is {state}: its guest hears nothing", hint)


def refuse_off(name: str, state: str, active: tuple[str, ...]) -> None:
    """Refuse what takes a VM that is on."""
    if state not in active:
        raise Refused("wrong_state", f"{name} is {state}", f"`maglica vm start {name}` starts it")


def refuse_transient(name: str, host: Host) -> None:
    """Refuse what would end a domain for ever, or takes a definition that stays."""
    if not host.hypervisor.is_persistent(name):
        raise Refused(
            "wrong_state",
            f"{name} has no definition that is stored: once it is off, it is gone",
            f"`virsh dumpxml {name} > {name}.xml && virsh define {name}.xml` on {host.name} stores what runs",
        )
