"""When a guest is far enough, in words and as a judgement: lists of values. The lab has the real guests."""

from __future__ import annotations

import pytest

from maglica.config import HostWorkerSection
from maglica.errors import Refused
from maglica.host_worker.disk.storage import Storage
from maglica.host_worker.domain import domain_xml, readiness
from maglica.host_worker.domain.console import Follower
from maglica.host_worker.domain.neighbours import Knock
from maglica.host_worker.domain.readiness import Seen, Wait, met, words
from maglica.host_worker.host import Host
from maglica.host_worker.hypervisor import Hypervisor

OURS, OTHER = "52:54:00:00:00:01", "52:54:00:00:00:99"
A = "192.0.2.7"
REFUSES = Knock(True, False, "port 22 refuses")
SILENT = Knock(False, False, "port 22 does not answer")
SSH = Knock(True, True, "port 22 speaks ssh")


def waiting_for(condition: str) -> Wait:
    follower = Follower("/nonexistent", "login:", all_of_it=True) if condition.startswith("console") else None
    return Wait(condition, 60.0, "web1", (OURS,), None, False, None, follower, ())


def at(knock: Knock, owner: str | None = OURS, **more: object) -> Seen:
    return Seen("running", 42.0, (A,), knocks={A: knock}, owners={A: owner})._replace(**more)  # type: ignore[arg-type]


RUNNING = Seen("running", 42.0)


@pytest.mark.parametrize(
    ("condition", "seen", "expected", "said"),
    [
        ("running", RUNNING._replace(steady=4.9), False, "it runs since 42 s"),
        ("running", RUNNING._replace(steady=5.0), True, "it runs since 42 s"),
        ("running", RUNNING._replace(reboots=7), False, "it runs since 42 s, rebooted 7 times while it was watched"),
        ("running", Seen("paused", 3.0, steady=9.0), False, "it is paused since 3 s"),
        ("ip", RUNNING, False, "has no address that is known: no lease, none in the neighbour table"),
        ("ip", at(REFUSES), True, f"it runs since 42 s, has address {A}: port 22 refuses"),
        ("ip", at(REFUSES, None), True, "port 22 refuses"),
        ("ip", at(SSH), True, "port 22 speaks ssh"),
        ("ip", at(SILENT), False, "port 22 does not answer"),  # the neighbour may be gone since
        ("ip", at(SILENT, waited=11.0), True, "port 22 does not answer"),  # it was asked anew, and is there
        ("ip", at(SILENT, None, waited=11.0), False, "port 22 does not answer"),
        ("ip", at(SILENT, None, told=(A,)), True, "port 22 does not answer"),  # its agent says so
        ("ip", at(SSH, OTHER), False, f"has address {A}: another machine, {OTHER}, answers there"),
        ("ip", at(REFUSES)._replace(state="paused"), False, "it is paused since 42 s"),
        ("ssh", at(REFUSES), False, "port 22 refuses"),
        ("ssh", at(SSH), True, "port 22 speaks ssh"),
        ("ssh", at(SSH, None), True, "port 22 speaks ssh"),
        ("ssh", at(SSH, OTHER), False, "another machine"),
        ("ssh", at(SILENT, None, told=(A,)), False, "port 22 does not answer"),
        ("agent", RUNNING._replace(agent="guest is gone"), False, "its agent does not answer: guest"),
        ("agent", RUNNING._replace(agent=""), True, "its agent answers"),
        ("agent", RUNNING, False, "it runs"),
        ("console:login:", RUNNING, False, "its console has not shown 'login:'"),
        ("console:login:", RUNNING._replace(shown=True), True, "its console has shown 'login:'"),
        ("console:login:", Seen("shut-off", shown=True), True, "it is shut-off, its console has shown"),
    ],
)  # fmt: skip
def test_how_far_a_guest_is(condition: str, seen: Seen, expected: bool, said: str) -> None:
    todo = waiting_for(condition)
    assert met(todo, seen) is expected
    assert said in words(todo, seen)


def test_the_second_address_may_be_the_right_one() -> None:
    seen = Seen("running", 1.0, (A, "192.0.2.8"), knocks={A: SILENT, "192.0.2.8": SSH}, owners={A: None})
    assert met(waiting_for("ssh"), seen)
    assert words(waiting_for("ssh"), seen).endswith(f"{A}: port 22 does not answer, 192.0.2.8: port 22 speaks ssh")


PLAIN = "<domain type='qemu'><name>web1</name><devices>{}</devices></domain>"
CARD = "<interface type='network'><mac address='52:54:00:00:00:01'/></interface>"
LOGGED = "<serial type='pty'><log file='/var/log/x.log' append='off'/></serial>"
AGENT = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"


@pytest.mark.parametrize(
    ("condition", "devices", "message"),
    [
        ("agent", CARD, "has no channel for QEMU's guest agent"),
        ("ip", LOGGED, "has no network card"),
        ("ssh", "", "has no network card"),
        ("console:x", CARD, "is not kept in a file"),
        ("agent", AGENT, None),
        ("ip", CARD, None),
        ("console:x", LOGGED, None),
        ("running", "", None),
        (None, "", None),
    ],
)
def test_what_a_definition_can_never_fulfil_is_refused_before_anything(
    condition: str | None, devices: str, message: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    host = Host("host1", Hypervisor("qemu:///system"), HostWorkerSection(), "tcg", "", Storage())
    domain = domain_xml.read(PLAIN.format(devices))
    if message is None:
        readiness.refuse(condition, domain, host)
        return
    with pytest.raises(Refused, match=message) as refused:
        readiness.refuse(condition, domain, host)
    assert refused.value.hint


def test_without_virsh_nobody_hears_of_reboots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    host = Host("host1", Hypervisor("qemu:///system"), HostWorkerSection(), "tcg", "", Storage())
    with pytest.raises(Refused, match="has no virsh") as refused:
        readiness.refuse("running", domain_xml.read(PLAIN.format("")), host)
    assert "libvirt-clients" in refused.value.hint
