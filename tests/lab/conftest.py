"""A lab of two real hosts, up for all tests of this folder, and words to deal with it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import maglica
from maglica.nouns import Cloud
from tests import waiting

HOME = Path(__file__).resolve().parents[2]
NAME = os.environ.get("MAGLICA_LAB_NAME") or "test"  # two suites on one machine: each its own lab


class Lab:
    """The lab as a person sees it: its own commands, and a cloud."""

    def __init__(self, name: str = NAME) -> None:
        self.name = name
        self.config = str(Path(os.environ.get("MAGLICA_LAB_DIR", "/var/tmp/maglica-lab")) / name / "maglica.conf")

    def __call__(self, command: str, *words: str, timeout: float = 120.0) -> str:
        """Run one of the lab's commands; its stdout."""
        argv = [str(HOME / "lab" / command), f"--name={self.name}", *words]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout, check=False)
        assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
        return done.stdout

    def on(self, host: str, script: str, *, check: bool = True) -> str:
        """Run a shell script inside a host; its stdout."""
        argv = [str(HOME / "lab" / "enter"), f"--name={self.name}", host, "sh", "-c", script]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=180, check=False)
        assert not check or done.returncode == 0, f"{script}: {done.stdout}{done.stderr}"
        return done.stdout

    def daemon(self, what: str, which: str) -> None:
        self("daemon", what, which)

    def files(self, host: str) -> set[str]:
        """The names in the host's pool."""
        return set(self.on(host, "ls /var/lib/libvirt/images").split())

    def domains(self, host: str) -> set[str]:
        return set(self.on(host, "virsh list --all --name").split())

    def helpers(self, host: str) -> str:
        """Processes of ours at work in the host: copies, appliances, customising children."""
        return self.on(host, "ps -eo pid,args | grep -E 'qemu-img|guest.child|guestfs' | grep -v grep", check=False)

    def console(self, host: str, vm: str, text: str, timeout: float) -> str:
        """Wait until the guest's serial console shows a text; the console."""
        script = f"cat $(virsh dumpxml {vm} | sed -n \"s/.*<log file='\\([^']*\\)'.*/\\1/p\" | head -1)"
        return until(lambda: (found := self.on(host, script, check=False)) and text in found and found, timeout, text)

    def cli(self, *words: str, timeout: float = 120.0) -> subprocess.CompletedProcess[str]:
        """Run the command line against this lab."""
        environment = {**os.environ, "MAGLICA_CONFIG": self.config}
        argv = [str(HOME / "bin" / "maglica"), *words]
        return subprocess.run(
            argv,
            capture_output=True,
            text=True,
            env=environment,
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
        )


def until(question: Callable[[], Any], timeout: float, what: str) -> Any:
    """Ask until the answer is true; the answer. Each question starts processes, so there is a pause between them."""
    return waiting.until(question, timeout, what, pause=0.2)


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """Two hosts with tiny.original and the image of two disks."""
    found = Lab()
    found("down")
    # `clean` expects that no appliance is left; who tests warm ones allows them.
    found("up", "--hosts=2", "--image=tiny", "--set=host_worker.warm_appliances=0", timeout=600)
    try:
        yield found
    finally:
        found("down")


@pytest.fixture(scope="session")
def debian(lab: Lab) -> str:
    """The name of the Debian image, which host1 holds from now on; called after the release that it is built on."""
    before = lab.domains("host1")
    lab("add-image", "debian", "host1", timeout=800)
    return next(iter(lab.domains("host1") - before))


@pytest.fixture
def cloud(lab: Lab) -> Iterator[Cloud]:
    with maglica.connect(config_file=lab.config) as cloud:
        until(
            lambda: all(host["state"] == "up" and host["libvirt"] == "ok" for host in cloud.host.list()), 30, "hosts up"
        )
        yield cloud


@pytest.fixture
def clean(lab: Lab, cloud: Cloud) -> Iterator[dict[str, tuple[set[str], set[str]]]]:
    """What every host had before; afterwards it must have just that again."""
    before = {host: (lab.files(host), lab.domains(host)) for host in ("host1", "host2")}
    yield before
    until(
        lambda: {host: (lab.files(host), lab.domains(host)) for host in before} == before, 15,
        f"as before: {before}",
    )  # fmt: skip
    for host in before:
        assert lab.helpers(host) == ""
