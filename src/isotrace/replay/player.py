"""The driver of a strict replay: the agent's own code runs, its steps are served from the record.

Nothing is executed and nothing is guessed. The first step that is not the recorded one stops the
replay, with a divergence that says how it differs.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import orjson

from isotrace.compare import findings
from isotrace.compare.divergence import Divergence
from isotrace.errors import IsotraceError, RecordedError, RestoreError
from isotrace.events import Event, lineage_text
from isotrace.jsondiff import diff_values
from isotrace.minted import MintedIds
from isotrace.models import Erased
from isotrace.plain import from_plain
from isotrace.record.context import (
    Branch,
    RunEnding,
    RunInfo,
    Step,
    current_branch,
    reset_all,
    set_all,
    times_cancelled,
)
from isotrace.record.edge import Edge
from isotrace.record.outcomes import rebuild_error
from isotrace.record.restore import restore
from isotrace.record.scheduler import Scheduler, Waiter
from isotrace.record.snapshot import snapshot
from isotrace.record.spec import SkillSpec
from isotrace.record.tasks import tasks_of
from isotrace.record.timers import timer_spec
from isotrace.replay.ending import ending_divergences
from isotrace.replay.matching import Matcher
from isotrace.replay.recorded import DeliveryKey, RecordedRun, RecordedStep
from isotrace.replay.served import ServedStream, ServedTimer
from isotrace.replay.stop import ReplayStop
from isotrace.replay.turns import RecordedOrder

_OBJECT_TAG = b'"$iso:object"'
_CANCEL_ROUNDS = 100
"""How often tasks that wait for nothing any more are cancelled: one may refuse to end a few times."""


class Player:
    """Serves one recorded run to the first run that opens.

    `failure` is set where the replay can't be carried out at all, as against a divergence.
    """

    def __init__(self, record: RecordedRun, *, stall_after_s: float = 2.0) -> None:
        self.record = record
        self.closed = False
        self.run: Any = None
        self.step: Step | None = None
        self.implied = False
        self.divergences: list[Divergence] = []
        self.failure: IsotraceError | None = None
        self.raised: BaseException | None = None
        self.marks: list[str] = []
        self.root_task: asyncio.Task[Any] | None = None
        self.root_cancelled = 0
        self.streams: set[ServedStream] = set()
        self.minted = MintedIds()
        self.matcher = Matcher(record, self.minted, self.stop)
        self.info = self._restored_info()
        self._order = RecordedOrder(record.deliveries)
        self.scheduler = Scheduler(self._order, self.marks.append, self._stalled, self._stuck, stall_after_s)
        self._lock = threading.Lock()
        self._stop: ReplayStop | None = None
        self._tasks: dict[DeliveryKey, asyncio.Task[Any]] = {}
        self._cancel_rounds = 0

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

    def imply(self) -> None:
        """The code is taken for the body of the run, until it opens one itself."""
        self.implied = True
        self._note_root()

    @property
    def begun(self) -> bool:
        """Whether a step was asked for."""
        return bool(self.matcher.matched) or self.matcher.stopped_at is not None

    def attach(self, live: RunInfo) -> None:
        """The run that opened says what it was given; who it is, the record says."""
        self.implied = False
        self._note_root()
        self._compare_input(live)
        environment = self.record.started.value("environment")
        if isinstance(environment, dict) and environment != live.environment:
            self.divergences.append(findings.runtime_mismatch(environment, live.environment))
        self.info.input = live.input
        self.info.plan = live.plan

    def _note_root(self) -> None:
        if asyncio._get_running_loop() is not None:
            self.root_task = asyncio.current_task()

    def _compare_input(self, live: RunInfo) -> None:
        value = self.record.started.value
        recorded = {"input": value("input"), "plan": value("plan", [])}
        # Cut where the recorded ones were cut.
        given = {
            name: orjson.loads(snapshot(one, around=1).data)
            for name, one in (("input", live.input), ("plan", live.plan))
        }
        for name in [name for name, one in recorded.items() if isinstance(one, Erased)]:
            message = f"the {name} of the run was erased, so it can't be compared"
            self.divergences.append(findings.record_gap(None, (), message, pointers=[f"/{name}"]))
            del recorded[name], given[name]
        if changes := diff_values(recorded, given):
            self.divergences.append(findings.input_changed(changes))

    def close(self, ending: RunEnding) -> None:
        """The run has ended: what was not asked for, or ended otherwise, shows now."""
        if self.closed:
            return
        for stream in list(self.streams):
            stream.abandoned()
        self.closed = True
        self.scheduler.close(ReplayStop("the recorded run has ended"))
        if self._stop is None:
            self.raised = ending.error
            known = ending.has_result or not self.implied
            self.divergences += ending_divergences(self.record, self.matcher.matched, ending, result=known)

    def read(self, branch: Branch, source: str, function: Callable[[], Any]) -> Any:
        index, branch.reads = branch.reads, branch.reads + 1
        event = self.record.reads.get((branch.path, index))
        if event is None or event.facts.get("source") != source:
            known = event.facts.get("source") if event is not None else None
            message = f"the code reads {source!r}, the record has {known!r} there"
            self.stop(findings.uncontrolled_source(None, branch.path, message))
        branch.last_us = event.time_us
        value = event.value("value")
        if isinstance(value, Erased):
            self.stop(findings.record_gap(None, branch.path, f"the value read from {source!r} was erased"))
        return from_plain(value)

    def violation(self, branch: Branch, policy_id: str, reason: str) -> None:
        """A replay is observational: nothing is written."""

    # --- stopping -------------------------------------------------------------------------

    @property
    def stopped(self) -> bool:
        """Whether the replay was stopped before the code came to its end."""
        return self._stop is not None

    def stop(self, divergence: Divergence) -> NoReturn:
        """Stops the replay. The first divergence stands; what follows from it is not reported."""
        self._end(divergence)

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

    def _stalled(self, waiting: list[Waiter]) -> None:
        """Nothing can run any more, and the completion whose turn it is was not asked for."""
        if not self._cancel_from_outside(waiting):
            try:
                self.stop(self._stall(waiting))
            except ReplayStop:
                pass  # the waiters have been failed with it

    def _stall(self, waiting: list[Waiter]) -> Divergence:
        head = self._order.head()
        steps = [self.record.steps[waiter.key[0]] for waiter in waiting]
        unfinished = [step for step in steps if step.finished is None]
        if head is None and unfinished:
            return self._indeterminate(min(unfinished, key=lambda step: step.index))
        step = self.record.steps[head[0]] if head is not None else steps[0]
        names = [lineage_text(one.lineage) for one in steps]
        return findings.replay_stalled(step.index, step.lineage, step.skill_name, names)

    def _indeterminate(self, step: RecordedStep) -> Divergence:
        return findings.indeterminate_step(step.index, step.lineage, step.skill_name)

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

    def _stuck(self, loop: asyncio.AbstractEventLoop) -> bool:
        """The replay was stopped, and what is left of the agent waits for what never comes."""
        left = tasks_of(self, loop)
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

    # --- plain functions and coroutines ------------------------------------------------------

    def match(
        self, spec: SkillSpec, branch: Branch, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> RecordedStep:
        """The recorded step that this call is. Anything else stops the replay."""
        if self._stop is not None:
            raise self._stop
        step = self.matcher.match(spec, branch, args, kwargs)
        if step.chunks and not spec.streams:
            for index in range(len(step.chunks)):
                self.scheduler.served((step.lineage, index))
        return step

    def call(self, spec: SkillSpec, branch: Branch, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._is_the_run(spec):
            with self._outside():
                return spec.function(*args, **kwargs)
        step = self.match(spec, branch, args, kwargs)
        worker = branch.control.worker
        key: DeliveryKey = (step.lineage, "end")
        if step.finished is None and (worker is None or self.record.finished is None):
            self.stop(self._indeterminate(step))
        if worker is None:
            self.scheduler.served(key)
        else:
            worker.pause()
            worker.resume(key, _nothing)
        self.ended(branch, step)
        return self._outcome(spec, step, args)

    async def acall(
        self, spec: SkillSpec, branch: Branch, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if self._is_the_run(spec):
            with self._outside():
                return await spec.function(*args, **kwargs)
        step = self.match(spec, branch, args, kwargs)
        if step.at_once:
            self.scheduler.served((step.lineage, "end"))
            self.ended(branch, step)
        else:
            await self.turn(branch, step, "end")
        return self._outcome(spec, step, args)

    def _is_the_run(self, spec: SkillSpec) -> bool:
        """Whether an agent that the code calls is the run itself, not its first step."""
        if spec.kind != "agent" or not self.implied or self.begun:
            return False
        first = self.record.ordered[0] if self.record.ordered else None
        return first is None or (first.kind, first.skill_name) != (spec.kind, spec.name)

    @contextmanager
    def _outside(self) -> Iterator[None]:
        tokens = set_all([(current_branch, None)])
        try:
            yield
        finally:
            reset_all(tokens)

    async def turn(self, branch: Branch, step: RecordedStep, what: int | str) -> None:
        """Waits for a completion's turn. One that was not delivered on record never comes."""
        if step.finished is None and self.record.finished is None and self._nothing_left():
            self.stop(self._indeterminate(step))
        key: DeliveryKey = (step.lineage, what)
        fired, before = False, times_cancelled()

        def complete() -> None:
            nonlocal fired
            fired = True

        self.waits(key)
        try:
            while not fired:
                try:
                    await self.scheduler.turn(key, complete)
                except asyncio.CancelledError:
                    if fired or self._stop is not None or self.closed:
                        raise
                    # What was delivered on record all the same had survived being cancelled.
                    if not step.delivers(what) and times_cancelled() - before > step.survived:
                        raise
        finally:
            self.waits_no_more(key)
            if what == "end":
                self.ended(branch, step)

    def waits(self, key: DeliveryKey) -> None:
        """The current task waits for this completion alone."""
        if asyncio._get_running_loop() is not None and (task := asyncio.current_task()) is not None:
            self._tasks[key] = task

    def waits_no_more(self, key: DeliveryKey) -> None:
        self._tasks.pop(key, None)

    def _nothing_left(self) -> bool:
        """Whether nothing on record can come any more."""
        return self.matcher.exhausted and self._order.head() is None

    def ended(self, branch: Branch, step: RecordedStep) -> None:
        """The branch's time is that of the step's end."""
        if step.finished is not None:
            branch.last_us = step.finished.time_us

    # --- what is served -------------------------------------------------------------------

    def _outcome(self, spec: SkillSpec, step: RecordedStep, args: tuple[Any, ...]) -> Any:
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
        if step.kind == "llm":
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

    # --- streams and timers ---------------------------------------------------------------

    def stream(
        self, spec: SkillSpec, branch: Branch, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Generator[Any, Any, Any]:
        return self._stream(spec, branch, args, kwargs).run()

    def astream(
        self, spec: SkillSpec, branch: Branch, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> AsyncGenerator[Any, Any]:
        return self._stream(spec, branch, args, kwargs).arun()

    def _stream(
        self, spec: SkillSpec, branch: Branch, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> ServedStream:
        step = self.match(spec, branch, args, kwargs)
        if isinstance(spec, Edge) and step.finished is not None:
            tell_transport(args, step.finished)
        return ServedStream(self, spec, branch, step)

    def timer(
        self,
        name: str,
        branch: Branch,
        delay: float | None,
        when: float,
        fired: Callable[[], None],
        failed: Callable[[BaseException], None],
    ) -> ServedTimer:
        step = self.match(timer_spec(name), branch, () if delay is None else (delay,), {})
        return ServedTimer(self, branch, step, fired, failed)


def answered(finished: Event) -> bool:
    """Whether a step that failed did so by an answer that says so, in contrast to an exception."""
    return "transport" in finished.values and "error" not in finished.values


def tell_transport(args: tuple[Any, ...], finished: Event) -> None:
    """Gives an exchange that is served how its answer came."""
    data = finished.values.get("transport")
    if isinstance(data, bytes):
        args[0].transport = orjson.loads(data)


def _nothing() -> None:
    """A served completion writes nothing."""
