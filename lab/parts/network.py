"""The lab's network: a bridge in a namespace of its own, a veth to each host, and one to this machine.

The bridge is not in the machine's own namespace because firewalls there (Docker's, for one) also judge bridged frames,
and because nothing is left over when the lab's processes end: interfaces go with their namespaces.
"""

from __future__ import annotations

import ipaddress
import json
import zlib
from collections.abc import Iterable
from pathlib import Path

from . import process
from .names import CLIENT_HOST_PART, Host, Lab, base_folder
from .shell import LabError, run, wait_until, works

SWITCH = "switch"
BRIDGE = "switch"  # the bridge's name inside that namespace
SUBNETS = 250
LIBVIRT_PORT = 16509
MIGRATION_PORTS = "49152-49215"
# A route to a larger network (10.0.0.0/8 of a VPN) is no conflict: the lab's narrower one takes precedence
WIDEST_CONFLICT = 12


def free_subnet(name: str) -> int:
    """X of a 10.77.X.0/24 that no other lab has recorded and no interface or route of this machine touches."""
    taken = set(_recorded_subnets())
    in_use = list(_networks_in_use())
    first = zlib.crc32(name.encode()) % SUBNETS
    for step in range(SUBNETS):
        candidate = (first + step) % SUBNETS + 1
        network = ipaddress.IPv4Network(f"10.77.{candidate}.0/24")
        if candidate not in taken and not any(network.overlaps(other) for other in in_use):
            return candidate
    raise LabError("every network 10.77.X.0/24 is in use on this machine")


def _recorded_subnets() -> Iterable[int]:
    for path in base_folder().glob("*/lab.json"):
        try:
            yield int(json.loads(path.read_text())["subnet"])
        except (OSError, ValueError, KeyError):
            continue


def _networks_in_use() -> Iterable[ipaddress.IPv4Network]:
    for interface in json.loads(run("ip", "-j", "-4", "addr") or "[]"):
        for info in interface.get("addr_info", []):
            yield ipaddress.IPv4Network(f"{info['local']}/{info['prefixlen']}", strict=False)
    for route in json.loads(run("ip", "-j", "-4", "route", "show", "table", "all") or "[]"):
        try:
            network = ipaddress.IPv4Network(route["dst"])
        except ValueError:
            continue  # "default", and types that are no destination
        if network.prefixlen > WIDEST_CONFLICT:
            yield network


def make_switch(lab: Lab) -> None:
    """Start the bridge's namespace and connect this machine to it."""
    record = process.spawn(lab, SWITCH, ["unshare", "--net"], ["sleep", "infinity"])
    own = Path("/proc/self/ns/net").readlink()
    if not wait_until(lambda: Path(f"/proc/{record.pid}/ns/net").readlink() != own, 10, 0.01):
        raise LabError("this machine does not give out network namespaces", 3)
    _inside(record.pid, f"link add {BRIDGE} type bridge forward_delay 0", f"link set {BRIDGE} up")
    _plug(record.pid, "client", 1, lab.interface)
    run("ip", "addr", "add", f"{lab.client_address}/24", "dev", lab.interface)
    run("ip", "link", "set", lab.interface, "up")


def _inside(pid: int, *lines: str) -> None:
    """Run lines of ip(8) in the network namespace of a process."""
    batch = "".join(f"{line}\n" for line in lines)
    run("nsenter", "--target", str(pid), "--net", "ip", "-batch", "-", stdin=batch.encode())


def _plug(switch: int, port: str, namespace: int, interface: str) -> None:
    """A cable: `port` at the bridge, `interface` in the namespace of the process `namespace` (1: this machine's)."""
    target = ["netns", str(namespace)] if namespace != 1 else []
    run("ip", "link", "add", interface, *target, "type", "veth", "peer", "name", port, "netns", str(switch))
    _inside(switch, f"link set {port} master {BRIDGE} up")


def plug_host(lab: Lab, host: Host, init: int) -> None:
    """Connect a host, and give it its address."""
    switch = process.living(lab, SWITCH)
    if switch is None:
        raise LabError(f"lab '{lab.name}' has lost its network; `lab/down` and `lab/up` make it anew")
    _plug(switch.pid, host.name, init, "eth0")
    _inside(init, f"addr add {host.address}/24 dev eth0", "link set eth0 up")
    _close_ports(lab, init)


def _close_ports(lab: Lab, init: int) -> None:
    """Open to the other hosts, closed to this machine: libvirt and migration ports take orders from whoever connects.

    Without it every local user could become root by asking a host's libvirtd. Answers from these ports to this
    machine's address are dropped by routing: that works without a packet filter, and a connection never comes about.
    """
    client = lab.address(CLIENT_HOST_PART)
    rules = [f"rule add to {client} ipproto tcp sport {ports} blackhole" for ports in (LIBVIRT_PORT, MIGRATION_PORTS)]
    _inside(init, *rules)


def remove(interface: str) -> None:
    """Remove this machine's interface of a lab, if it is there, and wait until it is gone."""
    device = Path("/sys/class/net", interface)
    if device.exists():
        works("ip", "link", "delete", interface)
    if not wait_until(lambda: not device.exists(), 10):
        raise LabError(f"the network interface {interface} does not go away")
