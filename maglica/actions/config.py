"""Settings, as this terminal sees them."""

from __future__ import annotations

from maglica import kinds
from maglica.declare import Action, Where, action, arg


@action(
    where=Where.TERMINAL,
    columns=("section", "key", "value", "origin"),
    wide=("help",),
    example="maglica config show",
)
class ConfigShow(Action):
    """Print every setting that is in effect and where its value comes from."""


@action(where=Where.TERMINAL, example="maglica config check --file=/etc/maglica/maglica.conf")
class ConfigCheck(Action):
    """Check a settings file: sections, keys, values."""

    file: str | None = arg(kinds.TEXT, "the file; the one in effect by default", default=None)
