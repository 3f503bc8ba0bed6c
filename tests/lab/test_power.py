"""Power verbs with real guests: seen at their consoles and at their QEMU, never at what libvirt merely says."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

import maglica
from maglica.errors import MaglicaError, Refused
from maglica.nouns import Cloud

from .conftest import Lab, until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

UP = "maglica-guest: hostname="
PATIENCE = "4m"  # that a guest has to boot
POOL = "/var/lib/libvirt/images"


@pytest.fixture(scope="module")
def guest(lab: Lab) -> Iterator[str]:
    """A guest that has booted; every test leaves it running."""
    with maglica.connect(config_file=lab.config) as cloud:
        until(lambda: all(host["state"] == "up" for host in cloud.host.list()), 30, "hosts up")
        before = lab.files("host1")
        cloud.vm.clone(
            image="tiny.original", hostname="p1", on="host1", mode="linked", customize="none", wait=f"console:{UP}",
            wait_timeout=PATIENCE, on_timeout="remove",
        )  # fmt: skip
        try:
            yield "p1"
        finally:
            cloud.vm.remove(name="p1", force=True)
    assert lab.files("host1") == before


def qemu(lab: Lab, vm: str = "p1") -> str:
    """The process that the guest runs in."""
    return lab.on("host1", f"cat /run/libvirt/qemu/{vm}.pid", check=False).strip()


def console(lab: Lab, vm: str = "p1") -> str:
    return lab.on("host1", f"cat /var/log/libvirt/qemu/{vm}.console.log", check=False)


def boots(lab: Lab) -> int:
    """How often the guest has come up since QEMU started."""
    return console(lab).count(UP)


def goes_on(cloud: Cloud, name: str) -> None:
    """It answers at its address, and has not used the processor time that a boot takes."""
    cloud.vm.start(name=name, wait="ip", wait_timeout=PATIENCE)
    assert cloud.vm.info(name=name)["cpu_seconds"] < 3


def test_reboot_reset_and_ctrl_alt_delete(lab: Lab, cloud: Cloud, guest: str) -> None:
    """The guest boots anew, and its QEMU is the same."""
    before, pid = boots(lab), qemu(lab)
    result = cloud.vm.reboot(name=guest, wait=f"console:{UP}", wait_timeout=PATIENCE)
    assert (result["state"], result["through"]) == ("running", "acpi")
    assert (boots(lab), qemu(lab)) == (before + 1, pid)
    cloud.vm.send_key(name=guest, keys="ctrl-alt-delete")
    until(lambda: boots(lab) == before + 2, 240, "the guest has booted after Ctrl-Alt-Delete")
    knock = f"timeout 2 bash -c 'exec 3<>/dev/tcp/{cloud.vm.info(name=guest)['ips'][0]}/22' 2>&1"
    assert "refused" in lab.on("host1", knock, check=False), "it answers"
    assert cloud.vm.reset(name=guest)["changed"] is True
    assert "refused" not in lab.on("host1", knock, check=False), "it is at the beginning of its boot"
    assert qemu(lab) == pid


def test_a_guest_that_stands_still(lab: Lab, cloud: Cloud, guest: str) -> None:
    """It uses no processor; it is not asked to shut down; another one of its name keeps it from going on."""
    assert cloud.vm.suspend(name=guest)["state"] == "paused"
    before = cloud.vm.info(name=guest)["cpu_seconds"]
    time.sleep(1)
    assert cloud.vm.info(name=guest)["cpu_seconds"] - before < 0.1
    with pytest.raises(Refused, match="p1 is paused: its guest hears nothing") as refused:
        cloud.vm.stop(name=guest)
    assert "`maglica vm resume p1`" in refused.value.hint

    lab.on("host2", f"cat > /tmp/p1.xml <<'E'\n{DISKLESS.format(name='p1')}\nE\nvirsh create /tmp/p1.xml")
    with pytest.raises(Refused, match="must not run on two hosts"):
        cloud.vm.resume(name="p1@host1")
    lab.on("host2", "virsh destroy p1")
    assert cloud.vm.resume(name=guest)["state"] == "running"
    until(lambda: cloud.vm.info(name=guest)["cpu_seconds"] > before, 10, "it uses its processor again")
    cloud.vm.start(name=guest, wait="ip", wait_timeout=PATIENCE)


DISKLESS = """<domain type='qemu'><name>{name}</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type></os><devices><graphics type='vnc' passwd='s3cret'/>
<video><model type='vga'/></video></devices></domain>"""


def test_memory_that_is_kept(lab: Lab, cloud: Cloud, guest: str) -> None:
    """The guest goes on without a boot: by the next start, or by a restore of the file, if its disk is as it was."""
    assert cloud.vm.managedsave(name=guest)["state"] == "shut-off"
    result = cloud.vm.start(name=guest)
    assert (result["state"], result["restored"]) == ("running", True)
    goes_on(cloud, guest)
    assert boots(lab) == 0, "the console of this QEMU shows no boot"

    saved = cloud.vm.save(name=guest)
    assert saved["file"] == f"{POOL}/p1.saved"
    assert saved["saved_bytes"] > 16 << 20
    assert "p1.saved" in lab.files("host1")
    with pytest.raises(Refused, match=r"p1 was saved to .*/p1\.saved"):
        cloud.vm.start(name=guest)
    assert cloud.vm.restore(name=guest)["state"] == "running"
    assert "p1.saved" not in lab.files("host1")
    goes_on(cloud, guest)
    assert boots(lab) == 0
    assert cloud.vm.reboot(name=guest, wait=f"console:{UP}", wait_timeout=PATIENCE)["changed"], (
        "it hears the power button"
    )

    cloud.vm.save(name=guest)
    lab.on("host1", f"touch {POOL}/p1.qcow2")
    with pytest.raises(Refused, match=r"its disk .*p1.qcow2 was written after it was saved"):
        cloud.vm.restore(name=guest)
    assert cloud.vm.start(name=guest, discard=True, wait=f"console:{UP}", wait_timeout=PATIENCE)["changed"] is True
    assert "p1.saved" not in lab.files("host1")


def test_the_host_worker_is_killed_while_memory_is_saved(lab: Lab, cloud: Cloud, guest: str) -> None:
    """It runs and there is no file, or it is off with its file, and goes on from it."""
    job = cloud.vm.save.submit(name=guest)
    until(lambda: job.look(0.05) or job.record["state"] != "queued", 10, "the job has begun")
    lab.daemon("kill", "host1")
    time.sleep(3)
    lab.daemon("start", "host1")
    until(lambda: (job.look(0.2), job.ended)[1], 60, "the end of the job is told")
    state = cloud.vm.info(name=guest)["state"]
    assert (state, "p1.saved" in lab.files("host1")) in (("running", False), ("shut-off", True)), job.record
    if state == "shut-off":
        assert job.state == "done", job.record
        assert cloud.vm.restore(name=guest)["state"] == "running"
    assert cloud.vm.info(name=guest)["state"] == "running"


def test_what_waits_in_the_definition(lab: Lab, cloud: Cloud, guest: str) -> None:
    """A guest that was just started differs in nothing; a change waits for a restart, which says so."""
    assert cloud.vm.diff(name=guest)["differences"] == []
    lab.on("host1", "virsh setvcpus p1 2 --config --maximum && virsh setvcpus p1 2 --config")
    told = [{"what": "vcpu", "now": "1", "next": "2"}]
    assert cloud.vm.diff(name=guest)["differences"] == told
    assert cloud.vm.restart(name=guest, redefine=True)["redefined"] == told
    assert cloud.vm.diff(name=guest)["differences"] == []
    assert cloud.vm.autostart(name=guest)["changed"] is True
    assert "Autostart:      enable" in lab.on("host1", "virsh dominfo p1")
    assert cloud.vm.autostart(name=guest, off=True)["changed"] is True
    with pytest.raises(MaglicaError, match="no channel for QEMU's guest agent"):
        cloud.vm.pmsuspend(name=guest)


TWIN = """<domain type='qemu'><name>{name}</name><memory unit='MiB'>32</memory><os><type>hvm</type></os><devices>
{disk}<interface type='network'><mac address='{mac}'/><source network='default'/></interface></devices></domain>"""


def test_two_that_have_the_same_do_not_live_at_a_time(lab: Lab, cloud: Cloud, guest: str) -> None:
    """A MAC address on the same host and on the other one; and a disk by another name of the same file."""
    (mac,) = [nic["mac"] for nic in cloud.vm.info(name=guest)["nics"]]
    disk = f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{POOL}/other-name'/>"
    disk += "<target dev='vda' bus='virtio'/></disk>"
    twins = {"twin-here": ("host1", mac, ""), "twin-there": ("host2", mac, "")}
    twins["twin-disk"] = ("host1", "52:54:00:aa:bb:cc", disk)
    lab.on("host1", f"ln {POOL}/{guest}.qcow2 {POOL}/other-name")
    try:
        for name, (host, own, piece) in twins.items():
            text = TWIN.format(name=name, mac=own, disk=piece)
            lab.on(
                host, f"cat > /tmp/{name}.xml <<'END'\n{text}\nEND\nvirsh define /tmp/{name}.xml; rm /tmp/{name}.xml"
            )
            with pytest.raises(Refused) as refused:
                cloud.vm.start(name=name)
            what = "has its disk" if piece else f"has the MAC address {mac}"
            assert what in refused.value.message
            assert guest in refused.value.message
            assert refused.value.code == "wrong_state"
        cloud.vm.suspend(name=guest)
        lab.on("host2", "virsh start twin-there")
        with pytest.raises(Refused, match=f"twin-there is running on host2, and has the MAC address {mac}"):
            cloud.vm.resume(name=guest)
        lab.on("host2", "virsh destroy twin-there")
        assert cloud.vm.resume(name=guest)["state"] == "running"
    finally:
        lab.on("host1", f"rm {POOL}/other-name")
        for name, (host, *_) in twins.items():
            lab.on(host, f"virsh destroy {name}; virsh undefine {name}", check=False)
