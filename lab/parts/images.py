"""The images of the lab: built once into the cache, copied into each host's pool, defined as inactive domains."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from . import cloud, debian, definitions, host, kernel, tiny
from .names import Host, Lab, cache_folder
from .shell import LabError

POOL = "/var/lib/libvirt/images"
TINY_SOURCES = ("cpio", "disk", "kernel", "tiny")
DEBIAN_SOURCES = ("cpio", "disk", "kernel", "debian")
CLOUD_SOURCES = (*DEBIAN_SOURCES, "cloud")
UNUSED = 7 * 86400.0  # seconds; a checkout beside this one, with another builder, keeps what it uses
Builder = Callable[[Path, Path], None]  # (the qcow2 to make, the cache folder)


@dataclass(frozen=True)
class Disk:
    """One disk of an image. It is built anew when `inputs` or the builder's source has changed."""

    suffix: str
    build: Builder
    sources: Sequence[str]
    inputs: Callable[[Path], str]


@dataclass(frozen=True)
class Image:
    """An image: the name of its domain and what that domain consists of."""

    domain: str
    memory_mib: int
    vcpus: int
    disks: Sequence[Disk]
    agent: bool = False  # whether it has a channel for QEMU's guest agent
    machine: str = "pc"  # QEMU's: another one has other buses


def known() -> dict[str, Image]:
    """All images by the word that selects them."""
    return {
        "tiny": Image("tiny.original", 192, 1, [Disk("", tiny.build, TINY_SOURCES, _kernel_version)]),
        "multi": Image(
            "multi.original",
            192,
            1,
            [
                Disk("", lambda target, cache: tiny.build(target, cache, data=True), TINY_SOURCES, _kernel_version),
                Disk("-data", lambda target, cache: tiny.build_data(target), TINY_SOURCES, lambda cache: ""),
            ],
        ),
        "debian": Image(
            debian.image_name(), 256, 1, [Disk("", debian.build, DEBIAN_SOURCES, debian.inputs)], agent=True
        ),
        "cloud": Image(
            debian.image_name().replace(".original", "-cloud.original"),
            256,
            1,
            [Disk("", _build_cloud, CLOUD_SOURCES, debian.inputs)],
            agent=True,
            machine="q35",
        ),
    }


def _build_cloud(target: Path, cache: Path) -> None:
    cloud.build(target, cache, built("debian")[0])


def chosen(word: str) -> Image:
    """The image of that word; LabError names those that exist."""
    images = known()
    if word not in images:
        raise LabError(f"there is no image '{word}'; the lab can build: {', '.join(images)}", 2)
    return images[word]


def _kernel_version(cache: Path) -> str:
    return kernel.find(cache).version


def _fingerprint(disk: Disk, cache: Path) -> str:
    """Changes with everything that a built disk depends on: the builders' own text, and the disk's inputs."""
    folder = Path(__file__).parent
    text = disk.inputs(cache).encode()
    for name in disk.sources:
        text += (folder / f"{name}.py").read_bytes()
    return hashlib.sha256(text).hexdigest()[:10]


def built(word: str) -> list[Path]:
    """The image's disks in the cache, built first where they are missing or out of date."""
    return [_cached(disk, f"{word}{disk.suffix}", "qcow2") for disk in chosen(word).disks]


def archive() -> Path:
    """The archive of the Debian image's root file system in the cache, built first where it is missing."""
    return _cached(Disk("", debian.build_archive, DEBIAN_SOURCES, debian.inputs), "archive", "tar.gz")


def _cached(disk: Disk, stem: str, ending: str) -> Path:
    cache = cache_folder()
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LabError(f"the folder {cache} cannot be made ({error}); set MAGLICA_LAB_CACHE to another one") from None
    path = cache / f"{stem}-{_fingerprint(disk, cache)}.{ending}"
    if not path.exists():
        _build(disk, path, cache, stem)
    os.utime(path)  # it is in use
    return path


def _build(disk: Disk, path: Path, cache: Path, stem: str) -> None:
    """Build into a file of another name first: two labs may do so at once, and a half-built image is never used."""
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        disk.build(partial, cache)
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)
    for old in cache.glob(f"{stem}-??????????{''.join(path.suffixes)}"):
        with suppress(FileNotFoundError):  # somebody else tidies up as well
            if old != path and time.time() - old.stat().st_mtime > UNUSED:
                old.unlink()


def install(lab: Lab, target: Host, word: str) -> None:
    """Copy the image's disks into the host's pool and define its domain; LabError when the host has it already."""
    image = chosen(word)
    if image.domain in host.virsh(lab, target, "list --all --name").split():
        raise LabError(f"{target.name} has a domain '{image.domain}' already")
    paths = []
    for disk, source in zip(image.disks, built(word), strict=True):
        name = f"{image.domain}{disk.suffix}.qcow2"
        host.run_inside(
            lab, target, "cp", "--reflink=auto", "--sparse=always", str(source), f"{POOL}/{name}", limit=600
        )
        paths.append(f"{POOL}/{name}")
    xml = definitions.domain(
        image.domain, image.memory_mib, image.vcpus, paths, agent=image.agent, machine=image.machine
    )
    host.define(lab, target, "", image.domain, xml)
    host.virsh(lab, target, "pool-refresh default")
