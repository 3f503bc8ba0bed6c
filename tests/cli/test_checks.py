"""What a check-up makes of what it was told: lists of values."""

from __future__ import annotations

from typing import Any

import pytest

from maglica import VERSION
from maglica.cli import checks
from maglica.cli.checks import BAD, OK, WARN, Facts, Finding

GIB = 1 << 30


def host(name: str = "host1", **more: Any) -> dict[str, Any]:
    told = {"name": name, "state": "up", "why": "reports regularly", "version": VERSION, "clock_skew_seconds": 0.1}
    return {**told, **more}


def named(asked: str, *addresses: str, names: tuple[str, ...] = (), why: str | None = None) -> dict[str, Any]:
    return {"asked": asked, "addresses": list(addresses), "names": list(names), "why": why}


def folder(path: str = "/etc/maglica/keys", mode: str | None = "0700", ours: bool = True, **files: str) -> Any:
    inside = [{"path": f"{path}/{name}.key", "mode": each, "ours": True} for name, each in files.items()]
    return {"path": path, "mode": mode, "ours": ours, "why": None, "files": inside}


def room(free: int | None, why: str | None = None) -> dict[str, Any]:
    return {"path": "/var/lib/maglica", "free_bytes": free, "total_bytes": 100 * GIB, "why": why}


def checked(name: str = "host1", **more: Any) -> dict[str, Any]:
    told = {
        "host": name, "name": name, "version": VERSION, "uri": "qemu:///system", "libvirt": "ok",
        "self": named(name, "192.0.2.1", names=(name,)), "client": named("client", "192.0.2.9", names=("client",)),
        "room": room(50 * GIB), "folders": [folder()], "libvirt_cure": None, "pools": ["default"], "lacking": [],
        "acceleration": "kvm",
        "acceleration_why": "a kernel booted",
    }  # fmt: skip
    return {**told, **more}


def kept(**more: Any) -> dict[str, Any]:
    told = {
        "path": "/var/lib/maglica/jobs.db", "epoch": 3, "cluster": "red", "verdict": "ok", "room": room(50 * GIB),
        "folders": [folder()], "clock": 0.0, "listed": [], "refusals": [],
    }  # fmt: skip
    return {**told, **more}


def facts(**more: Any) -> Facts:
    well = Facts(
        "client", 5555, 5556, "/etc/maglica/maglica.conf", {5555: None, 5556: None}, None, None, VERSION, kept(),
        [host()], [checked()], [], 0.0, named("client", "192.0.2.9", names=("client",)),
    )  # fmt: skip
    return well._replace(**more)


def wrong(told: Facts) -> list[Finding]:
    return [finding for finding in checks.all_of(told) if finding.state != OK]


def test_all_is_well() -> None:
    found = checks.all_of(facts())
    assert {finding.state for finding in found} == {OK}
    assert {finding.check for finding in found} == {
        "settings", "ports", "client worker", "versions", "hosts", "clocks", "names", "libvirt", "pools", "programs",
        "acceleration", "store", "room", "secrets",
    }  # fmt: skip
    assert all(finding.cure is None for finding in found)


CASES: list[tuple[Facts, str, str, str, str]] = [
    (facts(ports={5555: "Connection refused", 5556: None}), BAD, "ports", "client:5555", "Connection refused"),
    (
        facts(error={"message": "no key", "hint": "ask for one"}, store=None, hosts=[], checked=[]),
        BAD, "client worker", "client", "no key",
    ),
    (
        facts(denied={"message": "carl may not", "hint": "ask an administrator"}, store=None, checked=[]),
        WARN, "client worker", "client", "was not examined: carl may not",
    ),
    (facts(hosts=[host(version="0.0.9")]), WARN, "versions", "host1", "runs maglica 0.0.9"),
    (facts(version="9.9", hosts=[host(version="9.9")]), WARN, "versions", "this machine", "the client worker 9.9"),
    (facts(hosts=[host(state="degraded", why="libvirt: gone")]), WARN, "hosts", "host1", "libvirt: gone"),
    (facts(hosts=[host(state="down", why="last heard 9 s ago")]), BAD, "hosts", "host1", "last heard 9 s ago"),
    (facts(hosts=[host(state="unknown", why="?")]), WARN, "hosts", "host1", "unknown"),
    (facts(hosts=[]), WARN, "hosts", "all", "there are none"),
    (
        facts(store=kept(refusals=[{"host": "host1", "why": "another host worker called host1 is alive",
                                    "hint": "stop one", "age_seconds": 3.2}])),
        WARN, "strangers", "host1", "refused 3 s ago: another host worker called host1",
    ),
    (facts(store=kept(listed=["host2"])), WARN, "strangers", "host1", "is not in the settings"),
    (facts(missing=[{"host": "host1", "why": "no answer in time"}]), BAD, "answers", "host1", "no answer in time"),
    (facts(clock=-7.0), WARN, "clocks", "this machine", "7 s behind the client worker"),
    (facts(hosts=[host(clock_skew_seconds=86400.0)]), WARN, "clocks", "host1", "86400 s ahead of"),
    (facts(name=named("client", why="Name or service not known")), BAD, "names", "this machine", "has no address"),
    (facts(name=named("client", "192.0.2.9", why="192.0.2.9: unknown")), WARN, "names", "this machine", "has no name"),
    (facts(checked=[checked(self=named("host1", why="unknown"))]), WARN, "names", "host1", "host1 has no address"),
    (facts(checked=[checked(client=named("client", why="unknown"))]), BAD, "names", "host1", "client has no address"),
    (
        facts(checked=[checked(self=named("host1", "127.0.1.1", names=("other.example.jp",)))]),
        WARN, "names", "host1", "host1 is 127.0.1.1, which is called other.example.jp",
    ),
    (facts(checked=[checked(libvirt="libvirt: unreachable")]), BAD, "libvirt", "host1", "libvirt: unreachable"),
    (facts(checked=[checked(pools=[])]), WARN, "pools", "host1", "has no active storage pool"),
    (facts(checked=[checked(lacking=[{"what": "zstd", "cure": "install zstd"}])]), WARN, "programs", "host1", "zstd"),
    (
        facts(checked=[checked(acceleration="tcg", acceleration_why="KVM does not work here: a guest hangs")]),
        WARN, "acceleration", "host1", "KVM does not work here: a guest hangs",
    ),
    (facts(store=kept(verdict="page 3 is never used")), BAD, "store", "/var/lib/maglica/jobs.db", "page 3"),
    (facts(store=kept(verdict=None)), WARN, "store", "/var/lib/maglica/jobs.db", "too large"),
    (facts(store=kept(room=room(1 << 20))), BAD, "room", "client", "1 MiB free"),
    (facts(checked=[checked(room=room(GIB - 1))]), WARN, "room", "host1", "1023 MiB free"),
    (facts(checked=[checked(room=room(None, "No such file"))]), WARN, "room", "host1", "No such file"),
    (facts(store=kept(folders=[folder(mode="0755")])), BAD, "secrets", "client", "/etc/maglica/keys has mode 0755"),
    (facts(folders=[folder(server="0640")]), BAD, "secrets", "this machine", "/etc/maglica/keys/server.key has mode"),
    (facts(checked=[checked(folders=[folder(ours=False)])]), BAD, "secrets", "host1", "belongs to somebody else"),
]  # fmt: skip


@pytest.mark.parametrize(("told", "state", "check", "about", "text"), CASES, ids=[case[2] for case in CASES])
def test_what_is_wrong_is_found_and_has_a_cure(told: Facts, state: str, check: str, about: str, text: str) -> None:
    (found,) = wrong(told)
    assert (found.state, found.check, found.about) == (state, check, about)
    assert text in found.found
    assert found.cure


ACCEPT = "on host1, `maglica_host_worker --accept` makes it forget what it knew"


@pytest.mark.parametrize(
    ("told", "cure"),
    [
        (
            facts(
                hosts=[host(state="down", why="was refused: the store of the client worker went back in time")],
                store=kept(refusals=[{"host": "host1", "why": "the store of the client worker went back in time",
                                      "hint": ACCEPT, "age_seconds": 3.2}]),
            ),
            ACCEPT,
        ),
        (
            facts(hosts=[host(state="down", why="its key was revoked at 1; `maglica host invite host1` lets it in")]),
            "`maglica host invite host1`; there: the command that it prints",
        ),
        (
            facts(hosts=[host(state="down", why="is invited and has not joined yet")]),
            "there: the command that `maglica host invite host1` printed; asked again it prints another one",
        ),
        (
            facts(hosts=[host(state="down", why="last heard 90 s ago")]),
            "there: `systemctl restart maglica-host-worker`; for ever gone: `maglica host remove host1`",
        ),
        (
            facts(checked=[checked(libvirt="the libvirt module for Python is missing",
                                   libvirt_cure="install python3-libvirt")]),
            "there: install python3-libvirt",
        ),
        (facts(version="0.10.0", hosts=[host(version="0.9.0")]), "install maglica 0.10.0 on both"),
        (facts(store=kept(listed=["host2"])), "stop its host worker, then `maglica host remove host1`"),
    ],
)  # fmt: skip
def test_what_cures_it(told: Facts, cure: str) -> None:
    assert any(cure in str(finding.cure) for finding in wrong(told))


def test_the_worst_comes_first() -> None:
    told = facts(hosts=[host(version="0.0.9", state="down", why="gone")], ports={5555: "no", 5556: None})
    states = [finding.state for finding in checks.all_of(told)]
    assert states == sorted(states, key=(BAD, WARN, OK).index)
    assert states[:3] == [BAD, BAD, WARN]


def test_a_host_that_is_down_is_told_once() -> None:
    told = facts(hosts=[host(state="down", why="x")], checked=[], missing=[{"host": "host1", "why": "x"}])
    assert [finding.check for finding in wrong(told)] == ["hosts"]


def test_an_address_needs_no_name_and_a_short_name_is_one() -> None:
    assert wrong(facts(name=named("192.0.2.9", "192.0.2.9"))) == []
    assert wrong(facts(name=named("client", "192.0.2.9", names=("client.example.jp",)))) == []


def test_where_nobody_answers_only_what_is_known_is_told() -> None:
    told = Facts("client", 5555, 5556, None, {5555: "refused", 5556: "refused"})
    assert [(finding.state, finding.check) for finding in checks.all_of(told)] == [
        (BAD, "ports"), (BAD, "ports"), (OK, "settings"),
    ]  # fmt: skip


def test_a_folder_that_is_not_there_or_not_ours_to_see_is_no_finding() -> None:
    assert wrong(facts(folders=[folder(mode=None)])) == []
