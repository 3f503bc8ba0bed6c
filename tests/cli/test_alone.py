"""Whole commands with nothing but a client worker, or not even that."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from maglica import VERSION
from tests.cli.typing_in import Typed
from tests.daemons import HOME, House, free_ports, until

# ------------------------------------------------------------------------------------------ nobody there

LINES = ("vm list", "vm stop web1", "ping", "job attach 1b7q", "job wait 1b7q", "vm stop ci-*", "host list -o json")
TREES = ("vm list -o yaml", "vm list -o jsonl", "version", "version -o json")


class Ended(NamedTuple):
    status: int
    out: str
    err: str
    seconds: float


@pytest.fixture(scope="module")
def down() -> str:
    """The address of a client worker that is not there."""
    return f"127.0.0.1:{free_ports(1)[0]}"


@pytest.fixture(scope="module")
def lonely(down: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Ended]]:
    """How commands end that find no client worker. All at once: each of them waits for nearly 3 s."""
    house = House(tmp_path_factory.mktemp("lonely"))
    began = time.monotonic()
    running = {line: house.spawn(*line.split(), MAGLICA_CLIENT=down) for line in (*LINES, *TREES)}
    ended = {}
    for line, process in running.items():
        out, err = process.communicate(timeout=30)
        ended[line] = Ended(process.returncode, out, err, time.monotonic() - began)
    yield ended
    house.close()


@pytest.mark.parametrize("line", LINES)
def test_a_client_worker_that_is_down_is_told_within_3_seconds(lonely: dict[str, Ended], line: str, down: str) -> None:
    ended = lonely[line]
    assert ended.status == 8
    assert ended.err.splitlines()[0] == f"maglica: no client worker answers at tcp://{down}"
    assert "maglica_client_worker" in ended.err
    assert ended.seconds < 3.0 + 0.2 * len(lonely)  # they all start at once, on few processors


def test_an_error_as_other_trees(lonely: dict[str, Ended]) -> None:
    tree = yaml.safe_load(lonely["vm list -o yaml"].out)
    assert (tree["kind"], tree["error"]["code"], tree["error"]["retryable"]) == ("vm.list", "unreachable", True)
    line = lonely["vm list -o jsonl"].out
    assert json.loads(line)["error"]["code"] == "unreachable"
    assert line.count("\n") == 1


def test_version_does_not_need_anybody(lonely: dict[str, Ended]) -> None:
    ended = lonely["version"]
    assert (ended.status, ended.out) == (0, f"maglica {VERSION}, protocol 2\n")
    assert "no client worker answers" in ended.err
    assert lonely["version -o json"].status == 0
    assert json.loads(lonely["version -o json"].out)["item"]["client_worker"] is None


def test_ctrl_c_ends_a_command_whenever_it_comes(house: House, down: str) -> None:
    """Also between the making of a socket and its use: no command may hang on what was left half done."""
    running = [house.spawn("vm", "list", MAGLICA_CLIENT=down) for _ in range(15)]
    for process in running:
        time.sleep(0.02)
        process.send_signal(signal.SIGINT)
    for process in running:
        _, err = process.communicate(timeout=10)
        # -SIGINT and 1: it came before our first line. 8: Python lost it in the middle of an import.
        assert process.returncode in (130, -signal.SIGINT, 1, 8)
        if process.returncode == 130:
            assert err == "\nmaglica: interrupted\n"


IMPORTS = """
import signal, sys
from maglica.cli.main import main

def told(event, values):
    if event == "import" and values[0] in ("zmq", "msgpack"):
        print(values[0], "held" if signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []) else "not held")

sys.addaudithook(told)
sys.exit(main())
"""


@pytest.mark.parametrize("line", ["vm list", "vm stop web1", "vm stop ci-*", "job attach 1b7q", "ping", "version"])
def test_ctrl_c_waits_while_c_modules_start(house: House, line: str) -> None:
    """In the middle of it, it was seen to crash Python, and to be lost."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", IMPORTS, *line.split(), "--client=-"],
        capture_output=True, text=True, env=house.environment(PYTHONPATH=str(HOME)), check=False, timeout=20,
    )  # fmt: skip
    assert {told for told in done.stdout.splitlines() if "held" in told} == {"msgpack held", "zmq held"}, done.stderr


def test_help_needs_nobody_and_no_settings(house: House) -> None:
    for words in ([], ["--help"], ["vm", "--help"], ["help", "vm", "clone"], ["vm", "stop", "-h"]):
        done = house.cli(*words, MAGLICA_CONFIG="/does/not/exist")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("usage: maglica")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("vm", "lst"), ["maglica: vm has no verb lst", "  did you mean `maglica vm list`?"]),
        (("vm", "list", "--stat=running"), ["maglica: vm list: there is no option --stat", "  did you mean --state?"]),
        (("vm", "stop"), ["maglica: vm stop: NAME is missing", "  expected the name of a VM, or NAME@HOST"]),
        (
            ("vm", "stop", "a b"),
            ["maglica: vm stop: --name: 'a b' is not valid", "  expected the name of a VM, or NAME@HOST"],
        ),
        (
            ("vm", "clone", "--image=a", "--hostname=b", "--memory=4"),
            [
                "maglica: vm clone: --memory: '4' has no unit; say 4M or 4G",
                "  expected a size such as 512M or 4G, at least 16M (powers of 1024)",
            ],
        ),
        (
            ("vm", "remove", "web1"),
            ["maglica: vm remove web1: there is no terminal to ask for a yes", "  add --yes if it is meant"],
        ),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(house: House, words: tuple[str, ...], said: list[str]) -> None:
    done = house.cli(*words)
    assert (done.returncode, done.stdout, done.stderr.splitlines()) == (2, "", said)


@pytest.mark.parametrize(
    "words", [("-o", "json", "vm", "lst"), ("vm", "lst", "--output=json"), ("vm", "lst", "-ojson")]
)
def test_an_error_as_a_tree(house: House, words: tuple[str, ...]) -> None:
    done = house.cli(*words)
    assert done.returncode == 2
    tree = json.loads(done.stdout)
    assert (tree["schema"], tree["kind"], tree["missing_hosts"]) == ("maglica/1", None, [])
    assert tree["error"]["code"] == "wrong_input"
    assert tree["error"]["hint"] == "did you mean `maglica vm list`?"
    assert done.stderr.startswith("maglica: vm has no verb lst\n")


def test_no_directory_can_slip_its_modules_in(house: House, tmp_path: Path) -> None:
    (tmp_path / "argparse.py").write_text("raise SystemExit(99)")
    argv = [str(HOME / "bin" / "maglica"), "--help"]
    done = subprocess.run(argv, cwd=tmp_path, env=house.environment(), capture_output=True, timeout=10, check=False)
    assert done.returncode == 0


def test_the_command_is_found_through_a_link(house: House, tmp_path: Path) -> None:
    (tmp_path / "m").symlink_to(HOME / "bin" / "maglica")
    for argv, cwd in (
        ([str(tmp_path / "m")], "/"),
        (["sh", "maglica"], str(HOME / "bin")),
        (["./bin/maglica"], str(HOME)),
    ):
        done = subprocess.run(argv, cwd=cwd, env=house.environment(), capture_output=True, timeout=10, check=False)
        assert done.returncode == 0, done.stderr


# ---------------------------------------------------------------------------------------------- settings


def test_config_show_tells_where_each_value_comes_from(house: House) -> None:
    house.configure("[host host7]", "weight = 2.5", client="keep_jobs = 7d")
    tree = json.loads(house.cli("config", "show", "-o", "json").stdout)
    found = {(item["section"], item["key"]): (item["value"], item["origin"]) for item in tree["items"]}
    lines = house.config.read_text().splitlines()
    assert found["client", "keep_jobs"] == ("7d", f"{house.config}:{lines.index('keep_jobs = 7d') + 1}")
    assert found["host host7", "weight"] == ("2.5", f"{house.config}:{lines.index('weight = 2.5') + 1}")
    assert found["client", "queue_limit"] == ("10000", "default")
    assert found["host_worker", "memory_reserve"] == ("512M", "default")
    table = house.cli("config", "show", "--client=cw.example.jp", "--filter=section=client,key=address").stdout
    assert table.splitlines()[2].split() == ["client", "address", "cw.example.jp", "--client"]
    table = house.cli("config", "show", "--filter=key=address", "-o", "wide", MAGLICA_CLIENT="other").stdout
    assert "other" in table
    assert "MAGLICA_CLIENT" in table
    assert "where the client worker is reached" in table


def test_config_check(house: House, tmp_path: Path) -> None:
    done = house.cli("config", "check")
    assert (done.returncode, done.stdout) == (0, f"{house.config}: OK\n")
    other = tmp_path / "other.conf"
    other.write_text("[client]\n# comment\nadress = 10.0.0.1\n")
    done = house.cli("config", "check", f"--file={other}")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        f"maglica: {other}:3: unknown key adress in [client]",
        "  did you mean address?",
    ]
    done = house.cli("config", "check", "--file=/does/not/exist", "-o", "json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["message"] == "the settings file /does/not/exist does not exist"


def test_a_broken_settings_file_stops_every_command(house: House) -> None:
    house.config.write_text("[clinet]\n")
    done = house.cli("vm", "list")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"maglica: {house.config}:1: unknown section [clinet]",
        "  did you mean [client]?",
    ]


# ----------------------------------------------------------------------------- a client worker and no host


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A client worker without hosts, for tests that leave nothing behind."""
    house = House(tmp_path_factory.mktemp("alone"))
    try:
        house.start()
        yield house
    finally:
        house.close()


def test_empty_lists(alone: House) -> None:
    for noun in ("host", "job", "vm", "image"):
        done = alone.cli(noun, "list")
        assert (done.returncode, done.stderr) == (0, "")
        header, dashes = done.stdout.splitlines()
        assert set(dashes) == {"-"}
        assert len(dashes) == len(header)
        assert json.loads(alone.cli(noun, "list", "-o", "json").stdout)["items"] == []
        assert alone.cli(noun, "list", "-o", "name").stdout == ""


def test_ping_and_version(alone: House) -> None:
    tree = json.loads(alone.cli("ping", "-o", "json").stdout)
    assert [(item["name"], item["role"]) for item in tree["items"]] == [("127.0.0.1", "client worker")]
    assert 0 < tree["items"][0]["round_trip_seconds"] < 1
    done = alone.cli("version")
    assert done.stdout.splitlines()[1] == f"client worker {VERSION}, protocol 2, at 127.0.0.1"


def test_a_configured_host_that_is_down_is_named(house: House) -> None:
    house.configure("[host host9]")
    house.start()

    def states() -> list[str]:
        return [item["state"] for item in json.loads(house.cli("host", "list", "-o", "json").stdout)["items"]]

    until(lambda: states() == ["down"], 30, "host9 is down")
    done = house.cli("vm", "list")
    assert done.returncode == 10
    assert done.stderr == "maglica: host9 did not answer: has not joined; `maglica host invite host9` lets it in\n"
    tree: dict[str, Any] = json.loads(house.cli("vm", "list", "-o", "json").stdout)
    assert tree["missing_hosts"] == [{"host": "host9", "why": "has not joined; `maglica host invite host9` lets it in"}]
    done = house.cli("host", "list", "--columns=name,state,heard_seconds", "--no-headers")
    assert done.stdout.split() == ["host9", "down", "?"]


def test_host_remove_asks_first(house: House) -> None:
    house.configure("[host host9]", "[host host8]")
    house.start()
    assert house.cli("host", "remove", "host9").returncode == 2
    until(lambda: "unknown" not in house.cli("host", "list").stdout, 10, "both are down")
    with Typed(house, "host", "remove", "host9") as typed:
        typed.see(r"host remove host9\r\n  Forget a host .*Go on\? \[y/N\] ")
        typed.press("n\n")
        assert typed.end() == 1
        assert "nothing was done" in typed.text
    with Typed(house, "host", "remove", "host9") as typed:
        typed.see(r"\[y/N\] ")
        typed.press("y\n")
        assert typed.end() == 0
    done = house.cli("host", "delete", "host8", "--yes", "-o", "json")
    assert json.loads(done.stdout)["item"]["changed"] is True
    assert json.loads(house.cli("host", "list", "-o", "json").stdout)["items"] == []


def test_unknown_things_are_not_found(alone: House) -> None:
    for words in (("job", "show", "zzzz"), ("host", "info", "nope"), ("vm", "info", "nope"), ("vm", "stop", "no-*")):
        done = alone.cli(*words)
        assert (done.returncode, done.stdout) == (4, ""), words
    done = alone.cli("vm", "stop", "no-*")
    assert done.stderr.splitlines()[0] == "maglica: no VM is called like no-*"


def test_whoever_stops_reading_is_not_answered_with_a_traceback(alone: House) -> None:
    script = f"{HOME}/bin/maglica config show | head -1"
    done = subprocess.run(
        ["sh", "-c", script], env=alone.environment(), capture_output=True, text=True, timeout=10, check=False
    )
    assert done.stdout.startswith("Section")
    assert done.stderr == ""


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    ("line", "status", "said"),
    [
        ("vm list >/dev/full", 1, "maglica: cannot write the result: No space left on device\n"),
        ("vm list -o json >/dev/full", 1, "maglica: cannot write the result: No space left on device\n"),
        ("vm lst -o json >/dev/full", 2, "maglica: vm has no verb lst\n  did you mean `maglica vm list`?\n"),
        ("--help >/dev/full", 1, ""),
        ("vm list >&-", 0, ""),
        ("vm list <&-", 0, ""),
        ("vm lst 2>&-", 2, ""),
        ("vm lst 2>/dev/full", 2, ""),
        ("vm lst >&- 2>&- <&-", 2, ""),
    ],
)
def test_streams_that_are_full_or_closed(alone: House, unbuffered: str, line: str, status: int, said: str) -> None:
    done = subprocess.run(
        ["sh", "-c", f"{HOME}/bin/maglica {line}"],
        env=alone.environment(PYTHONUNBUFFERED=unbuffered), capture_output=True, text=True, timeout=10, check=False,
    )  # fmt: skip
    assert done.returncode == status
    assert done.stderr.startswith(said)
    assert "Traceback" not in done.stderr
