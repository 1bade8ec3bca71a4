"""Rules over recorded runs: what they would have flagged and stopped, where, and at what saving."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from isotrace.canonical import value_bytes
from isotrace.contracts import Breach, TraceStore
from isotrace.contracts import Policy as AnyPolicy
from isotrace.errors import IsotraceError
from isotrace.events import Event, lineage_key
from isotrace.ledger import Ledger
from isotrace.models import Erased, Lineage, TraceRecord
from isotrace.operations.opening import using
from isotrace.operations.runs import Selection, find_run, iter_runs
from isotrace.policy import Policy, judge_events, policy_of
from isotrace.policy.values import tokens_of
from isotrace.population.behaviour import passed
from isotrace.record.home import default_tenant
from isotrace.record.policies import ForJudging
from isotrace.replay.from_record import events_of

MAX_RUNS = 1000
"""How many runs with violations, and how many that could not be judged, are named; all are counted."""

MAX_HITS = 100
"""How many violations of one run are named."""


@dataclass(frozen=True, slots=True)
class Saving:
    """What a run did after it would have been stopped. `duration_ms` is the time to its end."""

    steps: int = 0
    cost_cents: float = 0.0
    tokens: int = 0
    duration_ms: float = 0.0

    def __add__(self, other: Saving) -> Saving:
        return Saving(
            self.steps + other.steps,
            self.cost_cents + other.cost_cents,
            self.tokens + other.tokens,
            self.duration_ms + other.duration_ms,
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "steps": self.steps,
            "cost_cents": round(self.cost_cents, 9),
            "tokens": self.tokens,
            "duration_ms": round(self.duration_ms, 3),
        }


@dataclass(frozen=True, slots=True)
class Hit:
    """One violation: at which step, of which rule. `stops`: the step would not have happened."""

    step_index: int | None
    skill_name: str
    policy_id: str
    reason: str
    stops: bool

    def to_dict(self) -> dict[str, Any]:
        return {
            "step_index": self.step_index,
            "skill_name": self.skill_name,
            "policy_id": self.policy_id,
            "reason": self.reason,
            "stops": self.stops,
        }


@dataclass(frozen=True, slots=True)
class JudgedRun:
    """A run that violates a rule. `good`: it passed (it has a reward of at least the threshold) or, without
    one, was completed. `saving` is None where it would not have been stopped."""

    run_id: str
    status: str
    good: bool
    hits: tuple[Hit, ...]
    saving: Saving | None

    @property
    def stop(self) -> Hit | None:
        """Where it would have been stopped."""
        return next((hit for hit in self.hits if hit.stops), None)

    def to_dict(self) -> dict[str, Any]:
        return {
            "run_id": self.run_id,
            "status": self.status,
            "good": self.good,
            "hits": [hit.to_dict() for hit in self.hits],
            "saving": None if self.saving is None else self.saving.to_dict(),
        }


@dataclass(slots=True)
class RuleTotal:
    """What one rule would have done: in how many runs it is violated, how many it would have stopped, how
    many of these were good (`false_alarms`), and the saving."""

    policy_id: str
    action: str | None = None
    runs: int = 0
    hits: int = 0
    stopped: int = 0
    false_alarms: int = 0
    saving: Saving = field(default_factory=Saving)

    def to_dict(self) -> dict[str, Any]:
        return {
            "policy_id": self.policy_id,
            "action": self.action,
            "runs": self.runs,
            "hits": self.hits,
            "stopped": self.stopped,
            "false_alarms": self.false_alarms,
            "saving": self.saving.to_dict(),
        }


@dataclass(slots=True)
class Backtest:
    """What rules say of recorded runs.

    `runs` were looked at; `violating` of them violate a rule, `stopped` would have been stopped,
    `false_alarms` of these were good. `found` are those that violate, `unjudged` the ids of runs that can't
    be judged, with the reason; of both at most `MAX_RUNS` are named, `not_judged` counts all.
    """

    runs: int = 0
    violating: int = 0
    stopped: int = 0
    false_alarms: int = 0
    not_judged: int = 0
    saving: Saving = field(default_factory=Saving)
    rules: dict[str, RuleTotal] = field(default_factory=dict)
    found: list[JudgedRun] = field(default_factory=list)
    unjudged: list[tuple[str, str]] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """1 if a run would have been stopped, 125 if no run was judged, else 0."""
        if self.runs == 0:
            return 125
        return int(self.stopped > 0)

    def add(self, run: JudgedRun) -> None:
        """Takes one run in."""
        self.runs += 1
        if not run.hits:
            return
        self.violating += 1
        if len(self.found) < MAX_RUNS:
            self.found.append(run)
        for policy_id in dict.fromkeys(hit.policy_id for hit in run.hits):
            total = self.rules.setdefault(policy_id, RuleTotal(policy_id))
            total.runs += 1
            total.hits += sum(hit.policy_id == policy_id for hit in run.hits)
        stop = run.stop
        if stop is None or run.saving is None:
            return
        total = self.rules[stop.policy_id]
        self.stopped += 1
        total.stopped += 1
        self.false_alarms += run.good
        total.false_alarms += run.good
        self.saving += run.saving
        total.saving += run.saving

    def leave_out(self, run_id: str, why: str) -> None:
        """A run that can't be judged."""
        self.runs += 1
        self.not_judged += 1
        if len(self.unjudged) < MAX_RUNS:
            self.unjudged.append((run_id, why))

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "runs": self.runs,
            "violating": self.violating,
            "stopped": self.stopped,
            "false_alarms": self.false_alarms,
            "not_judged": self.not_judged,
            "saving": self.saving.to_dict(),
            "rules": [total.to_dict() for total in self.rules.values()],
            "found": [run.to_dict() for run in self.found],
            "unjudged": [{"run_id": run_id, "why": why} for run_id, why in self.unjudged],
        }


Progress = Callable[[int, int], None]


def backtest(
    rules: Any,
    runs: Iterable[TraceRecord | str],
    *,
    passes_at: float = 1.0,
    store: TraceStore | str | None = None,
    tenant_id: str | None = None,
) -> Backtest:
    """What rules would have done to recorded runs: the same judgement as over live ones.

    `rules` is an `isotrace.Policy`, a list of rules, or a file of them; a run is a record, or a name that
    the store knows. A run has succeeded if its `reward` is at least `passes_at`, or without one if it was
    completed. With rules over a correlation, give the runs in the order in which they began.

    Raises `PolicyError` for rules that can't be applied, and as `find_run` does.
    """
    policy = fresh(rules)
    found = started(policy)
    tenant = tenant_id or default_tenant()
    given = list(runs)
    if not any(isinstance(run, str) for run in given):
        for run in given:
            assert isinstance(run, TraceRecord)
            _judge(found, policy, run.run_id, _recorded(run), passes_at)
        return found
    with using(store) as opened:
        for run in given:
            if isinstance(run, TraceRecord):
                _judge(found, policy, run.run_id, _recorded(run), passes_at)
            else:
                run_id = find_run(opened, run, tenant_id=tenant)
                _judge_stored(found, policy, opened, run_id, tenant, passes_at)
    return found


def backtest_stored(
    store: TraceStore,
    rules: Any,
    selection: Selection,
    *,
    passes_at: float = 1.0,
    progress: Progress | None = None,
) -> Backtest:
    """`backtest` over the selected runs of a store, read one at a time. With rules over a correlation in the
    order in which they began."""
    policy = fresh(rules)
    found = started(policy)
    tenant = selection.base.tenant_id
    runs: Iterable[str] = (item.summary.run_id for item in iter_runs(store, selection))
    if isinstance(policy, Policy) and policy.correlates:
        listed = [item.summary for item in iter_runs(store, selection)]
        runs = [one.run_id for one in sorted(listed, key=lambda one: (one.started_at, one.run_id))]
    total = 0 if progress is None else sum(store.count(query) for query in selection.queries())
    if selection.limit is not None:
        total = min(total, selection.limit)
    for done, run_id in enumerate(runs, 1):
        _judge_stored(found, policy, store, run_id, tenant, passes_at)
        if progress is not None:
            progress(done, max(done, total))
    return found


def fresh(rules: Any) -> AnyPolicy:
    """The policy that is meant, with nothing counted yet. Raises `PolicyError`."""
    policy = policy_of(rules)
    return Policy(policy.rules, name=policy.name) if isinstance(policy, Policy) else policy


def started(policy: AnyPolicy) -> Backtest:
    """A backtest before its first run: every rule has its line, also one that no run violates."""
    rules = policy.rules if isinstance(policy, Policy) else ()
    return Backtest(rules={rule.id: RuleTotal(rule.id, rule.action) for rule in rules})


def _judge_stored(
    found: Backtest, policy: AnyPolicy, store: TraceStore, run_id: str, tenant: str, passes_at: float
) -> None:
    try:
        events = store.ledger(run_id, tenant_id=tenant).events
    except IsotraceError as error:
        found.leave_out(run_id, str(error))
        return
    _judge(found, policy, run_id, events, passes_at)


def _judge(found: Backtest, policy: AnyPolicy, run_id: str, events: list[Event], passes_at: float) -> None:
    """Adds one run."""
    why = _why_not(policy, events)
    if why is None:
        found.add(judge_run(policy, run_id, events, passes_at))
    else:
        found.leave_out(run_id, why)


def _why_not(policy: AnyPolicy, events: Iterable[Event]) -> str | None:
    """Why these events can't be judged by this policy: it looks at something that was erased."""
    for event in events:
        for name, value in event.values.items():
            seen = "outcome" if name in ("outcome_data", "chunk") else name
            if isinstance(value, Erased) and seen in policy.looks_at:
                return f"{name} of event {event.seq} was erased"
    return None


def _recorded(record: TraceRecord) -> list[Event]:
    """The events of a record without its ledger."""
    events = events_of(record)
    if record.metadata:
        events[0].values["metadata"] = value_bytes(record.metadata)
    return events


def judge_run(policy: AnyPolicy, run_id: str, events: list[Event], passes_at: float = 1.0) -> JudgedRun:
    """What the policy says of one run, given the events of its ledger."""
    indexes, names = step_indexes(events), _skills(events)
    hits: list[Hit] = []
    stopped: Event | None = None
    for event, breach in breaches_of(policy, events):
        stops = breach.stop and event.type in ("step_started", "step_attempt")
        if stops and stopped is None:
            stopped = event
        if len(hits) < MAX_HITS or (stops and not any(hit.stops for hit in hits)):
            lineage = event.lineage
            hits.append(
                Hit(indexes.get(lineage), names.get(lineage, ""), breach.policy_id, breach.reason, stops)
            )
    status, metadata = _ended(events)
    good = passed(metadata, passes_at)
    return JudgedRun(
        run_id,
        status,
        status == "completed" if good is None else good,
        tuple(hits),
        None if stopped is None else _saving(events, stopped),
    )


def _ended(events: Iterable[Event]) -> tuple[str, dict[str, Any]]:
    """The run's status, and all of its metadata."""
    status = "running"
    metadata: dict[str, Any] = {}
    for event in events:
        if event.type in ("run_started", "run_finished", "run_aborted"):
            added = event.value("metadata")
            metadata |= added if isinstance(added, dict) else {}
        if event.type == "run_finished":
            status = str(event.facts.get("status"))
        elif event.type == "run_aborted":
            status = "aborted"
    return status, metadata


def _saving(events: list[Event], stopped: Event) -> Saving:
    """What came after the stop: the steps that began then (of one stopped between two attempts, the rest)."""
    later: set[Lineage] = set()
    saved = Saving()
    judging = ForJudging(settled=True)
    for event in map(judging.event, events):
        if event.type == "step_started" and event.seq >= stopped.seq and event.facts.get("kind") != "timer":
            later.add(event.lineage)
        elif event.type == "step_finished" and event.lineage in later:
            if event.facts.get("status") == "skipped":
                later.discard(event.lineage)
                continue
            cost: Mapping[str, Any] = event.facts
            saved += Saving(1, float(cost.get("cost_cents") or 0.0), tokens_of(dict(cost)))
    unfinished = len(later) - saved.steps
    took = max(0, events[-1].time_us - stopped.time_us) / 1000
    return saved + Saving(max(0, unfinished), 0.0, 0, took)


def _skills(events: Iterable[Event]) -> dict[Lineage, str]:
    return {e.lineage: str(e.facts.get("skill_name", "")) for e in events if e.type == "step_started"}


def verdicts_of(policy: AnyPolicy, ledger: Ledger) -> list[tuple[int | None, str, str]]:
    """Step index, rule and reason of each violation that the policy finds in a run, in order."""
    indexes = step_indexes(ledger.events)
    return [
        (indexes.get(event.lineage), breach.policy_id, breach.reason)
        for event, breach in breaches_of(policy, ledger.events)
    ]


def breaches_of(policy: AnyPolicy, events: Iterable[Event]) -> Iterator[tuple[Event, Breach]]:
    """What the policy says of the events of a sealed ledger."""
    judging = ForJudging(settled=True)
    return judge_events(policy, (judging.event(event) for event in events))


def step_indexes(events: Iterable[Event]) -> dict[Lineage, int]:
    """The `step_index` of each step."""
    lineages = {event.lineage for event in events if event.type == "step_started"}
    return {lineage: index for index, lineage in enumerate(sorted(lineages, key=lineage_key))}
