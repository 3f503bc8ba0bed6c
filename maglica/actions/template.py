"""Templates: an image and what its clones shall be like, under a name; the client worker keeps them."""

from __future__ import annotations

from maglica import kinds
from maglica.actions._parameters import parameters
from maglica.declare import OPERATOR, Action, Where, action, arg


@action(
    where=Where.CLIENT_WORKER,
    columns=("name", "image", "vcpus", "memory_bytes", "changed_at"),
    wide=("parameters", "owner"),
    example="maglica template list",
)
class TemplateList(Action):
    """List the templates."""


@action(where=Where.CLIENT_WORKER, example="maglica template show web")
class TemplateShow(Action):
    """Show what a template says."""

    name: str = arg(kinds.NAME, "the template", subject=True, values_of="template")


@action(
    where=Where.CLIENT_WORKER,
    role=OPERATOR,
    example="maglica template add web --image=el9.original --memory=4G --vcpus=2 --disks=20G",
)
class TemplateAdd(Action):
    """Keep a template: an image, and whatever else `vm clone` takes that is not of one VM alone."""

    FIELDS = parameters()

    name: str = arg(kinds.NAME, "what it is to be called", subject=True)
    file: str | None = arg(kinds.TEXT_FILE, "a file with key = value lines; options count more", default=None)
    replace: bool = arg(kinds.BOOL, "also when there is one of that name", default=False)


@action(
    where=Where.CLIENT_WORKER,
    role=OPERATOR,
    destructive=True,
    aliases=("delete",),
    example="maglica template remove web --yes",
)
class TemplateRemove(Action):
    """Forget a template. VMs that were made of it stay as they are."""

    name: str = arg(kinds.NAME, "the template", subject=True, values_of="template")


@action(where=Where.CLIENT_WORKER, example="maglica template render web --hostname=web1 --memory=8G")
class TemplateRender(Action):
    """Show the command that a template stands for, with what is given beside it."""

    FIELDS = parameters()

    name: str = arg(kinds.NAME, "the template", subject=True, values_of="template")
    hostname: str | None = arg(kinds.HOSTNAME, "name of the VM", default=None)
