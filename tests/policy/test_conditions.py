"""Conditions say what they mean, and end."""

from __future__ import annotations

import threading
from typing import Any

import cel_expr_python  # noqa: F401  # conditions: where it is absent, this file is left out
import pytest

from isotrace.errors import PolicyError
from isotrace.policy.conditions import Condition, NotEvaluatedError


def holds(text: str, params: Any = None, size: tuple[int, int] = (100, 10), **values: Any) -> bool:
    condition = Condition(text, after=bool(values), pointer="/after" if values else "/before")
    given = {"params": params or {}, **values}
    return condition.holds(
        {name: value for name, value in given.items() if name in condition.names}, {"params": size}
    )


@pytest.mark.parametrize(
    ("text", "params", "expected"),
    [
        ("params.cents > 5000", {"cents": 5001}, True),
        ("params.cents > 5000", {"cents": 5000.5}, True),
        ("params.cents > 5000", {"cents": 5000}, False),
        ("has(params.cents) && params.cents > 1", {}, False),
        ("params.to.matches('^[a-z]+@example[.]com$')", {"to": "ada@example.com"}, True),
        ("params.items.exists(i, i.sku == 'x' && i.n > 3)", {"items": [{"sku": "x", "n": 4}]}, True),
        ("params.items.all(i, i.tags.exists(t, t == 'ok'))", {"items": [{"tags": ["ok"]}]}, True),
        ("params.items.filter(i, i > 1).size() == 2", {"items": [1, 2, 3]}, True),
        ("params.items.exists_one(i, i == 2)", {"items": [1, 2, 2]}, False),
        ("'é' in params", {"é": 1}, True),
    ],
)
def test_a_condition_is_true_or_false_of_params(text: str, params: Any, expected: bool) -> None:
    assert holds(text, params) is expected


@pytest.mark.parametrize(
    ("text", "params", "why"),
    [
        ("params.cents > 5000", {}, "cents"),
        ("params.cents > 5000", {"cents": {"$iso:float": "nan"}}, "overload"),
        ("params.cents > 5000", {"cents": 2**70}, "out of range"),
        ("params.x == 'a'", {"x": "\ud800"}, "null"),
        ("params.x", {"x": 3}, "no bool"),
        ("1 / params.x > 0", {"x": 0}, "divide by zero"),
    ],
)
def test_what_gives_no_answer_says_so(text: str, params: Any, why: str) -> None:
    with pytest.raises(NotEvaluatedError, match=why):
        holds(text, params)


@pytest.mark.parametrize(
    "text",
    [
        "params.a.contains(params.b)",
        "params.a.all(x, params.b == params.c)",
        "params.a.all(x, params.a.all(y, x == y))",
        "params.a == params.b && params.b == params.c && params.c == params.d && params.e == params.a",
    ],
)
def test_work_that_could_take_too_long_is_not_begun(text: str) -> None:
    with pytest.raises(NotEvaluatedError, match="too large"):
        holds(text, {}, size=(16 * 2**20, 2**20))
    assert holds(
        text, {"a": "b", "b": "b", "c": "b", "d": "b", "e": "c"} if "all" not in text else {"a": []}
    ) in (
        True,
        False,
    )


@pytest.mark.parametrize(
    "text",
    [
        "true" + " && true" * 1000,
        "(" * 500 + "true" + ")" * 500,
        "!" * 1999 + "a",
        "params" + ".a" * 900 + " == 1",
        "[1].exists(a, [1].exists(b, [1].exists(c, true)))",
        "params.a" + "+params.a" * 20 + " == ''",
        "[[params.a]].exists(x, [x, x].exists(y, true))",
        "[params.a].map(x, [x, x]).map(x, [x, x]).size() > 1",
        "google.protobuf.Struct{fields: {'a': params.a}} == params.b",
        "params.a.matches(params.b)",
        "params.a.matches('((a{1,100}){1,100}){1,100}')",
        "x" * 3000,
        "\0",
        "",
        "true // \ud800",
    ],
)
def test_an_expression_that_could_grow_or_nest_is_refused(text: str) -> None:
    with pytest.raises(PolicyError):
        Condition(text, after=False, pointer="/before")


def test_one_condition_serves_many_threads() -> None:
    condition = Condition("params.n % 2 == 0 && params.s.matches('a+')", after=False, pointer="/before")
    wrong: list[int] = []

    def ask(n: int) -> None:
        for _ in range(200):
            params = {"n": n, "s": "a" * (n + 1)}
            if condition.holds({"params": params}, {"params": (50, 2)}) is not (n % 2 == 0):
                wrong.append(n)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
