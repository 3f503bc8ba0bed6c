"""`vm check` on two hosts: what is shared is found, and what nobody can tell is said."""

from __future__ import annotations

import json
import subprocess

import pytest

from maglica.nouns import Cloud

from .conftest import Lab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

MAC = "52:54:00:00:c1:0e"


def found(done: subprocess.CompletedProcess[str]) -> list[tuple[str, str, str]]:
    """State, check and VMs of what is not well."""
    items = json.loads(done.stdout)["items"]
    return [(item["state"], item["check"], item["about"]) for item in items if item["state"] != "ok"]


def test_what_vms_share_is_found_on_all_hosts(lab: Lab, cloud: Cloud, clean: object) -> None:
    same = {"image": "tiny.original", "mode": "linked", "customize": "none", "start": False}
    for name, host in (("c1", "host1"), ("c2", "host2"), ("c3", "host1")):
        cloud.vm.clone(hostname=name, on=host, **same)
    done = lab.cli("vm", "check", "--all", "-o", "json")
    assert done.returncode == 0, done.stderr
    twins = "c1@host1, c2@host2, c3@host1"
    assert found(done) == [("warn", "machine-id", twins), ("warn", "machine-id", twins)]

    # The disks know better: two of them are asked, and have their image's.
    deep = lab.cli("vm", "check", "c1", "c2", "--deep", "-o", "json", timeout=180)
    assert deep.returncode == 5, deep.stderr
    assert found(deep)[0] == ("bad", "machine-id", "c1@host1, c2@host2")

    for name, host in (("c1", "host1"), ("c2", "host2")):
        lab.on(
            host,
            f"virsh dumpxml {name} | sed \"s/<mac .*/<mac address='{MAC}'\\/>/\" >/run/c.xml; virsh define /run/c.xml",
        )
    bad = lab.cli("vm", "check", "c2")
    assert bad.returncode == 5
    assert f"have MAC address {MAC}" in bad.stdout
    assert "virsh edit c2" in bad.stdout
    other = lab.cli("vm", "check", "c3", "-o", "json")
    assert (other.returncode, [check for _, check, _ in found(other)]) == (0, ["machine-id", "machine-id"])

    missing = lab.cli("vm", "check", "c9")
    assert (missing.returncode, "there is no VM c9" in missing.stderr) == (4, True)
    for name in ("c1", "c2", "c3"):
        cloud.vm.remove(name=name)
