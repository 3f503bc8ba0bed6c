"""Fleets: VMs that are called BASE-1, BASE-2, … and were made as one; marked so in their metadata."""

from __future__ import annotations

from maglica import kinds
from maglica.actions._parameters import parameters
from maglica.declare import Action, Where, action, arg


class _Some(Action):
    """Some of a fleet, or all of it."""

    name: str = arg(kinds.FLEET, "the fleet", subject=True, values_of="fleet")
    count: int = arg(kinds.integer(1, 1000), "how many", default=1)
    all: bool = arg(kinds.BOOL, "all of them, whatever --count says", default=False)
    forks: int | None = arg(kinds.integer(1, 1000), "how many side by side; [client] forks by default", default=None)


@action(
    where=Where.MANY,
    changes=True,
    whole_fleet=True,
    example="maglica fleet create web --template=web --count=10 --swap=1G",
)
class FleetCreate(Action):
    """Clone VMs called NAME-1, NAME-2, … from a template or an image; numbers continue after the highest."""

    FIELDS = parameters()

    name: str = arg(kinds.FLEET, "the fleet", subject=True)
    template: str | None = arg(kinds.NAME, "what they are made of", default=None, values_of="template")
    count: int = arg(kinds.integer(1, 1000), "how many", default=1)
    forks: int | None = arg(kinds.integer(1, 1000), "how many side by side; [client] forks by default", default=None)
    ignore_missing: bool = arg(kinds.BOOL, "go on although a host does not answer", default=False)


@action(where=Where.MANY, changes=True, whole_fleet=True, example="maglica fleet start web --count=5")
class FleetStart(_Some):
    """Start VMs of a fleet, those with the lowest numbers first; those that run already are not counted."""

    ignore_missing: bool = arg(kinds.BOOL, "go on although a host does not answer", default=False)


@action(where=Where.MANY, changes=True, example="maglica fleet stop web --count=5 --force")
class FleetStop(_Some):
    """Shut down running VMs of a fleet, those with the highest numbers first."""

    timeout: float = arg(kinds.DURATION, "how long each guest may take", default=60.0)
    force: bool = arg(kinds.BOOL, "pull the plug when it did not obey in time", default=False)
    kill: bool = arg(kinds.BOOL, "pull the plug at once", default=False)


@action(where=Where.MANY, changes=True, whole_fleet=True, example="maglica fleet restart web --all")
class FleetRestart(_Some):
    """Shut down running VMs of a fleet and start them again, those with the lowest numbers first."""

    timeout: float = arg(kinds.DURATION, "how long each guest may take to shut down", default=60.0)
    force: bool = arg(kinds.BOOL, "pull the plug when it did not obey in time", default=False)
    ignore_missing: bool = arg(kinds.BOOL, "go on although a host does not answer", default=False)


@action(
    where=Where.MANY,
    changes=True,
    destructive=True,
    aliases=("delete",),
    example="maglica fleet remove web --all --yes",
)
class FleetRemove(_Some):
    """Delete VMs of a fleet with their disks, those with the highest numbers first, also when they run."""


@action(
    where=Where.MANY,
    columns=("name", "vms", "running", "numbers", "hosts"),
    wide=("images", "templates"),
    example="maglica fleet list",
)
class FleetList(Action):
    """List the fleets: how many VMs they have, how many of them run, and where they are."""
