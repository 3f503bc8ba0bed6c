"""The table of actions: whatever is derived from it is there, and nothing else."""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from maglica import declare, derive, kinds, nouns, wire
from maglica.cli import terminal, words
from maglica.client_worker import answers
from maglica.cloud import Connection
from maglica.config import load
from maglica.declare import ACTIONS, ALIASES, SLOTS, Action, Where, arg
from maglica.errors import Refused
from maglica.kinds import Kind

ALL = [declare.load_all()[name] for name in sorted(declare.load_all())]
OFFERED = [action for action in ALL if not action.HIDDEN]
WHERES = {value for name, value in vars(Where).items() if name.isupper()}

HASH = "$6$saltsalt$abcdefghijklmnopqrstuvwxyz./0123456789"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGpXkJ0qAAAAAAAAAAAAAAAAAAAA me@example.jp"

# One value for every kind that the table uses.
SAMPLES: dict[str, Any] = {
    "name": "el9.original",
    "vm": "web1.example.jp@host0",
    "image": "el9:2026-11-20",
    "label": "stable",
    "source": "https://images.example.jp/el9.qcow2",
    "checksum": "sha256:" + 64 * "0",
    "host": "host0.example.jp",
    "host-address": "client.example.jp",
    "public-key": "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7",
    "text": "one line",
    "job": "1b7q2k0m4z",
    "hostname": "web1.example.jp",
    "size": "512M",
    "duration": "90s",
    "condition": "console:login:",
    "yes-no": True,
    "number": 7,
    "mac-list": ["52:54:00:12:34:56"],
    "ip": "192.0.2.1",
    "ip-list": "192.0.2.53,192.0.2.54",
    "address": "192.0.2.10/24",
    "interface": "eth1",
    "ssh-key": KEY,
    "password-hash": HASH,
    "write": ["/etc/motd:hello"],
    "upload": [{"path": "/opt/key", "mode": 0o600, "base64": "c2VjcmV0IGZpbGU="}],
    "command": ["echo hello"],
    "command-line": ["/bin/sh", "-c", "echo hello"],
    "file": {"mode": 0o600, "base64": "c2VjcmV0IGZpbGU="},
    "mode": 0o644,
    "account": "root",
    "owner": "www-data:adm",
    "path": "/etc/motd",
    "user": [
        {"name": "alice", "groups": ["adm"], "sudo": True, "ssh_keys": KEY + "\n", "password_hash": HASH, "shell": None,
         "uid": None, "comment": ""}
    ],
    "timezone": "Asia/Tokyo",
    "profile": {"name": "web", "write": ["/etc/motd:c2VjcmV0IGZpbGU="], "families": {}},
    "fleet": "web",
    "size-list": "20G,1T",
    "name-list": "default,lan",
    "tag-list": "ci,nightly",
    "uuid": "12345678-9abc-def0-1234-56789abcdef0",
    "volume": "web1-data.qcow2",
    "target": "vdb",
    "choice-list": "hd",
    "mac": "52:54:00:12:34:56",
    "tag": "nightly",
    "device-xml": "<graphics type='vnc' passwd='s3cr3t'/>",
    "keys": ["ctrl-alt-delete", "enter"],
    "moment": "2026-11-20T08:30:00Z",
    "interval": "2s",
    "sought": "52:54:00:12:34:56",
    "text-file": "memory = 4G\n",
    "script": f"#!/bin/sh\necho {HASH}\n",
    "scripts": [f"#!/bin/sh\necho {HASH}\n"],
    "size-or-change": "+2G",
    "number-or-change": "-1",
    "weight": 250,
    "parameter": ["hard_limit=1G", "soft_limit=512M"],
    "cpus": "0-3,^2",
}  # fmt: skip
# Names and paths are no secrets, contents and passwords are.
WRONG_SECRETS: dict[str, list[Any]] = {
    "qemu_args": [["pa55word"], {"name": "pa55word"}],
    "user": [{"name": "a", "password_hash": "pa55word"}],
    "upload": ["pa55word", {"path": "/a", "base64": "pa55word!"}, {"path": "/a", "data": ["pa55word"]}],
    "file": [["pa55word"], {"base64": "pa55word!"}, {"data": ["pa55word"]}, {"pa55word": b""}],
    "input": [["pa55word"], {"base64": "pa55word!"}],
    "hook": [{"pa55word": 1}, ["echo pa55word", ""], "echo pa55word\0"],
    "postboot": [["pa55word"], "echo pa55word\0"],
    "profile": ["pa55word", {"name": "a", "root_password_hash": "pa55word"}, {"pa55word": 1}],
}
SECRET_WORDS = (HASH, "c2VjcmV0IGZpbGU=")


def sample(kind: Kind) -> Any:
    return kind.choices[0] if kind.choices else SAMPLES[kind.name]


# Of these one has to be given, and only one; the first is taken here.
ONE_OF = {
    "vm attach-disk": ("size", "source"), "nic attach": ("network", "bridge"),
    "vm build": ("archive", "image", "barebones"),
}  # fmt: skip
# What does not go with the rest.
ALONE = {"snapshot create": {"disk_only", "quiesce"}, "vm build": {"rebuild"}}


def filled(action: type[Action], *, everything: bool = True) -> Action:
    """An action with a value for every argument, or for the required ones only."""
    first, *others = ONE_OF.get(action.NAME, ("",))
    out = {*others, *ALONE.get(action.NAME, ())}
    fields = {name: field for name, field in action.FIELDS.items() if name not in out}
    return action(**{name: sample(f.kind) for name, f in fields.items() if everything or f.required or name == first})


def name_of(value: Any) -> str:
    return value.NAME if inspect.isclass(value) else str(value)


def every(actions: list[type[Action]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("action", actions, ids=name_of)


# ------------------------------------------------------------------------------------------- each entry


@every(ALL)
def test_the_name_is_derived_from_the_class_and_the_file(action: type[Action]) -> None:
    assert f"{action.__module__}.".startswith(f"maglica.actions.{action.NOUN}.")
    assert "".join(word.capitalize() for word in action.NAME.replace("-", " ").split()) == action.__name__
    assert f"{action.NOUN} {action.VERB}".strip() == action.NAME
    assert declare.find(action.NAME).action is action
    assert declare.find(action.NAME.replace("-", "_")).action is action


@every(ALL)
def test_it_explains_itself(action: type[Action]) -> None:
    assert action.__doc__ is not None, "a docstring of its own"
    first = action.__doc__.strip().splitlines()[0]
    assert first == action.HELP
    assert first.endswith((".", "?"))
    assert first[0].isupper()
    assert len(first) <= 120
    for field in action.FIELDS.values():
        assert field.help.strip(), f"{field.option} has no help"
        assert "\n" not in field.help
        assert not field.help.endswith("."), f"{field.option}: one phrase, no sentence"


@every(ALL)
def test_what_it_says_of_itself_makes_sense(action: type[Action]) -> None:
    assert action.WHERE in WHERES
    assert action.SLOT in SLOTS
    assert action.LIMIT > 0
    subjects = [name for name, field in action.FIELDS.items() if field.subject]
    assert len(subjects) <= 1
    if action.WHERE in (Where.OWNER, Where.NAMED):
        assert subjects == ["name"], "the client worker looks for the object in it"
    if action.DESTRUCTIVE:
        assert subjects, "whoever is asked must be told what will be destroyed"
    if action.WHERE == Where.MANY:
        assert not action.LOCKS, "the jobs that it stands for have them"
    elif action.CHANGES:
        assert action.LOCKS, "a job without a lock can run beside any other"
        assert action.WHERE in (Where.OWNER, Where.PLACED)
    else:
        assert not action.LOCKS
        assert not action.WHOLE_FLEET
    if action.WHOLE_FLEET:
        assert "ignore_missing" in action.FIELDS, "the explicit override"
    for field in action.FIELDS.values():
        if field.values_of:
            assert field.values_of in declare.nouns()
        if not field.required:
            assert field.default is None or field.kind.check(field.default) == field.default


@every([action for action in ALL if action.LOCKS])
def test_its_locks_can_be_named(action: type[Action]) -> None:
    made = filled(action, everything=False)
    for lock in made.locks():
        kind, _, name = lock.partition(":")
        assert kind in declare.nouns()
        values = {str(value) for value in made.values().values()}
        assert name in values or set(name.split("@")) <= values  # one object, or one object at a host


@every([action for action in ALL if action.CHANGES])
def test_a_name_that_it_gives_beside_what_it_is_about_is_declared(action: type[Action]) -> None:
    """The client worker asks whether whoever gives it may have such VMs."""
    names = {name for name, field in action.FIELDS.items() if field.kind in (kinds.IMAGE, kinds.HOSTNAME)}
    given = {name for name in names if not action.FIELDS[name].values_of} - {"name", action.distinct()}
    assert given == ({action.GIVES} if action.GIVES else set())


# The files that examples name.
EXAMPLES = {
    "hash": HASH,
    "id_ed25519.pub": KEY,
    "motd": "Welcome.\n",
    "web1.xml": "<domain/>",
    "web1.conf": "-name web1",
}


@every(OFFERED)
def test_its_example_is_a_command_line_that_works(
    action: type[Action], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, content in EXAMPLES.items():
        Path(name).write_text(content)
    program, *line = shlex.split(action.EXAMPLE)
    assert program == "maglica"
    command = words.parse(line, {})
    assert command.action is action
    subject = action.subject()
    for name in command.names or [None]:
        action(**command.values, **({subject.name: name} if subject and name else {}))


def test_an_alias_is_no_action_and_its_presets_fit() -> None:
    for name, alias in ALIASES.items():
        assert name not in ACTIONS
        assert alias.name == name
        assert alias.action in ACTIONS.values()
        assert set(alias.preset) <= set(alias.action.FIELDS)


def test_the_words_of_the_first_maglica_stay_valid() -> None:
    assert declare.find("log tail").action.NAME == "job list"
    assert declare.find("log tail").preset == {"last": 10}
    assert declare.find("log status").action.NAME == "job show"
    assert declare.build("log tail", {}).values()["last"] == 10
    assert declare.build("log tail", {"last": 3}).values()["last"] == 3


# ------------------------------------------------------------------------- a function for each, no orphans


def functions(module: ModuleType) -> set[str]:
    """The public functions that a module defines itself."""
    return {
        name
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")
    }


def wanted(actions: list[type[Action]]) -> set[str]:
    return {action.NAME.replace(" ", "_").replace("-", "_") for action in actions}


def test_the_client_worker_answers_what_runs_there_and_nothing_else() -> None:
    here = [action for action in ALL if action.WHERE == Where.CLIENT_WORKER]
    helpers = {"function"}
    assert functions(answers) - helpers == wanted(here)
    for action in here:
        parameters = inspect.signature(answers.function(filled(action))).parameters
        assert [p.annotation for p in parameters.values()] == [action.__name__, "Records", "Now"]


def test_the_host_worker_does_what_runs_there_and_nothing_else() -> None:
    jobs = import_module("maglica.host_worker.jobs")
    here = [action for action in ALL if action.WHERE not in (Where.CLIENT_WORKER, Where.TERMINAL, Where.MANY)]
    folder = Path(inspect.getfile(jobs)).parent
    paths = [path.relative_to(folder) for path in folder.rglob("*.py") if not path.stem.startswith("_")]
    files = {
        ".".join(path.with_suffix("").parts): f"maglica.actions.{'.'.join(path.with_suffix('').parts)}"
        for path in paths
    }
    assert set(files.values()) == {action.__module__ for action in here}
    for file, table in files.items():
        module = import_module(f"maglica.host_worker.jobs.{file}")
        assert functions(module) == wanted([action for action in here if action.__module__ == table])
    for action in here:
        parameters = inspect.signature(jobs.function(filled(action))).parameters
        more = ["Host", "Work"] if action.CHANGES else ["Host"]
        assert [p.annotation for p in parameters.values()] == [action.__name__, *more]


def test_the_terminal_has_a_function_for_what_happens_there() -> None:
    here = [action for action in ALL if action.WHERE == Where.TERMINAL]
    for name in wanted(here):
        assert name in functions(terminal)


def test_the_library_has_a_method_for_everything_but_the_terminal(tmp_path: Path) -> None:
    cloud = nouns.Cloud(load(None))
    try:
        for action in OFFERED:
            call = getattr(getattr(cloud, action.NOUN, None), action.METHOD, None)
            assert (call is None) == (action.WHERE == Where.TERMINAL)
            if call is not None:
                signature = inspect.signature(call)
                assert list(signature.parameters) == list(action.FIELDS)
                for name, field in action.FIELDS.items():
                    assert (signature.parameters[name].default is inspect.Parameter.empty) == field.required
        hidden = [action for action in ALL if action.HIDDEN]
        assert hidden
        for action in hidden:
            assert not hasattr(getattr(cloud, action.NOUN), action.METHOD)
        # A noun must not hide what every connection can do.
        assert not {action.NOUN for action in OFFERED} & {n for n in vars(Connection) if not n.startswith("_")} - {
            "ping"
        }
    finally:
        cloud.close()


# ------------------------------------------------------------------------------------- over the wire


def travelled(made: Action) -> Action:
    """The same action as it arrives at the other end of the bus."""
    bytes_ = wire.encode({"op": "read", "action": made.NAME, "args": made.values()})
    message = wire.decode(bytes_)
    assert wire.check(message) == "read"
    return declare.build(message["action"], message["args"])


@every(ALL)
def test_it_survives_the_wire(action: type[Action]) -> None:
    for made in (filled(action), filled(action, everything=False)):
        again = travelled(made)
        assert again == made
        assert type(again) is action
        # What arrives is in its one form: checking it once more changes nothing.
        assert again.values() == made.values() == travelled(again).values()


@every(ALL)
def test_an_unknown_argument_is_refused_with_the_nearest_name(action: type[Action]) -> None:
    for name in action.FIELDS:
        wrong = name + "x"
        with pytest.raises(Refused) as refused:
            declare.build(action.NAME, {**filled(action).values(), wrong: 1})
        assert refused.value.code == "wrong_input"
        assert wrong in refused.value.message
        assert refused.value.message.startswith(action.NAME)
        assert refused.value.hint == f"did you mean {name}?"
    with pytest.raises(Refused, match="unknown argument zzzz"):
        declare.build(action.NAME, {"zzzz": 1})


@every([action for action in ALL if any(field.required for field in action.FIELDS.values())])
def test_a_missing_argument_is_named(action: type[Action]) -> None:
    for name, field in action.FIELDS.items():
        if field.required:
            values = {other: value for other, value in filled(action).values().items() if other != name}
            with pytest.raises(Refused) as refused:
                declare.build(action.NAME, values)
            assert refused.value.message == f"{action.NAME}: {field.option} is missing"
            assert refused.value.hint == f"expected {field.kind.expected}"


@pytest.mark.parametrize("name", ["self", "cls", "values", "__class__", "name"])
def test_argument_names_of_our_own_code_are_unknown_like_any_other(name: str) -> None:
    with pytest.raises(Refused, match="unknown argument"):
        declare.build("job list", {name: 1})


@pytest.mark.parametrize("name", [b"id", b"", 5, None])
def test_an_argument_name_that_is_no_text_is_refused(name: Any) -> None:
    with pytest.raises(Refused, match="unknown argument"):
        declare.build("job list", {name: 1})


@pytest.mark.parametrize(
    "name", ["", " ", "vm", "vm ", "vm nosuch", "../config show", "os system", "vm  start", "__init__"]
)
def test_a_name_that_is_not_in_the_table_runs_nothing(name: str) -> None:
    """D3: what comes from the wire chooses among the entries of the table, and can do nothing else."""
    with pytest.raises(Refused, match="unknown action"):
        declare.build(name, {})


def test_a_wrong_verb_gets_the_nearest_action() -> None:
    with pytest.raises(Refused) as refused:
        declare.find("vm strt")
    assert refused.value.hint == "did you mean `vm start`?"


def test_an_action_cannot_be_changed_after_it_was_checked() -> None:
    made = declare.build("vm start", {"name": "web1"})
    with pytest.raises(AttributeError):
        made.name = "; reboot"  # type: ignore[attr-defined]
    assert made.values()["name"] == "web1"


# ------------------------------------------------------------------------------------------- secrets


SECRETS = [(action, name) for action in ALL for name, field in action.FIELDS.items() if field.secret]


def test_what_must_be_secret_is() -> None:
    assert ("vm clone", "root_password_hash") in [(action.NAME, name) for action, name in SECRETS]


@pytest.mark.parametrize(("action", "name"), SECRETS, ids=name_of)
def test_a_secret_is_never_shown(action: type[Action], name: str) -> None:
    made = filled(action)
    secret = made.values()[name]
    kind = action.FIELDS[name].kind
    assert secret == sample(kind)
    words = [word for word in SECRET_WORDS if word in repr(secret)] or [str(secret)]
    for word in words:
        assert word not in repr(made)
        assert word not in str(made)
    assert made.public()[name] == (kind.mask(secret) if kind.mask else "***")
    assert declare.is_masked(made.public()[name]) or action.FIELDS[name].internal
    if not action.FIELDS[name].required:
        assert filled(action, everything=False).public()[name] is None, "that there is none may be seen"


@pytest.mark.parametrize(("action", "name"), SECRETS, ids=name_of)
def test_a_wrong_secret_is_not_repeated(action: type[Action], name: str) -> None:
    for wrong in WRONG_SECRETS.get(name, ("pa55word", ["pa55word"], {"pa55word": 1})):
        with pytest.raises(Refused) as refused:
            action(**{**filled(action).values(), name: wrong})
        assert "pa55word" not in f"{refused.value.to_wire()}"


# ------------------------------------------------------------------------------------- derived files


@pytest.mark.parametrize("path", sorted(derive.written()), ids=lambda path: Path(path).name)
def test_derived_files_are_up_to_date(path: str) -> None:
    assert Path(path).read_text(encoding="utf-8") == derive.written()[path], "run `make derive`"


def test_the_list_of_commands_is_what_people_may_use() -> None:
    page = derive.command_list(list(declare.visible()))
    for action in ALL:
        assert (f"`maglica {action.NAME}" in page) == (not action.HIDDEN)


# ------------------------------------------------------------------------------ what a new action costs


class VmPolishBrass(Action):
    """Polish the brass of a VM."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    strokes: int = arg(kinds.integer(1, 99), "how many strokes", default=3)
    paste: str | None = arg(kinds.TEXT, "which paste", default=None, secret=True)


@pytest.fixture
def new_action() -> Iterator[type[Action]]:
    """The class above in the table, for one test."""
    before, aliases = dict(ACTIONS), dict(ALIASES)
    file = declare.action(
        where=Where.OWNER,
        changes=True,
        locks=("vm:{name}",),
        aliases=("shine",),
        example="maglica vm polish-brass web1",
    )
    yield file(VmPolishBrass)
    ACTIONS.clear()
    ALIASES.clear()
    ACTIONS.update(before)
    ALIASES.update(aliases)


def test_a_new_action_is_one_entry(new_action: type[Action]) -> None:
    assert new_action.NAME == "vm polish-brass"
    assert new_action in list(declare.visible())
    # the command line
    command = words.parse(["vm", "polish_brass", "web1", "--strokes=5"], {})
    assert (command.action, command.names, command.values) == (new_action, ["web1"], {"strokes": "5"})
    assert words.parse(["vm", "shine", "web1"], {}).action is new_action
    # both doors of the bus
    made = declare.build("vm polish-brass", {"name": "web1", "strokes": "5", "paste": "red"})
    assert made.values() == {"name": "web1", "strokes": 5, "paste": "red"}
    assert travelled(made) == made
    assert made.locks() == ["vm:web1"]
    assert repr(made) == "VmPolishBrass(name='web1', strokes=5, paste='***')"
    with pytest.raises(Refused) as refused:
        declare.build("vm polish-brass", {"name": "web1", "strokes": 100})
    assert refused.value.message == "vm polish-brass: --strokes: 100 is out of range"
    assert refused.value.hint == "expected a whole number from 1 to 99"
    # the library and its stub, and the README
    with nouns.Cloud(load(None)) as cloud:
        assert list(inspect.signature(cloud.vm.polish_brass).parameters) == ["name", "strokes", "paste"]  # type: ignore[attr-defined]
    written = derive.stub(list(declare.visible()))
    expected = "def __call__(self, *, name: str, strokes: int = 3, paste: str | None = None) -> dict[str, Any]:"
    assert expected in written
    assert "    polish_brass: _VmPolishBrass\n" in written
    compile(written, "nouns.pyi", "exec")
    assert derive.usage(new_action) == "maglica vm polish-brass NAME [--strokes=NUMBER] [--paste=TEXT]"
    assert derive.usage(new_action) in derive.command_list(list(declare.visible()))


def test_the_new_action_is_gone_again() -> None:
    assert "vm polish-brass" not in declare.load_all()
    assert "vm shine" not in ALIASES


# What the client worker answers from its records without changing anything; whatever else it does needs a role.
ONLY_TELLS = {"list", "history", "info", "show", "render", "log", "explain", "status", "tail"}


@pytest.mark.parametrize("name", sorted(declare.load_all()))
def test_what_changes_something_is_not_for_readers(name: str) -> None:
    action = declare.load_all()[name]
    assert action.ROLE in declare.ROLES
    if action.CHANGES or (action.WHERE == Where.CLIENT_WORKER and action.VERB not in ONLY_TELLS):
        assert action.ROLE != declare.READER


def test_only_what_may_start_a_vm_asks_the_whole_fleet() -> None:
    assert declare.build("vm start", {"name": "web1"}).asks_whole_fleet()
    assert not declare.build("vm start", {"name": "web1", "ignore_missing": True}).asks_whole_fleet()
    assert not declare.build("vm stop", {"name": "web1"}).asks_whole_fleet()


def test_what_people_know_from_elsewhere_is_there() -> None:
    """The README's table names verbs that exist, and all that people can do with one VM."""
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    table = readme.split("## Which command does what people know from elsewhere")[1].split("\n## ")[0]
    rows = [line for line in table.splitlines() if "not there yet" not in line]
    told = re.findall(r"`(vm|image|disk|nic|snapshot) ([a-z|\\-]+)", "\n".join(rows))
    named = {f"{noun} {verb}" for noun, verbs in told for verb in verbs.replace("\\", "").split("|")}
    assert named <= {action.NAME for action in OFFERED}
    others = {"vm history", "vm flatten", "vm read-file"}  # what nobody had, and what `vm get` is for the library
    nouns_of_one = ("vm", "disk", "nic", "snapshot")
    assert {a.NAME for a in OFFERED if a.NOUN in nouns_of_one} - named - others == set()
