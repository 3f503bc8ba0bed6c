"""Value checks: what each kind takes, the one form it gives, and what it refuses."""

from __future__ import annotations

import random
import re
import string
from pathlib import Path
from typing import Any

import pytest

from maglica import kinds
from maglica.kinds import Kind

KINDS = {name: kind for name, kind in vars(kinds).items() if isinstance(kind, Kind)}

GOOD: list[tuple[Kind, Any, Any]] = [
    (kinds.NAME, "SL6.1-x86_64.original", "SL6.1-x86_64.original"),
    (kinds.NAME, "a" * 128, "a" * 128),
    (kinds.NAME, "9front+x", "9front+x"),
    (kinds.VM, "web1.example.jp@host0.example.jp", "web1.example.jp@host0.example.jp"),
    (kinds.HOST, "host0", "host0"),
    (kinds.TEXT, "a line, also with ü and 日本", "a line, also with ü and 日本"),
    (kinds.JOB, "1b7q2k0m4z", "1b7q2k0m4z"),
    (kinds.HOSTNAME, "vm0.example.jp", "vm0.example.jp"),
    (kinds.HOSTNAME, "a", "a"),
    (kinds.HOSTNAME, "0-0", "0-0"),
    (kinds.HOSTNAME, "a" * 63, "a" * 63),
    (kinds.SIZE, "512M", 512 << 20),
    (kinds.SIZE, "10G", 10 << 30),
    (kinds.RESERVE, "fast=10G", f"fast={10 << 30}"),
    (kinds.RESERVE, f"fast={10 << 30}", f"fast={10 << 30}"),
    (kinds.SIZE, "1T", 1 << 40),
    (kinds.SIZE, "4k", 4 << 10),
    (kinds.SIZE, "2GiB", 2 << 30),
    (kinds.SIZE, " 1P ", 1 << 50),
    (kinds.SIZE, 1, 1),
    (kinds.DURATION, "90s", 90.0),
    (kinds.DURATION, "15m", 900.0),
    (kinds.DURATION, "4h", 14400.0),
    (kinds.DURATION, "7d", 604800.0),
    (kinds.DURATION, "0.5s", 0.5),
    (kinds.DURATION, "0s", 0.0),
    (kinds.DURATION, 2, 2.0),
    (kinds.BOOL, "yes", True),
    (kinds.BOOL, "1", True),
    (kinds.BOOL, "ON", True),
    (kinds.BOOL, 1, True),
    (kinds.BOOL, True, True),
    (kinds.BOOL, "off", False),
    (kinds.BOOL, 0, False),
    (kinds.VCPUS, "4", 4),
    (kinds.VCPUS, 1024, 1024),
    (kinds.PORT, "5555", 5555),
    (kinds.MAC, "52:54:00:AB:cd:0f", "52:54:00:ab:cd:0f"),
    (kinds.MACS, "52:54:00:00:00:01, 52:54:00:00:00:02", ["52:54:00:00:00:01", "52:54:00:00:00:02"]),
    (kinds.MACS, [], []),
    (kinds.IP, "192.0.2.1", "192.0.2.1"),
    (kinds.IP, "2001:DB8:0::1", "2001:db8::1"),
    (kinds.IPS, ["192.0.2.1", "2001:db8::1"], ["192.0.2.1", "2001:db8::1"]),
    (kinds.INTERFACE, "192.0.2.10/24", "192.0.2.10/24"),
    (kinds.INTERFACE, "2001:db8::5/64", "2001:db8::5/64"),
    (kinds.INTERFACE, "192.0.2.0/31", "192.0.2.0/31"),  # RFC 3021: both addresses of a point-to-point link
    (kinds.PATH, "/var/lib/maglica", "/var/lib/maglica"),
    (kinds.PATH, "/a b/..c", "/a b/..c"),
    *[(kinds.PATH, value, "/a/b") for value in ("/a/b/", "/a/b/.", "//a/b", "/a//b", "/./a/b//")],
    (kinds.PATH, "/", "/"),
    (kinds.VOLUME, "/pool/a.qcow2/", "/pool/a.qcow2"),
    (kinds.URI, "qemu:///system", "qemu:///system"),
    (kinds.URI, "test:///default", "test:///default"),
    (kinds.URI, "qemu+ssh://root@host/system", "qemu+ssh://root@host/system"),
    (kinds.BIND, "*", "*"),
    (kinds.BIND, "::1", "::1"),
    (kinds.ADDRESS, "client.example.jp", "client.example.jp"),
    (kinds.CRYPT, "$6$salt$abcdefgh", "$6$salt$abcdefgh"),
    (kinds.CRYPT, " $y$j9T$salt$abcdefgh\n", "$y$j9T$salt$abcdefgh"),
]

BAD: list[tuple[Kind, Any, str]] = [
    # a name can never be an option, leave its directory or break a line
    *[(kinds.NAME, value, "") for value in ("", "-x", ".x", "a/b", "a b", "a\n", "a\0", "ä", "a" * 129, "a;b", "$(a)")],
    *[(kinds.NAME, value, "is not text") for value in (None, 5, True, b"a", ["a"], {"a": 1})],
    *[(kinds.VM, value, "") for value in ("a@", "@a", "a@b@c", "a@-b", "web1@")],
    (kinds.TEXT, "two\nlines", "control characters"),
    (kinds.TEXT, "bell\a", "control characters"),
    (kinds.TEXT, "x" * 4097, "4097 characters are more than 4096"),
    *[(kinds.JOB, value, "") for value in ("abc", "a" * 41, "a%b0", "1b7q_k0m4z")],
    *[(kinds.HOSTNAME, v, "") for v in ("", ".", "a.", ".a", "a..b", "-a", "a-", "a_b", "a" * 64, "a.b\n", "a b", "ü")],
    (kinds.HOSTNAME, ".".join(["a" * 20] * 4), "too long"),
    *[(kinds.RESERVE, value, "has no =") for value in ("fast", "10G", "")],
    *[(kinds.RESERVE, value, "is not") for value in ("=10G", "fast=x", "a/b=1G")],
    *[(kinds.SIZE, value, "has no unit; say") for value in ("512", " 7 ")],
    *[(kinds.SIZE, value, "is not a size") for value in ("", "G", "1.5G", "-1G", "10X", "1GG", "1 G x", "+2G")],
    *[(kinds.SIZE, value, "out of range") for value in (0, -5, "0M", "1024P", 1 << 60, "999999999999999P")],
    *[(kinds.SIZE, value, "") for value in (None, True, 1.5, [], {})],
    *[(kinds.DURATION, value, "has no unit; say") for value in ("90", "1.5")],
    *[(kinds.DURATION, value, "is no duration") for value in ("", "s", "1w", "-1s", "1e3s", "1 s", "inf", "nan")],
    *[(kinds.DURATION, value, "out of range") for value in (-1, "367d", float("inf"), float("nan"))],
    *[(kinds.DURATION, value, "") for value in (None, True, [])],
    *[(kinds.BOOL, value, "neither yes nor no") for value in ("", "2", "ja", None, [], "y")],
    *[(kinds.VCPUS, value, "is not a whole number") for value in ("", "1.0", 1.0, "four", True, None, "1e2", "0x4")],
    *[(kinds.VCPUS, value, "out of range") for value in (0, -1, 1025, "99999999")],
    *[(kinds.PORT, value, "out of range") for value in (0, 65536)],
    *[(kinds.MAC, v, "not a MAC") for v in ("", "52:54:00:12:34", "52-54-00-12-34-56", "52:54:00:12:34:5g")],
    (kinds.MAC, "01:00:5e:00:00:01", "multicast"),
    (kinds.MAC, "ff:ff:ff:ff:ff:ff", "multicast"),
    (kinds.MACS, 5, "is not a list"),
    (kinds.MACS, ["52:54:00:00:00:01"] * 17, "17 values are more than 16"),
    (kinds.MACS, ["52:54:00:00:00:01", "x"], "not a MAC"),
    *[(kinds.IP, value, "not an IP address") for value in ("", "192.0.2", "192.0.2.256", "host", 5, "192.0.2.1/24")],
    (kinds.INTERFACE, "192.0.2.10", "has no prefix length"),
    (kinds.INTERFACE, "192.0.2.0/24", "address of the network itself"),
    (kinds.INTERFACE, "192.0.2.10/33", "not an address with its prefix"),
    *[(kinds.PATH, value, "not an absolute path") for value in ("", "a/b", "/a/../etc", "/a/..", "~/x")],
    *[(kinds.URI, value, "not a libvirt URI") for value in ("", "qemu", "qemu://x y", "://x", "qemu:/system")],
    *[(kinds.BIND, value, "") for value in ("", "**", "a b", "a/b")],
    *[(kinds.ADDRESS, value, "") for value in ("", "*", "a b", "a/b", "tcp://a")],
    *[
        (kinds.CRYPT, value, "not a hash")
        for value in ("", "password", "$6$", "$6$a$b\nroot::0", "$6$a:b$cdefghijk", 5)
    ],
]


def shown(value: Any) -> str:
    return value.name if isinstance(value, Kind) else repr(value)[:40]


@pytest.mark.parametrize(("kind", "value", "expected"), GOOD, ids=shown)
def test_good_values_get_their_one_form(kind: Kind, value: Any, expected: Any) -> None:
    found = kind.check(value)
    assert found == expected
    assert type(found) is type(expected)
    assert kind.check(found) == found, "the form that travels is good at the other door too"


@pytest.mark.parametrize(("kind", "value", "words"), BAD, ids=shown)
def test_bad_values_are_refused_in_words(kind: Kind, value: Any, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words) if words else None) as error:
        kind.check(value)
    assert str(error.value)


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_says_what_it_expects(name: str) -> None:
    kind = KINDS[name]
    assert kind.name
    assert kind.expected
    assert "\n" not in kind.expected
    compile(kind.python, "annotation", "eval")


@pytest.mark.parametrize("name", KINDS)
def test_nothing_but_value_error_whatever_comes(name: str) -> None:
    chance = random.Random(7)
    letters = string.printable + "äß日\0\ud800"

    def anything(depth: int = 0) -> Any:
        makers = [
            lambda: None,
            lambda: chance.random() < 0.5,
            lambda: chance.randint(-(1 << 64), 1 << 64),
            lambda: chance.choice([0.0, -1.5, float("nan"), float("inf"), 1e308]),
            lambda: "".join(chance.choices(letters, k=chance.randrange(20))),
            lambda: bytes(chance.choices(range(256), k=4)),
            lambda: [anything(depth + 1) for _ in range(chance.randrange(3))] if depth < 3 else [],
            lambda: {chance.choice(letters): anything(depth + 1)} if depth < 3 else {},
        ]
        return chance.choice(makers)()

    for _ in range(500):
        try:
            found = KINDS[name].check(anything())
        except ValueError:
            continue
        assert isinstance(found, (str, int, float, bool, list)), "what travels is plain"


def test_a_host_name_is_also_a_name_that_every_other_command_takes() -> None:
    """A VM that could be made and never again be started or removed would be a trap."""
    for name in ("a" * 63, f"{'a' * 30}.{'b' * 30}", "1.a2", "a-b.c-d"):
        assert kinds.VM.check(kinds.HOSTNAME.check(name)) == name
    for length in range(1, 300):
        name = ".".join(["a" * 9] * 30)[:length].strip(".")
        try:
            kinds.HOSTNAME.check(name)
        except ValueError:
            assert len(name) > 64
            continue
        assert len(name) <= 64, "the kernel of a guest takes no more: sethostname(2)"
        kinds.VM.check(name)


def test_choices_are_taken_literally() -> None:
    kind = kinds.choice("full", "linked")
    assert kind.choices == ("full", "linked")
    assert kind.expected == "full or linked"
    assert kinds.choice("a", "b", "c").expected == "a, b or c"
    assert kinds.choice("vmdk").expected == "vmdk"
    for wrong in ("Full", "", None, True, ["full"], "full "):
        with pytest.raises(ValueError, match="none of them"):
            kind.check(wrong)


def test_numbers_keep_their_bounds() -> None:
    kind = kinds.number(0, 1000)
    assert kind.check("0.5") == 0.5
    assert kind.check(1000) == 1000.0
    for wrong in ("-0.1", 1000.1, "nan", float("nan"), "inf", "ten", None, []):
        with pytest.raises(ValueError, match=r"out of range|not a number"):
            kind.check(wrong)
    whole = kinds.integer(-5, 5)
    assert whole.check("-5") == -5
    with pytest.raises(ValueError, match="out of range"):
        whole.check(-6)


def test_the_range_of_a_size_ends_before_what_libvirt_and_sqlite_hold() -> None:
    assert kinds.SIZE.check((1 << 60) - 1) < 1 << 63


# ---------------------------------------------------------------------------------------- keys and files

ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGpXkJ0qAAAAAAAAAAAAAAAAAAAA me@example.jp"
RSA = "ssh-rsa " + "A" * 300


def test_public_keys_are_cleaned_and_kept() -> None:
    text = f'# mine\n\n  {ED25519}\r\nfrom="192.0.2.0/24",no-pty {RSA} old\n'
    assert kinds.SSH_KEYS.check(text) == f'{ED25519}\nfrom="192.0.2.0/24",no-pty {RSA} old\n'
    assert kinds.SSH_KEYS.check(kinds.SSH_KEYS.check(text)) == kinds.SSH_KEYS.check(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no public key"),
        ("# nothing\n", "no public key"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n", "private key"),
        (f"{ED25519}\nnonsense", "is not a public key"),
        ("ssh-ed25519 short", "is not a public key"),
        ("ssh-dss " + "A" * 100, "is not a public key"),
        (f"{ED25519}\n" * 1000, "more than 64 KiB"),
        (5, "is not text"),
        (None, "is not text"),
    ],
    ids=shown,
)
def test_other_keys_are_refused(text: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        kinds.SSH_KEYS.check(text)


def test_a_private_key_is_not_repeated() -> None:
    with pytest.raises(ValueError, match="private") as error:
        kinds.SSH_KEYS.check("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n")
    assert "c2VjcmV0" not in str(error.value)


def test_files_are_read_in_the_terminal_only(tmp_path: Path) -> None:
    path = tmp_path / "id.pub"
    path.write_text(ED25519 + "\n")
    assert kinds.SSH_KEYS.terminal is not None
    assert kinds.SSH_KEYS.check(kinds.SSH_KEYS.terminal(str(path))) == ED25519 + "\n"
    with pytest.raises(ValueError, match="is not a public key"):
        kinds.SSH_KEYS.check(str(path))  # from the wire a path is just a wrong key
    assert kinds.CRYPT.terminal is not None
    path.write_text("$6$salt$abcdefgh\n")
    assert kinds.CRYPT.terminal(f"@{path}") == "$6$salt$abcdefgh"
    assert kinds.CRYPT.terminal("$6$salt$abcdefgh") == "$6$salt$abcdefgh"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot read '/nonexistent': No such file"):
        kinds.file_or_text("/nonexistent")
    with pytest.raises(ValueError, match="Is a directory"):
        kinds.file_or_text(str(tmp_path))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="cannot read"):
        kinds.file_or_text(str(tmp_path / "binary"))


def test_a_file_is_never_read_without_end() -> None:
    assert len(kinds.file_or_text("/dev/zero")) == 65536


@pytest.mark.parametrize("text", ["localhost", "LOCALHOST", "1.2.3.4", "123", "web.1"])
def test_a_host_name_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="means something else"):
        kinds.HOSTNAME.check(text)


def test_case_has_no_meaning_in_a_host_name() -> None:
    assert kinds.HOSTNAME.check("VM0.Example.JP") == "vm0.example.jp"


@pytest.mark.parametrize(
    "text", ["127.0.0.1/8", "224.0.0.1/24", "fe80::1/64", "192.168.101.255/24", "0.0.0.0/32", "::1/128"]
)
def test_an_address_that_no_guest_can_have(text: str) -> None:
    with pytest.raises(ValueError, match=r"is (a|the) "):
        kinds.INTERFACE.check(text)


@pytest.mark.parametrize("value", ["1K", "15M", 512])
def test_memory_that_no_kernel_boots_in(value: str | int) -> None:
    with pytest.raises(ValueError, match="is less than 16M"):
        kinds.MEMORY.check(value)
