"""Another address for one network card of several: its entry is changed, and every other line stays as it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from maglica.errors import Refused
from maglica.host_worker.guest import altering
from maglica.host_worker.guest.card import netplan
from maglica.host_worker.guest.card.common import Card
from maglica.host_worker.guest.model import GuestFacts, GuestRequest, Network, Plan, WriteFile
from tests.host_worker.guest_trees import OLD_NAME
from tests.host_worker.test_customize import facts

ONE, TWO, THREE = "52:54:00:00:00:11", "52:54:00:00:00:22", "52:54:00:00:00:33"
STATIC = Network("10.1.0.9/24", "10.1.0.254", ("10.1.0.53",))
BARE = Network("10.1.0.9/24")
HOSTS = f"127.0.0.1\tlocalhost\n10.0.0.5\t{OLD_NAME} template\n10.1.0.5\t{OLD_NAME}-two\n10.9.9.9\tarchive.example\n"

INTERFACES = "/etc/network/interfaces"
IFUPDOWN = """\
# keep this comment
source /etc/network/interfaces.d/*
auto lo
iface lo inet loopback

allow-hotplug ens3
iface ens3 inet static
    address 10.0.0.5/24
    gateway 10.0.0.1
    up ip route add 10.5.0.0/16 via 10.0.0.7

auto ens4
# the other one
iface ens4 inet static
    address 10.1.0.5
    netmask 255.255.255.0
    gateway 10.1.0.1
    dns-nameservers 10.1.0.2
    mtu 9000
    post-up touch /run/up

iface ens4 inet6 auto
    privext 2
"""
NETPLAN = "/etc/netplan/50-cloud-init.yaml"
YAML = f"""\
# keep this comment
network:
  version: 2
  renderer: networkd
  ethernets:
    lan0:
      match: {{macaddress: "{ONE}"}}
      addresses: [10.0.0.5/24]
      routes:
        - to: default
          via: 10.0.0.1
        - to: 10.5.0.0/16
          via: 10.0.0.7
    lan1:
      match:
        macaddress: {TWO.upper()}
      mtu: 9000   # large
      addresses:
      - 10.1.0.5/24
      - "2001:db8::5/64"
      gateway4: 10.1.0.1
      nameservers:
        addresses: [10.1.0.2]
        search: [example.jp, other.example]
  vlans:
    vlan7:
      id: 7
      link: lan0
"""
FOLDER = "/etc/systemd/network"
OF_ONE = f"[Match]\nMACAddress={ONE}\n\n[Network]\nAddress=10.0.0.5/24\nGateway=10.0.0.1\n"
OF_TWO = f"""\
# the other one
[Match]
MACAddress={TWO}

[Link]
MTUBytes=9000

[Network]
Address=10.1.0.5/24
DNS=10.1.0.2
IPv6AcceptRA=no

[Route]
Gateway=10.1.0.1

[Route]
Destination=10.5.0.0/16
Gateway=10.1.0.7
"""
PROFILES = "/etc/NetworkManager/system-connections"
PROFILE = f"""\
[connection]
id=two
type=ethernet
interface-name=ens4

[ethernet]
mac-address={TWO.upper()}
mtu=9000

[ipv4]
address1=10.1.0.5/24,10.1.0.1
dns=10.1.0.2;
method=manual
route1=10.5.0.0/16,10.1.0.7

[ipv6]
method=link-local
"""
SCRIPTS = "/etc/sysconfig/network-scripts"
IFCFG = f"""\
DEVICE=eth1
HWADDR={TWO}
BOOTPROTO=static
IPADDR=10.1.0.5
PREFIX=24
GATEWAY=10.1.0.1
DNS1=10.1.0.2
MTU=9000
ZONE=internal
ONBOOT=yes
"""

# The tree, the files that are put into it, and how ens4 (10.1.0.5) is called.
TREES: dict[str, tuple[str, dict[str, str | None], dict[str, str]]] = {
    "ifupdown": (
        "debian-ifupdown", {INTERFACES: IFUPDOWN, f"{INTERFACES}.d/ens4": None}, {"interface": "ens4"},
    ),
    "netplan": ("ubuntu-netplan", {NETPLAN: YAML}, {"card": TWO}),
    "networkd": (
        "debian-networkd", {f"{FOLDER}/10-one.network": OF_ONE, f"{FOLDER}/20-two.network": OF_TWO}, {"card": TWO},
    ),
    "keyfile": ("rhel9-keyfile", {f"{PROFILES}/two.nmconnection": PROFILE}, {"card": TWO}),
    "ifcfg": ("centos7-ifcfg", {f"{SCRIPTS}/ifcfg-eth1": IFCFG}, {"card": TWO}),
}  # fmt: skip

# What becomes of the one file of that card: lines that go, and lines that come.
CHANGED: dict[str, tuple[str, str, str]] = {
    "ifupdown": (
        INTERFACES,
        "    address 10.1.0.5\n    netmask 255.255.255.0\n    gateway 10.1.0.1\n    dns-nameservers 10.1.0.2\n",
        "    address 10.1.0.9\n    netmask 255.255.255.0\n    gateway 10.1.0.254\n    dns-nameservers 10.1.0.53\n",
    ),
    "netplan": (
        NETPLAN,
        '      addresses:\n      - 10.1.0.5/24\n      - "2001:db8::5/64"\n      gateway4: 10.1.0.1\n'
        "      nameservers:\n        addresses: [10.1.0.2]\n        search: [example.jp, other.example]\n",
        '      dhcp4: false\n      addresses:\n        - "10.1.0.9/24"\n        - "2001:db8::5/64"\n      routes:\n'
        '        - to: "0.0.0.0/0"\n          via: "10.1.0.254"\n      nameservers:\n        addresses:\n'
        '          - "10.1.0.53"\n        search:\n          - "example.jp"\n          - "other.example"\n',
    ),
    "networkd": (
        f"{FOLDER}/20-two.network",
        "Address=10.1.0.5/24\nDNS=10.1.0.2\nIPv6AcceptRA=no\n\n[Route]\nGateway=10.1.0.1\n\n",
        "Address=10.1.0.9/24\nGateway=10.1.0.254\nDNS=10.1.0.53\nIPv6AcceptRA=no\n\n",
    ),
    "keyfile": (
        f"{PROFILES}/two.nmconnection",
        "address1=10.1.0.5/24,10.1.0.1\ndns=10.1.0.2;\nmethod=manual\n",
        "method=manual\naddress1=10.1.0.9/24,10.1.0.254\ndns=10.1.0.53;\n",
    ),
    "ifcfg": (
        f"{SCRIPTS}/ifcfg-eth1",
        "BOOTPROTO=static\nIPADDR=10.1.0.5\nPREFIX=24\nGATEWAY=10.1.0.1\nDNS1=10.1.0.2\nMTU=9000\nZONE=internal\n"
        "ONBOOT=yes\n",
        "MTU=9000\nZONE=internal\nBOOTPROTO=none\nIPADDR=10.1.0.9\nPREFIX=24\nNETMASK=255.255.255.0\n"
        "GATEWAY=10.1.0.254\nDNS1=10.1.0.53\nONBOOT=yes\n",
    ),
}


def seen(kind: str, changes: Mapping[str, str | None] | None = None) -> GuestFacts:
    tree, files, _ = TREES[kind]
    return facts(tree, {"/etc/hosts": HOSTS, **files, **(changes or {})})


def wish(network: Network = STATIC, **card: str) -> GuestRequest:
    return GuestRequest("localhost", (ONE, TWO), network, **card)  # type: ignore[arg-type]


def after(before: GuestFacts, plan: Plan) -> GuestFacts:
    """What is read once the plan was carried out."""
    new = {edit.path: edit.text for edit in plan.edits if isinstance(edit, WriteFile)}
    return replace(before, files={**before.files, **new}, paths=before.paths | set(new))


def texts(plan: Plan) -> dict[str, str]:
    """What is written of the network itself."""
    found = {edit.path: edit.text for edit in plan.edits if isinstance(edit, WriteFile)}
    return {
        path: text for path, text in found.items() if path not in ("/etc/hosts", "/etc/resolv.conf", "/.autorelabel")
    }


@pytest.mark.parametrize("kind", TREES)
def test_its_entry_is_changed_and_nothing_else(kind: str) -> None:
    before, request = seen(kind), wish(**TREES[kind][2])
    plan = altering.readdress(before, request)
    path, gone, come = CHANGED[kind]
    assert before.text(path).count(gone) == 1
    assert texts(plan) == {path: before.text(path).replace(gone, come)}
    assert all(isinstance(edit, WriteFile) for edit in plan.edits), "nothing is removed"
    assert "10.1.0.5" in plan.was
    again = altering.readdress(after(before, plan), request)
    assert again.edits == (), "and once more it is no change"


@pytest.mark.parametrize("kind", TREES)
def test_what_is_not_given_stays_where_it_fits(kind: str) -> None:
    plan = altering.readdress(seen(kind), wish(BARE, **TREES[kind][2]))
    text = texts(plan)[CHANGED[kind][0]]
    assert "10.1.0.9" in text
    assert "10.1.0.2" in text, "the name server"
    assert "10.1.0.1" in text, "the gateway"
    elsewhere = texts(altering.readdress(seen(kind), wish(Network("10.2.0.9/24"), **TREES[kind][2])))
    told = elsewhere[CHANGED[kind][0]]
    assert "10.1.0.2" in told
    assert "10.1.0.1\n" not in told.replace('"', ""), "a gateway of the old network leads nowhere"


@pytest.mark.parametrize("kind", TREES)
def test_back_to_dhcp(kind: str) -> None:
    before, request = seen(kind), wish(Network(), **TREES[kind][2])
    plan = altering.readdress(before, request)
    (path,) = texts(plan)
    assert path == CHANGED[kind][0]
    text = texts(plan)[path]
    assert "10.1.0.5" not in text
    assert "10.1.0.1\n" not in text
    says = {"ifupdown": "iface ens4 inet dhcp\n", "netplan": "      dhcp4: true\n", "networkd": "DHCP=yes\n",
            "keyfile": "method=auto\n", "ifcfg": "BOOTPROTO=dhcp\n"}  # fmt: skip
    assert says[kind] in text
    assert "9000" in text
    assert altering.readdress(after(before, plan), request).edits == ()
    static = altering.readdress(after(before, plan), wish(**TREES[kind][2]))
    assert "10.1.0.9" in texts(static)[path], "and there is a way back"


def test_of_the_hosts_only_the_line_of_that_address_changes() -> None:
    before = seen("ifupdown")
    hosts = {edit.path: edit.text for edit in altering.readdress(before, wish(interface="ens3")).edits
             if isinstance(edit, WriteFile)}["/etc/hosts"]  # fmt: skip
    assert f"10.1.0.9\t{OLD_NAME} template\n" in hosts
    assert f"10.1.0.5\t{OLD_NAME}-two\n" in hosts
    plan = altering.readdress(before, wish(interface="ens4"))
    assert "/etc/hosts" not in {edit.path for edit in plan.edits if isinstance(edit, WriteFile)}
    plan = altering.readdress(before, wish(Network(), interface="ens3"))
    hosts = {edit.path: edit.text for edit in plan.edits if isinstance(edit, WriteFile)}["/etc/hosts"]
    assert f"127.0.1.1\t{OLD_NAME} template\n" in hosts


# A card of which the files say nothing: what is written, and nothing that was there is touched.
NEW: dict[str, tuple[str, str]] = {
    "netplan": ("/etc/netplan/60-maglica-net525400000033.yaml", f'      match:\n        macaddress: "{THREE}"\n'),
    "networkd": (f"{FOLDER}/00-maglica-525400000033.network", f"[Match]\nMACAddress={THREE}\n"),
    "keyfile": (f"{PROFILES}/maglica-525400000033.nmconnection", f"mac-address={THREE}\n"),
    "ifcfg": (f"{SCRIPTS}/ifcfg-net0033", f"HWADDR={THREE}\n"),
}


@pytest.mark.parametrize("kind", NEW)
def test_a_card_of_which_nothing_is_said_gets_an_entry_of_its_own(kind: str) -> None:
    changes: dict[str, dict[str, str | None]] = {
        "networkd": {f"{FOLDER}/10-one.network": None},  # what is for all cards stays
        "keyfile": {f"{PROFILES}/ens3.nmconnection": None},
        "ifcfg": {f"{SCRIPTS}/ifcfg-eth0": None},
    }
    before = seen(kind, changes.get(kind))
    request = GuestRequest("localhost", (ONE, TWO, THREE), STATIC, card=THREE)
    plan = altering.readdress(before, request)
    path, words = NEW[kind]
    assert list(texts(plan)) == [path]
    assert words in texts(plan)[path]
    assert "10.1.0.9" in texts(plan)[path]
    assert altering.readdress(after(before, plan), request).edits == ()


def test_ifupdown_starts_a_card_by_its_address_where_nothing_names_it() -> None:
    bound = IFUPDOWN.replace("mtu 9000", f"hwaddress ether {TWO}").replace("allow-hotplug ens3", f"auto mac/{ONE}=ens3")
    before = seen("ifupdown", {INTERFACES: bound})
    request = GuestRequest("localhost", (ONE, TWO, THREE), STATIC, card=THREE)
    text = texts(altering.readdress(before, request))[INTERFACES]
    assert text.startswith(bound.rstrip("\n") + "\n")
    assert f"\nauto mac/{THREE}=net0033\niface net0033 inet static\n    address 10.1.0.9\n" in text
    for mac, name in ((ONE, "ens3"), (TWO, "ens4")):
        text = texts(altering.readdress(before, replace(request, card=mac)))[INTERFACES]
        assert f"iface {name} inet static\n    address 10.1.0.9\n" in text


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("/etc/udev/rules.d/70-persistent-net.rules", f'SUBSYSTEM=="net", ATTR{{address}}=="{TWO}", NAME="ens4"\n'),
        ("/etc/systemd/network/10-two.link", f"[Match]\nMACAddress={TWO}\n[Link]\nName=ens4\n"),
    ],
)
def test_a_rule_that_names_cards_tells_which_it_is(file: str, text: str) -> None:
    found = texts(altering.readdress(seen("ifupdown", {file: text}), wish(card=TWO)))
    assert "iface ens4 inet static\n    address 10.1.0.9\n" in found[INTERFACES]
    # By elimination: all other cards are known.
    found = texts(altering.readdress(seen("ifupdown", {file: text}), wish(card=ONE)))
    assert "iface ens3 inet static\n    address 10.1.0.9\n" in found[INTERFACES]


def test_a_rule_of_a_card_that_is_not_there_tells_nothing() -> None:
    rule = f'ATTR{{address}}=="{THREE}", NAME="ens4"\n'
    with pytest.raises(Refused, match="which of ens3, ens4"):
        altering.readdress(seen("ifupdown", {"/etc/udev/rules.d/70-persistent-net.rules": rule}), wish(card=TWO))


def test_a_card_is_never_guessed() -> None:
    with pytest.raises(Refused) as refused:
        altering.readdress(seen("ifupdown"), wish(card=TWO))
    assert refused.value.code == "ambiguous_name"
    assert refused.value.message == f"nothing in the guest says which of ens3, ens4 is the card {TWO}"
    assert refused.value.hint == "say it with --interface=ens3"
    with pytest.raises(Refused, match=f"in the guest lan1 is the card {TWO}, not {ONE}"):
        netplan.edit(
            seen("netplan", {NETPLAN: YAML.replace("      mtu", "      set-name: lan1\n      mtu")}),
            wish(card=ONE, interface="lan1"), Card(ONE, "lan1"),
        )  # fmt: skip


BRIDGES: dict[str, dict[str, str | None]] = {
    "ifupdown": {
        INTERFACES: IFUPDOWN + "\nauto br0\niface br0 inet static\n  address 10.1.0.5/24\n  bridge_ports ens4\n"
    },
    "netplan": {NETPLAN: YAML + "  bridges:\n    br0:\n      interfaces: [lan1]\n      addresses: [10.1.0.5/24]\n"},
    "networkd": {
        f"{FOLDER}/20-two.network": OF_TWO.replace("IPv6AcceptRA=no", "Bridge=br0"),
        f"{FOLDER}/30-br0.network": "[Match]\nName=br0\n\n[Network]\nAddress=10.1.0.5/24\n",
    },
    "keyfile": {
        f"{PROFILES}/two.nmconnection": PROFILE.replace("id=two", "id=two\nmaster=br0\nslave-type=bridge"),
        f"{PROFILES}/br0.nmconnection": "[connection]\nid=br0\ntype=bridge\ninterface-name=br0\n\n[ipv4]\n"
        "method=manual\naddress1=10.1.0.5/24\n",
    },
    "ifcfg": {
        f"{SCRIPTS}/ifcfg-eth1": IFCFG + "BRIDGE=br0\n",
        f"{SCRIPTS}/ifcfg-br0": "DEVICE=br0\nTYPE=Bridge\nBOOTPROTO=none\nIPADDR=10.1.0.5\nPREFIX=24\nONBOOT=yes\n",
    },
}


@pytest.mark.parametrize("kind", BRIDGES)
def test_a_card_of_a_bridge_has_no_address_and_the_bridge_may_get_one(kind: str) -> None:
    before = seen(kind, BRIDGES[kind])
    with pytest.raises(Refused, match="is part of br0") as refused:
        altering.readdress(before, wish(**TREES[kind][2]))
    assert "--interface=br0" in refused.value.hint
    plan = altering.readdress(before, wish(interface="br0"))
    (path,) = texts(plan)
    assert "10.1.0.9" in texts(plan)[path]
    assert "10.1.0.5" in plan.was
    first = {"interface": "ens3"} if kind == "ifupdown" else {"interface": "eth0"} if kind == "ifcfg" else {"card": ONE}
    if kind not in ("netplan", "keyfile"):  # one has routes of its own there, the other no profile
        assert texts(altering.readdress(before, wish(**first))), "a bridge elsewhere is in nobody's way"


@pytest.mark.parametrize(
    ("kind", "changes", "card", "words"),
    [
        ("netplan", {}, {"card": ONE}, "lan0 has routes of its own"),
        ("netplan", {NETPLAN: "network: {version: 2}\n"}, {"card": ONE}, None),
        ("netplan", {NETPLAN: "network:\n  ethernets: {a: {dhcp4: true}}\n"}, {"card": ONE}, "`ethernets:` in a form"),
        ("netplan", {NETPLAN: "network:\n  ethernets:\n    a: {dhcp4: true}\n"}, {"card": ONE}, "says `a:` in a form"),
        (
            "netplan", {NETPLAN: 'network:\n  ethernets:\n    a:\n      match: {name: "en*"}\n      dhcp4: yes\n'},
            {"card": ONE}, "sets up several cards in one",
        ),
        ("networkd", {f"{FOLDER}/20-two.network.d": ""}, {"card": TWO}, "has more settings in"),
    ],
)  # fmt: skip
def test_what_cannot_be_kept_is_refused(
    kind: str, changes: dict[str, str | None], card: dict[str, str], words: str | None
) -> None:
    before = seen(kind, changes)
    if words is None:
        assert texts(altering.readdress(before, wish(**card)))
        return
    with pytest.raises(Refused, match=words) as refused:
        altering.readdress(before, wish(**card))
    assert refused.value.code == "environment_error"
    assert refused.value.hint


def test_ipv6_beside_ipv4() -> None:
    network = Network("2001:db8:1::9/64", "2001:db8:1::1")
    text = texts(altering.readdress(seen("ifupdown"), wish(network, interface="ens4")))[INTERFACES]
    assert (
        "iface ens4 inet6 static\n    address 2001:db8:1::9\n    netmask 64\n    gateway 2001:db8:1::1\n    privext 2\n"
        in text
    )
    assert "    address 10.1.0.5\n" in text
    text = texts(altering.readdress(seen("netplan"), wish(network, card=TWO)))[NETPLAN]
    assert '        - "2001:db8:1::9/64"\n        - "10.1.0.5/24"\n' in text
    assert "gateway4: 10.1.0.1\n" in text
    text = texts(altering.readdress(seen("keyfile"), wish(network, card=TWO)))[f"{PROFILES}/two.nmconnection"]
    assert "address1=10.1.0.5/24,10.1.0.1\n" in text
    assert "[ipv6]\nmethod=manual\naddress1=2001:db8:1::9/64,2001:db8:1::1\n" in text
    text = texts(altering.readdress(seen("ifcfg"), wish(network, card=TWO)))[f"{SCRIPTS}/ifcfg-eth1"]
    assert "IPADDR=10.1.0.5\n" in text
    assert "IPV6ADDR=2001:db8:1::9/64\n" in text


# ------------------------------------------------------------------------------ the only card: back to DHCP, too


@pytest.mark.parametrize(
    "name", ["debian-ifupdown", "debian-networkd", "ubuntu-netplan", "rhel9-keyfile", "centos7-ifcfg", "rhel6"]
)
def test_the_only_card_goes_back_to_dhcp(name: str) -> None:
    before = facts(name)
    mac = "52:54:00:00:00:77"
    static = altering.readdress(before, GuestRequest("localhost", (mac,), Network("10.0.0.9/24", "10.0.0.1")))
    removed = {edit.path for edit in static.edits if type(edit).__name__ == "Remove"}
    middle = after(before, static)
    middle = replace(
        middle, files={path: text for path, text in middle.files.items() if path not in removed},
        paths=middle.paths - removed,
    )  # fmt: skip
    plan = altering.readdress(middle, GuestRequest("localhost", (mac,), Network()))
    written = texts(plan)
    assert written
    assert not any("10.0.0.9" in text for text in written.values())
    assert any("dhcp" in text.lower() or "method=auto" in text for text in written.values())
    assert altering.readdress(after(middle, plan), GuestRequest("localhost", (mac,), Network())).edits == ()
