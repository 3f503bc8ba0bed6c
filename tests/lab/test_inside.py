"""What is done inside a running guest: one Debian with QEMU's guest agent for all of it."""

from __future__ import annotations

import json
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import maglica
from maglica.errors import MaglicaError
from maglica.nouns import Cloud

from .conftest import Lab, until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

NAME = "in1.example.jp"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGpXkJ0qAAAAAAAAAAAAAAAAAAAA"
HASH = "$6$saltsalt$qFmFH.bQmmtXzyBY0s9v7Oicd2z4XSIecDzlB5KiA2/jctKu9YterLp8wwnSq.qc.eoxqOmSuNp2xS0ktL3nh/"


@pytest.fixture(scope="module")
def guest(lab: Lab, debian: str) -> Iterator[str]:
    """A Debian whose agent answers."""
    with maglica.connect(config_file=lab.config) as cloud:
        cloud.vm.clone(image=debian, hostname=NAME, on="host1", mode="linked", wait="agent", wait_timeout="5m")
        yield NAME
        cloud.vm.remove(name=NAME, force=True)


def fails(lab: Lab, *words: str) -> subprocess.CompletedProcess[str]:
    """A command that fails, and says one thing and nothing else."""
    done = lab.cli("-q", *words)
    assert done.returncode
    assert done.stdout == ""
    assert done.stderr.startswith("maglica: ")
    assert "Traceback" not in done.stderr
    return done


def test_a_command_is_as_if_it_ran_here(lab: Lab, cloud: Cloud, guest: str) -> None:
    done = lab.cli("vm", "exec", "in1", "--", "sh", "-c", 'echo out; echo "a  \'b" >&2; exit 3')
    assert (done.returncode, done.stdout) == (3, "out\n")
    assert "a  'b\n" in done.stderr
    assert lab.cli("vm", "exec", "in1", "--command=hostname -f; id -u").stdout.split() == [NAME, "0"]
    assert lab.cli("vm", "exec", "in1", "--", "nosuchprogram").returncode == 127
    assert lab.cli("vm", "exec", "in1", "--", "sh", "-c", "kill -9 $$").returncode == 137
    told = json.loads(lab.cli("vm", "exec", "in1", "-o", "json", "--", "printf", r"\377").stdout)["item"]
    assert (told["exit_status"], told["stdout"], told["stdout_base64"]) == (0, None, "/w==")
    fed = cloud.vm.exec(name=guest, command=["sha256sum"], input=b"\0\xff" * 70000)
    assert fed["stdout"].startswith("0d4b4d1a") or len(fed["stdout"].split()[0]) == 64
    with pytest.raises(MaglicaError) as failed:
        cloud.vm.exec(name=guest, command="echo no such luck >&2; exit 9")
    assert failed.value.details["exit_status"] == 9
    assert failed.value.hint == "no such luck"


def test_output_is_bounded_and_the_agent_lives_on(lab: Lab, cloud: Cloud, guest: str) -> None:
    """libvirt gives up an agent that answers with more than 10 MiB."""
    told = cloud.vm.exec(name=guest, command=["head", "-c", "20000000", "/dev/zero"])
    assert (told["exit_status"], told["cut"], len(told["stdout"])) == (0, True, 32768)
    assert cloud.vm.exec(name=guest, command="echo well")["stdout"] == "well\n"


def test_what_takes_too_long_is_ended_with_all_it_started(lab: Lab, cloud: Cloud, guest: str) -> None:
    began = time.monotonic()
    done = lab.cli("vm", "exec", "in1", "--timeout=20s", "--command=echo begun; sleep 777 & sleep 777")
    assert time.monotonic() - began < 60
    assert (done.returncode, done.stdout) == (1, "begun\n")
    assert "took longer than 20 s" in done.stderr
    job = cloud.vm.exec.submit(name=guest, command="sleep 777", timeout="5m")
    until(lambda: (job.look(0.1), job.record["step"] == "run")[1], 20, "that it runs")
    job.cancel()
    with pytest.raises(MaglicaError) as cancelled:
        job.wait(timeout=30)
    assert (cancelled.value.code, "it was ended" in cancelled.value.message) == ("cancelled", True)
    assert cloud.vm.exec(name=guest, command="pgrep -fc '[s]leep 777'; true")["stdout"] == "0\n"


def test_files_go_in_and_come_out_as_they_were(lab: Lab, cloud: Cloud, guest: str, tmp_path: Path) -> None:
    data = bytes(range(256)) * 640  # 160 KiB
    (here := tmp_path / "here").write_bytes(data)
    here.chmod(0o751)
    put = ("vm", "put", "in1", f"--file={here}", "--to=/srv/there's one")
    assert lab.cli(*put, "--owner=nobody").returncode == 0
    assert cloud.vm.exec(name=guest, command="stat -c '%a %U' /srv/there*; ls -A /srv")["stdout"] == (
        "751 nobody\nthere's one\n"
    )
    again = json.loads(lab.cli(*put, "-o", "json").stdout)["item"]
    assert (again["changed"], again["mode"], again["bytes"]) == (False, "0751", len(data))
    assert lab.cli(*put, "--mode=0600").returncode == 0
    assert cloud.vm.exec(name=guest, command="stat -c '%a %U' /srv/there*")["stdout"] == "600 nobody\n"
    back = tmp_path / "back"
    done = lab.cli("vm", "get", "in1", "--path=/srv/there's one", f"--to={back}")
    assert (done.returncode, done.stdout) == (0, f"{back}\n")
    assert back.read_bytes() == data
    assert stat.S_IMODE(back.stat().st_mode) == 0o600
    assert "***" in lab.cli("job", "show", again["job"]).stdout

    cloud.vm.exec(name=guest, command="head -c 3000001 /dev/urandom >/srv/large; ln -s /srv/large /srv/link")
    large = lab.cli("vm", "get", "in1", "--path=/srv/link", f"--to={tmp_path}")
    assert large.stdout == f"{tmp_path}/link\n"
    sums = subprocess.run(["sha256sum", tmp_path / "link"], capture_output=True, text=True, check=True).stdout
    assert cloud.vm.exec(name=guest, command=["sha256sum", "/srv/large"])["stdout"].split()[0] == sums.split()[0]
    assert lab.cli("vm", "get", "in1", "--path=/etc/hostname", "--to=-").stdout == f"{NAME}\n"
    assert lab.cli("vm", "read-file", "in1", "--path=/etc/hostname", "--length=3").stdout == "in1"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "here", "link"]

    assert "Is a directory" in fails(lab, "vm", "get", "in1", "--path=/srv", "--to=-").stderr
    assert fails(lab, "vm", "get", "in1", "--path=/nosuch", f"--to={tmp_path}/x").returncode == 4
    assert fails(lab, *put[:4], "--to=/srv").returncode == 5
    assert "no directory /no/such" in fails(lab, *put[:4], "--to=/no/such/file").stderr
    assert "invalid user" in fails(lab, *put, "--owner=nosuch").stderr
    assert cloud.vm.exec(name=guest, command="ls -A /srv | wc -l")["stdout"] == "3\n"


def test_a_host_worker_that_is_killed_leaves_the_old_file_or_the_new_one(lab: Lab, cloud: Cloud, guest: str) -> None:
    cloud.vm.put(name=guest, file=b"old", to="/srv/kept")
    ends = []
    for after in (0.05, 0.2, 0.4):
        job = cloud.vm.put.submit(name=guest, file=f"new {after}".encode() * 9000, to="/srv/kept")
        time.sleep(after)
        lab.daemon("kill", "host1")
        lab.daemon("start", "host1")
        until(lambda job=job: (job.look(0.1), job.ended)[1], 60, "its end")
        content = cloud.vm.exec(name=guest, command="head -c 3 /srv/kept; ls -A /srv | grep -c maglica; true")["stdout"]
        ends.append((job.state, content))
        assert content in ("old0\n", "new0\n")
        if job.state == "done":
            assert content == "new0\n"
    assert ends


def test_passwords_and_keys(lab: Lab, cloud: Cloud, guest: str, tmp_path: Path) -> None:
    (secret := tmp_path / "hash").write_text(HASH + "\n")
    assert lab.cli("vm", "passwd", "in1", "--user=root", f"--password-hash=@{secret}").returncode == 0
    assert cloud.vm.exec(name=guest, command="getent shadow root | cut -d: -f2")["stdout"] == f"{HASH}\n"
    job = cloud.job.list(last=20)
    assert [one["args"]["password_hash"] for one in job if one["action"] == "vm passwd"] == ["***"]
    for log in ("client", "host1"):
        assert "$6$" not in lab("log", log)
    wrong = fails(lab, "vm", "passwd", "in1", "--user=nosuch", f"--password-hash=@{secret}")
    assert "$6$" not in wrong.stderr

    (public := tmp_path / "key.pub").write_text(f"{KEY} me@here\n")
    words = ("vm", "ssh-key", "in1", "--user=root", f"--key={public}")
    assert json.loads(lab.cli(*words, "-o", "json").stdout)["item"]["changed"] is True
    assert KEY in cloud.vm.exec(name=guest, command="cat /root/.ssh/authorized_keys")["stdout"]
    public.write_text(f"{KEY} another comment\n")
    assert json.loads(lab.cli(*words, "-o", "json").stdout)["item"]["changed"] is False
    assert cloud.vm.ssh_key(name=guest, user="root", key=KEY, remove=True) | {"job": None} == {
        "name": NAME, "host": "host1", "user": "root", "keys": 0, "changed": True, "job": None,
    }  # fmt: skip
    assert KEY not in cloud.vm.exec(name=guest, command="cat /root/.ssh/authorized_keys")["stdout"]
    assert fails(lab, *words[:3], "--user=nosuch", words[4]).returncode == 4


def test_its_cards_and_its_free_blocks(lab: Lab, cloud: Cloud, guest: str) -> None:
    found = {one["interface"]: one for one in cloud.vm.interfaces(name=guest)["interfaces"]}
    assert found["lo"]["ips"][0] == "127.0.0.1/8"
    (card,) = (one for one in found.values() if one["interface"] != "lo")
    until(lambda: cloud.vm.info(name=guest)["ips"], 60, "an address")
    assert card["mac"] == cloud.vm.info(name=guest)["nics"][0]["mac"]
    table = lab.cli("vm", "interfaces", "in1").stdout.splitlines()
    assert table[0].startswith("Interface")
    assert all(len(line) <= 80 for line in table)
    trimmed = cloud.vm.fstrim(name=guest)
    assert [one["path"] for one in trimmed["filesystems"]] == ["/"]


def test_it_sleeps_and_wakes_up_and_is_dumped_while_it_runs(lab: Lab, cloud: Cloud, guest: str) -> None:
    before = cloud.vm.exec(name=guest, command="cat /proc/sys/kernel/random/boot_id")["stdout"]
    assert cloud.vm.pmsuspend(name=guest)["state"] == "pm-suspended"
    assert lab.on("host1", f"virsh domstate {guest}").strip() == "pmsuspended"
    assert cloud.vm.pmsuspend(name=guest)["changed"] is False
    assert cloud.vm.pmwakeup(name=guest)["state"] == "running"
    until(lambda: lab.cli("vm", "exec", "in1", "--", "true").returncode == 0, 60, "awake")
    assert cloud.vm.exec(name=guest, command="cat /proc/sys/kernel/random/boot_id")["stdout"] == before
    with pytest.raises(MaglicaError, match="is still awake 1 s after") as failed:
        cloud.vm.pmsuspend(name=guest, to="disk", timeout="1s")
    assert "needs swap" in failed.value.hint

    done = cloud.vm.dump(name=guest, live=True)
    assert (done["state"], lab.on("host1", f"virsh domstate {guest}").strip()) == ("running", "running")
    told = lab.on("host1", f"stat -c '%a %s' {done['file']}; head -c 4 {done['file']}; rm {done['file']}").split()
    assert told == ["600", str(done["size_bytes"]), "QEVM"]


def test_a_card_is_changed_under_a_running_guest(lab: Lab, cloud: Cloud, guest: str) -> None:
    """Its cable, then its network: the guest itself notices."""
    (card,) = cloud.nic.list(name=guest)
    piece = "<interface type='network'><mac address='{}'/><source network='{}'/><model type='virtio'/>{}</interface>"
    carrier = "cat /sys/class/net/e*/carrier"
    for more, seen in (("<link state='down'/>", "0"), ("<link state='up'/>", "1")):
        text = piece.format(card["mac"], "default", more)
        told = cloud.vm.update_device(name=guest, file=text)
        assert (told["live"], told["config"], told["changed"]) == (True, True, True)
        until(lambda seen=seen: cloud.vm.exec(name=guest, command=carrier)["stdout"].strip() == seen, 30, seen)
        assert cloud.vm.update_device(name=guest, file=text)["changed"] is False
    network = "<network><name>second</name><bridge name='virbr7'/></network>"
    lab.on("host1", f'echo "{network}" > /mnt/n.xml; virsh net-create /mnt/n.xml; rm /mnt/n.xml')
    try:
        assert cloud.vm.update_device(name=guest, file=piece.format(card["mac"], "second", ""))["changed"] is True
        device = next(nic["device"] for nic in cloud.nic.list(name=guest))
        assert device in lab.on("host1", "ip -o link show master virbr7")
        cloud.vm.update_device(name=guest, file=piece.format(card["mac"], "default", ""))
        assert device not in lab.on("host1", "ip -o link show master virbr7")
    finally:
        lab.on("host1", "virsh net-destroy second")


def test_what_cannot_be_reached_is_refused_in_words(lab: Lab, cloud: Cloud, guest: str) -> None:
    """By an agent that may not, one that is away, one that there never was, and a VM that is off."""
    cloud.vm.exec(
        name=guest,
        command="mkdir -p /etc/qemu; printf '[general]\\nblacklist=guest-file-open\\n' >/etc/qemu/qemu-ga.conf;"
        " systemd-run --on-active=1 systemctl restart qemu-guest-agent",
    )
    asked = ("vm", "get", "in1", "--path=/etc/hostname", "--to=-")
    until(lambda: "is not allowed to do guest-file-open" in lab.cli(*asked).stderr, 60, "another agent")
    may_not = fails(lab, *asked)
    assert "qemu-ga.conf" in may_not.stderr
    assert lab.cli("vm", "exec", "in1", "--", "true").returncode == 0

    cloud.vm.exec(name=guest, command="systemd-run --on-active=1 systemctl stop qemu-guest-agent")
    until(lambda: lab.cli("vm", "exec", "in1", "--", "true").returncode, 60, "no agent")
    away = fails(lab, "vm", "exec", "in1", "--", "true")
    assert "does not answer within 5 s" in away.stderr
    assert "install the package" in away.stderr

    cloud.vm.clone(image="tiny.original", hostname="t1", on="host1", mode="linked", customize="none", start=False)
    off = fails(lab, "vm", "exec", "t1", "--", "true")
    assert (off.returncode, "t1 is shut-off" in off.stderr) == (5, True)
    cloud.vm.start(name="t1")
    assert "no channel for QEMU's guest agent" in fails(lab, "vm", "exec", "t1", "--", "true").stderr
    cloud.vm.remove(name="t1", force=True)
