"""The first difference of two stored paths."""

from __future__ import annotations

from math import ceil, log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isotrace.compare import first_path_difference
from isotrace.errors import SchemeMismatchError
from isotrace.hashing import path_next, path_start

runs = st.lists(st.sampled_from([b"a", b"b"]), max_size=40)


class Stored:
    """The paths of a run, and how many of them were looked at."""

    def __init__(self, digests: list[bytes]) -> None:
        self.paths = [path_start()]
        self.looked = 0
        for digest in digests:
            self.paths.append(path_next(self.paths[-1], digest))

    def __call__(self, k: int) -> bytes:
        self.looked += 1
        return self.paths[k]


@given(runs, runs, runs)
def test_it_is_the_first_step_that_differs(
    shared: list[bytes], rest: list[bytes], other: list[bytes]
) -> None:
    one, two = shared + rest, shared + other
    expected = next((k for k in range(len(one + two)) if one[: k + 1] != two[: k + 1]), None)
    assert first_path_difference(len(one), len(two), Stored(one), Stored(two)) == expected


def test_it_looks_at_few_paths() -> None:
    one, two = Stored([b"a"] * 10_000), Stored([b"a"] * 7_777 + [b"b"] * 2_223)
    assert first_path_difference(10_000, 10_000, one, two) == 7_777
    assert one.looked <= ceil(log2(10_000)) + 1


def test_paths_of_two_schemes_are_not_compared() -> None:
    empty = Stored([])
    with pytest.raises(SchemeMismatchError):
        first_path_difference(0, 0, empty, empty, schemes=("iso1", "iso2"))
    assert first_path_difference(0, 0, empty, empty, schemes=("iso1", "iso1")) is None


def test_a_broken_path_equals_nothing() -> None:
    whole = Stored([b"a"] * 3)

    def broken(k: int) -> bytes | None:
        return whole(k) if k < 2 else None

    assert first_path_difference(3, 3, whole, broken) == 1
    assert first_path_difference(3, 3, broken, broken) == 1
