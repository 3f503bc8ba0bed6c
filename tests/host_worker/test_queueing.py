"""Which clone gets which warm appliance: lists of values."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from maglica.host_worker.guest import queueing
from maglica.host_worker.guest.queueing import Choice, Image, Limits, Part, Standing, choose, superfluous

A: Image = (Part("/a", "qcow2", 1 << 30, (1, 2, 3, 4)),)
B: Image = (Part("/b", "qcow2", 1 << 30, (1, 5, 3, 4)),)
TWO = Limits(2, 300.0)


def one(number: int, state: str, image: Image = A, *, since: float = 0.0, launch: float = 10.0) -> Standing:
    return Standing(number, image, state, since, launch)


@pytest.mark.parametrize(
    ("standing", "waited", "limits", "choice"),
    [
        ([], 0, TWO, Choice(launch=True)),
        ([one(1, "idle")], 0, TWO, Choice(take=1)),
        # The one that worked last has its memory warmest; the other one may go when it is idle for long.
        ([one(1, "idle", since=5.0), one(2, "idle", since=9.0)], 0, TWO, Choice(take=2)),
        # One that is ready and busy is sooner free than another is launched, unless it is not.
        ([one(1, "busy")], 9.9, TWO, Choice()),
        ([one(1, "busy")], 10.1, TWO, Choice(launch=True)),
        ([one(1, "launching")], 0, TWO, Choice(launch=True)),
        ([one(1, "launching"), one(2, "launching")], 99, TWO, Choice()),
        ([one(1, "busy"), one(2, "busy")], 99, TWO, Choice()),
        # Another image's idle one makes room, the longest idle first; those at work are waited for.
        ([one(1, "idle", B, since=5.0), one(2, "idle", B, since=4.0)], 0, TWO, Choice(launch=True, end=2)),
        ([one(1, "idle", B)], 0, TWO, Choice(launch=True)),
        ([one(1, "busy", B), one(2, "busy", B)], 99, TWO, Choice()),
        ([one(1, "busy", B)], 0, Limits(1, 300.0), Choice()),
        # A second one of the same image never pushes out another image's.
        ([one(1, "busy"), one(2, "idle", B)], 99, TWO, Choice()),
        # Without room in memory one may take another's place, but there are not more of them.
        ([], 0, Limits(2, 300.0, room=False), Choice()),
        ([one(1, "idle", B)], 0, Limits(2, 300.0, room=False), Choice(launch=True, end=1)),
        ([one(1, "busy")], 99, Limits(2, 300.0, room=False), Choice()),
        ([one(1, "idle")], 0, Limits(2, 300.0, room=False), Choice(take=1)),
    ],
)
def test_what_a_clone_of_a_does(standing: list[Standing], waited: float, limits: Limits, choice: Choice) -> None:
    assert choose(A, waited, standing, limits) == choice


@pytest.mark.parametrize(
    ("standing", "limits", "ended"),
    [
        ([one(1, "idle", since=100.0)], TWO, []),
        ([one(1, "idle", since=0.0), one(2, "idle", B, since=101.0)], TWO, [1]),
        ([one(1, "busy", since=0.0)], TWO, []),
        ([one(1, "idle", since=390.0), one(2, "idle", since=391.0)], Limits(1, 300.0), [1]),
        ([one(1, "idle", since=390.0), one(2, "busy")], Limits(0, 300.0), [1]),
        ([one(1, "idle", since=399.0), one(2, "busy")], Limits(2, 300.0, short=True), [1]),
        ([one(1, "idle", since=399.0)], Limits(2, 300.0, room=False), []),
    ],
)
def test_which_ones_end(standing: list[Standing], limits: Limits, ended: list[int]) -> None:
    assert superfluous(standing, 400.0, limits) == ended


def test_an_image_is_known_by_its_file_and_its_last_change(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(b"one")
    seen = queueing.identity(str(path))
    assert seen is not None
    image = (Part(str(path), "raw", 512, seen),)
    assert queueing.unchanged(image)
    os.utime(path, ns=(0, 1))
    assert not queueing.unchanged(image)
    path.unlink()
    assert queueing.identity(str(path)) is None
    assert not queueing.unchanged(image)
    assert queueing.identity(str(tmp_path)) is None
