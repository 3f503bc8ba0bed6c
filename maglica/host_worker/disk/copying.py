"""A clone's disks: made in one of four ways under names that hold the job's id; then given their final names."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from typing import NamedTuple

from maglica.errors import Failed
from maglica.host_worker.clone.plan import ClonePlan, Copy
from maglica.host_worker.disk import bases, dependants, durable, reflink, volumes
from maglica.host_worker.disk.bases import Base
from maglica.host_worker.disk.storage import Promise
from maglica.host_worker.domain import look
from maglica.host_worker.domain.look import ACTIVE
from maglica.host_worker.host import Host
from maglica.host_worker.work import Work, must


class Made(NamedTuple):
    """The disks: where each came to lie, by target; what they rest on; bytes less than a full copy takes."""

    paths: dict[str, str]
    rests_on: list[Base]
    saved_bytes: int


def copy(todo: ClonePlan, host: Host, work: Work) -> Made:
    """Make every disk. Meanwhile nobody starts, changes or removes the image, and nobody takes the same room."""
    read = [copy.source for copy in todo.copies]
    with (
        host.storage.using(read, f"{todo.name} cannot be cloned"),
        host.storage.promise(todo.pool, todo.needed_bytes, todo.free_bytes) as promise,
    ):
        if not host.hypervisor.has_files:
            return Made({copy.target: _copy_volume(copy, todo, host, work) for copy in todo.copies}, [], 0)
        rests_on = _keep(todo, host, work) if todo.mode == "linked" else []
        for number, copy in enumerate(todo.copies):
            before = sum(other.allocation_bytes for other in todo.copies[:number])
            _one(copy, todo, work, _told(todo, before, promise, work))
        for base in rests_on:
            bases.keep(base.path)  # the last of others' clones may have gone before these overlays were seen
    taken = 0 if todo.mode in ("reflink", "thin") else sum(os.stat(copy.part).st_blocks * 512 for copy in todo.copies)
    return Made({copy.target: copy.part for copy in todo.copies}, rests_on, max(0, todo.whole_bytes - taken))


def _told(todo: ClonePlan, before: int, promise: Promise, work: Work) -> Callable[[int], None]:
    """How a disk tells how many of its bytes are done, those of the disks before it being done."""

    def tell(done: int) -> None:
        if todo.mode == "full":
            promise.took(before + done)
        work.progress(before + done, todo.whole_bytes)

    return tell


def _one(copy: Copy, todo: ClonePlan, work: Work, tell: Callable[[int], None]) -> None:
    if todo.mode == "thin":
        _snapshot(copy, todo, work)
    else:
        work.undo("remove_part", path=copy.part)
        if todo.mode == "reflink":
            reflink.copy(copy.source, copy.part)
        elif todo.mode == "linked":
            _overlay(copy, work)
        else:
            _full_copy(copy, work, tell)
    tell(copy.allocation_bytes)


def again(todo: ClonePlan, host: Host, work: Work) -> dict[str, str]:
    """Throw away the disks that were made, and make them anew; where each came to lie."""
    _discard(todo, work)
    return copy(todo, host, work).paths


def _copy_volume(copy: Copy, todo: ClonePlan, host: Host, work: Work) -> str:
    name = os.path.basename(copy.path)
    work.undo("delete_volume", pool=todo.pool, name=name)
    with host.storage.pool(todo.pool):
        return host.hypervisor.clone_volume(copy.source, todo.pool, name)


def _keep(todo: ClonePlan, host: Host, work: Work) -> list[Base]:
    """Keep what the overlays will rest on from being written, and note how it is."""
    links = _links(todo)
    for link in links:
        # Also when it is kept for others already: they may be gone by the time when this one is taken back.
        work.undo("release_base", path=link)
        bases.keep(link)
    # Whoever started the image before that, by hand, writes on; whoever tries from now on may not.
    state = host.hypervisor.state(todo.image)
    if state in ACTIVE:
        raise Failed("wrong_state", f"{todo.image} is {state}", "an image has to be shut off to be cloned")
    try:
        return [bases.look(link) for link in dict.fromkeys(links)]
    except OSError as error:
        raise Failed("environment_error", f"what {todo.image} rests on cannot be read: {error}") from None


def _links(todo: ClonePlan) -> list[str]:
    """All files that the image's disks consist of."""
    return [link for copy in todo.copies for link in look.chain(copy.source, copy.source_format)]


def refuse_changed_meanwhile(made: Made) -> None:
    """Before a linked clone is defined: what it rests on is as it was when its disks were made."""
    for base in made.rests_on:
        if wrong := bases.compare(base):
            raise Failed("wrong_state", f"{base.path} {wrong}, while it was cloned", "clone it again")


def _overlay(copy: Copy, work: Work) -> None:
    argv = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", copy.source, "-F", copy.source_format, "--", copy.part]
    must(work.run(argv), f"overlay of {copy.source}")


def _snapshot(copy: Copy, todo: ClonePlan, work: Work) -> None:
    assert copy.volume is not None, "modes.py finds no thin way for anything else"
    group = copy.volume.group
    work.undo("remove_volumes", group=group, job=todo.job)
    must(
        work.run(volumes.snapshot(copy.volume, os.path.basename(copy.part), todo.job)),
        f"snapshot of {copy.source}",
    )


def _full_copy(copy: Copy, work: Work, tell: Callable[[int], None]) -> None:
    """`qemu-img convert`: sparse, with progress, and ended within a second when the job is cancelled.

    Formats are always named: probing them would let a guest that wrote a qcow2 header into its raw disk read the
    host's files.
    """
    argv = ["qemu-img", "convert", "-p", "-f", copy.source_format, "-O", copy.format, "--", copy.source, copy.part]
    must(work.run(argv, on_output=in_bytes(copy.allocation_bytes, tell)), f"copy of {copy.source}")


def in_bytes(total: int, tell: Callable[[int], None]) -> Callable[[str], None]:
    """Read what `qemu-img -p` prints, and tell it in bytes."""

    def heard(text: str) -> None:
        found = re.findall(r"\((\d+\.\d+)/100%\)", text)
        if found:
            tell(int(float(found[-1]) / 100 * total))

    return heard


def name(todo: ClonePlan, host: Host, work: Work) -> None:
    """Give the files their final names. A hard link fails where a rename would replace somebody else's file."""
    if not host.hypervisor.has_files:
        return
    if todo.nvram and os.path.exists(todo.nvram[0]):
        _copy_nvram(todo.nvram[0], todo.nvram[1], todo.job, work)
    for copy in todo.copies:
        if copy.volume is not None:
            _name_volume(copy, copy.volume.group, work)
        else:
            link(copy.part, copy.path, work)


def _name_volume(copy: Copy, group: str, work: Work) -> None:
    """LVM too refuses a name that is taken. The tag goes with the volume, and so does its removal by it."""
    must(
        work.run(volumes.rename(group, os.path.basename(copy.part), os.path.basename(copy.path))),
        f"naming {copy.path}",
    )


def forget(todo: ClonePlan, host: Host, work: Work) -> None:
    """Remove copies that were made for a while only, as for an export."""
    _discard(todo, work)
    if todo.mode == "linked":
        dependants.release(host.hypervisor, _links(todo))


def _discard(todo: ClonePlan, work: Work) -> None:
    for copy in todo.copies:
        if copy.volume is not None:
            must(work.run(volumes.remove_tagged(copy.volume.group, todo.job)), f"removal of {copy.part}")
        elif os.path.lexists(copy.part):
            os.unlink(copy.part)


def _copy_nvram(source: str, path: str, job: str, work: Work) -> None:
    part = f"{path}.{job}.part"
    work.undo("remove_part", path=part)
    shutil.copyfile(source, part)
    link(part, path, work)


def link(part: str, path: str, work: Work) -> None:
    """Give a file, whose content is on the disk by then, its final name."""
    work.undo("remove_file", path=path, inode=os.stat(part).st_ino)
    try:
        durable.content(part)
        os.link(part, path)
    except FileExistsError:
        raise Failed("already_exists", f"the file {path} appeared meanwhile", "choose another --hostname") from None
    except OSError as error:
        raise Failed("environment_error", f"cannot name {path}: {error.strerror}") from None
    os.unlink(part)
    durable.names(os.path.dirname(path))
