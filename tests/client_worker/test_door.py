"""Who may ask for what: the whole table and every request, asked by everybody; and what narrowed roles get to see."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from maglica import declare, wire
from maglica.client_worker.door.audit import DENIALS, LONGEST, STRANGERS
from maglica.client_worker.ledger.waiters import MOST_OF_PEER
from maglica.client_worker.store import MOST_LIKE
from maglica.config import RoleSection
from maglica.declare import ADMIN, OPERATOR, READER, ROLES, Where
from maglica.errors import MaglicaError
from maglica.keys import invitation
from tests import test_table
from tests.client_worker.office import ADMIN_KEY, LockedOffice, Worker, outcome, submission

# Whoever adds an action decides here as well who may ask for it. What is not listed is for readers.
FOR_ADMINS = {
    "audit list", "host check", "host invite", "host remove", "host revoke", "host survey", "image serve",
    "job prune", "job store",
    "key add", "key list", "key new", "key revoke",
    "vm attach-device", "vm detach-device", "vm update-device",
    "vm define", "vm import", "vm redefine",
}  # fmt: skip
FOR_OPERATORS = {
    "fleet create", "fleet remove", "fleet restart", "fleet start", "fleet stop", "template add", "template remove",
    "image copy", "image export", "image import", "image remove", "image label", "image promote", "image rollback",
    "image seal", "image upgrade",
    "job cancel", "job recover", "job retry", "job settle",
    "vm build", "vm clone", "vm destroy", "vm flatten", "vm remove", "vm restart", "vm vnc",
    "vm start", "vm stop",
    "nic attach", "nic detach", "nic link", "snapshot create", "snapshot remove", "snapshot revert",
    "vm attach-disk", "vm attach-iso", "vm autostart", "vm describe", "vm detach-disk", "vm eject", "vm managedsave",
    "vm nmi", "vm owner", "vm pmsuspend", "vm pmwakeup", "vm protect", "vm reboot", "vm reset", "vm restore",
    "vm resume", "vm save", "vm set-boot-device", "vm set-max-memory", "vm set-memory", "vm set-state", "vm set-vcpus",
    "vm suspend", "vm tag", "vm unprotect", "vm untag",
    "vm dump", "vm send-key", "vm set-time", "vm pin", "vm set-disk", "vm set-io-weight", "vm tune",
    "vm exec", "vm fstrim", "vm get", "vm passwd", "vm put", "vm read-file", "vm ssh-key",
    "vm change-address", "vm rename",
    "vm adopt", "vm forget", "vm sync", "vm undefine",
}  # fmt: skip

SAMPLES: dict[str, Any] = {
    "name": "web1", "id": "1b7q2k0m4z", "image": "el9.original", "hostname": "web2", "as_": "success",
    "reason": "I looked", "owner": "me@here", "older_than": 3600.0, "public_key": "w" * 40,
    "source": "https://images.example.jp/x.qcow2", "dest": "host1", "job": "1b7q2k0m4z",
}  # fmt: skip

# One of several arguments that it has to be given.
TOGETHER: dict[str, dict[str, Any]] = {
    "nic attach": {"network": "default"},
    "vm attach-disk": {"size": "1G"},
    "vm build": {"archive": "https://images.example.jp/base.tar.gz"},
}

ROLE = {"ci": RoleSection(base="operator", vms="ci-*", hosts="host1")}
STRANGER_KEY, HOST_KEY = "s" * 40, "host1".ljust(40, "2")


def sample(action: type[declare.Action]) -> dict[str, Any]:
    """What it has to be given: a value of its kind, where nothing else is said here."""
    required = {name: field.kind for name, field in action.FIELDS.items() if field.required}
    found = {name: SAMPLES[name] if name in SAMPLES else test_table.sample(kind) for name, kind in required.items()}
    return {**found, **TOGETHER.get(action.NAME, {})}


@pytest.fixture
def office(tmp_path: Path) -> Iterator[LockedOffice]:
    found = LockedOffice(tmp_path, ROLE)
    yield found
    found.close()


def everything() -> Iterator[type[declare.Action]]:
    for action in declare.load_all().values():
        if action.NAME.split(" ")[0] in declare.nouns() and action.__module__.startswith("maglica.actions."):
            yield action


def test_what_each_action_takes_is_decided_on_purpose() -> None:
    found = {action.NAME: action.ROLE for action in everything()}
    expected = {name: ADMIN if name in FOR_ADMINS else OPERATOR if name in FOR_OPERATORS else READER for name in found}
    assert found == expected
    assert found.keys() >= FOR_ADMINS | FOR_OPERATORS


@pytest.mark.parametrize("who", ["stranger", "host", "gone", "none", *ROLES])
def test_the_whole_table_asked_by_everybody(office: LockedOffice, who: str) -> None:
    """Over the door: denied, and nothing else, unless the role has the rank. Each denial is an audit line."""
    office.host("host1", {})
    keys = {"stranger": STRANGER_KEY, "host": HOST_KEY, "none": ""}
    if who in ROLES:
        keys[who] = ADMIN_KEY if who == ADMIN else office.person(who, who)
    elif who == "gone":
        office.broker.keyring.take_roles({"old": RoleSection(base="admin")})
        keys[who] = office.person(who, "old")
        office.broker.keyring.take_roles({})
    asked = 0
    for action in everything():
        office.sleep(61.0)  # so that no denial is one too many to be written down
        op = "submit" if action.CHANGES else "read"
        message = {"op": op, "action": action.NAME, "args": sample(action)}
        with office.of(keys[who]):
            answered = office.ask({**message, "key": action.NAME, "owner": "me@here"} if op == "submit" else message)
            office.sleep(6.0)
        assert answered.answer is not None, action.NAME
        code = None if answered.answer["ok"] else answered.error.code
        if who not in ROLES and (who != "gone" or action.WHERE != Where.TERMINAL):
            assert code == "denied", action.NAME
        elif action.WHERE == Where.TERMINAL:
            assert code == "wrong_input", action.NAME
        else:
            assert (code == "denied") == (ROLES.index(who) < ROLES.index(action.ROLE)), (action.NAME, code)
        if code == "denied":
            asked += 1
            assert office.audit()[-1]["outcome"] == "denied", action.NAME
    assert asked or who == ADMIN


REQUESTS: dict[str, dict[str, Any]] = {
    "ping": {},
    "read": {"action": "vm list", "args": {}},
    "submit": {"key": "k", "action": "vm start", "args": {"name": "web1"}, "owner": "me@here"},
    "submit_group": {"key": "g", "action": "vm start", "args": {}, "each": [{"name": "web1"}], "owner": "me@here"},
    "retry": {"key": "r", "id": "1b7q2k0m4z", "owner": "me@here"},
    "wait": {"id": "1b7q2k0m4z", "rev": -1, "timeout": 0.0},
    "join": {"host": "host1", "secret": "guessed"},
    "hello": {"host": "host1", "journal": "j", "versions": [wire.VERSION], "features": [], "version": "1"},
    "sync": {"host": "host1", "incarnation": 1, "have": [], "done": [], "progress": [], "free": {}},
    "answer": {"host": "host1", "ask": 1, "ok": True, "value": {}},
    "need": {"host": "host1", "ask": 1, "job": "1b7q2k0m4z", "args": {}},
    "part": {"host": "host1", "ask": 1, "part": 0, "parts": 1, "data": b""},
    "stream": {"key": "k" * 32, "action": "vm console", "args": {"name": "web1"}, "n": 1},
    "flow": {
        "host": "host1", "stream": "console web1", "life": "1", "n": 1, "start": 0, "at": 0, "data": b"", "have": {},
    },
}  # fmt: skip
PEOPLE = {"reader": {"ping", "read", "wait", "retry", "stream"}, "operator": {"submit", "submit_group"}}
ALLOWED = {
    "stranger": set(), "none": set(), "other host": {"ping"},
    "host": {"ping", "hello", "sync", "answer", "part", "need", "flow"},
    "reader": PEOPLE["reader"], "operator": PEOPLE["reader"] | PEOPLE["operator"],
    "admin": PEOPLE["reader"] | PEOPLE["operator"],
}  # fmt: skip


@pytest.mark.parametrize("who", ALLOWED)
def test_every_request_by_everybody(office: LockedOffice, who: str) -> None:
    assert REQUESTS.keys() == wire.REQUESTS.keys()
    office.host("host1", {})
    office.host("host2", {})
    keys = {"stranger": STRANGER_KEY, "none": "", "host": HOST_KEY, "other host": office.host_keys["host2"]}
    keys[ADMIN] = ADMIN_KEY
    key = keys[who] if who in keys else office.person(who, who)
    for op, fields in REQUESTS.items():
        with office.of(key):
            answered = office.ask({"op": op, **fields})
            office.sleep(6.0)
        assert answered.answer is not None, op
        denied = not answered.answer["ok"] and answered.error.code == "denied"
        assert denied == (op not in ALLOWED[who]), (op, answered.answer)


# ---------------------------------------------------------------------------------------------- narrowed roles

VMS = {
    "ci-1": "running", "ci-2.example.jp": "shut-off", "prod-1": "running", "prod-2": "shut-off",
    "el9.original": "shut-off", "prod.original": "shut-off", "el9:2026-11-20": "shut-off",
}  # fmt: skip
IMAGES = ("el9.original", "el9:2026-11-20")  # what the host calls so: not a name decides


@pytest.fixture
def floor(office: LockedOffice) -> tuple[LockedOffice, Worker, Worker, str]:
    """Two hosts with VMs, and a key whose role is for `ci-*` on host1."""
    one, two = office.host("host1", dict(VMS)), office.host("host2", {"ci-9": "running", "el9.original": "shut-off"})
    for host in (one, two):
        host.answers["image list"] = lambda args, host=host: {  # type: ignore[misc]
            "items": [
                {"name": name, "original": name in IMAGES}
                for name, state in host.vms.items()
                if name in IMAGES or (args["all"] and state == "shut-off")
            ]
        }
        host.answers["image dependents"] = lambda args, host=host: {  # type: ignore[misc]
            "items": [{"name": name, "path": f"/pool/{name}.qcow2"} for name in (*host.vms, "/pool/ci-gone.qcow2")]
        }
        host.answers["host ping"] = lambda args: {"items": [{"name": "it"}]}
        host.answers["host info"] = lambda args, host=host: {  # type: ignore[misc]
            "item": {"vms": [{"name": name} for name in host.vms]}
        }
    return office, one, two, office.person("robot", "ci")


def served(office: LockedOffice, key: str, message: dict[str, Any], *hosts: Worker) -> Any:
    """What comes of a message that hosts are asked for."""
    with office.of(key):
        asked = office.ask(message)
    office.serve(*hosts)
    office.sleep(0.1)
    office.serve(*hosts)
    assert asked.answer is not None
    return asked.error if not asked.answer["ok"] else asked.answer


def read(action: str, **args: Any) -> dict[str, Any]:
    return {"op": "read", "action": action, "args": args}


Floor = tuple[LockedOffice, Worker, Worker, str]


@pytest.mark.parametrize(
    ("action", "args", "names"),
    [
        ("vm list", {}, ["ci-1", "ci-2.example.jp"]),
        ("vm list", {"host": "host1"}, ["ci-1", "ci-2.example.jp"]),
        ("image list", {}, ["el9.original", "el9:2026-11-20"]),
        ("image list", {"all": True}, ["ci-2.example.jp", "el9.original", "el9:2026-11-20"]),
        ("image dependents", {"name": "el9.original"}, ["ci-1", "ci-2.example.jp"]),
        ("host list", {}, ["host1"]),
        ("host ping", {}, ["it"]),
    ],
)
def test_lists_show_what_the_role_is_for(floor: Floor, action: str, args: dict[str, Any], names: list[str]) -> None:
    office, one, two, robot = floor
    answer = served(office, robot, read(action, **args), one, two)
    assert [item["name"] for item in answer["items"]] == names
    assert {item.get("host", "host1") for item in answer["items"]} == {"host1"}
    assert "host2" not in str(answer)


@pytest.mark.parametrize(
    "asked",
    [
        read("image promote", name="el9.original"),
        read("image label", name="el9.original", as_="mine"),
        read("image rollback", name="el9:stable"),
        read("image label", name="ci-1", as_="el9:stable"),
        read("image promote", name="ci-1", to="el9:stable"),
        read("image promote", name="ci-image:testing", to="ci-image:stable"),
        read("image label", name="ci-nothing", as_="el9:stable", remove=True),
    ],
)
def test_labels_of_others_images_are_not_moved(floor: Floor, asked: dict[str, Any]) -> None:
    office, one, two, robot = floor
    for image, label in (("el9:2026-11-20", "el9:stable"), ("el9:2026-11-20", "ci-image:testing")):
        assert served(office, ADMIN_KEY, read("image label", name=image, as_=label), one, two)["ok"]
    assert served(office, robot, asked, one, two).code == "denied"
    assert office.audit()[-1]["outcome"] == "denied"
    meant = {"ci-image:testing": "el9:2026-11-20", "el9:stable": "el9:2026-11-20"}
    assert office.store.labels.all() == meant


def test_labels_of_ones_own_images_are_moved(floor: Floor) -> None:
    office, one, two, robot = floor
    for asked in (read("image label", name="ci-1", as_="good"), read("image promote", name="ci-1:good")):
        assert served(office, robot, asked, one, two)["item"]["image"] == "ci-1"
    assert office.store.labels.all() == {"ci-1:good": "ci-1", "ci-1:stable": "ci-1"}
    gone = read("image label", name="ci-1", as_="ci-1:good", remove=True)
    assert served(office, robot, gone, one, two)["item"]["changed"]


def test_what_a_label_means_is_asked_again_when_hosts_have_answered(floor: Floor) -> None:
    """Meanwhile the image that a label means has become another one, which is not for him."""
    office, one, two, robot = floor
    for image, label in (("ci-1", "testing"), ("el9.original", "new")):
        assert served(office, ADMIN_KEY, read("image label", name=image, as_=label), one, two)["ok"]
    with office.of(robot):
        asked = office.ask(read("image promote", name="ci-1:testing"))
    office.store.labels.put("ci-1:testing", "el9.original", office.now.text, "admin")
    office.serve(one, two)
    assert asked.error.code == "denied"
    assert "ci-1:stable" not in office.store.labels.all()


@pytest.mark.parametrize(
    ("action", "args"),
    [
        ("image seal", {"name": "ci-2.example.jp"}),
        ("image upgrade", {"name": "ci-image:1"}),
        ("image copy", {"name": "ci-image:1", "dest": "host2"}),
    ],
)
def test_ones_own_image_gets_no_name_that_is_for_others(floor: Floor, action: str, args: dict[str, Any]) -> None:
    office, one, two, robot = floor
    office.broker.keyring.take_roles({"ci": RoleSection(base="operator", vms="ci-*")})
    one.vms["ci-image:1"] = "shut-off"
    for name in ("el9:1", "el9:2026-11-20", "prod-1"):
        for dry_run in (False, True):
            asked = submission(action, key=f"{name} {dry_run}", dry_run=dry_run, **args, as_=name)
            assert served(office, robot, asked, one, two).code == "denied"
            assert office.audit()[-1]["outcome"] == "denied"
    job = served(office, robot, submission(action, key="mine", **args, as_="ci-image:2"), one, two)["job"]
    assert job["args"]["as_"] == "ci-image:2"


@pytest.mark.parametrize(("vms", "code"), [("ci-2.example.jp", "denied"), ("ci-2.*", None)])
def test_the_name_that_an_image_gets_by_default_is_for_him_too(floor: Floor, vms: str, code: str | None) -> None:
    office, one, two, robot = floor
    office.broker.keyring.take_roles({"ci": RoleSection(base="operator", vms=vms)})
    answer = served(office, robot, submission("image seal", key="k", name="ci-2.example.jp"), one, two)
    if code:
        assert answer.code == code
    else:
        assert answer["job"]["args"]["as_"] == "ci-2.example.jp.original"


@pytest.mark.parametrize(
    "asked",
    [
        read("template add", name="web", image="el9.original", replace=True, run_at_first_boot=["touch /root/mine"]),
        read("template add", name="new", image="el9.original"),
        read("template remove", name="web"),
    ],
)
def test_templates_of_others_are_not_changed(floor: Floor, asked: dict[str, Any]) -> None:
    office, one, two, robot = floor
    served(office, ADMIN_KEY, read("template add", name="web", image="el9.original"), one, two)
    assert served(office, robot, asked, one, two).code == "denied"
    assert office.audit()[-1]["outcome"] == "denied"
    (kept,) = office.store.templates.all()
    assert (kept["name"], kept["parameters"]) == ("web", {"image": "el9.original"})


def test_templates_are_ones_own_by_their_names_and_used_by_everybody(floor: Floor) -> None:
    office, one, two, robot = floor
    for _ in range(2):
        asked = read("template add", name="ci-web", image="el9.original", replace=True)
        assert served(office, robot, asked, one, two)["item"]["changed"]
    assert served(office, robot, read("template remove", name="ci-web"), one, two)["item"]["changed"]
    served(office, ADMIN_KEY, read("template add", name="web", image="el9.original"), one, two)
    assert served(office, robot, read("template show", name="web"), one, two)["item"]["name"] == "web"


def test_a_silent_host_that_is_not_for_him_is_not_missing(floor: Floor) -> None:
    office, one, _, robot = floor
    office.sleep(7.0)  # host2 is down
    one.hello()
    answer = served(office, robot, read("vm list"), one)
    assert answer["missing_hosts"] == []


def test_what_a_host_tells_of_itself_is_narrowed_too(floor: Floor) -> None:
    office, one, two, robot = floor
    answer = served(office, robot, read("host info", name="host1"), one, two)
    assert [vm["name"] for vm in answer["item"]["vms"]] == ["ci-1", "ci-2.example.jp"]
    assert served(office, robot, read("host info", name="host2"), one, two).code == "denied"
    hint = served(office, robot, read("host info", name="hosd2"), one, two).hint
    assert "host2" not in hint


@pytest.mark.parametrize("name", ["prod-1", "prod-1@host1", "ci-9", "ci-9@host2", "el9.original@host1"])
def test_others_vms_are_denied_by_their_names(floor: Floor, name: str) -> None:
    office, one, two, robot = floor
    assert served(office, robot, read("vm info", name=name), one, two).code == "denied"
    asked = served(office, robot, submission("vm stop", key="k", name=name), one, two)
    assert asked.code == "denied"
    assert [line["action"] for line in office.audit(outcome="denied")] == ["vm info", "vm stop"]
    assert served(office, robot, submission("vm stop", key="k", dry_run=True, name=name), one, two).code == "denied"


def test_ones_own_vm_gets_no_name_that_is_for_others(floor: Floor) -> None:
    office, one, two, robot = floor
    for to in ("prod-9", "prod-1"):
        asked = served(office, robot, submission("vm rename", key=to, name="ci-1", to=to), one, two)
        assert asked.code == "denied"
    asked = served(
        office, robot, submission("vm rename", key="k", name="ci-1", to="ci-7", ignore_missing=True), one, two
    )
    assert asked["job"]["object"] == "ci-1"


OTHERS_FILES = [
    ("vm attach-disk", {"source": "prod-1-vdb.qcow2"}),
    ("vm attach-disk", {"source": "/var/lib/libvirt/images/gone-1.qcow2"}),
    ("vm attach-disk", {"source": "el9.original.qcow2"}),
    ("vm attach-iso", {"iso": "prod-1-seed.iso"}),
    ("vm attach-iso", {"iso": "gone-1-seed.iso"}),
    ("vm attach-iso", {"iso": "/var/lib/libvirt/images/prod-1-vda.qcow2"}),
    ("vm attach-iso", {"iso": "prod-1.tools.iso"}),
    ("vm attach-disk", {"source": "/var/lib/libvirt/images/prod-1-vdb.qcow2/"}),
    ("vm attach-disk", {"source": "/var/lib/libvirt/images/prod-1-vdb.qcow2/."}),
    ("vm attach-iso", {"iso": "//var/lib/libvirt/images/prod-1-seed.iso//"}),
]


@pytest.mark.parametrize(("action", "args"), OTHERS_FILES)
def test_others_files_are_not_plugged_in(floor: Floor, action: str, args: dict[str, Any]) -> None:
    office, one, two, robot = floor
    for dry_run in (False, True):
        asked = submission(action, key=f"{dry_run}", dry_run=dry_run, name="ci-1", **args)
        assert served(office, robot, asked, one, two).code == "denied"
        assert office.audit()[-1]["outcome"] == "denied"
    each = {"op": "submit_group", "key": "g", "action": action, "args": args, "each": [{"name": "ci-1"}], "owner": "me"}
    (member,) = served(office, robot, each, one, two)["group"]["members"]
    assert member["error"]["code"] == "denied"
    assert served(office, ADMIN_KEY, submission(action, key="admin", name="ci-1", **args), one, two)["job"]


@pytest.mark.parametrize(
    ("action", "args"),
    [
        ("vm attach-disk", {"source": "ci-1-vdb.qcow2"}),
        ("vm attach-disk", {"source": "/var/lib/libvirt/images/ci-gone-vda.before.qcow2"}),
        ("vm attach-disk", {"size": 1 << 30}),
        ("vm attach-iso", {"iso": "debian-12.iso"}),
        ("vm attach-iso", {"iso": "ci-1-seed.iso"}),
    ],
)
def test_ones_own_files_and_common_isos_are_plugged_in(floor: Floor, action: str, args: dict[str, Any]) -> None:
    office, one, two, robot = floor
    assert served(office, robot, submission(action, key="k", name="ci-1", **args), one, two)["job"]["object"] == "ci-1"


@pytest.mark.parametrize("name", ["prod", "pro-1", "ci"])
def test_others_vms_are_not_suggested(floor: Floor, name: str) -> None:
    office, one, two, robot = floor
    error = served(office, robot, read("vm info", name=name), one, two)
    assert error.code == "unknown_entity"
    assert "prod" not in error.hint
    assert "ci-9" not in error.hint


def test_a_short_name_means_ones_own(floor: Floor) -> None:
    office, one, two, robot = floor
    two.vms["ci-2.other.jp"] = "shut-off"
    answer = served(office, robot, submission("vm start", key="k", name="ci-2"), one, two)
    assert (answer["job"]["object"], answer["job"]["host"]) == ("ci-2.example.jp", "host1")


def clone(**args: Any) -> dict[str, Any]:
    return submission("vm clone", key=f"clone {args}", **{"image": "el9.original", "hostname": "ci-3", **args})


def test_a_clone_is_placed_where_the_role_may(floor: Floor) -> None:
    office, one, two, robot = floor
    one.vms.update({f"ci-{n}": "running" for n in range(20, 40)})  # host2 would be chosen
    assert served(office, robot, clone(), one, two)["job"]["host"] == "host1"


@pytest.mark.parametrize(
    "args",
    [{"on": "host2"}, {"hostname": "prod-3"}, {"image": "prod-2"}, {"image": "unheard-of"}],
    ids=["host", "name", "disks of another VM", "no VM"],
)
def test_a_clone_that_is_denied(floor: Floor, args: dict[str, Any]) -> None:
    office, one, two, robot = floor
    assert served(office, robot, clone(**args), one, two).code == "denied"
    assert served(office, robot, {**clone(**args), "key": "2", "dry_run": True}, one, two).code == "denied"
    assert office.audit()[-1]["outcome"] == "denied"


def test_a_clone_of_ones_own_vm(floor: Floor) -> None:
    office, one, two, robot = floor
    answer = served(office, robot, clone(image="ci-2.example.jp"), one, two)
    assert answer["job"]["host"] == "host1"


# ------------------------------------------------------------------ refused because of what one may not see

MACS = {"prod-1": "52:54:00:00:00:01", "ci-9": "52:54:00:00:00:09", "el9.original": "52:54:00:00:00:0f"}
HIDDEN = ("prod", "host2", "running", "cj-8")  # what nothing that a robot is told may hold


@pytest.fixture
def cards(floor: Floor) -> Floor:
    """The same, with network cards."""
    for host in floor[1:3]:
        told = host.survey

        def survey(told: Callable[[], dict[str, Any]] = told) -> dict[str, Any]:
            found = told()
            return {**found, "domains": [{**vm, "macs": [MACS[vm["name"]]]} if vm["name"] in MACS else vm
                                         for vm in found["domains"]]}  # fmt: skip

        host.survey = survey  # type: ignore[method-assign]
    return floor


def is_told_nothing(error: MaglicaError) -> None:
    for text in (error.message, error.hint, str(error.details), str(error.job)):
        assert not any(word in text for word in HIDDEN), text


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize(
    ("args", "message", "full"),
    [
        ({"mac": [MACS["prod-1"]]}, "52:54:00:00:00:01 is taken", "52:54:00:00:00:01 belongs to prod-1 on host1"),
        ({"mac": [MACS["ci-9"]]}, "52:54:00:00:00:09 is taken", "52:54:00:00:00:09 belongs to ci-9 on host2"),
        ({"hostname": "ci-9"}, "ci-9 is taken", "ci-9 exists on host2 (running)"),
    ],
)
def test_what_is_taken_is_not_told_by_whom(
    cards: Floor, dry_run: bool, args: dict[str, Any], message: str, full: str
) -> None:
    office, one, two, robot = cards
    error = served(office, robot, {**clone(**args), "dry_run": dry_run}, one, two)
    assert (error.code, error.message) == ("already_exists", message)
    is_told_nothing(error)
    assert served(office, ADMIN_KEY, {**clone(**args), "key": "a", "dry_run": dry_run}, one, two).message == full
    assert full not in str(office.audit(who="robot")), "who is narrowed may be shown that too"


def test_what_everybody_may_see_is_told(cards: Floor) -> None:
    office, one, two, robot = cards
    error = served(office, robot, clone(mac=[MACS["el9.original"]]), one, two)
    assert error.message == "52:54:00:00:00:0f belongs to el9.original on host1"
    assert served(office, robot, clone(hostname="ci-1"), one, two).message == "ci-1 exists on host1 (running)"


def test_a_name_that_is_not_for_him_is_denied_whether_it_is_taken_or_not(floor: Floor) -> None:
    office, one, two, robot = floor
    told = []
    for name in ("prod-1", "prod-7"):
        error = served(office, robot, clone(hostname=name), one, two)
        assert error.code == "denied"
        told.append((error.message.replace(name, "…"), error.hint))
    assert told[0] == told[1]


def test_what_a_label_means_is_not_told(floor: Floor) -> None:
    office, one, two, robot = floor
    assert served(office, ADMIN_KEY, read("image label", name="prod-2", as_="ci-web:stable"), one, two)["ok"]
    asked = submission("image seal", key="k", name="ci-2.example.jp", as_="ci-web:stable")
    assert served(office, robot, asked, one, two).message == "ci-web:stable is a label"


def test_many_that_are_taken_are_not_told_by_whom(cards: Floor) -> None:
    office, one, two, robot = cards
    each = [{"hostname": "ci-9"}, {"hostname": "ci-8", "mac": [MACS["prod-1"]]}, {"hostname": "ci-7"}]
    message = {
        "op": "submit_group", "key": "g", "action": "vm clone", "args": {"image": "el9.original"}, "each": each,
        "owner": "me@here",
    }  # fmt: skip
    plan = served(office, robot, {**message, "dry_run": True}, one, two)["plan"]["members"]
    assert [one["why"] for one in plan[:2]] == ["ci-9 is taken", "52:54:00:00:00:01 is taken"]
    made = served(office, robot, message, one, two)["group"]["members"]
    assert [one["message"] for one in made] == ["ci-9 is taken", "52:54:00:00:00:01 is taken", None]
    strict = served(office, robot, {**message, "key": "s", "policy": {"min": 3}}, one, two)
    is_told_nothing(strict)


@pytest.mark.parametrize(
    "other",
    [
        submission("vm clone", key="o", image="el9.original", hostname="ci-8", on="host2"),
        submission("vm rename", key="o", name="prod-1", to="ci-8"),
    ],
    ids=["on another host", "to another VM"],
)
def test_a_name_that_anothers_job_is_about_to_give_is_taken(floor: Floor, other: dict[str, Any]) -> None:
    office, one, two, robot = floor
    job = served(office, ADMIN_KEY, other, one, two)["job"]["id"]
    for asked in (
        clone(hostname="ci-8"),
        submission("vm rename", key="r", name="ci-1", to="ci-8"),
        submission("image seal", key="s", name="ci-2.example.jp", as_="ci-8"),
    ):
        error = served(office, robot, asked, one, two)
        assert (error.code, error.message) == ("already_exists", "ci-8 is taken")
        assert job not in f"{error.hint} {error.job} {error.details}"


def test_a_silent_host_that_is_not_for_him_is_not_named(floor: Floor) -> None:
    office, one, _, robot = floor
    office.sleep(7.0)  # host2 is down
    asked = {
        "clone": clone(),
        "numbers": {
            "op": "submit_group", "key": "n", "action": "vm clone", "each": [], "count": 2, "first": "next",
            "args": {"image": "el9.original", "hostname": "ci-{n}"}, "owner": "me@here",
        },
        "start": submission("vm start", key="s", name="ci-7"),
        "import": submission("image import", key="i", name="ci-image:1", source="https://images.example.jp/x"),
        "fleet": submission("fleet create", key="f", name="ci", image="el9.original"),
    }  # fmt: skip
    for what, message in asked.items():
        one.hello()
        error = served(office, robot, message, one)
        assert error.code == "host_down", what
        is_told_nothing(error)
    told = []
    for host in ("host2", "host3"):
        one.hello()
        error = served(office, robot, submission("vm start", key=host, name=f"ci-7@{host}"), one)
        told.append((error.code, error.message.replace(host, "…"), error.hint))
    assert told == [("unknown_entity", "there is no host …", "did you mean host1?")] * 2
    one.hello()
    is_told_nothing(served(office, robot, read("image label", name="ci-7", as_="x"), one))


def test_a_vm_that_lives_where_he_may_not_look_is_not_named(floor: Floor) -> None:
    office, one, two, robot = floor
    two.vms["ci-2.example.jp"] = "running"
    twice = served(office, robot, submission("vm start", key="k", name="ci-2.example.jp@host1"), one, two)
    assert twice.message == "another VM called ci-2.example.jp lives elsewhere"
    is_told_nothing(twice)
    del two.vms["ci-2.example.jp"]
    two.vms["prod-3"] = "running"
    for host in (one, two):
        assert host.hello(features=["reads", "lives"]).good
    alone = {"macs": [], "alone": ["/shared/data.img"], "along": []}
    one.holds["ci-2.example.jp"] = two.holds["prod-3"] = alone
    error = served(office, robot, submission("vm start", key="l", name="ci-2.example.jp"), one, two)
    what = "another VM that lives has its disk /shared/data.img"
    assert error.message == f"ci-2.example.jp cannot live on host1: {what}"
    is_told_nothing(error)


def test_no_host_is_named_that_is_not_for_him(floor: Floor) -> None:
    office, one, two, robot = floor
    wanted = {"name": "ci-image:1", "source": "https://images.example.jp/x"}
    for host in (one, two):
        told = host.survey()
        host.survey = lambda told=told: {**told, "pools": []}  # type: ignore[method-assign]
    full = served(office, robot, submission("image import", key="i", **wanted), one, two)
    assert (full.code, full.details) == ("no_capacity", {"host1": "no room in any pool"})
    is_told_nothing(full)
    office.broker.keyring.take_roles({"ci": RoleSection(base="operator", vms="ci-*", hosts="host1*")})
    is_told_nothing(served(office, robot, clone(on="host17"), one, two))
    is_told_nothing(served(office, robot, clone(on="host1234567"), one, two))


@pytest.mark.parametrize("args", [{"dest": "host1"}, {"dest": "host1", "from_": "host2"}], ids=["some", "that"])
def test_no_image_comes_from_a_host_that_is_not_for_him(floor: Floor, args: dict[str, Any]) -> None:
    office, one, two, robot = floor
    two.vms["ci-image:1"] = "shut-off"
    error = served(office, robot, submission("image copy", key="c", name="ci-image:1", **args), one, two)
    assert error.code == ("denied" if "from_" in args else "unknown_entity")
    one.vms["ci-image:1"] = "shut-off"
    job = served(office, robot, submission("image export", key="e", name="ci-image:1"), one, two)["job"]
    assert job["host"] == "host1", "although host2 is less busy"


def test_an_image_that_is_not_for_him_is_not_suggested(floor: Floor) -> None:
    office, one, two, robot = floor
    one.vms["cj-8"] = "shut-off"
    error = served(office, robot, clone(image="ci-8"), one, two)
    assert (error.code, error.hint) == ("unknown_entity", "`maglica image list` shows them")
    assert served(office, ADMIN_KEY, {**clone(image="ci-8"), "key": "a"}, one, two).hint == "did you mean cj-8?"


@pytest.fixture
def fleets(floor: Floor) -> Floor:
    """The same with fleets: web-1 to web-7 on host2, and ci-1 on host1."""
    office, one, two, robot = floor
    two.vms.update({f"web-{number}": "shut-off" for number in range(1, 8)})
    for host in (one, two):
        told = host.survey

        def survey(told: Callable[[], dict[str, Any]] = told) -> dict[str, Any]:
            found = told()
            marked = [{**vm, "fleet": vm["name"].partition("-")[0]} for vm in found["domains"]]
            return {**found, "domains": marked}

        host.survey = survey  # type: ignore[method-assign]
    return office, one, two, robot


def test_others_fleets_do_not_exist(fleets: Floor) -> None:
    office, one, two, robot = fleets
    for verb in ("start", "stop", "restart", "remove"):
        told = []
        for name in ("web", "wee"):
            asked = submission(f"fleet {verb}", key=f"{verb} {name}", name=name, all=True)
            error = served(office, robot, asked, one, two)
            told.append((error.code, error.message.replace(name, "…"), error.hint))
        assert told == [("unknown_entity", "there is no fleet …", "`maglica fleet list` shows them")] * 2
    own = served(office, robot, submission("fleet stop", key="own", name="ci", all=True), one, two)
    assert [member["name"] for member in own["group"]["members"]] == ["ci-1"]


def test_the_numbers_of_others_are_not_told(fleets: Floor) -> None:
    office, one, two, robot = fleets
    fleet = submission("fleet create", key="f", name="web", image="el9.original")
    numbered = {
        "op": "submit_group", "key": "n", "action": "vm clone", "each": [], "count": 1, "first": "next",
        "args": {"image": "el9.original", "hostname": "web-{n}"}, "owner": "me@here",
    }  # fmt: skip
    for asked in (fleet, numbered):
        for dry_run in (True, False):
            error = served(office, robot, {**asked, "dry_run": dry_run}, one, two)
            assert (error.code, error.message) == ("denied", "robot (role ci) may not vm clone web-{n}")
    mine = served(office, robot, {**numbered, "args": {"image": "el9.original", "hostname": "ci-{n}"}}, one, two)
    assert [member["name"] for member in mine["group"]["members"]] == ["ci-10"], "also of those that he does not see"


def test_a_fleet_is_not_called_like_a_host_and_which_is_not_told(floor: Floor) -> None:
    office, _, _, robot = floor
    office.host("ci.example.jp", {})
    with office.of(robot):
        error = office.submit("fleet create", name="ci", image="el9.original").error
    assert (error.code, error.message) == ("protected", "ci is no name for a fleet")


# --------------------------------------------------------------------------------------- builds, groups and jobs


@pytest.mark.parametrize(
    "args",
    [
        {"name": "ci-3", "image": "prod-2"},
        {"name": "ci-1", "rebuild": True, "image": "prod-2"},
        {"name": "prod-1", "rebuild": True},
        {"name": "prod-3", "barebones": True},
        {"name": "ci-3", "barebones": True, "on": "host2"},
    ],
    ids=["disks of another VM", "the same into one's own", "another VM", "name", "host"],
)
def test_a_build_that_is_denied(floor: Floor, args: dict[str, Any]) -> None:
    office, one, two, robot = floor
    one.vms["ci-1"] = "shut-off"
    assert served(office, robot, submission("vm build", key="b", **args), one, two).code == "denied"
    assert office.audit()[-1]["outcome"] == "denied"


def test_the_members_of_a_group_are_denied_one_by_one(floor: Floor) -> None:
    office, one, two, robot = floor
    message = {
        "op": "submit_group", "key": "g", "action": "vm stop", "args": {}, "owner": "me@here",
        "each": [{"name": "ci-1"}, {"name": "prod-1"}],
    }  # fmt: skip
    answer = served(office, robot, message, one, two)
    codes = [member["error"] and member["error"]["code"] for member in answer["group"]["members"]]
    assert codes == [None, "denied"]
    assert [line["object"] for line in office.audit(outcome="denied")] == ["prod-1"]


def stop(*names: str, key: str = "g") -> dict[str, Any]:
    each = [{"name": name} for name in names]
    return {"op": "submit_group", "key": key, "action": "vm stop", "args": {}, "owner": "me@here", "each": each}


def refused_group(office: LockedOffice, id: str) -> None:
    """Nothing is told of it, whatever it is asked for."""
    for action in ("job show", "job log", "job explain", "job cancel"):
        error = office.read(action, id=id).error
        assert error.code == "denied"
        assert "prod" not in f"{error.message} {error.hint}"
    assert office.read("job list", group=id).error.code == "denied"
    assert office.wait(id).error.code == "denied"
    assert office.ask({"op": "retry", "key": "r", "id": id, "owner": "me"}).error.code == "denied"


@pytest.mark.parametrize("other", ["prod-1", "prod-9", "ci-8@host2"], ids=["a job", "refused", "refused elsewhere"])
def test_a_group_is_for_those_who_may_see_all_of_it(floor: Floor, other: str) -> None:
    office, one, two, robot = floor
    group = served(office, ADMIN_KEY, stop("ci-1", other), one, two)["group"]
    assert (group["members"][1]["job"] is None) == (other != "prod-1")
    with office.of(robot):
        refused_group(office, group["id"])


def test_so_is_one_whose_jobs_are_forgotten(floor: Floor) -> None:
    office, one, two, robot = floor
    group = served(office, ADMIN_KEY, stop("prod-1", "ci-1"), one, two)["group"]
    assert one.claim(free={"quick": 1}) == [group["members"][0]["job"]]
    one.end(group["members"][0]["job"])
    office.sleep(1.0)
    assert office.read("job prune", older_than=0.1).good["item"]["forgotten"] == 1
    assert [member["state"] for member in office.job(group["id"])["members"]] == ["forgotten", "queued"]
    with office.of(robot):
        refused_group(office, group["id"])


def test_ones_own_group_is_seen_with_what_was_denied(floor: Floor) -> None:
    office, one, two, robot = floor
    group = served(office, robot, stop("ci-1", "prod-1"), one, two)["group"]
    with office.of(robot):
        shown = office.job(group["id"])
        assert office.wait(group["id"]).good["group"]["id"] == group["id"]
    assert [member["state"] for member in shown["members"]] == ["queued", "refused"]
    assert shown["members"][1]["error"]["code"] == "denied"


def test_why_others_were_refused_is_told_to_them(floor: Floor) -> None:
    """The reason may name what only they may see."""
    office, one, two, _ = floor
    other = office.person("other", "ci")
    clones = {
        "op": "submit_group", "key": "g", "action": "vm clone", "args": {"image": "el9.original"}, "owner": "me@here",
        "each": [{"hostname": "ci-8"}, {"hostname": "ci-9"}],
    }  # fmt: skip
    group = served(office, ADMIN_KEY, {**clones, "args": {"image": "el9.original", "on": "host1"}}, one, two)["group"]
    assert group["members"][1]["message"] == "ci-9 exists on host2 (running)"
    with office.of(other):
        told = office.job(group["id"])["members"][1]
        assert (told["name"], told["state"], told["error"]["code"]) == ("ci-9", "refused", "already_exists")
        for action in ("job show", "job log", "job explain"):
            assert "host2" not in str(office.read(action, id=group["id"]).good)
    assert office.job(group["id"])["members"][1]["message"] == "ci-9 exists on host2 (running)"


@pytest.fixture
def foreign(floor: Floor) -> tuple[LockedOffice, str, str, Worker, Worker]:
    """A job about a VM that the key's role is not for, and its id."""
    office, one, two, robot = floor
    job = served(office, ADMIN_KEY, submission("vm stop", key="nightly", name="prod-1"), one, two)["job"]["id"]
    return office, robot, job, one, two


Foreign = tuple[LockedOffice, str, str, Worker, Worker]


@pytest.mark.parametrize("action", ["job show", "job log", "job explain", "job cancel"])
def test_others_jobs_are_denied(foreign: Foreign, action: str) -> None:
    office, robot, job, *_ = foreign
    with office.of(robot):
        for prefix in (job, job[:8]):
            error = office.read(action, id=prefix).error
            assert error.code == "denied"
            assert "prod-1" not in f"{error.message} {error.hint}"
    assert len(office.audit(outcome="denied", who="robot")) == 2
    assert office.job(job)["state"] == "queued"
    assert not office.job(job)["cancel"]


def common(ids: list[str]) -> str:
    """What all of them begin with."""
    return "".join(itertools.takewhile(bool, (a[0] if len(set(a)) == 1 else "" for a in zip(*ids, strict=True))))


def test_what_may_not_be_seen_makes_no_id_ambiguous_and_is_not_listed(foreign: Foreign) -> None:
    office, robot, job, one, two = foreign
    mine = served(office, robot, submission("vm stop", key="mine", name="ci-1"), one, two)["job"]["id"]
    both = common([job, mine])
    assert office.read("job show", id=both).error.message == f"job {both} may be {job}, {mine}"
    with office.of(robot):
        assert office.read("job show", id=both).good["item"]["id"] == mine
    second = served(office, robot, submission("vm stop", key="2", name="ci-2.example.jp"), one, two)["job"]["id"]
    both = common([job, mine, second])
    with office.of(robot):
        assert office.read("job show", id=both).error.message == f"job {both} may be {mine}, {second}"
    for number in range(MOST_LIKE):
        served(office, ADMIN_KEY, submission("vm stop", key=f"{number}", name="prod-1"), one, two)
    with office.of(robot):
        error = office.read("job cancel", id=job[:4]).error
    assert error.code == "ambiguous_name", "there are too many to look at"
    assert job not in error.message


def test_nobody_waits_for_others_jobs(foreign: Foreign) -> None:
    office, robot, job, *_ = foreign
    with office.of(robot):
        assert office.wait(job).error.code == "denied"
        assert office.ask({"op": "retry", "key": "r", "id": job, "owner": "me"}).error.code == "denied"
        settle = office.read("job settle", id=job, as_="success", reason="x", owner="me")
        assert settle.error.code == "denied"
    assert len(office.audit(outcome="denied", who="robot")) == 3


def test_lists_of_jobs_and_locks_are_narrowed(foreign: Foreign) -> None:
    office, robot, _, one, two = foreign
    mine = served(office, robot, submission("vm stop", key="mine", name="ci-1"), one, two)["job"]["id"]
    for number in range(3):
        served(office, ADMIN_KEY, submission("vm stop", key=f"{number}", name="prod-1"), one, two)
    with office.of(robot):
        items = office.read("job list", last=2).good["items"]
        assert [item["id"] for item in items] == [mine], "those of others use up no place in the list"
        assert [item["lock"] for item in office.read("lock list").good["items"]] == ["vm:ci-1"]


def test_who_waits_behind_a_lock_where_he_may_not_look_is_not_named(floor: Floor) -> None:
    office, one, two, robot = floor
    two.vms["ci-1"] = "running"
    mine = served(office, robot, submission("vm stop", key="mine", name="ci-1"), one, two)["job"]["id"]
    other = served(office, ADMIN_KEY, submission("vm stop", key="other", name="ci-1@host2"), one, two)["job"]["id"]
    (line,) = office.read("lock list", vm="ci-1").good["items"]
    assert (line["job"], line["waiting"]) == (mine, [other])
    with office.of(robot):
        (line,) = office.read("lock list").good["items"]
    assert (line["job"], line["waiting"]) == (mine, [])


def test_an_idempotency_key_of_somebody_else_tells_nothing(foreign: Foreign) -> None:
    office, robot, _job, _one, _two = foreign
    for name in ("ci-1", "prod-1"):
        with office.of(robot):
            error = office.ask(submission("vm stop", key="nightly", name=name)).error
        assert error.code == "denied"
        assert error.job is None
        assert "prod-1" not in error.message


def test_a_key_whose_request_is_being_placed_is_not_shared(floor: Floor) -> None:
    """Another request under the same key, while hosts are asked for the first one, must not get its answer."""
    office, one, two, robot = floor
    first = office.ask(submission("vm stop", key="same", name="prod-1"))
    again = office.ask(submission("vm stop", key="same", name="prod-1"))
    with office.of(robot):
        stolen = office.ask(submission("vm stop", key="same", name="prod-1"))
    dry = office.ask(submission("vm stop", key="same", dry_run=True, name="prod-1"))
    other = office.ask(submission("vm start", key="same", name="prod-1"))
    for asked in (stolen, dry, other):
        assert asked.error.code == "already_exists"
        assert "prod-1" not in asked.error.message
    office.serve(one, two)
    assert first.job["id"] == again.job["id"]


def test_whoever_may_only_start_may_wait_for_that(tmp_path: Path) -> None:
    office = LockedOffice(tmp_path, {"starter": RoleSection(base="operator", actions="vm start")})
    host, key, other = (
        office.host("host1", {"a": "shut-off"}),
        office.person("x", "starter"),
        office.person("y", "starter"),
    )
    job = served(office, key, submission("vm start", key="k", name="a"), host)["job"]["id"]
    with office.of(key):
        assert office.wait(job).job["id"] == job
        assert office.read("job show", id=job).error.code == "denied"
        assert office.read("vm list").error.code == "denied"
    with office.of(other):
        assert office.wait(job).error.code == "denied"
    office.close()


def test_a_narrowed_administrator_stays_narrowed(tmp_path: Path) -> None:
    roles = {
        "half": RoleSection(base="admin", hosts="host1", actions="host *, key *"),
        "small": RoleSection(base="reader"),
    }
    office = LockedOffice(tmp_path, roles)
    office.host("host1", {})
    office.host("host2", {})
    half = office.person("half", "half")
    with office.of(half):
        for role in ("admin", "operator", "small"):
            assert office.read("key add", name="me", role=role, public_key="m" * 40).error.code == "denied"
        assert office.read("key add", name="me", role="half", public_key="m" * 40).good
        for verb in ("invite", "revoke", "remove"):
            assert office.read(f"host {verb}", name="host2").error.code == "denied"
        assert office.read("host invite", name="host1").good
        assert office.read("audit list").error.code == "denied"
    office.close()


@pytest.mark.parametrize("narrow", [{"vms": "ci-*"}, {"hosts": "host1"}])
def test_a_narrowed_administrator_is_told_of_his_own_and_forgets_nothing(
    tmp_path: Path, narrow: dict[str, Any]
) -> None:
    roles = {
        "half": RoleSection(base="admin", **narrow),
        "auditor": RoleSection(base="admin", actions="audit *, job *"),
    }
    office = LockedOffice(tmp_path, roles)
    one, two = office.host("host1", dict(VMS)), office.host("host2", {})
    half, auditor = office.person("half", "half"), office.person("auditor", "auditor")
    served(office, ADMIN_KEY, submission("vm stop", key="k", name="prod-1"), one, two)
    served(office, half, submission("vm stop", key="l", name="ci-1"), one, two)
    office.broker.weights.update({"host1": 10.0, "host2": 10.0})
    with office.of(half):
        assert {(line["who"], line["object"]) for line in office.audit()} == {("half", "ci-1")}
        assert office.audit(who="admin") == []
        error = office.read("job prune", older_than=0.1).error
        assert (error.code, error.message) == ("denied", "half (role half) may not job prune")
        listed = office.read("job store").good["item"]["listed"]
        assert listed == (["host1"] if "hosts" in narrow else ["host1", "host2"])
    with office.of(auditor):
        assert {line["object"] for line in office.audit()} >= {"prod-1", "ci-1", "host2", "half"}
        assert office.read("job prune", older_than=0.1).good
    assert office.audit(outcome="denied")[-1]["who"] == "half"
    office.close()


@pytest.mark.parametrize("narrow", [{"vms": "ci-*"}, {"hosts": "host1"}])
def test_a_narrowed_administrator_sees_and_revokes_the_keys_of_his_role(tmp_path: Path, narrow: dict[str, Any]) -> None:
    roles = {
        "half": RoleSection(base="admin", **narrow),
        "porter": RoleSection(base="admin", actions="key *"),
        "ci": RoleSection(base="operator"),
    }
    office = LockedOffice(tmp_path, roles)
    half, porter = office.person("half", "half"), office.person("porter", "porter")
    office.person("twin", "half")
    office.person("robot", "ci")
    with office.of(half):
        assert {item["name"] for item in office.read("key list").good["items"]} == {"half", "twin"}
        for name in ("robot", "porter", "admin", "nobody"):
            error = office.read("key revoke", name=name).error
            assert (error.code, error.message) == ("unknown_entity", f"nobody called {name} has a key")
        assert office.read("key revoke", name="twin").good["item"]["changed"]
    with office.of(porter):
        assert {item["name"] for item in office.read("key list").good["items"]} >= {"half", "twin", "robot", "admin"}
        assert office.read("key revoke", name="robot").good["item"]["changed"]
    office.close()


def test_a_key_that_was_made_since_is_not_revoked_by_an_answer_that_was_lost(tmp_path: Path) -> None:
    office = LockedOffice(tmp_path)
    office.person("ann", "reader")
    wanted = {"op": "read", "action": "key revoke", "args": {"name": "ann"}, "key": "k"}
    with office.of(ADMIN_KEY):
        assert office.ask(wanted).good["item"]["changed"]
        office.read("key add", name="ann", role="reader", public_key="m" * 40).good  # noqa: B018
        assert office.ask(wanted).good["item"]["changed"]
        assert [item["state"] for item in office.read("key list").good["items"]] == ["good", "revoked", "good"]
        assert office.ask({**wanted, "key": "l"}).good["item"]["changed"], "another request"
    office.close()


def test_roles_may_change_while_it_runs(floor: Floor) -> None:
    office, one, two, robot = floor
    office.broker.keyring.take_roles({"ci": RoleSection(base="reader", vms="prod-*")})
    answer = served(office, robot, read("vm list"), one, two)
    assert {item["name"] for item in answer["items"]} == {"prod-1", "prod-2"}
    assert served(office, robot, submission("vm stop", key="k", name="prod-1"), one, two).code == "denied"
    office.broker.keyring.take_roles({})
    assert "not in the settings" in served(office, robot, read("vm list"), one, two).hint


# ---------------------------------------------------------------------------------------- keys that end meanwhile


def test_a_key_that_is_revoked_while_hosts_are_asked(office: LockedOffice) -> None:
    host, key = office.host("host1", {"a": "shut-off"}), office.person("x", "operator")
    with office.of(key):
        job, look = office.ask(submission("vm start", key="k", name="a")), office.read("vm info", name="a")
    assert office.read("key revoke", name="x").good["item"]["changed"]
    office.serve(host)
    office.sleep(0.1)
    assert job.error.code == look.error.code == "denied"
    assert office.read("job list").good["items"] == []


@pytest.mark.parametrize("more", [{}, {"remove": True}], ids=["moved", "taken away"])
def test_a_label_stays_when_the_key_is_revoked_while_hosts_are_asked(
    office: LockedOffice, more: dict[str, Any]
) -> None:
    host, key = office.host("host1", {"el9:1": "shut-off", "el9:2": "shut-off"}), office.person("x", "operator")
    assert served(office, ADMIN_KEY, read("image promote", name="el9:1"), host)["ok"]
    with office.of(key):
        label = office.ask(read("image label", name="el9:2", as_="stable", **more))
    assert office.read("key revoke", name="x").good["item"]["changed"]
    office.serve(host)
    assert label.error.code == "denied"
    assert office.store.labels.all() == {"el9:stable": "el9:1"}
    assert office.audit()[-1]["outcome"] == "denied"


def test_a_key_that_expires_in_the_middle(office: LockedOffice) -> None:
    key = office.person("x", "reader", expires=60.0)
    with office.of(key):
        assert office.read("job list").good
        office.sleep(60.0)
        assert office.read("job list").error.code == "denied"
        assert office.ask({"op": "ping"}).error.code == "denied"
    (line,) = [item for item in office.read("key list").good["items"] if item["name"] == "x"]
    assert line["state"] == "expired"
    assert not office.broker.admits(key, "192.0.2.7", office.now)


def test_a_revoked_host_says_nothing_more(office: LockedOffice) -> None:
    host = office.host("host1", {"a": "shut-off"})
    job = served(office, ADMIN_KEY, submission("vm start", key="k", name="a"), host)["job"]["id"]
    assert host.claim() == [job]
    question = office.read("vm list")
    (asked,) = office.questions("host1")
    drops = office.drops
    assert office.read("host revoke", name="host1").good["item"]["changed"]
    assert office.drops == drops + 1, "whoever listens with that key is cut off"
    assert not office.broker.may_hear(HOST_KEY, wire.topic("host1"), office.now)
    assert host.sync(have=[job], done=[outcome(job)]).error.code == "denied"
    answered = host.answer(asked, {"items": [{"name": "forged"}]})
    office.turn()
    assert answered.error.code == "denied"
    office.sleep(6.0)
    assert question.good["items"] == []
    assert question.good["missing_hosts"]
    assert office.job(job)["state"] == "claimed"
    (line,) = office.read("host list").good["items"]
    assert line["state"] == "down"
    assert "maglica host invite host1" in line["why"]


def test_a_host_speaks_for_itself_only(office: LockedOffice) -> None:
    one, two = office.host("host1", {"a": "shut-off"}), office.host("host2", {})
    job = served(office, ADMIN_KEY, submission("vm start", key="k", name="a"), one, two)["job"]["id"]
    assert one.claim() == [job]
    # Under its own name, of a job of another: acknowledged as any old one, and not believed.
    two.sync(done=[outcome(job)], progress=[{"id": job, "step": "forged"}])
    assert office.job(job)["state"] == "claimed"
    assert office.job(job)["step"] is None
    question = office.read("vm list")
    (asked,) = office.questions("host1")
    with office.of(office.host_keys["host2"]):
        assert one.sync(done=[outcome(job)]).error.code == "denied"
        assert one.hello().error.code == "denied"
        forged = one.answer(asked, {"items": [{"name": "forged"}]})
        office.turn()
        assert forged.error.code == "denied"
    one.answer(asked, {"items": []})
    office.turn()
    assert question.answer is None, "host2 has not answered yet"


@pytest.mark.parametrize(
    "topic", [b"", b"\0", b"host", b"host1", b"host1\0x", b"host10\0", b"host1\0\0", b"\xff\0", b"host2\0"]
)
def test_a_host_hears_its_own_topic_only(office: LockedOffice, topic: bytes) -> None:
    office.host("host1", {})
    office.host("host2", {})
    assert office.broker.may_hear(HOST_KEY, b"host1\0", office.now)
    assert not office.broker.may_hear(HOST_KEY, topic, office.now)
    for key in (ADMIN_KEY, STRANGER_KEY, ""):
        assert not office.broker.may_hear(key, b"host1\0", office.now)


def test_nobody_but_hosts_may_listen(office: LockedOffice) -> None:
    """Whoever is in there can have all others cut off."""
    office.host("host1", {})
    assert office.broker.admits(HOST_KEY, "192.0.2.7", office.now, listens=True)
    office.read("host invite", name="host2")
    for key in (ADMIN_KEY, office.person("x", "reader"), STRANGER_KEY):
        assert office.broker.admits(key, "192.0.2.7", office.now)
        assert not office.broker.admits(key, "192.0.2.7", office.now, listens=True)


def test_a_host_that_sends_what_no_subscriber_sends_listens_no_more_for_a_while(office: LockedOffice) -> None:
    office.host("host1", {})
    other = office.host("host2", {})
    office.broker.breach(HOST_KEY, "192.0.2.7", office.now)
    assert not office.broker.admits(HOST_KEY, "192.0.2.7", office.now, listens=True)
    assert office.broker.admits(HOST_KEY, "192.0.2.7", office.now), "it may tell how its jobs are"
    assert office.broker.admits(office.host_keys[other.name], "192.0.2.7", office.now, listens=True)
    office.turn()
    (line,) = office.read("audit list", outcome="cut").good["items"]
    assert (line["who"], line["message"]) == ("host1", "it sent what no subscriber sends")
    office.sleep(60.0)
    assert office.broker.admits(HOST_KEY, "192.0.2.7", office.now, listens=True)


def test_one_key_has_so_many_waits(office: LockedOffice) -> None:
    """Each is looked at in every turn of the loop."""
    host = office.host("host1", {"a": "shut-off"})
    id = served(office, ADMIN_KEY, submission("vm start", key="k", name="a"), host)["job"]["id"]
    wait = {"op": "wait", "id": id, "rev": office.job(id)["rev"], "timeout": 10.0}
    for _ in range(MOST_OF_PEER):
        assert office.ask(wait).answer is None
    assert office.ask(wait).error.code == "no_capacity"
    with office.of(office.person("x", "reader")):
        assert office.ask(wait).answer is None, "another one may"
    assert host.claim() == [id]
    office.turn()
    assert office.ask({**wait, "rev": office.job(id)["rev"]}).answer is None, "all were answered"


# ---------------------------------------------------------------------------------------------------- the audit


def test_what_is_done_is_written_down(floor: Floor) -> None:
    office, one, two, _ = floor
    job = served(office, ADMIN_KEY, submission("vm stop", key="k", name="prod-1"), one, two)["job"]["id"]
    office.read("job cancel", id=job[:8])
    office.read("key revoke", name="robot")
    served(office, ADMIN_KEY, submission("vm start", key="l", name="nothing"), one, two)
    lines = [(i["action"], i["object"], i["job"], i["outcome"]) for i in office.audit()]
    assert lines == [
        ("host invite", "host1", None, "done"),
        ("join", "host1", None, "done"),
        ("host invite", "host2", None, "done"),
        ("join", "host2", None, "done"),
        ("key add", "robot", None, "done"),
        ("vm stop", "prod-1", job, "accepted"),
        ("job cancel", "prod-1", job, "done"),
        ("key revoke", "robot", None, "done"),
        ("vm start", "nothing", None, "refused"),
    ]
    assert all(line["address"] == "192.0.2.7" and line["at"].endswith("Z") for line in office.audit())
    assert next(line["message"] for line in office.audit(object="robot")).startswith("public_key=")
    assert "role=ci" in office.audit(object="robot")[0]["message"]


def test_a_connection_that_was_cut_off_is_written_down(floor: Floor) -> None:
    office, _, _, robot = floor
    office.broker.cut(robot, "192.0.2.9", "unfinished message: 524400", office.now)
    office.broker.cut("", "192.0.2.66", "does not read: 7", office.now)
    office.turn()
    lines = office.audit(outcome="cut")
    assert [(one["who"], one["address"], one["message"]) for one in lines] == [
        ("robot", "192.0.2.9", "unfinished message: 524400"),
        ("unknown", "192.0.2.66", "does not read: 7"),
    ]
    assert {one["action"] for one in lines} == {"connection"}
    for number in range(200):
        office.broker.cut("", f"192.0.2.{number}", "flood: 1", office.now)
        office.broker.cut(robot, "192.0.2.9", "flood: 1", office.now)
    office.turn()
    assert len(office.audit(outcome="cut", who="robot")) == DENIALS
    assert len(office.audit(outcome="cut", who="unknown")) == STRANGERS
    assert office.audit(outcome="cut", who="robot")[-1]["message"].endswith("in this minute is not written down")


def test_a_group_counts_as_many_requests(floor: Floor) -> None:
    office, one, two, robot = floor
    each = [{"name": f"ci-{number}"} for number in range(1000)]
    group = {"op": "submit_group", "action": "vm stop", "args": {}, "owner": "me@here", "each": each}
    codes = []
    for number in range(6):
        with office.of(robot):
            asked = office.post({**group, "key": f"g{number}"})
        office.turn()
        codes.append(asked.error.code if asked.answer else "asked of hosts")
    assert codes == ["asked of hosts"] * 5 + ["no_capacity"], "a second's worth"
    assert served(office, ADMIN_KEY, {**group, "key": "mine", "each": [{"name": "prod-1"}]}, one, two)["ok"]
    office.mono += 1.0
    with office.of(robot):
        asked = office.post({**group, "key": "g5"})
    office.turn()
    assert asked.answer is None, "it may be tried again"


def test_the_audit_has_filters(floor: Floor) -> None:
    office, one, two, robot = floor
    served(office, robot, read("vm info", name="prod-1"), one, two)
    assert [line["object"] for line in office.audit(who="robot")] == ["prod-1"]
    assert [line["object"] for line in office.audit(outcome="denied")] == ["prod-1"]
    assert [line["action"] for line in office.audit(object="host2")] == ["host invite", "join"]
    assert len(office.read("audit list", last=2).good["items"]) == 2
    assert office.audit(who="nobody") == []


def test_no_secret_is_written_down(office: LockedOffice) -> None:
    token = office.read("host invite", name="host1").good["item"]["token"]
    secret = invitation(token).secret
    office.join("host1", secret, "a" * 40)
    office.join("host1", secret, "b" * 40)
    office.join("host1", "not " + secret, "b" * 40)
    office.close()
    for file in Path(office.store.path).parent.iterdir():
        assert secret.encode() not in file.read_bytes(), file


def test_denials_fill_neither_audit_nor_memory(office: LockedOffice) -> None:
    key = office.person("x", "reader")
    with office.of(key):
        for _ in range(DENIALS + 30):
            assert office.read("audit list").error.code == "denied"
    lines = office.audit(outcome="denied")
    assert len(lines) == DENIALS
    assert "not written down" in lines[-1]["message"]
    for number in range(300):
        office.broker.admits(f"{number:040}", f"192.0.2.{number}", office.now)
    office.turn()
    assert len(office.audit(outcome="denied")) == DENIALS + STRANGERS
    office.sleep(61.0)
    with office.of(key):
        office.read("audit list")
    assert len(office.audit(outcome="denied")) == DENIALS + STRANGERS + 1, "what is known and what is not are apart"


def test_a_long_name_is_a_short_line(office: LockedOffice) -> None:
    office.host("host1", {})
    with office.of(HOST_KEY):
        error = office.ask({"op": "hello", **REQUESTS["hello"], "host": "h" * 200_000}).error
    assert error.code == "denied"
    (line,) = office.audit(outcome="denied")
    assert len(line["message"]) <= LONGEST


def test_the_audit_is_pruned(tmp_path: Path) -> None:
    office = LockedOffice(tmp_path, keep_audit=30 * 86400.0)
    key = office.person("x", "reader")
    with office.of(key):
        office.read("audit list")
    office.broker.admits(STRANGER_KEY, "192.0.2.9", office.now)
    office.turn()
    assert len(office.audit()) == 3
    office.ms += 8 * 86400 * 1000
    office.sleep(3700.0)
    assert [line["who"] for line in office.audit()] == ["admin", "x"], "strangers are forgotten after a week"
    office.ms += 30 * 86400 * 1000
    office.sleep(3700.0)
    assert office.audit() == []
    office.close()
