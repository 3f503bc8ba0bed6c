"""ssh host keys, made by this host's ssh-keygen: no code of the guest runs."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from maglica.errors import Failed, Refused
from maglica.host_worker.guest.model import MakeHostKeys, WriteFile

TIMEOUT = 60.0
"""Seconds for one pair. An RSA key takes half a second, now and then two."""

HINT = "install openssh-client (Debian, Ubuntu) or openssh (RHEL, Fedora)"


class HostKeys:
    """Pairs that are made side by side, and may be begun before it is certain that they are wanted."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(3, "host-key")
        self._pairs: dict[tuple[str, str], Future[list[WriteFile]]] = {}

    def __enter__(self) -> HostKeys:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pool.shutdown(cancel_futures=True)

    def begin(self, kinds: Iterable[str], comment: str) -> None:
        for kind in kinds:
            if (kind, comment) not in self._pairs:
                self._pairs[kind, comment] = self._pool.submit(pair, kind, comment)

    def made(self, edit: MakeHostKeys) -> list[WriteFile]:
        """The files of all that an edit asks for."""
        self.begin(edit.kinds, edit.comment)
        return [file for kind in edit.kinds for file in self._pairs[kind, edit.comment].result()]


def pair(kind: str, comment: str) -> list[WriteFile]:
    """A new pair of keys. PEM where it exists: OpenSSH before 6.5 reads nothing else."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("LIBGUESTFS_TMPDIR")) as folder:
        name = f"ssh_host_{kind}_key"
        form = [] if kind == "ed25519" else ["-m", "PEM"]
        target = Path(folder, name)
        _ssh_keygen(["-q", "-t", kind, *form, "-N", "", "-C", comment, "-f", str(target)])
        private, public = target.read_text(), Path(folder, f"{name}.pub").read_text()
    return [WriteFile(f"/etc/ssh/{name}", private, 0o600), WriteFile(f"/etc/ssh/{name}.pub", public, 0o644)]


def _ssh_keygen(arguments: list[str]) -> None:
    """Not by `commands`: it must stay in this process' group, which ends as a whole when the job is cancelled."""
    try:
        subprocess.run(
            ["ssh-keygen", *arguments], check=True, timeout=TIMEOUT, stdin=subprocess.DEVNULL, capture_output=True,
            text=True,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise Refused("environment_error", "ssh-keygen is missing, cannot make ssh host keys", HINT) from error
    except subprocess.TimeoutExpired as error:
        raise Failed("timeout", f"ssh-keygen took longer than {TIMEOUT:g} s") from error
    except subprocess.CalledProcessError as error:
        raise Failed("environment_error", f"ssh-keygen ended with {error.returncode}: {error.stderr[-300:]}") from error
