"""Value checks of what a clone may be customised with: files, users, commands, time zone; for actions and settings.

Each gives the form in which it travels: texts, and maps of plain values. Files of this machine are read only by the
`terminal` functions, which the command line and the client worker (for profiles) call.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Mapping
from typing import Any

from maglica.kinds import (
    CRYPT,
    HOSTNAME,
    IP,
    MAX_TEXT,
    SSH_KEYS,
    Kind,
    _at_file,
    _matching,
    _one_line,
    file_or_text,
    list_of,
)
from maglica.kinds import _path as absolute

MOST_WRITTEN = 32 << 10  # bytes of all --write of a request together
MOST_UPLOADED = 96 << 10  # bytes of all --upload; with a profile and all else it must fit into one message of 256 KiB
MOST_PUT = 160 << 10  # bytes of a file that is put into a running guest: nothing else is in that message
MOST_COMMANDS = 64
FAMILIES = ("debian", "rhel")
MASKED = "***"


def _several(value: Any, what: str) -> list[Any]:
    """One or several: a program passes a list, a terminal a word at a time."""
    if isinstance(value, (str, dict)):
        return [value]
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{value!r} is not a list of {what}")
    return list(value)


def _target(value: Any) -> str:
    """The path of a file in the guest, in the one form that a path has: in another one a folder may have been meant."""
    path = str(absolute(value))
    if path != value or path == "/" or ":" in path:
        raise ValueError(f"{value!r} is not the plain path of a file")
    if path.startswith(("/proc/", "/sys/", "/dev/", "/run/")):
        raise ValueError(f"{path!r} is not on a disk: it would be gone at the first boot")
    return path


# ---- files ------------------------------------------------------------------------------------------------------


def _write(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        value = [f"{path}:{content}" for path, content in value.items()]
    found = []
    for one in _several(value, "PATH:CONTENT"):
        if not isinstance(one, str) or ":" not in one:
            raise ValueError(f"{str(one)[:40]!r} is not PATH:CONTENT")
        path, content = one.split(":", 1)
        if "\0" in content or any("\ud800" <= letter <= "\udfff" for letter in content):
            raise ValueError(f"the content for {path} is no text; --upload takes any file")
        found.append(f"{_target(path)}:{content}")
    size = sum(len(one.encode()) for one in found)
    if size > MOST_WRITTEN:
        raise ValueError(f"{size} bytes are more than {MOST_WRITTEN >> 10} KiB; --upload takes more")
    return found


def _upload(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, Mapping) and "path" not in value:
        value = [{"path": path, "data": data} for path, data in value.items()]
    found = [_uploaded(one) for one in _several(value, "files")]
    size = sum(len(one["base64"]) * 3 // 4 for one in found)
    if size > MOST_UPLOADED:
        raise ValueError(
            f"{size} bytes are more than the {MOST_UPLOADED >> 10} KiB that fit into a request: put large files into "
            "the image, or let a command at the first boot fetch them"
        )
    return found


def _uploaded(one: Any) -> dict[str, Any]:
    import base64  # most commands upload nothing

    if not isinstance(one, Mapping) or not set(one) <= {"path", "mode", "data", "base64"}:
        raise ValueError("expected a map of path and data, perhaps mode")
    path, data, encoded = _target(one.get("path")), one.get("data"), one.get("base64")
    if isinstance(data, str):
        data = data.encode()
    if isinstance(data, (bytes, bytearray)):
        encoded = base64.b64encode(data).decode()
    if not isinstance(encoded, str):
        raise ValueError(f"there is no data for {path}")
    if encoded != MASKED:
        try:
            base64.b64decode(encoded, validate=True)
        except ValueError:
            raise ValueError(f"the data for {path} is not base64") from None
    mode = one.get("mode")
    if mode is not None and (type(mode) is not int or not 0 <= mode <= 0o7777):
        raise ValueError(f"the mode of {path} is {mode!r}, expected a number up to 0o7777")
    return {"path": path, "mode": mode, "base64": encoded}


def _local_file(word: str) -> dict[str, Any]:
    """What `LOCAL:REMOTE` names: the file's bytes and mode. A REMOTE that ends in / keeps the name."""
    local, colon, remote = word.rpartition(":")
    if not colon or not local:
        raise ValueError(f"{word!r} is not LOCAL:REMOTE")
    path = remote + os.path.basename(local) if remote.endswith("/") else remote
    return {"path": path, **_read_file(local, MOST_UPLOADED)}


def _read_file(local: str, most: int) -> dict[str, Any]:
    """The bytes and the mode of a file of this machine, which may have at most `most` bytes."""
    try:
        descriptor = os.open(os.path.expanduser(local), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            facts = os.fstat(descriptor)
            if not stat.S_ISREG(facts.st_mode):
                raise ValueError(f"{local!r} is not a file")
            if facts.st_size > most:
                raise ValueError(f"{local!r} has {facts.st_size} bytes, more than {most >> 10} KiB")
            data = file.read()
    except OSError as error:
        raise ValueError(f"cannot read {local!r}: {error.strerror}") from None
    return {"mode": stat.S_IMODE(facts.st_mode) & 0o777, "data": data}


def _content(value: Any) -> dict[str, Any]:
    """The content of one file, from bytes, text, or a map with its mode: as it travels."""
    if not isinstance(value, Mapping):
        value = {"data": value}
    found = _uploaded({"path": "/file", **value})
    if (size := len(found["base64"]) * 3 // 4) > MOST_PUT + 2:
        raise ValueError(f"{size} bytes are more than the {MOST_PUT >> 10} KiB that fit into a request")
    return {"mode": found["mode"], "base64": found["base64"]}


def _hide_data(value: Any) -> Any:
    return [{**one, "base64": MASKED} for one in value]


WRITE = Kind("write", "PATH:CONTENT; the option may be repeated", "list[str] | dict[str, str]", _write, repeated=True)
UPLOAD = Kind(
    "upload",
    "LOCAL:REMOTE, at most 96 KiB together; the option may be repeated",
    "list[dict[str, Any]] | dict[str, bytes]",
    _upload,
    terminal=_local_file,
    repeated=True,
    mask=_hide_data,
)

FILE = Kind(
    "file",
    f"a file of this machine, at most {MOST_PUT >> 10} KiB",
    "bytes | str | dict[str, Any]",
    _content,
    terminal=lambda word: _read_file(word, MOST_PUT),
    mask=lambda value: {**value, "base64": MASKED},
)

# ---- users ------------------------------------------------------------------------------------------------------

# What useradd(8) of Debian and RHEL takes alike.
_USER_NAME = re.compile(r"[a-z_][a-z0-9_.-]{0,31}")
_USER = {"name", "groups", "sudo", "ssh_keys", "password_hash", "shell", "uid", "comment"}


def _users(value: Any) -> list[dict[str, Any]]:
    found = [
        _user(user_of(one, file_or_text=None) if isinstance(one, str) else one) for one in _several(value, "users")
    ]
    names = [one["name"] for one in found]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"user {name} is named twice")
    return found


def _user(one: Any) -> dict[str, Any]:
    if not isinstance(one, Mapping) or not set(one) <= _USER:
        raise ValueError(f"expected a map of {', '.join(sorted(_USER))}")
    name = str(one.get("name"))
    if not _USER_NAME.fullmatch(name) or name == "root":
        raise ValueError(f"{name!r} is not the name of a user" if name != "root" else "root is --ssh-key and the like")
    groups = one.get("groups") or []
    groups = groups.split(",") if isinstance(groups, str) else list(groups)
    for group in groups:
        if not isinstance(group, str) or not _USER_NAME.fullmatch(group):
            raise ValueError(f"user {name}: {group!r} is not the name of a group")
    keys, password, uid = one.get("ssh_keys"), one.get("password_hash"), one.get("uid")
    if uid is not None and (type(uid) is not int or not 1 <= uid <= 60000):
        raise ValueError(f"user {name}: {uid!r} is not an id from 1 to 60000")
    comment = _one_line(one.get("comment") or "")
    if ":" in comment:
        raise ValueError(f"user {name}: a comment has no colon")
    keys = "\n".join(keys) if isinstance(keys, (list, tuple)) else keys
    shell = one.get("shell")
    return {
        "name": name,
        "groups": groups,
        "sudo": bool(one.get("sudo")),
        "ssh_keys": SSH_KEYS.check(keys) if keys else None,
        "password_hash": password if password in (None, MASKED) else CRYPT.check(password),
        "shell": _target(shell) if shell else None,
        "uid": uid,
        "comment": comment,
    }


def user_of(word: str, *, file_or_text: Callable[[str], str] | None) -> dict[str, Any]:
    """The user in a word such as `alice:sudo:groups=adm,docker:key=FILE`. Without `file_or_text` no file is read."""
    name, *options = word.split(":")
    found: dict[str, Any] = {"name": name}
    for option in options:
        key, equals, value = option.partition("=")
        if key == "sudo" and not equals:
            found["sudo"] = True
        elif key in ("groups", "shell", "comment") and value:
            found[key] = value
        elif key == "uid" and value.isdigit():
            found[key] = int(value)
        elif key == "key" and value and file_or_text:
            found["ssh_keys"] = found.get("ssh_keys", "") + file_or_text(os.path.expanduser(value)).rstrip("\n") + "\n"
        elif key == "password-hash" and value and file_or_text:
            found["password_hash"] = _at_file(value)
        else:
            known = "sudo, groups=G,…, key=FILE, password-hash=@FILE, shell=PATH, uid=N, comment=TEXT"
            raise ValueError(f"user {name}: {option.partition('=')[0]!r} is none of {known}")
    return found


def _user_word(word: str) -> dict[str, Any]:
    return user_of(word, file_or_text=file_or_text)


def _hide_passwords(value: Any) -> Any:
    return [{**one, "password_hash": MASKED if one.get("password_hash") else None} for one in value]


USER = Kind(
    "user",
    "NAME, and after colons what it gets: sudo, groups=G,…, key=FILE, password-hash=@FILE, shell=PATH, uid=N, "
    "comment=TEXT; the option may be repeated",
    "list[dict[str, Any]] | str",
    _users,
    terminal=_user_word,
    repeated=True,
    mask=_hide_passwords,
)


# ---- commands, and single words ---------------------------------------------------------------------------------


def _commands(value: Any) -> list[str]:
    found = _several(value, "commands")
    if len(found) > MOST_COMMANDS:
        raise ValueError(
            f"{len(found)} commands are more than {MOST_COMMANDS}; put them into a script, and --upload it"
        )
    for one in found:
        if not isinstance(one, str) or not one.strip() or "\0" in one or len(one) > MAX_TEXT:
            raise ValueError(f"{str(one)[:40]!r} is not a command of at most {MAX_TEXT} characters")
    return found


COMMANDS = Kind(
    "command", "a line for /bin/sh; the option may be repeated", "list[str] | str", _commands, repeated=True
)
MAX_SCRIPT = 64 << 10  # bytes
MOST_OF_SCRIPTS = 96 << 10  # bytes of all scripts of a request together


def _script(value: Any) -> str:
    if value == MASKED:
        return MASKED
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError("it is no script: expected a text that is not empty")
    if len(value.encode()) > MAX_SCRIPT:
        raise ValueError(f"{len(value.encode())} bytes are more than {MAX_SCRIPT >> 10} KiB: let it fetch the rest")
    return value


def _scripts(value: Any) -> list[str]:
    found = [_script(one) for one in _several(value, "scripts")]
    size = sum(len(one.encode()) for one in found)
    if size > MOST_OF_SCRIPTS:
        raise ValueError(f"{size} bytes are more than {MOST_OF_SCRIPTS >> 10} KiB: let one of them fetch the rest")
    return found


SCRIPT = Kind("script", "a file with a script, at most 64 KiB", "str", _script, terminal=file_or_text)
SCRIPTS = Kind(
    "scripts",
    "a file with a script; the option may be repeated, 96 KiB together",
    "list[str] | str",
    _scripts,
    terminal=file_or_text,
    repeated=True,
)
TIMEZONE = Kind(
    "timezone",
    "a time zone such as Asia/Tokyo or Etc/UTC",
    "str",
    _matching(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z][A-Za-z0-9_+-]*){0,2}"),
)
LOCALE = Kind(
    "locale", "a locale such as C.UTF-8 or ja_JP.UTF-8", "str",
    _matching(r"[A-Za-z]{1,8}(_[A-Z]{2})?(\.[A-Za-z0-9-]{1,12})?(@[a-z]{1,12})?"),
)  # fmt: skip
KEYBOARD = Kind("keyboard", "a keyboard layout such as us or jp106", "str", _matching(r"[a-z][a-z0-9_-]{0,23}"))


def _hosts(value: Any) -> list[str]:
    found = []
    for line in lines(value):
        address, *names = line.split()
        if not names:
            raise ValueError(f"{line!r} is not ADDRESS NAME…")
        found.append("\t".join([IP.check(address), " ".join(HOSTNAME.check(name) for name in names)]))
    return found


HOSTS = Kind("hosts-line", "lines for /etc/hosts: ADDRESS NAME…", "list[str] | str", _hosts)


SEARCH = list_of(HOSTNAME, at_most=6)


def lines(value: Any) -> list[str]:
    """The lines of a setting that has several; blank ones do not count."""
    found = value.splitlines() if isinstance(value, str) else list(value)
    if any(not isinstance(line, str) for line in found):
        raise ValueError("expected lines of text")
    return [line.strip() for line in found if line.strip()]


LINES = Kind("lines", "lines of text", "list[str] | str", lines)


# ---- a profile as it travels ------------------------------------------------------------------------------------

CONTENT: dict[str, Kind] = {
    "write": WRITE,
    "upload": UPLOAD,
    "user": USER,
    "run_at_first_boot": COMMANDS,
    "hosts": HOSTS,
    "dns_search": SEARCH,
    "timezone": TIMEZONE,
    "locale": LOCALE,
    "keyboard": KEYBOARD,
    "ssh_key": SSH_KEYS,
    "root_password_hash": CRYPT,
}
"""What a profile may hold."""

MOST_OF_PROFILE = 64 << 10  # bytes
OF_FAMILY = ("write", "upload", "user", "run_at_first_boot")


def _profile(value: Any) -> dict[str, Any]:
    """The content of a profile: its name, what is in `CONTENT`, and `families` with what one family alone gets."""
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        raise ValueError("it is not the content of a profile")
    families = value.get("families") or {}
    if not isinstance(families, Mapping) or not set(families) <= set(FAMILIES):
        raise ValueError(f"a profile's families are {', '.join(FAMILIES)}")
    found = {"name": value["name"], **_checked(value, CONTENT)}
    found["families"] = {
        one: _checked(part, {name: CONTENT[name] for name in OF_FAMILY}) for one, part in families.items()
    }
    size = len(repr(found).encode())
    if size > MOST_OF_PROFILE:
        raise ValueError(f"the profile {found['name']} has {size} bytes, more than {MOST_OF_PROFILE >> 10} KiB")
    return found


def _checked(value: Mapping[str, Any], known: Mapping[str, Kind]) -> dict[str, Any]:
    return {name: kind.check(value[name]) for name, kind in known.items() if value.get(name) is not None}


PROFILE = Kind(
    "profile", "the content of a profile", "dict[str, Any]", _profile, mask=lambda value: {"name": value["name"]}
)
