"""Whether a global generator was drawn from, and its state noted and set again."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from isotrace.record.sources import generators
from isotrace.record.sources.generators import GlobalRandom, Watch


@pytest.fixture(autouse=True)
def kept() -> Iterator[None]:
    state = random.getstate()
    yield
    random.setstate(state)


@pytest.fixture(params=["seen in memory", "asked for"])
def one(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> GlobalRandom:
    """An interpreter that keeps its words elsewhere is asked for all of them."""
    if request.param == "asked for":
        monkeypatch.setattr(generators, "_position_and_words", lambda generator: None)
    return GlobalRandom()


def twelve_and_six_hundred() -> None:
    for _ in range(624):
        random.getrandbits(32)


@pytest.mark.parametrize(
    "draw",
    [
        random.random,
        lambda: random.gauss(0, 1),
        lambda: random.choice("ab"),
        random.seed,
        twelve_and_six_hundred,
    ],
)
def test_any_draw_shows(one: GlobalRandom, draw: Callable[[], Any]) -> None:
    random.seed(1)
    before = one.peek()
    assert one.peek() == before
    draw()
    assert one.peek() != before


def test_the_number_that_gauss_puts_by_shows(one: GlobalRandom) -> None:
    random.gauss(0, 1)
    before = one.peek()
    random.gauss(0, 1)
    assert one.peek() != before


def test_a_state_comes_back_from_plain_json(one: GlobalRandom) -> None:
    random.gauss(0, 1)
    state = json.loads(json.dumps(one.state()))
    numbers = [random.gauss(0, 1), random.random()]
    one.restore(state)
    assert [random.gauss(0, 1), random.random()] == numbers


def test_only_what_was_moved_is_noted_and_only_once() -> None:
    watch = Watch()
    watch.left(watch.peek())
    assert watch.states() == {}
    before = watch.peek()
    random.random()
    watch.left(before)
    assert list(watch.states()) == ["random"]
    assert watch.states() == {}


def test_memory_is_looked_at_on_this_interpreter() -> None:
    assert generators._position_and_words(random.Random()) is not None
