"""Whether guests really run here: QEMU itself is asked."""

from __future__ import annotations

import os
import platform
import shutil
import time
from pathlib import Path

import pytest

from maglica.host_worker import acceleration
from maglica.host_worker.acceleration import DEADLINE, probe, works

needs_qemu = pytest.mark.skipif(
    shutil.which("qemu-system-x86_64") is None or platform.machine() != "x86_64", reason="needs QEMU for this machine"
)


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@needs_qemu
@pytest.mark.slow
def test_a_guest_boots_under_tcg() -> None:
    """It can be said of KVM that it does not work only by somebody who would see that it does."""
    usable, why = works("tcg")
    assert usable, why
    assert why == ("a kernel booted" if acceleration.newest_kernel() else "a boot sector ran")


@needs_qemu
def test_kvm_is_tried_and_not_believed() -> None:
    """`/dev/kvm` may be missing, closed, hang, or fail: each is an answer with a reason, and none takes for ever."""
    began = time.monotonic()
    usable, why = works("kvm")
    assert time.monotonic() - began < DEADLINE + 10
    if not os.path.exists("/dev/kvm"):
        assert (usable, why) == (False, "/dev/kvm does not exist")
    elif not os.access("/dev/kvm", os.R_OK | os.W_OK):
        assert (usable, why) == (False, "/dev/kvm cannot be opened")
    elif not usable:
        assert "a guest hangs" in why or "a guest does not run" in why
    assert "\n" not in why


def test_without_qemu_nothing_works_and_nothing_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    if platform.machine() == "x86_64":
        assert works("tcg") == (False, "cannot run qemu-system-x86_64: No such file or directory")


@needs_qemu
def test_a_qemu_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "qemu-system-x86_64"
    program.write_text("#!/bin/sh\necho first >&2; echo 'no such accelerator' >&2; exit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert works("tcg") == (False, "a guest does not run: QEMU ended with status 1: no such accelerator")
    program.write_text("#!/bin/sh\nexit 0\n")  # it ended well, and no guest was seen
    assert works("tcg") == (False, "a guest does not run: QEMU ended with status 0: it said nothing")


# ---------------------------------------------------------------------------------------------- the cache


@pytest.mark.parametrize("wanted", ["kvm", "tcg"])
def test_a_setting_is_taken_at_its_word(tmp_path: Path, wanted: str) -> None:
    cache = tmp_path / "acceleration"
    assert probe(wanted, str(cache)) == (wanted, "as [host_worker] acceleration says")
    assert not cache.exists()


def test_an_answer_is_good_until_the_machine_boots_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no QEMU: a new probe would say so
    cache = tmp_path / "acceleration"
    cache.write_text(f"{boot_id()}\nkvm\na kernel booted")
    assert probe("auto", str(cache)) == ("kvm", "a kernel booted")
    cache.write_text("00000000-0000-0000-0000-000000000000\nkvm\na kernel booted")
    found, why = probe("auto", str(cache))
    assert found == "tcg"
    assert why.startswith("KVM does not work here: ")
    assert why.endswith("; guests are emulated")
    assert cache.read_text() == f"{boot_id()}\ntcg\n{why}", "kept for the next time"
    assert probe("auto", str(cache)) == (found, why)


@pytest.mark.parametrize("text", ["", "x", "{boot}\nkvm", "{boot}\nwarp\nsaid so", "{boot}\n\n\n"])
def test_a_cache_that_makes_no_sense_is_probed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    cache = tmp_path / "acceleration"
    cache.write_text(text.format(boot=boot_id()))
    assert probe("auto", str(cache))[0] == "tcg"


def test_a_cache_that_cannot_be_written_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert probe("auto", str(tmp_path / "nowhere" / "acceleration"))[0] == "tcg"
