"""Running a command in a guest: begun, looked at until it has ended, ended when it takes too long.

libvirt takes no answer of an agent beyond 4 MiB, and after one beyond 10 MiB the agent of that guest is lost to it
until it is started anew (QEMU_AGENT_MAX_RESPONSE). So a shell in the guest passes on no more of what a command prints
than was asked for, and reads and drops the rest: the command does not notice.
"""

from __future__ import annotations

import base64
import shlex
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from maglica.errors import Failed, MaglicaError
from maglica.host_worker.hypervisor import Hypervisor

WITHIN = 5  # seconds that an agent has for a word
PAUSES = (0.02, 0.05, 0.1, 0.25, 0.5, 1.0)  # seconds between two looks: the longer it lasts, the fewer
SILENT = 20.0  # seconds that an agent may be away in the middle: it may be restarted, libvirtd too
ENDS_WITHIN = 10.0  # seconds that a command has to end in when it was told to
QUICK = 30.0  # seconds that a command of our own may take
KILL_AFTER = 3  # seconds between being asked to end and being ended
MOST_STATUS = 255  # that a program of POSIX ends with
SHELL = ["/bin/sh", "-c"]  # what a line is given to
NAMES = ("guest-exec", "guest-exec-status")

# A session of its own, so that all that it starts can be ended.
SESSION = 'if command -v setsid >/dev/null 2>&1; then exec setsid /bin/sh -c "$@"; fi; exec /bin/sh -c "$@"'

# $1: how many bytes of each stream are passed on; then the command. 8 and 9 are our own stdout and stderr, 7 leads to
# the filter of stderr, 6 takes the exit status. `env` finds programs only: a word is never the shell's own. The filters
# outlive what is asked to end, and pass on what it had printed.
BOUNDED = """n=$1; shift
pass() { trap '' TERM; head -c "$n"; exec cat >/dev/null; }
exec 8>&1 9>&2
status=$({ { { env -- "$@" 6>&- 7>&- 8>&- 9>&-; echo $? >&6; } 2>&7 | pass >&8 6>&- 7>&- 9>&-; } 7>&1 |
pass >&9 6>&- 8>&-; } 6>&1)
exit "$status"
"""
END = f"""end() {{ kill -s "$1" -- "-$2" 2>/dev/null || kill -s "$1" "$2" 2>/dev/null; }}
end TERM "$1"; sleep {KILL_AFTER}; end KILL "$1"; :
"""


class Ran(NamedTuple):
    """A command that has ended. `status`: as a shell tells it, 128 and the signal's number for one that a signal ended.
    `cut`: it printed more than is here.
    """

    status: int
    stdout: bytes
    stderr: bytes
    cut: bool = False


def wrapped(argv: Sequence[str], most: int) -> list[str]:
    """The command as the guest's agent is to run it, passing on at most `most` bytes of each stream, and one more."""
    return ["/bin/sh", "-c", SESSION, "sh", BOUNDED, "maglica", str(most + 1), *argv]


def shown(argv: Sequence[str]) -> str:
    """A command as it would be typed, for people; no longer than a line."""
    line = argv[2] if argv[:2] == SHELL else shlex.join(argv)
    text = " ".join(line.split())
    return text if len(text) <= 60 else text[:59] + "…"


def read(told: dict[str, Any], most: int) -> Ran | None:
    """What an agent told of a command; None while it runs."""
    if not told.get("exited"):
        return None
    status = int(told["exitcode"]) if "exitcode" in told else 128 + int(told.get("signal", 0))
    status = status if 0 <= status <= MOST_STATUS else 1  # an agent may say anything, and 256 would look like 0
    out, err = (base64.b64decode(told.get(name) or "") for name in ("out-data", "err-data"))
    cut = max(len(out), len(err)) > most or bool(told.get("out-truncated") or told.get("err-truncated"))
    return Ran(status, out[:most], err[:most], cut)


def begin(hypervisor: Hypervisor, name: str, argv: Sequence[str], most: int, stdin: str | None = None) -> int:
    """Start a command; its process id in the guest. `stdin`: what it may read, base64."""
    path, *rest = wrapped(argv, most)
    more = {"input_data": stdin} if stdin else {}
    told = hypervisor.agent_order(name, "guest-exec", WITHIN, path=path, arg=rest, capture_output=True, **more)
    return int(told["pid"])


class Overdue(Failed):
    """It took longer than it may. `ran`: how it ended then; None when nobody knows."""

    ran: Ran | None = None


def finish(
    hypervisor: Hypervisor, name: str, pid: int, most: int, within: float, *, stop: Callable[[], str] = lambda: ""
) -> Ran:
    """Wait for a command's end. After `within` seconds it is ended, and `Overdue` is raised; also as soon as `stop`
    gives a reason, which is a code of errors.

    Raises `Failed` when the guest or its agent has gone.
    """
    began = time.monotonic()
    while True:
        ran = _look(hypervisor, name, pid, most)
        if ran:
            return ran
        taken = time.monotonic() - began
        why = stop() or ("timeout" if taken >= within else "")
        if why:
            raise _overdue(hypervisor, name, pid, most, why, within)
        time.sleep(min(PAUSES[min(int(taken * 2), len(PAUSES) - 1)], max(0.0, within - taken)))


def _overdue(hypervisor: Hypervisor, name: str, pid: int, most: int, why: str, within: float) -> Overdue:
    ran = _end(hypervisor, name, pid, most)
    became = "it was ended" if ran else "it was told to end and has not; it may still run there"
    text = "the job was cancelled" if why == "cancelled" else f"the command took longer than {within:g} s in {name}"
    error = Overdue(
        "cancelled" if why == "cancelled" else "environment_error", f"{text}: {became}",
        "" if why == "cancelled" else "give it more --timeout",
    )  # fmt: skip
    error.ran = ran
    return error


def _look(hypervisor: Hypervisor, name: str, pid: int, most: int) -> Ran | None:
    """How a command stands. An answer is given once: what it says of a command that has ended is forgotten with it."""
    since = time.monotonic()
    while True:
        try:
            return read(hypervisor.agent(name, "guest-exec-status", WITHIN, pid=pid), most)
        except MaglicaError as error:
            state = hypervisor.state(name)
            gone = state not in ("running", "idle", "paused")
            known = not any(
                word in error.message for word in ("'pid'", "PID ")
            )  # it was started anew, and knows of nothing before that
            if gone or not known or time.monotonic() - since > SILENT:
                what = f"{name} is {state}" if gone else error.message.removeprefix("libvirt: ")
                raise Failed(
                    "environment_error", f"what became of the command nobody can tell: {what}",
                    "it was begun; look in the guest whether it has done what it should",
                ) from None  # fmt: skip
            time.sleep(1.0)


def _end(hypervisor: Hypervisor, name: str, pid: int, most: int) -> Ran | None:
    """End a command and all that it started; how it ended."""
    try:
        hypervisor.agent_order(name, "guest-exec", WITHIN, path="/bin/sh", arg=["-c", END, "sh", str(pid)])
        until = time.monotonic() + ENDS_WITHIN
        while time.monotonic() < until:
            ran = _look(hypervisor, name, pid, most)
            if ran:
                return ran
            time.sleep(0.2)
    except MaglicaError:
        pass  # the guest went with it, or its agent: what is told is that nobody knows
    return None


def run(hypervisor: Hypervisor, name: str, script: str, *words: str) -> Ran:
    """Run a short shell script of our own, with these words as $1 and so on."""
    most = 64 << 10
    pid = begin(hypervisor, name, ["/bin/sh", "-c", script, "sh", *words], most)
    return finish(hypervisor, name, pid, most, QUICK)
