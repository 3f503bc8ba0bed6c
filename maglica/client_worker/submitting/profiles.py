"""Profiles: what clones are customised with, from the settings to the jobs.

They are kept in the client worker's settings alone. The files that they name are read when the settings are, so that a
profile is what it was at that moment; its content travels with each job, as a secret: it is not shown, and not kept
once the job has ended. A new try gets the profile as it is then.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from maglica import customizing, declare
from maglica.config import CustomizeSection, Settings
from maglica.declare import Action
from maglica.errors import MaglicaError, Refused

log = logging.getLogger("maglica.client_worker")

NONE = "none"


class Profiles:
    """All profiles with their content; one whose files cannot be read is refused when it is asked for."""

    def __init__(self, settings: Settings | None = None) -> None:
        self._default: str | None = None
        self._images: dict[str, list[str]] = {}
        self._content: dict[str, dict[str, Any] | MaglicaError] = {}
        if settings:
            self.change(settings)

    def change(self, settings: Settings) -> None:
        """Take other settings, and read what they name."""
        sections = settings.customize
        self._default = settings.client.customize_profile
        self._images = {name: list(section.images) for name, section in sections.items() if " " not in name}
        self._content = {}
        for name in self._images:
            families = {one.split()[1]: part for one, part in sections.items() if one.split()[0] == name and " " in one}
            try:
                self._content[name] = content(name, sections[name], families)
            except MaglicaError as error:
                log.warning("profile=%s cannot be used: %s", name, error.message)
                self._content[name] = error
        orphans = sorted({name.split()[0] for name in sections} - self._images.keys())
        for name in orphans:
            log.warning("profile=%s has sections of families, but no [customize %s]", name, name)

    def fill(self, action: Action) -> Action:
        """The action with the profile that it asks for, or that its image's clones get; refused when it cannot be had.

        Actions that know no profiles are as they were.
        """
        values = action.values()
        if "profile" not in values:
            return action
        if values["profile"] is not None:
            raise Refused("wrong_input", f"{action.NAME}: profile is put in by the client worker", "leave it out")
        name = values["customize_profile"] or self._usual(values)
        if name in (None, NONE):
            return action
        found = self._content.get(name)
        if found is None:
            close = declare.nearest(name, self._content)
            hint = f"did you mean {close}?" if close else f"there are {', '.join(sorted(self._content)) or 'none'}"
            raise Refused("unknown_entity", f"there is no customisation profile {name}", hint)
        if isinstance(found, MaglicaError):
            raise found
        return type(action)(**{**values, "customize_profile": name, "profile": found})

    def _usual(self, values: Mapping[str, Any]) -> str | None:
        """The profile of the image, or that of all."""
        if values.get("customize") == "none" or values.get("barebones"):
            return None
        image = str(values["image"] or "")
        fitting = [name for name, patterns in self._images.items() if any(fnmatchcase(image, one) for one in patterns)]
        if len(fitting) > 1:
            raise Refused(
                "ambiguous_name", f"{image} is among the images of several profiles: {', '.join(sorted(fitting))}",
                "choose one with --customize-profile",
            )  # fmt: skip
        return fitting[0] if fitting else self._default


def content(name: str, section: CustomizeSection, families: Mapping[str, CustomizeSection]) -> dict[str, Any]:
    """What a profile holds, as it travels; `Refused` names the key that is wrong."""
    own: dict[str, Any] = {}
    for family, part in families.items():
        own[family] = _part(f"customize {name} {family}", part, customizing.OF_FAMILY)
        extra = [key for key, value in part.values().items() if value and key not in customizing.OF_FAMILY]
        if extra:
            raise Refused(
                "wrong_input", f"[customize {name} {family}]: {', '.join(extra)} cannot differ by family",
                f"it belongs into [customize {name}]",
            )  # fmt: skip
    try:
        found = {"name": name, "families": own, **_part(f"customize {name}", section, tuple(customizing.CONTENT))}
        checked: dict[str, Any] = customizing.PROFILE.check(found)
    except ValueError as error:
        raise Refused("wrong_input", f"[customize {name}]: {error}") from None
    return checked


def _part(title: str, section: CustomizeSection, keys: tuple[str, ...]) -> dict[str, Any]:
    found = {}
    for key in keys:
        value = section.values()[key]
        if not value:
            continue
        kind = customizing.CONTENT[key]
        try:
            if kind.repeated and kind.terminal:
                value = [kind.terminal(_absolute(key, line)) for line in value]
            elif kind.terminal:
                value = kind.terminal(_absolute(key, value))
            found[key] = kind.check(value)
        except ValueError as error:
            raise Refused("wrong_input", f"[{title}]: {key}: {error}", f"expected {kind.expected}") from None
    return found


def _files(key: str, line: str) -> list[str]:
    """The files of this machine that a line names."""
    if key == "upload":
        return [line.rpartition(":")[0]]
    if key == "user":
        options = [word.partition("=") for word in line.split(":")]
        return [value.removeprefix("@") for word, _, value in options if word == "key" or value[:1] == "@"]
    return [line.removeprefix("@")] if key == "ssh_key" or line[:1] == "@" else []


def _absolute(key: str, line: str) -> str:
    """The line, unless a file that it names depends on where the daemon was started."""
    for path in _files(key, line):
        if not os.path.isabs(path):
            raise ValueError(f"{path!r} is not an absolute path")
    return line
