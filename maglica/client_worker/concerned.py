"""The names that an action touches, and that have to be for whoever asks: `Keyring.may` is asked about each of them.

Values in, values out.
"""

from __future__ import annotations

from collections.abc import Mapping

from maglica.actions.image import ImageLabel, ImagePromote
from maglica.client_worker.placement import labels
from maglica.declare import READER, Action


def by_job(action: Action) -> list[str]:
    """Of what a job is about, or makes, and the name that it gives beside that."""
    about = "name" if action.NOUN == "image" else action.distinct()
    given = action.given_name()
    return [str(action.values()[about]), *([given] if given else [])]


def hosts(action: Action) -> list[str]:
    """The hosts that somebody says: where something shall go, and where it shall come from."""
    values = action.values()
    return [str(values[name]) for name in ("on", "dest", "from_") if values.get(name) is not None]


def by_record(action: Action, known: Mapping[str, str]) -> list[str]:
    """Of what the client worker changes for everybody in its own records. `known`: the labels and what they mean."""
    if action.NOUN not in ("image", "template") or action.ROLE == READER:  # to look is for everybody
        return []
    name = str(getattr(action, "name"))
    if isinstance(action, (ImageLabel, ImagePromote)):
        image = known.get(name, name)
        return [image, labels.wanted(action, image)]
    return [name]
