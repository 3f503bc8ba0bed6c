"""The values that customising a guest is described in: what is wished, what was found, what to do, what to expect.

No file, process or libguestfs object in here: `customize.py` and `network.py` compute with these values, and
`child.py` is the one place that turns them into reads and writes.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from maglica.errors import Refused
from maglica.host_worker.guest.customization import Customization

MAC = re.compile(r"\b[0-9a-f]{2}(?::[0-9a-f]{2}){5}\b", re.IGNORECASE)
HOSTNAME = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)(\.(?!-)[a-z0-9-]{1,63}(?<!-))*", re.IGNORECASE)
CRYPT_HASH = re.compile(r"\$[0-9a-z]{1,12}\$[!-9;-~]{8,300}", re.IGNORECASE)
"""crypt(5): `$id$…`, printable, no colon and no blank. The one-block DES and the empty form are refused on purpose."""
SSH_KEY = re.compile(r"(?:^|\s)(?:ssh-|ecdsa-sha2-|sk-)[a-z0-9@.-]+\s+[A-Za-z0-9+/]{16,}={0,3}(?:\s|$)")

DEBIAN_FAMILY = frozenset({"debian", "ubuntu", "linuxmint", "kalilinux", "raspbian", "devuan", "pop", "neon"})
RHEL_FAMILY = frozenset(
    {
        "redhat-based",
        "rhel",
        "centos",
        "fedora",
        "scientificlinux",
        "oraclelinux",
        "rocky",
        "almalinux",
        "eurolinux",
        "circle",
        "virtuozzolinux",
        "amazonlinux",
    }
)


# ---- what is wished ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Network:
    """How the first network card gets its address. `address` is `ADDR/PREFIX` (IPv4 or IPv6); None means DHCP, and then
    the DHCP server tells the rest."""

    address: str | None = None
    gateway: str | None = None
    dns: tuple[str, ...] = ()
    search: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "dns", tuple(self.dns))
        object.__setattr__(self, "search", tuple(self.search))
        if self.address is None:
            if self.gateway or self.dns or self.search:
                raise Refused("wrong_input", "a gateway or name server needs an address too", "give --ip=ADDR/PREFIX")
            return
        interface = _interface(self.address)
        if self.gateway is not None:
            _check_gateway(self.gateway, interface)
        for server in self.dns:
            _address("name server", server)

    @property
    def interface(self) -> ipaddress.IPv4Interface | ipaddress.IPv6Interface:
        """The static address as a value. Only for a network that is not DHCP."""
        assert self.address is not None
        return _interface(self.address)


SWAP_LABEL = "maglica-swap"  # of a disk that was made for swapping; mkswap(8) takes 15 characters


@dataclass(frozen=True)
class GuestRequest:
    """What the new machine shall be. Building one validates it (`Refused("wrong_input")`).

    `hostname` is the full name, `macs` the addresses of the cards in their order, `ssh_keys` texts in the format of
    authorized_keys (a text may have several lines), `root_password_hash` a crypt(3) string, `custom` what it gets
    beside an identity of its own.
    """

    hostname: str
    macs: tuple[str, ...]
    network: Network = Network()
    ssh_keys: tuple[str, ...] = ()
    root_password_hash: str | None = field(default=None, repr=False)
    custom: Customization = field(default_factory=Customization)
    swap_label: str | None = None  # of the disk that it shall swap to
    card: str | None = None  # MAC of the one card that a new address is for; its first one by default
    interface: str | None = None  # what that card is called in the guest

    def __post_init__(self) -> None:
        object.__setattr__(self, "macs", tuple(mac.lower() for mac in self.macs))
        object.__setattr__(self, "ssh_keys", tuple(_key_lines(self.ssh_keys)))
        if len(self.hostname) > 253 or not HOSTNAME.fullmatch(self.hostname):
            raise Refused("wrong_input", f"hostname {self.hostname!r} is not a host name", "example: vm0.example.jp")
        for mac in self.macs:
            if not MAC.fullmatch(mac):
                raise Refused("wrong_input", f"{mac!r} is not a MAC address", "example: 52:54:00:12:34:56")
        if self.network.address is not None and not self.macs:
            raise Refused("wrong_input", "a static address needs a network card, the machine has none")
        if self.root_password_hash is not None and not CRYPT_HASH.fullmatch(self.root_password_hash):
            # The value itself is never repeated: it might be the password in clear.
            raise Refused(
                "wrong_input",
                "the root password hash is not a crypt(3) string ($id$salt$hash)",
                "make one with: openssl passwd -6",
            )

    @property
    def short_name(self) -> str:
        return self.hostname.split(".", 1)[0]

    def to_map(self) -> dict[str, Any]:
        """Plain types for JSON; `from_map` is the way back. Holds the password hash: for a pipe, never for a log."""
        return asdict(self)

    @classmethod
    def from_map(cls, value: Mapping[str, Any]) -> GuestRequest:
        network = value["network"]
        return cls(
            hostname=value["hostname"],
            macs=tuple(value["macs"]),
            network=Network(network["address"], network["gateway"], tuple(network["dns"]), tuple(network["search"])),
            ssh_keys=tuple(value["ssh_keys"]),
            root_password_hash=value["root_password_hash"],
            custom=Customization.from_map(value["custom"]),
            swap_label=value["swap_label"],
            card=value["card"],
            interface=value["interface"],
        )


def _interface(text: str) -> ipaddress.IPv4Interface | ipaddress.IPv6Interface:
    try:
        if "/" not in text:
            raise ValueError("no prefix length")
        return ipaddress.ip_interface(text)
    except ValueError as error:
        raise Refused("wrong_input", f"{text!r} is not ADDRESS/PREFIX: {error}", "example: 192.0.2.10/24") from error


def _address(what: str, text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address(text)
    except ValueError as error:
        raise Refused("wrong_input", f"{what} {text!r} is not an IP address") from error


def _check_gateway(text: str, interface: ipaddress.IPv4Interface | ipaddress.IPv6Interface) -> None:
    gateway = _address("gateway", text)
    if gateway == interface.ip:
        raise Refused("wrong_input", f"gateway {text} is the machine's own address")
    if gateway not in interface.network and not (gateway.version == 6 == interface.version and gateway.is_link_local):
        raise Refused("wrong_input", f"gateway {text} is not inside {interface.network}")


def _key_lines(texts: Sequence[str]) -> list[str]:
    """One key per entry, comments and blank lines dropped, each key once."""
    lines = [line.strip() for text in texts for line in text.splitlines()]
    keys = list(dict.fromkeys(line for line in lines if line and not line.startswith("#")))
    for key in keys:
        if "PRIVATE KEY" in key:
            raise Refused("wrong_input", "that is a private ssh key", "give the file that ends in .pub")
        if not SSH_KEY.search(key):
            raise Refused("wrong_input", f"not an ssh public key: {key[:40]!r}", "give a file such as id_ed25519.pub")
    return keys


# ---- what was found ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class System:
    """The operating system as libguestfs' inspection names it; `like` is ID_LIKE of os-release."""

    distro: str
    product: str
    major: int
    minor: int = 0
    like: tuple[str, ...] = ()

    @property
    def family(self) -> str | None:
        """`debian`, `rhel`, or None for a system whose ways are not known."""
        if self.distro in DEBIAN_FAMILY or (self.distro == "unknown" and "debian" in self.like):
            return "debian"
        if self.distro in RHEL_FAMILY or (self.distro == "unknown" and {"rhel", "fedora"} & set(self.like)):
            return "rhel"
        return None

    def to_map(self) -> dict[str, Any]:
        return {"family": self.family, "product": self.product, "version": f"{self.major}.{self.minor}"}


@dataclass(frozen=True)
class GuestFacts:
    """What was read from the disk.

    `files`: text of the regular files that were read (undecodable bytes as surrogate escapes), a symbolic link's path
    gives the text of its target. `links`: path to target. `paths`: everything that was found to exist.
    """

    system: System
    files: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    paths: frozenset[str] = frozenset()

    def has(self, *paths: str) -> bool:
        """Does at least one of these paths exist?"""
        return any(path in self.paths for path in paths)

    def text(self, path: str) -> str:
        return self.files.get(path, "")

    def find(self, *patterns: str) -> list[str]:
        """The existing paths that match, sorted. A star does not cross a slash."""
        return sorted(path for path in self.paths if any(path_matches(path, pattern) for pattern in patterns))


def path_matches(path: str, pattern: str) -> bool:
    """Shell pattern matching component by component, as glob(3) does it."""
    have, want = path.split("/"), pattern.split("/")
    return len(have) == len(want) and all(fnmatchcase(one, other) for one, other in zip(have, want, strict=True))


# ---- what to do -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class WriteFile:
    """Replace a file's content in place, so that owner, mode and SELinux label of an existing file stay.

    `mode` None keeps the mode of an existing file and gives 0644 to a new one; `owner` (uid, gid) None keeps the owner
    and gives a new file to root.
    """

    path: str
    text: str = field(repr=False)
    mode: int | None = None
    owner: tuple[int, int] | None = None

    def describe(self) -> str:
        return f"write {self.path}" if self.text else f"write {self.path} (empty)"


@dataclass(frozen=True)
class Remove:
    """Remove a file, a link (not its target) or a directory with everything in it."""

    path: str

    def describe(self) -> str:
        return f"remove {self.path}"


@dataclass(frozen=True)
class MakeDir:
    """Make a directory and its parents. `mode` and `owner` None give 0755 and root to a new one and leave an existing
    one alone."""

    path: str
    mode: int | None = None
    owner: tuple[int, int] | None = None

    def describe(self) -> str:
        return f"make directory {self.path}"


@dataclass(frozen=True)
class Link:
    path: str
    target: str

    def describe(self) -> str:
        return f"link {self.path} to {self.target}"


@dataclass(frozen=True)
class MakeHostKeys:
    """Generate ssh host keys, one pair per kind; whoever applies this makes the keys, no guest code runs."""

    kinds: tuple[str, ...]
    comment: str

    def describe(self) -> str:
        return f"generate ssh host keys ({', '.join(self.kinds)})"


@dataclass(frozen=True)
class Label:
    """Give a file, or a link itself, its SELinux label."""

    path: str
    context: str

    def describe(self) -> str:
        return f"label {self.path} {self.context}"


Edit = WriteFile | Remove | MakeDir | Link | MakeHostKeys | Label


# ---- what to expect afterwards ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class FileIs:
    """The file holds exactly this text (and has this mode and owner, where they are given)."""

    path: str
    text: str = field(repr=False)
    mode: int | None = None
    owner: tuple[int, int] | None = None


@dataclass(frozen=True)
class HasLines:
    """The file has each of these lines."""

    path: str
    lines: tuple[str, ...] = field(repr=False)
    mode: int | None = None


@dataclass(frozen=True)
class Absent:
    """Nothing matches this pattern."""

    path: str


@dataclass(frozen=True)
class Present:
    """The file exists, is not empty, and does not hold the text that was there before (where that is known)."""

    path: str
    mode: int | None = None
    unlike: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class LinkIs:
    """A symbolic link with this target."""

    path: str
    target: str


@dataclass(frozen=True)
class HasLabel:
    """A file, or a link itself, with this SELinux label."""

    path: str
    context: str


Expectation = FileIs | HasLines | Absent | Present | LinkIs | HasLabel


@dataclass(frozen=True)
class Seen:
    """What reading again showed for the path or pattern of one expectation; `mode` holds permission bits only, `target`
    is a link's."""

    paths: tuple[str, ...] = ()
    text: str | None = None
    mode: int | None = None
    owner: tuple[int, int] | None = None
    target: str | None = None
    label: str | None = None


@dataclass(frozen=True)
class Plan:
    """Edits in the order they must be made, and what must be true afterwards.

    `network` is the tool that was configured, `host_keys` is `first-boot`, `written` or `none`.
    """

    edits: tuple[Edit, ...]
    expectations: tuple[Expectation, ...]
    network: str
    host_keys: str
    was: tuple[str, ...] = ()  # the addresses that a card had before
