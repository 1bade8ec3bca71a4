"""What a strict replay and a partly live one have in common: the run they begin, what ends them, and
recorded values given back as the live calls gave them."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import orjson

from isotrace.compare import findings
from isotrace.compare.divergence import Divergence
from isotrace.errors import IsotraceError, PolicyViolation, RecordedError, RestoreError
from isotrace.events import Event, lineage_text
from isotrace.minted import MintedIds
from isotrace.models import Erased
from isotrace.record.assembly import StreamedAnswers
from isotrace.record.context import (
    Driver,
    RunInfo,
    current_branch,
    reset_all,
    set_all,
    times_cancelled,
)
from isotrace.record.edge import Edge
from isotrace.record.outcomes import rebuild_error
from isotrace.record.policies import stopped
from isotrace.record.restore import restore
from isotrace.record.scheduler import Scheduler, Waiter
from isotrace.record.snapshot import snapshot
from isotrace.record.spec import SkillSpec
from isotrace.record.tasks import tasks_of
from isotrace.replay.matching import Matcher
from isotrace.replay.noted import NotedReads
from isotrace.replay.recorded import DeliveryKey, RecordedRun, RecordedStep
from isotrace.replay.stop import ReplayStop

_OBJECT_TAG = b'"$iso:object"'
_CANCEL_ROUNDS = 100
"""How often tasks that wait for nothing any more are cancelled: one may refuse to end a few times."""


class Driving(ABC):
    """One replay of one recorded run, up to how its steps come about.

    `failure` is set where the replay can't be carried out at all, as against a divergence.
    """

    scheduler: Scheduler
    driver: Driver

    def __init__(self, record: RecordedRun, *, looks_ahead: bool = False) -> None:
        self.record = record
        self.implied = False
        self.divergences: list[Divergence] = []
        self.failure: IsotraceError | None = None
        self.raised: BaseException | None = None
        self.marks: list[str] = []
        self.root_task: asyncio.Task[Any] | None = None
        self.root_cancelled = 0
        self.minted = MintedIds()
        self.answers = StreamedAnswers(self.minted)
        self.matcher = Matcher(record, self.minted, self.stop, looks_ahead=looks_ahead)
        self.noted_reads = NotedReads(record, self.marks.append)
        self.info = self._restored_info()
        self._lock = threading.Lock()
        self._stop: ReplayStop | None = None
        self._cancel_rounds = 0
        self._tasks: dict[DeliveryKey, asyncio.Task[Any]] = {}

    def _restored_info(self) -> RunInfo:
        facts, started = self.record.facts, self.record.started
        origin = facts.get("origin_run_id") or facts["run_id"]
        return RunInfo(
            run_id=origin,
            origin_run_id=origin,
            correlation_id=facts["correlation_id"],
            tenant_id=facts["tenant_id"],
            agent_id=facts.get("agent_id"),
            seed=facts["seed"],
            frozen_timestamp=facts.get("frozen_timestamp"),
            entry_point=facts.get("entry_point"),
            parent=facts.get("parent"),
            started_us=started.time_us,
        )

    # --- the run --------------------------------------------------------------------------

    def imply(self) -> Driver:
        """The code is taken for the body of the run, until it opens one itself. Gives that run's driver."""
        self.implied = True
        self._note_root()
        return self._opened(self.info)

    @property
    def begun(self) -> bool:
        """Whether a step was asked for."""
        return bool(self.matcher.matched) or self.matcher.stopped_at is not None

    def attach(self, live: RunInfo) -> Driver:
        """The run that opened says what it was given; who it is, the record says. Gives its driver."""
        self.implied = False
        self._note_root()
        self._compare_input(live)
        environment = self.record.started.value("environment")
        if isinstance(environment, dict) and environment != live.environment:
            self.divergences.append(findings.runtime_mismatch(environment, live.environment))
        self.info.folder = live.folder
        self.info.input = live.input
        self.info.plan = live.plan
        return self._opened(live)

    @abstractmethod
    def _opened(self, live: RunInfo) -> Driver:
        """The driver of the run that opened."""

    def is_the_run(self, spec: SkillSpec) -> bool:
        """Whether an agent that the code calls is the run itself, not its first step."""
        if spec.kind != "agent" or not self.implied or self.begun:
            return False
        first = self.record.ordered[0] if self.record.ordered else None
        return first is None or (first.kind, first.skill_name) != (spec.kind, spec.name)

    @contextmanager
    def outside(self) -> Iterator[None]:
        """Around the call of such an agent: it opens the run itself."""
        tokens = set_all([(current_branch, None)])
        try:
            yield
        finally:
            reset_all(tokens)

    def _note_root(self) -> None:
        if asyncio._get_running_loop() is not None:
            self.root_task = asyncio.current_task()

    def _compare_input(self, live: RunInfo) -> None:
        value = self.record.started.value
        if self.record.is_partial:
            return
        recorded = {"input": value("input"), "plan": value("plan", [])}
        # Cut where the recorded ones were cut.
        given = {
            name: orjson.loads(self.record.as_recorded(snapshot(one, around=1).data, name))
            for name, one in (("input", live.input), ("plan", live.plan))
        }
        for name in [name for name, one in recorded.items() if isinstance(one, Erased)]:
            message = f"the {name} of the run was erased, so it can't be compared"
            self.divergences.append(findings.record_gap(None, (), message, pointers=[f"/{name}"]))
            del recorded[name], given[name]
        if changes := self.record.held.input_changes(recorded, given):
            self.divergences.append(findings.input_changed(changes))

    # --- stopping -------------------------------------------------------------------------

    @property
    def stopped(self) -> bool:
        """Whether the replay was stopped before the code came to its end."""
        return self._stop is not None

    def stop(self, divergence: Divergence) -> NoReturn:
        """Stops the replay. The first divergence stands; what follows from it is not reported."""
        self._end(self.matcher.standing(divergence))

    def fail(self, error: IsotraceError) -> NoReturn:
        """Stops a replay that can't be carried out. The agent can't survive it, the caller is told."""
        self.failure = self.failure or error
        self._end(None)

    def _end(self, divergence: Divergence | None) -> NoReturn:
        with self._lock:
            first = self._stop is None
            stop = self._stop = self._stop or ReplayStop(str(divergence or self.failure))
            if first and divergence is not None:
                self.divergences.append(divergence)
        if first:
            self.scheduler.abort(stop)
        raise stop

    def _stuck(self, loop: asyncio.AbstractEventLoop) -> bool:
        """The replay was stopped, and what is left of the agent waits for what never comes."""
        left = tasks_of(self.driver, loop)
        root = self.root_task
        if root is not None and root.get_loop() is loop and not root.done():
            self.root_cancelled += 1
            left.append(root)
        self._cancel_rounds += 1
        if not left or self._cancel_rounds > _CANCEL_ROUNDS:
            return False
        for task in left:
            task.cancel()
        return True

    # --- completions in their turn ------------------------------------------------------------

    async def in_turn(self, step: RecordedStep, what: int | str, complete: Callable[[], None]) -> None:
        """Waits for the turn of a completion; `complete` is called just before. One that was not delivered
        on record never comes."""
        key: DeliveryKey = (step.lineage, what)
        fired, before = False, times_cancelled()

        def fire() -> None:
            nonlocal fired
            fired = True
            complete()

        self.waits(key)
        try:
            while not fired:
                try:
                    await self.scheduler.turn(key, fire)
                except asyncio.CancelledError:
                    if fired or self._stop is not None or self.driver.closed:
                        raise
                    # What was delivered on record all the same had survived being cancelled.
                    if not step.delivers(what) and times_cancelled() - before > step.survived:
                        raise
        finally:
            self.waits_no_more(key)

    def waits(self, key: DeliveryKey) -> None:
        """The current task waits for this completion alone."""
        if asyncio._get_running_loop() is not None and (task := asyncio.current_task()) is not None:
            self._tasks[key] = task

    def waits_no_more(self, key: DeliveryKey) -> None:
        self._tasks.pop(key, None)

    def _cancel_from_outside(self, waiting: list[Waiter]) -> bool:
        """A step that was cancelled on record, which no code of the agent cancels: whoever did it
        stood outside (a server's time-out, Ctrl-C), so the replay does it in their place."""
        ends = [
            (step.finished.seq, task)
            for waiter in waiting
            if (step := self.record.steps[waiter.key[0]]).finished is not None
            and not step.delivered
            and (task := self._tasks.get(waiter.key)) is not None
        ]
        if ends:
            _, task = min(ends, key=lambda end: end[0])
            task.get_loop().call_soon_threadsafe(task.cancel)
        return bool(ends)

    # --- what is served -------------------------------------------------------------------

    def outcome(self, spec: SkillSpec, step: RecordedStep, args: tuple[Any, ...]) -> Any:
        """The recorded outcome as the live call returned it, or the recorded error raised."""
        finished = step.finished
        assert finished is not None
        facts = finished.facts
        if isinstance(spec, Edge):
            tell_transport(args, finished)
        if facts["status"] == "failure" and not answered(finished):
            raise self.error(spec, step)
        if facts["status"] not in ("success", "failure"):
            raise RecordedError(
                f"{step.skill_name} was {facts['status']} on record", code=facts.get("outcome_code")
            )
        return self.served(spec, step, finished, "outcome_data")

    def served(self, spec: SkillSpec, step: RecordedStep, event: Event, name: str) -> Any:
        """A recorded value as the live call gave it. Absent content stops the replay."""
        data = event.values.get(name)
        what = f"the {'outcome' if name == 'outcome_data' else name} of {step.skill_name}"
        if not isinstance(data, bytes):
            why = "was erased" if isinstance(data, Erased) else "is not on record"
            self.stop(findings.record_gap(step.index, step.lineage, f"{what} {why}", pointers=[f"/{name}"]))
        if _OBJECT_TAG in data:
            message = f"{what} holds an object that was kept by its type's name alone"
            self.stop(findings.record_gap(step.index, step.lineage, message, pointers=[f"/{name}"]))
        value = orjson.loads(data)
        if name == "chunk" and step.assembles:
            self.answers.feed(step.lineage, orjson.loads(data))
        elif step.kind == "llm":
            self.minted.learn(lineage_text(step.lineage), value)
        if event.facts.get("wrapped"):
            value = value["value"]
        if event.facts.get("plain"):
            return value
        try:
            return restore(value, spec.annotation)
        except RestoreError as error:
            error.step, error.run_id, error.where = step.index, self.info.run_id, what
            self.fail(error)

    def violated(self, step: RecordedStep, policy_id: str, reason: str) -> PolicyViolation:
        """What the code was told when a policy stopped this step."""
        run_id = self.info.origin_run_id
        return stopped(reason, policy_id, run_id=run_id, skill_name=step.skill_name, lineage=step.lineage)

    def error(
        self, spec: SkillSpec, step: RecordedStep, thrown: BaseException | None = None
    ) -> BaseException:
        """The recorded error of a step; `thrown` itself where it is that one."""
        assert step.finished is not None
        value = step.finished.value("error")
        if isinstance(value, Erased):
            value = None
        if thrown is not None and isinstance(value, dict) and value.get("type") == type(thrown).__qualname__:
            return thrown
        return rebuild_error(value, step.finished.facts.get("outcome_code"), spec.raises)


def answered(finished: Event) -> bool:
    """Whether a step that failed did so by an answer that says so, in contrast to an exception."""
    return "transport" in finished.values and "error" not in finished.values


def tell_transport(args: tuple[Any, ...], finished: Event) -> None:
    """Gives an exchange that is served how its answer came."""
    data = finished.values.get("transport")
    if isinstance(data, bytes):
        args[0].transport = orjson.loads(data)
