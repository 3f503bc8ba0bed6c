"""Twenty clones by one command against what people do today: a loop of virt-clone and virt-customize.

Both on one host of a lab, of the same image, with the same wishes: a host name, an empty machine-id, no ssh host keys
of the image, an authorised key; verified in the disk by ours alone. Needs root and what the lab needs.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from bench.figures import Figure, timed

HOME = Path(__file__).resolve().parents[1]
NAME = os.environ.get("MAGLICA_LAB_NAME") or "bench"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFmEh9BTZ4yTnQv7rUR2bRyHsB3UhWWSAvpbxFXkMRXe somebody@example.jp"
POOL = "/var/lib/libvirt/images"

CLONES = 20
LOOPS = 2  # clones of the loop that are measured; each takes as long as the other


def many() -> Iterator[Figure]:
    """One command for twenty clones of Debian, then each half of it again while its appliance is warm."""
    _lab("down")
    _lab("up", "--hosts=1", "--image=debian", "--set=host_worker.slots_disk=2")
    try:
        image = next(word for word in _on_host("virsh list --all --name").split() if word.endswith(".original"))
        yield from _measured(image)
    finally:
        _lab("down")


def _measured(image: str) -> Iterator[Figure]:
    loop = []
    for number in range(LOOPS):
        loop.append(timed(lambda: _by_hand(image, f"hand{number}")))  # noqa: B023 - called at once
        _on_host(f"virsh undefine hand{number} --remove-all-storage")
    each = sum(loop) / len(loop)
    cold = timed(lambda: _by_maglica(image, "cold{n}", CLONES))
    _maglica("vm", "remove", "cold*", "--yes", "-q")
    warm = timed(lambda: _by_maglica(image, "warm{n}", CLONES))
    _maglica("vm", "remove", "warm*", "--yes", "-q")
    note = f"{{:.1f}} s, a clone of the loop {each:.1f} s ({LOOPS} measured: {', '.join(f'{one:.1f}' for one in loop)})"
    yield Figure(
        f"{CLONES} clones by one command, no appliance yet", CLONES * each / cold, "x", 15.0, True, note.format(cold)
    )
    yield Figure(f"{CLONES} clones by one command, warm", CLONES * each / warm, "x", 15.0, True, note.format(warm))


def _by_hand(image: str, name: str) -> None:
    _on_host(
        f"virt-clone --quiet --original {image} --name {name} --file {POOL}/{name}.qcow2"
        f" && virt-customize --quiet -a {POOL}/{name}.qcow2 --hostname {name} --truncate /etc/machine-id"
        f" --delete '/etc/ssh/ssh_host_*' --run-command 'ssh-keygen -A' --ssh-inject 'root:string:{KEY}'"
    )


def _by_maglica(image: str, pattern: str, count: int) -> None:
    folder = Path(f"/tmp/maglica-bench-{os.getpid()}.pub")
    folder.write_text(f"{KEY}\n")
    try:
        _maglica(
            "vm", "clone", f"--image={image}", f"--count={count}", f"--hostname={pattern}", f"--ssh-key={folder}",
            "--no-start", "-q",
        )  # fmt: skip
    finally:
        folder.unlink()


def _lab(command: str, *words: str) -> str:
    return _run(str(HOME / "lab" / command), f"--name={NAME}", *words)


def _on_host(script: str) -> str:
    settings = "LIBGUESTFS_BACKEND=direct LIBGUESTFS_BACKEND_SETTINGS=force_tcg"
    return _run(str(HOME / "lab" / "enter"), f"--name={NAME}", "host1", "sh", "-c", f"export {settings}; {script}")


def _maglica(*words: str) -> str:
    folder = Path(os.environ.get("MAGLICA_LAB_DIR", "/var/tmp/maglica-lab")) / NAME
    os.environ["MAGLICA_CONFIG"] = str(folder / "maglica.conf")
    return _run(str(HOME / "bin" / "maglica"), *words)


def _run(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise SystemExit(f"{argv}: {done.stdout}{done.stderr}")
    return done.stdout
