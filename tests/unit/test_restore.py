"""A recorded outcome comes back as the type that the live call returned, or the record says why not."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import enum
import functools
import json
import pathlib
import typing
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, NotRequired, TypedDict, TypeVar

import attrs
import msgspec
import numpy as np
import pydantic
import pytest

from isotrace.canonical import value_bytes
from isotrace.errors import DuplicateKeyError, RestoreError
from isotrace.plain import to_plain
from isotrace.record.restore import can_restore, parameter_annotations, restore, return_annotation

T = TypeVar("T")
WHEN = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)


class Color(enum.Enum):
    RED = "red"
    PAIR = (1, 2)


class Level(enum.IntEnum):
    LOW = 1


class Bits(enum.Flag):
    A = 1
    B = 2


class OrderId(str):
    __slots__ = ()


Cents = NewType("Cents", int)


class Row(NamedTuple):
    a: int
    when: datetime


class Doc(TypedDict):
    title: str
    color: Color
    note: NotRequired[str]


@dataclasses.dataclass
class Item:
    sku: str
    color: Color = Color.RED
    price: Decimal = Decimal(0)


@dataclasses.dataclass(frozen=True, slots=True)
class Receipt:
    number: int
    items: tuple[Item, ...]
    extra: dict[str, Item] = dataclasses.field(default_factory=dict)
    path: pathlib.Path = pathlib.Path()


@dataclasses.dataclass
class Computed:
    cents: int
    euros: float = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        if self.cents < 0:
            raise ValueError("no negative amounts")
        self.cents = self.cents * 2
        self.euros = self.cents / 100


@dataclasses.dataclass
class Box(Generic[T]):
    content: T


@dataclasses.dataclass
class Tree:
    children: list[Tree] = dataclasses.field(default_factory=list)
    label: str | None = None


@attrs.define
class Order:
    number: int
    _lines: list[Item]
    total: int = attrs.field(init=False, default=0)


@attrs.frozen
class Frozen:
    when: datetime


class Struct(msgspec.Struct):
    cents: int
    when: datetime | None = None


class Model(pydantic.BaseModel):
    name: str
    when: datetime
    children: list[Model] = []
    color: Color = Color.RED


class Aliased(pydantic.BaseModel):
    user_name: str = pydantic.Field(alias="userName")


class Cat(pydantic.BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(pydantic.BaseModel):
    kind: Literal["dog"] = "dog"
    lives: int = 1


class Small(pydantic.BaseModel):
    x: int


class Large(pydantic.BaseModel):
    x: int
    y: int


class Tags(pydantic.RootModel[list[int]]):
    pass


ITEM = Item("a", Color.PAIR, Decimal("1.50"))
MODEL = Model(name="m", when=WHEN, children=[Model(name="c", when=WHEN)])

RESTORED = [
    # What JSON says exactly needs no annotation, and none changes it.
    ({"b": 1, "a": [20.0, 20, None, True, "x"]}, None),
    ({"b": 1, "a": 20.0}, dict[str, float]),
    ({"b": 1, "a": 20.0}, dict),
    ({"b": 1}, Any),
    ({"b": 1}, object),
    (20, float),
    ([1], list[int]),
    (None, type(None)),
    (None, int | None),
    ("text", str | None),
    ("text", Literal["text"]),
    ("x", Annotated[str, {"not": "hashable"}]),
    ([{"a": 1}], Sequence[Mapping[str, int]]),
    # What has a tag needs none either.
    (WHEN, None),
    (WHEN, datetime),
    (date(2024, 1, 2), date),
    (timedelta(1), timedelta),
    (Decimal("1.10"), Decimal),
    (b"\x00", bytes),
    ({1, 2}, None),
    ({1: "a"}, dict[int, str]),
    (2**70, int),
    (float("nan"), float),
    ("\ud800", str),
    ({"$iso:int": 5}, dict[str, int]),
    # Containers.
    ((1, "a"), tuple[int, str]),
    ((1, 2, 3), tuple[int, ...]),
    ((), tuple[()]),
    ((1, (2,)), tuple[int, tuple[int]]),
    ((1, 2), tuple),
    ([(1, 2)], list[tuple[int, int]]),
    ({"a": (1, 2)}, dict[str, tuple[int, int]]),
    (frozenset({1}), frozenset[int]),
    (frozenset({1}), frozenset),
    ({(1, 2)}, set[tuple[int, int]]),
    ({frozenset({1})}, set[frozenset[int]]),
    ({(1, 2): Color.RED}, dict[tuple[int, int], Color]),
    ({Color.RED: 1}, dict[Color, int]),
    (collections.OrderedDict(b=1, a=2), collections.OrderedDict),
    (collections.OrderedDict(b=1), collections.OrderedDict[str, int]),
    (collections.Counter("aab"), collections.Counter[str]),
    (collections.deque([WHEN]), collections.deque[datetime]),
    (bytearray(b"x"), bytearray),
    # Scalars.
    (uuid.UUID(int=5), uuid.UUID),
    (pathlib.PurePosixPath("/a"), pathlib.PurePosixPath),
    (pathlib.Path("a/b"), pathlib.Path),
    (Color.PAIR, Color),
    (Level.LOW, Level),
    (Bits.A | Bits.B, Bits),
    (OrderId("o1"), OrderId),
    (Cents(5), Cents),
    (np.float64(1.5), np.float64),
    # Objects.
    (Row(1, WHEN), Row),
    ({"title": "t", "color": Color.RED}, Doc),
    (ITEM, Item),
    (Receipt(1, (ITEM, Item("b")), {"x": ITEM}, pathlib.Path("p")), Receipt),
    ([Receipt(1, ())], list[Receipt]),
    ({"k": [ITEM]}, dict[str, list[Item]]),
    (Computed(5), Computed),
    (Box(WHEN), Box[datetime]),
    (Box((1, 2)), Box[tuple[int, int]]),
    (Tree([Tree(label="x")]), Tree),
    (Order(1, [ITEM]), Order),
    (Frozen(WHEN), Frozen),
    (Struct(5, WHEN), Struct),
    (MODEL, Model),
    ([MODEL], list[Model]),
    ({"m": MODEL}, dict[str, Model]),
    (Aliased(userName="x"), Aliased),
    (Tags([1]), Tags),
    (None, Model | None),
    (MODEL, Model | None),
    # Unions take the member that says the same again.
    (Dog(), Cat | Dog),
    (Dog(), typing.Union[Cat, Dog, None]),  # noqa: UP007  # the old spelling is what much code has
    ([Cat(), Dog()], list[Cat | Dog]),
    (ITEM, Receipt | Item),
    ((1, 2), list[str] | tuple[int, int]),
    ("plain", Item | str),
    (Color.RED, Color | int),
    (5, Color | int),
    (True, int | bool),
    (Large(x=1, y=2), Small | Large),  # Small would ignore half of it
    (["a"], list[int] | list[str]),
    ({"a": Cat()}, dict[str, Dog] | dict[str, Cat]),
]


@pytest.mark.parametrize(("value", "annotation"), RESTORED, ids=lambda value: str(value)[:40])
def test_a_value_comes_back_as_it_was(value, annotation):
    plain = to_plain(value)
    assert can_restore(value, annotation) is None
    for recorded in (plain, value_bytes(plain)):
        restored = restore(recorded, annotation)
        assert type(restored) is type(value)
        assert value_bytes(to_plain(restored)) == value_bytes(plain)
        if value == value:  # noqa: PLR0124  # NaN is not
            assert restored == value


def test_key_order_and_the_form_of_numbers_stay():
    text = b'{"z":20.0,"a":{"y":1e+16,"x":20},"m":[0.1,-0.0]}'
    for annotation in (None, dict, dict[str, Any], Any, Mapping[str, Any]):
        assert value_bytes(restore(text, annotation)) == text
        assert json.dumps(restore(text, annotation)) == json.dumps(json.loads(text))


@pytest.mark.parametrize(
    ("value", "annotation", "reason"),
    [
        ((1, 2), None, "tuple comes back as list: annotate what the function returns"),
        ((1, 2), list[int], "tuple comes back as list: annotate what the function returns"),
        ({"a": [(1, 2)]}, dict[str, Any], "tuple at /a/0 comes back as list: annotate it more exactly"),
        (ITEM, None, f"{__name__}.Item comes back as dict: annotate what the function returns"),
        (Color.RED, str, f"{__name__}.Color comes back as str: annotate what the function returns"),
        (np.array([1]), np.ndarray, "numpy.ndarray comes back as list: annotate what the function returns"),
        (frozenset([1]), None, "frozenset comes back as set: annotate what the function returns"),
        (object(), None, "not all of it can be kept: object at the top: builtins.object"),
        ([1, [len]], None, "not all of it can be kept: object at /1/0: builtins.builtin_function_or_method"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_would_come_back_as_something_else_is_said_in_a_sentence(value, annotation, reason):
    assert can_restore(value, annotation) == reason


def test_a_class_that_takes_its_content_differently_the_second_time_is_noticed():
    class Doubling(pydantic.BaseModel):
        n: int

        @pydantic.field_validator("n")
        def twice(cls, n: int) -> int:  # noqa: N805  # the form that the library asks for
            return n * 2

    assert can_restore(Doubling(n=1), Doubling) == (
        f"{__name__}.{Doubling.__qualname__} comes back with other content"
    )
    assert can_restore(Doubling(n=0), Doubling) is None


@pytest.mark.parametrize(
    ("plain", "annotation", "pointer"),
    [
        ({"sku": "a", "unknown": 1}, Item, "/unknown"),
        ({"number": 1, "items": [{"sku": "a"}, {"sku": "a", "color": "blue"}]}, Receipt, "/items/1/color"),
        ([], Item, ""),
        ({}, Item, ""),
        ({"cents": -1}, Computed, ""),
        ([1], tuple[int, int], ""),
        ({"a": [[1]]}, dict[str, list[tuple[int, int]]], "/a/0"),
        ([1], Row, ""),
        ({"name": "m"}, Model, ""),
        ([{"name": "m", "when": "never"}], list[Model], "/0"),
        ("blue", Color, ""),
        ("not a uuid", uuid.UUID, ""),
        ([{"$iso:int": "x"}], list[int], "/0/$iso:int"),
        ({"a": {"$iso:int": "x"}}, None, "/a/$iso:int"),
        ({"title": "t", "color": "blue"}, Doc, "/color"),
        ({"cents": 1, "more": 1}, Struct, "/more"),
        ({"$iso:dict": [[1]]}, dict[int, int], "/$iso:dict/0"),
        ({"kind": "bird"}, Cat | Dog, ""),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_with_its_place(plain, annotation, pointer):
    with pytest.raises(RestoreError) as caught:
        restore(plain, annotation)
    assert caught.value.pointer == pointer


def test_a_hostile_class_is_refused_by_name_not_by_its_own_error():
    class Odd:
        __attrs_attrs__ = ()

        def __init__(self, **kwargs: Any) -> None:
            raise SystemError("no")

    with pytest.raises(RestoreError, match="SystemError: no"):
        restore({}, Odd)


def test_bytes_that_are_no_strict_json_are_refused():
    with pytest.raises(DuplicateKeyError):
        restore(b'{"a":1,"a":2}', None)


def test_objects_that_are_nested_too_deeply_are_refused_by_name():
    tree = Tree()
    for _ in range(60):
        tree = Tree([tree])
    assert restore(to_plain(tree), Tree) == tree
    plain: Any = {"children": [], "label": None}
    for _ in range(5000):
        plain = {"children": [plain], "label": None}
    with pytest.raises(RestoreError, match="nested too deeply"):
        restore(plain, Tree)


def test_integers_that_no_record_can_hold_are_refused_by_name():
    with pytest.raises(RestoreError):
        restore({"color": 2**80}, Item | Receipt)


# --- annotations ------------------------------------------------------------------------------


def module_level(a: int, b: Item, c="x", *args: str, **kwargs: float) -> list[Item]: ...  # type: ignore[empty-body]  # only its annotations are read
def says_nothing(a): ...
def says_none() -> None: ...
def unresolvable(a: Item, b: NoSuchType) -> AlsoMissing: ...  # type: ignore[name-defined]  # noqa: F821  # the point
def stream() -> Iterator[Item]:
    yield ITEM


async def astream() -> AsyncIterator[Item]:
    yield ITEM


async def coroutine() -> Receipt: ...  # type: ignore[empty-body]  # only its annotations are read


def test_return_annotations_are_read_from_every_kind_of_function():
    assert return_annotation(module_level) == list[Item]
    assert return_annotation(says_nothing) is None
    assert return_annotation(says_none) is type(None)
    assert return_annotation(stream) is Item
    assert return_annotation(astream) is Item
    assert return_annotation(coroutine) is Receipt
    assert return_annotation(len) is None
    assert asyncio.iscoroutinefunction(coroutine)


def test_parameters_are_read_one_by_one_so_that_one_that_is_unknown_hides_no_other():
    assert parameter_annotations(module_level) == {"a": int, "b": Item, "args": str, "kwargs": float}
    assert parameter_annotations(unresolvable) == {"a": Item}
    assert return_annotation(unresolvable) is None


def test_classes_of_an_enclosing_function_are_found_where_the_function_uses_them():
    @dataclasses.dataclass
    class Local:
        x: tuple[int, ...]

    def uses_it() -> Local:
        return Local((1,))

    def does_not() -> Local: ...  # type: ignore[empty-body]  # only its annotations are read

    assert return_annotation(uses_it) is Local
    assert return_annotation(does_not) is None
    assert can_restore(uses_it(), return_annotation(uses_it)) is None


def test_methods_and_decorated_functions_are_read_through():
    class Service:
        def fetch(self) -> Item: ...  # type: ignore[empty-body]  # only its annotations are read

    @functools.wraps(Service.fetch)
    def wrapper(*args: Any) -> str: ...  # type: ignore[empty-body]  # only its annotations are read

    assert return_annotation(Service.fetch) is Item
    assert return_annotation(Service().fetch) is Item
    assert return_annotation(wrapper) is Item
