"""Settings: one tree with defaults, read from an INI file, checked, and frozen.

The only file that imports configparser. An unknown section or key is an error that names file, line and the nearest
known word.
"""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from maglica import customizing, kinds
from maglica.declare import ROLES, Record, arg, nearest
from maglica.errors import Refused
from maglica.keys import ADMIN_FILE, Key


class ClientSection(Record):
    """The client worker, and how to reach it."""

    address: str = arg(kinds.ADDRESS, "where the client worker is reached", default="127.0.0.1")
    bind: str = arg(kinds.BIND, "address of its own that the client worker listens on", default="*")
    pub_port: int = arg(kinds.PORT, "port of the PUB endpoint", default=5555)
    rep_port: int = arg(kinds.PORT, "port of the REP endpoint", default=5556)
    security: str = arg(kinds.choice("curve", "none"), "curve: encrypted, and nobody without a key", default="curve")
    i_know_this_is_open: bool = arg(kinds.BOOL, "security = none also where others can reach the ports", default=False)
    key: str | None = arg(kinds.TEXT, "key file of the command line and the library", default=None)
    customize_profile: str | None = arg(
        kinds.NAME, "[customize NAME] that clones get when nothing else is said", default=None
    )
    beat: float = arg(kinds.duration(0.1), "how often a host reports", default=2.0)
    read_timeout: float = arg(kinds.duration(0.1), "how long a live read waits for a host", default=5.0)
    keep_jobs: float = arg(kinds.DURATION, "how long ended jobs are kept", default=30 * 86400.0)
    keep_audit: float = arg(kinds.DURATION, "how long it is kept who asked for what", default=180 * 86400.0)
    store_reserve: int = arg(kinds.SIZE, "free room of its disk below which no jobs are accepted", default=64 << 20)
    queue_limit: int = arg(kinds.integer(1, 1_000_000), "open jobs beyond which new ones are refused", default=10_000)
    copy_image: str = arg(
        kinds.choice("auto", "never"),
        "auto: when no host that has an image has room for a clone, it is copied to one that has",
        default="never",
    )
    forks: int = arg(kinds.integer(1, 1000), "VMs of a fleet that are worked on side by side", default=10)
    protected_names: list[str] = arg(
        kinds.list_of(kinds.TEXT),
        "names that no fleet may have, such as prod*",
        default=["domain*", "dom0", "localhost"],
    )
    request_rate: int = arg(
        kinds.integer(10, 1_000_000), "requests a second beyond which one peer is turned down", default=5000
    )
    stream_limit: int = arg(kinds.integer(1, 512), "consoles and displays that one key may have open", default=32)
    stream_rate: int = arg(
        kinds.SIZE, "bytes a second that all consoles and displays of one key may take together", default=16 << 20
    )
    memory_limit: int = arg(
        kinds.SIZE, "of the client worker; from half of it on, peers that pile up are cut off", default=512 << 20
    )


class HostWorkerSection(Record):
    """A host worker."""

    name: str | None = arg(kinds.HOST, "the name of this host; its full host name by default", default=None)
    libvirt_uri: str = arg(kinds.URI, "the local libvirtd", default="qemu:///system")
    acceleration: str = arg(kinds.choice("auto", "kvm", "tcg"), "auto probes whether KVM really works", default="auto")
    slots_quick: int = arg(kinds.integer(1, 64), "quick jobs side by side", default=8)
    slots_disk: int = arg(kinds.integer(1, 64), "jobs that copy disks side by side", default=2)
    slots_guest: int = arg(kinds.integer(1, 64), "jobs that work inside guests side by side", default=2)
    slots_move: int = arg(kinds.integer(1, 64), "moves of VMs to other hosts side by side", default=1)
    pool: str | None = arg(kinds.NAME, "pool for new disks; the one with most room by default", default=None)
    memory_reserve: int = arg(kinds.SIZE, "memory that guests never get", default=512 << 20)
    pool_reserve: int = arg(kinds.SIZE, "room that every pool keeps free", default=256 << 20)
    pool_reserves: list[str] = arg(kinds.list_of(kinds.RESERVE), "room that single pools keep free instead", default=[])
    disk_limit: int = arg(kinds.SIZE, "a VM's disk may be as large as that", default=16 << 40)
    clone_modes: list[str] = arg(
        kinds.list_of(kinds.choice("reflink", "linked", "thin", "full")),
        "what --mode=auto tries, in this order; what is left out has to be asked for",
        default=["reflink", "linked", "thin", "full"],
    )
    thin_limit: float = arg(
        kinds.number(1, 100),
        "how full, in percent, a thin pool or its metadata may be to take another clone",
        default=90.0,
    )
    customize_timeout: float = arg(kinds.DURATION, "how long the work inside a guest's disks may take", default=600.0)
    warm_appliances: int = arg(
        kinds.integer(0, 16),
        "libguestfs appliances that are kept for the next clone; 0: each clone launches its own",
        default=2,
    )
    warm_idle: float = arg(
        kinds.DURATION, "how long an appliance is kept for an image that nobody clones", default=300.0
    )
    warm_memory: int = arg(kinds.SIZE, "memory of a kept appliance", default=384 << 20)
    warm_timeout: float = arg(
        kinds.DURATION,
        "how long one clone may take in a kept appliance before a new one takes its place",
        default=120.0,
    )
    upgrade_timeout: float = arg(kinds.DURATION, "how long the upgrade of an image's packages may take", default=3600.0)
    export_dir: str = arg(kinds.PATH, "where exported disks are written", default="/var/lib/maglica/export")
    export_url: str | None = arg(kinds.TEXT, "where that directory is published", default=None)
    import_dir: str = arg(
        kinds.PATH, "the only folder whose files may be imported as images", default="/var/lib/maglica/import"
    )
    copy_address: str | None = arg(
        kinds.ADDRESS, "where other hosts reach this one; as the client worker sees it by default", default=None
    )
    copy_ports: str = arg(kinds.PORTS, "ports on which images are served to other hosts", default="5560-5579")
    stop_grace: float = arg(kinds.DURATION, "how long running jobs may go on when the worker is stopped", default=20.0)


class PathsSection(Record):
    """Where things are kept."""

    state: str = arg(kinds.PATH, "job store and journal", default="/var/lib/maglica")
    keys: str = arg(kinds.PATH, "keys", default="/etc/maglica/keys")


class LogSection(Record):
    """Log lines, on stderr."""

    level: str = arg(kinds.choice("debug", "info", "warning", "error"), "the least that is logged", default="info")


class HostSection(Record):
    """What the client worker knows of one host; the section is called [host NAME]."""

    weight: float = arg(kinds.number(0, 1000), "share of new VMs; 0 takes none by itself", default=10.0)


class RoleSection(Record):
    """A role of one's own, narrower than the one it is based on; the section is called [role NAME]."""

    base: str = arg(kinds.choice(*ROLES), "the role that it narrows")
    actions: list[str] = arg(kinds.list_of(kinds.TEXT), "only these, such as vm start, vm stop, job *", default=["*"])
    vms: list[str] = arg(kinds.list_of(kinds.TEXT), "only VMs called so, such as ci-*", default=["*"])
    hosts: list[str] = arg(kinds.list_of(kinds.TEXT), "only on these hosts", default=["*"])


class CustomizeSection(Record):
    """A profile that clones are customised with; the section is called [customize NAME]. What only one family of
    systems gets stands in [customize NAME debian] or [customize NAME rhel]. Files are named by absolute paths on the
    client worker's machine, which reads them when it reads the settings.
    """

    write: list[str] = arg(customizing.LINES, "files to write: a line PATH:CONTENT each", default=())
    upload: list[str] = arg(customizing.LINES, "files to copy in: a line LOCAL:REMOTE each", default=())
    user: list[str] = arg(
        customizing.LINES,
        "users: a line NAME:sudo:groups=G,…:key=FILE:password-hash=@FILE each",
        default=(),
        secret=True,
    )
    run_at_first_boot: list[str] = arg(customizing.LINES, "commands, a line each, run in this order", default=())
    hosts: list[str] = arg(customizing.LINES, "lines for /etc/hosts: ADDRESS NAME…", default=())
    dns_search: list[str] = arg(customizing.SEARCH, "domains to look names up in, with a static address", default=[])
    ssh_key: str | None = arg(kinds.TEXT, "file with public keys that may log in as root", default=None)
    root_password_hash: str | None = arg(kinds.TEXT, "root's password as a hash, or @FILE", default=None, secret=True)
    timezone: str | None = arg(customizing.TIMEZONE, "time zone", default=None)
    locale: str | None = arg(customizing.LOCALE, "locale", default=None)
    keyboard: str | None = arg(customizing.KEYBOARD, "keyboard layout", default=None)
    images: list[str] = arg(
        kinds.list_of(kinds.TEXT), "images whose clones get it without being asked, such as debian*", default=[]
    )


SECTIONS: dict[str, type[Record]] = {
    "client": ClientSection,
    "host_worker": HostWorkerSection,
    "paths": PathsSection,
    "log": LogSection,
}

# Roles that no section can define: people's, a host's, and that of somebody who is not known.
BUILT_IN = (*ROLES, "host", "stranger")

# Sections of which there may be many: [host NAME], [role NAME], [customize NAME] and [customize NAME FAMILY].
NAMED: dict[str, type[Record]] = {"host": HostSection, "role": RoleSection, "customize": CustomizeSection}


class Settings:
    """All settings; built once, handed down, never changed. `origins` says where each value comes from."""

    __slots__ = ("client", "customize", "file", "host_worker", "hosts", "log", "origins", "paths", "roles")

    client: ClientSection
    host_worker: HostWorkerSection
    paths: PathsSection
    log: LogSection

    def __init__(self, sections: Mapping[str, Record], named: dict[str, dict[str, Any]], file: str | None) -> None:
        for name, section in sections.items():
            object.__setattr__(self, name, section)
        object.__setattr__(self, "hosts", named["host"])
        object.__setattr__(self, "roles", named["role"])
        object.__setattr__(self, "customize", named["customize"])
        object.__setattr__(self, "file", file)
        object.__setattr__(self, "origins", {})

    hosts: dict[str, HostSection]
    roles: dict[str, RoleSection]
    customize: dict[str, CustomizeSection]
    file: str | None
    origins: dict[tuple[str, str], str]

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("settings are frozen")

    def section(self, name: str) -> Record:
        found: Record = getattr(self, name)
        return found


def find(explicit: str | None = None) -> str | None:
    """The settings file in effect, or None. An explicit one must exist.

    Looked up in this order: `explicit`, MAGLICA_CONFIG, etc/maglica.conf beside bin/ of a source checkout,
    /etc/maglica/maglica.conf, /etc/maglica.conf.
    """
    wanted = explicit or os.environ.get("MAGLICA_CONFIG")
    if wanted:
        if not os.path.exists(wanted):
            raise Refused(
                "wrong_input", f"the settings file {wanted} does not exist", "check --config or MAGLICA_CONFIG"
            )
        return wanted
    checkout = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "etc", "maglica.conf")
    usual = [checkout, "/etc/maglica/maglica.conf", "/etc/maglica.conf"]
    return next((path for path in usual if os.path.exists(path)), None)


def load(file: str | None, overrides: Mapping[tuple[str, str], tuple[str, str]] | None = None) -> Settings:
    """Read and check settings.

    `file` may be None: defaults. `overrides` maps (section, key) to (value, origin), such as
    `{("client", "address"): ("10.0.0.1", "--client")}`. Raises `Refused` with file, line and the nearest known word.
    """
    text = _read(file) if file else ""
    parser = _parse(text, file or "")
    values: dict[str, dict[str, str]] = {name: {} for name in SECTIONS}
    named: dict[str, dict[str, Any]] = {word: {} for word in NAMED}
    origins: dict[tuple[str, str], str] = {}
    for title in parser.sections():
        section = _section_type(title, text, file or "")
        found = dict(parser.items(title))
        for key in found:
            _known_key(section, title, key, text, file or "")
            origins[title, key] = f"{file}:{_line(text, title, key)}"
        if section in NAMED.values():
            word, name = title.split()[0], _own_name(title, text, file or "")
            if name in named[word]:
                raise Refused("wrong_input", f"{file}:{_line(text, title)}: [{word} {name}] occurs twice")
            values_of = _checked(section, title, found, origins)
            try:
                named[word][name] = section(**values_of)
            except Refused as error:
                where = f"{file}:{_line(text, title)}: [{word} {name}]"
                raise Refused("wrong_input", f"{where}: {error.message}", error.hint) from None
        else:
            values[title] = found
    for (title, key), (value, origin) in (overrides or {}).items():
        values[title][key] = value
        origins[title, key] = origin
    sections = {name: SECTIONS[name](**_checked(SECTIONS[name], name, values[name], origins)) for name in SECTIONS}
    settings = Settings(sections, named, file)
    settings.origins.update(origins)
    return settings


class Reread(NamedTuple):
    """Settings after another look at their file. `now`: in effect from now on. `changed`: what is new in them, and
    `waits` what is new in the file and takes effect at the next start only, both as people write them.
    """

    now: Settings
    changed: list[str]
    waits: list[str]


def reread(
    old: Settings,
    live: Mapping[str, frozenset[str]],
    overrides: Mapping[tuple[str, str], tuple[str, str]] | None = None,
) -> Reread:
    """Read the file again.

    `live`: the sections that matter to this process, and the keys of each that may change while it runs; `host` among
    them stands for all [host NAME], `role` for all [role NAME], `customize` for all profiles. Raises `Refused` as
    `load` does; the old settings are as good as before then.
    """
    new = load(old.file, overrides)
    changed, waits = [], []
    sections = {}
    for title in SECTIONS:
        before, after = old.section(title).values(), new.section(title).values()
        kept = {}
        for key in after:
            if before[key] == after[key] or title not in live:
                continue
            if key in live[title]:
                changed.append(f"[{title}] {key}")
            else:
                waits.append(f"[{title}] {key}")
                kept[key] = before[key]
        sections[title] = SECTIONS[title](**{**after, **kept})
    named = {}
    several: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        ("host", old.hosts, new.hosts), ("role", old.roles, new.roles), ("customize", old.customize, new.customize)
    ]  # fmt: skip
    for word, before, after in several:
        names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
        (changed if word in live else waits).extend(f"[{word} {name}]" for name in names)
        named[word] = after if word in live else before
    settings = Settings(sections, named, new.file)
    settings.origins.update(new.origins)
    return Reread(settings, changed, waits)


def client_overrides(client: str | None, origin: str) -> dict[tuple[str, str], tuple[str, str]]:
    """What `--client=ADDRESS[:REP_PORT]` means as overrides."""
    if not client:
        return {}
    bare = client.removeprefix("tcp://")
    # An IPv6 address is full of colons: only in brackets can a port follow it.
    parts = re.fullmatch(r"\[([^]]*)\](?::(\d+))?", bare) or re.fullmatch(r"([^:]*)(?::(\d+))?", bare)
    address, port = parts.groups() if parts else (bare, None)
    found = {("client", "address"): (address, origin)}
    if port is not None:
        found["client", "rep_port"] = (port, origin)
    return found


def from_environment(client: str | None = None, file: str | None = None, key: str | None = None) -> Settings:
    """The settings of a command or a program: `client`, `file` and `key` where given, otherwise the environment's."""
    overrides = client_overrides(os.environ.get("MAGLICA_CLIENT"), "MAGLICA_CLIENT")
    overrides |= client_overrides(client, "--client")
    for value, origin in ((os.environ.get("MAGLICA_KEY"), "MAGLICA_KEY"), (key, "--key")):
        if value:
            overrides["client", "key"] = (value, origin)
    return load(find(file), overrides)


def usual_keys(settings: Settings) -> list[str]:
    """Where the key of whoever runs a command is looked for, when nothing says where it is: a person's own, and the
    administrator's on the client worker's machine.
    """
    folder = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return [os.path.join(folder, "maglica", "key"), os.path.join(settings.paths.keys, ADMIN_FILE)]


def reach(settings: Settings, key: Key | None) -> tuple[str, int, int]:
    """(address, PUB port, REP port) of the client worker. What the settings leave open, the key says."""
    client, told = settings.client, settings.origins
    if key is None or not key.address:
        return client.address, client.pub_port, client.rep_port
    return (
        client.address if ("client", "address") in told else key.address,
        client.pub_port if ("client", "pub_port") in told else key.pub_port,
        client.rep_port if ("client", "rep_port") in told else key.rep_port,
    )


def host_name(settings: Settings) -> str:
    """The name of this host: the setting, or its full host name."""
    import socket  # 2 ms that only daemons have to spend

    return settings.host_worker.name or socket.getfqdn()


def _read(file: str) -> str:
    try:
        with open(file, encoding="utf-8") as opened:
            return opened.read()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise Refused("wrong_input", f"cannot read the settings file {file}: {reason}") from None


def _parse(text: str, file: str) -> configparser.ConfigParser:
    # No interpolation: a % in a path is a %. No other delimiters: a : in an address is a :.
    parser = configparser.ConfigParser(
        interpolation=None,
        delimiters=("=",),
        comment_prefixes=("#", ";"),
        default_section="\0",
        empty_lines_in_values=False,
    )
    parser.optionxform = _plain_key  # type: ignore[assignment,method-assign]
    try:
        parser.read_string(text, file)
    except configparser.Error as error:
        line = getattr(error, "lineno", None) or next((number for number, _ in getattr(error, "errors", [])), None)
        where = f"{file}:{line}" if line else file
        what = type(error).__name__.removesuffix("Error")
        words = {
            "MissingSectionHeader": "a line stands before the first [section]",
            "DuplicateOption": f"{getattr(error, 'option', '')} is set twice in [{getattr(error, 'section', '')}]",
            "DuplicateSection": f"[{getattr(error, 'section', '')}] occurs twice",
        }
        raise Refused("wrong_input", f"{where}: {words.get(what, 'expected key = value')}") from None
    return parser


def _plain_key(key: str) -> str:
    """`i-know-this-is-open` and `I_know_this_is_open` are one key."""
    return key.strip().lower().replace("-", "_")


def _section_type(title: str, text: str, file: str) -> type[Record]:
    kind = re.fullmatch(r"(\S+)\s+\S+(?:\s+(\S+))?", title)
    if kind and kind[1] in NAMED and (not kind[2] or (kind[1] == "customize" and kind[2] in customizing.FAMILIES)):
        return NAMED[kind[1]]
    if title in SECTIONS:
        return SECTIONS[title]
    names = [*SECTIONS, *(f"{word} NAME" for word in NAMED)]
    close = nearest(title, names)
    known = ", ".join(f"[{name}]" for name in names)
    hint = f"did you mean [{close}]?" if close else f"known are {known}"
    raise Refused("wrong_input", f"{file}:{_line(text, title)}: unknown section [{title}]", hint)


def _own_name(title: str, text: str, file: str) -> str:
    """The NAME of a [host NAME], [role NAME] or [customize NAME]; of a [customize NAME FAMILY] both words."""
    family = title.split()[2:]
    try:
        name = str(kinds.HOST.check(title.split()[1]))
    except ValueError as error:
        where = f"{file}:{_line(text, title)}"
        raise Refused("wrong_input", f"{where}: [{title}]: {error}", f"expected {kinds.HOST.expected}") from None
    if title.startswith("role") and name in BUILT_IN:
        where = f"{file}:{_line(text, title)}"
        raise Refused("wrong_input", f"{where}: [{title}]: that role is built in", "choose another name")
    if title.startswith("customize") and name == "none":
        where = f"{file}:{_line(text, title)}"
        raise Refused("wrong_input", f"{where}: [{title}]: none means no profile", "choose another name")
    return " ".join([name, *family])


def _known_key(section: type[Record], title: str, key: str, text: str, file: str) -> None:
    if key not in section.FIELDS:
        close = nearest(key, section.FIELDS)
        hint = f"did you mean {close}?" if close else f"known are {', '.join(section.FIELDS)}"
        raise Refused("wrong_input", f"{file}:{_line(text, title, key)}: unknown key {key} in [{title}]", hint)


def _checked(
    section: type[Record], title: str, values: dict[str, str], origins: Mapping[tuple[str, str], str]
) -> dict[str, Any]:
    checked: dict[str, Any] = {}
    for key, value in values.items():
        kind = section.FIELDS[key].kind
        if value == "" and section.FIELDS[key].default is None:
            continue
        try:
            checked[key] = kind.check(value)
        except ValueError as error:
            where = origins.get((title, key), "")
            raise Refused("wrong_input", f"{where}: {key} in [{title}]: {error}", f"expected {kind.expected}") from None
    return checked


def _line(text: str, title: str, key: str | None = None) -> int:
    """The line where a section or one of its keys stands; configparser does not tell."""
    inside = False
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\[(.+)\]", line.strip())
        if header:
            inside = header[1] == title
            if inside and key is None:
                return number
        elif inside and key is not None and _plain_key(line.split("=")[0]) == key:
            return number
    return 0
