"""Settings: what a file may say, what is said of a wrong one, and which source wins."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import pytest

from maglica import config
from maglica.client_worker import main as client_main
from maglica.config import Settings
from maglica.errors import Refused
from maglica.host_worker import main as host_main

HOME = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MAGLICA_CONFIG", "MAGLICA_CLIENT"):
        monkeypatch.delenv(name, raising=False)


def load(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "maglica.conf"
    path.write_text(text, encoding="utf-8")
    return config.load(str(path))


def refusal(tmp_path: Path, text: str) -> Refused:
    """What is said of this file; the file's own path is written `FILE`."""
    with pytest.raises(Refused) as refused:
        load(tmp_path, text)
    assert refused.value.code == "wrong_input"
    refused.value.message = refused.value.message.replace(str(tmp_path / "maglica.conf"), "FILE")
    return refused.value


# --------------------------------------------------------------------------------------- good files


def test_defaults_without_a_file() -> None:
    settings = config.load(None)
    assert settings.file is None
    assert settings.client.address == "127.0.0.1"
    assert (settings.client.pub_port, settings.client.rep_port) == (5555, 5556)
    assert settings.host_worker.libvirt_uri == "qemu:///system"
    assert settings.paths.state == "/var/lib/maglica"
    assert settings.hosts == {}
    assert settings.origins == {}


def test_every_default_is_a_value_that_a_file_may_hold(tmp_path: Path) -> None:
    for name, section in config.SECTIONS.items():
        for key, field in section.FIELDS.items():
            assert field.help, f"[{name}] {key}"
            if field.default is not None:
                assert field.kind.check(field.default) == field.default, f"[{name}] {key}"


def test_an_empty_file_is_a_good_file(tmp_path: Path) -> None:
    assert load(tmp_path, "").client == config.load(None).client
    assert load(tmp_path, "# nothing\n\n; nothing\n[client]\n").client == config.load(None).client


def test_values_get_their_kinds(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        """
        # the client worker
        [client]
        address = client.example.jp
        PUB_PORT = 7555
        beat=1.5s

        [host_worker]
        memory_reserve = 2G
        acceleration = tcg
        slots_disk = 4
        [paths]
        state = /srv/100%/state;x#y
        [log]
        level = debug
        """.replace("        ", ""),
    )
    assert settings.client.address == "client.example.jp"
    assert settings.client.pub_port == 7555, "keys may be written in capitals"
    assert settings.client.beat == 1.5
    assert settings.host_worker.memory_reserve == 2 << 30
    assert settings.host_worker.slots_disk == 4
    assert settings.paths.state == "/srv/100%/state;x#y", "no interpolation, no comment within a line"
    assert settings.log.level == "debug"


def test_colons_and_equal_signs_belong_to_the_value(tmp_path: Path) -> None:
    settings = load(tmp_path, "[client]\nbind = ::1\n[host_worker]\nexport_url = http://a.example.jp:80/?x=1&y=%2F\n")
    assert settings.client.bind == "::1"
    assert settings.host_worker.export_url == "http://a.example.jp:80/?x=1&y=%2F"


def test_an_empty_value_means_none_where_none_is_possible(tmp_path: Path) -> None:
    assert load(tmp_path, "[host_worker]\npool =\n").host_worker.pool is None
    assert "FILE:2: address in [client]: '' is not valid" in refusal(tmp_path, "[client]\naddress =\n").message


def test_hosts_have_sections_of_their_own(tmp_path: Path) -> None:
    settings = load(tmp_path, "[host host0.example.jp]\nweight = 2.5\n[host host1]\n[host host10]\nweight = 0\n")
    assert {name: section.weight for name, section in settings.hosts.items()} == {
        "host0.example.jp": 2.5,
        "host1": 10.0,
        "host10": 0.0,
    }
    assert settings.origins["host host10", "weight"].endswith("maglica.conf:5")


def test_where_each_value_comes_from(tmp_path: Path) -> None:
    path = tmp_path / "maglica.conf"
    path.write_text("[paths]\nstate = /a\n[client]\n\nrep_port = 1\npub_port = 2\n")
    settings = config.load(str(path), {("client", "pub_port"): ("3", "--pub-port")})
    assert settings.client.pub_port == 3
    assert settings.origins == {
        ("paths", "state"): f"{path}:2",
        ("client", "rep_port"): f"{path}:5",
        ("client", "pub_port"): "--pub-port",
    }


def test_settings_are_frozen() -> None:
    settings = config.load(None)
    with pytest.raises(AttributeError):
        settings.client = settings.client
    with pytest.raises(AttributeError):
        settings.client.address = "elsewhere"  # type: ignore[misc]


def test_the_example_says_what_a_reload_changes() -> None:
    text = (HOME / "etc" / "maglica.conf.example").read_text()
    marked: dict[str, set[str]] = {"client": set(), "host_worker": set()}
    section, live, whole, above = "", False, False, False
    for line in text.splitlines():
        if found := re.fullmatch(r"#?\[(\w+)( \w+)?\]", line):
            section, live, whole = found[1], False, False
        elif found := re.fullmatch(r"#?(\w+) =.*", line):
            if section in marked and (live or whole):
                marked[section].add(found[1])
            above = False
        elif line.startswith("# "):
            live = "(live)" in line or (live and above)
            whole = whole or "all that follows" in line
            above = True
    assert marked["client"] == client_main.LIVE["client"]
    assert marked["host_worker"] <= host_main.LIVE["host_worker"]


def test_the_example_that_is_shipped_shows_the_defaults(tmp_path: Path) -> None:
    text = (HOME / "etc" / "maglica.conf.example").read_text()
    load(tmp_path, text)
    settings = load(tmp_path, re.sub(r"(?m)^#(?=\w+ = |\[)", "", text))
    shown = re.findall(r"(?m)^#(\w+) = ", text)
    assert shown
    for name, section in config.SECTIONS.items():
        for key, field in section.FIELDS.items():
            if key in shown and field.default is not None:
                assert getattr(settings.section(name), key) == field.default, f"[{name}] {key}"


# ---------------------------------------------------------------------------------------- wrong files


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("[client]\nadress = a\n", "FILE:2: unknown key adress in [client]", "did you mean address?"),
        ("\n[client]\n# x\nrep_prot=1\n", "FILE:4: unknown key rep_prot in [client]", "did you mean rep_port?"),
        ("[paths]\nkeys=/a\n[client]\nkeys=/b\n", "FILE:4: unknown key keys in [client]", "did you mean key?"),
        ("[clinet]\n", "FILE:1: unknown section [clinet]", "did you mean [client]?"),
        (
            "[client]\n[hosts]\n",
            "FILE:2: unknown section [hosts]",
            "known are [client], [host_worker], [paths], [log], [host NAME]",
        ),
        ("[host]\n", "FILE:1: unknown section [host]", "did you mean [host NAME]?"),
        ("[host a b]\n", "FILE:1: unknown section [host a b]", "known are [client]"),
        ("[Client]\n", "FILE:1: unknown section [Client]", "did you mean [client]?"),
        ("[zzz]\n", "FILE:1: unknown section [zzz]", "known are [client], [host_worker]"),
        ("[DEFAULT]\nbeat=1s\n", "FILE:1: unknown section [DEFAULT]", "known are"),
        ("[host h]\nwieght=1\n", "FILE:2: unknown key wieght in [host h]", "did you mean weight?"),
        ("beat = 1s\n", "FILE:1: a line stands before the first [section]", ""),
        ("# a\n\nx\n[client]\n", "FILE:3: a line stands before the first [section]", ""),
        ("[client]\nbeat = 1s\nBeat = 2s\n", "FILE:3: beat is set twice in [client]", ""),
        ("[client]\n[log]\n[client]\n", "FILE:3: [client] occurs twice", ""),
        ("[client]\nbeat\n", "FILE:2: expected key = value", ""),
        ("[client]\nbeat: 1s\n", "FILE:2: expected key = value", ""),
        ("[client\nbeat = 1s\n", "FILE:1: ", ""),
        ("[client]\nbeat = 2\n", "FILE:2: beat in [client]: '2' has no unit; say 2s or 2m", "expected a duration"),
        ("[client]\n\nrep_port=0\n", "FILE:3: rep_port in [client]: 0 is out of range", "expected a whole number from"),
        ("[log]\nlevel = INFO\n", "FILE:2: level in [log]: 'INFO' is none of them", "expected debug, info,"),
        ("[paths]\nstate = var\n", "FILE:2: state in [paths]: 'var' is not an absolute path", "expected an absolute"),
        ("[host h]\nweight = -1\n", "FILE:2: weight in [host h]: -1 is out of range", "expected a number from 0"),
        ("[host h]\nweight = nan\n", "FILE:2: weight in [host h]: nan is out of range", "expected a number from 0"),
        ("[host a/b]\n", "FILE:1: [host a/b]: 'a/b' is not valid", "expected the name of a host"),
        ("[client]\nrep_port = 1\n  pub_port = 2\n", "FILE:2: rep_port in [client]: '1\\npub_port = 2'", "expected"),
    ],
)
def test_a_wrong_file_is_told_with_line_and_nearest_word(tmp_path: Path, text: str, message: str, hint: str) -> None:
    refused = refusal(tmp_path, text)
    assert refused.message.startswith(message)
    assert refused.hint.startswith(hint)


def test_a_host_cannot_be_described_twice(tmp_path: Path) -> None:
    assert "[host h] occurs twice" in refusal(tmp_path, "[host h]\nweight=1\n[host h]\nweight=2\n").message
    assert refusal(tmp_path, "[host h]\nweight=1\n[host  h]\nweight=2\n").message.startswith("FILE:3: ")


@pytest.mark.parametrize("key", ["beat", "read_timeout"])
def test_no_time_is_no_time_between_two_beats(tmp_path: Path, key: str) -> None:
    """With 0 s between two reports every host would be down and every worker would spin."""
    assert refusal(tmp_path, f"[client]\n{key} = 0s\n").message.startswith(f"FILE:2: {key} in [client]: ")


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "binary.conf"
    path.write_bytes(b"[client]\naddress = \xff\xfe\n")
    with pytest.raises(Refused, match=r"cannot read the settings file .*binary.conf: "):
        config.load(str(path))
    with pytest.raises(Refused, match=r"cannot read the settings file .*: Is a directory"):
        config.load(str(tmp_path))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret.conf"
    path.write_text("")
    path.chmod(stat.S_IWUSR)
    with pytest.raises(Refused, match="Permission denied"):
        config.load(str(path))


# ---------------------------------------------------------------------------------- which source wins


def test_the_order_in_which_files_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    explicit, environment = tmp_path / "a.conf", tmp_path / "b.conf"
    explicit.touch()
    environment.touch()
    monkeypatch.setenv("MAGLICA_CONFIG", str(environment))
    assert config.find(str(explicit)) == str(explicit)
    assert config.find() == str(environment)
    monkeypatch.delenv("MAGLICA_CONFIG")
    usual = [str(HOME / "etc" / "maglica.conf"), "/etc/maglica/maglica.conf", "/etc/maglica.conf"]
    assert config.find() == next((path for path in usual if os.path.exists(path)), None)


def test_a_file_that_was_named_must_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Refused, match="the settings file /nonexistent does not exist"):
        config.find("/nonexistent")
    monkeypatch.setenv("MAGLICA_CONFIG", "/nonexistent2")
    with pytest.raises(Refused, match="/nonexistent2 does not exist"):
        config.find()


def test_the_file_the_environment_the_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "maglica.conf"
    path.write_text("[client]\naddress = from-file\nrep_port = 1111\n")
    settings = config.from_environment(None, str(path))
    assert (settings.client.address, settings.client.rep_port) == ("from-file", 1111)
    monkeypatch.setenv("MAGLICA_CLIENT", "from-environment")
    settings = config.from_environment(None, str(path))
    assert (settings.client.address, settings.client.rep_port) == ("from-environment", 1111)
    assert settings.origins["client", "address"] == "MAGLICA_CLIENT"
    settings = config.from_environment("from-option:2222", str(path))
    assert (settings.client.address, settings.client.rep_port) == ("from-option", 2222)
    assert settings.origins["client", "address"] == "--client"
    assert settings.origins["client", "rep_port"] == "--client"


@pytest.mark.parametrize(
    ("client", "address", "port"),
    [
        ("client.example.jp", "client.example.jp", 5556),
        ("client.example.jp:7556", "client.example.jp", 7556),
        ("10.0.0.1", "10.0.0.1", 5556),
        ("10.0.0.1:7556", "10.0.0.1", 7556),
        ("tcp://10.0.0.1:7556", "10.0.0.1", 7556),
        ("tcp://client", "client", 5556),
        ("::1", "::1", 5556),
        ("[::1]", "::1", 5556),
        ("[::1]:7556", "::1", 7556),
        ("tcp://[2001:db8::5]:7556", "2001:db8::5", 7556),
        ("2001:db8::5", "2001:db8::5", 5556),
        ("2001:db8::5:6", "2001:db8::5:6", 5556),
        ("2001:db8:0:0:0:0:0:1", "2001:db8:0:0:0:0:0:1", 5556),
    ],
)
def test_what_client_may_be(client: str, address: str, port: int) -> None:
    settings = config.load(None, config.client_overrides(client, "--client"))
    assert (settings.client.address, settings.client.rep_port) == (address, port)


@pytest.mark.parametrize("client", ["a b", "host:0", "host:99999", "http://host", "host/x", "[::1", "*"])
def test_what_client_may_not_be(client: str) -> None:
    with pytest.raises(Refused, match=r"^--client: (address|rep_port) in \[client\]: "):
        config.load(None, config.client_overrides(client, "--client"))


def test_nothing_is_no_client() -> None:
    assert config.client_overrides(None, "--client") == {}
    assert config.client_overrides("", "MAGLICA_CLIENT") == {}


def test_the_name_of_this_host(tmp_path: Path) -> None:
    """D2: one name, from the settings; otherwise the full host name, on both sides the same function."""
    assert config.host_name(load(tmp_path, "[host_worker]\nname = host7\n")) == "host7"
    assert config.host_name(config.load(None))
