"""Taking back what a job made: one small function per kind of thing, each safe to call twice.

Each takes away exactly what the job made and nothing that looks like it: files by a name that holds the job's id or by
their inode, domains by their uuid.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from maglica.errors import Failed, MaglicaError, Refused
from maglica.host_worker import commands
from maglica.host_worker.device import plugging
from maglica.host_worker.disk import dependants, qcow2
from maglica.host_worker.disk import volumes as lvm
from maglica.host_worker.domain import look, saved
from maglica.host_worker.domain.settling import (
    settle_disk,
    settle_name,
    settle_renamed,
    settle_renamed_volume,
    start_again,
)
from maglica.host_worker.hypervisor import Hypervisor
from maglica.host_worker.inside import files
from maglica.host_worker.journal import Journal, Undo
from maglica.host_worker.telling import words
from maglica.host_worker.work import must

log = logging.getLogger("maglica.host_worker")

MERGED_WITHIN = 600.0  # seconds
PATIENCE = 24 * 3600.0  # seconds for which it is tried to take back what a job made, while that may succeed
MOST_WORDS = 500  # characters of an argument, or of an error, that is told
TRIES = 3  # of what does not look like that
PASSING = (errno.EAGAIN, errno.EBUSY, errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EMFILE, errno.ENFILE)


def remove_part(hypervisor: Hypervisor, path: str) -> None:
    """A file whose name holds the job's id."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def remove_file(hypervisor: Hypervisor, path: str, inode: int) -> None:
    """A file that the job gave its final name; another file of that name stays."""
    try:
        if os.stat(path).st_ino == inode:
            os.unlink(path)
    except FileNotFoundError:
        pass


def settle_removed(hypervisor: Hypervisor, path: str, original: str, uuid: str) -> None:
    """A disk that was set aside to be deleted: deleted when its domain is gone by now, put back otherwise."""
    if not os.path.exists(path):
        return
    if hypervisor.has_domain(uuid):
        _put_back(path, original)
        os.unlink(path)
        return
    _delete(hypervisor, path)


def settle_replaced(hypervisor: Hypervisor, path: str, original: str, uuid: str, job: str, new: str) -> None:
    """A file that was set aside for a new disk: deleted when that is there and the definition is the job's; put back
    otherwise."""
    if not os.path.exists(path):
        return
    mark = hypervisor.mark_of(uuid) or {}
    if mark.get("job") != job or not os.path.exists(new):
        _put_back(path, original)
        os.unlink(path)
        return
    _delete(hypervisor, path)


def halt(hypervisor: Hypervisor, uuid: str) -> None:
    """A VM that the job started on a disk that it made: it is on no other."""
    hypervisor.halt(uuid)


def _delete(hypervisor: Hypervisor, path: str) -> None:
    """A disk, and the hold that it had on what it rested on."""
    behind = look.chain(path, None)[1:] if hypervisor.has_files else []
    os.unlink(path)
    try:
        dependants.release(hypervisor, behind)
    except MaglicaError as error:  # the next start of the host worker looks for such files
        log.warning("what %s rested on stays read-only for now: %s", path, error.message)


def _put_back(path: str, original: str) -> None:
    """Give a file its old name as well; a link fails where a rename would replace somebody else's file."""
    try:
        os.link(path, original)
    except FileExistsError:
        if not os.path.samefile(path, original):
            raise


def release_base(hypervisor: Hypervisor, path: str) -> None:
    """A file that the job took the write permission of, because a clone was to rest on it."""
    dependants.release(hypervisor, [path])


def remove_volumes(hypervisor: Hypervisor, group: str, job: str) -> None:
    """The logical volumes that the job made: they bear its tag."""
    must(commands.run(lvm.remove_tagged(group, job), timeout=lvm.TIMEOUT), f"volumes in {group}")


def settle_removed_volumes(
    hypervisor: Hypervisor, group: str, job: str, uuid: str, volumes: Sequence[str] | None = None
) -> None:
    """The logical volumes that the clone job of a domain made and that it had, `volumes` by their UUIDs, when that
    domain is to be removed and gone by now. An earlier release did not note which these are: all that it made.
    """
    if hypervisor.has_domain(uuid):
        return
    if volumes:
        must(commands.run(lvm.remove_known(group, volumes), timeout=lvm.TIMEOUT), f"volumes in {group}")
    elif volumes is None and job:
        remove_volumes(hypervisor, group, job)


def delete_volume(hypervisor: Hypervisor, pool: str, name: str) -> None:
    """A volume that libvirt made for the job."""
    hypervisor.delete_volume(pool, name)


def abort_block_job(hypervisor: Hypervisor, uuid: str, target: str) -> None:
    """A copy into a disk of a running domain that the job began."""
    hypervisor.abort_block_job(uuid, target)


def undefine(hypervisor: Hypervisor, uuid: str) -> None:
    """A domain that the job defined; it is destroyed first when it runs."""
    hypervisor.discard(uuid)


def forget(hypervisor: Hypervisor, uuid: str) -> None:
    """A domain that the job defined, on files that were there before: none of them is its."""
    hypervisor.forget(uuid)


def redefine(hypervisor: Hypervisor, uuid: str, text: str) -> None:
    """The definition that the job changed, as it was."""
    hypervisor.redefine(uuid, text)


def settle_saved(hypervisor: Hypervisor, name: str, uuid: str, path: str) -> None:
    """A file that a guest's memory was being written to."""
    saved.settle(hypervisor, name, uuid, path)


def settle_snapshot(hypervisor: Hypervisor, name: str, uuid: str, label: str, paths: list[str]) -> None:
    """The files of an external snapshot, under names that were free: libvirt may still be at work at it; when it has
    finished they stay, otherwise those go that no VM has."""
    if hypervisor.has_domain(uuid) and hypervisor.transfer(name):
        raise Failed("locked", f"libvirt is still making snapshot {label} of {name}", "it is looked at again")
    if hypervisor.has_snapshot(uuid, label):
        return
    used = {link for disks in dependants.chains(hypervisor) for link in disks}
    for path in paths:
        if os.path.lexists(path) and os.path.realpath(path) not in used:
            os.unlink(path)


def settle_memory(hypervisor: Hypervisor, uuid: str, label: str, path: str) -> None:
    """The memory that a snapshot kept, when that is gone by now."""
    if not hypervisor.has_snapshot(uuid, label) and os.path.lexists(path):
        os.unlink(path)


def unplug(hypervisor: Hypervisor, uuid: str, piece: str, before: int) -> None:
    """A device that the job plugged into what runs; `before`: how many of its kind there were."""
    plugging.take_out(hypervisor, uuid, piece, before)


def plug_in(hypervisor: Hypervisor, uuid: str, piece: str, before: int) -> None:
    """A device that the job unplugged from what runs."""
    plugging.put_in(hypervisor, uuid, piece, before)


def update_live(hypervisor: Hypervisor, uuid: str, piece: str) -> None:
    """A device of what runs that the job changed, as it was."""
    plugging.put_back(hypervisor, uuid, piece)


def remove_in_guest(hypervisor: Hypervisor, name: str, path: str) -> None:
    """A file in a guest whose name holds the job's id. A guest that cannot be spoken to any more keeps it."""
    try:
        files.remove(hypervisor, name, path)
    except MaglicaError as error:
        if error.code == "host_down":
            raise
        log.warning("%s may be left in %s: %s", path, name, error.message)


def merge_overlay(hypervisor: Hypervisor, part: str) -> None:
    """An overlay whose merging into its disk had begun: there is no way back, so it is brought to its end."""
    if not os.path.exists(part):
        return
    must(commands.run(qcow2.merge(part), timeout=MERGED_WITHIN), f"merge of {part}")
    os.unlink(part)


def pin(hypervisor: Hypervisor, name: str, where: str, vcpus: dict[str, list[int]], emulator: list[int] | None) -> None:
    """Where a domain's threads ran before the job pinned them; nothing for one that is off, or gone, by now."""
    try:
        hypervisor.pin(name, where, {int(number): cpus for number, cpus in vcpus.items()}, emulator)
    except Refused:
        pass


def autostart(hypervisor: Hypervisor, name: str, wanted: bool) -> None:
    """Whether a domain was started together with its host before the job changed that."""
    try:
        hypervisor.set_autostart(name, wanted)
    except Refused:
        pass  # it is gone


def await_transfer(hypervisor: Hypervisor, name: str, uuid: str) -> None:
    """Memory that libvirt was told to write: it does so to the end, and then it is seen what came of the job."""
    if hypervisor.has_domain(uuid) and hypervisor.transfer(name):
        raise Failed("locked", f"libvirt is still writing the memory of {name}", "it is looked at again")


# Safe whatever became of the job: a file that holds its id is no part of what it made in the end, and what is settled
# is settled as the domain says.
HARMLESS = frozenset(
    {
        "remove_part",
        "settle_removed",
        "settle_removed_volumes",
        "settle_replaced",
        "remove_in_guest",
        "settle_disk",
        "settle_renamed",
        "settle_renamed_volume",
    }
)

# Nothing that the job made before rests on these: when one of them cannot be undone, the others need not wait for it.
LOOSE = frozenset(
    {
        "remove_part",
        "remove_file",
        "release_base",
        "settle_removed",
        "settle_replaced",
        "remove_volumes",
        "settle_removed_volumes",
        "delete_volume",
        "abort_block_job",
        "pin",
        "autostart",
        "settle_saved",
        "settle_snapshot",
        "settle_memory",
        "remove_in_guest",
        "settle_disk",
        "settle_renamed",
        "settle_renamed_volume",
    }
)
LAST = frozenset({"start_again"})  # a guest writes to all that it has: only when nothing of its job is left

UNDOS: dict[str, Callable[..., None]] = {
    function.__name__: function
    for function in (
        remove_part,
        remove_file,
        release_base,
        settle_removed,
        settle_replaced,
        halt,
        remove_volumes,
        settle_removed_volumes,
        delete_volume,
        abort_block_job,
        undefine,
        forget,
        redefine,
        merge_overlay,
        pin,
        autostart,
        settle_saved,
        await_transfer,
        settle_snapshot,
        settle_memory,
        unplug,
        plug_in,
        update_live,
        remove_in_guest,
        settle_disk,
        settle_renamed,
        settle_name,
        settle_renamed_volume,
        start_again,
    )
}


class Left(NamedTuple):
    """What could not be undone. `passes`: what kept it from that may pass by itself."""

    words: str
    passes: bool


class Patience:
    """How often, and how long, it is tried to take back what one job made, before a person has to look at it."""

    def __init__(self, limit: float = PATIENCE) -> None:
        self._until = time.monotonic() + limit
        self._tries = 0

    def ends(self, left: Sequence[Left]) -> bool:
        """Called after each try with what is left."""
        self._tries += 1
        lasting = not any(one.passes for one in left)
        return (lasting and self._tries >= TRIES) or time.monotonic() > self._until


def take_back(job: str, journal: Journal, hypervisor: Hypervisor) -> list[Left]:
    """Undo all that a job made, the last first. What could not be undone is told, and stays in the journal.

    What a job made first carries what it made on top of that: a disk its domain, an overlay its merging. So an undo
    that fails holds all that were noted before it, whatever it fails for: they wait for the next try. Only what is
    `LOOSE` holds nothing; and what is `LAST` waits for those as well. What another release wrote holds the others too:
    nobody here knows what rests on it.
    """
    left: list[Left] = []
    held = ""
    for undo in journal.undos(job):
        what = _words(undo)
        if held or (left and undo.what in LAST):
            left.append(Left(f"{what}: waits for {held or 'what else is left'}", passes=False))
            continue
        error = _tried(job, undo, hypervisor)
        if error is None:
            journal.forget_undo(job, undo.number)
            continue
        left.append(Left(words(f"{what}: {str(error)[:MOST_WORDS]}"), may_pass(error)))
        held = "" if undo.what in LOOSE else undo.what
    return left


def _tried(job: str, undo: Undo, hypervisor: Hypervisor) -> Exception | None:
    """Why it could not be undone. Whatever it runs into: the others are looked at, and the job ends."""
    try:
        UNDOS[undo.what](hypervisor, **undo.args)
    except Exception as error:
        foreseen = isinstance(error, (MaglicaError, OSError, LookupError, TypeError))  # another release wrote it
        log.warning("job=%s cannot undo %s: %s", job, _words(undo), error, exc_info=None if foreseen else error)
        return error
    return None


def may_pass(error: Exception) -> bool:
    """Whether the same may succeed a little later: libvirt is back, a lock is free, there is room."""
    if isinstance(error, MaglicaError):
        return error.retryable
    return isinstance(error, OSError) and error.errno in PASSING


def _words(undo: Undo) -> str:
    """An undo in words; a definition among its arguments is none."""
    values = [str(value) for value in undo.args.values()]
    return words(" ".join([undo.what, *(value for value in values if len(value) <= MOST_WORDS)]))
