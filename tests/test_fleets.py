"""Fleets and templates with real daemons and libvirt's test driver, as a person types them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from maglica.errors import MaglicaError, Refused
from maglica.nouns import Cloud
from tests.daemons import RUNNING, SHUT_OFF, House
from tests.waiting import until

IMAGE = "el9.original"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    found = House(tmp_path_factory.mktemp("fleets"))
    try:
        found.configure(client="protected_names = prod*, domain*")
        found.start()
        # web-50 is somebody's own: it is called so, and is of no fleet.
        found.start_host("host1", {IMAGE: SHUT_OFF, "solo-50": RUNNING})
        found.start_host("host2", {IMAGE: SHUT_OFF})
        with found.connect() as cloud:
            cloud.template.add(name="small", image=IMAGE, memory="256M", customize="none", tags="ci")
        yield found
    finally:
        found.close()


@pytest.fixture
def house(shared: House) -> Iterator[House]:
    yield shared
    with shared.connect() as cloud:
        until(lambda: not cloud.job.list(state="open"), 60, "all has ended")
        for fleet in cloud.fleet.list():
            cloud.fleet.remove(name=fleet["name"], all=True)


@pytest.fixture
def cloud(house: House) -> Iterator[Cloud]:
    with house.connect() as found:
        yield found


def states(cloud: Cloud, base: str) -> dict[str, str]:
    found = [vm for vm in cloud.vm.list() if vm["name"].startswith(base + "-")]
    return {vm["name"]: vm["state"] for vm in sorted(found, key=lambda vm: int(vm["name"].rpartition("-")[2]))}


def done_in_order(cloud: Cloud) -> list[str]:
    """What the last group was about, in the order in which its jobs were submitted."""
    group = cloud.job.list(last=1)[0]["group"]
    return [member["name"] for member in cloud.job.show(id=group)["members"]]


def test_the_life_of_a_fleet(house: House, cloud: Cloud) -> None:
    done = house.cli("fleet", "create", "web", "--template=small", "--count=12", "-o", "name")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [f"web-{number}" for number in range(1, 13)]
    assert set(states(cloud, "web").values()) == {"shut-off"}, "made, not started"
    assert cloud.vm.info(name="web-3")["memory_bytes"] == 256 << 20

    done = house.cli("fleet", "start", "web", "--count=3")
    assert done.returncode == 0, done.stderr
    assert done_in_order(cloud) == ["web-1", "web-2", "web-3"]
    house.cli("fleet", "start", "web", "--count=2")
    assert done_in_order(cloud) == ["web-4", "web-5"], "those that run already are not counted"
    assert [name for name, state in states(cloud, "web").items() if state == "running"] == [
        f"web-{number}" for number in range(1, 6)
    ]

    done = house.cli("fleet", "stop", "web", "--count=2")
    assert done_in_order(cloud) == ["web-5", "web-4"], "1 and 10, 11, 12 are not one: the highest that runs first"
    done = house.cli("fleet", "restart", "web", "--all")
    assert done.returncode == 0, done.stderr
    assert done_in_order(cloud) == ["web-1", "web-2", "web-3"]
    assert "9 of the 12 VMs of fleet web are off" in done.stderr

    (row,) = cloud.fleet.list()
    assert (row["name"], row["vms"], row["running"], row["numbers"]) == ("web", 12, 3, "1-12")
    assert (row["hosts"], row["images"], row["templates"]) == (["host1", "host2"], [IMAGE], ["small"])

    done = house.cli("fleet", "remove", "web", "--count=2", "--yes")
    assert done_in_order(cloud) == ["web-12", "web-11"]
    done = house.cli("fleet", "create", "web", "--template=small", "--start", "--memory=512M")
    assert done_in_order(cloud) == ["web-11"], "after the highest that there is"
    assert states(cloud, "web")["web-11"] == "running"
    assert cloud.vm.info(name="web-11")["memory_bytes"] == 512 << 20
    done = house.cli("fleet", "stop", "web", "--all", "--kill")
    assert done_in_order(cloud) == ["web-11", "web-3", "web-2", "web-1"]
    done = house.cli("fleet", "remove", "web", "--all", "--yes")
    assert done.returncode == 0, done.stderr
    assert cloud.fleet.list() == []


def test_more_than_there_are_is_told_and_not_silently_less(house: House, cloud: Cloud) -> None:
    cloud.fleet.create(name="web", template="small", count=3)
    cloud.fleet.start(name="web", count=1)
    done = house.cli("fleet", "start", "web", "--count=10")
    assert done.returncode == 0
    assert "2 of the 10 that were asked for: fleet web has 3, of which 1 run already" in done.stderr
    done = house.cli("fleet", "start", "web", "--count=1")
    assert done.returncode == 0
    assert "0 of the 1 that were asked for: fleet web has 3, of which 3 run already" in done.stderr
    group = cloud.fleet.stop.submit(name="web", count=9)
    assert group.record["note"].startswith("3 of the 9")
    group.wait()


def test_a_fleet_is_its_name_and_its_mark(house: House, cloud: Cloud) -> None:
    """Somebody's own VM is called like one of the fleet: it is not touched, and its number is not used."""
    cloud.fleet.create(name="solo", template="small", count=2)
    assert done_in_order(cloud) == ["solo-51", "solo-52"]
    cloud.fleet.remove(name="solo", all=True)
    assert states(cloud, "solo") == {"solo-50": "running"}
    with pytest.raises(Refused, match="there is no fleet solo"):
        cloud.fleet.stop(name="solo", all=True)


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("domain", "protected", "protected by domain* in [client] protected_names"),
        ("production", "protected", "protected by prod*"),
        ("host1", "protected", "the name of the host host1"),
        ("web-1", "wrong_input", "--name"),
        ("w/b", "wrong_input", "--name"),
    ],
)
def test_names_that_no_fleet_shall_have(house: House, cloud: Cloud, name: str, code: str, words: str) -> None:
    for ask in (cloud.fleet.create, cloud.fleet.stop, cloud.fleet.remove):
        with pytest.raises(MaglicaError) as refused:
            ask(name=name, **({"template": "small"} if ask is cloud.fleet.create else {}))  # type: ignore[operator]
        assert refused.value.code == code
        assert words in refused.value.message


def test_two_that_create_at_the_same_time_get_different_numbers(house: House, cloud: Cloud) -> None:
    both = [house.spawn("fleet", "create", "web", "--template=small", "--count=5", "-o", "name") for _ in "ab"]
    names = [name for process in both for name in process.communicate(timeout=60)[0].split()]
    assert sorted(names) == sorted(f"web-{number}" for number in range(1, 11))


def test_forks_bound_how_many_are_made_side_by_side(house: House, cloud: Cloud) -> None:
    group = cloud.fleet.create.submit(name="web", template="small", count=6, forks=1)
    assert group.record["policy"]["max_parallel"] == 1
    group.wait()
    spans = sorted((job["started_at"], job["ended_at"]) for job in cloud.job.list(group=group.id))
    assert all(first[1] <= second[0] for first, second in pairwise(spans)), spans
    usual = cloud.fleet.start.submit(name="web", all=True)
    assert usual.record["policy"]["max_parallel"] == 10
    usual.wait()


def test_several_fleets_in_one_command(house: House, cloud: Cloud) -> None:
    cloud.fleet.create(name="web", template="small", count=2)
    cloud.fleet.create(name="db", template="small", count=1)
    done = house.cli("fleet", "start", "web", "db", "--all", "-o", "name")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["web-1", "web-2", "db-1"]
    done = house.cli("fleet", "stop", "web", "nosuch", "--all", "--kill", "--idempotency-key=monday")
    assert done.returncode == 10, done.stderr
    assert "there is no fleet nosuch" in done.stderr
    assert states(cloud, "web") == {"web-1": "shut-off", "web-2": "shut-off"}
    done = house.cli("fleet", "remove", "*", "--all", "--yes")
    assert done.returncode == 0, done.stderr
    assert cloud.fleet.list() == []


def test_a_dry_run_shows_what_a_command_stands_for(house: House, cloud: Cloud) -> None:
    cloud.fleet.create(name="web", template="small", count=2)
    done = house.cli("fleet", "remove", "web", "--all", "--dry-run")
    rows = [line.split(None, 3) for line in done.stdout.splitlines()[2:]]
    assert [(row[0], row[1], row[2]) for row in rows] == [("web-2", "vm", "remove"), ("web-1", "vm", "remove")]
    assert len(states(cloud, "web")) == 2
    plan = cloud.fleet.create.plan(name="web", template="small", count=2)
    assert [member["name"] for member in plan["members"]] == ["web-3", "web-4"]


def test_its_log_tells_what_it_was_and_how_long_it_took(house: House, cloud: Cloud) -> None:
    cloud.fleet.create(name="web", template="small", count=3)
    group = cloud.job.list(last=1)[0]["group"]
    log = house.cli("job", "log", group).stdout
    assert "fleet create --name=web --template=small --count=3" in " ".join(log.split())
    assert "Took:" in log
    assert log.count("TASK OK") == 3
    explained = house.cli("job", "explain", group).stdout
    assert "3 done" in explained
    assert "it took" in explained
    assert "fleet create web of 3: 3 done" in explained


def test_without_an_image_there_is_nothing_to_make(house: House, cloud: Cloud) -> None:
    for more, words in [
        ({}, "--template or --image is missing"),
        ({"template": "smal"}, "there is no template smal"),
        ({"image": "el9.orig"}, "no host holds an image el9.orig"),
    ]:
        with pytest.raises(MaglicaError) as refused:
            cloud.fleet.create(name="web", **more)  # type: ignore[arg-type]
        assert words in refused.value.message


# ---------------------------------------------------------------------------------------------- templates


def test_templates_are_kept_shown_rendered_and_removed(house: House, cloud: Cloud, tmp_path: Path) -> None:
    file = tmp_path / "big.template"
    file.write_text(f"# for the database\nimage = {IMAGE}\nmemory = 4G\nvcpus = 2\ncustomize = none\n")
    done = house.cli("template", "add", "big", f"--file={file}", "--vcpus=3", "-o", "json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)["item"]["parameters"]
    assert said == {"image": IMAGE, "memory": 4 << 30, "vcpus": 3, "customize": "none"}
    assert house.cli("template", "add", "big", f"--image={IMAGE}").returncode == 5
    assert house.cli("template", "list", "-o", "name").stdout.split() == ["big", "small"]
    text = house.cli("template", "render", "big", "--hostname=db1", "--memory=8G").stdout
    assert text == (
        f"maglica vm clone --image={IMAGE} --memory=8G --vcpus=3 --customize=none --hostname=db1 --template=big\n"
    )
    house.client_worker.kill()
    house.start()
    done = house.cli("vm", "clone", "--template=big", "--hostname=solo-1", "--memory=1G", "-o", "json")
    assert done.returncode == 0, done.stderr
    info = cloud.vm.info(name="solo-1")
    assert (info["memory_bytes"], info["vcpus"], info["template"]) == (1 << 30, 3, "big")
    many = house.cli("vm", "clone", "--template=small", "--hostname=s-{n}", "--count=2", "-o", "name")
    assert many.stdout.split() == ["s-1", "s-2"]
    for name in ("solo-1", "s-1", "s-2"):
        cloud.vm.remove(name=name, force=True)
    assert house.cli("template", "remove", "big", "--yes").returncode == 0
    assert house.cli("template", "show", "big").returncode == 4


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["--memmory=4G"], "there is no option --memmory", "did you mean --memory?"),
        (["--memory=4"], "--memory: '4' has no unit", "expected"),
        (["--file=FILE:memmory = 4G"], "unknown parameter memmory", "did you mean memory?"),
        (["--file=FILE:hostname = x"], "unknown parameter hostname", "it belongs to one VM"),
        (["--file=FILE:memory"], "line 1 is 'memory'", "expected key = value"),
        (["--file=FILE:vcpus = 1\nvcpus = 2"], "vcpus is said twice", "say it once"),
        (["--customize=none", "--ssh-key=KEY"], "--customize=none leaves the disks alone", ""),
    ],
)
def test_what_no_template_can_say_is_refused(
    house: House, tmp_path: Path, words: list[str], message: str, hint: str
) -> None:
    key = tmp_path / "key.pub"
    key.write_text("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGpXkJ0qAAAAAAAAAAAAAAAAAAAA me@example.jp\n")
    typed = [word.replace("KEY", str(key)) for word in words]
    for place, word in enumerate(typed):
        if word.startswith("--file=FILE:"):
            (tmp_path / "t").write_text(word.removeprefix("--file=FILE:"))
            typed[place] = f"--file={tmp_path / 't'}"
    done = house.cli("template", "add", "new", f"--image={IMAGE}", *typed)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert hint in done.stderr
