"""The generated binder gives what `inspect.Signature.bind` gives, by the record's rules."""

from __future__ import annotations

import functools
import inspect
import itertools
from typing import Any

import numpy as np
import pytest

from isotrace.record.binding import _generated, is_default, make_binder, skill_signature


def plain(a, b): ...
def defaults(a, b=2, c="x"): ...
def keyword_only(a, *, b, c=None): ...
def positional_only(a, b=1, /, c=2): ...
def only_positional_only(a, /): ...
def everything(a, /, b, c=3, *args, d, e=5, **kwargs): ...
def variadic(*args, **kwargs): ...
def none(): ...
def shadows(list, dict, _, _out, __is_default=3): ...  # noqa: A002  # names that generated code might use


FUNCTIONS = [
    plain,
    defaults,
    keyword_only,
    positional_only,
    only_positional_only,
    everything,
    variadic,
    none,
    shadows,
]


def expected(function, args, kwargs):
    """By the definition: `Signature.bind`, defaults left out, star parameters as list and dict."""
    signature = inspect.signature(function)
    out: dict[str, Any] = {}
    for name, value in signature.bind(*args, **kwargs).arguments.items():
        parameter = signature.parameters[name]
        if parameter.kind is parameter.VAR_POSITIONAL:
            value = list(value)
        elif type(value) is type(parameter.default) and value == parameter.default:
            continue
        out[name] = value
    return out


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_every_call_binds_as_the_signature_says_or_is_refused_as_the_function_does(function):
    bind = make_binder(function, method=False)
    seen = 0
    for count, values in itertools.product(range(6), ((1, 2, 3, 4, 5), ("x", 2, "x", None, 5))):
        for names in itertools.chain.from_iterable(
            itertools.combinations(("a", "b", "c", "d", "e", "z"), n) for n in range(4)
        ):
            args, kwargs = values[:count], dict(zip(names, reversed(values), strict=False))
            try:
                # The call itself decides: `Signature.bind` of 3.13.0 takes some that are refused.
                function(*args, **kwargs)
            except TypeError:
                with pytest.raises(TypeError):
                    bind(*args, **kwargs)
                continue
            want = expected(function, args, kwargs)
            seen += 1
            got = bind(*args, **kwargs)
            assert got == want
            assert list(got) == list(want)
    assert seen > 0


class Thing:
    def method(self, a, b=2): ...
    def starred(*args): ...
    def named(this, /, x): ...  # noqa: N805  # any name will do for the subject


def test_a_method_is_bound_without_its_subject():
    thing = Thing()
    assert make_binder(Thing.method, method=True)(thing, 1, b=3) == {"a": 1, "b": 3}
    assert make_binder(Thing.method, method=True)(self=thing, a=1) == {"a": 1}
    assert make_binder(Thing.starred, method=True)(thing, 1, 2) == {"args": [1, 2]}
    assert make_binder(Thing.starred, method=True)(thing) == {}
    assert make_binder(Thing.named, method=True)(thing, 5) == {"x": 5}


def test_a_default_of_another_type_is_not_left_out():
    def f(a=1, b=True, c=0.0, d=None, e=()): ...

    bind = make_binder(f, method=False)
    assert bind(True, 1, 0, False, []) == {"a": True, "b": 1, "c": 0, "d": False, "e": []}
    assert bind(1, True, 0.0, None, ()) == {}


def test_a_container_that_only_compares_equal_is_not_left_out():
    assert is_default({"a": [1, "x"]}, {"a": [1, "x"]})
    assert not is_default({"a": [True, "x"]}, {"a": [1, "x"]})
    assert not is_default([1.0], [1])


def test_a_comparison_that_raises_or_is_ambiguous_keeps_the_argument():
    class Hostile:
        def __eq__(self, other):
            raise RuntimeError("do not compare me")

        __hash__ = object.__hash__

    array, hostile = np.array([1, 2]), Hostile()

    def f(a=array, b=hostile): ...

    bind = make_binder(f, method=False)
    other_array, other = np.array([1, 2]), Hostile()
    got = bind(other_array, other)
    assert got["a"] is other_array
    assert got["b"] is other
    assert bind(array, hostile) == {}


def test_a_cycle_in_a_default_is_compared_to_a_bounded_depth():
    a: list[Any] = []
    a.append(a)
    b: list[Any] = []
    b.append(b)
    assert not is_default(a, b)


def test_wrapped_functions_and_partials_bind_by_what_they_show():
    @functools.wraps(defaults)
    def wrapper(*args, **kwargs): ...

    assert make_binder(wrapper, method=False)(1, 5) == {"a": 1, "b": 5}
    partial = functools.partial(defaults, b=9)
    assert make_binder(partial, method=False)(1, c="y") == {"a": 1, "c": "y"}


def test_a_function_without_a_signature_is_bound_by_position():
    assert str(skill_signature(dict)) in ("(*args, **kwargs)", str(inspect.Signature()))
    assert make_binder(type, method=False)(1) == {"args": [1]}


def test_names_that_are_no_identifiers_never_reach_generated_code():
    def f(**kwargs): ...

    evil = inspect.Parameter("a", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    evil._name = "a): import os\ndef g("  # type: ignore[attr-defined]  # what no public way allows
    signature = inspect.Signature()
    signature._parameters = {"x": evil}  # type: ignore[attr-defined]  # as above
    f.__signature__ = signature  # type: ignore[attr-defined]  # as above
    with pytest.raises(ValueError, match="not a parameter's name"):
        _generated([evil], method=False)
    with pytest.raises(TypeError):
        make_binder(f, method=False)(a=1)


def test_dangerous_keywords_stay_data():
    bind = make_binder(variadic, method=False)
    assert bind(**{"a b": 1, "class": 2}) == {"kwargs": {"a b": 1, "class": 2}}
