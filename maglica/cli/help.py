"""Help texts, made from the table; 80 columns."""

from __future__ import annotations

import sys
import textwrap

from maglica import declare, kinds
from maglica.cli import bulk, words
from maglica.cli.options import Globals
from maglica.declare import Action, Alias, Arg

WIDTH = 79
LEFT = 26  # columns of the options' names
PLACEHOLDERS = {
    "ssh-key": "FILE", "script": "FILE", "scripts": "FILE", "password-hash": "HASH", "text": "TEXT", "choice": "WORD",
    "write": "PATH:CONTENT", "upload": "LOCAL:REMOTE", "user": "NAME[:…]",
    "command-line": "LINE", "account": "USER", "owner": "USER[:GROUP]",
}  # fmt: skip


def text(topic: list[str]) -> str:
    """The help about a command, a noun, or everything."""
    topic = [word.replace("_", "-") for word in topic]
    if not topic:
        return overview()
    declare.load(topic[0])
    if len(topic) == 1 and topic[0] in declare.nouns() and topic[0] not in declare.ACTIONS:
        return noun(topic[0])
    return command(words.find(topic[0], topic[1] if len(topic) > 1 else ""))


def overview() -> str:
    """Nouns with their verbs, and the global options."""
    verbs: dict[str, list[str]] = {}
    for action in declare.visible():
        verbs.setdefault(action.NOUN, []).append(action.VERB)
    for alias in declare.ALIASES.values():
        name, _, verb = alias.name.partition(" ")
        if name not in verbs or name != alias.action.NOUN:
            verbs.setdefault(name, []).append(verb)
    lines = ["usage: maglica [OPTION…] NOUN VERB [NAME…] [--key=value…]", ""]
    for name in sorted(verbs):
        lines.append(_entry(f"  {name}", " ".join(verbs[name]) or declare.ACTIONS[name].HELP, 12))
    lines += ["", "options of every command:"]
    lines += [_global(field) for field in Globals.FIELDS.values()]
    lines += [
        "",
        _wrapped(
            "Options stand before or after the command. Where a command has an option of the same name, the one after"
            " the command is its own and the one before it is the global one:"
            " `maglica --timeout=10m vm stop web1 --timeout=2m`."
        ),
        _wrapped("Each has a variable: MAGLICA_OUTPUT, MAGLICA_CLIENT, MAGLICA_TIMEOUT and so on."),
        "",
        "`maglica NOUN --help` lists verbs, `maglica NOUN VERB --help` arguments.",
    ]
    return "\n".join(lines) + "\n"


def _global(field: Arg) -> str:
    short = words.SHORT.get(field.name)
    if field.name == "verbose":
        name = f"{short}, --verbose"
    elif field.kind.name == "yes-no":
        name = ", ".join(
            word for word in (short, f"--no-{field.option[2:]}" if field.default else field.option) if word
        )
    else:
        name = ", ".join(word for word in (short, f"{field.option}={_placeholder(field)}") if word)
    choices = f": {', '.join(field.kind.choices)}" if field.kind.choices else ""
    about = {"headers": "no header line", "wait": "do not wait for a job's end, print its id"}.get(
        field.name, field.help
    )
    return _entry(f"  {name}", about + choices, LEFT)


def noun(name: str) -> str:
    """The verbs of a noun."""
    about = (sys.modules[f"maglica.actions.{name}"].__doc__ or "").strip().splitlines()[0]
    lines = [f"usage: maglica {name} VERB [NAME…] [--key=value…]", "", _wrapped(about), ""]
    for known in words.names():
        first, _, verb = known.partition(" ")
        if first == name:
            lines.append(_entry(f"  {verb}", _about(declare.find(known)), 16))
    lines += ["", f"`maglica {name} VERB --help` shows the arguments of one."]
    return "\n".join(lines) + "\n"


def _about(alias: Alias) -> str:
    if alias.name == alias.action.NAME:
        return alias.action.HELP
    return f"The same as `{alias.action.NAME}{_preset(alias)}`."


def _preset(alias: Alias) -> str:
    return "".join(f" --{name}={value}" for name, value in alias.preset.items())


def command(alias: Alias) -> str:
    """Everything about one command: arguments with what they expect and their defaults, an example."""
    action = alias.action
    lines = [*_usage(alias.name, action), "", _wrapped(_doc(action))]
    if alias.name != action.NAME:
        lines += ["", f"The same as `maglica {action.NAME}{_preset(alias)}`."]
    if action.FIELDS:
        lines += ["", "arguments:"]
        lines += [argument(field) for field in action.offered()]
    many = bulk.shown(action)
    if many:
        lines += ["", "for many at once:"]
        lines += [argument(field) for field in many]
    lines += ["", "example:", f"  {action.EXAMPLE}"]
    lines += ["", _wrapped("Options of every command, such as --output, are listed by `maglica --help`.")]
    for name in action.FIELDS:
        if name in Globals.FIELDS and Globals.FIELDS[name].kind.name == "yes-no":
            both = f"--{name} without a value and --no-{name} are options of every command, here too."
            lines.append(_wrapped(both))
        elif name in Globals.FIELDS:
            own = f"--{name} after the command is this command's own; the one of every command stands before it:"
            lines.append(_wrapped(f"{own} `maglica --{name}=… {action.NAME} …`."))
    return "\n".join(lines) + "\n"


def _doc(action: type[Action]) -> str:
    return " ".join((action.__doc__ or "").split())


def _usage(name: str, action: type[Action]) -> list[str]:
    subject = action.subject()
    parts = [subject.name.upper() + ("" if subject.single else "…")] if subject else []
    parts += [
        f"{field.option}={_placeholder(field)}"
        for field in action.FIELDS.values()
        if field.required and not field.subject and not field.rest
    ]
    if any(not field.required for field in action.FIELDS.values()):
        parts.append("[--key=value…]")
    parts += [f"-- {field.name.upper()}…" for field in action.FIELDS.values() if field.rest]
    return textwrap.wrap(" ".join([f"usage: maglica {name}", *parts]), WIDTH, subsequent_indent="         ")


def argument(field: Arg) -> str:
    """One argument: its option and what it is; below it, whether it must be given, its default, what it expects."""
    if field.subject:
        if field.kind is kinds.SOURCE:
            return _entry(f"  {field.name.upper()}", field.help, LEFT, field.kind.expected)
        if field.single:
            return _entry(f"  {field.name.upper()}", field.help, LEFT)
        patterns = " and patterns such as 'web*'" if field.values_of else ""
        about = f"{field.help}; several,{'' if patterns else ' and'} ranges such as web{{1..9}}{patterns} too"
        return _entry(f"  {field.name.upper()}…", about, LEFT)
    default = "" if field.default is None or field.required else f"default {_default(field)}"
    shown = "|" in _placeholder(field) or _placeholder(field) in field.kind.choices
    below = [word for word in ("required" if field.required else default, "" if shown else field.kind.expected) if word]
    return _entry(f"  {field.option}={_placeholder(field)}", field.help, LEFT, "; ".join(below))


def _default(field: Arg) -> str:
    if isinstance(field.default, bool):
        return str(int(field.default))
    if field.kind.name == "duration":
        from maglica.cli.cells import duration

        return duration(field.default)
    return str(field.default)


def _placeholder(field: Arg) -> str:
    if field.kind.name == "yes-no":
        return "0|1"
    if field.kind.choices and len("|".join(field.kind.choices)) <= 16:
        return "|".join(field.kind.choices)
    return PLACEHOLDERS.get(field.kind.name) or field.kind.name.removesuffix("-list").upper()


def _entry(name: str, about: str, left: int, below: str = "") -> str:
    """A name on the left, what it means on the right; below it when the name is long."""
    lines = textwrap.wrap(about, WIDTH - left, break_on_hyphens=False) or [""]
    lines += textwrap.wrap(f"({below})", WIDTH - left, break_on_hyphens=False, subsequent_indent=" ") if below else []
    head = [name.ljust(left) + lines.pop(0)] if len(name) <= left - 2 else [name]
    return "\n".join([*head, *(" " * left + line for line in lines)])


def _wrapped(about: str) -> str:
    return "\n".join(textwrap.wrap(about, WIDTH, break_on_hyphens=False, break_long_words=False))
