"""Where images go and come from, and what a host's job may ask of another host."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from maglica import declare
from maglica.client_worker.placement import images
from maglica.client_worker.placement.place import Reserved, Survey
from maglica.client_worker.store.answers import KEPT
from maglica.errors import Refused
from tests.client_worker.office import Asked, Office, Worker, submission

GIB = 1 << 30


def survey(*names: str, free: int = 100 * GIB, active: int = 0, **more: Any) -> Survey:
    domains = [
        {
            "name": name, "state": "shut-off", "image": True, "content": None, "vcpus": 1, "memory_bytes": GIB,
            "macs": [], "disks": [{"target": "vda", "allocation_bytes": 4 * GIB}], **more,
        }
        for name in names
    ]  # fmt: skip
    pools = [{"name": "default", "free_bytes": free}]
    return {"active": active, "vcpus": 8, "memory_free_bytes": 32 * GIB, "domains": domains, "pools": pools}


def imported(surveys: dict[str, Survey], **args: Any) -> images.Choice:
    weights = args.pop("weights", {})
    missing = args.pop("missing", {})
    action = declare.build("image import", {"source": "http://example.jp/x", "name": "el9:2", **args})
    return images.for_import(action, surveys, missing, weights, {}, {})


def copied(surveys: dict[str, Survey], **args: Any) -> tuple[str, str]:
    """(destination, source)."""
    missing = args.pop("missing", {})
    action = declare.build("image copy", {"name": "el9:1", "dest": "host2", **args})
    choice, made = images.for_copy(action, surveys, missing, {}, {})
    return choice.host, made.values()["from_"]


def refusal(surveys: dict[str, Survey], what: Any, **args: Any) -> Refused:
    with pytest.raises(Refused) as refused:
        what(surveys, **args)
    return refused.value


def test_an_import_goes_where_most_room_is() -> None:
    surveys = {"host1": survey(free=10), "host2": survey(free=30), "host3": survey(free=20)}
    assert imported(surveys).host == "host2"
    assert imported(surveys, weights={"host2": 0.0}).host == "host3"
    assert imported(surveys, on="host1").host == "host1"
    assert refusal({"host1": survey(free=0)}, imported).code == "no_capacity"


def test_an_import_never_replaces_an_image_anywhere() -> None:
    assert refusal({"host1": survey(), "host2": survey("el9:2")}, imported, on="host1").code == "already_exists"
    silent = refusal({"host1": survey()}, imported, missing={"host2": "down"})
    assert (silent.code, imported({"host1": survey()}, missing={"host2": "down"}, ignore_missing=True).host) == (
        "host_down", "host1",
    )  # fmt: skip


def test_a_copy_comes_from_the_least_busy_host_that_has_it() -> None:
    surveys = {"host1": survey("el9:1", active=3), "host2": survey(), "host3": survey("el9:1", active=1)}
    assert copied(surveys) == ("host2", "host3")
    assert copied(surveys, from_="host1") == ("host2", "host1")


def test_a_copy_is_refused_for_a_reason() -> None:
    both = {"host1": survey("el9:1"), "host2": survey("el9:1")}
    assert refusal(both, copied).code == "already_exists"
    assert refusal({"host1": survey(), "host2": survey()}, copied).code == "unknown_entity"
    assert refusal({"host1": survey("el9:1")}, copied).code == "unknown_entity"
    assert refusal({"host1": survey("el9:1")}, copied, missing={"host2": "down"}).code == "host_down"
    assert refusal({"host1": survey("el9:1"), "host2": survey(free=GIB)}, copied).code == "no_capacity"
    assert refusal({"host1": survey("el9:1", state="running"), "host2": survey()}, copied).code == "wrong_state"
    assert refusal({"host1": survey("el9:1", image=False), "host2": survey()}, copied).code == "wrong_state"
    here = {"host1": survey("el9:1"), "host2": survey(), "host3": survey("other")}
    assert refusal(here, copied, from_="host3").code == "unknown_entity"
    assert refusal(here, copied, as_="other").code == "already_exists"
    silent = {"missing": {"host4": "down"}}
    assert refusal(here, copied, as_="new", **silent).code == "host_down", "it may have one that is called so"
    assert copied(here, as_="new", ignore_missing=True, **silent) == copied(here, **silent) == ("host2", "host1")


def test_an_export_is_written_where_the_image_is() -> None:
    surveys = {"host1": survey("el9:1", active=3), "host2": survey(), "host3": survey("el9:1", active=1)}

    def exported(**args: Any) -> str:
        action = declare.build("image export", {"name": "el9:1", **args})
        return images.for_export(action, surveys, {}).host

    assert (exported(), exported(on="host1")) == ("host3", "host1")
    with pytest.raises(Refused, match="host2 does not hold an image el9:1"):
        exported(on="host2")
    with pytest.raises(Refused, match="raw cannot be compressed"):
        exported(format="raw", compress=True)


def test_copies_that_differ_are_not_chosen_from() -> None:
    surveys = {"host1": survey("el9:1", content="a"), "host2": survey(), "host3": survey("el9:1", content="b")}
    assert refusal(surveys, copied).code == "wrong_state"
    assert copied(surveys, from_="host3") == ("host2", "host3")


def test_what_open_jobs_will_take_is_taken() -> None:
    action = declare.build("image copy", {"name": "el9:1", "dest": "host2"})
    surveys = {"host1": survey("el9:1"), "host2": survey(free=5 * GIB)}
    with pytest.raises(Refused, match="cannot take el9:1"):
        images.for_copy(action, surveys, {}, {"host2": Reserved(1, 0, 2 * GIB)}, {})


# ---------------------------------------------------------------------------------------------- through the office

IMAGE = "el9.original"


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    found = Office(tmp_path)
    yield found
    found.close()


@pytest.fixture
def hosts(office: Office) -> list[Worker]:
    workers = [Worker(office, f"host{number}", {IMAGE: "shut-off"} if number == 1 else {}) for number in (1, 2, 3)]
    for worker in workers:
        assert worker.hello().good
    return workers


def asked(office: Office, hosts: list[Worker], message: dict[str, Any]) -> Asked:
    found = office.ask(message)
    office.serve(*hosts)
    return found


def test_a_copy_to_all_is_a_group_of_those_that_lack_it(office: Office, hosts: list[Worker]) -> None:
    wanted = submission("image copy", key="k", name=IMAGE, dest="all")
    group = asked(office, hosts, wanted).good["group"]
    assert [(member["name"], member["state"]) for member in group["members"]] == [
        (f"{IMAGE}@host2", "queued"), (f"{IMAGE}@host3", "queued"),
    ]  # fmt: skip
    assert asked(office, hosts, wanted).good["group"]["id"] == group["id"], "the same key is the same group"
    other = submission("image copy", key="k", name=IMAGE, dest="host2")
    assert asked(office, hosts, other).error.code == "already_exists"
    assert hosts[1].claim(free={"move": 1})
    hosts[1].vms[IMAGE] = hosts[2].vms[IMAGE] = "shut-off"
    again = asked(office, hosts, submission("image copy", key="l", name=IMAGE, dest="all"))
    assert (again.error.code, again.error.message) == ("already_exists", f"every host has an image {IMAGE}")


def test_a_job_asks_only_for_what_it_is_about(office: Office, hosts: list[Worker]) -> None:
    job = asked(office, hosts, submission("image copy", key="k", name=IMAGE, dest="host2")).good["job"]["id"]
    need = {"op": "need", "ask": 9, "args": {"disk": "vda", "name": "another"}}
    early = office.ask({**need, "host": "host3", "job": job})
    assert (early.error.code, early.answer and early.answer["ask"]) == ("wrong_state", 9), "it is another host's job"
    assert hosts[1].claim(free={"move": 1}) == [job]
    served: list[dict[str, Any]] = []
    hosts[0].answers["image serve"] = lambda args: {"item": served.append(args) or {"port": 5560}}
    answer = asked(office, hosts, {**need, "host": "host2", "job": job}).good
    assert (answer["op"], answer["ask"], answer["value"]) == ("need", 9, {"item": {"port": 5560}})
    assert served == [{"name": IMAGE, "job": job, "disk": "vda", "over": False}]
    hosts[1].end(job, "failed", error={"code": "environment_error", "message": "no"})
    late = office.ask({**need, "host": "host2", "job": job})
    assert late.error.code == "wrong_state", "it has ended"


def test_only_jobs_that_copy_ask_for_anything(office: Office, hosts: list[Worker]) -> None:
    job = asked(office, hosts, submission("vm clone", key="k", image=IMAGE, hostname="web1")).good["job"]["id"]
    assert hosts[0].claim() == [job]
    refused = asked(office, hosts, {"op": "need", "ask": 1, "host": "host1", "job": job, "args": {}})
    assert refused.error.code == "wrong_state"


def test_a_source_that_refuses_or_is_silent_is_told(office: Office, hosts: list[Worker]) -> None:
    job = asked(office, hosts, submission("image copy", key="k", name=IMAGE, dest="host2")).good["job"]["id"]
    hosts[1].claim(free={"move": 1})
    need = {"op": "need", "ask": 2, "host": "host2", "job": job, "args": {}}
    waiting = office.ask(need)
    (question,) = office.questions("host1")
    hosts[0].answer(question, error=Refused("wrong_state", "it runs"))
    office.turn()
    assert (waiting.error.code, waiting.error.message, waiting.answer and waiting.answer["op"]) == (
        "wrong_state", "it runs", "need",
    )  # fmt: skip
    silent = office.ask(need)
    office.questions("host1")
    office.sleep(16.0)
    assert silent.error.code == "host_down"


# ------------------------------------------------------------------------------------------------------------- labels


@pytest.fixture
def shelf(office: Office, hosts: list[Worker]) -> list[Worker]:
    """Three versions on host1, one of them on host2 as well."""
    hosts[0].vms.update({"el9:1": "shut-off", "el9:2": "shut-off", "el9:3": "shut-off"})
    hosts[1].vms["el9:1"] = "shut-off"
    for host in hosts:
        host.answers["image list"] = lambda args, host=host: {"items": [{"name": name} for name in host.vms]}  # type: ignore[misc]
    return hosts


def read(office: Office, hosts: list[Worker], action: str, **args: Any) -> Asked:
    return asked(office, hosts, {"op": "read", "action": action, "args": args})


def listed(office: Office, hosts: list[Worker]) -> dict[str, list[str]]:
    """The labels of every image, by image and host."""
    items = read(office, hosts, "image list").good["items"]
    return {f"{item['name']}@{item['host']}": item["labels"] for item in items if item["labels"]}


def test_a_label_moves_and_moves_back(office: Office, shelf: list[Worker]) -> None:
    first = read(office, shelf, "image label", name="el9:1", as_="testing").good["item"]
    assert first == {"name": "el9:testing", "image": "el9:1", "before": None, "changed": True}
    assert listed(office, shelf) == {"el9:1@host1": ["testing"], "el9:1@host2": ["testing"]}
    assert read(office, shelf, "image promote", name="el9:testing").good["item"]["image"] == "el9:1"
    for version in ("el9:2", "el9:2", "el9:3"):
        read(office, shelf, "image promote", name=version).good  # noqa: B018
    assert listed(office, shelf)["el9:3@host1"] == ["stable"]
    office.restart()
    for host in shelf:
        host.hello()
    back = [read(office, shelf, "image rollback", name="el9:stable").good["item"]["image"] for _ in range(2)]
    assert back == ["el9:2", "el9:1"]
    bottom = read(office, shelf, "image rollback", name="el9:stable")
    assert (bottom.error.code, "never meant another image" in bottom.error.message) == ("wrong_state", True)
    read(office, shelf, "image label", name="el9:1", as_="stable", remove=True).good  # noqa: B018
    assert listed(office, shelf) == {"el9:1@host1": ["testing"], "el9:1@host2": ["testing"]}


def test_to_roll_back_is_done_once_for_each_request(office: Office, shelf: list[Worker]) -> None:
    """Whoever has heard no answer for ten seconds asks again."""
    for version in ("el9:1", "el9:2", "el9:3"):
        read(office, shelf, "image promote", name=version).good  # noqa: B018
    wanted = {"op": "read", "action": "image rollback", "args": {"name": "el9:stable"}, "key": "k"}
    first, second = office.post(wanted), office.post(wanted)
    office.turn()
    item = first.good["item"]
    assert (item["image"], second.good["item"]) == ("el9:2", item)
    office.restart()
    for host in shelf:
        host.hello()
    assert office.ask(wanted).good["item"] == item
    assert office.ask({**wanted, "key": "l"}).good["item"]["image"] == "el9:1", "another request"
    assert office.ask(wanted).good["item"] == item
    read(office, shelf, "image promote", name="el9:1", to="testing").good  # noqa: B018
    other = office.ask({**wanted, "args": {"name": "el9:testing"}})
    assert (other.error.code, other.error.message) == (
        "already_exists", "the key of this request belongs to another one",
    )  # fmt: skip


def test_a_label_that_somebody_moved_since_is_not_moved_back_by_an_answer_that_was_lost(
    office: Office, shelf: list[Worker]
) -> None:
    wanted = {"op": "read", "action": "image promote", "args": {"name": "el9:1"}, "key": "k"}

    def asked(message: dict[str, Any]) -> Any:
        found = office.ask(message)
        office.serve(*shelf)
        return found.good["item"]

    first = asked(wanted)
    asked({**wanted, "args": {"name": "el9:2"}, "key": "l"})
    assert asked(wanted) == first
    assert office.store.labels.all()["el9:stable"] == "el9:2"


def test_only_the_last_answers_are_kept(office: Office) -> None:
    for number in range(KEPT + 5):
        office.store.answers.put(f"key{number}", "asked", {"number": number})
    kept = [number for number in range(KEPT + 5) if office.store.answers.get(f"key{number}")]
    assert (kept[0], len(kept)) == (5, KEPT)


def test_an_image_without_a_version_has_labels_too(office: Office, shelf: list[Worker]) -> None:
    assert read(office, shelf, "image promote", name=IMAGE).good["item"]["name"] == "el9:stable"
    assert read(office, shelf, "image promote", name=IMAGE, to="other:stable").good["item"]["name"] == "other:stable"
    assert listed(office, shelf) == {f"{IMAGE}@host1": ["other:stable", "stable"]}


def test_a_label_is_refused_for_a_reason(office: Office, shelf: list[Worker]) -> None:
    assert read(office, shelf, "image label", name="el9:9", as_="x").error.code == "unknown_entity"
    assert read(office, shelf, "image label", name="el9:1", as_="2").error.code == "already_exists"
    assert read(office, shelf, "image rollback", name="el9:x").error.code == "unknown_entity"
    read(office, shelf, "image promote", name="el9:1")
    taken = asked(office, shelf, submission("image import", key="i", source="http://a.jp/x", name="el9:stable"))
    assert (taken.error.code, taken.error.message) == ("already_exists", "el9:stable is a label, of el9:1")


def test_a_label_is_replaced_before_a_host_hears_of_it(office: Office, shelf: list[Worker]) -> None:
    read(office, shelf, "image promote", name="el9:1")
    wanted = submission("vm clone", key="k", image="el9:stable", hostname="web1")
    job = asked(office, shelf, wanted).good["job"]
    assert job["args"]["image"] == "el9:1"
    read(office, shelf, "image promote", name="el9:2")
    each = [{"hostname": "web2"}, {"hostname": "web3"}]
    group = {"op": "submit_group", "key": "g", "action": "vm clone", "args": {"image": "el9:stable"}, "each": each}
    made = asked(office, shelf, {**group, "owner": "me@here"}).good["group"]["members"]
    assert [office.job(member["job"])["args"]["image"] for member in made] == ["el9:2", "el9:2"]
    copied = asked(office, shelf, submission("image copy", key="c", name="el9:stable", dest="host2")).good["job"]
    assert (copied["args"]["name"], copied["object"]) == ("el9:2", "el9:2@host2")


def told(content: str | None, **more: Any) -> dict[str, Any]:
    return {"name": "el9:1", "state": "shut-off", "uuid": "u", "content": content, "dependents": 0, **more}


@pytest.mark.parametrize(
    ("contents", "same"),
    [
        (["a", "a"], True),
        (["a", "b"], False),
        (["a", None], None),
        (["a"], True),
        ([None], True),
        ([None, None], None),
    ],
)
def test_whether_copies_are_the_same(contents: list[str | None], same: bool | None) -> None:
    items = [told(content, host=f"host{number}") for number, content in enumerate(contents)]
    found = images.one("el9:1", {"items": items, "missing_hosts": []})["item"]
    assert (found["same"], len(found["hosts"])) == (same, len(contents))
    assert found["content"] == (None if same is False else contents[0])


# ------------------------------------------------------------------------------- a clone whose image is copied first


def test_a_clone_goes_where_room_is_and_its_image_before_it(office: Office, hosts: list[Worker]) -> None:
    full = hosts[0].survey

    def no_room() -> dict[str, Any]:
        return {**full(), "memory_free_bytes": 1 << 20}

    hosts[0].survey = no_room  # type: ignore[method-assign]
    wanted = {"image": IMAGE, "hostname": "web1"}
    refused = asked(office, hosts, submission("vm clone", key="a", **wanted))
    assert (refused.error.code, "--copy-image=auto" in refused.error.hint) == ("no_capacity", True)
    planned = asked(office, hosts, submission("vm clone", key="b", dry_run=True, **wanted, copy_image="auto"))
    plan = planned.good["plan"]
    assert plan["would"]["first"] == {"copy": IMAGE, "from": "host1", "to": plan["host"]}
    assert f"gets {IMAGE} from host1 first" in plan["why"]
    job = asked(office, hosts, submission("vm clone", key="c", **wanted, copy_image="auto")).good["job"]
    there = next(host for host in hosts if host.name == job["host"])
    assert there.name in ("host2", "host3")
    (copy,) = there.claim(free={"move": 1, "disk": 1})
    assert office.job(copy)["action"] == "image copy"
    assert f"held by job {copy} (image copy" in office.job(job["id"])["waits_for"]
    again = asked(office, hosts, submission("vm clone", key="c", **wanted, copy_image="auto")).good["job"]
    assert again["id"] == job["id"]
    there.run(copy)
    there.end(copy)
    there.vms[IMAGE] = "shut-off"
    assert there.claim(free={"disk": 1}) == [job["id"]]


def test_many_go_where_room_is_and_one_copy_of_their_image_before_them(office: Office, hosts: list[Worker]) -> None:
    """Room for three where the image is: the others go to one of those that lack it, and do not wait for each other."""
    for host, vms in zip(hosts, (3, 5, 0), strict=True):
        told, room = host.survey(), vms * (1 << 30) + (vms << 26)
        host.survey = lambda told=told, room=room: {**told, "memory_free_bytes": room}  # type: ignore[method-assign]
    args = {"image": IMAGE, "hostname": "ci-{n}", "memory": 1 << 30, "copy_image": "auto"}
    group = {
        "op": "submit_group", "action": "vm clone", "args": args, "each": [], "owner": "me@here", "count": 10,
    }  # fmt: skip
    plan = asked(office, hosts, {**group, "key": "p", "dry_run": True}).good["plan"]
    places = [one["host"] for one in plan["members"]]
    assert places == ["host1"] * 3 + ["host2"] * 5 + [None] * 2
    assert f"gets {IMAGE} from host1 first" in plan["members"][3]["why"]
    assert "no host can take ci-9" in plan["members"][8]["why"]
    made = asked(office, hosts, {**group, "key": "g"}).good["group"]
    clones = [member["job"] for member in made["members"][3:8]]
    assert len(hosts[0].claim(free={"disk": 9})) == 3
    (copy,) = hosts[1].claim(free={"move": 9, "disk": 9})
    assert office.job(copy)["action"] == "image copy"
    assert f"held by job {copy} (image copy" in office.job(clones[4])["waits_for"]
    hosts[1].run(copy)
    hosts[1].end(copy)
    hosts[1].vms[IMAGE] = "shut-off"
    assert hosts[1].claim(free={"disk": 9}) == clones


def built(name: str, key: str) -> dict[str, Any]:
    """Somebody wants the name for something else, on a host that has room."""
    return submission("vm build", key=key, name=name, barebones=True, disk=GIB, on="host2")


def leave(host: Worker, memory: int) -> None:
    """A host has so much memory left."""
    told = host.survey()
    host.survey = lambda: {**told, "memory_free_bytes": memory}  # type: ignore[method-assign]


def copied_first(office: Office, hosts: list[Worker], *names: str, **policy: Any) -> tuple[dict[str, Any], str]:
    """(a group of clones for which their image is copied, the copy): no memory is where the image is."""
    leave(hosts[0], 1 << 20)
    group = {
        "op": "submit_group", "key": "g", "action": "vm clone", "args": {"image": IMAGE, "copy_image": "auto"},
        "each": [{"hostname": name} for name in names], "owner": "me@here", "policy": policy,
    }  # fmt: skip
    made = asked(office, hosts, group).good["group"]
    (copy,) = office.store.jobs.open_of_action("image copy")
    return made, copy["id"]


@pytest.mark.parametrize("begun", [False, True], ids=["queued", "runs"])
def test_the_copy_of_clones_that_were_cancelled_keeps_none_of_their_names(
    office: Office, hosts: list[Worker], begun: bool
) -> None:
    leave(hosts[2], 0)
    made, copy = copied_first(office, hosts, "web1", "web2")
    there = next(host for host in hosts if host.name == office.job(copy)["host"])
    if begun:
        assert there.claim(free={"move": 1}) == [copy]
        there.run(copy)
    office.read("job cancel", id=made["members"][0]["job"])
    assert office.job(copy)["locks"] == [f"image:{IMAGE}@{there.name}", "vm:web2"], "one of two"
    assert asked(office, hosts, built("web1", key="b")).job
    assert office.job(copy)["state"] == ("running" if begun else "queued"), "the other one waits for it"
    office.read("job cancel", id=made["id"])
    assert office.job(copy)["state"] == ("running" if begun else "cancelled")
    assert asked(office, hosts, built("web2", key="c")).job
    left = office.store.jobs.holders(f"image:{IMAGE}@{there.name}")
    assert left == ([copy] if begun else []), "the image is being written there"


@pytest.mark.parametrize("begun", [False, True], ids=["queued", "runs"])
def test_clones_that_were_cancelled_are_tried_again_at_once(office: Office, hosts: list[Worker], begun: bool) -> None:
    """They wait for the copy that goes on, or get a new one."""
    leave(hosts[2], 0)
    made, copy = copied_first(office, hosts, "web1", "web2")
    if begun:
        assert hosts[1].claim(free={"move": 1}) == [copy]
        hosts[1].run(copy)
    office.read("job cancel", id=made["id"])
    again = asked(office, hosts, {"op": "retry", "key": "r", "id": made["id"], "owner": "me@here"}).good["group"]
    clones = [member["job"] for member in again["members"]]
    assert again["states"] == {"queued": 2}
    (now,) = office.store.jobs.open_of_action("image copy")
    assert (now["id"] == copy) == begun
    assert now["locks"] == [f"image:{IMAGE}@host2", "vm:web1", "vm:web2"]
    assert f"held by job {now['id']} (image copy" in office.job(clones[1])["waits_for"]
    if not begun:
        assert hosts[1].claim(free={"move": 1, "disk": 9}) == [now["id"]]
    hosts[1].end(now["id"])
    assert hosts[1].claim(free={"disk": 9}) == clones


def test_what_a_copy_at_work_is_for_may_grow_and_shrink(office: Office, hosts: list[Worker]) -> None:
    copy = asked(office, hosts, submission("image copy", key="a", name=IMAGE, dest="host3")).good["job"]["id"]
    wanted = {"image": IMAGE, "on": "host3", "copy_image": "auto"}
    waits = asked(office, hosts, submission("vm clone", key="b", hostname="web1", **wanted))
    assert waits.error.message == f"job {copy} is working on {IMAGE}@host3", "it may be cancelled with its clones"
    assert hosts[2].claim(free={"move": 1}) == [copy]
    clone = asked(office, hosts, submission("vm clone", key="c", hostname="web1", **wanted)).good["job"]["id"]
    assert office.job(copy)["locks"] == [f"image:{IMAGE}@host3", "vm:web1"]
    office.read("job cancel", id=clone)
    assert (office.job(copy)["locks"], office.job(copy)["state"]) == ([f"image:{IMAGE}@host3"], "claimed")
    office.read("job cancel", id=copy)
    refused = asked(office, hosts, submission("vm clone", key="d", hostname="web1", **wanted))
    assert refused.error.message == f"job {copy} is working on {IMAGE}@host3", "it is being given up"


def test_a_decision_that_stops_the_clones_stops_their_copy(office: Office, hosts: list[Worker]) -> None:
    hosts[2].vms[IMAGE] = "shut-off"
    leave(hosts[2], 3 * GIB)
    made, copy = copied_first(office, hosts, "web1", "web2", on_failure="fail-fast")
    first = next(one for one in made["members"] if one["host"] == "host3")["job"]
    assert hosts[2].claim() == [first]
    hosts[2].end(first, "failed", error={"kind": "failed", "code": "environment_error", "message": "no"})
    assert office.job(made["members"][1]["job"])["state"] == "cancelled"
    assert office.job(copy)["state"] == "cancelled"
    assert "the clones that it was for" in office.job(copy)["message"]
    assert office.read("lock list").good["items"] == []


def test_the_copy_for_a_single_clone_is_given_up_with_it(office: Office, hosts: list[Worker]) -> None:
    wanted = {"image": IMAGE, "hostname": "web1", "on": "host3", "copy_image": "auto"}
    clone = asked(office, hosts, submission("vm clone", key="a", **wanted)).good["job"]
    (copy,) = office.store.jobs.open_of_action("image copy")
    office.read("job cancel", id=clone["id"])
    assert office.job(copy["id"])["state"] == "cancelled"


def test_the_copy_that_somebody_asked_for_stays_whatever_is_cancelled(office: Office, hosts: list[Worker]) -> None:
    copy = asked(office, hosts, submission("image copy", key="a", name=IMAGE, dest="host3")).good["job"]
    clone = asked(office, hosts, submission("vm clone", key="b", image=IMAGE, hostname="web1")).good["job"]
    office.read("job cancel", id=clone["id"])
    assert office.job(copy["id"])["state"] == "queued"


def test_on_a_host_that_lacks_the_image(office: Office, hosts: list[Worker]) -> None:
    wanted = {"image": IMAGE, "hostname": "web1", "on": "host3", "copy_image": "auto"}
    job = asked(office, hosts, submission("vm clone", key="a", **wanted)).good["job"]
    assert job["host"] == "host3"
    nowhere = {**wanted, "image": "el8.original", "hostname": "web2"}
    assert asked(office, hosts, submission("vm clone", key="b", **nowhere)).error.code == "unknown_entity"


def test_nothing_is_copied_where_it_would_not_help(office: Office, hosts: list[Worker]) -> None:
    wanted = {"image": IMAGE, "hostname": "web1", "memory": 1 << 50, "copy_image": "auto"}
    refused = asked(office, hosts, submission("vm clone", key="a", **wanted))
    assert refused.error.code == "no_capacity"
    assert "does not hold" in refused.error.message


def test_what_a_label_means_is_not_removed(office: Office, shelf: list[Worker]) -> None:
    read(office, shelf, "image promote", name="el9:2")
    last = asked(office, shelf, submission("image remove", key="a", name="el9:2"))
    assert (last.error.code, last.error.message) == ("protected", "el9:stable means el9:2")
    shelf[2].vms["el9:2"] = "shut-off"
    one_of_two = asked(office, shelf, submission("image remove", key="b", name="el9:2@host3"))
    assert one_of_two.good["job"]["host"] == "host3"
