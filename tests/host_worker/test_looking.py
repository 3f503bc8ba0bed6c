"""Looking into VMs: what is found, told, drawn and masked. Values, and libvirt's test driver."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from maglica import keyboard, kinds
from maglica.errors import Failed, Refused
from maglica.host_worker.domain import differing, domain_xml, figures, finding, picture, tree
from tests.host_worker.test_jobs_vm import Ward
from tests.host_worker.worlds import IMAGE, MiB, world


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[Ward]:
    found = Ward(tmp_path, world(tmp_path, "web1", off=("web2", IMAGE)))
    yield found
    found.close()


# ------------------------------------------------------------------------------------------------- list and find


def test_a_list_of_some(ward: Ward) -> None:
    ward.do("vm tag", name="web2", tags="ci,web")
    ward.do("vm owner", name="web1", owner="alice")

    def listed(**args: Any) -> list[str]:
        return sorted(item["name"] for item in ward.read("vm list", **args)["items"])

    assert listed(name="*2") == ["web2"]
    assert listed(name="web?") == ["web1", "web2"]
    assert listed(name="WEB1") == []
    assert listed(tag="ci") == ["web2"]
    assert listed(tag="c") == []
    assert listed(owner="alice") == ["web1"]
    assert listed(owner="alice", tag="ci") == []


def test_a_vm_is_found_by_what_it_has(ward: Ward) -> None:
    web1 = ward.domain("web1")
    mac = str(web1.nics[0]["mac"])

    def found(what: str) -> list[tuple[str, str, str]]:
        return [(item["name"], item["by"], item["found"]) for item in ward.read("vm find", what=what)["items"]]

    assert found(mac.upper()) == found(mac.replace(":", "-")) == [("web1", "mac", mac)]
    assert found(web1.uuid) == found(web1.uuid[:8]) == found(web1.uuid[:13]) == [("web1", "uuid", web1.uuid)]
    assert found("/default-pool/web1.img") == [("web1", "disk", "/default-pool/web1.img")]
    assert sorted(name for name, _, _ in found("/default-pool/web*")) == ["web1", "web2"]
    assert found("52:54:00:ff:ff:ff") == found("/nosuch") == found("192.0.2.250") == []
    ip = ward.read("vm info", name="web1")["item"]["ips"][0]
    assert found(ip) == [("web1", "ip", ip)]
    with pytest.raises(Refused, match="'web1' is none of them; `maglica vm list --name"):
        found("web1")


@pytest.mark.parametrize(
    ("what", "kind"),
    [
        ("52:54:00:12:34:56", "mac"),
        ("52-54-00-12-34-56", "mac"),
        ("12345678", "uuid"),
        ("12345678-9abc-def0-1234-56789abcdef0", "uuid"),
        ("192.0.2.1", "ip"),
        ("2001:db8::1", "ip"),
        ("/var/lib/x.img", "path"),
        ("pool/x.img", "path"),
    ],
)
def test_what_somebody_looks_for(what: str, kind: str) -> None:
    assert kinds.sought(what) == kind


def test_what_a_disk_rests_on_is_found_too() -> None:
    domain = domain_xml.read("<domain><name>a</name></domain>")
    chain = [["/pool/a.qcow2", "/pool/base.qcow2"]]
    assert finding.matches("/pool/base.qcow2", domain, list, lambda: chain) == ("rests on", "/pool/base.qcow2")


# ------------------------------------------------------------------------------------------------------- figures


def test_stats(ward: Ward) -> None:
    item = ward.read("vm stats", name="web1")["item"]
    assert (item["name"], item["state"], item["interval_seconds"]) == ("web1", "running", None)
    assert item["cpu"]["percent"] is None
    assert item["memory"]["given_bytes"] == 512 * MiB
    assert [disk["target"] for disk in item["disks"]] == ["vda"]
    rated = ward.read("vm stats", name="web1", interval=0.1)["item"]
    assert 0.1 <= rated["interval_seconds"] < 5
    assert rated["cpu"]["percent"] >= 0
    assert "read_bytes_per_second" in rated["disks"][0]


DOMAIN = domain_xml.read(
    "<domain><name>a</name><devices><disk type='file' device='disk'><source file='/a'/><target dev='vda'/></disk>"
    "<interface type='network'><mac address='52:54:00:00:00:01'/><target dev='vnet0'/></interface></devices></domain>"
)


def seen(cpu_ns: int, disk: tuple[int, ...] | None, card: tuple[int, ...] | None) -> dict[str, Any]:
    return {
        "vcpus": 2,
        "cpu_ns": cpu_ns,
        "memory_kib": 1,
        "memory": {"actual": 1024},
        "disks": {"vda": disk},
        "cards": {"vnet0": card},
    }


def test_rates_are_differences() -> None:
    before = seen(10**9, (1, 1000, 2, 2000, -1), (0, 0, 0, 0, 0, 0, 0, 0))
    now = seen(2 * 10**9, (11, 5000, 2, 2000, -1), (100, 1, 0, 0, 300, 3, 0, 0))
    told = figures.told(DOMAIN, now, before, 2.0)
    assert told["cpu"] == {"vcpus": 2, "used_seconds": 2.0, "percent": 50.0}
    assert told["memory"]["given_bytes"] == 1 << 20
    assert told["memory"]["free_bytes"] is None
    (disk,), (nic,) = told["disks"], told["nics"]
    assert (disk["read_bytes"], disk["read_bytes_per_second"], disk["read_requests_per_second"]) == (5000, 2000.0, 5.0)
    assert (disk["errors"], "errors_per_second" in disk) == (None, False)
    assert (nic["device"], nic["received_bytes_per_second"], nic["sent_packets_per_second"]) == ("vnet0", 50.0, 1.5)


def test_what_nobody_counts_has_no_rate() -> None:
    """Nor has what was counted from the beginning again: the guest was restarted between the looks."""
    now = seen(2, (1, 10, 1, 10, -1), None)
    told = figures.told(DOMAIN, now, seen(1, (5, 50, 5, 50, -1), None), 1.0)
    assert told["disks"][0]["read_bytes_per_second"] is None
    assert told["nics"][0]["received_bytes"] is None
    assert told["nics"][0]["received_bytes_per_second"] is None


# ------------------------------------------------------------------------------------------------------- pictures


def decoded(png: bytes) -> tuple[int, int, bytes]:
    """(width, height, pixels) of a PNG as this module writes it; checks every chunk."""
    assert png.startswith(picture.SIGNATURE)
    at, data, header = 8, b"", b""
    while at < len(png):
        (length,), kind = struct.unpack(">I", png[at : at + 4]), png[at + 4 : at + 8]
        body = png[at + 8 : at + 8 + length]
        assert struct.unpack(">I", png[at + 8 + length : at + 12 + length])[0] == zlib.crc32(kind + body)
        header, data = (body, data) if kind == b"IHDR" else (header, data + body)
        at += 12 + length
    width, height = struct.unpack(">II", header[:8])
    lines = zlib.decompress(data)
    line = width * 3 + 1
    assert len(lines) == line * height
    return width, height, b"".join(lines[place * line + 1 : (place + 1) * line] for place in range(height))


def test_a_ppm_becomes_a_png_with_the_same_pixels() -> None:
    pixels = bytes(range(2 * 3 * 3))
    for head in (b"P6\n2 3\n255\n", b"P6 2 3 255 ", b"P6\n# by QEMU\n2 3\n255\n"):
        found = picture.png(head + pixels)
        assert (found.width, found.height) == (2, 3)
        assert decoded(found.png) == (2, 3, pixels)
        assert picture.png(found.png) == found


def test_pixels_that_look_like_white_space_are_pixels() -> None:
    pixels = b"\n \t" * 2
    assert decoded(picture.png(b"P6\n2 1\n255\n" + pixels).png) == (2, 1, pixels)


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"P6\n2 3\n255\nshort", b"P5\n2 3\n255\n" + bytes(18)])
def test_what_is_no_picture(data: bytes) -> None:
    with pytest.raises(Failed):
        picture.png(data)


def test_screenshot(ward: Ward) -> None:
    item = ward.read("vm screenshot", name="web1")["item"]
    png = base64.b64decode(item["png_base64"])
    assert png.startswith(picture.SIGNATURE)
    assert struct.unpack(">II", png[16:24]) == (item["width"], item["height"])
    with pytest.raises(Refused, match="web2 is shut-off"):
        ward.read("vm screenshot", name="web2")


# ------------------------------------------------------------------------------------------- keys, clock, core dump


@pytest.mark.parametrize(
    ("typed", "codes"),
    [("ctrl-alt-delete", [29, 56, 111]), ("Ctrl+Alt+Del", [29, 56, 111]), ("KEY_LEFTCTRL-key_c", [29, 46]),
     ("f12", [88]), ("enter", [28]), ("space", [57]), ("0", [11]), ("esc", [1]), ("up", [103]), ("win-l", [125, 38])],
)  # fmt: skip
def test_keys_have_numbers(typed: str, codes: list[int]) -> None:
    assert keyboard.codes(keyboard.checked(typed)) == codes


def test_a_key_that_does_not_exist() -> None:
    with pytest.raises(ValueError, match="there is no key 'entre'; did you mean enter"):
        keyboard.checked("ctrl-entre")


def test_send_key(ward: Ward) -> None:
    assert ward.do("vm send-key", name="web1", keys="ctrl-alt-delete enter", hold=0.01)["pressed"] == 2
    assert ward.refusal("vm send-key", name="web2", keys="enter").code == "wrong_state"
    with pytest.raises(Refused, match="there is no key 'nosuch'"):
        ward.do("vm send-key", name="web1", keys="nosuch")


def test_time(ward: Ward) -> None:
    item = ward.read("vm time", name="web1")["item"]
    assert item["guest_at"].endswith("Z")
    assert isinstance(item["difference_seconds"], float)
    with pytest.raises(Refused, match="web2 is shut-off"):
        ward.read("vm time", name="web2")
    assert ward.do("vm set-time", name="web1", to="2026-11-20T08:30:00+01:00")["guest_at"] == "2026-11-20T07:30:00.000Z"
    with pytest.raises(Refused, match="has no time zone"):
        ward.do("vm set-time", name="web1", to="2026-11-20T08:30:00")


# ------------------------------------------------------------------------------------------------- definitions

LIVE = """<domain type='kvm' id='3'><name>a</name><memory unit='KiB'>1048576</memory><vcpu>1</vcpu>
<resource><partition>/machine</partition></resource>
<devices><emulator>/usr/bin/qemu</emulator>
<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/a.qcow2' index='1'/><backingStore/>
<target dev='vda' bus='virtio'/><alias name='virtio-disk0'/><address type='pci' slot='0x04'/></disk>
<disk type='file' device='disk'><source file='/hot.img' index='2'/><target dev='vdb' bus='virtio'/></disk>
<interface type='network'><mac address='52:54:00:00:00:01'/><source network='default' portid='1' bridge='virbr0'/>
<target dev='vnet0'/><model type='virtio'/><alias name='net0'/></interface>
<graphics type='vnc' port='5900' autoport='yes'><listen type='address' address='127.0.0.1'/></graphics>
<console type='pty' tty='/dev/pts/3'><source path='/dev/pts/3'/><target type='serial' port='0'/></console>
</devices><seclabel type='dynamic' model='dac'/></domain>"""

STORED = """<domain type='kvm'><name>a</name><memory unit='KiB'>1048576</memory><vcpu>1</vcpu>
<devices><emulator>/usr/bin/qemu</emulator>
<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/a.qcow2'/>
<target dev='vda' bus='virtio'/><address type='pci' slot='0x04'/></disk>
<disk type='file' device='disk'><source file='/hot.img'/><target dev='vdb' bus='virtio'/></disk>
<interface type='network'><mac address='52:54:00:00:00:01'/><source network='default'/>
<model type='virtio'/></interface>
<graphics type='vnc' port='-1' autoport='yes'><listen type='address'/></graphics>
<console type='pty'><target type='serial' port='0'/></console>
</devices></domain>"""


def test_what_libvirt_makes_up_for_a_run_is_no_difference() -> None:
    assert differing.rows(LIVE, STORED) == []


@pytest.mark.parametrize(
    ("old", "new", "rows"),
    [
        ("<vcpu>1<", "<vcpu>2<", [("vcpu", "1", "2")]),
        (">1048576<", ">2097152<", [("memory", "1048576", "2097152")]),
        ("file='/a.qcow2'", "file='/b.qcow2'", [("devices/disk[vda]/source/@file", "/a.qcow2", "/b.qcow2")]),
        ("network='default'", "network='lan'",
         [("devices/interface[52:54:00:00:00:01]/source/@network", "default", "lan")]),
        ("</devices>", "<rng model='virtio'/></devices>", [("devices/rng[0]", None, "there")]),
        ("<vcpu>1</vcpu>", "<vcpu>1</vcpu><bootmenu enable='yes'/>", [("bootmenu/@enable", None, "yes")]),
        ("<disk type='file' device='disk'><source file='/hot.img'/><target dev='vdb' bus='virtio'/></disk>", "",
         [("devices/disk[vdb]", "there", None)]),
    ],
)  # fmt: skip
def test_differences(old: str, new: str, rows: list[tuple[str, str | None, str | None]]) -> None:
    assert old in STORED
    found = differing.rows(LIVE, STORED.replace(old, new))
    assert [(row["what"], row["now"], row["next"]) for row in found] == rows


HOST_CPU = (
    "<cpu mode='custom' match='exact' check='full'><model>qemu64</model><feature policy='require' name='{}'/></cpu>"
)


@pytest.mark.parametrize(
    ("live", "stored", "differ"),
    [
        ("svm", "", []),
        ("svm", "<cpu mode='host-model' check='partial'/>", []),
        ("svm", "<cpu mode='custom' match='exact' check='none'><model>qemu64</model></cpu>", []),
        ("svm", "<cpu mode='custom' match='exact' check='none'><model>Nehalem</model></cpu>", ["cpu/model"]),
        ("svm", "<cpu mode='custom' match='exact'><model>qemu64</model><feature policy='disable' name='svm'/></cpu>",
         ["cpu/feature[svm]/@policy"]),
        ("svm", "<cpu mode='host-model'><topology sockets='2'/></cpu>", ["cpu/topology/@sockets"]),
    ],
)  # fmt: skip
def test_processors_as_libvirt_writes_them_down(live: str, stored: str, differ: list[str]) -> None:
    now, then = (f"<domain><name>a</name>{cpu}</domain>" for cpu in (HOST_CPU.format(live), stored))
    assert [row["what"] for row in differing.rows(now, then)] == differ


def test_a_password_is_no_part_of_what_is_told() -> None:
    with_one = STORED.replace("autoport='yes'", "autoport='yes' passwd='s3cret'")
    (row,) = differing.public(differing.rows(LIVE, with_one))
    assert row == {"what": "devices/graphics[0]/@passwd", "now": None, "next": "***"}


SECRETS = """<domain xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><name>a</name><devices>
<graphics type='vnc' passwd='s3cret' passwdValidTo='2026-11-20T00:00:00'/></devices>
<qemu:commandline><qemu:arg value='-object'/><qemu:arg value='secret,id=a,data=s3cret'/>
<qemu:env name='API_TOKEN' value='s3cret'/></qemu:commandline></domain>"""


def test_passwords_are_masked() -> None:
    text = tree.masked(SECRETS)
    assert "s3cret" not in text
    assert 'passwdValidTo="2026-11-20T00:00:00"' in text
    assert 'value="-object"' in text
    assert domain_xml.read(text).name == "a"


def test_a_tree() -> None:
    found = tree.of("<domain type='kvm'><name>a</name><memory unit='KiB'>5</memory><devices><disk a='1'/><disk a='2'/>"
                    "<input/></devices></domain>")  # fmt: skip
    assert found == {
        "domain": {
            "@type": "kvm",
            "name": "a",
            "memory": {"@unit": "KiB", "#text": "5"},
            "devices": {"disk": [{"@a": "1"}, {"@a": "2"}], "input": ""},
        }
    }


def test_a_tree_fits_into_a_message() -> None:
    deep = "<a>" + "<b x='1'>" * 30 + "</b>" * 30 + "</a>"

    def depth(value: Any) -> int:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        return 1 + max(map(depth, inner), default=0)

    assert depth(tree.of(deep)) <= tree.DEEPEST + 2
    assert "<b" in str(tree.of(deep))


def test_conf_and_diff(ward: Ward) -> None:
    item = ward.read("vm conf", name="web1")["item"]
    assert (item["which"], item["format"]) == ("live", "xml")
    assert domain_xml.read(item["conf"]).name == "web1"
    assert ward.read("vm conf", name="web1", stored=True)["item"]["which"] == "stored"
    assert ward.read("vm conf", name="web2")["item"]["which"] == "stored"
    assert ward.read("vm conf", name="web2", format="json")["item"]["conf"]["domain"]["name"] == "web2"
    assert ward.read("vm diff", name="web1")["item"]["differences"] == []
    text = ward.hypervisor.definition("web1").replace("<on_crash>destroy</on_crash>", "<on_crash>restart</on_crash>")
    ward.hypervisor.define(text)
    told = [{"what": "on_crash", "now": "destroy", "next": "restart"}]
    assert ward.read("vm diff", name="web1")["item"]["differences"] == told
    assert ward.do("vm restart", name="web1", redefine=True)["redefined"] == told
    assert ward.read("vm diff", name="web1")["item"]["differences"] == []
    assert ward.do("vm restart", name="web1", redefine=True)["redefined"] == []
