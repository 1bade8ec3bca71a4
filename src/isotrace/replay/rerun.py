"""A replay of which a part is really executed: the driver records a new run, some of whose steps are served.

The new run is what is compared. Which steps are served says the plan (`isotrace.replay.plan`): those before a
fork strictly, the others as its mode has it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import orjson

from isotrace.clock import SYSTEM, Clock
from isotrace.compare import findings
from isotrace.contracts import Policy
from isotrace.errors import IsotraceError, UsageError
from isotrace.events import Event, lineage_text
from isotrace.ledger import Ledger
from isotrace.models import META_REPLAY_OF, Erased, Lineage
from isotrace.plain import from_plain
from isotrace.policy import policy_of
from isotrace.record.context import (
    Branch,
    Driver,
    RunInfo,
)
from isotrace.record.environment import fingerprint
from isotrace.record.lines import JournalContent
from isotrace.record.memory_journal import AnyJournal, MemoryJournal
from isotrace.record.policies import policies_for
from isotrace.record.provisional import ProvisionalJournal
from isotrace.record.runs import policies_around
from isotrace.record.scheduler import Scheduler, Waiter
from isotrace.record.sealing import seal_journal
from isotrace.record.snapshot import snapshot_params
from isotrace.record.spec import SkillSpec
from isotrace.record.start import start_recording
from isotrace.redact.wanted import redactors_wanted
from isotrace.replay.changes import asked_otherwise, other_arguments, with_changes
from isotrace.replay.driving import Driving
from isotrace.replay.plan import OUTCOME, PARAMS, Plan
from isotrace.replay.recorded import RecordedRun, RecordedStep, over_http
from isotrace.replay.requests import Requests
from isotrace.replay.rerecording import InnerRecorder, RerunRecorder
from isotrace.replay.serving import Standin
from isotrace.replay.stop import ReplayStop
from isotrace.replay.turns import MixedOrder

if TYPE_CHECKING:
    from isotrace.redact.redaction import Redaction

FORK_OF, FORK_AT, FORK_CHANGES, REPLAY_MODE = "fork_of", "fork_at", "fork_changes", "replay_mode"
"""Metadata of a run that came about by a replay."""


@dataclass(slots=True)
class Part:
    """One call as it is made: by a stand-in that serves `step`, or (None) really."""

    spec: SkillSpec
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    step: RecordedStep | None = None


class Rerun(Driving):
    """Decides for each call of the run whether it is served or executed.

    `executed` counts the latter, `served` the former. `record_of_new` is the new run once it has ended.
    """

    def __init__(
        self,
        record: RecordedRun,
        plan: Plan,
        *,
        store: Any = None,
        stall_after_s: float = 2.0,
    ) -> None:
        super().__init__(record)
        if record.is_partial:
            raise UsageError(
                "a record of HTTP calls alone, such as a cassette, can only be replayed strictly",
                run_id=record.facts["run_id"],
                expected="mode strict, and no fork",
                got=plan.mode if plan.fork_at is None else f"a fork at {plan.fork_at}",
            )
        self.plan = plan
        self.served_count = 0
        self.executed_count = 0
        self.kept = plan.keep
        self.redaction = record.redaction
        self._store = store
        self._prefix: frozenset[Lineage] = frozenset()
        self._fork: RecordedStep | None = None
        if plan.fork_at is not None:
            self._fork = _step_at(record, plan.fork_at)
            self._prefix = _started_before(record, self._fork)
        if plan.extends:
            self._prefix = frozenset(record.steps)
        self._order = self._recorded_order()
        self._unused = Requests(record.ordered)
        self._content: JournalContent | None = None
        self._forked = False
        self.under_way: set[Lineage] = set()
        self.scheduler = Scheduler(self._order, self.marks.append, self._stalled, self._stuck, stall_after_s)

    def _recorded_order(self) -> MixedOrder:
        """The recorded order of those steps that are served at their recorded place."""
        if self.plan.follows_the_record:
            return MixedOrder(self.record.deliveries)
        return MixedOrder(key for key in self.record.deliveries if key[0] in self._prefix)

    # --- the new run ------------------------------------------------------------------------

    def _opened(self, live: RunInfo) -> Driver:
        facts = self.record.facts
        if self.plan.keep:
            self.redaction = _redaction_of_new(self.record.redaction, live.redaction)
        info = RunInfo(
            run_id=SYSTEM.new_id(),
            origin_run_id=self.info.origin_run_id,
            correlation_id=self.info.correlation_id,
            tenant_id=self.info.tenant_id,
            agent_id=self.info.agent_id,
            seed=self.info.seed,
            frozen_timestamp=self.info.frozen_timestamp,
            entry_point=facts.get("entry_point"),
            parent=self._parent(),
            plan=self._given("plan", []) if self.implied else live.plan,
            input=self._given("input") if self.implied else live.input,
            metadata=self._metadata(),
            environment=live.environment or fingerprint(),
            provisional=self.implied,
            redaction=self.redaction,
            policies=policies_for(live, self._policies()),
        )
        if self.plan.keep:
            self.driver = start_recording(info, self._store, "process", SYSTEM, make=self._recorder)
        else:
            journal = MemoryJournal(info.run_id, info.tenant_id, SYSTEM.random_bytes(32))
            self.driver = self._recorder(info, journal, SYSTEM, _forget)
        return self.driver

    def _recorder(
        self, info: RunInfo, journal: AnyJournal, clock: Clock, submit: Callable[[AnyJournal, bool], None]
    ) -> RerunRecorder:
        def ended(journal: AnyJournal, stopped: bool) -> None:
            if made is self.driver:  # not the run that was implied, where the code has opened one itself
                self._content = _content(journal)
                if self.stopped and not self.executed_count:
                    # It did not come about: the code parted from the record before anything was executed.
                    self.kept = False
                    journal.remove()
                    return
            submit(journal, stopped)

        made = RerunRecorder(self, info, journal, clock, ended)
        return made

    def _given(self, name: str, default: Any = None) -> Any:
        """What the recorded run was given, for code that is the body of the run."""
        value = self.record.started.value(name, default)
        return default if isinstance(value, Erased) else from_plain(value)

    def inner(self, info: RunInfo) -> Driver:
        """The driver of a run that an executed step opens: it is recorded, and held to the same plan."""

        def make(
            info: RunInfo, journal: AnyJournal, clock: Clock, ended: Callable[[AnyJournal, bool], None]
        ) -> InnerRecorder:
            return InnerRecorder(self.check, info, journal, clock, ended)

        info.policies = policies_for(info, policies_around())
        return start_recording(info, self._store, "process", SYSTEM, make=make)

    def check(self, spec: SkillSpec, lineage: Lineage) -> None:
        """Stops the replay where a step of an inner run is not to be executed."""
        if self._stop is not None:
            raise self._stop
        if not self.plan.executes(spec.kind, spec.name, spec.effect):
            self._refuse(spec, lineage)

    def _policies(self) -> tuple[Policy, ...]:
        """Those of the plan."""
        return () if self.plan.policy is None else (policy_of(self.plan.policy),)

    def let_go(self, lineage: Lineage) -> None:
        """A policy stopped this step: what it came to on record never comes."""
        self.scheduler.rearrange(lambda: self._order.forget(lineage))

    def _parent(self) -> dict[str, Any] | None:
        if self._fork is None:
            return self.info.parent
        return {"run_id": self.record.facts["run_id"], "lineage": list(self._fork.lineage)}

    def _metadata(self) -> dict[str, Any]:
        run_id = self.record.facts["run_id"]
        if self.plan.extends:
            recorded = self._given("metadata")
            kept = recorded if isinstance(recorded, dict) else {}
            return {**kept, FORK_OF: run_id, FORK_AT: len(self.record.steps)}
        if self.plan.fork_at is None:
            return {META_REPLAY_OF: run_id, REPLAY_MODE: self.plan.mode}
        changed = {FORK_CHANGES: dict(self.plan.changes)} if self.plan.changes else {}
        return {FORK_OF: run_id, FORK_AT: self.plan.fork_at, REPLAY_MODE: self.plan.mode, **changed}

    def new_ledger(self) -> Ledger | None:
        """The new run; None if it has not ended, or was never begun."""
        if self._content is None or not self._content.events:
            return None
        return seal_journal(self._content).ledger

    @property
    def _serves_first(self) -> bool:
        """Whether the run begins with steps that are served, whatever the mode."""
        return self._fork is not None or self.plan.extends

    @property
    def start_event(self) -> Event | None:
        """What the new run's time of start is that of: in mode `live` nothing but the clock's."""
        live = self.plan.mode == "live" and not self._serves_first
        return None if live else self.record.started

    # --- who makes a call ---------------------------------------------------------------------

    def part(self, spec: SkillSpec, branch: Branch, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Part:
        """How this call is made. Stops the replay where it is not on record and has to be."""
        if self._stop is not None:
            raise self._stop
        self.answers.learn()
        lineage = (*branch.path, branch.count)
        plan, fork = self.plan, self._fork
        if self._serves_first and self._before_fork(lineage):
            return self._serve(spec, args, kwargs, self._find(spec, lineage, args, kwargs))
        if fork is not None and lineage == fork.lineage and plan.changes:
            return self._changed(spec, lineage, args, kwargs)
        if plan.follows_the_record:
            step = self._find(spec, lineage, args, kwargs)
            executes = plan.executes(spec.kind, spec.name, spec.effect)
            if executes and step.delivered and step.stopped_by is None:
                self._forget_stream(step)
                return self._execute(spec, args, kwargs)
            return self._serve(spec, args, kwargs, step)
        if plan.executes(spec.kind, spec.name, spec.effect):
            return self._execute(spec, args, kwargs)
        if plan.mode == "live":
            self._refuse(spec, lineage)
        return self._serve(spec, args, kwargs, self._of_request(spec, lineage, args, kwargs))

    def _refuse(self, spec: SkillSpec, lineage: Lineage) -> NoReturn:
        mode, place = self.plan.mode, self._place()
        self.stop(findings.effect_blocked(place, lineage, spec.name, spec.effect, mode=mode))

    def _before_fork(self, lineage: Lineage) -> bool:
        """Whether a step stands before the fork. The first that does not ends the recorded order."""
        if lineage in self._prefix:
            return True
        if self.plan.extends:
            # A step more than the record has, before all that it has was asked for, is none of its end.
            self._forked = self._forked or self.matcher.exhausted
            return not self._forked
        if not self._forked and lineage not in self.record.steps:
            return True
        if not self._forked:
            self._forked = True
            if not self.plan.follows_the_record:
                self.scheduler.rearrange(self._order.forget_all)
        return False

    def _find(
        self, spec: SkillSpec, lineage: Lineage, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> RecordedStep:
        """The recorded step at this place, which the call has to be."""
        return self.matcher.find(spec, lineage, self.matcher.asked(spec, args, kwargs))

    def _of_request(
        self, spec: SkillSpec, lineage: Lineage, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> RecordedStep:
        """A recorded step that asked for the same: the one at the same place, else the first that was not
        served yet."""
        data = self.matcher.asked(spec, args, kwargs)
        params = orjson.loads(data)
        if self.minted:
            params, _ = self.minted.replace(params)
        found = self._unused.take((spec.kind, spec.name), params, lineage)
        if found is None:
            self.matcher.not_on_record(spec, lineage, data, self._place())
        self.matcher.matched.append(found)
        return found

    def _changed(
        self, spec: SkillSpec, lineage: Lineage, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Part:
        """The step at which the run is forked, with other params or another outcome."""
        try:
            return self._with_changes(spec, lineage, args, kwargs)
        except IsotraceError as error:  # the change leads nowhere, or does not fit
            self.fail(error)

    def _with_changes(
        self, spec: SkillSpec, lineage: Lineage, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Part:
        plan, step = self.plan, self._find(spec, lineage, args, kwargs)
        self._forget_stream(step)
        changed_params = _changed_under(plan.changes, PARAMS)
        if _changed_under(plan.changes, OUTCOME):
            if changed_params:
                args, kwargs = other_arguments(spec, args, kwargs, self._new_params(spec, args, kwargs))
            return self._serve(spec, args, kwargs, _with_outcome(step, plan.changes))
        if not plan.executes(spec.kind, spec.name, spec.effect):
            self._refuse(spec, lineage)
        args, kwargs = other_arguments(spec, args, kwargs, self._new_params(spec, args, kwargs))
        return self._execute(spec, args, kwargs)

    def _new_params(self, spec: SkillSpec, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        params = orjson.loads(snapshot_params(spec.params(args, kwargs)).data)
        changed: dict[str, Any] = with_changes(params, self.plan.changes, PARAMS)
        return changed

    def _serve(
        self, spec: SkillSpec, args: tuple[Any, ...], kwargs: dict[str, Any], step: RecordedStep
    ) -> Part:
        if step.finished is None:
            self.stop(findings.indeterminate_step(step.index, step.lineage, step.skill_name))
        if spec.streams and over_http(spec) and step.streams is False:
            message = f"the code asks {step.skill_name} as a stream, and it came whole on record"
            self.stop(findings.stream_changed(step.index, step.lineage, message, partial=True))
        self.served_count += 1
        if not step.delivered:
            self._order.never((step.lineage, "end"))
        if step.chunks and not spec.streams:
            for index in range(len(step.chunks)):
                self.scheduler.served((step.lineage, index))
        return Part(Standin(spec, step, self), args, kwargs, step)

    def _execute(self, spec: SkillSpec, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Part:
        if spec.kind != "timer":
            self.executed_count += 1
        plan = self.plan
        if spec.kind == "llm" and (plan.model or plan.prompt):
            params = spec.params(args, kwargs)
            changed = asked_otherwise(params, plan.model, plan.prompt)
            if changed != params:
                args, kwargs = other_arguments(spec, args, kwargs, changed)
        return Part(spec, args, kwargs)

    def _forget_stream(self, step: RecordedStep) -> None:
        """The pieces of an executed stream come as they come."""
        if step.chunks:
            self.scheduler.rearrange(lambda: self._order.forget(step.lineage))

    def _place(self) -> int:
        """The index of the step that is about to be made."""
        return self.served_count + self.executed_count

    # --- what does not come ---------------------------------------------------------------------

    def _stalled(self, waiting: list[Waiter]) -> None:
        """Nothing can run, unless something is being executed: that may take its time."""
        if self.under_way:
            return
        waiting = [waiter for waiter in waiting if waiter.key[0] in self.record.steps]
        if self._cancel_from_outside(waiting):
            return
        head = self._order.head()
        steps = [self.record.steps[waiter.key[0]] for waiter in waiting]
        if head is None and not steps:
            return
        step = self.record.steps[head[0]] if head is not None else steps[0]
        names = [lineage_text(one.lineage) for one in steps]
        try:
            self.stop(findings.replay_stalled(step.index, step.lineage, step.skill_name, names))
        except ReplayStop:
            pass  # the waiters have been failed with it

    @property
    def reads_live(self) -> bool:
        """Whether clocks and the like are read for real by now."""
        if self.plan.follows_the_record:
            return False
        return self._forked or (self.plan.mode == "live" and not self._serves_first)

    def read(self, branch: Branch) -> tuple[bool, Any, Event | None]:
        """Whether the next value that this branch reads is served, the value, and where it is from."""
        event = self.record.reads.get((branch.path, branch.reads))
        if event is None or self.reads_live:
            return False, None, None
        value = event.value("value")
        if isinstance(value, Erased):
            source = event.facts.get("source")
            message = f"the value read from {source!r} was erased"
            self.stop(findings.record_gap(None, branch.path, message))
        return True, from_plain(value), event


def _content(journal: AnyJournal) -> JournalContent | None:
    kept = journal.kept if isinstance(journal, ProvisionalJournal) else journal
    return kept.content() if kept is not None else None


def _redaction_of_new(recorded: Redaction | None, given: Redaction | None) -> Redaction | None:
    if recorded is None and not redactors_wanted(() if given is None else given.names):
        return None
    from isotrace.replay.redacted import redaction_of_new  # noqa: PLC0415 - start-up time: RE2 for those who redact

    return redaction_of_new(recorded, given)


def _forget(_journal: AnyJournal, _stopped: bool) -> None:
    """A new run that is not kept."""


# --- the record as it is asked -------------------------------------------------------------


def _step_at(record: RecordedRun, index: int) -> RecordedStep:
    if not 0 <= index < len(record.ordered):
        got = f"{index}, of a run of {len(record.ordered)} steps"
        raise UsageError(
            "there is no such step to fork at",
            run_id=record.facts["run_id"],
            expected="the index of a step, from 0",
            got=got,
        )
    return record.ordered[index]


def _started_before(record: RecordedRun, fork: RecordedStep) -> frozenset[Lineage]:
    return frozenset(step.lineage for step in record.ordered if step.started.seq < fork.started.seq)


def _changed_under(changes: Mapping[str, Any], under: str) -> bool:
    return any(pointer == f"/{under}" or pointer.startswith(f"/{under}/") for pointer in changes)


def _with_outcome(step: RecordedStep, changes: Mapping[str, Any]) -> RecordedStep:
    """The step as if it had succeeded with another outcome."""
    finished = step.finished
    assert finished is not None
    outcome = with_changes(finished.value("outcome_data"), changes, OUTCOME)
    kept_form = isinstance(outcome, dict) and outcome.keys() == {"value"}
    data = orjson.dumps(outcome)
    transport = finished.value("transport")
    values = {"outcome_data": data}
    if isinstance(transport, dict):
        kept = {name: value for name, value in transport.items() if name != "text"}
        values["transport"] = orjson.dumps({**kept, "status": 200})
    facts = {**finished.facts, "status": "success", "outcome_category": "SUCCESS", "outcome_code": None}
    facts["wrapped"] = bool(facts.get("wrapped")) and kept_form
    changed = RecordedStep(step.started)
    changed.index = step.index
    changed.finished = Event(finished.seq, finished.type, finished.time_us, facts, dict(values))
    return changed
