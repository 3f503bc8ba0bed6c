"""The window: whatever comes, in whatever order, its bytes are those that were sent."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from maglica.window import Window


@given(st.binary(max_size=200), st.data())
def test_any_pieces_in_any_order_give_exactly_the_bytes(data: bytes, draw: st.DataObject) -> None:
    """Lost, doubled and late pieces: as long as what is missing is sent again, the end is the same."""
    window, spots = Window(), st.integers(0, len(data))
    for _ in range(draw.draw(st.integers(0, 30))):
        at, end = sorted((draw.draw(spots), draw.draw(spots)))
        window.take(at, data[at:end])
        assert window.since(0, 1000)[1] == data[: window.end]
    window.take(window.end, data[window.end :])
    assert window.since(0, 1000) == (0, data)


@given(st.lists(st.binary(max_size=20)), st.integers(1, 30))
def test_what_is_pushed_leaves_the_last_bytes(pieces: list[bytes], size: int) -> None:
    window = Window(size=size)
    for piece in pieces:
        window.push(piece)
    whole = b"".join(pieces)
    at, data = window.since(0, 1000)
    assert (at, data) == (max(0, len(whole) - size), whole[-size:])
    assert window.end == len(whole)


@given(st.lists(st.tuples(st.binary(max_size=20), st.integers(0, 30))), st.integers(1, 30))
def test_what_is_put_is_never_lost(steps: list[tuple[bytes, int]], size: int) -> None:
    window, sent, read = Window(size=size), b"", b""
    for data, some in steps:
        taken = window.put(data)
        sent += data[:taken]
        assert window.room == 0 or taken == len(data)
        at, piece = window.since(len(read), some)
        assert at == len(read)
        read += piece
        window.forget(len(read))
    assert read + window.since(len(read), size)[1] == sent


def test_a_window_that_is_skipped_begins_anew() -> None:
    window = Window()
    window.put(b"abc")
    window.skip_to(2)
    assert window.since(0) == (0, b"abc"), "nothing is missing"
    window.skip_to(10)
    assert (window.start, window.end, window.take(9, b"xyz")) == (10, 10, 2)
    assert window.since(0) == (10, b"yz")
    assert window.since(99) == (12, b"")
