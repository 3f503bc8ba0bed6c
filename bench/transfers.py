"""What it costs that images travel encrypted and are compared at the end: against qemu-img alone, turn by turn."""

from __future__ import annotations

import hashlib
import random
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.figures import Figure, Pairs, compare
from maglica.host_worker.image import nbd
from maglica.host_worker.image.serving import Serving

PORTS = "27560-27579"


def transfers(mib: int, turns: int) -> Iterator[Figure]:
    """`mib`: of data on the disk; what is not data costs nothing."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        folder = Path(name)
        disk, got = folder / "disk.qcow2", folder / "got.qcow2"
        _make(folder, disk, mib)

        def pairs(ours: object, floor: object) -> Pairs:
            return compare(ours, floor, 1, turns)  # type: ignore[arg-type]

        def plainly() -> None:
            _qemu_img("convert", "-f", "qcow2", "-O", "qcow2", disk, got)

        def digest() -> None:
            nbd.digest(str(disk), "qcow2", folder=name, mark="", timeout=600)

        def sha256() -> None:
            found = hashlib.sha256()
            with disk.open("rb") as file:
                while piece := file.read(2 << 20):
                    found.update(piece)

        encrypted = pairs(lambda: _encrypted(folder, disk, got), plainly)
        unencrypted = pairs(lambda: _unencrypted(folder, disk, got), plainly)
        hashed = pairs(digest, sha256)
    yield _figure("copy by NBD over TLS", encrypted, mib, "qemu-img convert")
    yield _figure("copy by NBD in clear", unencrypted, mib, "qemu-img convert")
    yield _figure("checksum of what a guest sees", hashed, mib, "SHA-256 of the file")


def _figure(name: str, pairs: Pairs, mib: int, floor: str) -> Figure:
    note = f"{mib / pairs.ours:.0f} MiB/s, {floor} {mib / pairs.floor:.0f} MiB/s"
    return Figure(name, pairs.ratio, "x", note=note)


def _make(folder: Path, disk: Path, mib: int) -> None:
    raw = folder / "disk.raw"
    with raw.open("wb") as file:
        for _ in range(mib):
            file.write(random.randbytes(1 << 20))
        file.truncate((mib + 1024) << 20)
    _qemu_img("convert", "-f", "raw", "-O", "qcow2", raw, disk)
    raw.unlink()


def _encrypted(folder: Path, disk: Path, got: Path) -> None:
    """What `image copy` does, on one machine and without its checksums."""
    keys, own = folder / "t", folder / "own"
    keys.mkdir(exist_ok=True)
    own.mkdir(exist_ok=True)
    serving = Serving("", hashes=False)
    told = serving.serve("job", "vda", str(disk), "qcow2", folder=str(keys), address="127.0.0.1", ports=PORTS)
    (own / "keys.psk").write_text(f"{told['user']}:{told['secret']}\n")
    credentials = f"tls-creds-psk,id=tls0,endpoint=client,dir={own},username={told['user']}"
    source = f"driver=nbd,host=127.0.0.1,port={told['port']},export=disk,tls-creds=tls0"
    _qemu_img("convert", "--object", credentials, "--image-opts", source, "-O", "qcow2", got)
    serving.close()


def _unencrypted(folder: Path, disk: Path, got: Path) -> None:
    address = folder / "socket"
    server = subprocess.Popen(["qemu-nbd", "-r", "-f", "qcow2", "-k", str(address), str(disk)])
    while not address.exists():
        pass
    _qemu_img("convert", "--image-opts", f"driver=nbd,path={address}", "-O", "qcow2", got)
    server.wait(60)
    address.unlink(missing_ok=True)


def _qemu_img(*words: object) -> None:
    subprocess.run(["qemu-img", *map(str, words)], check=True, timeout=600)
