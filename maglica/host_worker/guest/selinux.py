"""SELinux labels of what is new on a disk. Pure: values in, values out.

A file that libguestfs makes has no label, and a guest that enforces its policy keeps its services from reading it.
virt-customize has the appliance's setfiles label the whole disk, or, where the appliance has none, leaves
/.autorelabel, which makes the guest label everything at its next boot and boot again: minutes. Here the image's own
file_contexts say what each new file is called (selabel_file(5)), and only those are labelled; /.autorelabel is what is
left where the image has no such file.

Files that are rewritten in place keep their labels.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from maglica.host_worker.guest.model import (
    Edit,
    Expectation,
    GuestFacts,
    HasLabel,
    Label,
    Link,
    MakeDir,
    MakeHostKeys,
    Remove,
    WriteFile,
)

Part = tuple[list[Edit], list[Expectation]]

CONFIG = "/etc/selinux/config"
AUTORELABEL = "/.autorelabel"
CONTEXTS = "/etc/selinux/{}/contexts/files/file_contexts{}"
PARTS = ("", ".homedirs", ".local")
SUBSTITUTIONS = (".subs", ".subs_dist")
READ = (CONFIG, *(CONTEXTS.format("*", part) for part in (*PARTS, *SUBSTITUTIONS)))
KINDS = {"--": "file", "-d": "folder", "-l": "link"}
PLAIN = re.compile(r"(?:[^.^$?*+|\[({\\]|\\[.])*")
"""The beginning of a pattern in which every letter stands for itself."""


class Rule(NamedTuple):
    """A line of file_contexts. `kind` None: of whatever kind the file is. `stem`: what every path begins with."""

    pattern: str
    kind: str | None
    context: str
    stem: str
    exact: bool


def part(facts: GuestFacts, edits: Sequence[Edit]) -> Part:
    """Labels for what these edits make anew; nothing where the guest does not look at labels."""
    settings = dict(re.findall(r"^\s*(SELINUX|SELINUXTYPE)=(\w+)", facts.text(CONFIG), re.MULTILINE))
    if settings.get("SELINUX", "").lower() not in ("enforcing", "permissive") or facts.has(AUTORELABEL):
        return [], []
    new = dict(made(facts, edits))
    if not new:
        return [], []
    policy = settings.get("SELINUXTYPE", "targeted")
    rules = [rule for name in PARTS for rule in rules_of(facts.text(CONTEXTS.format(policy, name)))]
    if not rules:
        return [WriteFile(AUTORELABEL, "")], []
    lines = [line for name in SUBSTITUTIONS for line in facts.text(CONTEXTS.format(policy, name)).splitlines()]
    aliases = [(words[0], words[1]) for words in map(str.split, lines) if len(words) == 2 and words[0][:1] == "/"]
    found = [(path, context_of(_aliased(path, aliases), kind, rules)) for path, kind in new.items()]
    labels = [(path, context) for path, context in found if context]
    return [Label(*one) for one in labels], [HasLabel(*one) for one in labels]


def made(facts: GuestFacts, edits: Sequence[Edit]) -> Iterator[tuple[str, str]]:
    """(path, kind) of what is not there before these edits."""
    removed: set[str] = set()
    for edit in edits:
        if isinstance(edit, Remove):
            removed.add(edit.path)
        elif isinstance(edit, MakeHostKeys):
            for kind in edit.kinds:
                yield f"/etc/ssh/ssh_host_{kind}_key", "file"
                yield f"/etc/ssh/ssh_host_{kind}_key.pub", "file"
        elif isinstance(edit, (WriteFile, MakeDir, Link)) and (edit.path in removed or not facts.has(edit.path)):
            yield edit.path, {WriteFile: "file", MakeDir: "folder", Link: "link"}[type(edit)]


def rules_of(text: str) -> list[Rule]:
    """The lines of a file_contexts file."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if not words or words[0].startswith("#") or len(words) < 2:
            continue
        kind = words[1] if len(words) > 2 else None
        if kind is not None and kind not in KINDS:
            continue  # of devices, pipes and sockets, which nobody makes here
        plain = PLAIN.match(words[0])
        stem = plain[0] if plain else ""
        exact = stem == words[0]
        if not exact and words[0][len(stem) : len(stem) + 1] in "?*{":
            # The last letter of it may be missing.
            stem = stem[:-2] if stem.endswith("\\.") else stem[:-1]
        if "|" in re.sub(r"\([^()]*\)", "", words[0]):
            stem = ""
        found.append(Rule(words[0], KINDS.get(kind or ""), words[-1], stem.replace("\\.", "."), exact))
    return found


def context_of(path: str, kind: str, rules: Sequence[Rule]) -> str | None:
    """The label of a path: of the last rule that matches, those that name one path only coming after all others.

    None where the policy gives none.
    """
    fitting = [rule for rule in rules if rule.kind in (None, kind) and path.startswith(rule.stem)]
    for rule in [
        *(one for one in reversed(fitting) if one.exact),
        *(one for one in reversed(fitting) if not one.exact),
    ]:
        if _matches(rule.pattern, path):
            return None if rule.context == "<<none>>" else rule.context
    return None


def _matches(pattern: str, path: str) -> bool:
    try:
        return re.fullmatch(pattern, path) is not None
    except re.error:  # PCRE knows more than Python; such a rule is about nothing that is made here
        return False


def _aliased(path: str, aliases: Sequence[tuple[str, str]]) -> str:
    """The path by the name that the rules know it by."""
    for alias, real in aliases:
        if path == alias or path.startswith(f"{alias}/"):
            return real + path[len(alias) :]
    return path
