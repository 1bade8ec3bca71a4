"""What a tool returns or raises, taken apart into plain values and put together again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

import pytest
from pydantic import BaseModel

from isotrace.record.capture.forms import Reach, apart, name_of, together


class Colour(Enum):
    RED = "red"


class Point(NamedTuple):
    x: int
    y: int


@dataclass(frozen=True, slots=True)
class Box:
    corner: Point
    colours: tuple[Colour, ...]
    made: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "made", self.made + 1)


class Order(BaseModel):
    number: int
    boxes: list[Box] = []
    note: str = "none"


def a_tool() -> Order:
    raise NotImplementedError


@pytest.mark.parametrize(
    "value",
    [
        (1, ("a", [None, (2.5,)])),
        {"order": Order(number=1, boxes=[Box(Point(1, 2), (Colour.RED,))])},
        [Box(Point(0, 0), ())],
        {"plain": [1, "two"], "deep": ({"x": Point(3, 4)},)},
    ],
)
def test_what_the_tools_module_names_comes_back(value: Any) -> None:
    reach = Reach(a_tool)
    plain, forms = apart(value, reach)
    again = together(json.loads(json.dumps(plain)), json.loads(json.dumps(forms)), reach)
    assert again == value
    assert repr(again) == repr(value)


def test_a_model_knows_which_of_its_fields_were_given() -> None:
    reach = Reach(a_tool)
    again = together(*apart(Order(number=1), reach), reach)
    assert again.model_dump(exclude_unset=True) == {"number": 1}


def test_a_class_that_only_an_annotation_leads_to_is_in_reach() -> None:
    made: dict[str, Any] = {}
    exec("def hidden() -> 'Order': ...", made)
    hidden: Callable[..., Any] = made["hidden"]
    hidden.__annotations__["return"] = Order
    reach = Reach(hidden)
    assert reach.holds(Order)
    assert reach.holds(Box), "the type of one of its fields"


def test_no_other_class_is_looked_up() -> None:
    reach = Reach(len)
    assert reach.find(name_of(Order)) is None
    order = Order(number=1)
    assert apart(order, reach) == (order, [])
    with pytest.raises(LookupError):
        together({"number": 1}, [[[], "model", name_of(Order), []]], reach)
    with pytest.raises(LookupError):
        together("true", [[[], "enum", "subprocess.Popen"]], Reach(a_tool))


def test_what_is_too_large_stays_as_it_is() -> None:
    shared: Any = ("x",)
    for _ in range(40):
        shared = (shared, shared)
    assert apart(shared, Reach(a_tool)) == (shared, [])


def test_what_refers_to_itself_stays_as_it_is() -> None:
    ring: list[Any] = [()]
    ring.append(ring)
    plain, forms = apart(ring, Reach(a_tool))
    assert plain is ring
    assert forms == []
