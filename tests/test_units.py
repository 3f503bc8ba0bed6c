"""The systemd units, judged by systemd's own tool."""

from __future__ import annotations

import configparser
import shutil
import subprocess

import pytest

from maglica import kinds
from maglica.config import ClientSection, HostWorkerSection
from tests.daemons import HOME

UNITS = {"client": 30, "host": 50}  # exposure, times ten, that systemd's tool may find at most

systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")


def unit(name: str) -> configparser.ConfigParser:
    found = configparser.ConfigParser(interpolation=None, strict=False, delimiters=("=",))
    found.optionxform = str  # type: ignore[assignment,method-assign]
    found.read(HOME / "etc" / f"maglica-{name}-worker.service")
    return found


@systemd
@pytest.mark.parametrize("name", UNITS)
def test_the_unit_is_as_closed_as_is_promised(name: str) -> None:
    run = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", f"--threshold={UNITS[name]}",
         HOME / "etc" / f"maglica-{name}-worker.service"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout.splitlines()[-1:]


@systemd
@pytest.mark.parametrize("name", UNITS)
def test_systemd_understands_every_line(name: str) -> None:
    run = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no",
         HOME / "etc" / f"maglica-{name}-worker.service"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    said = [line for line in run.stderr.splitlines() if "maglica" in line and "is not executable" not in line]
    assert said == []


@pytest.mark.parametrize("name", UNITS)
def test_the_loop_feeds_the_watchdog_and_a_hup_reloads(name: str) -> None:
    service = unit(name)["Service"]
    assert service["Type"] == "notify"
    assert float(service["WatchdogSec"]) >= 10
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert service["ExecStart"] == f"/usr/bin/maglica_{name}_worker"


def test_guests_outlive_their_host_worker() -> None:
    """They belong to libvirt; what we started ends with us, after it was asked to."""
    service = unit("host")["Service"]
    assert service["KillMode"] == "mixed"
    assert float(service["TimeoutStopSec"]) > HostWorkerSection().stop_grace + 10


def test_the_guard_acts_before_systemd_does() -> None:
    service = unit("client")["Service"]
    assert kinds.SIZE.check(service["MemoryMax"]) == ClientSection().memory_limit
    assert int(service["LimitNOFILE"]) >= 65536


def test_what_libzmq_and_libguestfs_cannot_do_without_is_left_to_them() -> None:
    """Seen under systemd 252: libzmq aborts when it may not set its threads' policy, and supermin ends with 1 when
    /usr/lib/modules is hidden."""
    filters = [
        line.removeprefix("SystemCallFilter=")
        for line in (HOME / "etc" / "maglica-client-worker.service").read_text().splitlines()
        if line.startswith("SystemCallFilter=")
    ]
    assert filters[0] == "@system-service", "the first one says that it is a list of what is allowed"
    assert filters[-1] == "sched_setscheduler", "after the list that takes @resources away"
    host = unit("host")["Service"]
    assert "ProtectKernelModules" not in host
    text = (HOME / "etc" / "maglica-host-worker.service").read_text()
    left = [line for line in text.splitlines() if line.startswith("CapabilityBoundingSet=")]
    assert left
    assert not any("CAP_SYS_MODULE" in line for line in left)
    for word in ("CAP_SYS_ADMIN", "CAP_IPC_LOCK", "ExecStartPre=+-/sbin/modprobe"):
        assert word in text, "tests/lab/test_thin.py shows that LVM works with these"
