"""Logical volumes: what there is, and the commands that make thin snapshots. lvm(8), lvmthin(7), lvcreate(8).

A snapshot bears a tag with the id of the job that made it: after a crash it is found and removed by that, whatever
name it has by then, and nothing else can be meant.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from maglica.errors import Failed, MaglicaError, Refused
from maglica.host_worker import commands
from maglica.host_worker.disk.modes import Fullness, Volume

TIMEOUT = 30.0  # seconds that LVM may take to answer: it waits for whoever holds the group
FIELDS = "vg_name,lv_name,lv_uuid,pool_lv,segtype,lv_tags"


def at(path: str) -> Volume | None:
    """The logical volume at a path; None where there is none, or no LVM on this host. `Failed` when LVM does not say in
    time: it waits for whoever holds the group.
    """
    try:
        ended = commands.run(list_command(_known_to_lvm(path)), timeout=TIMEOUT)
    except Refused:  # there is no such program
        return None
    return parse(ended.stdout) if ended.exit_status == 0 else None


def _known_to_lvm(path: str) -> str:
    """LVM knows /dev/vg0/web1 and /dev/mapper/vg0-web1, and not the /dev/dm-5 that both are links to."""
    kernel = os.path.basename(os.path.realpath(path))
    try:
        with open(f"/sys/block/{kernel}/dm/name", encoding="utf-8") as file:
            return f"/dev/mapper/{file.read().strip()}"
    except OSError:
        return path


def list_command(path: str) -> list[str]:
    return ["lvs", "--reportformat", "json", "--options", FIELDS, "--", path]


def parse(text: str) -> Volume | None:
    """What `lvs` told of one volume."""
    try:
        row = _rows(text)[0]
        thin = row["segtype"] == "thin" and row["pool_lv"]
        return Volume(str(row["vg_name"]), str(row["lv_name"]), str(row["pool_lv"]) if thin else None)
    except (ValueError, LookupError, TypeError):
        return None


class Made(NamedTuple):
    """A volume that bears the tag of a job. `uuid` is what it is known by, whatever it is called."""

    group: str
    name: str
    uuid: str


def made_by(job: str) -> list[Made]:
    """The volumes that bear a job's tag; `Failed` when LVM cannot say."""
    ended = commands.run(made_command(job), timeout=TIMEOUT)
    try:
        return parse_made(ended.stdout)
    except (ValueError, LookupError, TypeError):
        raise Failed("environment_error", f"lvs: {ended.stderr.strip()}", "look at LVM on that host") from None


def made_command(job: str) -> list[str]:
    options = "vg_name,lv_name,lv_uuid"
    return ["lvs", "--reportformat", "json", "--options", options, "--select", f"lv_tags={{{tag(job)}}}"]


def parse_made(text: str) -> list[Made]:
    return [Made(str(row["vg_name"]), str(row["lv_name"]), str(row["lv_uuid"])) for row in _rows(text)]


def _rows(text: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(text)["report"][0]["lv"]
    return found


def remove_known(group: str, uuids: Sequence[str]) -> list[str]:
    """Remove exactly these; nothing where they are gone."""
    return ["lvremove", "--yes", "--quiet", "--select", "||".join(f"lv_uuid={one}" for one in uuids), "--", group]


def uuid(group: str, name: str) -> str | None:
    """What a volume is known by whatever it is called; None where there is none of that name. `Failed` when LVM cannot
    say: that is no answer.
    """
    ended = commands.run(["lvs", "--noheadings", "--options", "lv_uuid", "--", f"{group}/{name}"], timeout=TIMEOUT)
    if ended.exit_status == 0:
        return ended.stdout.strip() or None
    if "Failed to find logical volume" in ended.stderr:
        return None
    raise Failed("environment_error", f"lvs {group}/{name}: {ended.stderr.strip()}", "look at LVM on that host")


def in_mapper(group: str, name: str) -> str:
    """The node of a volume in /dev/mapper: a hyphen inside of a name is written twice."""
    return f"/dev/mapper/{group.replace('-', '--')}-{name.replace('-', '--')}"


def fullness(volume: Volume) -> Fullness | None:
    """How full the thin pool of a volume is now; None: it is not thin, or nobody can tell."""
    if volume.thin_pool is None:
        return None
    try:
        ended = commands.run(fullness_command(volume.group, volume.thin_pool), timeout=TIMEOUT)
    except MaglicaError:
        return None
    return parse_fullness(ended.stdout) if ended.exit_status == 0 else None


def fullness_command(group: str, pool: str) -> list[str]:
    return ["lvs", "--reportformat", "json", "--options", "data_percent,metadata_percent", "--", f"{group}/{pool}"]


def parse_fullness(text: str) -> Fullness | None:
    """What `lvs` told of a thin pool; one that is not active tells nothing."""
    try:
        row = _rows(text)[0]
        return Fullness(float(row["data_percent"]), float(row["metadata_percent"]))
    except (ValueError, LookupError, TypeError):
        return None


def tag(job: str) -> str:
    return f"maglica-{job}"


def snapshot(source: Volume, name: str, job: str) -> list[str]:
    """The command that makes a thin snapshot, active now and whenever its group is activated."""
    return [
        *("lvcreate", "--yes", "--quiet", "--snapshot", "--setactivationskip", "n", "--activate", "y"),
        *("--addtag", tag(job), "--name", name, "--", f"{source.group}/{source.name}"),
    ]


def rename(group: str, old: str, new: str) -> list[str]:
    """Give it its final name; LVM refuses one that is taken."""
    return ["lvrename", "--yes", "--", group, old, new]


def remove_tagged(group: str, job: str) -> list[str]:
    """Remove what a job made; nothing where there is nothing."""
    return ["lvremove", "--yes", "--quiet", "--select", f"lv_tags={{{tag(job)}}}", "--", group]


def extend(volume: Volume, size_bytes: int) -> list[str]:
    """Make it as large as that, or a little larger: it has whole extents. A thin one takes no room by that."""
    return ["lvextend", "--yes", "--quiet", "--size", f"{size_bytes}b", "--", f"{volume.group}/{volume.name}"]
