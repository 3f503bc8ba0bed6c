"""What must be changed in a clone's file systems so that it is a machine of its own. Pure: values in, values out.

`plan(facts, request)` looks at what was read from the disk and answers with edits and with expectations;
`unmet(expectations, seen)` compares the expectations with what a second reading showed. Planning a disk that is
customised already gives the same texts again, which is what a later check of a disk relies on.

Sources of the facts about guests: machine-id(5), hostname(5), hosts(5), sshd(8), random-seed.service(8), the systemd
page "Building images safely", shadow(5), crypt(5), and the list of operations in virt-sysprep(1).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from maglica.errors import Refused
from maglica.host_worker.guest import selinux, setup
from maglica.host_worker.guest.model import (
    Absent,
    Edit,
    Expectation,
    FileIs,
    GuestFacts,
    GuestRequest,
    HasLabel,
    HasLines,
    LinkIs,
    MakeDir,
    MakeHostKeys,
    Network,
    Plan,
    Present,
    Remove,
    Seen,
    System,
    WriteFile,
)
from maglica.host_worker.guest.network import NETWORK_READ, NETWORK_SEE, network_tool, plan_network

__all__ = [
    "HINT_NONE",
    "READ",
    "SEE",
    "GuestFacts",
    "GuestRequest",
    "Network",
    "Plan",
    "cold",
    "folders",
    "network_tool",
    "patterns",
    "plan",
    "unmet",
]

HINT_NONE = "clone it unchanged with --customize=none, or use an image of the Debian or RHEL family"

LEASES = (
    "/var/lib/dhcp/*.leases",
    "/var/lib/dhcp/*.lease",
    "/var/lib/dhcp3/*.leases",
    "/var/lib/dhclient/*.leases",
    "/var/lib/dhclient/*.lease",
    "/var/lib/dhcpcd/*.lease*",
    "/var/lib/dhcpcd5/*.lease*",
    "/var/lib/dhcpcd/duid",
    "/var/lib/dhcpcd/secret",
    "/etc/dhcpcd.duid",
    "/etc/dhcpcd.secret",
    "/var/lib/NetworkManager/*.lease",
    "/var/lib/NetworkManager/secret_key",
    "/var/lib/NetworkManager/timestamps",
    "/var/lib/NetworkManager/seen-bssids",
    "/var/lib/NetworkManager/no-auto-default.state",
    "/var/lib/systemd/network/*lease*",
)
"""Old leases, and the identifiers that make a DHCP server believe it talks to the old machine."""

SECRETS = (
    "/var/lib/systemd/random-seed",
    "/var/lib/random-seed",
    "/var/lib/urandom/random-seed",
    "/var/lib/misc/random-seed",
    "/boot/loader/random-seed",
    "/boot/efi/loader/random-seed",
    "/efi/loader/random-seed",
    "/var/lib/systemd/credential.secret",
)
"""Randomness that two machines must never share."""

NAMES_OF_STORAGE = ("/etc/nvme/hostnqn", "/etc/nvme/hostid", "/etc/hostid")
"""By what name it speaks to storage of a network: two that bear one throw each other out. nvme-cli takes the machine's
own UUID where there are none (nvme-gen-hostnqn(1)), gethostid(3) its address.
"""
INITIATOR = "/etc/iscsi/initiatorname.iscsi"
MAKES_A_NAME = "GenerateName=yes\n"

CLOUD_INIT = (
    "/var/lib/cloud/instance",
    "/var/lib/cloud/instances/*",
    "/var/lib/cloud/data/*",
    "/var/lib/cloud/sem/*",
    "/var/lib/cloud/handlers/*",
    "/var/log/cloud-init.log",
    "/var/log/cloud-init-output.log",
)
CLOUD_INIT_SETTINGS = "/etc/cloud/cloud.cfg.d/99-maglica.cfg"
"""What keeps cloud-init from undoing name and network of a clone that was customised without it."""

HOST_KEYS = "/etc/ssh/ssh_host_*key*"
FIRST_BOOT_ONLY = re.compile(r"^\s*(Condition|Assert)FirstBoot\s*=", re.MULTILINE)
HOST_KEY_KINDS = ("ed25519", "ecdsa", "rsa")
DROPBEAR_KEYS = "/etc/dropbear/dropbear_*_host_key"
OLD_LOGS = ("/var/log/wtmp", "/var/log/btmp", "/var/log/lastlog")
UNIT_DIRS = ("/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")

READ = (
    "/etc/hostname",
    "/etc/hosts",
    "/etc/mailname",
    "/etc/fstab",
    "/etc/machine-id",
    "/var/lib/dbus/machine-id",
    "/etc/shadow",
    "/etc/sysconfig/network",
    "/etc/sysconfig/sshd",
    "/etc/init.d/ssh",
    "/etc/init.d/sshd",
    CLOUD_INIT_SETTINGS,
    "/root/.ssh/authorized_keys",
    "/etc/ssh/ssh_host_*_key.pub",
    *(f"{unit_dir}/*ssh*.service" for unit_dir in UNIT_DIRS),
    *(f"{unit_dir}/ssh*.service.d/*.conf" for unit_dir in UNIT_DIRS),
    *(f"{unit_dir}/*keygen*" for unit_dir in UNIT_DIRS),
    *selinux.READ,
    *NETWORK_READ,
)
"""Paths and patterns whose text the plan needs."""

SEE = (
    *LEASES,
    *SECRETS,
    *NAMES_OF_STORAGE,
    INITIATOR,
    *CLOUD_INIT,
    *OLD_LOGS,
    HOST_KEYS,
    DROPBEAR_KEYS,
    "/etc",
    "/etc/cloud/cloud.cfg",
    "/root/.ssh",
    "/var/log/journal/*",
    "/usr/sbin/sshd",
    "/usr/lib/systemd/systemd",
    "/lib/systemd/systemd",
    selinux.AUTORELABEL,
    *(f"{unit_dir}/*.wants/*ssh*" for unit_dir in UNIT_DIRS),
    *(f"{unit_dir}/*.wants/*keygen*" for unit_dir in UNIT_DIRS),
    *NETWORK_SEE,
)
"""Paths and patterns of which only the existence (and the target of a link) matters."""


def patterns(request: GuestRequest | None, system: System) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What has to be read, and what to be seen, for this request."""
    read, see = setup.patterns(request, system) if request else ((), ())
    return (*READ, *read), (*SEE, *see)


def key_comment(request: GuestRequest) -> str:
    return f"root@{request.hostname}"


def folders(request: GuestRequest | None) -> tuple[str, ...]:
    """Where something is written beside what every clone gets: what is mounted there is needed."""
    return setup.folders(request) if request else ()


def plan(facts: GuestFacts, request: GuestRequest) -> Plan:
    """Everything that makes the clone a machine of its own.

    Raises `Refused("wrong_input")` for a system whose ways are not known, `Refused("environment_error")` when the
    image has no tool for the network that was asked for.
    """
    if facts.system.family is None:
        raise Refused(
            "wrong_input",
            f"do not know how to customise {facts.system.product or 'this system'} (distro {facts.system.distro!r})",
            HINT_NONE,
        )
    tool, (network_edits, network_expected) = plan_network(facts, request)
    host_keys = _host_keys(facts)
    edits: list[Edit] = []
    expected: list[Expectation] = []
    for part in (
        _old_life, _machine_id, _initiator, hostname, _hosts, _cloud_init, _authorized_keys, _root_password, _swap,
    ):  # fmt: skip
        some_edits, some_expected = part(facts, request)
        edits += some_edits
        expected += some_expected
    edits += network_edits
    expected += network_expected
    if host_keys == "written":
        edits.append(MakeHostKeys(HOST_KEY_KINDS, key_comment(request)))
        expected += _new_keys(facts)
    else:
        expected.append(Absent(HOST_KEYS))
    more_edits, more_expected = setup.part(facts, request, edits, expected)
    edits += more_edits
    expected += more_expected
    more_edits, more_expected = selinux.part(facts, edits)
    edits += more_edits
    expected += more_expected
    return Plan(tuple(edits), tuple(expected), tool, host_keys)


def cold(expectations: Sequence[Expectation]) -> tuple[Expectation, ...]:
    """The expectations that can be checked when nobody knows any more what the image held."""
    return tuple(replace(one, unlike=None) if isinstance(one, Present) else one for one in expectations)


def unmet(expectations: Sequence[Expectation], seen: Mapping[str, Seen]) -> list[str]:
    """One sentence for each expectation that the second reading did not confirm. Never shows a file's content."""
    problems = (_problem(one, seen.get(one.path, Seen())) for one in expectations)
    return [problem for problem in problems if problem]


def _problem(wish: Expectation, seen: Seen) -> str | None:
    if isinstance(wish, Absent):
        return f"{', '.join(seen.paths)} should be gone" if seen.paths else None
    if isinstance(wish, HasLabel):
        return f"{wish.path} has not the SELinux label {wish.context}" if seen.label != wish.context else None
    if isinstance(wish, LinkIs):
        return f"{wish.path} is no link to {wish.target}" if seen.target != wish.target else None
    if seen.text is None:
        return f"{wish.path} is missing"
    if wish.mode is not None and seen.mode != wish.mode:
        return f"{wish.path} has mode {seen.mode or 0:04o}, not {wish.mode:04o}"
    if isinstance(wish, FileIs) and wish.owner is not None and seen.owner != wish.owner:
        return f"{wish.path} does not belong to {wish.owner[0]}:{wish.owner[1]}"
    if isinstance(wish, FileIs) and seen.text != wish.text:
        return f"{wish.path} does not hold what it should"
    if isinstance(wish, HasLines) and not set(wish.lines) <= set(seen.text.splitlines()):
        return f"{wish.path} lacks a line that it should have"
    if isinstance(wish, Present) and seen.text in ("", wish.unlike):
        return f"{wish.path} is still the image's" if seen.text else f"{wish.path} is empty"
    return None


# ---- the parts --------------------------------------------------------------------------------------------------

Part = tuple[list[Edit], list[Expectation]]


def _old_life(facts: GuestFacts, request: GuestRequest) -> Part:
    """What only the old machine may have: leases, seeds, host keys, logs."""
    gone = (*LEASES, *SECRETS, *NAMES_OF_STORAGE)
    paths = facts.find(*gone, HOST_KEYS, DROPBEAR_KEYS)
    old_id = facts.text("/etc/machine-id").strip()
    if re.fullmatch("[0-9a-f]{32}", old_id):
        paths += facts.find(f"/var/log/journal/{old_id}")
    edits: list[Edit] = [Remove(path) for path in paths]
    edits += [WriteFile(path, "") for path in facts.find(*OLD_LOGS)]
    return edits, [Absent(pattern) for pattern in (*gone, DROPBEAR_KEYS)]


def _machine_id(facts: GuestFacts, request: GuestRequest) -> Part:
    return machine_id(facts)


def machine_id(facts: GuestFacts) -> Part:
    """Empty, not missing: systemd fills it at the next boot without taking that for the first boot of a fresh image.

    D-Bus' own copy goes, unless it is a link to systemd's (machine-id(5), dbus-uuidgen(1)).
    """
    edits: list[Edit] = []
    expected: list[Expectation] = []
    if facts.has("/etc/machine-id", "/usr/lib/systemd/systemd", "/lib/systemd/systemd"):
        edits.append(WriteFile("/etc/machine-id", "", 0o444))
        expected.append(FileIs("/etc/machine-id", "", 0o444))
    dbus = "/var/lib/dbus/machine-id"
    if dbus not in facts.links:
        edits += [Remove(dbus)] if facts.has(dbus) else []
        expected.append(Absent(dbus))
    return edits, expected


def _initiator(facts: GuestFacts, request: GuestRequest) -> Part:
    return initiator(facts)


def initiator(facts: GuestFacts) -> Part:
    """The name of an iSCSI initiator is made anew at the next start of its daemon: in Debian where the file asks for
    that, elsewhere (iscsi-init.service) where there is none. iscsid(8), iscsi-iname(8)
    """
    if not facts.has(INITIATOR):
        return [], []
    if facts.system.family == "debian":
        return [WriteFile(INITIATOR, MAKES_A_NAME)], [FileIs(INITIATOR, MAKES_A_NAME)]
    return [Remove(INITIATOR)], [Absent(INITIATOR)]


def hostname(facts: GuestFacts, request: GuestRequest) -> Part:
    """/etc/hostname where the system reads it, HOSTNAME= where it reads that, /etc/mailname where there is one."""
    edits: list[Edit] = []
    name = request.hostname + "\n"
    if not _reads_sysconfig_name(facts) or facts.has("/etc/hostname"):
        edits.append(WriteFile("/etc/hostname", name))
    if facts.has("/etc/mailname"):
        edits.append(WriteFile("/etc/mailname", name))
    network = "/etc/sysconfig/network"
    if _reads_sysconfig_name(facts) or "HOSTNAME=" in facts.text(network):
        edits.append(WriteFile(network, _sysconfig_network(facts.text(network), request.hostname)))
    return edits, [FileIs(edit.path, edit.text) for edit in edits if isinstance(edit, WriteFile)]


def _reads_sysconfig_name(facts: GuestFacts) -> bool:
    """RHEL 6 and older have no /etc/hostname."""
    system = facts.system
    return system.family == "rhel" and system.distro not in ("fedora", "amazonlinux") and 0 < system.major <= 6


def _sysconfig_network(old: str, name: str) -> str:
    """The old default gateway goes too: the file of the card says it, or the DHCP server."""
    keep = [line for line in old.splitlines() if not re.match(r"\s*(HOSTNAME|GATEWAY|GATEWAYDEV)=", line)]
    if not any(line.startswith("NETWORKING=") for line in keep):
        keep.insert(0, "NETWORKING=yes")
    return "\n".join([*keep, f"HOSTNAME={name}"]) + "\n"


def _hosts(facts: GuestFacts, request: GuestRequest) -> Part:
    text = hosts_text(facts.text("/etc/hosts"), old_names(facts), request)
    known = text.splitlines()
    more = request.custom.for_family(facts.system.family).hosts
    text += "".join(f"{line}\n" for line in more if line not in known)
    return [WriteFile("/etc/hosts", text)], [FileIs("/etc/hosts", text)]


def _swap(facts: GuestFacts, request: GuestRequest) -> Part:
    """A line of /etc/fstab for the disk to swap to, found by its label (fstab(5)); what stands there stays."""
    old = facts.text("/etc/fstab")
    if request.swap_label is None or f"LABEL={request.swap_label}" in old:
        return [], []
    text = old + ("" if not old or old.endswith("\n") else "\n") + f"LABEL={request.swap_label} none swap sw 0 0\n"
    return [WriteFile("/etc/fstab", text)], [FileIs("/etc/fstab", text)]


def old_names(facts: GuestFacts) -> set[str]:
    """How the image calls itself, in full and short, in lower case."""
    found = re.findall(r"^\s*HOSTNAME=[\"']?([^\s\"']+)", facts.text("/etc/sysconfig/network"), re.MULTILINE)
    words = facts.text("/etc/hostname").split()
    full = {name.lower() for name in [*words[:1], *found]}
    return full | {name.split(".", 1)[0] for name in full}


def hosts_text(old: str, old_names: set[str], request: GuestRequest) -> str:
    """/etc/hosts with one line for the machine itself where its old self stood; all other lines stay as they are.

    The line carries the static address, or 127.0.1.1 when the address comes by DHCP (Debian's custom, harmless
    elsewhere). Names that every machine needs (localhost and its like) are never taken for the old name.
    """
    own_names = list(dict.fromkeys([request.hostname, request.short_name]))
    address = str(request.network.interface.ip) if request.network.address else "127.0.1.1"
    own_line = f"{address}\t{' '.join(own_names)}"
    strangers = {name for name in old_names | {own.lower() for own in own_names} if not name.startswith("localhost")}
    out: list[str] = []
    place: int | None = None
    for line in old.splitlines() or ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback"]:
        kept = _without_names(line, strangers)
        if kept != line and place is None:
            place = len(out)
        if kept is not None:
            out.append(kept)
            if kept.split()[:1] == ["127.0.0.1"] and kept != line:
                place = len(out)
    if place is None:
        place = 1 + max((at for at, line in enumerate(out) if line.split()[:1] == ["127.0.0.1"]), default=len(out) - 1)
    return "\n".join([*out[:place], own_line, *out[place:]]) + "\n"


def _without_names(line: str, names: set[str]) -> str | None:
    """The line without these names; None when nothing but an address would be left of it."""
    words = line.split("#", 1)[0].split()
    if not words:
        return line
    if words[0] == "127.0.1.1":
        return None
    keep = [word for word in words[1:] if word.lower() not in names]
    if len(keep) == len(words) - 1:
        return line
    return f"{words[0]}\t{' '.join(keep)}" if keep else None


def _cloud_init(facts: GuestFacts, request: GuestRequest) -> Part:
    """Forget the old instance, and keep cloud-init from undoing name and network; its other modules stay usable."""
    edits: list[Edit] = [Remove(path) for path in facts.find(*CLOUD_INIT)]
    expected: list[Expectation] = [Absent(pattern) for pattern in CLOUD_INIT[:2]]
    if facts.has("/etc/cloud/cloud.cfg"):
        path = CLOUD_INIT_SETTINGS
        text = "preserve_hostname: true\nmanage_etc_hosts: false\nnetwork:\n  config: disabled\n"
        edits += [MakeDir("/etc/cloud/cloud.cfg.d"), WriteFile(path, text)]
        expected.append(FileIs(path, text))
    return edits, expected


def _authorized_keys(facts: GuestFacts, request: GuestRequest) -> Part:
    if not request.ssh_keys:
        return [], []
    path = "/root/.ssh/authorized_keys"
    lines = facts.text(path).splitlines()
    known = {line.strip() for line in lines}
    text = "\n".join([*lines, *(key for key in request.ssh_keys if key not in known)]) + "\n"
    return [MakeDir("/root/.ssh", 0o700), WriteFile(path, text, 0o600)], [HasLines(path, request.ssh_keys, 0o600)]


def _root_password(facts: GuestFacts, request: GuestRequest) -> Part:
    """Only the hash in root's line changes (shadow(5), field 2); a forced change (field 3 = 0) is lifted."""
    if request.root_password_hash is None:
        return [], []
    if "/etc/shadow" not in facts.files:
        raise Refused("environment_error", "the image has no /etc/shadow, cannot set root's password")
    lines = facts.text("/etc/shadow").splitlines()
    old = next((line for line in lines if line.startswith("root:")), "root::::::::")
    fields = old.split(":")
    fields[1] = request.root_password_hash
    if len(fields) > 2 and fields[2] == "0":
        fields[2] = ""
    own_line = ":".join(fields)
    lines = [own_line if line == old else line for line in lines] if old in lines else [own_line, *lines]
    return [WriteFile("/etc/shadow", "\n".join(lines) + "\n")], [HasLines("/etc/shadow", (own_line,))]


# ---- ssh host keys ----------------------------------------------------------------------------------------------


def _host_keys(facts: GuestFacts) -> str:
    """`none` without an OpenSSH server, `first-boot` when the image makes missing keys itself, else `written`."""
    if not facts.has("/usr/sbin/sshd"):
        return "none"
    return "first-boot" if _regenerates(facts) else "written"


def _regenerates(facts: GuestFacts) -> bool:
    """Does something that runs at every boot make missing host keys?

    RHEL 7: sshd.service wants sshd-keygen.service; RHEL 8 and Fedora: it wants sshd-keygen.target; RHEL 6: the init
    script does it; others: an enabled unit of the image, whose name or text speaks of keygen. Debian has none: its
    package makes keys when it is installed. What runs at the first boot alone (Debian 13) does not count: to systemd,
    a clone's first boot is none. Nor does cloud-init: without a data source it does not run.
    """
    if any("keygen" in text and FIRST_BOOT_ONLY.search(text) for text in facts.files.values()):
        return False
    if re.search(r"^\s*AUTOCREATE_SERVER_KEYS=[\"']?NO\b", facts.text("/etc/sysconfig/sshd"), re.MULTILINE | re.I):
        return False
    if "keygen" in facts.text("/etc/init.d/sshd") or "ssh-keygen" in facts.text("/etc/init.d/ssh"):
        return True
    daemon = [
        text
        for path, text in facts.files.items()
        if re.search(r"/system/sshd?\.service(\.d/[^/]+\.conf)?$", path) and "keygen" in text
    ]
    enabled = [path.rsplit("/", 1)[1] for path in facts.paths if ".wants/" in path]
    helpers = [
        path
        for path, text in facts.files.items()
        if path.rsplit("/", 1)[1] in enabled and ("ssh-keygen" in text or "keygen" in path.rsplit("/", 1)[1])
    ]
    masked = any(
        target == "/dev/null" and re.search(r"/sshd?-keygen\.(service|target)$", path)
        for path, target in facts.links.items()
    )
    return bool(daemon or helpers) and not masked


def _new_keys(facts: GuestFacts) -> list[Expectation]:
    expected: list[Expectation] = []
    for kind in HOST_KEY_KINDS:
        path = f"/etc/ssh/ssh_host_{kind}_key"
        old = facts.files.get(f"{path}.pub")
        expected += [Present(path, 0o600), Present(f"{path}.pub", 0o644, unlike=old)]
    stale = [path for path in facts.find(HOST_KEYS) if not re.search(r"_(ed25519|ecdsa|rsa)_key(\.pub)?$", path)]
    return expected + [Absent(path) for path in stale]
