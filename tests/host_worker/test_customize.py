"""The plan for a clone's disk, as lists of values: no disk, no appliance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from maglica.errors import Refused
from maglica.host_worker.guest.customize import READ, SEE, GuestFacts, GuestRequest, Network, Plan, cold, plan, unmet
from maglica.host_worker.guest.model import (
    Absent,
    FileIs,
    HasLines,
    Link,
    MakeHostKeys,
    Present,
    Remove,
    Seen,
    System,
    WriteFile,
    path_matches,
)
from tests.host_worker.guest_trees import ALL, HOSTS, LINK, OLD_MAC, OLD_MACHINE_ID, OLD_NAME, SHADOW

MAC = "52:54:00:aa:bb:01"
MAC2 = "52:54:00:aa:bb:02"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGpXkJ0q me@example"
FIRST_BOOT_KEYGEN = "[Unit]\nConditionFirstBoot=yes\n\n[Service]\nType=oneshot\nExecStart=ssh-keygen -A\n"
HASH = "$6$saltsalt$abcdefghijklmnopqrstuvwxyz./0123456789"
STATIC = Network("192.0.2.10/24", "192.0.2.1", ("192.0.2.53", "2001:db8::53"))
DHCP = Network()

SYSTEMS = {
    "debian-ifupdown": System("debian", "Debian GNU/Linux 12", 12, 5),
    "debian-networkd": System("debian", "Debian GNU/Linux 12", 12, 5),
    "ubuntu-netplan": System("ubuntu", "Ubuntu 22.04.4 LTS", 22, 4),
    "rhel9-keyfile": System("redhat-based", "AlmaLinux 9.4", 9, 4, ("rhel", "centos", "fedora")),
    "centos7-ifcfg": System("centos", "CentOS Linux 7 (Core)", 7, 9),
    "rhel6": System("centos", "CentOS release 6.10 (Final)", 6, 10),
    "unknown": System("alpinelinux", "Alpine Linux v3.19", 3, 19),
    "debian8-sysv": System("debian", "Debian GNU/Linux 8", 8, 11),
    "debian13-networkd": System("debian", "Debian GNU/Linux 13", 13, 1),
    "ubuntu18-netplan": System("ubuntu", "Ubuntu 18.04.6 LTS", 18, 4),
    "ubuntu24-netplan": System("ubuntu", "Ubuntu 24.04.1 LTS", 24, 4),
    "rhel8-ifcfg": System("rocky", "Rocky Linux 8.10", 8, 10, ("rhel", "centos", "fedora")),
    "rhel10-keyfile": System("redhat-based", "AlmaLinux 10.0", 10, 0, ("rhel", "centos", "fedora")),
    "fedora41-keyfile": System("fedora", "Fedora Linux 41", 41),
}
KNOWN = [name for name in ALL if name != "unknown"]


def facts_of(system: System, tree: Mapping[str, str]) -> GuestFacts:
    """What the child would read from a disk that holds these files."""
    folders = {path.rsplit("/", at)[0] for path in tree for at in range(1, path.count("/"))}
    wanted = [path for path in {*tree, *folders} if any(path_matches(path, one) for one in (*READ, *SEE))]
    links = {path: tree[path].removeprefix(LINK) for path in wanted if tree.get(path, "").startswith(LINK)}
    files = {path: tree[path] for path in wanted if path in tree and path not in links}
    files = {path: text for path, text in files.items() if any(path_matches(path, one) for one in READ)}
    return GuestFacts(system, files, links, frozenset(wanted))


def facts(name: str, changes: Mapping[str, str | None] | None = None, **system: Any) -> GuestFacts:
    tree = {path: text for path, text in {**ALL[name], **(changes or {})}.items() if text is not None}
    if name == "rhel6":
        tree["/etc/init.d/sshd"] = tree["/etc/rc.d/init.d/sshd"]
    return facts_of(replace(SYSTEMS[name], **system), tree)


def wish(network: Network = DHCP, macs: tuple[str, ...] = (MAC,), **more: Any) -> GuestRequest:
    return GuestRequest("vm0.example.jp", macs, network, **more)


def written(result: Plan) -> dict[str, str]:
    return {edit.path: edit.text for edit in result.edits if isinstance(edit, WriteFile)}


def removed(result: Plan) -> set[str]:
    return {edit.path for edit in result.edits if isinstance(edit, Remove)}


def tree_after(tree: Mapping[str, str], result: Plan) -> dict[str, str]:
    """The files after the edits."""
    after = dict(tree)
    for edit in result.edits:
        if isinstance(edit, Remove):
            after = {path: text for path, text in after.items() if not f"{path}/".startswith(f"{edit.path}/")}
        elif isinstance(edit, WriteFile):
            after[edit.path] = edit.text
        elif isinstance(edit, Link):
            after[edit.path] = LINK + edit.target
        elif isinstance(edit, MakeHostKeys):
            after |= {f"/etc/ssh/ssh_host_{kind}_key": "new" for kind in edit.kinds}
            after |= {f"/etc/ssh/ssh_host_{kind}_key.pub": "new" for kind in edit.kinds}
    return after


# ---- the request ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hostname", ""),
        ("hostname", "-vm"),
        ("hostname", "vm_0"),
        ("hostname", "vm0.example.jp\nevil"),
        ("hostname", "a" * 64),
        ("macs", ("52:54:00:aa:bb",)),
        ("root_password_hash", "secret"),
        ("root_password_hash", "$6$salt$abc:0:0"),
        ("root_password_hash", "$6$salt$abcdefgh\nuser::0"),
        ("ssh_keys", ("-----BEGIN OPENSSH PRIVATE KEY-----",)),
        ("ssh_keys", ("hello",)),
    ],
)
def test_a_wrong_value_is_refused(field: str, value: Any) -> None:
    with pytest.raises(Refused) as caught:
        replace(wish(), **{field: value})
    assert caught.value.code == "wrong_input"


def test_a_refused_hash_is_not_repeated() -> None:
    with pytest.raises(Refused) as caught:
        wish(root_password_hash="my password")
    assert "my password" not in str(caught.value.to_wire())
    assert HASH not in repr(wish(root_password_hash=HASH))


@pytest.mark.parametrize(
    ("address", "gateway", "dns"),
    [
        ("192.0.2.10", None, ()),
        ("192.0.2.300/24", None, ()),
        ("192.0.2.10/24", "192.0.3.1", ()),
        ("192.0.2.10/24", "192.0.2.10", ()),
        ("192.0.2.10/24", "192.0.2.1", ("dns.example",)),
        (None, "192.0.2.1", ()),
    ],
)
def test_a_wrong_network_is_refused(address: str | None, gateway: str | None, dns: tuple[str, ...]) -> None:
    with pytest.raises(Refused):
        Network(address, gateway, dns)


def test_a_request_survives_its_way_to_the_child() -> None:
    request = wish(STATIC, (MAC, MAC2), ssh_keys=(f"# mine\n{KEY}\n\n{KEY}\n",), root_password_hash=HASH)
    assert request.ssh_keys == (KEY,)
    assert GuestRequest.from_map(request.to_map()) == request


# ---- every system -----------------------------------------------------------------------------------------------


def test_an_unknown_system_is_refused_with_a_way_out() -> None:
    with pytest.raises(Refused) as caught:
        plan(facts("unknown"), wish())
    assert (caught.value.code, "--customize=none" in caught.value.hint) == ("wrong_input", True)
    assert "Alpine" in caught.value.message


def test_a_derivative_is_known_by_what_it_is_like() -> None:
    assert System("unknown", "Some OS 1", 1, 0, ("debian",)).family == "debian"
    assert System("unknown", "Some OS 9", 9, 0, ("rhel", "fedora")).family == "rhel"
    assert System("opensuse", "openSUSE", 15, 0, ("suse",)).family is None


@pytest.mark.parametrize("network", [DHCP, STATIC], ids=["dhcp", "static"])
@pytest.mark.parametrize("name", KNOWN)
def test_nothing_of_the_old_life_stays(name: str, network: Network) -> None:
    result = plan(facts(name), wish(network))
    after = tree_after(ALL[name], result)
    for path in after:
        assert not path.endswith((".lease", ".leases"))
        assert "random-seed" not in path
        assert "70-persistent" not in path
        assert OLD_MACHINE_ID not in path
        assert "/var/lib/cloud/instance" not in path
        assert path not in ("/etc/nvme/hostnqn", "/etc/nvme/hostid", "/etc/hostid")
    initiator = after.get("/etc/iscsi/initiatorname.iscsi")
    assert initiator == ("GenerateName=yes\n" if facts(name).system.family == "debian" else None)
    for path, text in after.items():
        assert "old private key" not in text
        assert OLD_NAME not in text, path
        assert OLD_MAC not in text.lower(), path
        assert OLD_MACHINE_ID not in text, path


@pytest.mark.parametrize("network", [DHCP, STATIC], ids=["dhcp", "static"])
@pytest.mark.parametrize("name", KNOWN)
def test_a_customised_disk_plans_the_same_again(name: str, network: Network) -> None:
    """What a later check of the disk relies on: same expectations, and they hold."""
    request = wish(network, (MAC, MAC2), ssh_keys=(KEY,), root_password_hash=HASH)
    tree = ALL[name]
    if name == "rhel6":
        tree = {**tree, "/etc/init.d/sshd": tree["/etc/rc.d/init.d/sshd"]}
    first = plan(facts_of(SYSTEMS[name], tree), request)
    tree = tree_after(tree, first)
    second = plan(facts_of(SYSTEMS[name], tree), request)
    seen = {}
    for one in second.expectations:
        if isinstance(one, Absent):
            seen[one.path] = Seen(paths=tuple(path for path in tree if path_matches(path, one.path)))
        else:
            seen[one.path] = Seen(text=tree.get(one.path), mode=one.mode)
    assert unmet(cold(second.expectations), seen) == []
    assert (second.network, second.host_keys) == (first.network, first.host_keys)
    texts = [{one.path: one.text for one in a.expectations if isinstance(one, FileIs)} for a in (first, second)]
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    ("name", "tool", "host_keys"),
    [
        ("debian-ifupdown", "ifupdown", "written"),
        ("debian-networkd", "systemd-networkd", "written"),
        ("ubuntu-netplan", "netplan", "written"),
        ("rhel9-keyfile", "networkmanager", "first-boot"),
        ("centos7-ifcfg", "ifcfg", "first-boot"),
        ("rhel6", "ifcfg", "first-boot"),
    ],
)
def test_tool_and_host_keys(name: str, tool: str, host_keys: str) -> None:
    result = plan(facts(name), wish())
    assert (result.network, result.host_keys) == (tool, host_keys)
    made = [edit for edit in result.edits if isinstance(edit, MakeHostKeys)]
    assert bool(made) == (host_keys == "written")


# ---- identity ---------------------------------------------------------------------------------------------------


def test_machine_id_is_emptied_and_the_copy_of_dbus_goes() -> None:
    result = plan(facts("debian-ifupdown"), wish())
    assert WriteFile("/etc/machine-id", "", 0o444) in result.edits
    assert FileIs("/etc/machine-id", "", 0o444) in result.expectations
    assert "/var/lib/dbus/machine-id" in removed(result)


def test_a_machine_id_link_of_dbus_stays() -> None:
    assert "/var/lib/dbus/machine-id" not in removed(plan(facts("debian-networkd"), wish()))


def test_no_machine_id_where_there_is_no_systemd() -> None:
    result = plan(facts("rhel6"), wish())
    assert "/etc/machine-id" not in written(result)
    assert "/var/lib/dbus/machine-id" in removed(result)


def test_hostname_of_an_old_rhel() -> None:
    texts = written(plan(facts("rhel6"), wish()))
    assert texts["/etc/sysconfig/network"] == "NETWORKING=yes\nHOSTNAME=vm0.example.jp\n"
    assert "/etc/hostname" not in texts


def test_hostname_and_mailname() -> None:
    texts = written(plan(facts("debian-ifupdown"), wish()))
    assert texts["/etc/hostname"] == texts["/etc/mailname"] == "vm0.example.jp\n"
    assert "/etc/mailname" not in written(plan(facts("centos7-ifcfg"), wish()))


@pytest.mark.parametrize(
    ("old", "network", "new"),
    [
        (
            HOSTS,
            DHCP,
            "127.0.0.1\tlocalhost\n127.0.1.1\tvm0.example.jp vm0\n10.9.9.9\tarchive.example archive\n",
        ),
        (
            HOSTS,
            STATIC,
            "127.0.0.1\tlocalhost\n192.0.2.10\tvm0.example.jp vm0\n10.9.9.9\tarchive.example archive\n",
        ),
        (
            "# note template\n127.0.0.1 localhost Template localhost4\n::1 localhost\n10.0.0.5 template db # me\n",
            DHCP,
            "# note template\n127.0.0.1\tlocalhost localhost4\n127.0.1.1\tvm0.example.jp vm0\n::1 localhost\n"
            "10.0.0.5\tdb\n",
        ),
        ("127.0.0.1 localhost", DHCP, "127.0.0.1 localhost\n127.0.1.1\tvm0.example.jp vm0\n"),
        ("10.1.1.1 other\n", DHCP, "10.1.1.1 other\n127.0.1.1\tvm0.example.jp vm0\n"),
        (
            None,
            DHCP,
            "127.0.0.1\tlocalhost\n127.0.1.1\tvm0.example.jp vm0\n::1\tlocalhost ip6-localhost ip6-loopback\n",
        ),
    ],
)
def test_hosts(old: str | None, network: Network, new: str) -> None:
    assert written(plan(facts("debian-ifupdown", {"/etc/hosts": old}), wish(network)))["/etc/hosts"] == new


def test_the_name_localhost_is_never_taken_away() -> None:
    texts = written(plan(facts("debian-ifupdown", {"/etc/hostname": "localhost.localdomain\n"}), wish()))
    assert texts["/etc/hosts"].startswith("127.0.0.1\tlocalhost\n")


def test_cloud_init_does_not_undo_the_work() -> None:
    result = plan(facts("ubuntu-netplan"), wish())
    assert "config: disabled" in written(result)["/etc/cloud/cloud.cfg.d/99-maglica.cfg"]
    assert {"/var/lib/cloud/instance", "/var/lib/cloud/instances/i-1"} <= removed(result)
    assert not any("cloud" in path for path in written(plan(facts("debian-networkd"), wish())))


# ---- keys and passwords -----------------------------------------------------------------------------------------


def test_authorized_keys_are_appended_once() -> None:
    path = "/root/.ssh/authorized_keys"
    other = KEY.replace("me@", "you@")
    result = plan(facts("debian-ifupdown", {path: other}), wish(ssh_keys=(KEY, other)))
    assert WriteFile(path, f"{other}\n{KEY}\n", 0o600) in result.edits
    assert HasLines(path, (KEY, other), 0o600) in result.expectations
    assert not any("authorized" in path for path in written(plan(facts("debian-ifupdown"), wish())))


def test_the_root_password_is_replaced_in_place() -> None:
    text = written(plan(facts("debian-ifupdown"), wish(root_password_hash=HASH)))["/etc/shadow"]
    assert text == SHADOW.replace("root:!:", f"root:{HASH}:")
    forced = facts("debian-ifupdown", {"/etc/shadow": "root:x:0:0:99999:7:::\n"})
    assert written(plan(forced, wish(root_password_hash=HASH)))["/etc/shadow"] == f"root:{HASH}::0:99999:7:::\n"
    assert "/etc/shadow" not in written(plan(facts("debian-ifupdown"), wish()))


def test_no_secret_in_what_is_shown() -> None:
    result = plan(facts("debian-ifupdown"), wish(root_password_hash=HASH, ssh_keys=(KEY,)))
    assert HASH not in repr(result) + " ".join(edit.describe() for edit in result.edits)
    nothing = unmet(result.expectations, {})
    assert nothing
    assert HASH not in " ".join(nothing)


@pytest.mark.parametrize(
    ("changes", "host_keys"),
    [
        ({}, "written"),
        ({"/usr/sbin/sshd": None}, "none"),
        ({"/usr/lib/systemd/system/ssh.service": "[Service]\nExecStartPre=/usr/bin/ssh-keygen -A\n"}, "first-boot"),
        ({"/etc/systemd/system/ssh.service.d/keys.conf": "[Service]\nExecStartPre=ssh-keygen -A\n"}, "first-boot"),
        ({"/etc/systemd/system/fresh-ssh.service": "[Service]\nExecStart=ssh-keygen -A\n"}, "written"),
        (
            {
                "/etc/systemd/system/fresh-ssh.service": "[Service]\nExecStart=ssh-keygen -A\n",
                "/etc/systemd/system/multi-user.target.wants/fresh-ssh.service": f"{LINK}../fresh-ssh.service",
            },
            "first-boot",
        ),
        (
            {
                "/usr/lib/systemd/system/sshd-keygen.service": FIRST_BOOT_KEYGEN,
                "/etc/systemd/system/ssh.service.wants/sshd-keygen.service": (
                    f"{LINK}/usr/lib/systemd/system/sshd-keygen.service"
                ),
            },
            "written",
        ),
    ],
)
def test_who_makes_host_keys(changes: dict[str, str | None], host_keys: str) -> None:
    assert plan(facts("debian-ifupdown", changes), wish()).host_keys == host_keys


@pytest.mark.parametrize(
    "changes",
    [
        {"/etc/systemd/system/sshd-keygen.target": f"{LINK}/dev/null"},
        {"/etc/sysconfig/sshd": "AUTOCREATE_SERVER_KEYS=NO\n"},
    ],
)
def test_an_image_that_was_told_not_to_make_keys_gets_ours(changes: dict[str, str | None]) -> None:
    assert plan(facts("rhel9-keyfile", changes), wish()).host_keys == "written"


def test_selinux_labels_are_asked_for_only_when_something_is_new() -> None:
    assert "/.autorelabel" in written(plan(facts("rhel9-keyfile"), wish()))
    assert "/.autorelabel" not in written(plan(facts("centos7-ifcfg"), wish()))
    off = {"/etc/selinux/config": "SELINUX=disabled\n"}
    assert "/.autorelabel" not in written(plan(facts("rhel9-keyfile", off), wish()))


# ---- ifupdown ---------------------------------------------------------------------------------------------------

INTERFACES = "/etc/network/interfaces"
LO = "auto lo\niface lo inet loopback\n"


def interfaces(text: str, request: GuestRequest, changes: dict[str, str | None] | None = None) -> str | None:
    """The file that is written, None when the image's stays."""
    found = facts("debian-ifupdown", {f"{INTERFACES}.d/ens4": None, INTERFACES: text, **(changes or {})})
    return written(plan(found, request)).get(INTERFACES)


def test_ifupdown_static_keeps_the_names_of_the_image() -> None:
    result = plan(facts("debian-ifupdown"), wish(STATIC))
    text = written(result)[INTERFACES]
    assert text.endswith(
        "source /etc/network/interfaces.d/*\n\nauto lo\niface lo inet loopback\n\n"
        "auto ens3\niface ens3 inet static\n    address 192.0.2.10\n    netmask 255.255.255.0\n"
        "    gateway 192.0.2.1\n    dns-nameservers 192.0.2.53 2001:db8::53\n\n"
        "allow-hotplug ens4\niface ens4 inet dhcp\n"
    )
    assert f"{INTERFACES}.d/ens4" in removed(result)
    assert written(result)["/etc/resolv.conf"].endswith("nameserver 192.0.2.53\nnameserver 2001:db8::53\n")


@pytest.mark.parametrize(
    "card",
    [
        "auto ens3\niface ens3 inet dhcp\n",
        "allow-hotplug ens3\niface ens3 inet dhcp\niface ens3 inet6 auto\n",
        "auto br0\niface br0 inet dhcp\n    bridge_ports ens3\niface ens3 inet manual\n",
        f"auto ens3\niface ens3 inet dhcp\n    pre-up ip link set ens3 address {MAC}\n",
    ],
)
def test_ifupdown_leaves_a_working_dhcp_alone(card: str) -> None:
    assert interfaces(LO + card, wish()) is None


@pytest.mark.parametrize(
    "card",
    [
        "iface ens3 inet dhcp\n",
        f"auto ens3\niface ens3 inet dhcp\n    hwaddress ether {OLD_MAC}\n",
        "auto ens3\niface ens3 inet dhcp\n    hostname template\n",
        "auto ens3\niface ens3 inet manual\n",
        "auto ens3\niface ens3 inet \\\n static\n  address 10.0.0.1/8\n",
    ],
)
def test_ifupdown_replaces_what_is_bound_to_the_old_machine(card: str) -> None:
    text = interfaces(LO + card, wish())
    assert text is not None
    assert text.endswith("\nauto ens3\niface ens3 inet dhcp\n    hostname vm0\n")


@pytest.mark.parametrize(
    ("changes", "start"),
    [
        ({}, f"auto mac/{MAC}=net0\niface net0 inet static\n"),
        ({"/etc/default/grub": 'GRUB_CMDLINE_LINUX="net.ifnames=0"\n'}, "auto eth0\niface eth0 inet static\n"),
        ({"/usr/sbin/ifup": f"{LINK}/bin/busybox"}, "auto eth0\niface eth0 inet static\n"),
    ],
)
def test_ifupdown_without_a_card(changes: dict[str, str | None], start: str) -> None:
    assert start in str(interfaces(LO, wish(STATIC), changes))


def test_ifupdown_with_an_ipv6_address() -> None:
    text = interfaces(LO + "auto ens3\niface ens3 inet dhcp\n", wish(Network("2001:db8::5/64", "fe80::1")))
    assert text is not None
    assert "iface ens3 inet6 static\n    address 2001:db8::5\n    netmask 64\n    gateway fe80::1\n" in text


def test_ifupdown_with_a_resolver_manager() -> None:
    linked = {"/etc/resolv.conf": f"{LINK}../run/systemd/resolve/stub-resolv.conf"}
    texts = written(plan(facts("debian-ifupdown", linked), wish(STATIC)))
    assert "/etc/resolv.conf" not in texts
    assert "DNS=192.0.2.53 2001:db8::53" in texts["/etc/systemd/resolved.conf.d/maglica.conf"]
    managed = written(plan(facts("debian-ifupdown", {"/sbin/resolvconf": ""}), wish(STATIC)))
    assert not any("resol" in path for path in managed)


def test_dhclient_does_not_send_the_old_name() -> None:
    path = "/etc/dhcp/dhclient.conf"
    old = 'option rfc3442 code 121;\nsend host-name "template";\nsend dhcp-client-identifier "x";\nrequest routers;\n'
    text = written(plan(facts("debian-ifupdown", {path: old}), wish()))[path]
    assert text == "option rfc3442 code 121;\nsend host-name = gethostname();\nrequest routers;\n"
    usual = {path: "send host-name = gethostname();\n"}
    assert path not in written(plan(facts("debian-ifupdown", usual), wish()))


# ---- netplan ----------------------------------------------------------------------------------------------------

YAML = "/etc/netplan/01-image.yaml"
OWN_YAML = "/etc/netplan/50-maglica.yaml"


def netplan(text: str, network: Network, macs: tuple[str, ...] = (MAC,)) -> tuple[str | None, set[str]]:
    found = facts("ubuntu-netplan", {"/etc/netplan/50-cloud-init.yaml": None, YAML: text})
    result = plan(found, wish(network, macs))
    return written(result).get(OWN_YAML), removed(result)


def test_netplan_static() -> None:
    text, gone = netplan("network:\n  renderer: NetworkManager\n  version: 2\n", STATIC, (MAC, MAC2))
    assert text is not None
    assert text.split("\n", 1)[1] == (
        "network:\n  version: 2\n  renderer: NetworkManager\n  ethernets:\n"
        f'    net0:\n      match:\n        macaddress: "{MAC}"\n      dhcp4: false\n'
        '      addresses:\n        - "192.0.2.10/24"\n'
        '      routes:\n        - to: "0.0.0.0/0"\n          via: "192.0.2.1"\n'
        '      nameservers:\n        addresses:\n          - "192.0.2.53"\n          - "2001:db8::53"\n'
        f'    net1:\n      match:\n        macaddress: "{MAC2}"\n      dhcp4: true\n      optional: true\n'
    )
    assert YAML in gone


@pytest.mark.parametrize(
    ("text", "stays"),
    [
        ("network:\n  ethernets:\n    ens3:\n      dhcp4: true\n", True),
        ('network: {ethernets: {id0: {match: {name: "en*"}, dhcp4: yes}}}\n', True),
        ("network:\n  ethernets:\n    ens3:\n      dhcp4: true\n      nameservers: {addresses: [192.0.2.1]}\n", True),
        (
            "network:\n  ethernets:\n    ens3:\n      dhcp4: true\n      routes: [{to: 10.0.0.0/8, via: 10.1.1.1}]\n",
            True,
        ),
        (f"network:\n  ethernets:\n    ens3:\n      dhcp4: true\n      match: {{macaddress: {OLD_MAC}}}\n", False),
        ("network:\n  ethernets:\n    ens3:\n      dhcp4: true\n      addresses: [10.0.0.5/24]\n", False),
        ("network:\n  ethernets:\n    ens3:\n      addresses:\n      - 10.0.0.5/24\n", False),
        ("network:\n  version: 2\n#      dhcp4: true\n", False),
    ],
)
def test_netplan_keeps_only_a_dhcp_that_fits_any_card(text: str, stays: bool) -> None:
    own, gone = netplan(text, DHCP)
    assert (own is None, YAML not in gone) == (stays, stays)


def test_netplan_files_are_for_root_alone() -> None:
    result = plan(facts("ubuntu-netplan"), wish(STATIC))
    assert [edit.mode for edit in result.edits if isinstance(edit, WriteFile) and edit.path == OWN_YAML] == [0o600]


# ---- systemd-networkd -------------------------------------------------------------------------------------------

NETWORKD = "/etc/systemd/network"


def test_networkd_static_by_mac() -> None:
    result = plan(facts("debian-networkd"), wish(STATIC, (MAC, MAC2)))
    texts = written(result)
    assert texts[f"{NETWORKD}/00-maglica-net0.network"].split("\n", 1)[1] == (
        f"[Match]\nMACAddress={MAC}\n\n[Network]\nAddress=192.0.2.10/24\nGateway=192.0.2.1\n"
        "DNS=192.0.2.53\nDNS=2001:db8::53\n"
    )
    assert f"MACAddress={MAC2}\n" in texts[f"{NETWORKD}/00-maglica-net1.network"]
    assert "nameserver 192.0.2.53" in texts["/etc/resolv.conf"]
    assert {f"{NETWORKD}/80-dhcp.network", f"{NETWORKD}/10-old.link"} <= removed(result)


@pytest.mark.parametrize(
    ("text", "stays"),
    [
        ("[Match]\nName=en*\n[Network]\nDHCP=yes\n", True),
        ("[Match]\nType=ether\n\n[Network]\nDHCP=ipv4\n", True),
        (f"[Match]\nMACAddress={OLD_MAC}\n[Network]\nDHCP=yes\n", False),
        ("[Match]\nName=ens3\n[Network]\nAddress=10.0.0.5/24\n", False),
        ("[Match]\nName=ens3\n[Network]\nDHCP=yes\n[Address]\nAddress=10.0.0.5/24\n", False),
        ("[Match]\nName=ens3\n[Network]\nDHCP=no\n", False),
    ],
)
def test_networkd_keeps_only_a_dhcp_that_fits_any_card(text: str, stays: bool) -> None:
    path = f"{NETWORKD}/80-dhcp.network"
    result = plan(facts("debian-networkd", {path: text}), wish())
    assert (path not in removed(result), f"{NETWORKD}/00-maglica-net0.network" not in written(result)) == (stays, stays)


def test_networkd_is_enabled_where_nothing_else_is() -> None:
    wants = "/etc/systemd/system/multi-user.target.wants/systemd-networkd.service"
    changes = {wants: None, f"{NETWORKD}/80-dhcp.network": None}
    result = plan(facts("debian-networkd", changes), wish())
    assert Link(wants, "/usr/lib/systemd/system/systemd-networkd.service") in result.edits
    assert "DHCP=yes" in written(result)[f"{NETWORKD}/00-maglica-net0.network"]


# ---- NetworkManager ---------------------------------------------------------------------------------------------

PROFILES = "/etc/NetworkManager/system-connections"


def test_keyfile_static() -> None:
    result = plan(facts("rhel9-keyfile"), wish(STATIC, (MAC, MAC2)))
    path = f"{PROFILES}/maglica-net0.nmconnection"
    text = written(result)[path]
    assert f"[ethernet]\nmac-address={MAC.upper()}\n" in text
    assert text.endswith(
        "[ipv4]\nmethod=manual\naddress1=192.0.2.10/24,192.0.2.1\ndns=192.0.2.53;\n\n"
        "[ipv6]\nmethod=auto\ndns=2001:db8::53;\n"
    )
    assert [edit.mode for edit in result.edits if isinstance(edit, WriteFile) and edit.path == path] == [0o600]
    assert f"{PROFILES}/ens3.nmconnection" in removed(result)
    assert "method=auto" in written(result)[f"{PROFILES}/maglica-net1.nmconnection"]


def test_keyfile_with_an_ipv6_address() -> None:
    result = plan(facts("rhel9-keyfile"), wish(Network("2001:db8::5/64", None, ("192.0.2.53",))))
    text = written(result)[f"{PROFILES}/maglica-net0.nmconnection"]
    assert text.endswith("[ipv4]\nmethod=disabled\n\n[ipv6]\nmethod=manual\naddress1=2001:db8::5/64\n")


@pytest.mark.parametrize(
    ("text", "stays"),
    [
        ("[connection]\ntype=ethernet\ninterface-name=ens3\n[ipv4]\nmethod=auto\n", True),
        ("[connection]\ntype=ethernet\nautoconnect=false\n[ipv4]\nmethod=auto\n", False),
        ("[connection]\ntype=ethernet\n[ipv4]\nmethod=manual\naddress1=10.0.0.5/24\n", False),
        ("[connection]\ntype=802-3-ethernet\n[802-3-ethernet]\nmac-address=52:54:00:00:00:01\n", False),
        ("[connection]\ntype=ethernet\n[ipv4]\nmethod=auto\ndhcp-hostname=template\n", False),
    ],
)
def test_keyfile_keeps_only_a_dhcp_that_fits_any_card(text: str, stays: bool) -> None:
    path = f"{PROFILES}/ens3.nmconnection"
    result = plan(facts("rhel9-keyfile", {path: text}), wish())
    assert (path not in removed(result), f"{PROFILES}/maglica-net0.nmconnection" not in written(result)) == (stays,) * 2


def test_keyfile_leaves_other_kinds_of_connection_alone() -> None:
    path = f"{PROFILES}/vpn.nmconnection"
    result = plan(facts("rhel9-keyfile", {path: "[connection]\ntype=wireguard\n"}), wish(STATIC))
    assert path not in removed(result)


# ---- ifcfg ------------------------------------------------------------------------------------------------------

SCRIPTS = "/etc/sysconfig/network-scripts"


def test_ifcfg_dhcp_loses_only_what_binds_it() -> None:
    text = written(plan(facts("centos7-ifcfg"), wish()))[f"{SCRIPTS}/ifcfg-eth0"]
    assert text == 'TYPE="Ethernet"\nBOOTPROTO="dhcp"\nNAME="eth0"\nDEVICE="eth0"\nONBOOT="yes"\n'


def test_ifcfg_static() -> None:
    text = written(plan(facts("centos7-ifcfg"), wish(STATIC)))[f"{SCRIPTS}/ifcfg-eth0"]
    assert text == (
        'TYPE="Ethernet"\nNAME="eth0"\nDEVICE="eth0"\nBOOTPROTO=none\nIPADDR=192.0.2.10\nPREFIX=24\n'
        "NETMASK=255.255.255.0\nGATEWAY=192.0.2.1\nDNS1=192.0.2.53\nDNS2=2001:db8::53\nONBOOT=yes\n"
    )


def test_ifcfg_static_becomes_dhcp_and_says_its_name_on_an_old_system() -> None:
    result = plan(facts("rhel6"), wish())
    text = written(result)[f"{SCRIPTS}/ifcfg-eth0"]
    assert text == 'DEVICE="eth0"\nTYPE=Ethernet\nBOOTPROTO=dhcp\nONBOOT=yes\nDHCP_HOSTNAME=vm0\n'
    assert f"{SCRIPTS}/route-eth0" in removed(result)


def test_ifcfg_made_new() -> None:
    old = {f"{SCRIPTS}/ifcfg-eth0": None}
    assert f"HWADDR={MAC}" in written(plan(facts("centos7-ifcfg", old), wish()))[f"{SCRIPTS}/ifcfg-net0"]
    assert "DEVICE=eth0" in written(plan(facts("rhel6", old), wish()))[f"{SCRIPTS}/ifcfg-eth0"]


def test_a_second_card_that_was_static_asks_by_dhcp() -> None:
    second = {f"{SCRIPTS}/ifcfg-eth1": "DEVICE=eth1\nTYPE=Ethernet\nBOOTPROTO=none\nIPADDR=10.1.0.5\nONBOOT=yes\n"}
    text = written(plan(facts("centos7-ifcfg", second), wish(STATIC)))[f"{SCRIPTS}/ifcfg-eth1"]
    assert text == "DEVICE=eth1\nTYPE=Ethernet\nBOOTPROTO=dhcp\nONBOOT=yes\n"


def test_a_bridge_that_asks_by_dhcp_keeps_its_card() -> None:
    changes = {
        f"{SCRIPTS}/ifcfg-eth0": "DEVICE=eth0\nTYPE=Ethernet\nBRIDGE=br0\nONBOOT=yes\n",
        f"{SCRIPTS}/ifcfg-br0": "DEVICE=br0\nTYPE=Bridge\nBOOTPROTO=dhcp\nONBOOT=yes\n",
    }
    result = plan(facts("centos7-ifcfg", changes), wish())
    assert not any(path.startswith(SCRIPTS) for path in [*written(result), *removed(result)])


# ---- no tool ----------------------------------------------------------------------------------------------------


def test_no_network_tool() -> None:
    bare = {path: None for path in ALL["debian-ifupdown"] if "network" in path or path == "/usr/sbin/ifup"}
    found = facts("debian-ifupdown", bare)
    with pytest.raises(Refused) as caught:
        plan(found, wish(STATIC))
    assert caught.value.code == "environment_error"
    assert plan(found, wish()).network == "none"


def test_a_machine_without_a_card_keeps_its_network_files() -> None:
    result = plan(facts("debian-ifupdown"), wish(macs=()))
    assert INTERFACES not in written(result)


# ---- the second reading -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expectation", "seen", "ok"),
    [
        (FileIs("/a", "x\n"), Seen(text="x\n"), True),
        (FileIs("/a", "x\n"), Seen(text="y\n"), False),
        (FileIs("/a", "x\n"), Seen(), False),
        (FileIs("/a", "", 0o444), Seen(text="", mode=0o444), True),
        (FileIs("/a", "", 0o444), Seen(text="", mode=0o644), False),
        (HasLines("/a", ("k",)), Seen(text="j\nk\n"), True),
        (HasLines("/a", ("k",)), Seen(text="kk\n"), False),
        (Absent("/a*"), Seen(), True),
        (Absent("/a*"), Seen(paths=("/ab",)), False),
        (Present("/a", unlike="old"), Seen(text="new"), True),
        (Present("/a", unlike="old"), Seen(text="old"), False),
        (Present("/a"), Seen(text=""), False),
    ],
)
def test_unmet(expectation: FileIs | HasLines | Absent | Present, seen: Seen, ok: bool) -> None:
    assert (unmet([expectation], {expectation.path: seen}) == []) == ok
