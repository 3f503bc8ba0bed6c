"""A lab of real hypervisors for a measurement, and gone afterwards. Needs root and what the lab needs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import maglica
from bench.world import HOME
from maglica.nouns import Cloud

POOL = "/var/lib/libvirt/images"


class Lab(NamedTuple):
    """A lab and its cloud."""

    name: str
    cloud: Cloud

    def on(self, host: str, script: str) -> str:
        """Run a shell script inside a host; its stdout."""
        return _run("lab/enter", f"--name={self.name}", host, "sh", "-ec", script)

    def set_on(self, host: str, key: str, value: str) -> None:
        """Change a setting of one host's worker, and start it anew."""
        file = _folder(self.name) / host / "worker" / "maglica.conf"
        file.write_text(file.read_text().replace("[host_worker]\n", f"[host_worker]\n{key} = {value}\n"))
        _run("lab/daemon", f"--name={self.name}", "restart", host)

    def image(self, kind: str) -> str:
        """The name of an image: the real one is called after the release that it is built on."""
        return next(name for found in self.cloud.image.list() if (name := str(found["name"])).startswith(kind))


@contextmanager
def lab(hosts: int, image: str, *settings: str) -> Iterator[Lab]:
    """`settings` as `lab/up --set` takes them."""
    name = f"bench{os.getpid() % 10000}"
    _run("lab/up", f"--name={name}", f"--hosts={hosts}", f"--image={image}", *(f"--set={one}" for one in settings))
    try:
        with maglica.connect(config_file=str(config(name))) as cloud:
            yield Lab(name, cloud)
    finally:
        _run("lab/down", f"--name={name}")


def config(name: str) -> Path:
    """The settings file of a lab's client."""
    return _folder(name) / "maglica.conf"


def _folder(name: str) -> Path:
    return Path(os.environ.get("MAGLICA_LAB_DIR") or "/var/tmp/maglica-lab") / name


def _run(command: str, *words: str) -> str:
    argv = [str(HOME / command), *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=3600)
    if done.returncode:
        raise SystemExit(f"{' '.join(argv)}: {done.stdout}{done.stderr}")
    return done.stdout
