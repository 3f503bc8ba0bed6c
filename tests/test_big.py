"""A host with so many VMs that its answers are longer than a request may be."""

from __future__ import annotations

import pytest

from maglica.errors import Refused
from tests.daemons import RUNNING, SHUT_OFF, House, node

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

IMAGE = "el9.original"
MANY = 2000


def test_two_thousand_vms_on_one_host_are_listed_and_one_more_is_placed(house: House) -> None:
    house.configure(client="read_timeout = 60s")
    house.start()
    names = [f"a-rather-long-name-of-a-vm-{number:04}.department.example.jp" for number in range(MANY)]
    vms = {IMAGE: SHUT_OFF} | {name: SHUT_OFF if n % 2 else RUNNING for n, name in enumerate(names)}
    world = node(vms, memory=64).replace("<memory>33554432<", f"<memory>{1 << 30}<").replace("'GiB'", "'MiB'")
    (house.folder / "host1.xml").write_text(world)
    house.start_host("host1")
    with house.connect() as cloud:
        listed = cloud.vm.list()
        assert [vm["name"] for vm in listed] == names
        assert {vm["host"] for vm in listed} == {"host1"}
        assert cloud.vm.info(name=names[-1])["state"] == "shut-off"
        assert cloud.vm.start(name=names[-1])["state"] == "running"
        with pytest.raises(Refused, match="exists on host1"):
            cloud.vm.clone(image=IMAGE, hostname=names[0], customize="none")
        assert cloud.vm.clone(image=IMAGE, hostname="one-more.example.jp", customize="none")["state"] == "running"
        assert len(cloud.vm.list()) == MANY + 1
    assert "Traceback" not in house.client_worker.log
    assert "Traceback" not in house.hosts["host1"].log
