"""What a rule can say, and what it is told where it can't."""

from __future__ import annotations

from pathlib import Path

import cel_expr_python  # noqa: F401  # conditions: where it is absent, this file is left out
import pytest
import yaml  # noqa: F401  # files of rules

from isotrace.errors import PolicyError
from isotrace.events import Event
from isotrace.policy import Limit, Loop, Policy, PolicyRule, policy_of, read_policy
from isotrace.policy.reading import parse_policy

GOOD = """
version: 1
rules:
  - id: no-big-refunds
    skills: [refund, "refund_*"]
    before: params.cents > 5000
    action: stop
    reason: refunds above 50 € need a person
    fail_closed: true
  - id: budget
    limit: {cost_cents: 100, steps: 50}
    scope: correlation
    action: flag
  - id: loop
    loop: {times: 3, cycle: 2}
    action: stop
"""

GOOD_TOML = """
version = 1
[[rules]]
id = "no-big-refunds"
skills = ["refund", "refund_*"]
before = "params.cents > 5000"
action = "stop"
reason = "refunds above 50 € need a person"
fail_closed = true
[[rules]]
id = "budget"
limit = {cost_cents = 100, steps = 50}
scope = "correlation"
action = "flag"
[[rules]]
id = "loop"
loop = {times = 3, cycle = 2}
action = "stop"
"""

RULES = (
    PolicyRule(
        id="no-big-refunds",
        skills=("refund", "refund_*"),
        before="params.cents > 5000",
        action="stop",
        reason="refunds above 50 € need a person",
        fail_closed=True,
    ),
    PolicyRule(id="budget", limit=Limit(cost_cents=100, steps=50), scope="correlation", action="flag"),
    PolicyRule(id="loop", loop=Loop(times=3, cycle=2), action="stop"),
)


def test_yaml_toml_and_python_say_the_same(tmp_path: Path) -> None:
    for name, text in (("rules.yaml", GOOD), ("rules.toml", GOOD_TOML)):
        (tmp_path / name).write_text(text, "utf-8")
        assert read_policy(tmp_path / name).rules == RULES
        assert policy_of(str(tmp_path / name)).rules == RULES  # type: ignore[attr-defined]
    assert policy_of(list(RULES)).rules == RULES  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rules:\n- {id: a, action: stop, before: 'params.x >'}", "r.yaml:2:33, rule a, line 1, column 11"),
        ("rules: [{id: a, action: stop, before: 'parms.x > 1'}]", "nearest: params"),
        ("rules: [{id: a, action: stop, before: 'totals.cost_cent > 1'}]", "nearest: cost_cents"),
        ("rules: [{id: a, action: stop, before: 'status == \"x\"'}]", "put the condition under `after`"),
        ("rules: [{id: a, action: stop, before: 'skill > 1'}]", "no matching overload"),
        ("rules: [{id: a, action: stop, before: skill}]", "expected bool; got string"),
        ("rules: [{id: a, action: stop, after: 'outcome.map(x, x) == []'}]", "there is no map()"),
        ("rules: [{id: a, action: stop, after: 'outcome.exists(x, x + x > 1)'}]", "there is no `+`"),
        ("rules: [{id: a, action: stop, after: 'outcome.exists(x, [x] == [])'}]", "constants alone"),
        ("rules: [{id: a, action: stop, after: 'code.matches(error)'}]", "a text in quotes"),
        ("rules: [{id: a, action: stop, after: 'code.matches(\"(\")'}]", "missing ): ("),
        ("rules: [{id: a, action: stap, deny: true}]", "r.yaml:1:25, rule a"),
        ("rules: [{id: a, action: stap, deny: true}]", "nearest: stop"),
        ("rules: [{id: a, actoin: stop, deny: true}]", "nearest: action"),
        ("rules: [{id: a, action: stop, deny: yes}]", "true or false is expected"),
        ("rules: [{id: a, action: stop}]", "got none"),
        ("rules: [{id: a, action: stop, deny: true, allow: [b]}]", "got deny and allow"),
        ("rules: [{id: a, action: stop, allow: []}]", "leave it out"),
        ("rules: [{id: a, deny: true}]", "an action"),
        ("rules: [{id: a, action: stop, limit: {cost_cent: 3}}]", "nearest: cost_cents"),
        ("rules: [{id: a, action: stop, limit: {}}]", "a limit says of what"),
        ("rules: [{id: a, action: stop, limit: {steps: -3}}]", "r.yaml:1:46, rule a"),
        ("rules: [{id: a, action: stop, limit: {cost_cents: .nan}}]", "a number, not negative"),
        ("rules: [{id: a, action: stop, loop: {window: 3}}]", "how many times"),
        ("rules: [{id: a, action: stop, loop: {times: 3, window: 3}}]", "longer than the times"),
        ("rules: [{id: a, action: stop, deny: true, scope: correlation}]", "belongs to a limit or a loop"),
        ("rules: [{id: a, action: stop, deny: true, fail_closed: true}]", "belongs to a condition"),
        ("rules: [{id: a, action: stop, effects: [wirte], deny: true}]", "nearest: write"),
        ("rules: [{id: a, action: stop, action: flag, deny: true}]", "twice (r.yaml:1:31)"),
        ("rules:\n- {id: a, action: stop, deny: true}\n- {id: a, action: flag, deny: true}", "r.yaml:3:8"),
        ("rules: [&x {id: a}]", "anchors and aliases"),
        ("rules: [!!python/object:os.system {id: a}]", "no tags"),
        ("rules: [", "r.yaml:1:9"),
        ("rules: " + "[" * 5000, "nested too deeply"),
        ("rule: []", "a list `rules`"),
        ("rules: []", "a list of rules"),
        ("rules: [{id: a, action: stop, deny: true}]\nversions: 1", "nearest: version"),
        ("version: 2\nrules: [{id: a, action: stop, deny: true}]", "unknown version"),
        ("#" + "x" * 300_000, "too large"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_place(text: str, message: str) -> None:
    with pytest.raises(PolicyError) as raised:
        parse_policy(text.encode(), where="r.yaml")
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[rules]]\nid = 'a'\nid = 'b'\ndeny = true", "r.toml:3:9"),
        ("[[rules]]\nid = 'a'\naction = 'stop'\nbefore = 'params.x >'", "rule a, line 1, column 11"),
        ("[[rules]]\nid = 2026-01-01\naction = 'stop'\ndeny = true", "a text of at most"),
        ("x = " + "[" * 50 + "]" * 50, "nested too deeply"),
    ],
)
def test_the_same_of_toml(text: str, message: str) -> None:
    with pytest.raises(PolicyError) as raised:
        parse_policy(text.encode(), where="r.toml", toml=True)
    assert message in str(raised.value)


def test_the_example_says_what_it_means() -> None:
    policy = read_policy(Path(__file__).parents[2] / "examples/rules.yaml")
    assert [rule.id for rule in policy.rules if rule.stops] == [
        "budget",
        "request-budget",
        "going-in-circles",
        "known-tools",
        "no-shell",
        "big-refunds",
        "few-refunds",
    ]
    run = {"run_id": "r", "tenant_id": "t", "correlation_id": "c", "agent_id": "a"}
    watch = policy.opened(Event(0, "run_started", 0, run))
    told = []
    for number, (kind, skill, params) in enumerate(
        [
            ("tool", "refund", b'{"cents":100}'),
            ("tool", "refund", b'{"cents":10001}'),
            ("tool", "drop_table", b"{}"),
            ("process", "bash", b'{"argv":["sudo","ls"]}'),
            ("llm", "gpt", b'{"model":"gpt-5"}'),
            ("llm", "gpt", b'{"model":"gpt-5-mini"}'),
        ]
    ):
        facts = {"lineage": [number], "kind": kind, "skill_name": skill, "effect": "write"}
        breaches = watch.judge(Event(number, "step_started", number, facts, {"params": params}))
        told.append([(one.policy_id, one.stop, one.reason[:12]) for one in breaches])
    assert told == [
        [],
        [("big-refunds", True, "a person dec")],
        [("known-tools", True, "drop_table i")],
        [("no-shell", True, "bash: params")],
        [("cheap-model", False, "gpt: has(par")],
        [],
    ]


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="can't be read"):
        read_policy(tmp_path / "none.yaml")


def test_a_policy_has_rules_with_ids_of_their_own() -> None:
    rule = PolicyRule(id="a", action="stop", deny=True)
    for rules in ([], [rule, rule]):
        with pytest.raises(PolicyError):
            Policy(rules)


def test_a_condition_without_its_library_is_an_error_at_load(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from isotrace.policy import conditions

    monkeypatch.setitem(sys.modules, "cel_expr_python", None)
    conditions._environment.cache_clear()
    with pytest.raises(PolicyError, match="isotrace\\[policy\\]"):
        PolicyRule(id="a", action="flag", before="true")
    conditions._environment.cache_clear()
