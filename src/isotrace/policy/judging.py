"""Rules held against a run's events, one after the other: while it is recorded, and when it is on record.

There is one way to judge, so that what a backtest says of a run is what would have happened to it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from isotrace.contracts import Breach, RunPolicy
from isotrace.contracts import Policy as AnyPolicy
from isotrace.errors import PolicyError, PolicyViolation
from isotrace.events import Event
from isotrace.models import Lineage
from isotrace.policy.conditions import NotEvaluatedError
from isotrace.policy.loops import Calls
from isotrace.policy.rules import Limit, PolicyRule, fits
from isotrace.policy.values import Call, Value, call_of, message_of, tokens_of

MAX_RULES = 1000
MAX_CORRELATIONS = 10_000
"""Of so many correlations the sums are kept; that of the one that was longest without a run goes first."""


class Policy:
    """Rules that are applied together, in this order. Safe to share between runs and threads.

    Raises `PolicyError` for no rules, more than 1,000, and two of one id.
    """

    def __init__(self, rules: Iterable[PolicyRule], *, name: str = "policy") -> None:
        self.rules = tuple(rules)
        self.name = name
        if not 0 < len(self.rules) <= MAX_RULES:
            raise PolicyError(f"a policy has 1 to {MAX_RULES} rules", got=len(self.rules))
        seen: set[str] = set()
        for rule in self.rules:
            if rule.id in seen:
                raise PolicyError("two rules have one id", where=f"rule {rule.id}", pointer="/id")
            seen.add(rule.id)
        self.looks_at = frozenset(self._looks_at())
        self.stops = any(rule.stops or rule.fail_closed for rule in self.rules)
        self.correlates = any(rule.scope == "correlation" for rule in self.rules)
        self._shared: OrderedDict[tuple[str, str], _Shared] = OrderedDict()
        self._lock = threading.Lock()

    @classmethod
    def read(cls, path: str | Path) -> Policy:
        """The rules of a YAML or TOML file. Raises `PolicyError` with the place of what is wrong."""
        from isotrace.policy.reading import read_policy  # noqa: PLC0415 - it makes policies in turn

        return read_policy(path)

    def _looks_at(self) -> Iterator[str]:
        for rule in self.rules:
            limit = rule.limit
            names = rule.condition.names if rule.condition is not None else frozenset()
            if rule.loop is not None or "params" in names:
                yield "params"
            spends = limit is not None and (limit.cost_cents is not None or limit.tokens is not None)
            if spends or names & {"outcome", "cost_cents", "tokens", "totals", "error"}:
                yield "outcome"

    def opened(self, started: Event) -> RunPolicy:
        """Watches a run that begins with this event."""
        return _Watch(self, started)

    def shared(self, tenant_id: str, correlation_id: str) -> _Shared:
        """What is counted over the runs of a correlation."""
        key = (tenant_id, correlation_id)
        with self._lock:
            found = self._shared.get(key)
            if found is None:
                found = self._shared[key] = _Shared()
                if len(self._shared) > MAX_CORRELATIONS:
                    self._shared.popitem(last=False)
            self._shared.move_to_end(key)
            return found


class _Shared:
    """Counters of several runs, and the lock that they are used under."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.counters: dict[str, _Counter] = {}


class _Counter:
    """What one rule counts."""

    def __init__(self, rule: PolicyRule) -> None:
        self.cost_cents = 0.0
        self.tokens = 0
        self.steps = 0
        self.retries = 0
        self.started_us: int | None = None
        self.exceeded: dict[str, str] = {}
        self.told: set[str] = set()
        self.calls = None if rule.loop is None else Calls(rule.loop)

    def elapsed_ms(self, event: Event) -> float:
        return max(0, event.time_us - (self.started_us or 0)) / 1000


class _Watch:
    """One policy over one run."""

    def __init__(self, policy: Policy, started: Event) -> None:
        facts = started.facts
        self._started_us = started.time_us
        self._rules = [rule for rule in policy.rules if rule.concerns(facts.get("agent_id"))]
        self._shared: _Shared | None = None
        if any(rule.scope == "correlation" for rule in self._rules):
            tenant, correlation = str(facts.get("tenant_id")), str(facts.get("correlation_id"))
            self._shared = policy.shared(tenant, correlation)
        self._counters = {rule.id: self._counter(rule) for rule in self._rules}
        self._latched: dict[str, str] = {}
        self._open: dict[Lineage, Call] = {}
        self._totals = _Counter(_NO_RULE)
        self._totals.started_us = started.time_us
        self._by_skill: dict[str, int] = {}
        self._started = started
        self._run: dict[str, Any] | None = None

    def _counter(self, rule: PolicyRule) -> _Counter:
        if rule.scope == "run" or self._shared is None:
            counter = _Counter(rule)
        else:
            with self._shared.lock:
                counter = self._shared.counters.setdefault(rule.id, _Counter(rule))
        if counter.started_us is None or self._started_us < counter.started_us:
            counter.started_us = self._started_us
        return counter

    def judge(self, event: Event) -> Sequence[Breach]:
        """What the run violates with this event; see `isotrace.contracts.RunPolicy`."""
        handler = _HANDLERS.get(event.type)
        if handler is None:
            return ()
        if self._shared is None:
            return handler(self, event)
        with self._shared.lock:
            return handler(self, event)

    # --- before a step -----------------------------------------------------------------------

    def _begun(self, event: Event) -> list[Breach]:
        call = call_of(event, self._totals.steps)
        about = [rule for rule in self._rules if rule.is_about(call.kind, call.skill, call.effect)]
        breaches = [Breach(name, reason, stop=True) for name, reason in self._latched.items()]
        for rule in about:
            breaches += self._before(rule, call, event)
        if not any(breach.stop for breach in breaches):
            self._count(call, about)
        return breaches

    def _count(self, call: Call, about: list[PolicyRule]) -> None:
        """The step is going to happen."""
        self._open[call.lineage] = call
        self._totals.steps += 1
        self._by_skill[call.skill] = self._by_skill.get(call.skill, 0) + 1
        for rule in about:
            counter = self._counters[rule.id]
            counter.steps += 1
            if counter.calls is not None:
                counter.calls.add(call.digest)

    def _before(self, rule: PolicyRule, call: Call, event: Event) -> Iterator[Breach]:
        if rule.deny:
            yield _breach(rule, f"{call.skill} is denied")
        elif rule.allow:
            if not fits(call.skill, rule.allow):
                yield _breach(rule, f"{call.skill} is not among what is allowed")
        elif rule.limit is not None:
            yield from self._limit_before(rule, rule.limit, event)
        elif rule.loop is not None:
            yield from self._loop_before(rule, call)
        elif rule.before is not None:
            yield from self._asked(rule, call, event, {})

    def _limit_before(self, rule: PolicyRule, limit: Limit, event: Event) -> Iterator[Breach]:
        counter = self._counters[rule.id]
        if limit.steps is not None and counter.steps + 1 > limit.steps:
            counter.exceeded.setdefault("steps", f"more than {limit.steps} steps")
        elapsed = counter.elapsed_ms(event)
        if limit.duration_ms is not None and elapsed > limit.duration_ms:
            counter.exceeded.setdefault("duration", _over("duration", elapsed, limit.duration_ms))
        yield from self._told(rule, counter, stopping=True)

    def _told(self, rule: PolicyRule, counter: _Counter, *, stopping: bool) -> Iterator[Breach]:
        """A limit is flagged once; what it stops, it stops each time."""
        if rule.stops and stopping and counter.exceeded:
            yield _breach(rule, next(iter(counter.exceeded.values())))
        else:
            for what in [one for one in counter.exceeded if one not in counter.told]:
                yield _breach(rule, counter.exceeded[what])
        counter.told.update(counter.exceeded)

    def _loop_before(self, rule: PolicyRule, call: Call) -> Iterator[Breach]:
        calls = self._counters[rule.id].calls
        if call.params.why_not is not None:
            yield _unknown(rule, f"the params of {call.skill}: {call.params.why_not}")
        elif calls is not None and (problem := calls.problem(call.digest)) is not None:
            yield _breach(rule, f"{call.skill}: {problem}")

    # --- after a step, and between its attempts --------------------------------------------------

    def _attempted(self, event: Event) -> list[Breach]:
        call = self._open.get(event.lineage)
        if call is None:
            return []
        call.attempts += 1
        self._totals.retries += 1
        return [breach for rule in self._about(call) for breach in self._retried(rule, 1)]

    def _retried(self, rule: PolicyRule, count: int) -> Iterator[Breach]:
        limit = rule.limit
        if limit is None:
            return
        counter = self._counters[rule.id]
        counter.retries += count
        if limit.retries is not None and counter.retries > limit.retries:
            counter.exceeded.setdefault("retries", f"more than {limit.retries} retries")
            yield from self._told(rule, counter, stopping=count > 0)

    def _chunked(self, event: Event) -> list[Breach]:
        call = self._open.get(event.lineage)
        if call is not None:
            call.take(event)
        return []

    def _ended(self, event: Event) -> list[Breach]:
        call = self._open.pop(event.lineage, None)
        if call is None:
            return []
        cost, tokens = _cost(event.facts), tokens_of(event.facts)
        # Records of other tools say how often, without each time.
        retries = max(0, _whole(event.facts.get("retry_count")) - call.attempts)
        self._totals.cost_cents += cost
        self._totals.tokens += tokens
        self._totals.retries += retries
        breaches: list[Breach] = []
        for rule in self._about(call):
            if rule.limit is not None:
                breaches += self._limit_after(rule, rule.limit, event, (cost, tokens, retries))
            elif rule.after is not None:
                found = list(self._asked(rule, call, event, self._after(call, event)))
                breaches += found
                for breach in found:
                    if breach.stop:
                        # What it came to can't be undone: nothing may follow from it.
                        self._latched.setdefault(breach.policy_id, breach.reason)
        return breaches

    def _about(self, call: Call) -> list[PolicyRule]:
        return [rule for rule in self._rules if rule.is_about(call.kind, call.skill, call.effect)]

    def _limit_after(
        self, rule: PolicyRule, limit: Limit, event: Event, spent: tuple[float, int, int]
    ) -> Iterator[Breach]:
        counter = self._counters[rule.id]
        counter.cost_cents += spent[0]
        counter.tokens += spent[1]
        yield from self._retried(rule, spent[2])
        took = _took(event.facts)
        for what, value, most in (
            ("cost_cents", counter.cost_cents, limit.cost_cents),
            ("tokens", counter.tokens, limit.tokens),
            ("duration", counter.elapsed_ms(event), limit.duration_ms),
            ("step_duration", took, limit.step_duration_ms),
        ):
            if most is not None and value > most:
                counter.exceeded.setdefault(what, _over(what, value, most))
        yield from self._told(rule, counter, stopping=False)

    # --- conditions ----------------------------------------------------------------------------

    def _asked(self, rule: PolicyRule, call: Call, event: Event, more: dict[str, Any]) -> Iterator[Breach]:
        condition = rule.condition
        assert condition is not None  # of a rule with `before` or `after`
        try:
            values, sizes = self._values(condition.names, call, event, more)
            if condition.holds(values, sizes):
                yield _breach(rule, f"{call.skill}: {condition.text}")
        except NotEvaluatedError as error:
            yield _unknown(rule, f"{call.skill}: {condition.text}: {error}")
        except Exception as error:  # noqa: BLE001  # silence would let the call through unseen
            yield _unknown(rule, f"{call.skill}: {condition.text}: {type(error).__name__}")

    def _after(self, call: Call, event: Event) -> dict[str, Any]:
        facts = event.facts
        return {
            "outcome": call.outcome(event),
            "status": str(facts.get("status", "")),
            "category": str(facts.get("outcome_category", "")),
            "code": facts.get("outcome_code"),
            "error": message_of(event),
            "cost_cents": _cost(facts),
            "tokens": tokens_of(facts),
            "duration_ms": _took(facts),
            "retries": _whole(facts.get("retry_count")),
        }

    def _values(
        self, names: frozenset[str], call: Call, event: Event, more: dict[str, Any]
    ) -> tuple[dict[str, Any], dict[str, tuple[int, int]]]:
        """The variables of a condition, as far as it looks at them. Raises `NotEvaluatedError` for one that
        is not there to be looked at."""
        values: dict[str, Any] = {
            "params": call.params,
            "skill": call.skill,
            "kind": call.kind,
            "effect": call.effect,
            "step": call.index,
            **more,
        }
        sizes: dict[str, tuple[int, int]] = {}
        if "run" in names:
            values["run"], sizes["run"] = self._of_run()
        if "totals" in names:
            values["totals"] = self._of_totals(event)
        for name in names:
            value = values.get(name)
            if isinstance(value, Value):
                if value.why_not is not None:
                    raise NotEvaluatedError(f"{name}: {value.why_not}")
                sizes[name] = value.size
                values[name] = value.read()
        # The library reads all that it is given.
        return {name: value for name, value in values.items() if name in names}, sizes

    def _of_run(self) -> tuple[dict[str, Any], tuple[int, int]]:
        facts = self._started.facts
        given, metadata = (Value(self._started.values.get(name)) for name in ("input", "metadata"))
        for name, value in (("run.input", given), ("run.metadata", metadata)):
            if value.why_not is not None:
                raise NotEvaluatedError(f"{name}: {value.why_not}")
        if self._run is None:
            names = ("run_id", "correlation_id", "agent_id", "tenant_id")
            self._run = {name: facts.get(name) for name in names}
            self._run |= {"input": given.read(), "metadata": metadata.read() or {}}
        sizes = (given.size, metadata.size)
        return self._run, (sum(size for size, _ in sizes), max(count for _, count in sizes))

    def _of_totals(self, event: Event) -> dict[str, Any]:
        return {
            "cost_cents": self._totals.cost_cents,
            "tokens": self._totals.tokens,
            "steps": self._totals.steps,
            "duration_ms": self._totals.elapsed_ms(event),
            "calls": dict(self._by_skill),
        }


_NO_RULE = PolicyRule(id="totals", action="flag", deny=True)
_HANDLERS: Mapping[str, Callable[[_Watch, Event], list[Breach]]] = {
    "step_started": _Watch._begun,
    "step_attempt": _Watch._attempted,
    "step_chunk": _Watch._chunked,
    "step_finished": _Watch._ended,
}


def _breach(rule: PolicyRule, found: str) -> Breach:
    return Breach(rule.id, _reason(rule, found), stop=rule.stops)


def _unknown(rule: PolicyRule, why: str) -> Breach:
    """What can't be told counts as flagged, and stops where the rule is to fail closed."""
    return Breach(rule.id, f"could not be evaluated: {_short(why)}", stop=rule.fail_closed)


def _reason(rule: PolicyRule, found: str) -> str:
    found = _short(found)
    return f"{rule.reason} ({found})" if rule.reason else found


def _short(text: str) -> str:
    text = text.encode(errors="backslashreplace").decode()
    return text if len(text) <= 500 else text[:499] + "…"


_UNITS = {"cost_cents": "cents", "tokens": "tokens", "duration": "ms", "step_duration": "ms for one step"}


def _over(what: str, value: float, most: float) -> str:
    return f"{value:.10g} {_UNITS[what]}, at most {most:.10g} are allowed"


def _cost(facts: Mapping[str, Any]) -> float:
    cost: Any = facts.get("cost_cents")
    return float(cost) if type(cost) in (int, float) else 0.0


def _took(facts: Mapping[str, Any]) -> float:
    took: Any = facts.get("duration_ms")
    return float(took) if type(took) in (int, float) else 0.0


def _whole(value: Any) -> int:
    return value if type(value) is int else 0


def judge_events(policy: AnyPolicy, events: Iterable[Event]) -> Iterator[tuple[Event, Breach]]:
    """What a policy says of a run on record: each breach, with the event that it came with.

    After a stop the run would have gone another way, so there the judging ends, unless the record shows
    that the step was stopped then as well.
    """
    events = list(events)
    stopped_then = _stopped_on_record(events)
    watch: RunPolicy | None = None
    passed_over: set[Lineage] = set()
    for event in events:
        if event.type == "run_started":
            watch = policy.opened(event)
        elif event.type == "step_started" and event.facts.get("kind") == "timer":
            passed_over.add(event.lineage)
        if watch is None or event.type not in _HANDLERS or event.lineage in passed_over:
            continue
        found = watch.judge(event)
        for breach in found:
            yield event, breach
        if event.type in ("step_started", "step_attempt") and any(breach.stop for breach in found):
            if (event.type, event.seq) not in stopped_then:
                return
            if event.type == "step_started":
                passed_over.add(event.lineage)


def _stopped_on_record(events: Iterable[Event]) -> set[tuple[str, int]]:
    """The starts of steps that were stopped, and the last attempts of those that were stopped between two."""
    starts: dict[Lineage, Event] = {}
    attempts: dict[Lineage, Event] = {}
    found: set[tuple[str, int]] = set()
    for event in events:
        if event.type == "step_started":
            starts[event.lineage] = event
        elif event.type == "step_attempt":
            attempts[event.lineage] = event
        elif event.type == "step_finished":
            last = None
            if event.facts.get("status") == "skipped":
                last = starts.get(event.lineage)
            elif event.facts.get("outcome_code") == PolicyViolation.__name__:
                last = attempts.get(event.lineage)
            if last is not None:
                found.add((last.type, last.seq))
    return found
