"""What is done inside a running guest, through QEMU's guest agent."""

from __future__ import annotations

from typing import Any

from maglica import customizing, kinds
from maglica.declare import OPERATOR, Action, Where, action, arg

MOST_READ = 1 << 20  # bytes of a file that one answer brings
MOST_KEPT = 32 << 10  # bytes of each output of a command that its record keeps


@action(
    where=Where.OWNER,
    changes=True,
    locks=("vm:{name}",),
    limit=120,
    example="maglica vm exec web1.example.jp -- systemctl restart nginx",
)
class VmExec(Action):
    """Run a command in a guest as root; its output and its exit status are this command's."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    command: list[str] = arg(kinds.COMMAND_WORDS, "what to run", rest=True)
    timeout: float = arg(kinds.duration(1), "how long it may take; then it is ended", default=60.0)
    input: dict[str, Any] | None = arg(
        customizing.FILE, "what it reads from its standard input", default=None, secret=True
    )

    def limit(self) -> float:
        return self.LIMIT + self.timeout


@action(
    where=Where.OWNER,
    changes=True,
    locks=("vm:{name}",),
    limit=300,
    example="maglica vm put web1.example.jp --file=motd --to=/etc/motd --mode=0644",
)
class VmPut(Action):
    """Copy a file of this machine into a running guest; who looks sees the old one or the new one, whole."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    file: dict[str, Any] = arg(customizing.FILE, "the file", secret=True)
    to: str = arg(kinds.PATH, "its path in the guest")
    mode: int | None = arg(kinds.MODE, "its mode; as before, or as it is here, by default", default=None)
    owner: str | None = arg(kinds.OWNER, "its owner; as before, or root, by default", default=None)


@action(where=Where.TERMINAL, role=OPERATOR, example="maglica vm get web1.example.jp --path=/var/log/dpkg.log --to=.")
class VmGet(Action):
    """Copy a file of a running guest to this machine."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm", single="their files would have one name")
    path: str = arg(kinds.PATH, "the file in the guest")
    to: str | None = arg(
        kinds.TEXT, "where to put it: a path, a folder, or - for standard output; its own name by default", default=None
    )


@action(where=Where.OWNER, role=OPERATOR, example="maglica vm read-file web1.example.jp --path=/etc/os-release")
class VmReadFile(Action):
    """Show a piece of a file of a running guest; `vm get` brings whole ones."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    path: str = arg(kinds.PATH, "the file in the guest")
    offset: int = arg(kinds.integer(0, 1 << 50), "the first byte", default=0)
    length: int = arg(kinds.integer(1, MOST_READ), "bytes at most", default=MOST_READ)


@action(
    where=Where.OWNER,
    changes=True,
    locks=("vm:{name}",),
    example="maglica vm passwd web1.example.jp --user=root --password-hash=@hash",
)
class VmPasswd(Action):
    """Set the password of a user of a running guest, given as a hash."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    user: str = arg(kinds.ACCOUNT, "whose")
    password_hash: str = arg(kinds.CRYPT, "the hash", secret=True)


@action(
    where=Where.OWNER,
    changes=True,
    locks=("vm:{name}",),
    example="maglica vm ssh-key web1.example.jp --user=root --key=id_ed25519.pub",
)
class VmSshKey(Action):
    """Let the owners of keys log in to a running guest by ssh as a user, or no more."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    user: str = arg(kinds.ACCOUNT, "as whom")
    key: str = arg(kinds.SSH_KEYS, "file with public keys")
    remove: bool = arg(kinds.BOOL, "take them away instead", default=False)


@action(
    where=Where.OWNER,
    changes=True,
    slot="disk",
    locks=("vm:{name}",),
    limit=900,
    example="maglica vm fstrim web1.example.jp",
)
class VmFstrim(Action):
    """Let a running guest tell its disks which blocks are free, so that thin ones get smaller."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    minimum: int | None = arg(kinds.SIZE, "leave out free extents smaller than this", default=None)


@action(where=Where.OWNER, example="maglica vm interfaces web1.example.jp")
class VmInterfaces(Action):
    """Show the network cards of a running guest with their addresses, as it sees them itself."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
