"""What a clone gets beside an identity of its own: files, users, commands, time zone. Values only.

Most of it comes in two layers, a profile of the client worker's settings and what was asked for beside it. `merged`
makes one of them: lists are joined with the profile's part first, of single values the later one counts. What a family
of systems gets stands apart until the family is known (`for_family`).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any


@dataclass(frozen=True)
class File:
    """A file to write; bytes that are no UTF-8 as surrogate escapes. `mode` as for `WriteFile`."""

    path: str
    text: str = field(repr=False)
    mode: int | None = None


@dataclass(frozen=True)
class User:
    """A user who shall exist. `sudo`: may become root without a password. `password_hash` None: logs in by key only."""

    name: str
    groups: tuple[str, ...] = ()
    sudo: bool = False
    ssh_keys: tuple[str, ...] = ()
    password_hash: str | None = field(default=None, repr=False)
    shell: str | None = None
    uid: int | None = None
    comment: str = ""


@dataclass(frozen=True)
class Customization:
    """Everything beyond the identity. `commands` are lines for /bin/sh, run once at the first boot, in this order;
    `hosts` are lines of /etc/hosts; `families` holds the whole of what a family of systems gets that gets something
    else.
    """

    files: tuple[File, ...] = ()
    users: tuple[User, ...] = ()
    commands: tuple[str, ...] = field(default=(), repr=False)
    hosts: tuple[str, ...] = ()
    timezone: str | None = None
    locale: str | None = None
    keyboard: str | None = None
    families: Mapping[str, Customization] = field(default_factory=dict)

    def for_family(self, family: str | None) -> Customization:
        """What a system of this family gets."""
        return self.families.get(family or "", replace(self, families={}))

    @classmethod
    def from_map(cls, value: Mapping[str, Any]) -> Customization:
        """The way back from `dataclasses.asdict`."""
        return cls(
            files=tuple(File(**one) for one in value["files"]),
            users=tuple(_user(one) for one in value["users"]),
            commands=tuple(value["commands"]),
            hosts=tuple(value["hosts"]),
            timezone=value["timezone"],
            locale=value["locale"],
            keyboard=value["keyboard"],
            families={family: cls.from_map(part) for family, part in value["families"].items()},
        )


def _user(value: Mapping[str, Any]) -> User:
    return User(**{**value, "groups": tuple(value["groups"]), "ssh_keys": tuple(value["ssh_keys"])})


def asked(values: Mapping[str, Any]) -> Customization:
    """What an action or a profile says, in the forms of `kinds.py`: `write`, `upload`, `user`, `run_at_first_boot`,
    `hosts`, `timezone`, `locale`, `keyboard`, and of a profile `families`.
    """
    written = [File(*line.split(":", 1)) for line in values.get("write") or ()]
    uploaded = [
        File(one["path"], base64.b64decode(one["base64"]).decode("utf-8", "surrogateescape"), one["mode"])
        for one in values.get("upload") or ()
    ]
    common = Customization(
        files=(*(replace(one, text=_whole_lines(one.text)) for one in written), *uploaded),
        users=tuple(_asked_user(one) for one in values.get("user") or ()),
        commands=tuple(values.get("run_at_first_boot") or ()),
        hosts=tuple(values.get("hosts") or ()),
        timezone=values.get("timezone"),
        locale=values.get("locale"),
        keyboard=values.get("keyboard"),
    )
    families = values.get("families") or {}
    return replace(common, families={family: merged(common, asked(part)) for family, part in families.items()})


def _whole_lines(text: str) -> str:
    """A text that was typed has no end of line; a file has."""
    return text if not text or text.endswith("\n") else text + "\n"


def _asked_user(one: Mapping[str, Any]) -> User:
    keys = tuple((one.get("ssh_keys") or "").splitlines())
    return _user({**one, "ssh_keys": keys})


def merged(first: Customization, second: Customization) -> Customization:
    """Both together; of files with one path and users with one name the second's counts."""
    values: dict[str, Any] = {}
    for name in (one.name for one in fields(Customization)):
        a, b = getattr(first, name), getattr(second, name)
        if name == "families":
            known = sorted({*a, *b})
            values[name] = {family: merged(first.for_family(family), second.for_family(family)) for family in known}
        elif name in ("files", "users"):
            values[name] = tuple({(one.path if isinstance(one, File) else one.name): one for one in (*a, *b)}.values())
        elif isinstance(a, tuple):
            values[name] = tuple(dict.fromkeys((*a, *b))) if name == "hosts" else (*a, *b)
        else:
            values[name] = a if b is None else b
    return Customization(**values)
