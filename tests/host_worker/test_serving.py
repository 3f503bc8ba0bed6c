"""A disk served to one other host: by TLS with a key for this once, for as long as somebody asks for it."""

from __future__ import annotations

import os
import random
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from maglica.errors import MaglicaError, Refused
from maglica.host_worker.image import nbd, serving
from maglica.host_worker.image.serving import Serving
from tests.waiting import until


class Shop:
    """A disk, and a worker that serves it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.disk = folder / "disk.raw"
        self.disk.write_bytes(random.Random(1).randbytes(1 << 20) + bytes(4 << 20))
        self.keys = folder / "t"
        self.keys.mkdir()
        self.serving = Serving("")

    def serve(self, job: str = "job1", ports: str = "25560-25579") -> dict[str, Any]:
        return self.serving.serve(
            job, "vda", str(self.disk), "raw", folder=str(self.keys), address="127.0.0.1", ports=ports
        )

    def digest(self) -> str:
        return str(until(lambda: self.serve()["digest"], 30, "a checksum"))

    def fetch(self, told: dict[str, Any], *, secret: str = "", tls: bool = True) -> subprocess.CompletedProcess[str]:
        """What another host would do."""
        own = self.folder / "client"
        own.mkdir(exist_ok=True)
        (own / "keys.psk").write_text(f"{told['user']}:{secret or told['secret']}\n")
        credentials = f"tls-creds-psk,id=tls0,endpoint=client,dir={own},username={told['user']}"
        source = f"driver=nbd,host=127.0.0.1,port={told['port']},export=disk" + (",tls-creds=tls0" if tls else "")
        argv = ["qemu-img", "convert", "--object", credentials, "--image-opts", source, "-O", "raw"]
        argv.append(str(self.folder / "got"))
        return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    found = Shop(tmp_path)
    yield found
    found.serving.close()
    # Whoever reads for a checksum hears of it with the next piece.
    until(lambda: not list(found.keys.iterdir()), 15, "no keys and no sockets are left")


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_the_one_with_the_key_gets_the_disk_and_then_it_is_over(shop: Shop) -> None:
    told = shop.serve()
    assert shop.serve() | {"digest": None} == told | {"digest": None}, "asked again, it is the same server"
    (key,) = shop.keys.glob("*/keys.psk")
    assert key.stat().st_mode & 0o777 == 0o600
    assert told["secret"] not in subprocess.run(["ps", "axww"], capture_output=True, text=True, check=True).stdout
    fetched = shop.fetch(told)
    assert fetched.returncode == 0, fetched.stderr
    assert (shop.folder / "got").read_bytes() == shop.disk.read_bytes()
    until(lambda: not listens(told["port"]), 10, "it has ended by itself")
    assert shop.digest() == nbd.digest(str(shop.disk), "raw", folder=str(shop.folder), mark="", timeout=60)


def test_nobody_else_gets_it(shop: Shop) -> None:
    told = shop.serve()
    for more in ({"secret": "0" * 64}, {"tls": False}):
        refused = shop.fetch(told, **more)  # type: ignore[arg-type]
        assert refused.returncode == 1
        assert not (shop.folder / "got").exists()
    silent = socket.create_connection(("127.0.0.1", told["port"]))  # says nothing, and is in nobody's way
    assert shop.fetch(told).returncode == 0
    silent.close()


def test_what_nobody_asks_for_any_more_ends(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "LEASE", 1.5)
    told = shop.serve()
    assert listens(told["port"])
    until(lambda: not listens(told["port"]), 20, "the lease ends")
    until(lambda: not list(shop.keys.iterdir()), 10, "nothing is left")


def test_a_job_that_is_over_lets_go_of_all_its_disks(shop: Shop) -> None:
    one, other = shop.serve("job1"), shop.serve("job2")
    shop.serving.release("job1")
    until(lambda: not listens(one["port"]), 20, "it was let go")
    assert listens(other["port"])


def test_ports_are_taken_from_the_range_and_run_out(shop: Shop) -> None:
    first = shop.serve("job1", "25590-25591")["port"]
    second = shop.serve("job2", "25590-25591")["port"]
    assert {first, second} == {25590, 25591}
    with pytest.raises(Refused, match="none of the ports 25590-25591 is free"):
        shop.serve("job3", "25590-25591")


def test_a_disk_that_cannot_be_opened_is_told(shop: Shop) -> None:
    os.unlink(shop.disk)
    with pytest.raises(MaglicaError, match="No such file"):
        shop.serve()


def test_the_address_is_that_which_the_client_worker_sees() -> None:
    assert serving.own_address("127.0.0.1") == "127.0.0.1"
