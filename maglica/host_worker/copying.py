"""A clone's disks: copied, or made as overlays, under names that hold the job's id; then given their final names."""

from __future__ import annotations

import os
import re
import shutil

from maglica.errors import Failed
from maglica.host_worker.host import Host
from maglica.host_worker.plan import ClonePlan, Copy
from maglica.host_worker.work import Work, must


def copy(todo: ClonePlan, host: Host, work: Work) -> dict[str, str]:
    """Make every disk; where each came to lie, by target."""
    if not host.hypervisor.has_files:
        return {copy.target: _copy_volume(copy, todo, host, work) for copy in todo.copies}
    total = sum(copy.allocation_bytes for copy in todo.copies)
    done = 0
    for copy in todo.copies:
        work.undo("remove_part", path=copy.part)
        if todo.mode == "linked":
            _overlay(copy, work)
        else:
            _full_copy(copy, work, done, total)
        done += copy.allocation_bytes
        work.progress(done, total)
    return {copy.target: copy.part for copy in todo.copies}


def again(todo: ClonePlan, host: Host, work: Work) -> dict[str, str]:
    """Throw away the disks that were made, and make them anew; where each came to lie."""
    for copy_ in todo.copies:
        if os.path.lexists(copy_.part):
            os.unlink(copy_.part)
    return copy(todo, host, work)


def _copy_volume(copy: Copy, todo: ClonePlan, host: Host, work: Work) -> str:
    name = os.path.basename(copy.path)
    work.undo("delete_volume", pool=todo.pool, name=name)
    return host.hypervisor.clone_volume(copy.source, todo.pool, name)


def _overlay(copy: Copy, work: Work) -> None:
    argv = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", copy.source, "-F", copy.source_format, "--", copy.part]
    must(work.run(argv), f"overlay of {copy.source}")


def _full_copy(copy: Copy, work: Work, done: int, total: int) -> None:
    """`qemu-img convert`: sparse, with progress, and ended within a second when the job is cancelled.

    Formats are always named: probing them would let a guest that wrote a qcow2 header into its raw disk read the
    host's files.
    """

    def progress(text: str) -> None:
        found = re.findall(r"\((\d+\.\d+)/100%\)", text)
        if found:
            work.progress(done + int(float(found[-1]) / 100 * copy.allocation_bytes), total)

    argv = ["qemu-img", "convert", "-p", "-f", copy.source_format, "-O", copy.format, "--", copy.source, copy.part]
    must(work.run(argv, on_output=progress), f"copy of {copy.source}")


def name(todo: ClonePlan, host: Host, work: Work) -> None:
    """Give the files their final names. A hard link fails where a rename would replace somebody else's file."""
    if not host.hypervisor.has_files:
        return
    if todo.nvram and os.path.exists(todo.nvram[0]):
        _copy_nvram(todo.nvram[0], todo.nvram[1], todo.job, work)
    for copy in todo.copies:
        link(copy.part, copy.path, work)


def _copy_nvram(source: str, path: str, job: str, work: Work) -> None:
    part = f"{path}.{job}.part"
    work.undo("remove_part", path=part)
    shutil.copyfile(source, part)
    link(part, path, work)


def link(part: str, path: str, work: Work) -> None:
    work.undo("remove_file", path=path, inode=os.stat(part).st_ino)
    try:
        os.link(part, path)
    except FileExistsError:
        raise Failed("already_exists", f"the file {path} appeared meanwhile", "choose another --hostname") from None
    except OSError as error:
        raise Failed("environment_error", f"cannot name {path}: {error.strerror}") from None
    os.unlink(part)
