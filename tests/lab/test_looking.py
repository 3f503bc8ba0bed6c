"""Looking into VMs that are real: their screens, figures, files and clocks."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from maglica.errors import Refused
from maglica.nouns import Cloud

from .conftest import Lab, until
from .test_power import DISKLESS, PATIENCE, POOL, UP

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]


@pytest.fixture
def screen(lab: Lab, cloud: Cloud) -> Iterator[str]:
    """A VM with a video card whose firmware finds nothing to boot."""
    lab.on(
        "host1", f"cat > /tmp/s1.xml <<'E'\n{DISKLESS.format(name='s1')}\nE\nvirsh define /tmp/s1.xml; virsh start s1"
    )
    yield "s1"
    lab.on("host1", "virsh destroy s1; virsh undefine s1")


def colours(png: bytes) -> int:
    """How many different pixels a picture has; lines of 8-bit RGB without filters, as they are written here."""
    width = int.from_bytes(png[16:20], "big")
    at = png.index(b"IDAT")
    data = zlib.decompress(png[at + 4 : at + 4 + int.from_bytes(png[at - 4 : at], "big")])
    lines = [data[place + 1 : place + 1 + width * 3] for place in range(0, len(data), width * 3 + 1)]
    return len({line[place : place + 3] for line in lines for place in range(0, len(line), 3)})


def test_a_screen_and_a_password(lab: Lab, cloud: Cloud, screen: str, tmp_path: Path) -> None:
    path = tmp_path / "s1.png"

    def drawn() -> bool:
        path.unlink(missing_ok=True)
        done = lab.cli("vm", "screenshot", screen, f"--file={path}")
        assert (done.returncode, done.stdout) == (0, f"{path}\n"), done.stderr
        return colours(path.read_bytes()) > 1

    until(drawn, 30, "the firmware has written to the screen")
    assert lab.cli("vm", "screenshot", screen, f"--file={path}").returncode == 5, "never over a file"
    assert "s3cret" not in cloud.vm.conf(name=screen)["conf"]
    assert 'passwd="***"' in cloud.vm.conf(name=screen, stored=True)["conf"]
    assert "s3cret" in cloud.vm.conf(name=screen, secrets=True)["conf"]
    key = tmp_path / "reader.key"
    assert lab.cli("key", "new", "looker", "--role=reader", f"--file={key}").returncode == 0
    assert lab.cli("--key", str(key), "vm", "conf", screen).returncode == 0
    denied = lab.cli("--key", str(key), "vm", "conf", screen, "--secrets")
    assert denied.returncode == 9, denied.stderr
    assert "s3cret" not in denied.stdout


def test_what_a_guest_uses_and_what_it_is_found_by(lab: Lab, cloud: Cloud, clean: object) -> None:
    cloud.vm.clone(
        image="tiny.original", hostname="l1", on="host1", mode="linked", customize="none",
        wait=f"console:{UP}", wait_timeout=PATIENCE,
    )  # fmt: skip
    item = cloud.vm.info(name="l1")
    found = cloud.vm.stats(name="l1", interval="0.5s")
    assert found["cpu"]["used_seconds"] > 1
    assert found["disks"][0]["read_bytes"] > 1 << 20
    assert found["nics"][0]["received_bytes"] > 0
    assert found["nics"][0]["received_bytes_per_second"] is not None
    base = item["disks"][0]["rests_on"][0]
    for what, by in (
        (item["nics"][0]["mac"], "mac"),
        (item["uuid"][:8], "uuid"),
        (item["ips"][0], "ip"),
        (f"{POOL}/l1.*", "disk"),
        (base, "rests on"),
    ):
        assert [(one["name"], one["by"]) for one in cloud.vm.find(what=what) if one["name"] == "l1"] == [("l1", by)]
    assert [one["name"] for one in cloud.vm.list(name="l?")] == ["l1"]
    assert [job["action"] for job in cloud.vm.history(name="l1")][-1] == "vm clone"
    with pytest.raises(Refused, match="l1 has no screen"):
        cloud.vm.screenshot(name="l1")

    core = cloud.vm.dump(name="l1", memory_only=True)
    told = lab.on("host1", f"stat -c '%a %s' {core['file']}; head -c 4 {core['file']} | tail -c 3; rm {core['file']}")
    assert told.split() == ["600", str(core["size_bytes"]), "ELF"]
    assert core["size_bytes"] > 100 << 20
    assert cloud.vm.info(name="l1")["state"] == "running"

    before = lab.on("host1", "cat /var/log/libvirt/qemu/l1.console.log")
    assert "NMI" not in before.partition(UP)[2]
    cloud.vm.nmi(name="l1")
    lab.console("host1", "l1", "NMI", 20)
    cloud.vm.remove(name="l1", force=True)


def test_a_guest_with_an_agent(lab: Lab, cloud: Cloud, clean: object, debian: str) -> None:
    """What it says of itself, its clock, and its sleep."""
    cloud.vm.clone(image=debian, hostname="d1", on="host1", mode="linked", customize="none", wait="agent",
                   wait_timeout=PATIENCE)  # fmt: skip

    def said() -> object:
        """What its agent says; each word has two seconds, in which a guest that still boots may not come to it."""
        told = cloud.vm.info(name="d1")["guest"]
        return told["filesystems"] and told["load"] and told

    guest = until(said, 120, "the agent has said all")
    assert guest["agent"] is True
    assert guest["hostname"]
    root = next(one for one in guest["filesystems"] if one["mountpoint"] == "/")
    assert 0 < root["used_bytes"] < root["total_bytes"]
    assert len(guest["load"]) == 3
    done = lab.cli("vm", "info", "d1", "--timeout=30s")
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80, done.stdout

    assert abs(cloud.vm.time(name="d1")["difference_seconds"]) < 5
    cloud.vm.set_time(name="d1", to="2030-01-01T00:00:00Z")
    assert cloud.vm.time(name="d1")["guest_at"].startswith("2030-01-01T00:00")
    assert abs(cloud.vm.set_time(name="d1")["was_ahead_seconds"]) > 3600
    assert abs(cloud.vm.time(name="d1")["difference_seconds"]) < 5

    assert cloud.vm.pmsuspend(name="d1")["state"] == "pm-suspended"
    assert cloud.vm.pmsuspend(name="d1")["changed"] is False
    with pytest.raises(Refused, match="d1 is pm-suspended: its guest hears nothing") as refused:
        cloud.vm.stop(name="d1")
    assert "pmwakeup" in refused.value.hint
    assert cloud.vm.pmwakeup(name="d1")["state"] == "running"
    until(lambda: cloud.vm.info(name="d1")["guest"]["agent"], 60, "the guest is awake")
    cloud.vm.remove(name="d1", force=True)
