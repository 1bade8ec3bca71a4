"""Loops are found where a plain look at all calls finds them."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from isotrace.policy.loops import Calls
from isotrace.policy.rules import Loop

_CALLS = st.lists(st.sampled_from([b"a", b"b", b"c"]), max_size=40)


def broken_by(loop: Loop, before: list[bytes], call: bytes) -> bool:
    """The rule as it reads."""
    calls = [*before, call]
    if loop.cycle is None:
        recent = calls if loop.window is None else calls[-loop.window :]
        return recent.count(call) > loop.times
    for length in range(1, loop.cycle + 1):
        row = calls[-length:]
        repeated = calls[-length * (loop.times + 1) :]
        if len(row) == length and repeated == row * (loop.times + 1):
            return True
    return False


@given(calls=_CALLS, times=st.integers(1, 4), window=st.none() | st.integers(5, 9))
@example(calls=[b"a", b"b", b"b", b"b", b"b", b"a"], times=1, window=5)
def test_the_same_call_again(calls: list[bytes], times: int, window: int | None) -> None:
    _check(Loop(times, window), calls)


@given(calls=_CALLS, times=st.integers(1, 3), cycle=st.integers(1, 4))
@example(calls=[b"a", b"b"] * 10, times=2, cycle=2)
def test_the_same_row_again(calls: list[bytes], times: int, cycle: int) -> None:
    _check(Loop(times, cycle=cycle), calls)


def _check(loop: Loop, calls: list[bytes]) -> None:
    seen = Calls(loop)
    made: list[bytes] = []
    for call in calls:
        expected = broken_by(loop, made, call)
        assert (seen.problem(call) is not None) is expected, (made, call)
        if not expected or len(made) % 2:  # a flagged one is made all the same
            seen.add(call)
            made.append(call)
