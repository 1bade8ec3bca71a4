"""No file of rules does anything but apply or be refused with a named error; and whatever stands in it, and
whatever a call is given: a denied call never gets through."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import cel_expr_python  # noqa: F401  # conditions: where it is absent, this file is left out
import pytest
import yaml  # noqa: F401  # files of rules
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.record.lab import Lab

import isotrace
from isotrace.contracts import Breach
from isotrace.errors import PolicyError, PolicyViolation
from isotrace.events import Event
from isotrace.policy import Policy, PolicyRule
from isotrace.policy.reading import parse_policy

SLOW = settings(max_examples=150, deadline=20_000, suppress_health_check=list(HealthCheck))

# --- files -------------------------------------------------------------------------------------

_PIECES = st.sampled_from(
    [
        "rules:",
        "\n  - ",
        "\n    ",
        "id: a",
        "action: stop",
        "action: flag",
        "deny: true",
        "skills: [refund, '*']",
        "limit: {steps: 3}",
        "limit: {cost_cents: 1e3, tokens: 0x10}",
        "loop: {times: 1, cycle: 99}",
        "before: params.x > 1",
        "after: outcome.exists(x, x == 1)",
        "before: '[[[[[[[['",
        "scope: correlation",
        "{",
        "}",
        "[",
        "]",
        "[[rules]]\n",
        "id = 'a'\n",
        "action = 'stop'\n",
        "deny = true\n",
        "before = '''params.x\n> 1'''\n",
        "limit = {steps = 99999999999999999999}\n",
        "&a ",
        "*a",
        "!!python/object/apply:os.system",
        "<<: ",
        "? ",
        "| \n",
        "---\n",
        "%YAML 9.9\n",
        "2026-01-01",
        ".nan",
        "\t",
        "\x00",
        "\ufeff",
        "é",
        ", ",
        ": ",
        "\n",
    ]
)


@SLOW
@given(text=st.one_of(st.lists(_PIECES, max_size=30).map("".join), st.text(max_size=200)), toml=st.booleans())
@example(text="rules: [{id: a, action: stop, deny: true}]", toml=False)
@example(text="a: " + "{a: " * 2000, toml=False)
@example(text="a = " + "{a = " * 2000, toml=True)
@example(text="? " * 5000, toml=False)
def test_any_text_is_rules_or_a_named_error(text: str, toml: bool) -> None:
    try:
        policy = parse_policy(text.encode(errors="surrogatepass"), toml=toml)
    except PolicyError:
        return
    assert policy.rules


@SLOW
@given(data=st.binary(max_size=200), toml=st.booleans())
def test_so_is_anything_that_is_no_text(data: bytes, toml: bool) -> None:
    try:
        parse_policy(data, toml=toml)
    except PolicyError:
        pass


_KEYS = st.sampled_from([*PolicyRule.__dataclass_fields__, "steps", "times", "rules", "x"])
_ANY = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=5),
        st.sampled_from(
            ["stop", "flag", "a", "params.x > 1", "correlation", "write", "true", "code == null"]
        ),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(_KEYS, inner, max_size=6)),
    max_leaves=20,
)


@SLOW
@given(data=st.one_of(st.dictionaries(_KEYS, _ANY, max_size=8), _ANY))
def test_any_structure_is_a_rule_or_a_named_error(data: Any) -> None:
    try:
        PolicyRule.of(data)
    except PolicyError:
        pass


# --- conditions ----------------------------------------------------------------------------------

_ATOMS = st.sampled_from(
    [
        *("params", "skill", "kind", "step", "run", "totals", "outcome", "status", "code", "error", "tokens"),
        *("x", "y", "1", "2.5", "'a'", "''", "true", "null", "[]", "{}", "1u", "b'x'", "int"),
        *("params.a", "params.b", "totals.calls", "run.input", "timestamp('2020-01-01T00:00:00Z')"),
        "9223372036854775807",
    ]
)


def _larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    binary = st.sampled_from(["&&", "||", "==", "!=", "<", ">", "<=", "+", "-", "*", "/", "%", "in"])
    macro = st.sampled_from(["exists", "all", "exists_one", "filter", "map"])
    function = st.sampled_from(["size", "int", "string", "double", "bool", "type", "duration", "has"])
    return st.one_of(
        st.builds("({} {} {})".format, inner, binary, inner),
        st.builds("{}.{}(x, {})".format, inner, macro, inner),
        st.builds("{}[{}]".format, inner, inner),
        st.builds("{}({})".format, function, inner),
        st.builds("({} ? {} : {})".format, inner, inner, inner),
        st.builds("[{}, {}]".format, inner, inner),
        st.builds("{{{}: {}}}".format, inner, inner),
        st.builds("{}.contains({})".format, inner, inner),
        st.builds("{}.matches('(a+)+$')".format, inner),
        st.builds("!({} == {})".format, inner, inner),
    )


_EXPRESSIONS = st.one_of(
    st.recursive(_ATOMS, _larger, max_leaves=12),
    st.recursive(_ATOMS, _larger, max_leaves=8).map(lambda text: f"{text} == null"),
    st.text(max_size=30),
)

_VALUES = [
    b"{}",
    b'{"a":1,"b":"x"}',
    b'{"a":{"$iso:float":"nan"},"b":[[[[1]]]]}',
    b'{"a":"' + b"a" * 50_000 + b'","b":"' + b"a" * 25_000 + b'b"}',
    b'{"a":[' + b"0," * 20_000 + b'0],"b":[' + b"1," * 20_000 + b"1]}",
    b'{"a":123456789012345678901234567890,"b":{"":null}}',
    b'{"a":' + b"[" * 120 + b"]" * 120 + b"}",
]


@settings(SLOW, max_examples=400)
@given(text=_EXPRESSIONS, params=st.sampled_from(_VALUES), outcome=st.sampled_from(_VALUES))
@example(text="params.a.contains(params.b)", params=_VALUES[3], outcome=b"{}")
@example(text="params.a.all(x, params.b.all(y, x != y))", params=_VALUES[4], outcome=b"{}")
@example(text="params.a.filter(x, x == 0).size() > 1", params=_VALUES[4], outcome=b"{}")
@example(text="{[1]: 1}[[1]] == 1", params=_VALUES[0], outcome=b"{}")
def test_any_condition_is_answered_or_told_to_be_unanswerable(
    text: str, params: bytes, outcome: bytes
) -> None:
    for check in ("before", "after"):
        try:
            rule = PolicyRule(id="r", action="stop", **{check: text})  # type: ignore[arg-type]
        except PolicyError:
            continue
        breaches = _judged(rule, params, outcome)
        assert all(breach.policy_id == "r" for breach in breaches)
        for breach in breaches:
            assert breach.stop is not breach.reason.startswith("could not be evaluated: ")


def _judged(rule: PolicyRule, params: bytes, outcome: bytes) -> list[Breach]:
    start = {"run_id": "r", "tenant_id": "t", "correlation_id": "c", "agent_id": "a"}
    watch = Policy([rule]).opened(Event(0, "run_started", 0, start, {"input": params}))
    begun = {"lineage": [0], "kind": "tool", "skill_name": "s", "effect": "write"}
    ended = {"lineage": [0], "status": "success", "outcome_category": "SUCCESS", "outcome_code": None}
    found = list(watch.judge(Event(1, "step_started", 1, begun, {"params": params})))
    return [*found, *watch.judge(Event(2, "step_finished", 2, ended, {"outcome_data": outcome}))]


# --- a denied call never gets through ----------------------------------------------------------------

done: list[str] = []


@isotrace.skill
def refund(*args: Any, **kwargs: Any) -> None:
    done.append("call")


@isotrace.skill(name="refund")
async def arefund(*args: Any, **kwargs: Any) -> None:
    done.append("acall")


@isotrace.skill(name="refund")
def refunds(*args: Any, **kwargs: Any) -> Iterator[int]:
    done.append("stream")
    yield 1


@isotrace.skill(name="refund")
async def arefunds(*args: Any, **kwargs: Any) -> AsyncIterator[int]:
    done.append("astream")
    yield 1


@isotrace.skill(name="refund", retries=3)
def retried(*args: Any, **kwargs: Any) -> None:
    done.append("retried")
    raise ValueError


class Hostile:
    """An object that raises, whatever it is asked."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __repr__(self) -> str:
        raise RuntimeError("repr")

    __str__ = __repr__
    __hash__ = None  # type: ignore[assignment]  # as Python does beside __eq__

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("eq")


class Lying(dict):
    """A dictionary that says something else each time."""

    def __getitem__(self, key: Any) -> Any:
        return 0

    def items(self) -> Any:
        raise RuntimeError("items")


def _cyclic() -> Any:
    holder: list[Any] = []
    holder.append(holder)
    return holder


def _deep() -> Any:
    value: Any = 1
    for _ in range(5000):
        value = [value]
    return value


_MADE: dict[str, Any] = {
    "nan": lambda: float("nan"),
    "infinite": lambda: float("-inf"),
    "huge": lambda: 2**5000,
    "surrogate": lambda: "\ud800",
    "unseen": lambda: "ﬁ\u200b\u202e\x00",
    "bytes": lambda: b"\xff",
    "long": lambda: "a" * 200_000,
    "hostile": Hostile,
    "lying": lambda: Lying(a=1),
    "cyclic": _cyclic,
    "deep": _deep,
    "object": object,
    "keys": lambda: {1: 2, None: 3, (1,): 4},
    "tag": lambda: {"$iso:object": "x"},
    "odd tag": lambda: {"$iso:float": 3},
    "generator": lambda: (n for n in range(3)),
    "set": lambda: {1, 2},
    "complex": lambda: 1 + 2j,
}
_HOSTILE = st.sampled_from([("make", name) for name in _MADE])
_PARAMS = st.recursive(
    st.one_of(_HOSTILE, st.none(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


def _made(value: Any) -> Any:
    """The value that is meant: what can't be shown is named."""
    if isinstance(value, tuple):
        return _MADE[value[1]]()
    if isinstance(value, list):
        return [_made(one) for one in value]
    if isinstance(value, dict):
        return {key: _made(one) for key, one in value.items()}
    return value


_OTHERS = st.lists(
    st.sampled_from(
        [
            {"action": "flag", "deny": True},
            {"action": "flag", "allow": ("refund",)},
            {"action": "stop", "allow": ("*",)},
            {"action": "flag", "before": "params.nothing > 1"},
            {"action": "flag", "before": "false"},
            {"action": "stop", "after": "outcome.nothing == 1", "fail_closed": True},
            {"action": "flag", "limit": {"steps": 0}},
            {"action": "stop", "limit": {"cost_cents": 10}, "scope": "correlation"},
            {"action": "flag", "loop": {"times": 1}},
        ]
    ),
    max_size=4,
)
_DENYING = st.sampled_from(
    [
        {"deny": True},
        {"skills": ["refund"], "deny": True},
        {"skills": ["ref*", "x"], "effects": ["write"], "deny": True},
        {"kinds": ["tool"], "allow": ["look", "Refund", "refund "]},
        {"limit": {"steps": 0}},
        {"before": "true"},
        {"before": "skill == 'refund'"},
        {"before": "params.nothing.at.all > 5000", "fail_closed": True},
    ]
)


def _plain(value: Any) -> None:
    refund(value, key=value)


def _awaited(value: Any) -> None:
    async def main() -> None:
        await asyncio.gather(arefund(value), arefund(key=value), return_exceptions=True)
        await arefund(value)

    asyncio.run(main())


def _streamed(value: Any) -> None:
    list(refunds(value))


def _astreamed(value: Any) -> None:
    async def main() -> None:
        async for _ in arefunds(value):
            pass

    asyncio.run(main())


def _retried(value: Any) -> None:
    retried(value)


def _threaded(value: Any) -> None:
    with isotrace.ThreadPool(2) as pool:
        for future in [pool.submit(refund, value), pool.submit(refund, value)]:
            future.result()


def _in_a_thread_of_its_own(value: Any) -> None:
    import contextvars

    failed: list[BaseException] = []
    context = contextvars.copy_context()

    def work() -> None:
        try:
            context.run(refund, value)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    raise failed[0]


_FORMS = [_plain, _awaited, _streamed, _astreamed, _retried, _threaded, _in_a_thread_of_its_own]


@settings(SLOW, max_examples=120)
@given(value=_PARAMS, form=st.sampled_from(_FORMS), denying=_DENYING, others=_OTHERS, place=st.integers(0, 4))
def test_a_denied_call_never_gets_through(
    lab: Lab, value: Any, form: Any, denying: dict[str, Any], others: list[dict[str, Any]], place: int
) -> None:
    done.clear()
    rules = [{"id": f"other {index}", **other} for index, other in enumerate(others)]
    rules.insert(place, {"id": "denied", "action": "stop", **denying})
    with (
        pytest.raises(PolicyViolation) as raised,
        isotrace.run("fuzz", store=lab.store, policy=Policy(map(PolicyRule.of, rules))) as run,
    ):
        form(_made(value))
    assert raised.value.policy_id in {rule["id"] for rule in rules if rule["action"] == "stop"}
    assert done == []
    assert isotrace.flush(60)
    record = lab.ledger(run.run_id).record()
    assert {step.status.value for step in record.steps} == {"skipped"}
    assert "denied" in {one.policy_id for one in record.violations}
