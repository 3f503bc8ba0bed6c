"""ifupdown: /etc/network/interfaces. Facts from interfaces(5)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from maglica.host_worker.guest.model import Absent, Edit, GuestFacts, GuestRequest, MakeDir, Remove
from maglica.host_worker.guest.net.common import MARK, VIRTUAL, Part, foreign, kept, write

INTERFACES = "/etc/network/interfaces"
IFUP = ("/usr/sbin/ifup", "/sbin/ifup")
READ = (INTERFACES, f"{INTERFACES}.d/*", "/etc/default/grub")
SEE = IFUP


@dataclass(frozen=True)
class Stanza:
    """One `iface` stanza; `options` as they stand, in lower-case keys."""

    name: str
    family: str
    method: str
    options: tuple[tuple[str, str], ...]


def stanzas(text: str) -> list[Stanza]:
    """The `iface` stanzas of a file in the format of interfaces(5)."""
    found: list[Stanza] = []
    inside = False
    for words in statements(text):
        if words[0] == "iface" and len(words) >= 4:
            found.append(Stanza(words[1], words[2], words[3], ()))
            inside = True
        elif starts_stanza(words[0]):
            inside = False
        elif inside:
            last = found[-1]
            option = (words[0].lower(), " ".join(words[1:]))
            found[-1] = Stanza(last.name, last.family, last.method, (*last.options, option))
    return found


def statements(text: str) -> Iterator[list[str]]:
    for line in text.replace("\\\n", " ").splitlines():
        words = line.split()
        if words and not words[0].startswith("#"):
            yield words


def starts_stanza(word: str) -> bool:
    known = ("iface", "auto", "mapping", "source", "source-directory", "rename", "no-auto-down")
    return word in known or word.startswith(("allow-", "no-scripts"))


def interface_files(facts: GuestFacts) -> list[str]:
    return [path for path in (INTERFACES, *facts.find(f"{INTERFACES}.d/*")) if path in facts.files]


def cards(facts: GuestFacts) -> list[str]:
    """Names of the cards that ifupdown configures in the image, in the order of its files."""
    names = [one.name for path in interface_files(facts) for one in stanzas(facts.text(path))]
    return list(dict.fromkeys(name for name in names if not VIRTUAL.match(name)))


def edit(facts: GuestFacts, request: GuestRequest) -> Part:
    if request.network.address is None and _works(facts, request):
        return kept(facts, interface_files(facts))
    sources = [line for line in facts.text(INTERFACES).splitlines() if line.lstrip().startswith("source")]
    names = cards(facts)
    starts = [f"auto {_starter(facts, name, request)}" for name in names]
    if not names:
        names, starts = _guessed_names(facts, request)
    parts = [MARK, *(f"{line}\n" for line in sources), "\nauto lo\niface lo inet loopback\n"]
    for at, (name, start) in enumerate(zip(names, starts, strict=True)):
        parts.append(f"\n{start if at == 0 else start.replace('auto', 'allow-hotplug', 1)}\n")
        parts.append(iface_text(name, request) if at == 0 else f"iface {name} inet dhcp\n")
    writes, expected = write(INTERFACES, "".join(parts))
    edits: list[Edit] = [MakeDir(INTERFACES.rsplit("/", 1)[0]), *writes]
    for path in interface_files(facts)[1:]:
        if any(one.name != "lo" for one in stanzas(facts.text(path))):
            edits.append(Remove(path))
            expected.append(Absent(path))
    return edits, expected


def _works(facts: GuestFacts, request: GuestRequest) -> bool:
    """Is there a card that starts by itself and asks by DHCP, and nothing of the old machine beside it?"""
    texts = [facts.text(path) for path in interface_files(facts)]
    found = [one for text in texts for one in stanzas(text) if one.name != "lo"]
    started = {
        word
        for text in texts
        for words in statements(text)
        if words[0] in ("auto", "allow-auto", "allow-hotplug")
        for word in words[1:]
    }
    started |= {word.split("=", 1)[1] for word in started if "=" in word}
    options = [option for one in found for option in one.options]
    old = any(one.method == "static" for one in found) or any(foreign(text, request) for text in texts)
    bound = any(
        key == "hwaddress" or (key == "hostname" and value not in (request.hostname, request.short_name))
        for key, value in options
    )
    return not old and not bound and any(one.method == "dhcp" and one.name in started for one in found)


def _guessed_names(facts: GuestFacts, request: GuestRequest) -> tuple[list[str], list[str]]:
    """Names for an image that configures no card."""
    if not starts_by_mac(facts) or "net.ifnames=0" in facts.text("/etc/default/grub") or not request.macs:
        return ["eth0"], ["auto eth0"]
    names = [f"net{at}" for at in range(len(request.macs))]
    return names, [f"auto mac/{mac}={name}" for mac, name in zip(request.macs, names, strict=True)]


def starts_by_mac(facts: GuestFacts) -> bool:
    """ifupdown of Debian 10 and later can start a card by its MAC; busybox cannot."""
    busybox = any("busybox" in facts.links.get(path, "") for path in IFUP)
    return not busybox and facts.system.major >= (18 if facts.system.distro == "ubuntu" else 10)


def _starter(facts: GuestFacts, name: str, request: GuestRequest) -> str:
    """The name itself, or the pattern (`mac/…=name`) that already stands for it."""
    words = [word for path in interface_files(facts) for words in statements(facts.text(path)) for word in words]
    return next((word for word in words if word.endswith(f"={name}") and not foreign(word, request)), name)


def iface_text(name: str, request: GuestRequest) -> str:
    network = request.network
    if network.address is None:
        return f"iface {name} inet dhcp\n    hostname {request.short_name}\n"
    at = network.interface
    # An IPv4 mask of its own line is understood by every ifupdown and by busybox as well.
    mask = str(at.netmask) if at.version == 4 else str(at.network.prefixlen)
    lines = [f"iface {name} {'inet' if at.version == 4 else 'inet6'} static", f"    address {at.ip}"]
    lines.append(f"    netmask {mask}")
    if network.gateway:
        lines.append(f"    gateway {network.gateway}")
    if network.dns:
        lines.append(f"    dns-nameservers {' '.join(network.dns)}")
    if network.search:
        lines.append(f"    dns-search {' '.join(network.search)}")
    return "\n".join(lines) + "\n"
