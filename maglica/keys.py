"""Keys: the files that hold them, and the word by which a host joins. No sockets: pairs are made in `bus/`.

A key is a CURVE key pair together with the public key of the client worker that it is for, so that nobody else can
pose as it. Whoever holds the file is who it says; what that one may do is recorded at the client worker, under the
public key, and nowhere else.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from maglica.errors import Failed, Refused

Z85 = frozenset("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#")
Z85_LENGTH = 40  # characters of a key of 32 bytes; https://rfc.zeromq.org/spec/32/

SERVER_FILE = "server.key"
ADMIN_FILE = "admin.key"  # made at the client worker's first start, for root on that machine
ADMIN_NAME = "admin"


class Pair(NamedTuple):
    """A CURVE key pair in Z85."""

    public: str
    secret: str


class Key(NamedTuple):
    """What one key file holds. `name` is the person's, the program's or the host's."""

    name: str
    public: str
    secret: str
    server: str = ""  # public key of the client worker; its own file has none
    address: str = ""  # where the client worker was when the key was made
    pub_port: int = 5555
    rep_port: int = 5556
    invitation: str = ""  # digest of the invitation that a host joined by

    @property
    def pair(self) -> Pair:
        return Pair(self.public, self.secret)


class Invitation(NamedTuple):
    """What a host needs to join: where, whom it may trust there, who it is, and the secret that lets it in once."""

    host: str
    secret: str
    server: str
    address: str
    pub_port: int
    rep_port: int

    @property
    def digest(self) -> str:
        return digest(self.secret)

    def token(self) -> str:
        """As one word that a shell leaves alone."""
        import base64
        import zlib

        told = " ".join([self.host, self.secret, self.server, self.address, str(self.pub_port), str(self.rep_port)])
        data = told.encode()
        packed = base64.urlsafe_b64encode(zlib.crc32(data).to_bytes(4, "big") + data)
        return TOKEN_PREFIX + packed.decode().rstrip("=")


TOKEN_PREFIX = "maglica1-"


def invitation(token: str) -> Invitation:
    """The invitation in a token; `Refused` when it is none, or was damaged on its way."""
    import base64
    import zlib

    from maglica import kinds

    told = token.strip().removeprefix(TOKEN_PREFIX)
    try:
        packed = base64.urlsafe_b64decode(told + "=" * (-len(told) % 4))
        words = packed[4:].decode().split(" ")
        host, secret, server, address, pub_port, rep_port = words
        found = Invitation(
            kinds.HOST.check(host), secret, kinds.PUBLIC_KEY.check(server), kinds.ADDRESS.check(address),
            kinds.PORT.check(pub_port), kinds.PORT.check(rep_port),
        )  # fmt: skip
        whole = zlib.crc32(packed[4:]) == int.from_bytes(packed[:4], "big") and token.strip() != told
    except ValueError:  # binascii.Error and UnicodeError are some
        whole = False
    if not whole:
        # The token itself is never repeated: it may be good but for one letter.
        raise Refused(
            "wrong_input",
            "this is no invitation, or not all of it",
            "copy the whole word that `maglica host invite NAME` printed",
        )
    return found


def digest(secret: str) -> str:
    """What is kept of a secret: enough to know it again."""
    return _sha256(secret)


def fingerprint(public: str) -> str:
    """A public key for people: twelve hexadecimal digits."""
    return _sha256(public)[:12]


def _sha256(text: str) -> str:
    import hashlib  # 3 ms, which commands that are let in need not spend

    return hashlib.sha256(text.encode()).hexdigest()


def is_key(text: str) -> bool:
    """Whether this is a key in Z85."""
    return len(text) == Z85_LENGTH and Z85.issuperset(text)


# ------------------------------------------------------------------------------------------------------ files


def host_file(folder: str, name: str) -> str:
    """The file of a host's key."""
    return os.path.join(folder, f"host-{name}.key")


def host_files(folder: str) -> list[str]:
    """The files of all hosts' keys in a folder: more than one only where several host workers share a machine."""
    try:
        found = os.listdir(folder)
    except OSError:
        return []
    return sorted(os.path.join(folder, name) for name in found if name.startswith("host-") and name.endswith(".key"))


def save(path: str, key: Key) -> None:
    """Write a key file, mode 0600, durably and in one piece. Its folder is made (0700) where it is missing."""
    lines = [f"# A key of maglica. Whoever holds this file is {key.name}: keep it to yourself."]
    lines += [f"{field} = {value}" for field, value in key._asdict().items() if value != ""]
    fresh = path + ".new"
    try:
        os.makedirs(os.path.dirname(path) or ".", mode=0o700, exist_ok=True)
        # Never into a file that is there: somebody else may have put it there, and read it afterwards.
        with suppress(FileNotFoundError):
            os.unlink(fresh)
        fd = os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
            file.flush()
            os.fsync(file.fileno())
        settle(fresh, path)
    except OSError as error:
        hint = "is the folder there, and may you write to it?"
        raise Failed("environment_error", f"cannot write the key {path}: {error.strerror}", hint) from None


def settle(fresh: str, path: str) -> None:
    """Give a key file its name, so that a power cut does not take it back."""
    os.rename(fresh, path)
    folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def load(path: str, *, own: bool = False) -> Key:
    """Read a key file. `Refused` when it is missing, is no key, or others may read it.

    `own`: it is the client worker's, which names no client worker that it is for.
    """
    try:
        with open(path, encoding="utf-8") as file:
            others = os.fstat(file.fileno()).st_mode & 0o077
            text = file.read(65536)
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        hint = "--key, MAGLICA_KEY or [client] key says where it is"
        raise Refused("denied", f"cannot read the key {path}: {why}", hint) from None
    if others:
        raise Refused("denied", f"the key {path} can be read by others: it is a secret", f"chmod 600 {path}")
    values = dict(_pairs(text))
    needed = [values.get(field, "") for field in ("public", "secret", *(() if own else ("server",)))]
    if not values.get("name") or not all(map(is_key, needed)):
        raise Refused("denied", f"{path} is no key of maglica", "`maglica key new NAME` makes one")
    ports = {name: int(values[name]) for name in ("pub_port", "rep_port") if values.get(name, "").isdigit()}
    texts = {name: values[name] for name in Key._fields if name in values and name not in ("pub_port", "rep_port")}
    return Key(**texts, **ports)  # type: ignore[arg-type]


def _pairs(text: str) -> list[tuple[str, str]]:
    lines = [line for line in text.splitlines() if " = " in line and not line.startswith("#")]
    return [(name.strip(), value.strip()) for name, _, value in (line.partition(" = ") for line in lines)]


def own(explicit: str | None, usual: list[str]) -> Key:
    """The key of whoever runs this command: the file that was named, otherwise the first usual one that is there."""
    if explicit:
        return load(os.path.expanduser(explicit))
    for path in usual:
        if os.access(path, os.R_OK):
            return load(path)
    raise Refused(
        "denied",
        f"there is no key for the client worker: looked for {' and '.join(usual)}",
        "an administrator makes one with `maglica key new NAME`; --key, MAGLICA_KEY or [client] key says where it is",
    )


def of_client_worker(folder: str, make: Callable[[], Pair], *, known: bool) -> Key:
    """The client worker's own key; made at its first start.

    `known`: its store holds keys of hosts or people, which are for the key that it had then.
    """
    path = os.path.join(folder, SERVER_FILE)
    if os.path.exists(path):
        return load(path, own=True)
    if known:
        raise Refused(
            "environment_error",
            f"the key of this client worker, {path}, is gone: hosts and people trust that one only",
            "put it back from a backup; or move the job store away as well, and invite every host again",
        )
    key = Key("client worker", *make())
    save(path, key)
    return key
