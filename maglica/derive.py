"""What is written down from the table: the stub of the library's methods, and the list of commands.

`python3 -m maglica.derive` (`make derive`) writes them; a test says when they are out of date.
"""

from __future__ import annotations

import os
import re

from maglica import declare
from maglica.declare import Action, Arg, Where
from maglica.policy import Policy

BEGIN, END = "<!-- commands: made from the table by `make derive` -->", "<!-- end of commands -->"

STUB_HEAD = '''"""Made from the table by `make derive`; not to be edited."""

from typing import Any

from maglica import config
from maglica.cloud import Connection, GroupHandle, Items, JobHandle
'''


def parameter(field: Arg) -> str:
    """One parameter as in source code."""
    return f"{field.name}: {field.annotation}" + ("" if field.required else f" = {field.default!r}")


def stub(actions: list[type[Action]]) -> str:
    """The text of `nouns.pyi`."""
    offered = [action for action in actions if action.WHERE != Where.TERMINAL]
    parts = [STUB_HEAD]
    for action in offered:
        parts.append(_call_stub(action))
    nouns = sorted({action.NOUN for action in offered})
    for noun in nouns:
        lines = [f"    {_method(a)}: {_class_name(a)}" for a in offered if a.NOUN == noun]
        parts.append(f"class {noun.capitalize()}:\n" + "\n".join(lines) + "\n")
    attributes = "".join(f"    {noun}: {noun.capitalize()}\n" for noun in nouns)
    parts.append(
        f"class Cloud(Connection):\n{attributes}    def __init__(self, settings: config.Settings) -> None: ...\n"
    )
    parts.append(
        "def connect(\n    client: str | None = None, *, config_file: str | None = None, key: str | None = None\n)"
        " -> Cloud: ...\n"
    )
    return "\n".join(parts)


def _call_stub(action: type[Action]) -> str:
    own = [parameter(field) for field in _sorted(action)]
    signature = ", ".join(["self", *(["*", *own] if own else [])])
    result = "dict[str, Any]" if action.CHANGES or not action.COLUMNS else "Items"
    lines = [
        f"class {_class_name(action)}:",
        f"    def __call__({signature}) -> {result}:",
        f'        """{action.HELP}"""',
    ]
    if action.WHERE == Where.MANY and action.CHANGES:
        extra = ["reason: str | None = None", "idempotency_key: str | None = None", *_POLICY]
        lines[1] = f"    def __call__({', '.join([signature, *_POLICY])}) -> list[dict[str, Any]]:"
        lines.append(f"    def submit({', '.join(['self', '*', *own, *extra])}) -> GroupHandle: ...")
        lines.append(f"    def plan({', '.join([signature, *_POLICY])}) -> dict[str, Any]: ...")
    elif action.CHANGES:
        extra = ["reason: str | None = None", "idempotency_key: str | None = None"]
        lines.append(f"    def submit({', '.join(['self', '*', *own, *extra])}) -> JobHandle: ...")
        many = [_listed(field) if field.name == action.distinct() else parameter(field) for field in _sorted(action)]
        some = [_MADE.get(action.WHERE, "")] if action.WHERE in _MADE else []
        extra += [*some, *_POLICY]
        lines.append(f"    def submit_many({', '.join(['self', '*', *many, *extra])}) -> GroupHandle: ...")
        lines.append(f"    def plan({signature}) -> dict[str, Any]: ...")
    return "\n".join(lines) + "\n"


def _sorted(action: type[Action]) -> list[Arg]:
    return sorted(action.offered(), key=lambda field: not field.required)


def _listed(field: Arg) -> str:
    return f"{field.name}: list[{field.annotation}]" + ("" if field.subject else " | str")


_POLICY = [parameter(field) for field in Policy.FIELDS.values()]
# What those take that make something: how many, and their first number.
_MADE = {Where.PLACED: "count: int | None = None, first: int | str = 1"}


def _class_name(action: type[Action]) -> str:
    return f"_{action.__name__}"


def _method(action: type[Action]) -> str:
    return action.METHOD


def command_list(actions: list[type[Action]]) -> str:
    """The list of commands, as Markdown."""
    rows = [f"| `{usage(action)}` | {action.HELP} |" for action in actions]
    return "\n".join(["| command | what it does |", "| --- | --- |", *rows])


def usage(action: type[Action]) -> str:
    """A command with its arguments on one line."""
    subject = action.subject()
    words = [f"maglica {action.NAME}"] + ([subject.name.upper()] if subject else [])
    for field in action.offered():
        if field is not subject:
            word = f"{field.option}={field.kind.name.upper()}"
            words.append(word if field.required else f"[{word}]")
    return " ".join(words).replace("|", "\\|")


def with_commands(text: str, commands: str) -> str:
    """A page in which the list of commands is the given one."""
    pattern = re.escape(BEGIN) + r".*?" + re.escape(END)
    return re.sub(pattern, lambda _: f"{BEGIN}\n{commands}\n{END}", text, flags=re.DOTALL)


def written() -> dict[str, str]:
    """Every derived file by its path, as it should read now."""
    home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    actions = list(declare.visible())
    readme = os.path.join(home, "README.md")
    with open(readme, encoding="utf-8") as file:
        page = file.read()
    return {
        os.path.join(home, "maglica", "nouns.pyi"): stub(actions),
        readme: with_commands(page, command_list(actions)),
    }


def main() -> None:
    for path, text in written().items():
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)


if __name__ == "__main__":
    main()
