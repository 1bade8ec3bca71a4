from __future__ import annotations

import re
import time

import pytest

from isotrace.clock import SYSTEM, Clock, ManualClock


def test_the_system_clock_tells_utc_microseconds() -> None:
    before = time.time_ns() // 1000
    assert before <= SYSTEM.now_us() <= time.time_ns() // 1000
    assert SYSTEM.monotonic_ns() <= SYSTEM.monotonic_ns()


def test_system_ids_and_bytes_are_fresh() -> None:
    ids = {SYSTEM.new_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(re.fullmatch(r"[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}", one) for one in ids)
    assert len(SYSTEM.random_bytes(32)) == 32
    assert SYSTEM.random_bytes(32) != SYSTEM.random_bytes(32)


@pytest.mark.parametrize("clock", [SYSTEM, ManualClock()])
def test_both_clocks_are_clocks(clock: Clock) -> None:
    assert isinstance(clock, Clock)


def test_a_manual_clock_stands_still_until_told() -> None:
    clock = ManualClock(1000)
    assert (clock.now_us(), clock.now_us(), clock.monotonic_ns()) == (1000, 1000, 0)
    clock.advance(us=5, ms=1.5)
    assert (clock.now_us(), clock.monotonic_ns()) == (2505, 1_505_000)
    clock.set(7)
    assert (clock.now_us(), clock.monotonic_ns()) == (7, 1_505_000)
    with pytest.raises(ValueError, match="backwards"):
        clock.advance(us=-1)


def test_a_manual_clock_may_tick_with_each_reading() -> None:
    clock = ManualClock(10, tick_us=2)
    assert [clock.now_us() for _ in range(3)] == [10, 12, 14]
    assert clock.monotonic_ns() == 6000


def test_a_manual_clock_repeats_itself() -> None:
    one, other = ManualClock(), ManualClock()
    for _ in range(3):
        assert one.new_id() == other.new_id()
        assert one.random_bytes(32) == other.random_bytes(32)
    assert one.new_id() == f"{4:032x}"
    assert len({one.random_bytes(20), one.random_bytes(20)}) == 2
    assert len(one.random_bytes(20)) == 20
