"""A clone's own files, users, commands and habits (`Customization`) as edits. Pure: values in, values out.

Users are written into passwd(5), group(5), shadow(5) and gshadow(5) (`users.py`), commands become a unit that runs once
(`first_boot.py`): no code of the guest runs here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from maglica.errors import Refused
from maglica.host_worker.guest import first_boot, users
from maglica.host_worker.guest.customization import Customization
from maglica.host_worker.guest.model import (
    Absent,
    Edit,
    Expectation,
    FileIs,
    GuestFacts,
    GuestRequest,
    HasLines,
    Link,
    LinkIs,
    MakeDir,
    Remove,
    System,
    WriteFile,
    path_matches,
)

Part = tuple[list[Edit], list[Expectation]]

HOST_KEYS = "/etc/ssh/ssh_host_*key*"
LOCALTIME = "/etc/localtime"
ZONES = "/usr/share/zoneinfo"
TIMEZONE = "/etc/timezone"
CLOCK = "/etc/sysconfig/clock"
LOCALE_CONF = "/etc/locale.conf"
LOCALE_DEFAULT = "/etc/default/locale"
LOCALE_GEN = "/etc/locale.gen"
I18N = "/etc/sysconfig/i18n"
KEYBOARD_DEFAULT = "/etc/default/keyboard"
VCONSOLE = "/etc/vconsole.conf"
KEYBOARD = "/etc/sysconfig/keyboard"

READ = (
    TIMEZONE,
    CLOCK,
    LOCALE_CONF,
    LOCALE_DEFAULT,
    LOCALE_GEN,
    I18N,
    KEYBOARD_DEFAULT,
    VCONSOLE,
    KEYBOARD,
)
SEE = (LOCALTIME, ZONES, "/usr/sbin/locale-gen")


def patterns(request: GuestRequest, system: System) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What has to be read, and what to be seen, for this request."""
    custom = request.custom.for_family(system.family)
    if custom == Customization():
        return (), ()
    ways = [*(one.path for one in custom.files), *(f"{ZONES}/{custom.timezone}",) * bool(custom.timezone)]
    parents = {path.rsplit("/", at)[0] for path in ways for at in range(1, path.count("/"))}
    read, see = users.patterns(custom) if custom.users else ((), ())
    return (*READ, *read), (*SEE, *see, *first_boot.SEE, *ways, *sorted(parents))


def folders(request: GuestRequest) -> tuple[str, ...]:
    """Where files and homes are made, whatever the family turns out to be."""
    parts = [request.custom, *request.custom.families.values()]
    files = [file.path.rsplit("/", 1)[0] for part in parts for file in part.files]
    return (*dict.fromkeys(files), *(("/home",) if any(part.users for part in parts) else ()))


def part(facts: GuestFacts, request: GuestRequest, before: Sequence[Edit], expected: Sequence[Expectation]) -> Part:
    """The edits for it, after those that stand `before` and that are `expected` to stay.

    Raises `Refused` for what this image cannot have, and for a file that would undo the identity of the clone.
    """
    custom = request.custom.for_family(facts.system.family)
    if custom == Customization():
        return [], []
    for file in custom.files:
        refuse_own(file.path, before, expected)
    parts = [
        _files(facts, custom),
        _timezone(facts, custom),
        _locale(facts, custom),
        _keyboard(facts, custom),
        users.part(facts, custom, before) if custom.users else ([], []),
        first_boot.part(facts, (*_locale_command(facts, custom), *custom.commands)),
    ]
    return [edit for some, _ in parts for edit in some], [one for _, some in parts for one in some]


def refuse_own(path: str, before: Sequence[Edit], expected: Sequence[Expectation]) -> None:
    """Refuse to write what makes the clone a machine of its own, or what it must not have."""
    for wish in expected:
        gone = isinstance(wish, Absent) and path_matches(path, wish.path)
        if gone or (not isinstance(wish, Absent) and wish.path == path):
            what = "must not be in a clone" if gone else "is what maglica itself writes or keeps"
            raise Refused("wrong_input", f"cannot write {path}: it {what}", "leave it out; --help shows what sets it")
    if path_matches(path, HOST_KEYS) or any(isinstance(edit, WriteFile) and edit.path == path for edit in before):
        raise Refused("wrong_input", f"cannot write {path}: maglica itself writes it", "leave it out")


def _files(facts: GuestFacts, custom: Customization) -> Part:
    edits: list[Edit] = []
    expected: list[Expectation] = []
    for file in custom.files:
        edits += make_parents(facts, file.path)
        edits.append(WriteFile(file.path, file.text, file.mode))
        expected.append(FileIs(file.path, file.text, file.mode))
    return edits, expected


def make_parents(facts: GuestFacts, path: str) -> list[Edit]:
    """Every folder above it that is missing, the highest first: each is new, and needs a label where labels are."""
    parents = [path.rsplit("/", at)[0] for at in range(path.count("/") - 1, 0, -1)]
    return [MakeDir(parent) for parent in parents if not facts.has(parent)]


def _timezone(facts: GuestFacts, custom: Customization) -> Part:
    """/etc/localtime is a link (localtime(5)); beside it Debian names the zone in /etc/timezone, RHEL 6 in a file of
    its own.
    """
    zone = custom.timezone
    if zone is None:
        return [], []
    if not facts.has(f"{ZONES}/{zone}"):
        why = f"the image has no time zone {zone}" if facts.has(ZONES) else "the image has no time zones (tzdata)"
        raise Refused("environment_error", why, "`timedatectl list-timezones` there lists them")
    target = f"..{ZONES}/{zone}"
    edits: list[Edit] = [Remove(LOCALTIME)] if facts.has(LOCALTIME) else []
    edits.append(Link(LOCALTIME, target))
    expected: list[Expectation] = [LinkIs(LOCALTIME, target)]
    if facts.has(TIMEZONE) or (facts.system.family == "debian" and facts.system.distro == "debian"):
        edits.append(WriteFile(TIMEZONE, f"{zone}\n"))
        expected.append(FileIs(TIMEZONE, f"{zone}\n"))
    if facts.has(CLOCK):
        some, more = _assigned(facts, CLOCK, {"ZONE": f'"{zone}"'})
        edits, expected = edits + some, expected + more
    return edits, expected


def _locale(facts: GuestFacts, custom: Customization) -> Part:
    if custom.locale is None:
        return [], []
    values = {"LANG": custom.locale}
    if facts.system.family == "debian":
        parts = [_assigned(facts, LOCALE_DEFAULT, values)]
        parts += [_assigned(facts, LOCALE_CONF, values)] if LOCALE_CONF in facts.files else []
        if _needs_generating(facts, custom):
            lines = facts.text(LOCALE_GEN).splitlines()
            wanted = f"{custom.locale} {custom.locale.partition('.')[2] or 'ISO-8859-1'}"
            text = "\n".join([*lines, *([wanted] if wanted not in lines else [])]) + "\n"
            parts.append(([WriteFile(LOCALE_GEN, text)], [HasLines(LOCALE_GEN, (wanted,))]))
    else:
        parts = [_assigned(facts, I18N if facts.has(I18N) else LOCALE_CONF, values)]
    return [edit for some, _ in parts for edit in some], [one for _, some in parts for one in some]


def _needs_generating(facts: GuestFacts, custom: Customization) -> bool:
    """Debian has no locales but C.UTF-8 and C until they are made."""
    name = custom.locale or "C"
    if facts.system.family != "debian" or re.fullmatch(r"(C|POSIX)(\.[Uu][Tt][Ff]-?8)?", name):
        return False
    if not facts.has("/usr/sbin/locale-gen"):
        raise Refused(
            "environment_error", f"the image cannot make the locale {name}: it has no locale-gen",
            "install the package locales in the image, or use C.UTF-8",
        )  # fmt: skip
    return True


def _locale_command(facts: GuestFacts, custom: Customization) -> tuple[str, ...]:
    return ("locale-gen",) if custom.locale and _needs_generating(facts, custom) else ()


def _keyboard(facts: GuestFacts, custom: Customization) -> Part:
    if custom.keyboard is None:
        return [], []
    if facts.system.family == "debian":
        return _assigned(facts, KEYBOARD_DEFAULT, {"XKBLAYOUT": f'"{custom.keyboard}"'})
    if facts.has(KEYBOARD):
        return _assigned(facts, KEYBOARD, {"KEYTABLE": f'"{custom.keyboard}"'})
    return _assigned(facts, VCONSOLE, {"KEYMAP": custom.keyboard})


def _assigned(facts: GuestFacts, path: str, values: dict[str, str]) -> Part:
    """A file of shell variables with these set; its other lines stay."""
    names = "|".join(values)
    keep = [line for line in facts.text(path).splitlines() if not re.match(rf"\s*(?:export\s+)?({names})=", line)]
    text = "\n".join([*keep, *(f"{name}={value}" for name, value in values.items())]) + "\n"
    return [*make_parents(facts, path)[-1:], WriteFile(path, text)], [FileIs(path, text)]
