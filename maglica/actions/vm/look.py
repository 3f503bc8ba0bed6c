"""Looking at VMs."""

from __future__ import annotations

from maglica import kinds
from maglica.declare import Action, Where, action, arg


@action(
    where=Where.EVERY,
    columns=("name", "host", "state"),
    wide=("vcpus", "memory_bytes", "uptime_seconds", "ips", "record_state", "owner", "tags", "uuid"),
    example="maglica vm list --state=running",
)
class VmList(Action):
    """List the VMs of all hosts, as they are at this moment."""

    all: bool = arg(kinds.BOOL, "images as well", default=False)
    host: str | None = arg(kinds.HOST, "only those of this host", default=None, values_of="host")
    state: str | None = arg(
        kinds.choice("running", "idle", "paused", "in-shutdown", "shut-off", "crashed", "pm-suspended"),
        "only those in this state",
        default=None,
    )


@action(where=Where.OWNER, example="maglica vm info web1.example.jp")
class VmInfo(Action):
    """Show all that is known of a VM: state, resources, disks, network cards, addresses, console."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")


@action(
    where=Where.TERMINAL,
    columns=("state", "check", "about", "found"),
    wide=("cure",),
    example="maglica vm check --all",
)
class VmCheck(Action):
    """Find VMs that share a name, a UUID, a MAC or IP address, or a machine-id, on whatever hosts they are."""

    name: str | None = arg(kinds.VM, "the VM", default=None, subject=True, values_of="vm")
    all: bool = arg(kinds.BOOL, "check every VM", default=False)
    deep: bool = arg(
        kinds.BOOL, "read the machine-id in the disks of these VMs where they are off, some seconds each", default=False
    )


@action(where=Where.EVERY, hidden=True)
class VmIdentify(Action):
    """Tell what each VM is known by: name, UUID, addresses, machine-id."""

    deep: list[str] | None = arg(
        kinds.list_of(kinds.NAME, at_most=1000), "VMs whose disks are to be read when they are off", default=None
    )
