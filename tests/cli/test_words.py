"""argv -> command."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from maglica import declare
from maglica.cli import bulk, options, run
from maglica.cli.options import Globals
from maglica.cli.session import Session
from maglica.cli.words import Command, parse
from maglica.errors import Refused


def parsed(line: str | list[str], **environment: str) -> Command:
    return parse(line.split() if isinstance(line, str) else line, environment)


@pytest.mark.parametrize(
    ("line", "action", "names", "values"),
    [
        ("vm list", "vm list", [], {}),
        ("vm list --state=running", "vm list", [], {"state": "running"}),
        ("vm list --state running", "vm list", [], {"state": "running"}),
        ("vm list --all", "vm list", [], {"all": True}),
        ("vm list --all=1", "vm list", [], {"all": True}),
        ("vm list --all=no", "vm list", [], {"all": False}),
        ("vm list --no-all", "vm list", [], {"all": False}),
        ("ping", "ping", [], {}),
        ("version", "version", [], {}),
        ("--version", "version", [], {}),
        ("vm stop web1", "vm stop", ["web1"], {}),
        ("vm stop --name=web1", "vm stop", ["web1"], {}),
        ("vm stop --name web1 --name=web2", "vm stop", ["web1", "web2"], {}),
        ("vm stop web1 --force web2", "vm stop", ["web1", "web2"], {"force": True}),
        ("vm stop --force web1", "vm stop", ["web1"], {"force": True}),
        ("vm stop -- web1", "vm stop", ["web1"], {}),
        (
            "vm exec web1 --timeout=9s -- ls -o --timeout=3 -- -v",
            "vm exec",
            ["web1"],
            {"timeout": "9s", "command": ["ls", "-o", "--timeout=3", "--", "-v"]},
        ),
        ("vm exec web1 --command=id", "vm exec", ["web1"], {"command": "id"}),
        ("vm stop web1 -- --web2", "vm stop", ["web1", "--web2"], {}),
        ("vm stop web1 --timeout=2m", "vm stop", ["web1"], {"timeout": "2m"}),
        ("vm set-memory web1 --size -2G --offline", "vm set-memory", ["web1"], {"size": "-2G", "offline": True}),
        ("vm set-vcpus --vcpus -1 web1", "vm set-vcpus", ["web1"], {"vcpus": "-1"}),
        ("vm set-vcpus web1 -- -1", "vm set-vcpus", ["web1", "-1"], {}),
        ("vm remove web1 --keep_disks", "vm remove", ["web1"], {"keep_disks": True}),
        ("vm remove web1 --keep_disks=0", "vm remove", ["web1"], {"keep_disks": False}),
        ("vm delete web1", "vm remove", ["web1"], {}),
        ("log tail", "job list", [], {"last": 10}),
        ("log tail --last=3", "job list", [], {"last": "3"}),
        ("log status --id=1b7q2k0m4z", "job show", ["1b7q2k0m4z"], {}),
        ("-o json vm list", "vm list", [], {}),
        ("vm -o json list", "vm list", [], {}),
        ("vm clone --image=a --hostname=b --start=0", "vm clone", [], {"image": "a", "hostname": "b", "start": False}),
        ("vm list --state=running --state=paused", "vm list", [], {"state": "paused"}),
    ],
)
def test_commands(line: str, action: str, names: list[str], values: dict[str, Any]) -> None:
    command = parsed(line)
    assert command.action is not None
    assert (command.action.NAME, command.names, command.values) == (action, names, values)


@pytest.mark.parametrize(
    ("line", "topic"),
    [
        ("", []),
        ("--help", []),
        ("-h", []),
        ("help", []),
        ("help vm", ["vm"]),
        ("vm --help", ["vm"]),
        ("--help vm", ["vm"]),
        ("vm clone --help", ["vm", "clone"]),
        ("vm clone --image=x -h", ["vm", "clone"]),
        ("help vm clone", ["vm", "clone"]),
        ("ping --help", ["ping"]),
        ("log tail --help", ["log", "tail"]),
    ],
)
def test_help_is_wanted(line: str, topic: list[str]) -> None:
    command = parsed(line)
    assert (command.action, command.topic) == (None, topic)


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("vm lst", "vm has no verb lst", "did you mean `maglica vm list`"),
        ("vm", "vm: what shall be done?", "clone"),
        ("vn list", "there is no command vn", "did you mean `maglica vm`"),
        ("list vm", "there is no command list", "did you mean `maglica vm list`"),
        ("xyzzy plugh", "there is no command xyzzy", "--help"),
        ("vm xyzzy", "vm has no verb xyzzy", "it knows a"),
        ("host survey", "host has no verb survey", ""),
        ("vm list --stat=running", "vm list: there is no option --stat", "did you mean --state"),
        ("vm list --xyzzy", "vm list: there is no option --xyzzy", "--help"),
        ("vm list -x", "there is no option -x", "--help"),
        ("--ouput=json vm list", "there is no option --ouput", "did you mean --output"),
        ("vm list --state", "vm list: --state: a value is missing", "--help"),
        ("vm list --all=maybe", "--all: 'maybe' is neither yes nor no", "1 or 0"),
        ("vm list web1", "vm list: what is 'web1'?", "--help"),
        ("-o xml vm list", "--output: 'xml' is none of them", "table, wide"),
        ("vm list --timeout=5", "--timeout: '5' has no unit", "90s"),
        ("vm clone --ssh-key=/does/not/exist", "vm clone: --ssh-key: cannot read", "public keys"),
    ],
)
def test_what_is_wrong_is_named(line: str, message: str, hint: str) -> None:
    with pytest.raises(Refused) as caught:
        parsed(line)
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.exit_status == 2


def test_a_command_is_given_in_one_way() -> None:
    with pytest.raises(Refused, match="--command and words after -- exclude each other"):
        parsed("vm exec web1 --command=id -- id")
    with pytest.raises(Refused, match="vm exec: --command is missing"):
        run.make(parsed("vm exec web1 id --"), Session(Globals()))


def test_a_word_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(Refused, match="not UTF-8"):
        parsed(["vm", "stop", "web\udcff"])


def test_an_own_option_wins_after_the_command_and_the_global_one_before_it() -> None:
    command = parsed("--timeout=10m vm stop web1 --timeout=2m")
    assert (command.options.timeout, command.values["timeout"]) == (600.0, "2m")
    command = parsed("vm stop web1 --timeout=2m")
    assert (command.options.timeout, command.values["timeout"]) == (None, "2m")
    command = parsed("vm start web1 --timeout=2m")
    assert (command.options.timeout, command.values) == (120.0, {})


@pytest.mark.parametrize(
    "line",
    [
        "-o json --sort=-name,host -v -q --no-headers -y vm list",
        "vm list --output=json --sort=-name,host -v -q --no-headers --yes",
        "vm --sort=-name,host list -ojson -vq --headers=0 -y",
    ],
)
def test_global_options_stand_anywhere(line: str) -> None:
    found = parsed(line).options
    assert (found.output, found.sort, found.verbose, found.quiet, found.headers, found.yes) == (
        "json", ["-name", "host"], 1, True, False, True,
    )  # fmt: skip


def test_every_global_option_has_a_variable() -> None:
    environment = {
        "MAGLICA_OUTPUT": "json",
        "MAGLICA_TIMEOUT": "90s",
        "MAGLICA_WAIT": "0",
        "MAGLICA_YES": "1",
        "MAGLICA_VERBOSE": "2",
        "MAGLICA_REASON": "",
    }
    found = parsed("vm list", **environment).options
    assert (found.output, found.timeout, found.wait, found.yes, found.verbose) == ("json", 90.0, False, True, 2)
    assert found.reason is None
    assert parsed("vm list -o csv --wait", **environment).options.output == "csv"
    with pytest.raises(Refused, match="MAGLICA_OUTPUT: 'xml'"):
        parsed("vm list", MAGLICA_OUTPUT="xml")
    assert {options.variable(field) for field in Globals.FIELDS.values()} > {"MAGLICA_CONFIG", "MAGLICA_CLIENT"}


def test_a_file_is_read_where_the_kind_says_so(tmp_path: Path) -> None:
    file = tmp_path / "id.pub"
    file.write_text("ssh-ed25519 AAAA someone\n")
    command = parsed(["vm", "clone", f"--ssh-key={file}"])
    assert command.values == {"ssh_key": "ssh-ed25519 AAAA someone\n"}


def test_no_action_has_an_option_that_hides_a_global_flag() -> None:
    # `--x=0` before the command is turned into `--no-x` wherever it stands; see Parser._plain. An option of an action
    # may have the name of a flag where no value of the one is one of the other: `--wait=ssh`.
    flags = {name: field for name, field in Globals.FIELDS.items() if field.kind.name == "yes-no"}
    for action in declare.load_all().values():
        for name in set(flags) & set(action.FIELDS):
            for word in ("1", "0", "yes", "no", "true", "false", "on", "off"):
                with pytest.raises(ValueError, match="none of them"):
                    action.FIELDS[name].kind.check(word)


@pytest.mark.parametrize(
    ("line", "job", "guest", "names"),
    [
        ("vm start web1", True, None, ["web1"]),
        ("vm start web1 --wait", True, None, ["web1"]),
        ("vm start --wait web1", True, None, ["web1"]),
        ("vm start web1 --no-wait", False, None, ["web1"]),
        ("vm start web1 --wait=0", False, None, ["web1"]),
        ("vm start web1 --wait=yes", True, None, ["web1"]),
        ("vm start web1 --wait=ssh", True, "ssh", ["web1"]),
        ("vm start --wait ssh web1", True, "ssh", ["web1"]),
        ("vm start web1 --wait=console:login:", True, "console:login:", ["web1"]),
        ("vm start web1 --wait=ip --no-wait", False, "ip", ["web1"]),
        ("--no-wait vm start web1 --wait=ip", False, "ip", ["web1"]),
        ("-q vm start web1 --wait=ip", True, "ip", ["web1"]),
        ("--wait=0 vm start web1 --wait=ip", False, "ip", ["web1"]),
        ("vm -q start web1 --wait=ip", True, "ip", ["web1"]),
        ("vm start --no-wait -- --wait=ip", False, None, ["--wait=ip"]),
    ],
)
def test_waiting_for_the_job_and_for_the_guest_are_told_apart(
    line: str, job: bool, guest: str | None, names: list[str]
) -> None:
    command = parsed(line)
    assert (command.options.wait, command.values.get("wait"), command.names) == (job, guest, names)


def test_a_condition_before_the_command_is_refused_in_words() -> None:
    with pytest.raises(Refused, match=r"--wait.*a flag before the command takes no value such as 'ssh'"):
        parsed("--wait=ssh vm start web1")
    with pytest.raises(Refused, match="neither yes nor no"):
        parsed("vm stop web1 --wait=ssh")


def test_every_action_of_the_table_can_be_asked_for() -> None:
    for action in declare.visible():
        assert parsed(f"{action.NAME} --help").topic == action.NAME.split()
        command = parsed(action.NAME)
        assert command.action is action


@pytest.mark.parametrize(
    ("line", "on_timeout"),
    [
        ("--all-or-nothing --wait=ssh", "remove"),
        ("--all-or-nothing --wait=ssh --on-timeout=keep", "keep"),
        ("--fail-fast --wait=ssh", None),
        ("--all-or-nothing", None),
    ],
)
def test_nothing_is_nothing_also_when_a_guest_is_only_slow(line: str, on_timeout: str | None) -> None:
    command = parsed(f"vm clone --image=a --hostname=b{{n}} --count=2 {line}")
    assert command.action is not None
    bulk.wish(command.action, command.bulk, command.values)
    assert command.values.get("on_timeout") == on_timeout


def test_the_first_of_many_has_the_first_address() -> None:
    for ip, first in (("10.0.0.{n}/24", "10.0.0.3/24"), ("10.0.0.10-10.0.0.20/24", "10.0.0.10/24")):
        command = parsed(f"vm clone --image=a --hostname=b{{n}} --count=2 --first=3 --ip={ip}")
        assert command.action
        wish = bulk.wish(command.action, command.bulk, command.values)
        assert command.values["ip"] == first
        assert wish.patterns == {"hostname": "b{n}", "ip": ip}


def test_many_are_made_only_where_something_is_made() -> None:
    made = [action.NAME for action in declare.visible() if "count" in bulk.offered(action)]
    assert made == ["vm clone"]
    assert bulk.offered(declare.find("image import").action) == {}
    with pytest.raises(Refused, match="there is no option --count"):
        parsed("image import https://e.example/x.qcow2 --name=a --count=2")
    # What looks like a place for a number in a URL is none.
    command = parsed(["image", "import", "https://e.example/{n}.qcow2", "--name=a"])
    assert command.action
    assert bulk.wish(command.action, command.bulk, command.values).total is None


def test_a_url_is_no_pattern() -> None:
    url = "https://images.example.jp/el9.qcow2?part={1..3}&v=*[1]"
    (made,) = run.make(parsed(["image", "import", url, "--name=el9:1"]), cast(Session, None))
    assert made.values()["source"] == url
    with pytest.raises(Refused, match="takes one source, not 2"):
        run.make(parsed(["image", "import", url, url, "--name=el9:1"]), cast(Session, None))


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("key new alice bob", "key new takes one name, not 2"),
        ("vm get web{1..3} --path=/etc/motd", "vm get takes one VM, not 3"),
        ("vm console web1 web2", "vm console takes one VM, not 2"),
        ("vm vnc web1 web2", "vm vnc takes one VM, not 2"),
    ],
)
def test_what_is_for_one_is_not_done_for_the_first_of_several(typed: str, message: str) -> None:
    with pytest.raises(Refused, match=message) as refused:
        run.make(parsed(typed), cast(Session, None))
    assert refused.value.hint
