"""Key files and invitations: what is believed, what is refused, and who else may read it."""

from __future__ import annotations

import base64
import os
import stat
import zlib
from pathlib import Path

import pytest

from maglica import config, keys
from maglica.bus import new_pair
from maglica.errors import Failed, MaglicaError, Refused
from maglica.keys import Invitation, Key

KEY = Key("alice", *new_pair(), new_pair().public, "client.example.jp", 5555, 5556)
INVITED = Invitation("host0.example.jp", "5ec2e7" * 5, KEY.server, "client.example.jp", 7555, 7556)


def refused(path: Path) -> Refused:
    with pytest.raises(Refused) as caught:
        keys.load(str(path))
    assert caught.value.code == "denied"
    return caught.value


# ------------------------------------------------------------------------------------------------------- files


def test_a_key_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "made" / "alice.key"
    keys.save(str(path), KEY)
    assert keys.load(str(path)) == KEY
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list(path.parent.iterdir()) == [path], "nothing is left beside it"


def test_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        keys.save(str(tmp_path / "new" / "k"), KEY)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new" / "k").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


def test_a_secret_is_not_written_into_a_file_that_somebody_put_there(tmp_path: Path) -> None:
    trap, link = tmp_path / "alice.key.new", tmp_path / "bob.key.new"
    trap.touch(mode=0o666)
    watched = trap.open()
    link.symlink_to(tmp_path / "elsewhere")
    for name in ("alice.key", "bob.key"):
        keys.save(str(tmp_path / name), KEY)
        assert keys.load(str(tmp_path / name)) == KEY
    with watched:
        assert watched.read() == ""
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Failed) as caught:
        keys.save(str(tmp_path / "file" / "k"), KEY)
    assert caught.value.code == "environment_error"
    assert KEY.secret not in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o620, 0o601, 0o777])
def test_a_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "k"
    keys.save(str(path), KEY)
    path.chmod(mode)
    error = refused(path)
    assert error.hint == f"chmod 600 {path}"
    assert KEY.secret not in error.message


@pytest.mark.parametrize("part", range(0, 100, 7))
def test_half_a_key_is_none(tmp_path: Path, part: int) -> None:
    path = tmp_path / "k"
    keys.save(str(path), KEY)
    text = path.read_text()
    path.write_text(text[: text.index(KEY.server) * part // 100])
    assert "is no key of maglica" in refused(path).message


@pytest.mark.parametrize("content", [b"\xff\xfe", b"name = a\npublic = short\nsecret = short\n", b"\0" * 100])
def test_garbage_is_no_key(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "k"
    path.touch(mode=0o600)
    path.write_bytes(content)
    refused(path)


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path / "none").message
    with pytest.raises(Refused) as caught:
        keys.own(None, [str(tmp_path / "one"), str(tmp_path / "two")])
    assert caught.value.exit_status == 9
    assert "one and " in caught.value.message
    assert "maglica key new" in caught.value.hint


def test_the_key_that_was_named_is_taken_and_no_other(tmp_path: Path) -> None:
    usual, named = tmp_path / "usual", tmp_path / "named"
    keys.save(str(usual), KEY)
    keys.save(str(named), KEY._replace(name="bob"))
    assert keys.own(str(named), [str(usual)]).name == "bob"
    assert keys.own(None, [str(tmp_path / "none"), str(usual)]).name == "alice"
    with pytest.raises(Refused):
        keys.own(str(tmp_path / "none"), [str(usual)])


def test_a_lost_key_of_the_client_worker_is_not_made_anew(tmp_path: Path) -> None:
    made = keys.of_client_worker(str(tmp_path), new_pair, known=False)
    assert keys.of_client_worker(str(tmp_path), new_pair, known=True) == made
    (tmp_path / keys.SERVER_FILE).unlink()
    with pytest.raises(Refused) as caught:
        keys.of_client_worker(str(tmp_path), new_pair, known=True)
    assert "backup" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_what_the_settings_leave_open_the_key_says(tmp_path: Path) -> None:
    file = tmp_path / "maglica.conf"
    key = KEY._replace(rep_port=7556)
    file.write_text("")
    assert config.reach(config.load(str(file)), key) == ("client.example.jp", 5555, 7556)
    file.write_text("[client]\naddress = 192.0.2.1\nrep_port = 8556\n")
    assert config.reach(config.load(str(file)), key) == ("192.0.2.1", 5555, 8556)
    assert config.reach(config.load(str(file)), None) == ("192.0.2.1", 5555, 8556)


# ------------------------------------------------------------------------------------------------- invitations


def packed(*words: str) -> str:
    """A token of these words, whole as far as its checksum tells."""
    data = " ".join(words).encode()
    return keys.TOKEN_PREFIX + base64.urlsafe_b64encode(zlib.crc32(data).to_bytes(4, "big") + data).decode().rstrip("=")


def test_an_invitation_comes_back_from_its_token() -> None:
    token = INVITED.token()
    assert keys.invitation(f" {token}\n") == INVITED
    assert token.replace("-", "").replace("_", "").isalnum(), "no word that a shell would change"


def test_every_letter_counts() -> None:
    token = INVITED.token()
    damaged = [token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :] for at in range(len(token) - 1)]
    for word in [*damaged, *(token[:at] for at in range(len(token))), token + token, "", "maglica1-", "\0", "é" * 50]:
        with pytest.raises(MaglicaError) as caught:
            keys.invitation(word)
        said = f"{caught.value.message} {caught.value.hint}"
        assert INVITED.secret not in said
        assert len(word) < 20 or word[9:] not in said


@pytest.mark.parametrize("host", ["../../etc/cron.d/x", "a/b", "..", "", ".", "-x", "a\nb", "x" * 200])
def test_a_name_in_a_token_leads_nowhere(host: str) -> None:
    """It becomes part of the name of a file."""
    with pytest.raises(Refused):
        keys.invitation(packed(host, "secret", KEY.server, "client", "5555", "5556"))


@pytest.mark.parametrize(("first", "second"), [("", "5"), ("²", "5"), ("5555", "0"), ("5555", "99999"), ("-1", "5")])
def test_ports_in_a_token_are_ports(first: str, second: str) -> None:
    with pytest.raises(Refused):
        keys.invitation(packed("host0", "secret", KEY.server, "client", first, second))


@pytest.mark.parametrize("address", ["", "a;b", "tcp://x", "a,b"])
def test_an_address_in_a_token_is_one(address: str) -> None:
    with pytest.raises(Refused):
        keys.invitation(packed("host0", "secret", KEY.server, address, "5555", "5556"))
