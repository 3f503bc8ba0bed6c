"""Pages about one VM: whatever is told fits 80 columns, and what is not known is no number."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from maglica import declare
from maglica.cli import keeping, machine
from maglica.cli.output import Look
from maglica.errors import MaglicaError, Refused

GiB = 1 << 30
PAPER = Look(None, False, datetime(2026, 11, 20, tzinfo=UTC))
TERMINAL = Look(80, False, datetime(2026, 11, 20, tzinfo=UTC))

DISK = {
    "target": "vda", "device": "disk", "bus": "virtio", "path": "/var/lib/libvirt/images/web1.example.jp-vda.qcow2",
    "format": "qcow2", "capacity_bytes": 10 * GiB, "allocation_bytes": 5 * GiB,
    "rests_on": ["/var/lib/libvirt/images/el9.original-20261120-vda.qcow2"],
}  # fmt: skip
NIC = {"mac": "52:54:00:12:34:56", "type": "network", "source": "default", "model": "virtio", "device": "vnet12"}
GUEST = {
    "agent": True, "hostname": "web1.example.jp", "os": "Debian GNU/Linux 12 (bookworm)", "kernel": "6.1.0-40-amd64",
    "load": [0.5, 0.25, 0.0], "memory": {"seen_bytes": GiB, "available_bytes": GiB // 4},
    "filesystems": [{"mountpoint": "/", "type": "ext4", "total_bytes": 8 * GiB, "used_bytes": 2 * GiB},
                    {"mountpoint": "/mnt", "type": "nfs", "total_bytes": None, "used_bytes": None}],
}  # fmt: skip
ITEM: dict[str, Any] = {
    "name": "web1.example.jp", "uuid": "12345678-9abc-def0-1234-56789abcdef0", "state": "running",
    "max_memory_bytes": 2 * GiB, "memory_bytes": GiB, "vcpus": 2, "cpu_seconds": 61.5, "autostart": False,
    "persistent": True, "snapshots": 0, "managed_save": False, "uptime_seconds": 3720.0, "type": "kvm",
    "arch": "x86_64", "machine": "pc-q35-7.2", "image": "el9.original", "mode": "linked", "fleet": None,
    "template": None, "record_state": "online", "protected": False, "tags": [], "owner": None, "description": None,
    "trouble": [], "job": "1b7q2k0m4z", "ips": ["192.0.2.10"], "nvram": None,
    "console_log": "/var/log/libvirt/qemu/web1.example.jp.console.log", "disks": [DISK], "nics": [NIC],
    "guest": GUEST, "host": "host1.example.jp",
}  # fmt: skip


def page(look: Look = TERMINAL, **other: Any) -> str:
    return machine.info({**ITEM, **other}, look)


def test_a_bar() -> None:
    assert machine.bar(5, 10) == "[########........]  50%"
    assert machine.bar(0, 10) == "[................]   0%"
    assert machine.bar(20, 10) == "[################] 100%"
    assert machine.bar(1, 0) == "[................]   0%"


def test_info_fits_80_columns() -> None:
    text = page()
    assert max(map(len, text.splitlines())) <= 80, text
    lines = text.splitlines()
    assert lines[0].split() == ["Name:", "web1.example.jp"]
    assert "           [############....]  75%  768 MiB of 1 GiB used in the guest" in lines
    assert "  Memory   1 GiB of at most 2 GiB" in lines
    assert "  vCPUs    2, 1m 2s of processor time used, load 0.5 0.25 0" in lines
    assert "  vda     virtio  qcow2   [########........]  50%  5 GiB of 10 GiB" in lines
    assert "  /        [####............]  25%  2 GiB of 8 GiB used (ext4)" in lines
    assert not any("/mnt" in line for line in lines), "what has no size has no bar"


def test_on_paper_there_are_no_bars() -> None:
    text = page(PAPER)
    assert "#" not in text
    assert "768 MiB of 1 GiB used in the guest" in text
    assert "5 GiB of 10 GiB taken on the host" in text


def test_what_is_not_known_is_not_told() -> None:
    empty = {"seen_bytes": None, "available_bytes": None}
    text = page(guest={**GUEST, "agent": None, "memory": empty, "load": None})
    assert "used in the guest" not in text
    assert "no channel for QEMU's guest agent" in text
    assert "does not answer" in page(guest={**GUEST, "agent": False, "memory": empty, "load": None})
    off = page(state="shut-off", guest=None, uptime_seconds=None, cpu_seconds=None)
    assert "Guest:" not in off
    assert "Up:" not in off
    cdrom = {
        **DISK,
        "device": "cdrom",
        "path": None,
        "capacity_bytes": None,
        "allocation_bytes": None,
        "rests_on": None,
    }
    assert "(empty)" in page(disks=[cdrom])


def test_what_a_guest_says_drives_no_terminal() -> None:
    text = page(guest={**GUEST, "hostname": "a\x1b[2Jb", "os": "c\nd"})
    assert "\x1b" not in text
    assert "a\\x1b[2Jb" in text


def test_trouble_is_told_in_lines_that_fit() -> None:
    text = page(trouble=["it rests on /var/lib/libvirt/images/el9.original.qcow2, which was written since " * 2])
    assert "Trouble: it rests on" in text
    assert max(map(len, text.splitlines())) <= 80


STATS: dict[str, Any] = {
    "name": "web1", "host": "host1", "state": "running", "interval_seconds": None,
    "cpu": {"vcpus": 2, "used_seconds": 61.5, "percent": None},
    "memory": {"given_bytes": GiB, "free_bytes": None},
    "disks": [{"target": "vda", "read_bytes": 1 << 20, "read_requests": 10, "written_bytes": None,
               "write_requests": None, "errors": None}],
    "nics": [],
}  # fmt: skip


def test_stats() -> None:
    text = machine.stats(STATS, TERMINAL)
    assert "  vda      read 1 MiB (10),  written ?" in text.splitlines()
    assert "1m 2s used by 2 vCPUs" in text
    assert "free" not in text
    disk = {**STATS["disks"][0], "read_bytes_per_second": 2048.0, "read_requests_per_second": 1.5}
    rated = {**STATS, "interval_seconds": 2.0, "cpu": {**STATS["cpu"], "percent": 12.5}, "disks": [disk]}
    text = machine.stats(rated, TERMINAL)
    assert "12.5% of one just now" in text
    assert "  vda      read 2 KiB/s (1.5/s),  written ?" in text.splitlines()


def test_conf_in_each_format() -> None:
    tree = {"domain": {"name": "a", "@type": "kvm"}}
    assert machine.conf({"format": "xml", "conf": "<domain>\n  <name>\x1ba</name>\n</domain>"}, PAPER) == (
        "<domain>\n  <name>\\x1ba</name>\n</domain>\n"
    )
    assert json.loads(machine.conf({"format": "json", "conf": tree}, PAPER)) == tree
    assert machine.conf({"format": "dict", "conf": tree}, PAPER) == "{'domain': {'name': 'a', '@type': 'kvm'}}\n"


def test_diff() -> None:
    row = {"what": "vcpu", "now": "1", "next": None}
    told = {"name": "a", "state": "running", "differences": [row]}
    assert machine.diff(told, PAPER) == "vcpu\n  - 1\n  + (not there)\n"
    assert "\x1b[31m  - 1\x1b[0m" in machine.diff(told, Look(80, True, PAPER.now))
    assert machine.diff({**told, "differences": []}, PAPER).startswith("a: nothing waits for the next start")
    assert "it is off" in machine.diff({**told, "state": "shut-off", "differences": []}, PAPER)


def test_a_screenshot_becomes_a_file_and_never_replaces_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    item = {"name": "web1", "width": 1, "height": 1, "png_base64": base64.b64encode(b"picture").decode()}
    action = declare.build("vm screenshot", {"name": "web1"})
    told = keeping.vm_screenshot(action, item)
    assert told == {"name": "web1", "width": 1, "height": 1, "file": "web1.png", "size_bytes": 7}
    assert (tmp_path / "web1.png").read_bytes() == b"picture"
    with pytest.raises(Refused) as refused:
        keeping.vm_screenshot(action, item)
    assert refused.value.code == "already_exists"
    elsewhere = declare.build("vm screenshot", {"name": "web1", "file": "/nosuch/web1.png"})
    with pytest.raises(MaglicaError, match=r"cannot write /nosuch/web1\.png"):
        keeping.vm_screenshot(elsewhere, item)


def test_only_who_asks_for_passwords_has_to_be_an_administrator() -> None:
    assert declare.build("vm conf", {"name": "a"}).least_role() == "reader"
    assert declare.build("vm conf", {"name": "a", "secrets": True}).least_role() == "admin"
