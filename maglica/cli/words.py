"""The words of a command line -> a command: which action, with which arguments, for which names, with which options.

An option belongs to the action where the action has one of that name and it stands after the command; it is a global
one otherwise. So `maglica --timeout=10m vm stop web1 --timeout=2m` gives the guest two minutes and waits for ten.
A global flag keeps its own meaning there: `--wait` and `--no-wait` are about the job, `--wait=ssh` is about the guest.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from maglica import declare, kinds
from maglica.cli import bulk, options
from maglica.cli.options import Globals
from maglica.declare import Action, Alias, Arg
from maglica.errors import Refused

SHORT = {"output": "-o", "quiet": "-q", "verbose": "-v", "yes": "-y"}
REST = "rest of the line"
HELP = "help wanted"


class Command:
    """What was asked for. `action` is None when help was: `topic` says about what."""

    __slots__ = ("action", "bulk", "names", "options", "topic", "values")

    def __init__(self, options: Globals, topic: Sequence[str]) -> None:
        self.options = options
        self.topic = list(topic)
        self.action: type[Action] | None = None
        self.names: list[str] = []  # of the subject, as they were typed
        self.values: dict[str, Any] = {}  # of all other arguments
        self.bulk: dict[str, Any] = {}  # what is wanted of many at once


def _unused_formatter(prog: str) -> argparse.HelpFormatter:
    # argparse makes one for every option. Without a width it imports shutil to measure the terminal, each time.
    return argparse.HelpFormatter(prog, width=80)


class Parser(argparse.ArgumentParser):
    """argparse that raises instead of leaving the process."""

    def __init__(self, command: str) -> None:
        name = f"maglica {command}".strip()
        super().__init__(name, formatter_class=_unused_formatter, add_help=False, allow_abbrev=False)
        self._label = f"{command}: " if command else ""
        self.add_argument("-h", "--help", action="store_true", dest=HELP, default=argparse.SUPPRESS)

    def add(self, field: Arg, short: str | None = None) -> None:
        """Take an option for this argument. What is not given is absent from the outcome."""
        flags = [short, field.option] if short else [field.option]
        more: dict[str, Any] = {"dest": field.name, "default": argparse.SUPPRESS}
        if field.name == "verbose":
            more["action"] = "count"
        elif field.kind is kinds.BOOL:
            more["action"] = argparse.BooleanOptionalAction
        elif field.subject or field.kind.repeated:
            more["action"] = "append"
        self.add_argument(*flags, **more)

    def take(self, words: list[str]) -> tuple[dict[str, Any], list[str]]:
        """What the options say, and the words that are none; an unknown option is refused."""
        found, left = self.parse_known_args(self._plain(words))
        values = vars(found)
        cut = left.index("--") if "--" in left else len(left)
        for word in left[:cut]:
            if word.startswith("-") and word != "-":
                raise self._unknown(word)
        return values, [*values.pop(REST, []), *left[:cut], *left[cut + 1 :]]

    def _plain(self, words: list[str]) -> list[str]:
        """`--ssh_key=F` as `--ssh-key=F`, `--start=0` as `--no-start`, `--size -2G` as `--size=-2G`: what argparse
        understands."""
        plain: list[str] = []
        for place, word in enumerate(words):
            if word == "--":
                return plain + words[place:]
            name, equals, value = word.partition("=")
            if word.startswith("--"):
                name = name.replace("_", "-")
                # Before the command the words behind it are seen too, where `--wait=ssh` may mean something else.
                if equals and self._is_flag(name) and (self._label or _is(kinds.BOOL, value)):
                    name, equals, value = self._flag(name, value), "", ""
            if re.match(r"-\d", word) and plain and self._wants_value(plain[-1]):
                plain[-1] += f"={word}"  # less of something
            else:
                plain.append(name + equals + value)
        return plain

    def _wants_value(self, word: str) -> bool:
        known = self._option_string_actions.get(word)
        return known is not None and known.nargs is None and word.startswith("--")

    def _is_flag(self, name: str) -> bool:
        return isinstance(self._option_string_actions.get(name), argparse.BooleanOptionalAction)

    def _flag(self, name: str, value: str) -> str:
        try:
            return name if kinds.BOOL.check(value) else f"--no-{name[2:]}"
        except ValueError as error:
            raise Refused("wrong_input", f"{self._label}{name}: {error}", f"expected {kinds.BOOL.expected}") from None

    def _unknown(self, word: str) -> Refused:
        name = word.partition("=")[0]
        close = declare.nearest(name, [flag for flag in self._option_string_actions if flag.startswith("--")])
        hint = f"did you mean {close}?" if close else f"`{self.prog} --help` lists the options"
        return Refused("wrong_input", f"{self._label}there is no option {name}", hint)

    def error(self, message: str) -> NoReturn:
        what = message.removeprefix("argument ").replace("expected one argument", "a value is missing")
        what = what.replace("ignored explicit argument", "a flag before the command takes no value such as")
        raise Refused("wrong_input", f"{self._label}{what}", f"`{self.prog} --help` lists the options")


def parse(words: Sequence[str], environ: Mapping[str, str]) -> Command:
    """The command in these words; `Refused` names the word that is wrong and the nearest that is right."""
    for word in words:
        if any("\ud800" <= letter <= "\udfff" for letter in word):
            raise Refused("wrong_input", f"{word!r} is not UTF-8")
    given, rest = _leading(list(words))
    noun = rest.pop(0).replace("_", "-") if rest else ""
    if not noun and given.pop("version wanted", False):
        noun = "version"
    if noun in ("", "help"):
        return Command(options.read(given, environ), rest)
    single = _single(noun)
    if single:
        return _command(single, rest, given, environ)
    more, rest = _leading(rest)
    given |= more
    verb = rest.pop(0) if rest else ""
    if given.pop(HELP, False) and not verb and noun in declare.nouns():
        return Command(options.read(given, environ), [noun])
    return _command(find(noun, verb), rest, given, environ)


def _leading(words: list[str]) -> tuple[dict[str, Any], list[str]]:
    """The global options before the first word that is none, and all that follows."""
    if words and not words[0].startswith("-"):
        return {}, words
    parser = Parser("")
    for name, field in Globals.FIELDS.items():
        parser.add(field, SHORT.get(name))
    parser.add_argument("--version", action="store_true", dest="version wanted", default=argparse.SUPPRESS)
    parser.add_argument(REST, nargs=argparse.REMAINDER)
    return parser.take(words)


def _single(noun: str) -> Alias | None:
    """The command that consists of this one word."""
    declare.load(noun)
    return declare.find(noun) if noun in declare.ACTIONS or noun in declare.ALIASES else None


def find(noun: str, verb: str) -> Alias:
    """The action of that name; `Refused` with the nearest one when there is none."""
    name = f"{noun} {verb}".replace("_", "-").strip()
    declare.load(noun)
    if name in declare.ALIASES or (name in declare.ACTIONS and not declare.ACTIONS[name].HIDDEN):
        return declare.find(name)
    if noun not in declare.nouns():
        raise _unknown_noun(noun, verb)
    verbs = [known.partition(" ")[2] for known in names() if known.startswith(noun + " ")]
    if not verb:
        raise Refused("wrong_input", f"{noun}: what shall be done?", f"it knows {', '.join(verbs)}")
    close = declare.nearest(verb, verbs)
    hint = f"did you mean `maglica {noun} {close}`?" if close else f"it knows {', '.join(verbs)}"
    raise Refused("wrong_input", f"{noun} has no verb {verb}", hint)


def names() -> list[str]:
    """The names of all commands, aliases among them."""
    return sorted([*(action.NAME for action in declare.visible()), *declare.ALIASES])


def _unknown_noun(noun: str, verb: str) -> Refused:
    known = names()
    turned = f"{verb} {noun}".replace("_", "-")
    close = turned if turned in known else declare.nearest(noun, declare.nouns())
    hint = f"did you mean `maglica {close}`?" if close else "`maglica --help` lists the commands"
    return Refused("wrong_input", f"there is no command {noun}", hint)


def _command(alias: Alias, words: list[str], given: dict[str, Any], environ: Mapping[str, str]) -> Command:
    action = alias.action
    parser = Parser(alias.name)
    for field in action.offered():
        parser.add(field)
    for name, field in Globals.FIELDS.items():
        if name not in action.FIELDS:
            parser.add(field, SHORT.get(name))
    many = bulk.offered(action)
    for field in many.values():
        parser.add(field)
    words, rest = _rest_apart(action, words)
    words, flags = _flags_apart(action, words)
    values, names = parser.take(words)
    if rest.keys() & values.keys():
        option = next(action.FIELDS[name].option for name in rest)
        raise Refused("wrong_input", f"{alias.name}: {option} and words after -- exclude each other", "say one of them")
    given |= flags
    said = {name: values.pop(name) for name in list(values) if name in many}
    wanted = values.pop(HELP, False) or given.pop(HELP, False)
    given |= {name: values.pop(name) for name in list(values) if name not in action.FIELDS}
    command = Command(options.read(given, environ), alias.name.split(" "))
    if wanted:
        return command
    command.action, command.bulk = action, said
    subject = action.subject()
    if subject:
        names = [*values.pop(subject.name, []), *names]
    elif names:
        hint = f"`maglica {alias.name} --help` shows what it takes"
        raise Refused("wrong_input", f"{alias.name}: what is {names[0]!r}?", hint)
    command.names = names
    command.values = {**alias.preset, **{name: typed(action, name, value) for name, value in values.items()}, **rest}
    return command


def _rest_apart(action: type[Action], words: list[str]) -> tuple[list[str], dict[str, list[str]]]:
    """The words before `--`; and those after it as the argument that takes them, where the action has one."""
    field = next((field for field in action.FIELDS.values() if field.rest), None)
    if field is None or "--" not in words:
        return words, {}
    cut = words.index("--")
    return words[:cut], {field.name: words[cut + 1 :]} if words[cut + 1 :] else {}


def _flags_apart(action: type[Action], words: list[str]) -> tuple[list[str], dict[str, bool]]:
    """The words without those global flags whose name the action uses for an option with a value; and the flags."""
    twice = {field.option: field for name, field in Globals.FIELDS.items() if name in action.FIELDS}
    left: list[str] = []
    flags: dict[str, bool] = {}
    words = list(words)
    while words and words[0] != "--":
        word = words.pop(0)
        name, equals, value = word.partition("=")
        field = twice.get(name.replace("--no-", "--", 1))
        if field is None or field.kind is not kinds.BOOL or not name.startswith("--"):
            left.append(word)
        elif name != field.option or (equals and _is(kinds.BOOL, value)):
            flags[field.name] = name == field.option and kinds.BOOL.check(value)
        elif equals:
            left.append(word)
        elif words and _is(action.FIELDS[field.name].kind, words[0]):
            left.append(f"{word}={words.pop(0)}")  # `--wait ssh`: what it may be is never a VM's name in practice
        else:
            flags[field.name] = True
    return left + words, flags


def _is(kind: kinds.Kind, word: str) -> bool:
    try:
        kind.check(word)
    except ValueError:
        return False
    return True


def typed(action: type[Action], name: str, value: Any) -> Any:
    """The value of an argument from the word that was typed for it: a file's content, say."""
    field = action.FIELDS[name]
    if field.kind.terminal is None:
        return value
    try:
        return [field.kind.terminal(word) for word in value] if field.kind.repeated else field.kind.terminal(value)
    except ValueError as error:
        expected = f"expected {field.kind.expected}"
        raise Refused("wrong_input", f"{action.called()}: {field.option}: {error}", expected) from None
