"""Who is let in: invitations and what becomes of them, people's keys, the administrator's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from maglica.client_worker.door.keyring import HOST, STRANGER, Keyring, Who
from maglica.config import RoleSection
from tests.client_worker.office import ADDRESS, ADMIN_KEY, LockedOffice

A, B = "a" * 40, "b" * 40


@pytest.fixture
def office(tmp_path: Path) -> Iterator[LockedOffice]:
    found = LockedOffice(tmp_path)
    yield found
    found.close()


def role(office: LockedOffice, key: str) -> str:
    return office.broker.keyring.who(key, ADDRESS, office.now.ms).role


def admitted(office: LockedOffice, key: str) -> bool:
    return office.broker.admits(key, ADDRESS, office.now)


@pytest.mark.parametrize(
    ("narrow", "everything"),
    [
        ({}, True),
        ({"actions": "vm list"}, True),
        ({"vms": "ci-*, *"}, True),
        ({"vms": "ci-*"}, False),
        ({"vms": "?"}, False),
        ({"vms": "[!a]*"}, False),
        ({"hosts": "host1"}, False),
    ],
)
def test_what_concerns_everything_is_for_roles_for_all_vms_and_hosts(
    office: LockedOffice, narrow: dict[str, str], everything: bool
) -> None:
    ring = Keyring(office.store, {"some": RoleSection(base="admin", **narrow)}, is_open=False)
    assert ring.sees_all(Who("x", "some")) == everything
    assert not ring.sees_all(Who("x", STRANGER))


# --------------------------------------------------------------------------------------------------- invitations


def test_strangers_are_let_in_only_while_somebody_is_expected(office: LockedOffice) -> None:
    assert not admitted(office, A)
    secret = office.invite("host1")
    assert admitted(office, A)
    assert role(office, A) == STRANGER
    assert office.join("host1", secret, A).good
    assert role(office, A) == HOST
    assert admitted(office, A)
    assert not admitted(office, B), "nobody is expected any more"


def test_an_invitation_is_good_once(office: LockedOffice) -> None:
    secret = office.invite("host1")
    office.invite("host2")
    assert office.join("host1", secret, A).good
    stolen = office.join("host1", secret, B).error
    assert stolen.code == "denied"
    assert ADDRESS in stolen.message
    assert "maglica host revoke host1" in stolen.hint
    assert role(office, B) == STRANGER
    assert [line["object"] for line in office.audit(outcome="denied")] == ["host1"]


def test_two_at_once_with_one_token(office: LockedOffice) -> None:
    """In one turn of the loop: the second one is refused before the first one was answered."""
    secret = office.invite("host1")
    asked = []
    for key in (A, B):
        with office.of(key):
            asked.append(office.post({"op": "join", "host": "host1", "secret": secret}))
    office.turn()
    assert asked[0].good
    assert asked[1].error.code == "denied"


def test_a_lost_answer_is_given_again(office: LockedOffice) -> None:
    secret = office.invite("host1", expires=60.0)
    assert office.join("host1", secret, A).good
    drops = office.drops
    office.sleep(100.0)
    assert office.join("host1", secret, A).good
    assert office.drops == drops, "nobody's connection is ended by that"
    office.restart()
    assert office.join("host1", secret, A).good


def test_a_host_that_is_let_in_again_is_waited_for(office: LockedOffice) -> None:
    office.host("host1")
    office.read("host revoke", name="host1").good  # noqa: B018
    assert office.join("host1", office.invite("host1"), B).good
    (item,) = office.read("host list").good["items"]
    assert item["why"] == "has not reported since it joined"


def test_a_join_that_was_not_committed_has_not_happened(office: LockedOffice) -> None:
    secret = office.invite("host1")
    with office.of(A):
        office.post({"op": "join", "host": "host1", "secret": secret})
    office.store.rollback()
    office.broker.undone()
    assert role(office, A) == STRANGER
    assert office.join("host1", secret, B).good


def test_an_invitation_expires(office: LockedOffice) -> None:
    secret = office.invite("host1", expires=60.0)
    office.sleep(61.0)
    assert not admitted(office, A)
    error = office.join("host1", secret, A).error
    assert "expired at" in error.message
    assert "maglica host invite host1" in error.hint


@pytest.mark.parametrize("guess", ["", "guess", "x" * 10_000])
def test_an_invitation_is_not_guessed(office: LockedOffice, guess: str) -> None:
    secret = office.invite("host1")
    error = office.join("host1", guess, A).error
    assert error.code == "denied"
    assert not guess or guess not in error.message
    assert office.join("host1", secret, A).good, "a guess does not use it up"


def test_invitations_that_are_over_are_forgotten(office: LockedOffice) -> None:
    office.host("host1")
    late, soon = office.invite("host2"), office.invite("host3", expires=30 * 86400.0)
    office.sleep(8 * 86400.0)
    assert len(office.store.keys.invitations()) == 1, "a used one, and one that nobody came with, are gone"
    assert office.join("host2", late, "b" * 40).error.code == "denied"
    assert office.join("host3", soon, "c" * 40).good


def test_an_invitation_is_for_one_host(office: LockedOffice) -> None:
    secret = office.invite("host1")
    assert office.join("host2", secret, A).error.code == "denied"
    assert office.join("host1", secret, A).good


def test_a_newer_invitation_ends_the_one_before(office: LockedOffice) -> None:
    first, second = office.invite("host1"), office.invite("host1")
    assert "withdrawn" in office.join("host1", first, A).error.hint
    assert office.join("host1", second, A).good


def test_revoking_a_host_ends_its_invitation(office: LockedOffice) -> None:
    secret = office.invite("host1")
    assert office.read("host revoke", name="host1").good["item"]["changed"]
    assert not admitted(office, A)
    assert office.join("host1", secret, A).error.code == "denied"


def test_a_token_is_not_good_again_after_its_host_was_revoked(office: LockedOffice) -> None:
    secret = office.invite("host1")
    assert office.join("host1", secret, A).good
    office.read("host revoke", name="host1")
    office.invite("host2")  # so that strangers may come as far as the door
    for key in (A, B):
        assert office.join("host1", secret, key).error.code == "denied"
        assert role(office, key) == STRANGER


def test_a_host_that_was_installed_anew_takes_the_place_of_the_old_one(office: LockedOffice) -> None:
    old = office.host("host1", {}, key=A)
    drops = office.drops
    assert office.join("host1", office.invite("host1"), B).good
    assert office.drops == drops + 1, "the old one hears nothing more"
    assert old.sync().error.code == "denied"
    assert not office.broker.may_hear(A, b"host1\0", office.now)
    assert office.broker.may_hear(B, b"host1\0", office.now)


@pytest.mark.parametrize("what", ["another host's", "a person's", "a revoked one", "an expired one"])
def test_a_key_that_is_something_else_does_not_become_a_hosts(office: LockedOffice, what: str) -> None:
    if what == "another host's":
        office.host("host2", {}, key=A)
    elif what == "a revoked one":
        office.host("host1", {}, key=A)
        office.read("host revoke", name="host1")
    else:
        office.read("key add", name="x", role="reader", public_key=A, expires=30.0 if "expired" in what else None)
        office.sleep(31.0)
    before = office.broker.keyring.who(A, ADDRESS, office.now.ms)
    secret = office.invite("host1")
    assert office.join("host1", secret, A).error.code == "denied"
    assert office.broker.keyring.who(A, ADDRESS, office.now.ms) == before
    assert office.join("host1", secret, B).good, "the invitation is not used up by that"


def test_removing_a_host_shuts_it_out(office: LockedOffice) -> None:
    office.host("host1", {}, key=A)
    office.sleep(10.0)
    assert office.read("host remove", name="host1").good
    assert role(office, A) == STRANGER
    assert not admitted(office, A)


# -------------------------------------------------------------------------------------------------------- people


def test_a_key_that_is_added_twice_is_one(office: LockedOffice) -> None:
    """The request is given again when its answer was lost."""
    for _ in range(2):
        assert office.read("key add", name="x", role="reader", public_key=A).good["item"]["state"] == "good"
    other = office.read("key add", name="x", role="reader", public_key=B).error
    assert (other.code, "maglica key revoke x" in other.hint) == ("already_exists", True)
    assert office.read("key add", name="x", role="operator", public_key=A).error.code == "already_exists"
    assert office.read("key add", name="y", role="reader", public_key=A).error.code == "already_exists"
    assert len(office.read("key list").good["items"]) == 2


@pytest.mark.parametrize("name", ["host", "stranger", "amdin", "none"])
def test_a_role_that_is_none_is_not_given(office: LockedOffice, name: str) -> None:
    assert office.read("key add", name="x", role=name, public_key=A).error.code == "wrong_input"


def test_a_revoked_key_is_not_added_again(office: LockedOffice) -> None:
    key = office.person("x", "admin")
    assert office.read("key revoke", name="x").good["item"]["changed"] is True
    assert office.read("key revoke", name="x").good["item"]["changed"] is False
    assert office.read("key add", name="x", role="admin", public_key=key).error.code == "already_exists"
    assert role(office, key) == STRANGER


def test_the_last_administrator_stays(office: LockedOffice) -> None:
    assert office.read("key revoke", name="admin").error.code == "protected"
    office.person("x", "admin")
    assert office.read("key revoke", name="admin").good
    with office.of("x".ljust(40, "1")):
        assert office.read("key revoke", name="x").error.code == "protected"


def test_an_unknown_name_is_said(office: LockedOffice) -> None:
    office.person("alice", "reader")
    error = office.read("key revoke", name="alise").error
    assert (error.code, error.hint) == ("unknown_entity", "did you mean alice?")


def test_a_revoked_administrator_does_not_come_back_with_a_restart(office: LockedOffice) -> None:
    """Its file is still there; whoever copied it must stay outside."""
    office.person("x", "admin")
    assert office.read("key revoke", name="admin").good
    office.restart()
    assert role(office, ADMIN_KEY) == STRANGER
    ring = Keyring(office.store, {}, is_open=False)
    assert not ring.first_administrator("admin", ADMIN_KEY, office.now)
    assert ring.first_administrator("admin", B, office.now), "a file that was made anew is good"


def test_an_administrators_new_file_ends_the_old_one(office: LockedOffice) -> None:
    ring = Keyring(office.store, {}, is_open=False)
    assert ring.first_administrator("admin", B, office.now)
    assert ring.who(ADMIN_KEY, ADDRESS, office.now.ms).role == STRANGER
    assert ring.who(B, ADDRESS, office.now.ms).role == "admin"
