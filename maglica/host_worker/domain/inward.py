"""What a guest says of itself: its memory by the balloon, the rest by its agent. Looking only."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from maglica.errors import MaglicaError, Refused
from maglica.host_worker.domain import domain_xml, figures
from maglica.host_worker.domain.domain_xml import Domain
from maglica.host_worker.host import Host
from maglica.host_worker.hypervisor import Hypervisor

Value = dict[str, Any]

AGENT = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
AGENT_WITHIN = 2  # seconds that an agent has for a word
NOTHING: Value = {"agent": None, "hostname": None, "os": None, "kernel": None, "load": None, "filesystems": []}


def look(hypervisor: Hypervisor, live: Domain) -> Value:
    """`agent`: whether it answers, None where there is no channel for one. What is not known is None."""
    told = {**NOTHING, "memory": figures.memory(hypervisor.memory_figures(live.name))}
    if not live.agent:
        return told
    if not live.agent_connected or hypervisor.agent_ping(live.name, AGENT_WITHIN):
        return {**told, "agent": False}

    def ask(command: str, **arguments: Any) -> Any:
        return hypervisor.agent(live.name, command, AGENT_WITHIN, **arguments)

    system = _or(lambda: ask("guest-get-osinfo"), {})
    return {
        **told,
        "agent": True,
        "hostname": _or(lambda: ask("guest-get-host-name")["host-name"], None),
        "os": system.get("pretty-name"),
        "kernel": system.get("kernel-release"),
        "load": _or(lambda: _load(ask), None),
        "filesystems": [_filesystem(one) for one in _or(lambda: ask("guest-get-fsinfo"), [])],
    }


def refuse_without_agent(name: str, what: str, host: Host) -> None:
    """`Refused` where no agent answers; `what` it does that is wanted of it."""
    if not domain_xml.read(host.hypervisor.definition(name)).agent:
        raise Refused(
            "environment_error",
            f"{name} has no channel for QEMU's guest agent, which {what}",
            f"`virsh edit {name}` on {host.name}, into <devices>: {AGENT} The guest needs the package qemu-guest-agent",
        )
    why = host.hypervisor.agent_ping(name, AGENT_WITHIN)
    if why:
        hint = "the guest needs the package qemu-guest-agent, and some time after its start"
        raise Refused("environment_error", f"the agent of {name}, which {what}, does not answer: {why}", hint)


def _or(question: Callable[[], Any], otherwise: Any) -> Any:
    """The answer; some distributions forbid an agent some words, and old ones do not know all."""
    try:
        return question()
    except (MaglicaError, KeyError, TypeError, ValueError):
        return otherwise


def _load(ask: Callable[..., Any]) -> list[float]:
    """proc(5): the load of the last minute, five minutes, fifteen minutes."""
    file = ask("guest-file-open", path="/proc/loadavg", mode="r")
    try:
        text = base64.b64decode(ask("guest-file-read", handle=file, count=64)["buf-b64"])
    finally:
        ask("guest-file-close", handle=file)
    return [float(word) for word in text.split()[:3]]


def _filesystem(one: Value) -> Value:
    return {
        "mountpoint": one.get("mountpoint"),
        "type": one.get("type"),
        "total_bytes": one.get("total-bytes"),
        "used_bytes": one.get("used-bytes"),
    }
