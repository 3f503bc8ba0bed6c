"""Small guests made of files: enough of a distribution that libguestfs recognises it and that we customise it.

`TREES` maps a name to the files of a guest; `make_disk` turns them into a disk image with real file systems. Nothing
in these guests can run.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

OLD_NAME = "template.old.example"
OLD_MAC = "52:54:00:00:00:01"
OLD_MACHINE_ID = "0123456789abcdef0123456789abcdef"
SHADOW = "root:!:19000:0:99999:7:::\nuser:$y$j9T$abc$def:19000:0:99999:7:::\n"
HOSTS = f"127.0.0.1\tlocalhost\n127.0.1.1\t{OLD_NAME} template\n10.9.9.9\tarchive.example archive\n"
LINK = "-> "
"""A text that begins so makes a symbolic link."""

OLD_LIFE = {
    "/etc/machine-id": f"{OLD_MACHINE_ID}\n",
    "/etc/hostname": f"{OLD_NAME}\n",
    "/etc/hosts": HOSTS,
    "/etc/shadow": SHADOW,
    "/etc/fstab": "proc /proc proc defaults 0 0\n",
    "/etc/passwd": "root:x:0:0:root:/root:/bin/sh\n",
    "/bin/sh": "",
    "/root/.profile": "",
    "/usr/lib/systemd/systemd": "",
    "/usr/sbin/sshd": "",
    "/etc/ssh/ssh_host_rsa_key": "old private key\n",
    "/etc/ssh/ssh_host_rsa_key.pub": "ssh-rsa old\n",
    "/etc/udev/rules.d/70-persistent-net.rules": f'ATTR{{address}}=="{OLD_MAC}", NAME="eth0"\n',
    "/var/lib/systemd/random-seed": "seed",
    "/etc/iscsi/initiatorname.iscsi": "InitiatorName=iqn.1993-08.org.debian:01:0123456789ab\n",
    "/etc/nvme/hostnqn": "nqn.2014-08.org.nvmexpress:uuid:0b0f5a4e-9d3e-4f0e-b5a4-0123456789ab\n",
    "/etc/nvme/hostid": "0b0f5a4e-9d3e-4f0e-b5a4-0123456789ab\n",
    "/etc/hostid": "abcd",
    "/var/log/wtmp": "old logins",
    f"/var/log/journal/{OLD_MACHINE_ID}/system.journal": "journal",
}

DEBIAN = OLD_LIFE | {
    "/etc/os-release": 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
    "/etc/debian_version": "12.5\n",
    "/etc/mailname": f"{OLD_NAME}\n",
    "/usr/bin/dpkg": "",
    "/var/lib/dpkg/status": "",
    "/var/lib/dbus/machine-id": f"{LINK}/etc/machine-id",
    "/var/lib/urandom/random-seed": "seed",
    "/var/lib/dhcp/dhclient.eth0.leases": "lease {}\n",
    "/usr/lib/systemd/system/ssh.service": "[Service]\nExecStart=/usr/sbin/sshd -D\n",
}

UBUNTU = DEBIAN | {
    "/etc/os-release": 'ID=ubuntu\nID_LIKE=debian\nVERSION_ID="22.04"\nPRETTY_NAME="Ubuntu 22.04.4 LTS"\n',
    "/etc/lsb-release": 'DISTRIB_ID=Ubuntu\nDISTRIB_RELEASE=22.04\nDISTRIB_DESCRIPTION="Ubuntu 22.04.4 LTS"\n',
    "/etc/debian_version": "bookworm/sid\n",
    "/etc/netplan/50-cloud-init.yaml": (
        "network:\n  version: 2\n  ethernets:\n    ens3:\n      dhcp4: true\n"
        f"      match:\n        macaddress: {OLD_MAC}\n      set-name: ens3\n"
    ),
    "/etc/resolv.conf": f"{LINK}../run/systemd/resolve/stub-resolv.conf",
    "/etc/cloud/cloud.cfg": "users: []\n",
    "/var/lib/cloud/instances/i-1/datasource": "old",
    "/var/lib/cloud/instance": f"{LINK}/var/lib/cloud/instances/i-1",
}

RHEL = OLD_LIFE | {
    "/etc/selinux/config": "SELINUX=enforcing\nSELINUXTYPE=targeted\n",
    "/usr/bin/rpm": "",
    "/usr/sbin/NetworkManager": "",
    "/var/lib/NetworkManager/internal-1-ens3.lease": "ADDRESS=10.0.0.1\n",
    "/var/lib/NetworkManager/secret_key": "secret",
    "/usr/lib/systemd/system/sshd.service": "[Unit]\nWants=sshd-keygen.target\n",
    "/usr/lib/systemd/system/sshd-keygen.target": "[Unit]\nWants=sshd-keygen@rsa.service\n",
}

TREES: dict[str, Mapping[str, str]] = {
    "debian-ifupdown": DEBIAN
    | {
        "/usr/sbin/ifup": "",
        "/etc/network/interfaces": (
            "source /etc/network/interfaces.d/*\n\nauto lo\niface lo inet loopback\n\n"
            "allow-hotplug ens3\niface ens3 inet static\n    address 10.0.0.5/24\n    gateway 10.0.0.1\n"
        ),
        "/etc/network/interfaces.d/ens4": "auto ens4\niface ens4 inet static\n    address 10.1.0.5/24\n",
        "/etc/resolv.conf": "nameserver 10.0.0.1\n",
        "/var/lib/dbus/machine-id": f"{OLD_MACHINE_ID}\n",
    },
    "debian-networkd": DEBIAN
    | {
        "/usr/lib/systemd/system/systemd-networkd.service": "[Service]\n",
        "/etc/systemd/system/multi-user.target.wants/systemd-networkd.service": (
            f"{LINK}/usr/lib/systemd/system/systemd-networkd.service"
        ),
        "/etc/systemd/network/80-dhcp.network": "[Match]\nName=en*\n\n[Network]\nDHCP=yes\n",
        "/etc/systemd/network/10-old.link": f"[Match]\nMACAddress={OLD_MAC}\n[Link]\nName=lan0\n",
    },
    "ubuntu-netplan": UBUNTU,
    "rhel9-keyfile": RHEL
    | {
        "/etc/os-release": (
            'ID="almalinux"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.4"\nPRETTY_NAME="AlmaLinux 9.4"\n'
        ),
        "/etc/redhat-release": "AlmaLinux release 9.4 (Seafoam Ocelot)\n",
        "/etc/NetworkManager/system-connections/ens3.nmconnection": (
            f"[connection]\nid=ens3\ntype=ethernet\ninterface-name=ens3\n\n[ethernet]\nmac-address={OLD_MAC}\n\n"
            "[ipv4]\nmethod=auto\n"
        ),
    },
    "centos7-ifcfg": RHEL
    | {
        "/etc/os-release": 'ID="centos"\nID_LIKE="rhel fedora"\nVERSION_ID="7"\nPRETTY_NAME="CentOS Linux 7 (Core)"\n',
        "/etc/redhat-release": "CentOS Linux release 7.9.2009 (Core)\n",
        "/etc/centos-release": "CentOS Linux release 7.9.2009 (Core)\n",
        "/etc/sysconfig/network": "# Created by anaconda\n",
        "/etc/sysconfig/network-scripts/ifcfg-lo": "DEVICE=lo\nIPADDR=127.0.0.1\n",
        "/etc/sysconfig/network-scripts/ifcfg-eth0": (
            f'TYPE="Ethernet"\nBOOTPROTO="dhcp"\nNAME="eth0"\nUUID="abc"\nDEVICE="eth0"\nONBOOT="yes"\nHWADDR={OLD_MAC}\n'
        ),
        "/var/lib/dhclient/dhclient-eth0.leases": "lease {}\n",
    },
    "rhel6": {
        path: text
        for path, text in OLD_LIFE.items()
        if path not in ("/etc/machine-id", "/etc/hostname") and "systemd" not in path and "journal" not in path
    }
    | {
        "/etc/redhat-release": "CentOS release 6.10 (Final)\n",
        "/usr/bin/rpm": "",
        "/etc/rc.d/init.d/sshd": "#!/bin/bash\ndo_rsa_keygen() { ssh-keygen; }\n",
        "/etc/init.d": f"{LINK}rc.d/init.d",
        "/etc/sysconfig/network": f"NETWORKING=yes\nHOSTNAME={OLD_NAME}\nGATEWAY=10.0.0.1\n",
        "/etc/sysconfig/network-scripts/ifcfg-eth0": (
            f'DEVICE="eth0"\nBOOTPROTO="static"\nHWADDR="{OLD_MAC.upper()}"\nONBOOT="yes"\nIPADDR=10.0.0.5\nNETMASK=255.0.0.0\n'
        ),
        "/etc/sysconfig/network-scripts/route-eth0": "10.5.0.0/16 via 10.0.0.7\n",
        "/var/lib/random-seed": "seed",
        "/var/lib/dbus/machine-id": f"{OLD_MACHINE_ID}\n",
    },
    "unknown": OLD_LIFE
    | {
        "/etc/os-release": 'ID=alpine\nVERSION_ID=3.19.1\nPRETTY_NAME="Alpine Linux v3.19"\n',
        "/etc/alpine-release": "3.19.1\n",
    },
}


MORE: dict[str, Mapping[str, str]] = {
    "debian8-sysv": {path: text for path, text in TREES["debian-ifupdown"].items() if "systemd" not in path}
    | {
        "/etc/os-release": 'ID=debian\nVERSION_ID="8"\nPRETTY_NAME="Debian GNU/Linux 8 (jessie)"\n',
        "/etc/debian_version": "8.11\n",
        "/etc/init.d/ssh": "#!/bin/sh\n",
        "/etc/rc2.d/S02ssh": f"{LINK}../init.d/ssh",
    },
    "debian13-networkd": TREES["debian-networkd"]
    | {
        "/etc/os-release": 'ID=debian\nVERSION_ID="13"\nPRETTY_NAME="Debian GNU/Linux 13 (trixie)"\n',
        "/etc/debian_version": "13.1\n",
        "/etc/locale.conf": "LANG=C.UTF-8\n",
        "/usr/lib/systemd/system/sshd-keygen.service": (
            "[Unit]\nConditionFirstBoot=yes\n[Service]\nExecStart=ssh-keygen -A\n"
        ),
    },
    "ubuntu18-netplan": UBUNTU
    | {
        "/etc/os-release": 'ID=ubuntu\nID_LIKE=debian\nVERSION_ID="18.04"\nPRETTY_NAME="Ubuntu 18.04.6 LTS"\n',
        "/etc/netplan/50-cloud-init.yaml": (
            "network:\n    ethernets:\n        ens3:\n            addresses: [10.0.0.5/24]\n"
            "            gateway4: 10.0.0.1\n            nameservers:\n                addresses: [10.0.0.1]\n"
            "    version: 2\n"
        ),
        "/var/lib/dhcp/dhclient.ens3.leases": "lease {}\n",
    },
    "ubuntu24-netplan": UBUNTU
    | {
        "/etc/os-release": 'ID=ubuntu\nID_LIKE=debian\nVERSION_ID="24.04"\nPRETTY_NAME="Ubuntu 24.04.1 LTS"\n',
        "/etc/netplan/50-cloud-init.yaml": "network:\n  version: 2\n  ethernets:\n    enp1s0:\n      dhcp4: true\n",
        "/etc/netplan/90-NM-1234.yaml": (
            "network:\n  version: 2\n  ethernets:\n    NM-1234:\n      renderer: NetworkManager\n      match:\n"
            f"        macaddress: {OLD_MAC}\n      dhcp4: true\n"
        ),
        "/usr/lib/systemd/system/ssh.socket": "[Socket]\nListenStream=22\n",
    },
    "rhel8-ifcfg": RHEL
    | {
        "/etc/os-release": (
            'ID="rocky"\nID_LIKE="rhel centos fedora"\nVERSION_ID="8.10"\nPRETTY_NAME="Rocky Linux 8.10"\n'
        ),
        "/etc/redhat-release": "Rocky Linux release 8.10 (Green Obsidian)\n",
        "/etc/sysconfig/network-scripts/ifcfg-enp1s0": (
            "TYPE=Ethernet\nBOOTPROTO=none\nIPADDR=10.0.0.5\nPREFIX=24\nGATEWAY=10.0.0.1\nNAME=enp1s0\n"
            f"UUID=5fb06bd0-0bb0-7ffb-45f1-d6edd65f3e03\nDEVICE=enp1s0\nONBOOT=yes\nHWADDR={OLD_MAC}\n"
        ),
    },
    "rhel10-keyfile": RHEL
    | {
        "/etc/os-release": (
            'ID="almalinux"\nID_LIKE="rhel centos fedora"\nVERSION_ID="10.0"\nPRETTY_NAME="AlmaLinux 10.0"\n'
        ),
        "/etc/redhat-release": "AlmaLinux release 10.0 (Purple Lion)\n",
        # Left over from an older release: nothing reads it any more.
        "/etc/sysconfig/network-scripts/ifcfg-eth0": "DEVICE=eth0\nBOOTPROTO=dhcp\nONBOOT=yes\n",
    },
    "fedora41-keyfile": RHEL
    | {
        "/etc/os-release": 'ID=fedora\nVERSION_ID=41\nPRETTY_NAME="Fedora Linux 41 (Server Edition)"\n',
        "/etc/fedora-release": "Fedora release 41 (Forty One)\n",
        "/etc/NetworkManager/system-connections/enp1s0.nmconnection": (
            "[connection]\nid=enp1s0\ntype=ethernet\ninterface-name=enp1s0\n\n[ipv4]\nmethod=manual\n"
            "address1=10.0.0.5/24,10.0.0.1\n"
        ),
    },
}
"""More systems, for tests that need no appliance."""

ALL = TREES | MORE


def write_tree(files: Mapping[str, str], folder: Path) -> Path:
    """The files below `folder`; the private ones with the modes that they have on a real system."""
    for name, text in files.items():
        path = folder / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        if text.startswith(LINK):
            path.symlink_to(text.removeprefix(LINK))
        else:
            path.write_text(text)
    for name, mode in (("etc/shadow", 0o640), ("etc/ssh/ssh_host_rsa_key", 0o600)):
        if (folder / name).exists():
            (folder / name).chmod(mode)
    return folder


def make_disk(files: Mapping[str, str], target: Path, *, partition: bool = False, qcow2: bool = False) -> Path:
    """A disk image of 24 MiB that holds the files in an ext4: the bare file system, or one MBR partition of it."""
    folder = write_tree(files, target.with_suffix(".tree"))
    raw = target.with_suffix(".raw")
    start = 1 << 20 if partition else 0
    with raw.open("wb") as stream:
        stream.truncate(start + (24 << 20))
    if partition:
        subprocess.run(["sfdisk", "-q", str(raw)], input="start=2048, type=83\n", text=True, check=True)
    options = f"offset={start},root_owner=0:0"
    subprocess.run(
        ["mke2fs", "-q", "-F", "-t", "ext4", "-d", str(folder), "-E", options, str(raw), "24M"],
        check=True,
        capture_output=True,
    )
    if not qcow2:
        return raw
    image = target.with_suffix(".qcow2")
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(image)], check=True)
    return image
