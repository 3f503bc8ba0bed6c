"""The few lines that make the table of actions work.

An action is a class below `maglica/actions/`: its name is its name on the command line (`VmAttachDisk` is
`vm attach-disk`), its docstring is its help, its fields are its arguments. Parser, help, validation at every door,
dispatch, library methods and manual are derived from it and from nothing else.

`dataclasses` would do, but costs 10 ms to import and about 0.4 ms for each class, which every start of the command
line would pay; `Record` does what is needed of it in a few lines.
"""

from __future__ import annotations

import keyword
import os
import re
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any, TypeVar, dataclass_transform

from maglica.errors import Refused
from maglica.kinds import Kind

REQUIRED: Any = object()
MASK = "***"  # in the place of a secret


class Arg:
    """One argument of an action or one key of a settings section."""

    __slots__ = ("default", "help", "internal", "kind", "name", "rest", "secret", "single", "subject", "values_of")

    def __init__(
        self,
        kind: Kind,
        help: str,
        default: Any,
        subject: bool,
        values_of: str,
        secret: bool,
        internal: bool,
        rest: bool = False,
        single: str = "",
    ) -> None:
        self.name = ""
        self.kind = kind
        self.help = help
        self.default = default
        self.subject = subject
        self.values_of = values_of
        self.secret = secret
        self.internal = internal
        self.rest = rest
        self.single = single

    @property
    def required(self) -> bool:
        return self.default is REQUIRED

    @property
    def annotation(self) -> str:
        """The type that library users may pass, as in source code."""
        return f"{self.kind.python} | None" if self.default is None else self.kind.python

    @property
    def option(self) -> str:
        return "--" + self.name.rstrip("_").replace("_", "-")  # `as_`, because `as` is a word of Python


def arg(
    kind: Kind,
    help: str,
    *,
    default: Any = REQUIRED,
    subject: bool = False,
    values_of: str = "",
    secret: bool = False,
    internal: bool = False,
    rest: bool = False,
    single: str = "",
) -> Any:
    """Declare one argument.

    `subject`: the one object that the action is about; it may be given by position, and several of them make several
    actions, unless it is `single`: that says what to do instead. `values_of`: the noun whose names complete it.
    `secret`: never shown, logged or kept once the job ended. `internal`: put in by the client worker, offered to
    nobody. `rest`: on a command line, all words after `--`.
    """
    return Arg(kind, help, default, subject, values_of, secret, internal, rest, single)


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(arg,))
class Record:
    """Named values, each checked by its kind when the record is made, and never changed afterwards."""

    FIELDS: dict[str, Arg] = {}

    def __init_subclass__(cls) -> None:
        fields = {}
        for name, field in vars(cls).items():
            if isinstance(field, Arg):
                field.name = name
                fields[name] = field
        cls.FIELDS = {**fields, **{name: field for name, field in cls.FIELDS.items() if name not in fields}}

    def __init__(self, /, **values: Any) -> None:  # what comes from the wire may well be called `self`
        for name in values:
            if name not in self.FIELDS:
                raise self.unknown(name)
        for name, field in self.FIELDS.items():
            self.__dict__[name] = self._checked(field, values.get(name, field.default))
        self.check()

    def check(self) -> None:
        """What fields must satisfy together; raises `Refused`."""

    @classmethod
    def called(cls) -> str:
        """How messages call this record."""
        return cls.__name__

    @classmethod
    def unknown(cls, name: str) -> Refused:
        close = nearest(name, cls.FIELDS)
        hint = f"did you mean {close}?" if close else f"it knows {', '.join(cls.FIELDS) or 'no arguments'}"
        return Refused("wrong_input", f"{cls.called()}: unknown argument {name}", hint)

    @classmethod
    def _checked(cls, field: Arg, value: Any) -> Any:
        if value is REQUIRED:
            raise Refused(
                "wrong_input", f"{cls.called()}: {field.option} is missing", f"expected {field.kind.expected}"
            )
        if value is None and field.default is None:
            return None
        try:
            return field.kind.check(value)
        except ValueError as error:
            raise Refused(
                "wrong_input", f"{cls.called()}: {field.option}: {error}", f"expected {field.kind.expected}"
            ) from None

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash((type(self), repr(sorted(self.values().items()))))

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.public().items())
        return f"{type(self).__name__}({shown})"

    def values(self) -> dict[str, Any]:
        """The fields as a map of plain values: what travels."""
        return {name: self.__dict__[name] for name in self.FIELDS}

    def public(self) -> dict[str, Any]:
        """The same with secrets masked: what is shown and logged."""
        return mask(self.FIELDS, self.values())


def mask(fields: dict[str, Arg], values: dict[str, Any]) -> dict[str, Any]:
    """Replace every secret that is set by `***`, or by what its kind shows of it."""
    return {
        name: _masked(fields[name].kind, value)
        if value is not None and name in fields and fields[name].secret
        else value
        for name, value in values.items()
    }


def _masked(kind: Kind, value: Any) -> Any:
    if kind.mask is None:
        return MASK
    try:
        return kind.mask(kind.check(value))
    except ValueError:  # a group's arguments are kept as they came
        return MASK


def is_masked(value: Any) -> bool:
    """Whether something of a value was replaced by `mask`."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return value == MASK or any(is_masked(one) for one in inside)


class Where:
    """Where an action runs; `docs/design.md` has the table."""

    CLIENT_WORKER = "client-worker"
    EVERY = "every"
    OWNER = "owner"
    PLACED = "placed"
    NAMED = "named"
    TERMINAL = "terminal"
    MANY = "many"


# Who may ask, each including those before it. `[role NAME]` sections narrow one of them.
READER = "reader"
OPERATOR = "operator"
ADMIN = "admin"
ROLES = (READER, OPERATOR, ADMIN)

# The classes of work that a host does side by side; how many of each is a setting ([host_worker] slots_…).
SLOTS = ("quick", "disk", "guest", "move")


class Action(Record):
    """Something maglica can be asked to do. Making one checks it, so an invalid action cannot exist."""

    NAME = ""
    NOUN = ""
    VERB = ""
    METHOD = ""  # of the library: the verb as a name of Python
    HELP = ""
    WHERE = Where.CLIENT_WORKER
    ROLE = READER  # the least role that may ask for it
    CHANGES = False  # a job, recorded and carried out once; otherwise a live read that leaves no trace
    DESTRUCTIVE = False  # asks before it acts when a person is there to ask, and wants the full name; see `destroys`
    WHOLE_FLEET = False  # refused while a known host does not answer
    HIDDEN = False  # part of the protocol between our own processes, not offered to people
    SLOT = "quick"
    LIMIT = 60.0  # seconds
    LOCKS: tuple[str, ...] = ()  # such as "vm:{name}": jobs with an equal lock run in order of submission
    COLUMNS: tuple[str, ...] = ()  # of a table; what ends in _bytes, _seconds, _at is shown as that
    WIDE: tuple[str, ...] = ()  # further columns for --output=wide
    EXAMPLE = ""
    ALIASES: tuple[str, ...] = ()  # further verbs
    GIVES = ""  # the argument with a name that it gives beside that of what it is about: "to" of `vm rename`
    UNDONE_BY = ""  # the action that takes back what this one made, such as "vm remove"
    UNDONE_EXACTLY: tuple[str, ...] = ()  # what its result says of which one that is: arguments of that action

    @classmethod
    def called(cls) -> str:
        return cls.NAME

    def limit(self) -> float:
        """Seconds that this very action may take: more than others when it waits for a guest."""
        values = self.values()
        return self.LIMIT + (float(values["wait_timeout"]) if values.get("wait") else 0.0)

    def least_role(self) -> str:
        """The least role that may ask for this very action."""
        return self.ROLE

    def destroys(self) -> bool:
        """Whether this very action destroys something, and is asked about before."""
        return self.DESTRUCTIVE

    def patience(self) -> float:
        """Seconds beyond the usual that the answer to this very question takes: one that looks twice."""
        return float(self.values().get("interval") or 0.0)

    def asks_whole_fleet(self) -> bool:
        """Whether this very action is refused while a known host does not answer; one with an `offline` that does not
        take the VM down starts nothing."""
        values = self.values()
        return self.WHOLE_FLEET and bool(values.get("offline", True)) and not values.get("ignore_missing")

    @classmethod
    def subject(cls) -> Arg | None:
        """The argument that names the object, where there is exactly one."""
        return next((field for field in cls.FIELDS.values() if field.subject), None)

    @classmethod
    def distinct(cls) -> str:
        """The argument in which many jobs of this action differ: what it is about, or what it makes; '' if none."""
        subject = cls.subject()
        if subject:
            return subject.name
        found = re.search(r"\{(\w+)\}", cls.LOCKS[0]) if cls.LOCKS else None
        return found[1] if found else ""

    @classmethod
    def makes(cls) -> bool:
        """Whether it makes something new under a name of its own: so many of them may be asked for by number."""
        return cls.WHERE == Where.PLACED and cls.subject() is None

    def makes_new(self) -> bool:
        """Whether what this very action is about was not there before, and has nothing yet."""
        return self.makes()

    @classmethod
    def undone_by(cls, values: Mapping[str, Any]) -> str:
        """The action that takes back what one with these values makes; '' when none does."""
        return cls.UNDONE_BY

    def given_name(self) -> str | None:
        """The name that this very action gives beside that of what it is about; None when it gives no other."""
        values, subject = self.values(), self.subject()
        given = values.get(self.GIVES)
        return None if given is None or (subject and values[subject.name] == given) else str(given)

    @classmethod
    def offered(cls) -> list[Arg]:
        """The arguments that people may give."""
        return [field for field in cls.FIELDS.values() if not field.internal]

    def locks(self) -> list[str]:
        """The lock names of this very action, each once: what is renamed to its own name has one."""
        return list(dict.fromkeys(lock.format_map(self.__dict__) for lock in self.LOCKS))


class Alias:
    """Another name for an action, with some of its arguments preset."""

    __slots__ = ("action", "name", "preset")

    def __init__(self, name: str, action: type[Action], preset: dict[str, Any]) -> None:
        self.name, self.action, self.preset = name, action, preset


ACTIONS: dict[str, type[Action]] = {}
ALIASES: dict[str, Alias] = {}

A = TypeVar("A", bound=type[Action])


def action(
    *,
    where: str,
    role: str = "",
    changes: bool = False,
    destructive: bool = False,
    whole_fleet: bool = False,
    hidden: bool = False,
    slot: str = "quick",
    limit: float = 60.0,
    locks: tuple[str, ...] = (),
    columns: tuple[str, ...] = (),
    wide: tuple[str, ...] = (),
    example: str = "",
    aliases: tuple[str, ...] = (),
    gives: str = "",
    undone_by: str = "",
    undone_exactly: tuple[str, ...] = (),
) -> Callable[[A], A]:
    """File a class in the table. What each word means stands at `Action`.

    Unless `role` says otherwise, readers may read and operators may change.
    """

    def declare(cls: A) -> A:
        noun, *verb = (word.lower() for word in re.findall(r"[A-Z][a-z0-9]*", cls.__name__))
        cls.NOUN, cls.VERB = noun, "-".join(verb)
        cls.NAME = f"{cls.NOUN} {cls.VERB}".strip()
        cls.METHOD = cls.VERB.replace("-", "_") + ("_" if keyword.iskeyword(cls.VERB) else "")
        cls.HELP = (cls.__doc__ or "").strip().splitlines()[0]
        cls.WHERE, cls.CHANGES, cls.DESTRUCTIVE, cls.WHOLE_FLEET = where, changes, destructive, whole_fleet
        cls.ROLE = role or (OPERATOR if changes else READER)
        cls.HIDDEN, cls.SLOT, cls.LIMIT, cls.LOCKS = hidden, slot, limit, locks
        cls.COLUMNS, cls.WIDE, cls.EXAMPLE, cls.ALIASES = columns, wide, example or f"maglica {cls.NAME}", aliases
        cls.GIVES, cls.UNDONE_BY, cls.UNDONE_EXACTLY = gives, undone_by, undone_exactly
        ACTIONS[cls.NAME] = cls
        for verb_alias in aliases:
            alias(f"{cls.NOUN} {verb_alias}", cls)
        return cls

    return declare


def alias(name: str, target: type[Action], **preset: Any) -> None:
    """File another name for an action."""
    ALIASES[name] = Alias(name, target, preset)


def nouns() -> list[str]:
    """All nouns: the files and folders of `maglica/actions/`. Nothing is imported for it."""
    return _modules("actions")


def load(noun: str) -> None:
    """Import the actions of one noun, all files where it is a folder; a noun that does not exist is passed over."""
    if noun in nouns():
        import_module(f"maglica.actions.{noun}")
        for part in _modules("actions", noun):
            import_module(f"maglica.actions.{noun}.{part}")


def _modules(*path: str) -> list[str]:
    folder = os.path.join(os.path.dirname(__file__), *path)
    found = os.listdir(folder) if os.path.isdir(folder) else []
    return sorted(name.removesuffix(".py") for name in found if not name.startswith("_"))


def load_all() -> dict[str, type[Action]]:
    """Import the whole table."""
    for noun in nouns():
        load(noun)
    return ACTIONS


def visible() -> Iterator[type[Action]]:
    """All actions that people may use, in the order of their names."""
    return (load_all()[name] for name in sorted(load_all()) if not ACTIONS[name].HIDDEN)


def find(name: str) -> Alias:
    """The action of that name with what its name presets; `Refused` when there is none."""
    name = name.replace("_", "-").strip()
    if name not in ACTIONS and name not in ALIASES:
        load(name.split(" ")[0])
    if name in ALIASES:
        return ALIASES[name]
    if name in ACTIONS:
        return Alias(name, ACTIONS[name], {})
    close = nearest(name, [*load_all(), *ALIASES])
    raise Refused("wrong_input", f"unknown action {name!r}", f"did you mean `{close}`?" if close else "")


def build(name: str, values: dict[str, Any]) -> Action:
    """The action of that name, checked; the way from the wire."""
    found = find(name)
    for key in values:
        if not isinstance(key, str):
            raise found.action.unknown(repr(key))
    return found.action(**{**found.preset, **values})


def nearest(word: str, known: Any) -> str:
    """The known word that `word` was most likely meant to be, or ''."""
    import difflib  # 8 ms, needed only when something is wrong

    # One wrong letter of two is still likely meant; in longer words half of them wrong is not.
    alike = 0.6 if len(word) > 3 else 0.5
    return next(iter(difflib.get_close_matches(word, list(known), 1, alike)), "")
