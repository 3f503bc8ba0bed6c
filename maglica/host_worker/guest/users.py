"""Users of a clone, written into passwd(5), group(5), shadow(5) and gshadow(5). Pure: values in, values out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from maglica.errors import Refused
from maglica.host_worker.guest.customization import Customization, User
from maglica.host_worker.guest.model import (
    Edit,
    Expectation,
    FileIs,
    GuestFacts,
    HasLines,
    MakeDir,
    WriteFile,
)

Part = tuple[list[Edit], list[Expectation]]

PASSWD, GROUP, SHADOW, GSHADOW = "/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow"
LOGIN_DEFS = "/etc/login.defs"
SKELETON = ("/etc/skel/*", "/etc/skel/.[!.]*")
SUDO = ("/usr/bin/sudo", "/bin/sudo")
SUDOERS = "/etc/sudoers.d"
SHELLS = ("/bin/bash", "/usr/bin/bash", "/bin/sh")
LAST_ID = 60000


def patterns(custom: Customization) -> tuple[tuple[str, ...], tuple[str, ...]]:
    keys = [f"/home/{user.name}/.ssh/authorized_keys" for user in custom.users]
    read = (PASSWD, GROUP, SHADOW, GSHADOW, LOGIN_DEFS, *SKELETON, *keys)
    shells = tuple(user.shell for user in custom.users if user.shell)
    homes = [f"/home/{user.name}" for user in custom.users]
    inside = [f"{home}/{name}" for home in homes for name in ("*", ".[!.]*")]
    return read, (*SUDO, SUDOERS, *SHELLS, *shells, "/home", *homes, *inside)


@dataclass
class Tables:
    """The four files, line by line, while users are added."""

    passwd: list[str]
    group: list[str]
    shadow: list[str]
    gshadow: list[str] | None

    def ids(self) -> set[int]:
        """All numbers that are taken, of users or groups."""
        found = [line.split(":")[2] for line in (*self.passwd, *self.group) if line.count(":") >= 3]
        return {int(word) for word in found if word.isdigit()}


def part(facts: GuestFacts, custom: Customization, before: Sequence[Edit]) -> Part:
    """Add each user, or give one that exists what is asked for. Edits that stand `before` may have changed a table."""
    texts = {edit.path: edit.text for edit in before if isinstance(edit, WriteFile)}
    for path in (PASSWD, GROUP, SHADOW):
        if path not in facts.files:
            raise Refused("environment_error", f"the image has no {path}, cannot add users")
    lines = {path: texts.get(path, facts.text(path)).splitlines() for path in (PASSWD, GROUP, SHADOW, GSHADOW)}
    tables = Tables(lines[PASSWD], lines[GROUP], lines[SHADOW], lines[GSHADOW] if GSHADOW in facts.files else None)
    edits: list[Edit] = []
    expected: list[Expectation] = []
    own: dict[str, list[str]] = {PASSWD: [], SHADOW: []}
    for user in custom.users:
        passwd, shadow = _entered(user, tables, facts)
        own[PASSWD].append(passwd)
        own[SHADOW].append(shadow)
        some, more = _home(user, passwd, facts)
        edits, expected = edits + some, expected + more
        some, more = _sudo(user, facts)
        edits, expected = edits + some, expected + more
    written = {PASSWD: tables.passwd, GROUP: tables.group, SHADOW: tables.shadow}
    written |= {GSHADOW: tables.gshadow} if tables.gshadow is not None else {}
    head: list[Edit] = [WriteFile(path, "\n".join(some) + "\n") for path, some in written.items()]
    expected += [HasLines(path, tuple(some)) for path, some in own.items()]
    expected.append(HasLines(GROUP, tuple(tables.group)))
    return head + edits, expected


def _entered(user: User, tables: Tables, facts: GuestFacts) -> tuple[str, str]:
    """The user's lines in passwd and shadow, which are in the tables afterwards."""
    old = _line(tables.passwd, user.name)
    if old is None:
        number = _free_id(user, tables, facts)
        own_group = _line(tables.group, user.name)
        group = int(own_group.split(":")[2]) if own_group else number
        if own_group is None:
            tables.group.append(f"{user.name}:x:{group}:")
            if tables.gshadow is not None:
                tables.gshadow.append(f"{user.name}:!::")
        passwd = f"{user.name}:x:{number}:{group}:{user.comment}:/home/{user.name}:{_shell(user, facts)}"
        tables.passwd.append(passwd)
    else:
        passwd = _adjusted(old, user, facts)
        tables.passwd[tables.passwd.index(old)] = passwd
    for group_name in user.groups:
        _join(tables, group_name, user.name)
    return passwd, _password(user, tables)


def _line(lines: list[str], name: str) -> str | None:
    return next((line for line in lines if line.split(":", 1)[0] == name), None)


def _free_id(user: User, tables: Tables, facts: GuestFacts) -> int:
    taken = tables.ids()
    if user.uid is not None:
        if user.uid in taken:
            raise Refused("wrong_input", f"user {user.name}: the id {user.uid} is taken in the image")
        return user.uid
    first = re.search(r"^\s*UID_MIN\s+(\d+)", facts.text(LOGIN_DEFS), re.MULTILINE)
    low = int(first[1]) if first else 1000
    return next(number for number in range(low, LAST_ID + len(taken) + 2) if number not in taken)


def _shell(user: User, facts: GuestFacts) -> str:
    if user.shell and not facts.has(user.shell):
        raise Refused("environment_error", f"user {user.name}: the image has no {user.shell}")
    return user.shell or next((shell for shell in SHELLS if facts.has(shell)), "/bin/sh")


def _adjusted(old: str, user: User, facts: GuestFacts) -> str:
    fields = old.split(":")
    if len(fields) != 7:
        raise Refused("environment_error", f"user {user.name}: the image's /etc/passwd has a broken line for it")
    if user.uid is not None and fields[2] != str(user.uid):
        raise Refused("wrong_input", f"user {user.name}: it has the id {fields[2]} in the image, not {user.uid}")
    if fields[5] != f"/home/{user.name}":
        raise Refused(
            "wrong_input", f"user {user.name}: in the image it belongs to the system, its home is {fields[5]}"
        )
    fields[4] = user.comment or fields[4]
    fields[6] = _shell(user, facts) if user.shell else fields[6]
    return ":".join(fields)


def _join(tables: Tables, group: str, name: str) -> None:
    line = _line(tables.group, group)
    if line is None:
        raise Refused("environment_error", f"user {name}: the image has no group {group}", "sudo alone needs none")
    for lines in (tables.group, *([tables.gshadow] if tables.gshadow is not None else [])):
        line = _line(lines, group)
        if line is not None:
            head, _, members = line.rpartition(":")
            found = [member for member in members.split(",") if member]
            lines[lines.index(line)] = f"{head}:{','.join([*found, *([name] if name not in found else [])])}"


def _password(user: User, tables: Tables) -> str:
    """`*` where no password is given: none fits, and sshd does not take the account for locked as it does with `!`."""
    old = _line(tables.shadow, user.name)
    if old is None:
        line = f"{user.name}:{user.password_hash or '*'}::0:99999:7:::"
        tables.shadow.append(line)
        return line
    fields = old.split(":")
    fields[1] = user.password_hash or fields[1]
    line = ":".join(fields)
    tables.shadow[tables.shadow.index(old)] = line
    return line


def _home(user: User, passwd: str, facts: GuestFacts) -> Part:
    """The home with what /etc/skel has for it, where it is new, and the keys."""
    fields = passwd.split(":")
    owner, home = (int(fields[2]), int(fields[3])), fields[5]
    edits: list[Edit] = [] if facts.has("/home") else [MakeDir("/home")]
    expected: list[Expectation] = []
    if not facts.has(home):
        edits.append(MakeDir(home, 0o700, owner))
        for path in facts.find(*SKELETON):
            if path in facts.files and path not in facts.links:
                edits.append(WriteFile(f"{home}/{path.rsplit('/', 1)[1]}", facts.text(path), owner=owner))
    if user.ssh_keys:
        path = f"{home}/.ssh/authorized_keys"
        lines = facts.text(path).splitlines()
        text = "\n".join([*lines, *(key for key in user.ssh_keys if key not in lines)]) + "\n"
        edits += [MakeDir(f"{home}/.ssh", 0o700, owner), WriteFile(path, text, 0o600, owner)]
        expected.append(FileIs(path, text, 0o600, owner))
    return edits, expected


def _sudo(user: User, facts: GuestFacts) -> Part:
    """A file of its own in sudoers.d (sudoers(5)); its name must have no dot."""
    if not user.sudo:
        return [], []
    if not facts.has(*SUDO):
        raise Refused(
            "environment_error", f"user {user.name}: the image has no sudo", "install it in the image, or leave it out"
        )
    path = f"{SUDOERS}/maglica-{user.name.replace('.', '_')}"
    text = f"{user.name} ALL=(ALL) NOPASSWD: ALL\n"
    folder: list[Edit] = [] if facts.has(SUDOERS) else [MakeDir(SUDOERS, 0o750)]
    return [*folder, WriteFile(path, text, 0o440)], [FileIs(path, text, 0o440, (0, 0))]
