"""How far a guest is: what `--wait=running|ip|ssh|agent|console:TEXT` waits for, and what was seen last.

* running: for five seconds it neither goes off, nor pauses, crashes or reboots.
* ip: an address is known, and something at it answers this host; or the guest's own agent tells it.
* ssh: port 22 of an address accepts a connection from this host, and greets with `SSH-`.
* agent: QEMU's guest agent answers a ping.
* console:TEXT: the serial console has shown that text since the VM was started.

Looking is apart from judging: `Seen` is what was seen, `met` and `words` are functions of it.
"""

from __future__ import annotations

import shlex
import shutil
import time
from typing import Any, NamedTuple

from maglica.errors import Failed, MaglicaError, Refused
from maglica.host_worker import commands
from maglica.host_worker.domain import console, domain_xml, look, neighbours
from maglica.host_worker.domain.console import Follower
from maglica.host_worker.domain.domain_xml import Domain
from maglica.host_worker.domain.inward import AGENT
from maglica.host_worker.domain.neighbours import Knock
from maglica.host_worker.host import Host
from maglica.host_worker.work import Work

STEADY = 5.0  # seconds that a VM has to run without a break
SURE = 10.0  # seconds after which the kernel has asked a neighbour anew, and forgotten one that is gone
PAUSES = (0.25, 0.5, 1.0, 2.0)  # seconds between two looks: the longer it lasts, the fewer
AGENT_WITHIN = 2  # seconds that a guest's agent has for a word

MOST = 4  # addresses of one guest that are tried

RUNS = ("running", "idle")
ENDED = ("shut-off", "crashed")
GOALS = {
    "running": "did not run steadily",
    "ip": "was not found at an address",
    "ssh": "did not answer by ssh",
    "agent": "had no guest agent that answers",
    "console": "did not write that to its console",
}
LOG = "<log file='/var/log/libvirt/qemu/{name}.console.log' append='off'/>"


class Seen(NamedTuple):
    """A VM at one moment. What was not looked at is empty."""

    state: str
    seconds: float | None = None  # since its QEMU began
    addresses: tuple[str, ...] = ()
    told: tuple[str, ...] = ()  # those of them that its agent told
    knocks: dict[str, Knock] = {}
    owners: dict[str, str | None] = {}  # address -> the MAC that the neighbour table has for it
    agent: str | None = None  # why its agent does not answer; '' when it does
    shown: bool = False  # the console has shown the text
    steady: float = 0.0  # seconds that it has run without a break
    reboots: int = 0  # seen while it was watched for them
    waited: float = 0.0  # seconds since the first look


class Wait(NamedTuple):
    """What is waited for, and what has to be known for it."""

    condition: str
    timeout: float
    name: str
    macs: tuple[str, ...]
    static: str | None  # the address that it was given when it was made
    agent: bool  # whether it has a channel for its agent
    log: str | None
    follower: Follower | None
    secrets: tuple[str, ...]  # never to be shown


# ---- before anything is touched ---------------------------------------------------------------------------------


def refuse(condition: str | None, domain: Domain, host: Host) -> None:
    """`Refused` where a VM with this definition can never fulfil the condition."""
    if condition is None:
        return
    if not host.hypervisor.has_files:
        told = f"{host.name} has no real guests ({host.hypervisor.uri})"
        raise Refused("environment_error", told, "leave out --wait")
    if condition == "running" and not shutil.which("virsh"):
        told = f"{host.name} has no virsh, which hears of reboots"
        raise Refused("environment_error", told, "install libvirt-clients there")
    if condition == "agent" and not domain.agent:
        raise Refused(
            "environment_error",
            f"{domain.name} has no channel for QEMU's guest agent",
            f"`virsh edit {domain.name}` there, into <devices>: {AGENT} The guest needs the package qemu-guest-agent",
        )
    if condition in ("ip", "ssh") and not domain.nics:
        raise Refused("environment_error", f"{domain.name} has no network card", "--wait=running or console:TEXT")
    if condition.startswith("console:") and not domain.console_log:
        raise Refused(
            "environment_error",
            f"the serial console of {domain.name} is not kept in a file",
            f"`virsh edit {domain.name}` there, into <serial>: {LOG.format(name=domain.name)}",
        )


def prepare(
    condition: str | None, timeout: float, name: str, host: Host, *, secrets: tuple[str, ...] = ()
) -> Wait | None:
    """To be made before the VM is started, so that nothing it says is missed. None: nothing is to be waited for."""
    if condition is None:
        return None
    domain = domain_xml.read(host.hypervisor.definition(name))
    follower = None
    if condition.startswith("console:") and domain.console_log:
        # A log that is not appended to is truncated by the start: at the first look all that it holds is of this run.
        wanted = condition.partition(":")[2]
        follower = Follower(domain.console_log, wanted, all_of_it=not domain.console_appends)
    macs = tuple(str(nic["mac"]).lower() for nic in domain.nics if nic["mac"])
    return Wait(
        condition, timeout, name, macs, domain.mark.get("ip"), domain.agent, domain.console_log, follower, secrets
    )


def refuse_ended(name: str, host: Host) -> str:
    """The state of a VM that was started just now; `Failed` when it is off again."""
    state = host.hypervisor.state(name)
    if state in ENDED:
        raise Failed("environment_error", f"{name} was started and is {state}", "its console log may tell why")
    return state


# ---- waiting ----------------------------------------------------------------------------------------------------


def wait(todo: Wait, host: Host, work: Work, *, keep: bool = True) -> dict[str, Any]:
    """Wait until the condition is met; what was seen then, for the job's result.

    The job gives its slot back meanwhile: guests that boot keep no copy from beginning. `keep`: the VM stays whatever
    comes of the waiting. Raises `Failed`: `timeout`, `cancelled`, or that the VM went off; with what was seen last.
    """
    work.step_aside(keep=keep)
    try:
        with work.step("wait", f"for {todo.condition}") as step:
            seen = _until_met(todo, host, work, keep)
            step["note"] = f"for {todo.condition}: {words(todo, seen)}"
    finally:
        if todo.follower:
            todo.follower.close()
    found = {"ips": list(seen.addresses)} if seen.addresses else {}
    return {"waited_for": todo.condition, "seen": words(todo, seen), "state": seen.state, **found}


def _until_met(todo: Wait, host: Host, work: Work, keep: bool) -> Seen:
    began = steady_since = time.monotonic()
    seen, said, reboots = Seen("unknown"), "", 0
    while True:
        seen = _observed(todo, seen, host)
        now = time.monotonic()
        if seen.state not in RUNS:
            steady_since = now
        seen = seen._replace(steady=now - steady_since, reboots=reboots, waited=now - began)
        if met(todo, seen):
            return seen
        problem = _problem(todo, seen, work)
        if problem:
            raise _failed(todo, seen, problem, host, keep)
        if (short := _words(todo, seen)) != said:
            said = short
            work.substep(short.lstrip(", ") or seen.state)
        left = max(0.0, todo.timeout - seen.waited)
        if todo.condition != "running":
            time.sleep(min(PAUSES[min(int(seen.waited / 5), len(PAUSES) - 1)], left))
        elif _rebooted(todo.name, min(STEADY, left), host, work):
            reboots, steady_since = reboots + 1, time.monotonic()


def _problem(todo: Wait, seen: Seen, work: Work) -> tuple[str, str] | None:
    """(code, text) when there is nothing more to wait for."""
    if seen.state in ENDED:
        return "environment_error", f"{todo.name} was started and is {seen.state}"
    if work.cancelled():
        return "cancelled", f"the job was cancelled while it waited for {todo.name}"
    if seen.waited >= todo.timeout or work.left <= 0:
        return "timeout", f"{todo.name} {GOALS[todo.condition.partition(':')[0]]} within {todo.timeout:g} s"
    return None


def _failed(todo: Wait, seen: Seen, problem: tuple[str, str], host: Host, keep: bool) -> Failed:
    code, text = problem
    on = f"`maglica vm start {todo.name} --wait={shlex.quote(todo.condition)}` goes on waiting"
    hint = f"the VM stays on {host.name}; {on}" if keep else "what was made is taken back"
    if todo.log and code != "cancelled":
        hint += "; the job's log has the last lines of its console"
    details = {
        "vm": todo.name,
        "host": host.name,
        "seen": words(todo, seen),
        "console": console.tail(todo.log, todo.secrets) if todo.log else None,
    }
    return Failed(code, f"{text}: {words(todo, seen)}", hint, details=details)


def _rebooted(name: str, seconds: float, host: Host, work: Work) -> bool:
    """Watch a VM for that long; True as soon as it reboots.

    Whether it did is told by events alone. virsh hears them in a process of its own: libvirt's event loop for Python
    would be a thread of ours for ever, see docs/design.md.
    """
    until = time.monotonic() + seconds
    argv = ["virsh", "-q", "-c", host.hypervisor.uri, "event", "--domain", name, "--event", "reboot"]
    try:
        ended = commands.run(
            [*argv, "--timeout", str(max(1, round(seconds)))], timeout=seconds + 10, mark=work.mark,
            cancelled=work.cancelled,
        )  # fmt: skip
    except MaglicaError as error:
        if error.code not in ("cancelled", "timeout"):
            raise
        return False  # the next look says why
    if ended.exit_status == 0:
        return True
    time.sleep(max(0.0, until - time.monotonic()))  # it may end early: libvirtd away, the VM gone
    return False


# ---- looking ----------------------------------------------------------------------------------------------------


def _observed(todo: Wait, before: Seen, host: Host) -> Seen:
    try:
        return observe(todo, host)
    except MaglicaError as error:  # a libvirtd that is being restarted is no reason to give a guest up
        if error.code != "host_down":
            raise
        return before._replace(state="unknown")


def observe(todo: Wait, host: Host) -> Seen:
    """Look at what the condition is about."""
    state = host.hypervisor.state(todo.name)
    seen = Seen(state, look.uptime(todo.name) if state not in ENDED else None)
    if todo.follower:
        return seen._replace(shown=todo.follower.look())
    if state not in RUNS:
        return seen
    if todo.condition == "agent":
        return seen._replace(agent=host.hypervisor.agent_ping(todo.name, AGENT_WITHIN))
    if todo.condition in ("ip", "ssh"):
        told = host.hypervisor.agent_addresses(todo.name, AGENT_WITHIN) if todo.agent else []
        known = host.hypervisor.addresses(todo.name)
        all_known = dict.fromkeys([*told, *known, *([todo.static] if todo.static else [])])
        usable = [address for address in all_known if not address.lower().startswith("fe80:")][:MOST]
        knocks = {address: neighbours.knock(address) for address in usable}
        owners = {address: neighbours.owner(address) for address in usable}
        return seen._replace(addresses=tuple(usable), told=tuple(told), knocks=knocks, owners=owners)
    return seen


# ---- judging ----------------------------------------------------------------------------------------------------


def met(todo: Wait, seen: Seen) -> bool:
    """Whether the guest is that far."""
    if todo.follower:
        return seen.shown
    if seen.state not in RUNS:
        return False
    if todo.condition == "running":
        return seen.steady >= STEADY
    if todo.condition == "agent":
        return seen.agent == ""
    return any(_at(todo, seen, address) for address in seen.addresses)


def _at(todo: Wait, seen: Seen, address: str) -> bool:
    """Whether the guest itself, and no other machine, is found at an address."""
    owner, knock = seen.owners.get(address), seen.knocks[address]
    if owner is not None and owner not in todo.macs:
        return False
    if todo.condition == "ssh":
        return knock.ssh
    # A neighbour that is gone stays in the table for some seconds after it was asked for.
    return address in seen.told or knock.answers or (owner is not None and seen.waited >= SURE)


def words(todo: Wait, seen: Seen) -> str:
    """What was seen, for people."""
    since = f" since {seen.seconds:.0f} s" if seen.seconds is not None else ""
    return f"it {'runs' if seen.state in RUNS else f'is {seen.state}'}{since}{_words(todo, seen)}"


def _words(todo: Wait, seen: Seen) -> str:
    """The same without what changes by itself, and at the start of no sentence."""
    if todo.condition == "running":
        return f", rebooted {seen.reboots} times while it was watched" if seen.reboots else ""
    if todo.follower:
        return f", its console has {'' if seen.shown else 'not '}shown {todo.condition.partition(':')[2]!r}"
    if seen.state not in RUNS:
        return ""
    if todo.condition == "agent":
        return f", its agent does not answer: {seen.agent}" if seen.agent else ", its agent answers"
    if not seen.addresses:
        return ", has no address that is known: no lease, none in the neighbour table"
    return ", has address " + ", ".join(f"{address}: {_about(todo, seen, address)}" for address in seen.addresses)


def _about(todo: Wait, seen: Seen, address: str) -> str:
    owner = seen.owners.get(address)
    if owner is not None and owner not in todo.macs:
        return f"another machine, {owner}, answers there"
    return seen.knocks[address].said
