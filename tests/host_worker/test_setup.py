"""Files, users, commands, time zone: what a clone gets beside its identity, on the file trees of distributions."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from maglica.errors import Refused
from maglica.host_worker.guest import first_boot, selinux
from maglica.host_worker.guest.customization import Customization, File, User, asked, merged
from maglica.host_worker.guest.customize import GuestRequest, Plan, cold, folders, patterns, plan, unmet
from maglica.host_worker.guest.model import (
    Absent,
    FileIs,
    GuestFacts,
    HasLabel,
    Label,
    Link,
    LinkIs,
    MakeDir,
    MakeHostKeys,
    Network,
    Remove,
    Seen,
    WriteFile,
    path_matches,
)
from tests.host_worker.guest_trees import ALL, LINK
from tests.host_worker.test_customize import HASH, KEY, MAC, SYSTEMS

KNOWN = [name for name in ALL if name in SYSTEMS and SYSTEMS[name].family]

LIVED_IN = {
    "/etc/passwd": "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n",
    "/etc/group": "root:x:0:\nadm:x:4:\nsudo:x:27:\nwheel:x:10:user\nuser:x:1000:\n",
    "/etc/gshadow": "root:*::\nadm:*::\nsudo:*::\nwheel:*::user\nuser:!::\n",
    "/etc/login.defs": "UID_MIN\t\t1000\n",
    "/etc/skel/.profile": "PATH=$PATH:~/bin\n",
    "/etc/sudoers.d/README": "",
    "/home/user/.profile": "",
    "/usr/bin/sudo": "",
    "/bin/bash": "",
    "/usr/share/zoneinfo/Asia/Tokyo": "TZif",
    "/etc/localtime": f"{LINK}/usr/share/zoneinfo/Etc/UTC",
    "/usr/local/sbin/.keep": "",
}
ALICE = User("alice", ("adm",), sudo=True, ssh_keys=(KEY,), password_hash=HASH)
FULL = Customization(
    files=(File("/etc/motd", "hello\n"), File("/srv/app/conf.d/a.conf", "a=1\n", 0o600)),
    users=(ALICE,),
    commands=("echo one > /root/one", "echo 'two words'"),
    hosts=("192.0.2.7\tdb1.example.jp db1",),
    timezone="Asia/Tokyo",
    keyboard="jp",
)


def tree_of(name: str, changes: Mapping[str, str | None] | None = None) -> dict[str, str]:
    tree = {**ALL[name], **LIVED_IN, **(changes or {})}
    if name == "rhel6":
        tree |= {"/etc/init.d/sshd": tree["/etc/rc.d/init.d/sshd"], "/etc/rc.d/rc3.d/S55sshd": f"{LINK}../init.d/sshd"}
        tree.pop("/usr/lib/systemd/systemd", None)
    return {path: text for path, text in tree.items() if text is not None}


def facts_of(name: str, tree: Mapping[str, str], request: GuestRequest) -> GuestFacts:
    """What the child would read for this request from a disk that holds these files."""
    read, see = patterns(request, SYSTEMS[name])
    above = {path.rsplit("/", at)[0] for path in tree for at in range(1, path.count("/"))}
    wanted = [path for path in {*tree, *above} if any(path_matches(path, one) for one in (*read, *see))]
    links = {path: tree[path].removeprefix(LINK) for path in wanted if tree.get(path, "").startswith(LINK)}
    files = {path: tree[path] for path in wanted if path in tree and path not in links}
    files = {path: text for path, text in files.items() if any(path_matches(path, one) for one in read)}
    return GuestFacts(SYSTEMS[name], files, links, frozenset(wanted))


def wish(custom: Customization, **more: Any) -> GuestRequest:
    return GuestRequest("vm0.example.jp", (MAC,), custom=custom, **more)


def planned(name: str, custom: Customization, changes: Mapping[str, str | None] | None = None, **more: Any) -> Plan:
    request = wish(custom, **more)
    return plan(facts_of(name, tree_of(name, changes), request), request)


def after(tree: Mapping[str, str], result: Plan) -> dict[str, str]:
    """The files after the edits; that nothing is written into a folder that is not there is seen to."""
    now = dict(tree)
    there = {path.rsplit("/", at)[0] for path in now for at in range(1, path.count("/"))}
    there |= {"/var", "/etc/cloud", "/etc/network", "/var/log", "/boot", "/root", "/etc/sysconfig", "/etc/selinux"}
    for edit in result.edits:
        if isinstance(edit, Remove):
            now = {path: text for path, text in now.items() if not f"{path}/".startswith(f"{edit.path}/")}
        elif isinstance(edit, MakeDir):
            there |= {edit.path.rsplit("/", at)[0] for at in range(edit.path.count("/"))}
        elif isinstance(edit, WriteFile):
            assert edit.path.rsplit("/", 1)[0] in there | {""}, edit
            now[edit.path] = edit.text
        elif isinstance(edit, Link):
            now[edit.path] = LINK + edit.target
        elif isinstance(edit, MakeHostKeys):
            now |= {f"/etc/ssh/ssh_host_{kind}_key{end}": "new" for kind in edit.kinds for end in ("", ".pub")}
    return now


def seen_in(tree: Mapping[str, str], result: Plan) -> dict[str, Seen]:
    seen = {}
    for one in result.expectations:
        text = tree.get(one.path)
        if isinstance(one, Absent):
            seen[one.path] = Seen(paths=tuple(path for path in tree if path_matches(path, one.path)))
        elif isinstance(one, LinkIs):
            seen[one.path] = Seen(target=text.removeprefix(LINK) if text and text.startswith(LINK) else None)
        elif not isinstance(one, HasLabel):
            owner = one.owner if isinstance(one, FileIs) else None
            seen[one.path] = Seen(text=text, mode=one.mode, owner=owner)
    return seen


# ---- the whole on every tree ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KNOWN)
def test_every_family_gets_all_of_it_and_planning_again_finds_it(name: str) -> None:
    request = wish(FULL, root_password_hash=HASH)
    tree = tree_of(name)
    first = plan(facts_of(name, tree, request), request)
    now = after(tree, first)
    assert now["/etc/motd"] == "hello\n"
    assert "192.0.2.7\tdb1.example.jp db1" in now["/etc/hosts"].splitlines()
    assert now["/etc/localtime"].endswith("/usr/share/zoneinfo/Asia/Tokyo")
    assert "alice:x:1001:1001::/home/alice:/bin/bash" in now["/etc/passwd"].splitlines()
    assert "adm:x:4:alice" in now["/etc/group"].splitlines()
    assert "alice:x:1001:" in now["/etc/group"].splitlines()
    assert "adm:*::alice" in now["/etc/gshadow"].splitlines()
    shadow = now["/etc/shadow"].splitlines()
    assert f"alice:{HASH}::0:99999:7:::" in shadow
    assert any(line.startswith(f"root:{HASH}:") for line in shadow), "users must not undo root's password"
    assert now["/home/alice/.ssh/authorized_keys"] == KEY + "\n"
    assert now["/home/alice/.profile"] == tree["/etc/skel/.profile"]
    assert now["/etc/sudoers.d/maglica-alice"] == "alice ALL=(ALL) NOPASSWD: ALL\n"
    assert now[f"{first_boot.FOLDER}/001"] == "echo one > /root/one\n"
    assert unmet(first.expectations, seen_in(now, first)) in ([], labels_missing(first))
    second = plan(facts_of(name, now, request), request)
    assert unmet(cold(second.expectations), seen_in(now, second)) == []
    texts = [{one.path: one.text for one in a.expectations if isinstance(one, FileIs)} for a in (first, second)]
    assert texts[0] == texts[1]


def labels_missing(result: Plan) -> list[str]:
    return unmet([one for one in result.expectations if isinstance(one, HasLabel)], {})


def test_each_thing_that_is_missing_is_found_by_the_second_look() -> None:
    """The check can fail: for every expectation of a customisation there is a disk that does not meet it."""
    request = wish(FULL)
    tree = tree_of("debian-ifupdown")
    result = plan(facts_of("debian-ifupdown", tree, request), request)
    now = after(tree, result)
    assert unmet(result.expectations, seen_in(now, result)) == []
    unit = (first_boot.UNIT, f"{first_boot.WANTS}/{first_boot.NAME}.service", f"{first_boot.FOLDER}/002")
    home = ("/home/alice/.ssh/authorized_keys", "/etc/sudoers.d/maglica-alice", "/etc/passwd", "/etc/shadow")
    for path in ("/etc/motd", "/etc/localtime", "/etc/timezone", "/etc/default/keyboard", *unit, *home):
        without = {name: text for name, text in now.items() if name != path}
        assert any(path in problem for problem in unmet(result.expectations, seen_in(without, result))), path
    spoiled = seen_in(now, result)
    spoiled["/home/alice/.ssh/authorized_keys"] = Seen(text=KEY + "\n", mode=0o600, owner=(0, 0))
    assert "does not belong to 1001:1001" in unmet(result.expectations, spoiled)[0]


# ---- files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["/etc/hostname", "/etc/machine-id", "/etc/hosts", "/etc/ssh/ssh_host_rsa_key", "/var/lib/dhcp/x.leases",
     "/etc/ssh/ssh_host_dsa_key", "/var/lib/systemd/random-seed"],
)  # fmt: skip
def test_what_makes_the_clone_a_machine_of_its_own_cannot_be_written(path: str) -> None:
    with pytest.raises(Refused, match=path):
        planned("debian-ifupdown", Customization(files=(File(path, "mine\n"),)))


def test_missing_folders_are_made_each_for_itself() -> None:
    edits = planned("debian-ifupdown", Customization(files=(File("/srv/a/b/c.conf", "x"),))).edits
    assert [edit.path for edit in edits if isinstance(edit, MakeDir) and edit.path.startswith("/srv")] == [
        "/srv", "/srv/a", "/srv/a/b",
    ]  # fmt: skip


def test_a_folder_with_a_file_system_of_its_own_is_asked_for() -> None:
    assert folders(wish(FULL)) == ("/etc", "/srv/app/conf.d", "/home")
    assert folders(wish(Customization())) == ()
    assert folders(None) == ()


def test_without_a_customization_nothing_more_is_read() -> None:
    plain = wish(Customization())
    assert patterns(plain, SYSTEMS["debian-ifupdown"]) == patterns(None, SYSTEMS["debian-ifupdown"])


# ---- users ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "words"),
    [
        (User("bob", ("nogroup",)), "no group nogroup"),
        (User("bob", shell="/bin/zsh"), "no /bin/zsh"),
        (User("bob", uid=1000), "1000 is taken"),
        (User("root", uid=5), "has the id 0"),
        (User("root"), "belongs to the system"),
    ],
)
def test_a_user_who_cannot_be_is_refused(user: User, words: str) -> None:
    with pytest.raises(Refused, match=words):
        planned("debian-ifupdown", Customization(users=(user,)))


def test_sudo_is_refused_where_there_is_none() -> None:
    with pytest.raises(Refused, match="no sudo"):
        planned("debian-ifupdown", Customization(users=(ALICE,)), {"/usr/bin/sudo": None})


def test_a_user_of_the_image_is_adjusted() -> None:
    again = User("user", ("sudo",), ssh_keys=(KEY,), password_hash=HASH, shell="/bin/bash")
    request = wish(Customization(users=(again,)))
    tree = tree_of("debian-ifupdown")
    now = after(tree, plan(facts_of("debian-ifupdown", tree, request), request))
    assert now["/etc/passwd"].splitlines()[1] == "user:x:1000:1000::/home/user:/bin/bash"
    assert len(now["/etc/passwd"].splitlines()) == 2
    assert now["/etc/shadow"].splitlines()[1] == f"user:{HASH}:19000:0:99999:7:::"
    assert now["/home/user/.profile"] == ""
    assert "sudo:x:27:user" in now["/etc/group"]


def test_a_key_only_user_is_not_locked() -> None:
    request = wish(Customization(users=(User("bob", ssh_keys=(KEY,)),)))
    tree = tree_of("rhel9-keyfile")
    now = after(tree, plan(facts_of("rhel9-keyfile", tree, request), request))
    assert "bob:*::0:99999:7:::" in now["/etc/shadow"].splitlines()


# ---- the search list ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "path", "line"),
    [
        ("debian-ifupdown", "/etc/network/interfaces", "    dns-search lab.example.jp example.jp"),
        ("debian-ifupdown", "/etc/resolv.conf", "search lab.example.jp example.jp"),
        ("debian-networkd", "/etc/systemd/network/00-maglica-net0.network", "Domains=lab.example.jp example.jp"),
        ("ubuntu-netplan", "/etc/netplan/50-maglica.yaml", '          - "lab.example.jp"'),
        ("rhel9-keyfile", "/etc/NetworkManager/system-connections/maglica-net0.nmconnection",
         "dns-search=lab.example.jp;example.jp;"),
        ("centos7-ifcfg", "/etc/sysconfig/network-scripts/ifcfg-eth0", 'DOMAIN="lab.example.jp example.jp"'),
    ],
)  # fmt: skip
def test_names_are_looked_up_in_these_domains(name: str, path: str, line: str) -> None:
    network = Network("192.0.2.10/24", "192.0.2.1", ("192.0.2.53",), ("lab.example.jp", "example.jp"))
    written = {edit.path: edit.text for edit in planned(name, Customization(), network=network).edits
               if isinstance(edit, WriteFile)}  # fmt: skip
    assert written[path].splitlines().count(line) == 1, written[path]


# ---- time zone, locale, keyboard --------------------------------------------------------------------------------


def test_a_time_zone_that_the_image_lacks_is_refused() -> None:
    with pytest.raises(Refused, match="no time zone Asia/Nowhere"):
        planned("debian-ifupdown", Customization(timezone="Asia/Nowhere"))
    with pytest.raises(Refused, match="tzdata"):
        planned("debian-ifupdown", Customization(timezone="Asia/Tokyo"), {"/usr/share/zoneinfo/Asia/Tokyo": None})


def test_rhel6_keeps_its_zone_in_a_file() -> None:
    tree = tree_of("rhel6", {"/etc/sysconfig/clock": 'ZONE="America/New_York"\nUTC=true\n'})
    request = wish(Customization(timezone="Asia/Tokyo"))
    now = after(tree, plan(facts_of("rhel6", tree, request), request))
    assert now["/etc/sysconfig/clock"] == 'UTC=true\nZONE="Asia/Tokyo"\n'


@pytest.mark.parametrize(
    ("name", "path", "text"),
    [
        ("debian-ifupdown", "/etc/default/locale", "LANG=C.UTF-8\n"),
        ("centos7-ifcfg", "/etc/locale.conf", "LANG=C.UTF-8\n"),
        ("rhel9-keyfile", "/etc/locale.conf", "LANG=C.UTF-8\n"),
    ],
)
def test_a_locale(name: str, path: str, text: str) -> None:
    result = planned(name, Customization(locale="C.UTF-8"))
    assert {edit.path: edit.text for edit in result.edits if isinstance(edit, WriteFile)}[path] == text


def test_debian_makes_a_locale_at_its_first_boot() -> None:
    wanted = Customization(locale="ja_JP.UTF-8", commands=("echo later",))
    with pytest.raises(Refused, match="locale-gen"):
        planned("debian-ifupdown", wanted)
    result = planned(
        "debian-ifupdown", wanted, {"/usr/sbin/locale-gen": "", "/etc/locale.gen": "# ja_JP.UTF-8 UTF-8\n"}
    )
    texts = {edit.path: edit.text for edit in result.edits if isinstance(edit, WriteFile)}
    assert texts["/etc/locale.gen"].splitlines()[-1] == "ja_JP.UTF-8 UTF-8"
    assert (texts[f"{first_boot.FOLDER}/001"], texts[f"{first_boot.FOLDER}/002"]) == ("locale-gen\n", "echo later\n")


# ---- the first boot ---------------------------------------------------------------------------------------------


def test_rhel6_gets_a_script_of_init() -> None:
    result = planned("rhel6", Customization(commands=("true",)))
    links = {edit.path: edit.target for edit in result.edits if isinstance(edit, Link)}
    assert links == {f"/etc/rc.d/rc3.d/S99{first_boot.NAME}": f"/etc/rc.d/init.d/{first_boot.NAME}"}
    assert not any(getattr(edit, "path", "").endswith(".service") for edit in result.edits)


@pytest.fixture
def booted(tmp_path: Path) -> Path:
    """A root with the script and three commands, of which the second fails and the third needs the log."""
    script = first_boot.TEXT
    for path in (first_boot.FOLDER, first_boot.SCRIPT, first_boot.LOG, first_boot.UNIT, first_boot.WANTS, "/etc/"):
        script = script.replace(f" {path}", f" {tmp_path}{path}").replace(f" {tmp_path}{tmp_path}", f" {tmp_path}")
    for folder in (first_boot.FOLDER, "/usr/local/sbin", "/var/log", first_boot.WANTS):
        (tmp_path / folder[1:]).mkdir(parents=True, exist_ok=True)
    commands = {
        "001": f"echo first; ls {tmp_path}{first_boot.FOLDER}",
        "002": "exit 7",
        "003": f"umask > {tmp_path}/umask",
    }
    for name, text in commands.items():
        (tmp_path / first_boot.FOLDER[1:] / name).write_text(text + "\n")
    (tmp_path / first_boot.SCRIPT[1:]).write_text(script)
    (tmp_path / first_boot.UNIT[1:]).write_text(first_boot.SERVICE)
    return tmp_path


def test_the_script_runs_each_command_once_in_order_and_removes_itself(booted: Path) -> None:
    script = booted / first_boot.SCRIPT[1:]
    done = subprocess.run(["/bin/sh", str(script)], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stderr == ""
    log = (booted / first_boot.LOG[1:]).read_text()
    assert [line.split()[-1] for line in log.splitlines() if "status" in line] == ["0", "7", "0"]
    # When the first ran its own file was gone: nothing could have run it again.
    assert log.splitlines()[1:4] == ["first", "002", "003"]
    assert (booted / "umask").read_text().strip() == "0022"
    for path in (first_boot.FOLDER, first_boot.SCRIPT, first_boot.UNIT):
        assert not (booted / path[1:]).exists(), path
    assert "maglica-first-boot: command 002 ended with status 7" in done.stdout


# ---- two layers -------------------------------------------------------------------------------------------------


def test_a_profile_and_what_was_asked_for_beside_it() -> None:
    profile = asked({
        "write": ["/etc/motd:from the profile", "/etc/a:1"], "run_at_first_boot": ["one"], "timezone": "Etc/UTC",
        "user": [{"name": "alice", "groups": ["adm"], "sudo": False, "ssh_keys": KEY}],
        "families": {"rhel": {"run_at_first_boot": ["dnf -y install x"]}, "debian": {"write": ["/etc/apt/x:y"]}},
    })  # fmt: skip
    own = asked({"write": ["/etc/motd:own"], "run_at_first_boot": ["two"], "timezone": "Asia/Tokyo"})
    both = merged(profile, own)
    assert both.files == (File("/etc/motd", "own\n"), File("/etc/a", "1\n"))
    assert (both.commands, both.timezone, both.users[0].ssh_keys) == (("one", "two"), "Asia/Tokyo", (KEY,))
    assert both.for_family("rhel").commands == ("one", "dnf -y install x", "two")
    assert both.for_family("debian").files[-1] == File("/etc/apt/x", "y\n")
    assert both.for_family(None).commands == ("one", "two")


def test_an_upload_keeps_every_byte() -> None:
    import base64

    every = bytes(range(256))
    upload = {"path": "/opt/blob", "mode": 0o755, "base64": base64.b64encode(every).decode()}
    (file,) = asked({"upload": [upload]}).files
    assert (file.text.encode("utf-8", "surrogateescape"), file.mode) == (every, 0o755)


def test_a_customization_survives_its_way_to_the_child() -> None:
    whole = Customization(**{**vars(FULL), "families": {"rhel": Customization(commands=("x",))}})
    request = wish(whole)
    assert GuestRequest.from_map(request.to_map()) == request
    assert Customization.from_map(asdict(whole)) == whole
    assert HASH not in repr(whole)


# ---- SELinux ----------------------------------------------------------------------------------------------------

CONTEXTS = r"""
/.*	system_u:object_r:default_t:s0
/[^/]+	--	system_u:object_r:etc_runtime_t:s0
/etc/.*	system_u:object_r:etc_t:s0
/etc/ssh/ssh_host.*_key	--	system_u:object_r:sshd_key_t:s0
/etc/ssh/ssh_host.*_key\.pub	--	system_u:object_r:sshd_key_t:s0
/etc/localtime	-l	system_u:object_r:locale_t:s0
/etc/systemd/system(/.*)?	system_u:object_r:systemd_unit_file_t:s0
/usr/.*	system_u:object_r:usr_t:s0
/usr/(.*/)?sbin(/.*)?	system_u:object_r:bin_t:s0
/var/tmp/.*	<<none>>
/etc/hostname	--	system_u:object_r:hostname_etc_t:s0
/etc/h.*	system_u:object_r:etc_t:s0
/dev/[^/]*	-b	system_u:object_r:device_t:s0
/s?bin/a	system_u:object_r:bin_t:s0
"""
HOMEDIRS = "/home/[^/]+/\\.ssh(/.*)?\tunconfined_u:object_r:ssh_home_t:s0\n"


@pytest.mark.parametrize(
    ("path", "kind", "label"),
    [
        ("/etc/motd", "file", "etc_t"),
        ("/etc/ssh/ssh_host_rsa_key.pub", "file", "sshd_key_t"),
        ("/etc/systemd/system", "folder", "systemd_unit_file_t"),
        ("/etc/systemd/system/x.service", "file", "systemd_unit_file_t"),
        ("/etc/localtime", "link", "locale_t"),
        ("/etc/localtime", "file", "etc_t"),
        ("/usr/local/sbin/x", "file", "bin_t"),
        ("/usr/share/x", "file", "usr_t"),
        # What names one path only comes after all patterns, wherever it stands.
        ("/etc/hostname", "file", "hostname_etc_t"),
        ("/var/tmp/x", "file", None),
        ("/.autorelabel", "file", "etc_runtime_t"),
        ("/bin/a", "file", "bin_t"),
        ("/sbin/a", "file", "bin_t"),
    ],
)
def test_the_last_rule_that_matches_names_the_label(path: str, kind: str, label: str | None) -> None:
    found = selinux.context_of(path, kind, selinux.rules_of(CONTEXTS))
    assert found == (label and f"system_u:object_r:{label}:s0")


def test_new_files_are_labelled_and_old_ones_left_alone() -> None:
    contexts = {
        "/etc/selinux/targeted/contexts/files/file_contexts": CONTEXTS,
        "/etc/selinux/targeted/contexts/files/file_contexts.homedirs": HOMEDIRS,
        "/etc/motd": "",
    }
    result = planned("rhel9-keyfile", FULL, contexts)
    labels = {edit.path: edit.context.split(":")[2] for edit in result.edits if isinstance(edit, Label)}
    assert labels["/etc/localtime"] == "locale_t"
    assert labels[first_boot.UNIT] == "systemd_unit_file_t"
    assert labels["/home/alice/.ssh/authorized_keys"] == "ssh_home_t"
    assert "/etc/motd" not in labels
    assert "/etc/passwd" not in labels
    assert "/.autorelabel" not in labels
    assert {one.path for one in result.expectations if isinstance(one, HasLabel)} == set(labels)
    assert labels_missing(result)


def test_without_rules_the_guest_labels_everything_itself() -> None:
    result = planned("rhel9-keyfile", FULL)
    assert WriteFile("/.autorelabel", "") in result.edits


def test_a_guest_that_looks_at_no_labels_gets_none() -> None:
    contexts = {
        "/etc/selinux/targeted/contexts/files/file_contexts": CONTEXTS,
        "/etc/selinux/config": "SELINUX=disabled\n",
    }
    result = planned("rhel9-keyfile", FULL, contexts)
    assert not [
        edit for edit in result.edits if isinstance(edit, Label) or getattr(edit, "path", "") == "/.autorelabel"
    ]
