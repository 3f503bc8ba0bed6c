"""Several names in one word."""

from __future__ import annotations

import pytest

from maglica.cli.names import expand, is_glob, matching
from maglica.errors import Refused


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["web1"], ["web1"]),
        (["ci-{1..3}"], ["ci-1", "ci-2", "ci-3"]),
        (["ci-{3..1}"], ["ci-3", "ci-2", "ci-1"]),
        (["ci-{08..11}"], ["ci-08", "ci-09", "ci-10", "ci-11"]),
        (["ci-{1..010}"], [f"ci-{number:03d}" for number in range(1, 11)]),
        (["{a,b}.example.jp"], ["a.example.jp", "b.example.jp"]),
        (["{a,b}{1..2}"], ["a1", "a2", "b1", "b2"]),
        (["web{,1}"], ["web", "web1"]),
        (["b", "a", "b", "{a,c}"], ["b", "a", "c"]),
        (["ci-*"], ["ci-*"]),
        (["ci-{1..2}*"], ["ci-1*", "ci-2*"]),
        ([], []),
    ],
)
def test_words_stand_for_names(words: list[str], names: list[str]) -> None:
    assert expand(words) == names


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("ci-{1..}", "cannot read {1..}"),
        ("ci-{x}", "cannot read {x}"),
        ("ci-{a..c}", "cannot read"),
        ("ci-{1..999999999}", "more than 10000"),
        ("{1..9999}{1..9999}", "more than 10000"),
    ],
)
def test_what_stands_for_nothing_is_refused(word: str, message: str) -> None:
    with pytest.raises(Refused, match=message) as caught:
        expand([word])
    assert caught.value.exit_status == 2


def test_globs() -> None:
    known = ["ci-1", "ci-2", "ci-20", "db1", "CI-3"]
    assert matching("ci-*", known) == ["ci-1", "ci-2", "ci-20"]
    assert matching("ci-?", known) == ["ci-1", "ci-2"]
    assert matching("[cd][ib]*1", known) == ["ci-1", "db1"]
    assert [is_glob(word) for word in ("ci-*", "ci-?", "[ab]", "ci-1")] == [True, True, True, False]
