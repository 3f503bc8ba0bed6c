"""What is taken away from a machine that becomes an image, and what its package manager is asked."""

from __future__ import annotations

import subprocess

import pytest

from maglica.actions.image import default_name
from maglica.errors import Refused
from maglica.host_worker.guest import customize, sealing, upgrading
from maglica.host_worker.guest.customize import unmet
from maglica.host_worker.guest.model import GuestFacts, Plan, System, path_matches
from tests.host_worker.guest_trees import LINK, OLD_MACHINE_ID
from tests.host_worker.test_customize import SYSTEMS
from tests.host_worker.test_setup import KNOWN, after, seen_in, tree_of

LIFE = {
    "/var/log/syslog": "yesterday\n",
    "/var/log/syslog.1": "before\n",
    "/var/log/dpkg.log": "installed\n",
    "/var/log/messages-20261101": "before\n",
    "/var/log/latest.log": f"{LINK}dpkg.log",
    "/root/.bash_history": "mysql -psecret\n",
    "/home/user/.bash_history": "ls\n",
    "/home/user/notes": "mine\n",
    "/root/.ssh/authorized_keys": "ssh-ed25519 AAAA me\n",
    "/tmp/x": "x",
    "/var/tmp/.hidden": "x",
    "/var/cache/apt/archives/a.deb": "x",
    "/var/cache/dnf/appstream/y": "x",
    "/var/lib/cloud/instances/i-9/sem/x": "x",
    "/etc/cloud/cloud.cfg.d/99-maglica.cfg": "preserve_hostname: true\n",
    "/var/lib/dhcp/dhclient.leases": "lease {}",
}


def facts_of(name: str, tree: dict[str, str]) -> GuestFacts:
    read, see = customize.patterns(None, SYSTEMS[name])
    above = {path.rsplit("/", at)[0] for path in tree for at in range(1, path.count("/"))}
    wanted = [path for path in {*tree, *above} if any(path_matches(path, one) for one in (*read, *see, *sealing.SEE))]
    links = {path: tree[path].removeprefix(LINK) for path in wanted if tree.get(path, "").startswith(LINK)}
    files = {path: tree[path] for path in wanted if path in tree and path not in links}
    return GuestFacts(SYSTEMS[name], files, links, frozenset(wanted))


@pytest.mark.parametrize("name", KNOWN)
def test_nothing_of_a_life_stays_in_an_image(name: str) -> None:
    tree = tree_of(name, LIFE)
    result = sealing.plan(facts_of(name, tree))
    now = after(tree, result)
    assert unmet(result.expectations, seen_in(now, result)) == []
    for path in now:
        assert not any(path_matches(path, pattern) for pattern in sealing.GONE), path
        assert OLD_MACHINE_ID not in path
    assert not any(OLD_MACHINE_ID in text for path, text in now.items() if path.endswith("machine-id"))
    assert not [path for path in now if path.startswith(("/tmp/", "/var/tmp/", "/var/cache/dnf/", "/etc/ssh/ssh_host"))]
    assert (now["/var/log/syslog"], now["/var/log/dpkg.log"], now["/var/log/latest.log"]) == ("", "", f"{LINK}dpkg.log")
    # What belongs to a person stays.
    for path in ("/home/user/notes", "/root/.ssh/authorized_keys", "/etc/passwd", "/etc/shadow"):
        assert now[path] == tree[path]


@pytest.mark.parametrize("path", ["/root/.bash_history", "/tmp/x", "/var/lib/dhcp/dhclient.leases", "/etc/machine-id"])
def test_what_was_left_is_found_by_the_second_look(path: str) -> None:
    tree = tree_of("debian-ifupdown", LIFE)
    result = sealing.plan(facts_of("debian-ifupdown", tree))
    now = {**after(tree, result), path: tree[path]}
    assert any(path in problem for problem in unmet(result.expectations, seen_in(now, result)))


def test_a_system_that_is_not_known_is_not_sealed() -> None:
    with pytest.raises(Refused, match="Alpine"):
        sealing.plan(GuestFacts(SYSTEMS["unknown"]))
    with pytest.raises(Refused, match="package manager of Alpine"):
        upgrading.refuse(SYSTEMS["unknown"])


def test_an_image_that_labels_its_files_gets_no_new_ones() -> None:
    result: Plan = sealing.plan(facts_of("rhel9-keyfile", tree_of("rhel9-keyfile", LIFE)))
    assert not [edit for edit in result.edits if edit.describe().startswith(("label", "write /.autorelabel"))]


def test_what_an_upgrade_changed() -> None:
    before = "bash:amd64 5.2-1\nold:all 1\nsame:all 2\n"
    after = "bash:amd64 5.2-2\nnew:all 7\nsame:all 2\n"
    assert upgrading.changed(before, after) == ["bash:amd64 5.2-1 -> 5.2-2", "new:all 7", "old:all 1 ->"]


@pytest.mark.parametrize("system", [System("debian", "Debian 12", 12), System("rocky", "Rocky 9", 9)])
def test_the_scripts_are_scripts(system: System) -> None:
    done = subprocess.run(
        ["/bin/sh", "-n"], input=upgrading.script(system), text=True, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_names_by_default() -> None:
    assert default_name("web1", "2026-12-01", upgrade=False) == "web1.original"
    assert default_name("el9:2026-11-20", "2026-12-01", upgrade=True) == "el9:2026-12-01"
