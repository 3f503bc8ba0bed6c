"""Value checks: what an argument or a setting may hold.

A `Kind` takes what a person typed, what a program passed or what came from the wire, and gives the one form in which
the value travels (plain msgpack types). It raises `ValueError` with nothing but what is wrong; whoever knows the
argument's name adds it. Sizes are bytes, durations seconds.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from posixpath import normpath
from typing import Any

MAX_TEXT = 4096


class Kind:
    """One kind of value.

    `expected` completes the sentence "expected …"; `python` is the type that library users may pass, written as in
    source code; `check` gives the canonical value; `terminal` turns a word typed in a terminal into what `check`
    takes, where that is more than the word itself (a file's content, say). `repeated`: its option may stand several
    times. `mask`: what is shown of a secret of this kind; by default nothing.
    """

    __slots__ = ("check", "choices", "expected", "mask", "name", "python", "repeated", "terminal")

    def __init__(
        self,
        name: str,
        expected: str,
        python: str,
        check: Callable[[Any], Any],
        *,
        choices: tuple[str, ...] = (),
        terminal: Callable[[str], Any] | None = None,
        repeated: bool = False,
        mask: Callable[[Any], Any] | None = None,
    ) -> None:
        self.name = name
        self.expected = expected
        self.python = python
        self.check = check
        self.choices = choices
        self.terminal = terminal
        self.repeated = repeated
        self.mask = mask


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not text")
    if len(value) > MAX_TEXT:
        raise ValueError(f"{len(value)} characters are more than {MAX_TEXT}")
    return value


def _one_line(value: Any) -> str:
    text = _text(value)
    if any(ord(c) < 32 for c in text):
        raise ValueError(f"{text[:40]!r} has control characters")
    return text


def _matching(pattern: str) -> Callable[[Any], str]:
    compiled = re.compile(pattern)

    def check(value: Any) -> str:
        text = _one_line(value)
        if not compiled.fullmatch(text):
            raise ValueError(f"{text!r} is not valid")
        return text

    return check


# The names of libvirt objects that we accept: no slash, no blank, no leading dash, so that a name can never be read as
# an option or leave its directory.
_NAME = r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}"
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"

NAME = Kind("name", "letters, digits and . _ + -, at most 128", "str", _matching(_NAME))
VM = Kind("vm", "the name of a VM, or NAME@HOST", "str", _matching(rf"{_NAME}(@{_NAME})?"))
VM_NAME = Kind("name", "the name of a VM: letters, digits and . _ + -, at most 128", "str", _matching(_NAME))
HOST = Kind("host", "the name of a host", "str", _matching(_NAME))
# A name may have a version or a label behind a colon: el9:2026-11-20, el9:stable.
IMAGE = Kind(
    "image",
    "the name of an image, or NAME:VERSION",
    "str",
    _matching(rf"{_NAME}(:[A-Za-z0-9][A-Za-z0-9._+-]{{0,63}})?"),
)
IMAGE_AT = Kind(
    "image",
    "the name of an image, NAME:VERSION, or either with @HOST",
    "str",
    _matching(rf"{_NAME}(:[A-Za-z0-9][A-Za-z0-9._+-]{{0,63}})?(@{_NAME})?"),
)
LABEL = Kind(
    "label",
    "a label such as stable, or NAME:LABEL",
    "str",
    _matching(rf"({_NAME}:)?[A-Za-z0-9][A-Za-z0-9._+-]{{0,63}}"),
)
TAG = Kind("tag", "letters, digits and . _ -, at most 64", "str", _matching(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"))
UUID = Kind("uuid", "a UUID", "str", _matching(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"))
TEXT = Kind("text", "one line of text", "str", _one_line)
JOB = Kind("job", "the id of a job, as `maglica job list` shows it", "str", _matching(r"[0-9A-Za-z-]{4,40}"))


def _hostname(value: Any) -> str:
    text = _one_line(value)
    if not all(re.fullmatch(_LABEL, label) for label in text.split(".")):
        raise ValueError(f"{text!r} is not valid")
    if len(text) > 64:
        raise ValueError(f"{text!r} is too long: a guest's kernel takes 64 characters")
    if text.split(".")[-1].isdigit() or text.lower() == "localhost":
        raise ValueError(f"{text!r} means something else")
    return text.lower()


# RFC 1123 section 2.1: letters, digits and dashes in labels of at most 63; the last is not a number, or it would be an
# address. Case has no meaning (RFC 4343): two VMs that differ in nothing else would be one in DNS. The whole goes into
# the guest's kernel, which takes 64 bytes (sethostname(2)), and into names of files.
HOSTNAME = Kind("hostname", "a host name such as vm0.example.jp (letters, digits, dashes and dots)", "str", _hostname)


def _fleet(value: Any) -> str:
    text = _hostname(value)
    if "." in text or re.search(r"-\d+$", text) or len(text) > 50:
        raise ValueError(f"{text!r} is not valid")
    return text


# Its VMs are called BASE-1, BASE-2, …: such a name is no name of a fleet, or 1 of web-1 were 1-1 of web.
FLEET = Kind("fleet", "letters, digits and dashes, at most 50, without a number at the end", "str", _fleet)

_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40, "P": 50}


def _size(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    else:
        found = re.fullmatch(r"(\d{1,15})([KMGTP])(i?B)?", _one_line(value).strip(), re.IGNORECASE)
        if not found:
            bare = re.fullmatch(r"\d+", str(value).strip())
            raise ValueError(f"{value!r} has no unit; say {value}M or {value}G" if bare else f"{value!r} is not a size")
        number = int(found[1]) << _UNITS[found[2].upper()]
    if not 0 < number < 1 << 60:
        raise ValueError(f"{value!r} is out of range")
    return number


SIZE = Kind("size", "a size such as 512M, 10G or 1T (powers of 1024)", "int | str", _size)
SIZE_OR_OFF = Kind(
    "size", "a size such as 512M, or off", "int | str", lambda value: 0 if value in ("off", 0, "0") else _size(value)
)


def _reserve(value: Any) -> str:
    name, equals, size = _one_line(value).partition("=")
    if not equals:
        raise ValueError(f"{value!r} has no =")
    return (
        f"{NAME.check(name.strip())}={_size(size)}"
        if not size.isdigit()
        else f"{NAME.check(name.strip())}={_size(int(size))}"
    )


def reserves(words: list[str]) -> dict[str, int]:
    """What a list of such words says, in bytes."""
    return {name: int(size) for name, _, size in (word.partition("=") for word in words)}


RESERVE = Kind("reserve", "the name of a pool with a size, such as fast=10G", "str", _reserve)


def _memory(value: Any) -> int:
    size = _size(value)
    if size < LEAST_MEMORY:
        raise ValueError(f"{value!r} is less than {LEAST_MEMORY >> 20}M")
    return size


# Less than any kernel boots in. Programs pass bytes: 512 is half a kilobyte.
LEAST_MEMORY = 16 << 20
MEMORY = Kind("size", "a size such as 512M or 4G, at least 16M (powers of 1024)", "int | str", _memory)


def _size_or_change(value: Any) -> int | str:
    found = re.fullmatch(r"([+-])(.*)", value.strip()) if isinstance(value, str) else None
    if found is None:
        return _size(value)
    return f"{found[1]}{_size(found[2]) >> 10}K"  # every unit is a multiple of it


def _count_or_change(value: Any) -> int | str:
    found = re.fullmatch(r"([+-]?)(\d{1,6})", str(value).strip()) if type(value) in (int, str) else None
    if found is None:
        raise ValueError(f"{value!r} is not a whole number")
    if int(found[2]) == 0 or (found[1] == "-" and isinstance(value, int)):
        raise ValueError(f"{value} is out of range")
    return f"{found[1]}{int(found[2])}" if found[1] else int(found[2])


def changed(now: int, wanted: int | str) -> int:
    """What such a value makes of what is there now."""
    if isinstance(wanted, int):
        return wanted
    number = int(wanted.removesuffix("K"))
    return now + (number << 10 if wanted.endswith("K") else number)


# Wanted, or how much more or less of it: `4G`, `+2G`, `-512M`. What travels is bytes, or a sign and KiB.
SIZE_OR_CHANGE = Kind(
    "size-or-change", "a size such as 4G, or +2G and -512M for more and less", "int | str", _size_or_change
)
COUNT_OR_CHANGE = Kind(
    "number-or-change", "a number such as 4, or +1 and -1 for more and fewer", "int | str", _count_or_change
)

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _duration(value: Any) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = float(value)
    else:
        found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,6})?)([smhd])", _one_line(value).strip())
        if not found:
            bare = re.fullmatch(r"[\d.]+", str(value).strip())
            raise ValueError(
                f"{value!r} has no unit; say {value}s or {value}m" if bare else f"{value!r} is no duration"
            )
        seconds = float(found[1]) * _SECONDS[found[2]]
    if not 0 <= seconds <= 366 * 86400:
        raise ValueError(f"{value!r} is out of range")
    return seconds


DURATION = Kind("duration", "a duration such as 90s, 15m, 4h or 7d", "float | str", _duration)


def duration(low: float, high: float | None = None) -> Kind:
    """A duration of at least `low` seconds, and of at most `high`."""

    def check(value: Any) -> float:
        seconds = _duration(value)
        if seconds < low or (high is not None and seconds > high):
            raise ValueError(f"{value!r} is out of range")
        return seconds

    most = f", at most {high:g} s" if high is not None else ""
    name = "duration" if high is None else "interval"
    return Kind(name, f"{DURATION.expected}, at least {low:g} s{most}", "float | str", check)


def _bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word in {"1", "yes", "true", "on"}:
        return True
    if word in {"0", "no", "false", "off"}:
        return False
    raise ValueError(f"{value!r} is neither yes nor no")


BOOL = Kind("yes-no", "1 or 0 (yes, no, true, false, on, off)", "bool", _bool)


def integer(low: int, high: int) -> Kind:
    """A whole number between two bounds, both allowed."""

    def check(value: Any) -> int:
        if isinstance(value, bool) or not re.fullmatch(r"-?\d{1,18}", str(value).strip()):
            raise ValueError(f"{value!r} is not a whole number")
        if not low <= int(value) <= high:
            raise ValueError(f"{value} is out of range")
        return int(value)

    return Kind("number", f"a whole number from {low} to {high}", "int", check)


def number(low: float, high: float) -> Kind:
    """A number between two bounds, both allowed; it may have a fraction."""

    def check(value: Any) -> float:
        try:
            found = float(value)
        except (TypeError, ValueError):
            raise ValueError(f"{value!r} is not a number") from None
        if not low <= found <= high:
            raise ValueError(f"{value} is out of range")
        return found

    return Kind("number", f"a number from {low:g} to {high:g}", "float", check)


def _first(value: Any) -> str:
    text = str(value).strip()
    if text != "next" and not re.fullmatch(r"\d{1,6}", text):
        raise ValueError(f"{text!r} is neither a number nor next")
    return text


FIRST = Kind("first", "a whole number from 0 to 999999, or next", "int | str", _first)
VCPUS = integer(1, 1024)
WEIGHT = Kind("weight", "a whole number from 100 to 1000", "int", integer(100, 1000).check)

CONDITIONS = ("running", "ip", "ssh", "agent")


def _condition(value: Any) -> str:
    text = _one_line(value)
    word, _, wanted = text.partition(":")
    if text in CONDITIONS:
        return text
    if word != "console" or not wanted.strip():
        raise ValueError(f"{text!r} is none of them" if word != "console" else "console: what text?")
    if len(wanted) > 256:
        raise ValueError(f"{len(wanted)} characters are more than 256")
    return text


# What a VM has come to when a job that started it is done; `host_worker/domain/readiness.py` says what each means.
CONDITION = Kind("condition", "running, ip, ssh, agent or console:TEXT", "str", _condition)
PORT = integer(1, 65535)


def _moment(value: Any) -> str:
    from datetime import datetime

    text = _one_line(value).strip()
    if text == "now":
        return text
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no time") from None
    if found.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return text


MOMENT = Kind("moment", "now, or a time with its zone such as 2026-11-20T08:30:00Z", "str", _moment)


def _keys(value: Any) -> list[str]:
    from maglica import keyboard  # a table that one command needs

    words = value if isinstance(value, (list, tuple)) else _one_line(value).replace(",", " ").split()
    found = [keyboard.checked(str(word)) for word in words]
    if not 0 < len(found) <= 64:
        raise ValueError(f"{len(found)} strokes are not from 1 to 64")
    return found


KEYS = Kind("keys", "keys such as enter or ctrl-alt-delete, several with commas", "list[str] | str", _keys)


def choice(*words: str) -> Kind:
    """One of some words."""

    def check(value: Any) -> str:
        if value not in words:
            raise ValueError(f"{value!r} is none of them")
        return str(value)

    listed = ", ".join(words[:-1]) + f" or {words[-1]}" if len(words) > 1 else words[0]
    return Kind("choice", listed, "str", check, choices=words)


# Where a change of a VM is made: in what runs and in its definition, or in one of them. Of a VM that is off there is
# only the definition. What libvirt calls AFFECT_LIVE and AFFECT_CONFIG.
APPLY = choice("both", "live", "config")


def list_of(kind: Kind, *, at_most: int = 64) -> Kind:
    """Several values of one kind: a list, or words with commas between them."""

    def check(value: Any) -> list[Any]:
        items = [word.strip() for word in value.split(",") if word.strip()] if isinstance(value, str) else value
        if not isinstance(items, (list, tuple)):
            raise ValueError(f"{value!r} is not a list")
        if len(items) > at_most:
            raise ValueError(f"{len(items)} values are more than {at_most}")
        return [kind.check(item) for item in items]

    return Kind(f"{kind.name}-list", f"{kind.expected}; several with commas", f"list[{kind.python}] | str", check)


def _parameters(value: Any) -> list[str]:
    items = [f"{name}={one}" for name, one in value.items()] if isinstance(value, dict) else value
    items = [items] if isinstance(items, str) else items
    if not isinstance(items, (list, tuple)) or len(items) > 64:
        raise ValueError(f"{value!r} is no list of at most 64")
    if not items:
        raise ValueError("there is nothing in it")
    found: dict[str, str] = {}
    for item in items:
        name, equals, text = _one_line(item).partition("=")
        if not equals or not re.fullmatch(r"[a-z][a-z0-9_.]{0,63}", name.strip()):
            raise ValueError(f"{item!r} is not NAME=VALUE")
        found[name.strip()] = text.strip()
    return [f"{name}={text}" for name, text in found.items()]


# libvirt's names; what each may be is for the host to say.
PARAMETERS = Kind(
    "parameter", "NAME=VALUE; the option may be repeated", "list[str] | dict[str, Any]", _parameters, repeated=True
)
CPUS = Kind(
    "cpus", "a list such as 0-3,^2,8, or all", "str", _matching(r"all|\d{1,5}(-\d{1,5})?(,\^?\d{1,5}(-\d{1,5})?)*")
)


def _mac(value: Any) -> str:
    text = _one_line(value).lower()
    if not re.fullmatch(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", text):
        raise ValueError(f"{text!r} is not a MAC address")
    if int(text[:2], 16) & 1:
        raise ValueError(f"{text!r} is a multicast address")
    return text


MAC = Kind("mac", "a MAC address such as 52:54:00:12:34:56", "str", _mac)
MACS = list_of(MAC, at_most=16)


def _ip(value: Any) -> str:
    import ipaddress  # 6 ms to import, and most commands have no address

    try:
        return str(ipaddress.ip_address(_one_line(value)))
    except ValueError:
        raise ValueError(f"{value!r} is not an IP address") from None


def _interface(value: Any) -> str:
    import ipaddress

    try:
        found = ipaddress.ip_interface(_one_line(value))
    except ValueError:
        raise ValueError(f"{value!r} is not an address with its prefix") from None
    if "/" not in value:
        raise ValueError(f"{value!r} has no prefix length")
    for kind in ("loopback", "multicast", "link_local", "unspecified"):
        if getattr(found.ip, f"is_{kind}"):
            raise ValueError(f"{value!r} is a {kind.replace('_', '-')} address")
    if found.version == 4 and found.ip == found.network.broadcast_address and found.network.num_addresses > 2:
        raise ValueError(f"{value!r} is the broadcast address of its network")
    if found.ip == found.network.network_address and found.network.num_addresses > 2:
        raise ValueError(f"{value!r} is the address of the network itself")
    return str(found)


IP = Kind("ip", "an IP address such as 192.0.2.1", "str", _ip)
IPS = list_of(IP, at_most=8)


def sought(value: str) -> str:
    """What a VM is looked for by: `path`, `mac`, `uuid` or `ip`; `ValueError` for what is none of them."""
    word = value.lower()
    if "/" in word:
        return "path"
    if re.fullmatch(r"[0-9a-f]{2}([:-][0-9a-f]{2}){5}", word):
        return "mac"
    if re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{0,4}){0,3}(-[0-9a-f]{0,12})?", word):
        return "uuid"
    try:
        _ip(value)
    except ValueError:
        raise ValueError(f"{value!r} is none of them; `maglica vm list --name='…*'` finds names") from None
    return "ip"


def _sought(value: Any) -> str:
    text = _one_line(value).strip()
    sought(text)
    return text


SOUGHT = Kind("sought", "a MAC or IP address, a UUID or its first 8 digits, or a path with a slash", "str", _sought)
INTERFACE = Kind("address", "an address with its prefix, such as 192.0.2.10/24", "str", _interface)
DHCP = "dhcp"


def _addressing(value: Any) -> str:
    return DHCP if _one_line(value).lower() == DHCP else _interface(value)


ADDRESSING = Kind("address", "an address with its prefix, such as 192.0.2.10/24, or dhcp", "str", _addressing)
# netdevice(7): 15 characters, no slash, no blank; nothing that a file's name or line could be broken by.
IFNAME = Kind("interface", "a network interface such as eth1", "str", _matching(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}"))


def _text_of_file(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 65536:
        raise ValueError("it is no text of at most 64 KiB")
    return value


def file_or_text(word: str) -> str:
    """The content of the file that `word` names; UTF-8, at most 64 KiB."""
    try:
        with open(word, encoding="utf-8") as file:
            return file.read(65536)
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read {word!r}: {getattr(error, 'strerror', None) or error}") from None


TEXT_FILE = Kind("text-file", "a file of text in UTF-8, at most 64 KiB", "str", _text_of_file, terminal=file_or_text)


def _element(value: Any) -> str:
    text = _text_of_file(value).strip()
    if not text.startswith("<"):
        raise ValueError(f"{text[:24]!r} is no XML")
    return text


_PASSWORD = re.compile(r"passw(or)?d\s*=", re.IGNORECASE)  # of a display

DEVICE_XML = Kind(
    "device-xml",
    "one element of libvirt's <devices>, or a file with it",
    "str",
    _element,
    terminal=lambda word: word if word.lstrip().startswith("<") else file_or_text(word),
    mask=lambda text: "***" if _PASSWORD.search(text) else text,
)

_KEY_TYPE = r"(ssh-(ed25519|rsa)|ecdsa-sha2-nistp(256|384|521)|sk-(ssh-ed25519|ecdsa-sha2-nistp256)@openssh\.com)"


def _ssh_keys(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{type(value).__name__} is not text")
    if "PRIVATE KEY" in value:
        raise ValueError("this is a private key; the public one ends in .pub")
    lines = [line.strip() for line in value.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if not lines or len(value) > 65536:
        raise ValueError("there is no public key in it" if not lines else "more than 64 KiB")
    for line in lines:
        if not re.search(rf"(^|\s){_KEY_TYPE}\s+[A-Za-z0-9+/=]{{40,}}(\s|$)", line):
            raise ValueError(f"{line[:24]!r}… is not a public key")
    return "\n".join(lines) + "\n"


# sshd(8), section AUTHORIZED_KEYS FILE FORMAT: options, key type, base64 key, comment.
SSH_KEYS = Kind(
    "ssh-key", "public keys as in authorized_keys (a file in the terminal)", "str", _ssh_keys, terminal=file_or_text
)


def _crypt(value: Any) -> str:
    # Never repeat the value: it is a secret.
    if not isinstance(value, str) or not re.fullmatch(r"\$[0-9a-z]{1,8}\$[A-Za-z0-9./$=,_-]{8,400}", value.strip()):
        raise ValueError("it is not a hash of crypt(5)")
    return value.strip()


def _at_file(word: str) -> str:
    return file_or_text(word[1:]).strip() if word.startswith("@") else word


CRYPT = Kind(
    "password-hash",
    "a hash of crypt(5) such as `openssl passwd -6` prints; @FILE reads it from a file",
    "str",
    _crypt,
    terminal=_at_file,
)


# https://rfc.zeromq.org/spec/32/
PUBLIC_KEY = Kind(
    "public-key", "a CURVE key in Z85 (40 characters)", "str", _matching(r"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")
)


def _path(value: Any) -> str:
    text = _one_line(value)
    if not text.startswith("/") or "/../" in f"{text}/":
        raise ValueError(f"{text!r} is not an absolute path")
    # What follows the last slash is a file's name, and says whose it is: /pool/x/ and /pool/x/. are /pool/x to a host.
    return "/" + normpath(text).lstrip("/")


PATH = Kind("path", "an absolute path", "str", _path)


def _volume(value: Any) -> str:
    text = _one_line(value)
    if text.startswith("/"):
        return _path(text)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+:@-]{0,200}", text):
        raise ValueError(f"{text!r} is neither the name of a volume nor an absolute path")
    return text


VOLUME = Kind("volume", "the name of a volume of a storage pool, or its path", "str", _volume)
# A disk as the guest's machine has it; libvirt's <target dev>.
TARGET = Kind("target", "the name of a disk such as vda, sdb or hdc", "str", _matching(r"(vd|sd|hd|xvd|fd)[a-z]{1,2}"))


def _source(value: Any) -> str:
    text = _one_line(value)
    if text.startswith("/"):
        return _path(text)
    found = re.fullmatch(r"(https?)://([^/\s@]+)(/\S*)?|file://(/\S*)", text)
    if not found:
        raise ValueError(f"{text!r} is neither a path nor a URL that a host can fetch")
    return _path(found[4]) if found[4] else text


MOST_WORDS = 32 << 10  # bytes of a command


def _command_words(value: Any) -> list[str]:
    if isinstance(value, str):
        if not value.strip():
            raise ValueError("there is no command")
        value = ["/bin/sh", "-c", value]
    if not isinstance(value, (list, tuple)) or not value:
        raise ValueError(f"{value!r} is no command")
    for word in value:
        if not isinstance(word, str) or "\0" in word:
            raise ValueError(f"{str(word)[:40]!r} is no word of a command")
    size = sum(len(word.encode(errors="surrogatepass")) + 1 for word in value)
    if size > MOST_WORDS:
        raise ValueError(f"{size} bytes are more than {MOST_WORDS >> 10} KiB: put it into a script")
    return list(value)


# A program with its words, or one text for the guest's shell.
COMMAND_WORDS = Kind("command-line", "a line for /bin/sh, or words after --", "list[str] | str", _command_words)


def _mode(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        found = value
    else:
        text = _one_line(value).removeprefix("0o")
        if not re.fullmatch(r"[0-7]{3,5}", text):
            raise ValueError(f"{value!r} is not a mode")
        found = int(text, 8)
    if not 0 <= found <= 0o7777:
        raise ValueError(f"{value!r} is out of range")
    return found


MODE = Kind("mode", "a mode in octal such as 0644", "int | str", _mode)
# What useradd(8) takes, root among them.
_ACCOUNT = r"[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?"
ACCOUNT = Kind("account", "the name of a user in the guest", "str", _matching(_ACCOUNT))
OWNER = Kind("owner", "USER or USER:GROUP", "str", _matching(rf"({_ACCOUNT}|\d{{1,10}})(:({_ACCOUNT}|\d{{1,10}}))?"))

# No user and password in it: the record of a job shows it to everybody who may see jobs.
SOURCE = Kind("source", "an absolute path on the host, or a URL with http or https", "str", _source)


def _sha256(value: Any) -> str:
    text = _one_line(value).strip().lower().removeprefix("sha256:")
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise ValueError(f"{value!r} is no SHA-256")
    return f"sha256:{text}"


SHA256 = Kind("checksum", "sha256: and 64 hexadecimal digits", "str", _sha256)


def _ports(value: Any) -> str:
    text = _one_line(str(value)).strip()
    found = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", text)
    if not found or not 0 < int(found[1]) <= int(found[2] or found[1]) <= 65535:
        raise ValueError(f"{text!r} is no range of ports")
    return text


PORTS = Kind("ports", "a port or a range of them such as 5560-5579", "str", _ports)


def _uri(value: Any) -> str:
    text = _one_line(value)
    if not re.fullmatch(r"[a-z][a-z0-9+.-]*://\S*", text):
        raise ValueError(f"{text!r} is not a libvirt URI")
    return text


URI = Kind("uri", "a libvirt URI such as qemu:///system", "str", _uri)
BIND = Kind("bind", "an address of this machine, or * for all", "str", _matching(r"\*|[0-9A-Za-z.:_-]{1,253}"))
ADDRESS = Kind("host-address", "a host name or an IP address", "str", _matching(r"[0-9A-Za-z.:_-]{1,253}"))
