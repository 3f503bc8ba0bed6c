"""Files of sections and `key=value` lines, changed in place: systemd.network(5), nm-settings-keyfile(5). Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence


class Section:
    """A section with its lines as they stand; the one before the first header has the name ''."""

    def __init__(self, name: str, lines: list[str]) -> None:
        self.name, self.lines = name, lines

    def values(self, key: str) -> list[str]:
        """What is said of a key, in order; keys in lower case."""
        return [value for line in self.lines for own, value in [pair(line)] if own == key]

    def drop(self, unwanted: Callable[[str], bool]) -> None:
        """Take lines away by their keys."""
        self.lines = [line for line in self.lines if not (key := pair(line)[0]) or not unwanted(key)]

    def add(self, more: Iterable[str]) -> None:
        """New lines after those that say something."""
        at = max((number for number, line in enumerate(self.lines, 1) if line.strip()), default=0)
        self.lines[at:at] = list(more)


def pair(line: str) -> tuple[str, str]:
    """(key in lower case, value) of a line; '' for a header, a comment or a blank."""
    stripped = line.strip()
    if "=" not in stripped or stripped[0] in "#;[":
        return "", ""
    key, value = stripped.split("=", 1)
    return key.strip().lower(), value.strip()


def read(text: str) -> list[Section]:
    found = [Section("", [])]
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("[") and stripped.endswith("]"):
            found.append(Section(stripped[1:-1].lower(), [line]))
        else:
            found[-1].lines.append(line)
    return found


def written(sections: Sequence[Section]) -> str:
    return "\n".join(line for section in sections for line in section.lines).rstrip("\n") + "\n"


def section(sections: list[Section], name: str, header: str) -> Section:
    """The first section of that name; a new one at the end where there is none."""
    for one in sections:
        if one.name == name:
            return one
    sections[-1].lines = [*sections[-1].lines, *([""] if sections[-1].lines and sections[-1].lines[-1].strip() else [])]
    sections.append(Section(name, [header]))
    return sections[-1]
