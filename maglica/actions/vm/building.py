"""Definitions: made, forgotten, exchanged, taken over, and compared with what is remembered."""

from __future__ import annotations

from maglica import kinds
from maglica.declare import ADMIN, Action, Where, action, arg

# A definition can name any file of the host as a disk or a program to run: only who may have all of it says such words.
# It may hold the password of a display: it is a secret.


@action(
    where=Where.PLACED,
    role=ADMIN,
    changes=True,
    whole_fleet=True,
    locks=("vm:{name}",),
    example="maglica vm define web1.example.jp --file=web1.xml --on=host1",
)
class VmDefine(Action):
    """Define a VM from a file, or from what its host remembers of it; its disks are there already."""

    name: str = arg(kinds.VM_NAME, "its name, which stands in the file as well", subject=True)
    file: str | None = arg(
        kinds.TEXT_FILE,
        "the definition, as `virsh dumpxml` prints it; by default what the host remembers",
        default=None, secret=True,
    )  # fmt: skip
    on: str | None = arg(
        kinds.HOST, "the host; may be left out where there is one only", default=None, values_of="host"
    )
    ignore_missing: bool = arg(kinds.BOOL, "go on although a host does not answer", default=False)


@action(
    where=Where.PLACED,
    role=ADMIN,
    changes=True,
    whole_fleet=True,
    locks=("vm:{name}",),
    example="maglica vm import web1 --qemu-args=web1.conf --on=host1 --network=default",
)
class VmImport(Action):
    """Define a VM from a file of QEMU's options, one on a line; its disks are there already."""

    name: str = arg(kinds.VM_NAME, "its name, which stands in the file as well", subject=True)
    qemu_args: str = arg(kinds.TEXT_FILE, "the options", secret=True)
    on: str | None = arg(
        kinds.HOST, "the host; may be left out where there is one only", default=None, values_of="host"
    )
    network: str | None = arg(
        kinds.NAME, "libvirt's network for cards whose own was a script's or a user's", default=None
    )
    ignore_missing: bool = arg(kinds.BOOL, "go on although a host does not answer", default=False)


@action(
    where=Where.OWNER,
    role=ADMIN,
    changes=True,
    locks=("vm:{name}",),
    example="maglica vm redefine web1.example.jp --file=web1.xml",
)
class VmRedefine(Action):
    """Give a VM another definition; what runs takes it with its next start."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    file: str | None = arg(
        kinds.TEXT_FILE, "the definition; by default what the host remembers", default=None, secret=True
    )


@action(
    where=Where.OWNER,
    changes=True,
    destructive=True,
    locks=("vm:{name}",),
    example="maglica vm undefine web1.example.jp --yes",
)
class VmUndefine(Action):
    """Forget the definition of a VM that is off. Its disks stay, and so does what its host remembers of it."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")


@action(where=Where.OWNER, changes=True, locks=("vm:{name}",), example="maglica vm adopt old1 --owner=alice")
class VmAdopt(Action):
    """Take a VM over that others made: a mark in its definition says so from now on."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    owner: str | None = arg(kinds.TEXT, "whose it is", default=None)
    tags: list[str] | None = arg(kinds.list_of(kinds.TAG, at_most=16), "words that are kept with the VM", default=None)


@action(where=Where.OWNER, changes=True, locks=("vm:{name}",), example="maglica vm forget old1")
class VmForget(Action):
    """Leave a VM to itself that was adopted: our mark is taken from its definition, and nothing else."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")


@action(where=Where.OWNER, changes=True, locks=("vm:{name}",), example="maglica vm sync web1.example.jp")
class VmSync(Action):
    """Bring what the host remembers of a VM up to what it is, and tell what has changed beside us."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
