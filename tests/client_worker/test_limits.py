"""Who is cut off, and who asks too often: lists of numbers."""

from __future__ import annotations

import pytest

from maglica import wire
from maglica.client_worker.door import limits
from maglica.client_worker.door.limits import Cut, Rates, Seen, Watch, fair_share, network

MIB = 1 << 20
CALM = 40 * MIB


class Looks:
    """A watch, and the looks that it is shown: a second between two of them unless said otherwise."""

    def __init__(self, memory_limit: int = 512 * MIB, file_limit: int = 1024) -> None:
        self.watch = Watch(memory_limit, file_limit)
        self.now = 0.0

    def __call__(
        self, *seen: Seen, emptied: int = 0, memory: int = CALM, others: int = 0, after: float = 1.0
    ) -> list[Cut]:
        self.now += after
        return self.watch.look(list(seen), emptied=emptied, memory=memory, others=others, now=self.now)


@pytest.fixture
def looks() -> Looks:
    return Looks()


def rep(
    inode: int = 1, taken: int = 0, heard: int = 0, *, address: str = "10.0.0.1", waiting: int = 0, given: int = 0,
    key: str = "", fd: int = 0,
) -> Seen:  # fmt: skip
    return Seen(inode, fd or inode + 100, False, address, 40000 + inode, taken, given, waiting, heard, key)


def pub(inode: int = 1, taken: int = 500, *, address: str = "10.0.0.1") -> Seen:
    return Seen(inode, inode + 100, True, address, 40000 + inode, taken, 0, 0, 0)


def reasons(cuts: list[Cut]) -> list[tuple[int, str]]:
    return [(cut.seen.inode, cut.reason) for cut in cuts]


# -------------------------------------------------------------------------------------- messages without an end


def test_as_many_whole_messages_as_may_wait_are_no_offence(looks: Looks) -> None:
    assert looks(rep(taken=limits.UNHEARD_BYTES)) == []


def test_more_than_that_without_one_whole_message_can_only_be_one_without_an_end(looks: Looks) -> None:
    assert reasons(looks(rep(taken=limits.UNHEARD_BYTES + 100))) == [(1, "unfinished message")]


def test_a_peer_that_is_heard_may_send_as_much_as_it_likes(looks: Looks) -> None:
    for number in range(1, 50):
        assert looks(rep(taken=number * 100 * MIB, heard=number), emptied=number) == []


def test_what_was_heard_before_does_not_help(looks: Looks) -> None:
    assert looks(rep(taken=50 * MIB, heard=9)) == []
    assert looks(rep(taken=51 * MIB, heard=10)) == []
    assert looks(rep(taken=52 * MIB, heard=10)) == []
    assert reasons(looks(rep(taken=57 * MIB, heard=10))) == [(1, "unfinished message")]


def test_where_the_loop_found_nothing_whole_a_message_and_a_bit_is_enough(looks: Looks) -> None:
    size = limits.UNFINISHED_BYTES + 100
    assert looks(rep(taken=size), emptied=5) == []
    assert looks(rep(taken=size), emptied=6) == [], "it may have begun to empty the queue before this came"
    assert reasons(looks(rep(taken=size), emptied=7)) == [(1, "unfinished message")]


def test_a_loop_that_stands_still_accuses_nobody(looks: Looks) -> None:
    for _ in range(20):
        assert looks(rep(taken=3 * MIB), emptied=5) == []


def test_one_large_message_on_a_slow_line_is_no_offence(looks: Looks) -> None:
    for second in range(60):
        assert looks(rep(taken=second * wire.MAX_BYTES // 60), emptied=10 * second) == []


def test_heartbeats_of_a_day_are_no_offence(looks: Looks) -> None:
    for hour in range(24):
        assert looks(rep(taken=700 + hour * 3600 * 16, heard=1), emptied=hour * 3600, after=3600) == []


def test_a_connection_that_takes_over_a_number_is_not_judged_by_the_old_ones_messages(looks: Looks) -> None:
    """Between two looks one connection ended, and another one of its descriptor sent a lot and was heard."""
    assert looks(rep(inode=1, taken=1000, heard=5)) == []
    successor = Seen(77, 101, False, "10.0.0.1", 1, 300 * MIB, 0, 0, 2000)
    assert looks(successor) == []


def test_nobody_is_cut_twice(looks: Looks) -> None:
    assert len(looks(rep(taken=50 * MIB))) == 1
    assert looks(rep(taken=60 * MIB)) == []


# ------------------------------------------------------------------------------------------------ subscribers


def test_a_subscriber_has_a_handshake_some_topics_and_heartbeats(looks: Looks) -> None:
    assert looks(pub(taken=1500)) == []
    assert looks(pub(taken=1500 + 30 * 3600 * 16), after=30 * 3600) == []


def test_half_a_million_topics_are_cut_off_at_the_beginning(looks: Looks) -> None:
    assert reasons(looks(pub(taken=limits.SUBSCRIBER_BYTES + 1))) == [(1, "many subscriptions")]


def test_also_those_that_come_slowly(looks: Looks) -> None:
    found = [looks(pub(taken=1000 + second * 1024)) for second in range(20)]
    assert sum(map(len, found)) == 1


# ----------------------------------------------------------------------------------------- who does not read


def test_who_never_reads_is_cut_off(looks: Looks) -> None:
    assert looks(rep(taken=1000, waiting=1), after=1) == []
    assert looks(rep(taken=2000, heard=1, waiting=9), after=9) == []
    assert reasons(looks(rep(taken=3000, heard=2, waiting=9), after=2)) == [(1, "does not read")]


def test_who_reads_slowly_is_not(looks: Looks) -> None:
    for number in range(100):
        assert looks(rep(taken=1000, waiting=9, given=number), after=9) == []


# ---------------------------------------------------------------------------------------------- short memory


def test_while_memory_is_short_the_heaviest_go_first(looks: Looks) -> None:
    many = [rep(inode, taken=inode * 10_000) for inode in range(1, 41)]
    assert looks(*many) == []
    cuts = looks(*many, memory=300 * MIB)
    assert [cut.seen.inode for cut in cuts] == [*range(40, 40 - limits.AT_ONCE, -1)]


def test_honest_ones_stay_then_too(looks: Looks) -> None:
    honest = [rep(1, taken=MIB, heard=9), pub(2, taken=1500), rep(3, taken=300, heard=1)]
    for number in range(5):
        assert looks(*[one._replace(heard=one.heard + number) for one in honest], memory=500 * MIB) == []


# --------------------------------------------------------------------------------------------- the last file


def test_while_there_is_room_everybody_may_stay() -> None:
    looks = Looks(file_limit=160)
    assert looks(*[rep(inode) for inode in range(100)], others=40) == []


def test_the_greediest_address_gives_its_surplus_back() -> None:
    looks = Looks(file_limit=160)
    honest = [rep(inode, address=f"10.0.1.{inode}") for inode in range(20)]
    greedy = [rep(inode, address="10.0.0.9") for inode in range(100, 200)]
    cuts = looks(*honest, *greedy, others=40)
    assert {cut.seen.address for cut in cuts} == {"10.0.0.9"}
    assert len(cuts) == 20, "140 may be open, of which 40 are no connections"


def test_of_one_address_those_stay_that_were_heard_or_came_first() -> None:
    looks = Looks(file_limit=16)
    old = [rep(inode, taken=100) for inode in range(5)]
    looks(*old, others=4)
    heard = [one._replace(heard=1) for one in old]
    looks(*heard, others=4)
    idle = [rep(inode) for inode in range(10, 20)]
    cuts = looks(*heard, *idle, others=4)
    assert len(cuts) == 5
    assert {cut.seen.inode for cut in cuts} <= {one.inode for one in idle}


def test_an_address_is_as_much_as_one_customer_has() -> None:
    assert network("10.1.2.3") == network("::ffff:10.1.2.3") == "10.1.2.3"
    assert network("2001:db8::1") == network("2001:db8::ffff:1") != network("2001:db8:0:1::1")
    assert network("fe80::1%eth0") == network("fe80::2")


@pytest.mark.parametrize(
    ("sizes", "room", "share"),
    [
        ([5, 5], 10, 5),
        ([5, 5], 100, 5),
        ([1, 1, 98], 50, 48),
        ([100, 100], 50, 25),
        ([3], 0, 0),
        ([], 5, 0),
        ([3], -5, 0),
    ],
)
def test_fair_shares(sizes: list[int], room: int, share: int) -> None:
    assert fair_share(sizes, room) == share


# -------------------------------------------------------------------------------------- connections of one key


def test_a_key_has_so_many_connections_and_those_that_came_last_go(looks: Looks) -> None:
    most = limits.MOST_OF_KEY
    known = [rep(number, key="a") for number in range(1, most + 1)]
    other = rep(9001, address="10.0.0.9", key="b")
    assert looks(*known, other) == [], "nobody was heard yet"
    known = [one._replace(heard=1) for one in known]
    assert looks(*known, other._replace(heard=1)) == []
    late = [rep(5000 + number, key="a") for number in range(3)]
    assert looks(*known, other, *late) == [], "they have not said who they are"
    cuts = looks(*known, other, *[one._replace(heard=1) for one in late])
    assert {cut.seen.inode for cut in cuts} == {5000, 5001, 5002}
    assert {cut.reason for cut in cuts} == {"too many connections of one key"}
    assert {(cut.seen.key, cut.amount) for cut in cuts} == {("a", most + 3)}


def test_a_number_of_a_file_that_is_used_again_is_not_whoever_had_it_before(looks: Looks) -> None:
    known = [rep(number, heard=1, key="a") for number in range(1, limits.MOST_OF_KEY + 1)]
    looks(*[one._replace(heard=0, key="") for one in known])
    assert looks(*known) == []
    fresh = [rep(7000 + number, heard=1, key="a", fd=one.fd) for number, one in enumerate(known)]
    assert looks(*known[:50], *fresh[50:], rep(9999, heard=0, key="a")) == []


# ----------------------------------------------------------------------------------------------------- rates


def test_a_group_counts_as_many_requests_but_is_always_possible() -> None:
    rates = Rates(1000)
    assert [rates.weigh("a", 400, 0.0) for _ in range(4)] == [True, True, False, False]
    assert rates.weigh("b", 400, 0.0)
    assert not rates.overdrawn("a", 0.0), "to be told to wait is no flood"
    assert rates.weigh("a", 400, 0.4)
    few = Rates(20)
    assert few.admit("a", 100, 0.0)
    assert few.weigh("a", 1000, 0.0)
    assert few.weigh("a", 1, 0.0)
    assert few.admit("a", 100, 0.1), "and whoever asked may ask what became of it"


def test_who_asks_at_the_rate_is_never_turned_down() -> None:
    rates = Rates(100)
    assert all(rates.admit("a", 100, number / 100) for number in range(1000))


def test_who_asks_more_is_and_nobody_else() -> None:
    rates = Rates(100)
    answers = [rates.admit("a", 100, number / 1000) for number in range(1000)]
    assert 190 <= sum(answers) <= 210, "a second's worth at once, and a second's worth"
    assert rates.admit("b", 100, 1.0)
    assert not rates.overdrawn("b", 1.0)


def test_who_asks_half_as_much_again_gets_its_rate_and_stays() -> None:
    rates = Rates(100)
    answers = [rates.admit("a", 100, number / 150) for number in range(1500)]
    assert 1090 <= sum(answers) <= 1110
    assert not rates.overdrawn("a", 10.0)


def test_large_requests_cost_more() -> None:
    rates = Rates(60)
    assert [rates.admit("a", wire.MAX_BYTES, 0.0) for _ in range(5)] == [True, True, True, False, False]


def test_one_large_request_is_always_possible() -> None:
    assert Rates(10).admit("a", wire.MAX_BYTES, 0.0)


def test_who_does_not_listen_is_overdrawn_until_he_has_been_quiet() -> None:
    rates = Rates(100)
    for _ in range(199):
        rates.admit("a", 1, 0.0)
    assert not rates.overdrawn("a", 0.0)
    rates.admit("a", 1, 0.0)
    assert rates.overdrawn("a", 0.0)
    assert not rates.overdrawn("a", 0.5)
    assert rates.admit("a", 1, 0.5)


def test_peers_that_went_away_are_forgotten() -> None:
    rates = Rates(100)
    for number in range(50_000):
        rates.admit(str(number), 1, number / 1000)
    assert len(rates._buckets) <= 10_001
