"""A host that fell to somebody, asked for its image: the job ends, and so does nothing else (libvirt's test driver, a
real runner, real files)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from maglica import wire
from maglica.errors import from_wire
from maglica.host_worker.domain import new_domain
from maglica.host_worker.image import foreign, receiving
from maglica.host_worker.needs import Needs
from tests.host_worker.test_new_domain import NEW
from tests.host_worker.test_run import Place
from tests.host_worker.worlds import world

OWN = new_domain.definition(NEW)
EVIL = OWN.replace("<os>", "<os><nvram>/etc/shadow</nvram>", 1)


def disk(size: Any = 1 << 20, target: str = "vda") -> dict[str, Any]:
    return {"target": target, "format": "qcow2", "allocation_bytes": size}


class Fallen(Place):
    """A host worker whose jobs are answered by a host that says what the test wants, the last of it for ever."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, world(folder))
        text = (folder / "world.xml").read_text()
        (folder / "pool").mkdir()
        (folder / "world.xml").write_text(text.replace("/default-pool", str(folder / "pool")))
        self.answers: list[wire.Message] = []
        needs = Needs(self._reply)
        self.runner.host = self.host = self.host._replace(needs=needs)
        self.hypervisor.driver = "files"

    def _reply(self) -> None:
        needs = self.host.needs
        for question in needs.outgoing() if needs else ():
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            threading.Thread(target=needs.answered, args=({**answer, "op": "need", "ask": question["ask"]},)).start()

    def copy(self, *answers: wire.Message) -> dict[str, Any]:
        self.answers = list(answers)
        self.begin("image copy", name="el9:1", dest="host1", from_="evil.example.jp")
        (told,) = wire.decode(wire.encode({"op": "sync", "done": [self.told()]}))["done"]
        return dict(told)


@pytest.fixture
def fallen(tmp_path: Path) -> Iterator[Fallen]:
    found = Fallen(tmp_path)
    yield found
    found.close()


def image(*disks: Any, definition: Any = OWN, **more: Any) -> wire.Message:
    return wire.ok(value={"item": {"definition": definition, "disks": list(disks), "nvram": False, **more}})


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (image(disk((1 << 64) - 1), disk(-(1 << 63), "vdb"), disk(-(1 << 63), "vdc")), "wrong_input"),
        (image(disk(1 << 59)), "no_capacity"),
        (image(disk(b"1")), "wrong_input"),
        (image(disk(), disk()), "wrong_input"),
        (image(disk(), disk(target="vdb")), "wrong_input"),
        (image(disk(target="vdb")), "environment_error"),
        (image(disk(), definition=b"\xff"), "wrong_input"),
        (image(b"\xff"), "wrong_input"),
        (wire.ok(value=b"\xff"), "environment_error"),
        (wire.ok(value={"item": [b"\xff"]}), "environment_error"),
        (wire.ok(), "wrong_input"),
        (
            {"ok": False, "error": {"code": "unknown_entity", "message": "none", "details": {"a": {"b": [1, None]}}}},
            "unknown_entity",
        ),
        ({"ok": False, "error": {"code": "unknown_entity", "message": "none", "details": {"a": b"\xff"}}}, None),
        ({"ok": False, "error": {"code": b"\xff", "message": [b"\xff"], "job": {"a": 1 << 63}}}, "internal_error"),
        ({"ok": False, "error": {}}, "internal_error"),
        ({"ok": False}, "internal_error"),
    ],
)
def test_the_job_ends_whatever_the_other_host_says(fallen: Fallen, answer: wire.Message, code: str | None) -> None:
    told = fallen.copy(answer)
    error = from_wire(told["error"])
    assert (told["state"], told["result"], [step["name"] for step in told["steps"]]) == ("failed", None, ["ask"])
    assert error.code == code if code else error.code in ("unknown_entity", "internal_error")
    assert list((fallen.folder / "pool").iterdir()) == []
    assert fallen.runner.count() == 0


def test_it_names_no_file_of_ours(fallen: Fallen) -> None:
    """Also when it says that it has no firmware variables, and names some."""
    told = foreign.told({"definition": EVIL, "disks": [disk()], "nvram": False})
    plan = receiving._plan("el9:1", told, fallen.host, "job1")
    assert plan.nvram is None
    assert "/etc/shadow" not in plan.definition
