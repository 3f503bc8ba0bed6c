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
    name: str | None = arg(kinds.TEXT, "only those called like this, such as 'ci-*'", default=None)
    tag: str | None = arg(kinds.TAG, "only those with this tag", default=None)
    owner: str | None = arg(kinds.TEXT, "only those of this owner", default=None)


@action(
    where=Where.EVERY,
    columns=("name", "host", "state", "by", "found"),
    wide=("uuid",),
    example="maglica vm find 52:54:00:12:34:56",
)
class VmFind(Action):
    """Find VMs by a MAC or IP address, a UUID or its beginning, or the path of a disk or of what it rests on."""

    what: str = arg(kinds.SOUGHT, "the address, UUID or path; a path may have * and ?", subject=True)


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


@action(where=Where.OWNER, example="maglica vm stats web1.example.jp --interval=2s")
class VmStats(Action):
    """Show what a VM uses: processors, memory, disks, network cards; with --interval how much in each second."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    interval: float | None = arg(
        kinds.duration(0.1, 10), "look twice, this long apart, and tell rates as well; at most 10s", default=None
    )


@action(
    where=Where.CLIENT_WORKER,
    columns=("id", "state", "action", "host", "created_at", "took_seconds"),
    wide=("owner", "by", "reason", "message"),
    example="maglica vm history web1.example.jp",
)
class VmHistory(Action):
    """Show what was done to a VM: its jobs, the newest last; also of one that is gone."""

    name: str = arg(kinds.NAME, "the VM, its full name", subject=True, values_of="vm")
    last: int = arg(kinds.integer(1, 10000), "how many", default=20)
