"""Profiles: from the settings to an action, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from maglica import config, declare
from maglica.actions.vm.clone import VmClone
from maglica.actions.vm.power import VmStart
from maglica.client_worker.submitting import again
from maglica.client_worker.submitting.profiles import Profiles
from maglica.errors import Refused
from maglica.host_worker.guest.model import Network
from maglica.host_worker.guest.request import request_of

HASH = "$6$saltsalt$abcdefghijklmnopqrstuvwxyz./0123456789"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGpXkJ0qAAAAAAAAAAAAAAAAAAAA me@example.jp"
MAC = "52:54:00:aa:bb:01"

TEXT = """
[client]
customize_profile = base

[customize base]
timezone = Etc/UTC

[customize web]
images = debian12*, web?.original
write =
    /etc/motd:This is a web server: be kind.
    /etc/empty:
upload =
    {folder}/app.conf:/etc/app.conf
user =
    alice:sudo:key={folder}/key.pub:password-hash=@{folder}/hash
run_at_first_boot =
    echo one
    echo two, three; true
hosts =
    192.0.2.7 db1.example.jp db1
dns_search = lab.example.jp, example.jp
ssh_key = {folder}/key.pub
timezone = Asia/Tokyo

[customize web debian]
run_at_first_boot = apt-get -y install nginx

[customize web rhel]
write = /etc/yum.conf:x
"""


@pytest.fixture
def profiles(tmp_path: Path) -> Profiles:
    (tmp_path / "app.conf").write_bytes(b"\x00\xff")
    (tmp_path / "key.pub").write_text(KEY + "\n")
    (tmp_path / "hash").write_text(HASH + "\n")
    return Profiles(loaded(tmp_path, TEXT.format(folder=tmp_path)))


def loaded(folder: Path, text: str) -> config.Settings:
    (folder / "maglica.conf").write_text(text)
    return config.load(str(folder / "maglica.conf"))


def clone(**more: Any) -> VmClone:
    return VmClone(**{"image": "el9.original", "hostname": "vm0.example.jp", **more})


def test_a_profile_reaches_the_guest_as_it_is_written(profiles: Profiles) -> None:
    own = {"write": "/etc/motd:own", "timezone": "Europe/Rome", "run_at_first_boot": "echo last"}
    action = profiles.fill(clone(customize_profile="web", **own))
    request = request_of(action.values(), [MAC])
    debian, rhel = request.custom.for_family("debian"), request.custom.for_family("rhel")
    files = {file.path: file.text for file in debian.files}
    assert files == {"/etc/motd": "own\n", "/etc/empty": "", "/etc/app.conf": "\x00\udcff"}
    assert debian.commands == ("echo one", "echo two, three; true", "apt-get -y install nginx", "echo last")
    assert (rhel.commands[2:], rhel.files[-1].path) == (("echo last",), "/etc/yum.conf")
    assert (debian.timezone, debian.hosts) == ("Europe/Rome", ("192.0.2.7\tdb1.example.jp db1",))
    (user,) = debian.users
    assert (user.name, user.sudo, user.ssh_keys, user.password_hash) == ("alice", True, (KEY,), HASH)
    assert request.ssh_keys == (KEY,)
    assert request.network == Network()
    fixed = profiles.fill(clone(customize_profile="web", ip="192.0.2.5/24"))
    assert request_of(fixed.values(), [MAC]).network.search == ("lab.example.jp", "example.jp")


def test_what_a_profile_holds_is_never_shown(profiles: Profiles) -> None:
    action = profiles.fill(clone(customize_profile="web"))
    assert action.public()["profile"] == {"name": "web"}
    assert HASH not in repr(action)
    assert "be kind" not in repr(action)


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({}, "base"),
        ({"image": "debian12.original"}, "web"),
        ({"image": "web1.original"}, "web"),
        ({"image": "debian12.original", "customize_profile": "base"}, "base"),
        ({"image": "debian12.original", "customize_profile": "none"}, None),
        ({"image": "debian12.original", "customize": "none"}, None),
    ],
)
def test_which_profile_a_clone_gets(profiles: Profiles, more: dict[str, Any], name: str | None) -> None:
    filled = profiles.fill(clone(**more)).values()
    assert (filled["profile"] or {"name": None})["name"] == name


def test_an_action_without_profiles_stays_as_it_is(profiles: Profiles) -> None:
    start = VmStart(name="web1")
    assert profiles.fill(start) is start
    assert Profiles().fill(clone()) == clone()


def test_a_profile_that_is_not_there(profiles: Profiles) -> None:
    with pytest.raises(Refused) as caught:
        profiles.fill(clone(customize_profile="wbe"))
    assert (caught.value.code, caught.value.hint) == ("unknown_entity", "did you mean web?")


def test_nobody_brings_the_content_of_a_profile(profiles: Profiles) -> None:
    with pytest.raises(Refused, match="put in by the client worker"):
        profiles.fill(clone(profile={"name": "web"}))


def test_an_image_of_two_profiles(tmp_path: Path) -> None:
    found = Profiles(loaded(tmp_path, "[customize a]\nimages = el*\n[customize b]\nimages = *9.original\n"))
    with pytest.raises(Refused, match="a, b"):
        found.fill(clone())
    assert found.fill(clone(customize_profile="b")).values()["profile"]["name"] == "b"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("upload = /does/not/exist:/etc/x", "cannot read '/does/not/exist'"),
        ("upload = files/x:/etc/x", "not an absolute path"),
        ("user = alice:key=id.pub", "not an absolute path"),
        ("ssh_key = id.pub", "not an absolute path"),
        ("write = motd", "is not PATH:CONTENT"),
        ("root_password_hash = secret", "not a hash"),
        ("hosts = 1.2.3.4", "is not ADDRESS NAME"),
    ],
)
def test_a_profile_that_cannot_be_is_refused_when_it_is_used(tmp_path: Path, text: str, words: str) -> None:
    """Not at the start: one wrong file must not keep a whole cloud from starting."""
    found = Profiles(loaded(tmp_path, f"[customize web]\n{text}\n"))
    assert found.fill(clone())
    with pytest.raises(Refused, match="customize web") as caught:
        found.fill(clone(customize_profile="web"))
    assert words in caught.value.message
    assert "secret" not in caught.value.message


def test_a_family_has_files_users_and_commands_only(tmp_path: Path) -> None:
    found = Profiles(loaded(tmp_path, "[customize web]\n[customize web debian]\ntimezone = Etc/UTC\n"))
    with pytest.raises(Refused, match="timezone cannot differ by family"):
        found.fill(clone(customize_profile="web"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[customize web suse]\n", "unknown section"),
        ("[customize none]\n", "none means no profile"),
        ("[customize web]\nwirte = x\n", "did you mean write"),
        ("[customize web]\ntimezone = ../x\n", "timezone in \\[customize web\\]"),
        ("[host a debian]\n", "unknown section"),
    ],
)
def test_settings_that_are_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(Refused) as caught:
        loaded(tmp_path, text)
    assert words.replace("\\", "") in f"{caught.value.message} {caught.value.hint}"


def test_a_new_try_takes_the_profile_as_it_is_then(profiles: Profiles) -> None:
    action = profiles.fill(clone(customize_profile="web"))
    kept = declare.mask(action.FIELDS, action.values())
    tried = profiles.fill(again.action("vm clone", kept))
    assert tried == action


def test_an_upload_is_not_kept_for_a_new_try() -> None:
    action = clone(upload={"/a": b"x"}, user="alice", write="/b:c")
    with pytest.raises(Refused, match="--upload was a secret"):
        again.action("vm clone", declare.mask(action.FIELDS, action.values()))
    plain = clone(user="alice", write="/b:c")
    assert again.action("vm clone", declare.mask(plain.FIELDS, plain.values())) == plain
