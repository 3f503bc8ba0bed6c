"""A guest that is written as QEMU's options."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from maglica.errors import Refused
from maglica.host_worker.domain import domain_xml, qemu_options

WEB1 = """
# the shop
-name web1                      # must be the file's name
-enable-kvm -daemonize
-m 2048
-smp 4,sockets=2,cores=2
-cpu host
-drive file=/srv/web1.qcow2,if=virtio,format=qcow2,cache=none,aio=native
-drive file=/dev/vg0/web1,if=virtio,format=raw
-cdrom /srv/iso/debian.iso
-boot order=dc
-net nic,model=virtio,macaddr=52:54:00:12:34:56
-net bridge,br=br7
-vnc :4
-usbdevice tablet
-monitor unix:/tmp/web1.sock,server,nowait
-k it
"""


def made(text: str, network: str | None = None, *, kvm: bool = True) -> ET.Element:
    guest = qemu_options.read(text)
    return ET.fromstring(
        qemu_options.definition(
            guest,
            uuid="22222222-2222-4222-8222-222222222222",
            network=network,
            kvm=kvm,
            mark={"kind": "imported"},
            console_log="/log/x.log",
        )
    )


def test_a_guest_as_vmcli_has_it() -> None:
    root = made(WEB1)
    found = domain_xml.read(ET.tostring(root, encoding="unicode"))
    assert (found.name, found.type, found.vcpus, found.memory_bytes) == ("web1", "kvm", 4, 2 << 30)
    assert found.machine == "pc"
    assert [(one.target, one.bus, one.device, one.source, one.path, one.format) for one in found.disks] == [
        ("vda", "virtio", "disk", "file", "/srv/web1.qcow2", "qcow2"),
        ("vdb", "virtio", "disk", "block", "/dev/vg0/web1", "raw"),
        ("hda", "ide", "cdrom", "file", "/srv/iso/debian.iso", "raw"),
    ]
    assert found.nics == [
        {"mac": "52:54:00:12:34:56", "type": "bridge", "source": "br7", "model": "virtio", "device": None}
    ]
    assert [boot.get("dev") for boot in root.findall("./os/boot")] == ["cdrom", "hd"]
    assert root.find("./cpu").get("mode") == "host-passthrough"  # type: ignore[union-attr]
    assert root.find("./cpu/topology").attrib == {"sockets": "2", "cores": "2", "threads": "1"}  # type: ignore[union-attr]
    driver = root.find("./devices/disk/driver")
    assert driver is not None
    assert (driver.get("cache"), driver.get("io")) == ("none", "native")
    graphics = root.find("./devices/graphics")
    assert graphics is not None
    assert (graphics.get("autoport"), graphics.get("port")) == ("yes", "-1")
    assert found.mark == {"kind": "imported"}


@pytest.mark.parametrize(
    ("text", "path", "attributes"),
    [
        ("-name a -m 2G", "memory", {"unit": "KiB"}),
        ("-name a\n-M q35\n-hda /a.qcow2", "./devices/disk/target", {"dev": "sda", "bus": "sata"}),
        ("-name a\n-hda /a.qcow2\n-hdb /b.img", "./devices/disk[2]/target", {"dev": "hdb", "bus": "ide"}),
        ("-name a\n-rtc base=localtime", "clock", {"offset": "localtime"}),
        ("-name a\n-netdev bridge,id=n,br=b1\n-device e1000,netdev=n", "./devices/interface/source", {"bridge": "b1"}),
        ("-name a\n-nic bridge,br=b2,model=virtio", "./devices/interface/source", {"bridge": "b2"}),
        ("-name a\n-net nic\n-net tap,ifname=t0,script=no", "./devices/interface/source", {"network": "lan"}),
        ("-name a\n-serial stdio", "./devices/serial/log", {"file": "/log/x.log", "append": "off"}),
        (
            "-name a\n-drive file=/a.img,id=d,if=none,format=raw\n-device virtio-blk-pci,drive=d",
            "./devices/disk/target", {"dev": "vda", "bus": "virtio"},
        ),
        ("/usr/bin/kvm \\\n -name a \\\n -vga cirrus -vnc :1", "./devices/video/model", {"type": "cirrus"}),
        (
            "-name a\n-net nic\n-net bridge,br=b1\n-net nic\n-net bridge,br=b2",
            "./devices/interface[2]/source", {"bridge": "b2"},
        ),
    ],
)  # fmt: skip
def test_options(text: str, path: str, attributes: dict[str, str]) -> None:
    element = made(text, "lan").find(path)
    assert element is not None
    assert element.attrib == attributes


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("-m 1G", "there is no -name"),
        ("-name a\n-drive file=/srv/a,if=virtio", "line 2, '-drive file=/srv/a,if=virtio': the format of the disk"),
        ("-name a\n-drive file=rbd:pool/a,format=raw", "no absolute path"),
        ("-name a\n-drive file=/a.img,snapshot=on,format=raw", "snapshot=on"),
        (
            "-name a\n-drive file=/a.img,format=raw,throttling.bps-total=5",
            "'throttling.bps-total' cannot be carried over",
        ),
        ("-name a\n-device vfio-pci,host=01:00.0", "the device vfio-pci cannot be carried over"),
        ("-name a\n-cpu host,-vmx", "features of the CPU"),
        ("-name a\n-incoming tcp:0:4444", "-incoming is not known here"),
        ("-name a\n-fsdev local,id=x", "-fsdev is not known here"),
        ("-name a\n-m lots", "'lots' is no size"),
        ("-name a\n-smp many", "expected numbers"),
        ("-name a\n-smp 2,maxcpus=8", "maxcpus cannot"),
        ("-name a\n-boot z", "'z' is no device to boot from"),
        ("-name a\n-vnc :1,password", "passwords"),
        ("-name a\n-m", "-m wants a value"),
        ("-name a\nweb1", "'web1' is no option"),
        ("-name 'a", "No closing quotation"),
        ("-name a\n-soundhw ac97", "sound cards"),
        ("-name a\n-net socket,listen=:1", "-net socket cannot be carried over"),
    ],
)
def test_what_cannot_be_carried_over_is_refused_with_its_line(text: str, words: str) -> None:
    with pytest.raises(Refused) as refused:
        qemu_options.read(text)
    assert refused.value.code == "wrong_input"
    assert words in refused.value.message


def test_a_card_without_a_network_is_refused() -> None:
    with pytest.raises(Refused, match="cannot be carried over") as refused:
        made("-name a\n-net nic,macaddr=52:54:00:00:00:01\n-net user")
    assert "--network" in refused.value.hint
