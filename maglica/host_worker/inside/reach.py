"""Whether a guest can be spoken to, and why not: looked at before anything is asked of it."""

from __future__ import annotations

from maglica.errors import Refused
from maglica.host_worker.domain import domain_xml
from maglica.host_worker.domain.inward import AGENT
from maglica.host_worker.domain.readiness import RUNS
from maglica.host_worker.host import Host

WITHIN = 5  # seconds that an agent has for a word: one that is alive needs some milliseconds


def refuse(name: str, host: Host, *commands: str) -> None:
    """`Refused` unless the VM runs, has an agent that answers, and that may do these commands."""
    state = host.hypervisor.state(name)
    if not host.hypervisor.has_files:
        raise Refused("environment_error", f"{host.name} has no real guests ({host.hypervisor.uri})")
    if state not in RUNS:
        hint = f"`maglica vm {'resume' if state == 'paused' else 'start'} {name}` first"
        raise Refused("wrong_state", f"{name} is {state}: nobody answers in it", hint)
    if not domain_xml.read(host.hypervisor.definition(name)).agent:
        raise Refused(
            "environment_error",
            f"{name} has no channel for QEMU's guest agent",
            f"`virsh edit {name}` on {host.name}, into <devices>: {AGENT} The guest needs the package qemu-guest-agent,"
            " and a restart",
        )
    silent = host.hypervisor.agent_ping(name, WITHIN)
    if silent:
        raise Refused(
            "environment_error",
            f"the guest agent of {name} does not answer within {WITHIN} s: {silent}",
            f"is it still booting? `maglica vm start {name} --wait=agent` waits for it; otherwise install the package"
            " qemu-guest-agent there, and start its service",
        )
    version, known = host.hypervisor.agent_commands(name, WITHIN)
    refuse_unable(name, version, known, *commands)


def refuse_unable(name: str, version: str, known: dict[str, bool], *commands: str) -> None:
    """`Refused` unless an agent that knows these commands (True: and may obey them) may obey all of `commands`."""
    strange = [command for command in commands if command not in known]
    if strange:
        told = f"the guest agent of {name} ({version}) does not know {', '.join(strange)}"
        raise Refused("environment_error", told, "a newer qemu-guest-agent there does")
    forbidden = [command for command in commands if not known[command]]
    if forbidden:
        raise Refused(
            "environment_error",
            f"the guest agent of {name} is not allowed to do {', '.join(forbidden)}",
            "settings of the guest itself forbid it: look there for block-rpcs, allow-rpcs, BLACKLIST_RPC and"
            " FILTER_RPC_ARGS in /etc/qemu/qemu-ga.conf and /etc/sysconfig/qemu-ga, then restart qemu-guest-agent",
        )
