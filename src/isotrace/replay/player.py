"""The driver of a strict replay: the agent's own code runs, its steps are served from the record.

Nothing is executed and nothing is guessed. The first step that is not the recorded one stops the
replay, with a divergence that says how it differs.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, NoReturn

import orjson

from isotrace.compare import findings
from isotrace.compare.divergence import Code, Divergence
from isotrace.errors import RecordedError, RecordGapError
from isotrace.events import lineage_text
from isotrace.jsondiff import diff_values
from isotrace.minted import MintedIds
from isotrace.models import Erased, Lineage
from isotrace.plain import from_plain
from isotrace.record.context import Branch, RunEnding, RunInfo, current_branch
from isotrace.record.outcomes import rebuild_error
from isotrace.record.restore import restore
from isotrace.record.scheduler import Scheduler, Waiter
from isotrace.record.snapshot import snapshot_params
from isotrace.record.spec import SkillSpec
from isotrace.record.timers import timer_spec
from isotrace.replay.ending import ending_divergences
from isotrace.replay.recorded import DeliveryKey, RecordedRun, RecordedStep
from isotrace.replay.turns import RecordedOrder

_OBJECT_TAG = b'"$iso:object"'


class ReplayStop(BaseException):
    """Ends the agent's code at the first divergence. Not an `Exception`, so that an agent which
    survives every error does not survive this one."""

    def __init__(self, divergence: Divergence) -> None:
        super().__init__(str(divergence))
        self.divergence = divergence


class LiveStep:
    """The step at which the code parted from the record, as the code asked for it."""

    def __init__(self, spec: SkillSpec, lineage: Lineage, params: Any) -> None:
        self.skill_name = spec.name
        self.kind = spec.kind
        self.effect = spec.effect
        self.lineage = lineage
        self.params = params


class Player:
    """Serves one recorded run to the first run that opens."""

    def __init__(self, record: RecordedRun, *, stall_after_s: float = 2.0) -> None:
        self.record = record
        self.closed = False
        self.divergences: list[Divergence] = []
        self.matched: list[RecordedStep] = []
        self.stopped_at: LiveStep | None = None
        self.ending: RunEnding | None = None
        self.uncertain: list[str] = []
        self.marks: list[str] = []
        self._order = RecordedOrder(record.deliveries)
        self.scheduler = Scheduler(self._order, self.marks.append, self._stalled, stall_after_s)
        self._minted = MintedIds()
        self._lock = threading.Lock()
        self._starts = iter(record.starts)
        self._drift: tuple[str, str] | None = None
        self._stop: ReplayStop | None = None
        self._tasks: dict[DeliveryKey, asyncio.Task[Any]] = {}
        self.info = self._restored_info()

    def _restored_info(self) -> RunInfo:
        facts, started = self.record.facts, self.record.started
        return RunInfo(
            run_id=facts["origin_run_id"] or facts["run_id"],
            origin_run_id=facts["origin_run_id"] or facts["run_id"],
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

    def attach(self, live: RunInfo) -> None:
        """The run that opened says what it was given; what the record says is what its code gets."""
        recorded, now = self._given(self.record.started.value), self._given_live(live)
        if recorded is not None and (changes := diff_values(recorded, now)):
            self.divergences.append(findings.input_changed(changes))
        self.info.input = live.input
        self.info.plan = live.plan

    def _given(self, value: Callable[..., Any]) -> dict[str, Any] | None:
        given = {"input": value("input"), "plan": value("plan", [])}
        return None if any(isinstance(one, Erased) for one in given.values()) else given

    def _given_live(self, live: RunInfo) -> dict[str, Any]:
        data = snapshot_params({"input": live.input or None, "plan": live.plan}).data
        return orjson.loads(data)  # type: ignore[no-any-return]  # an object, as it went in

    def close(self, ending: RunEnding) -> None:
        self.closed = True
        self.scheduler.close()
        self.ending = ending
        if self._stop is None and self._current_stop(ending.error) is None:
            self.divergences += ending_divergences(self.record, self.matched, ending)

    def _current_stop(self, error: BaseException | None) -> ReplayStop | None:
        return error if isinstance(error, ReplayStop) else None

    def read(self, branch: Branch, source: str, function: Callable[[], Any]) -> Any:
        index, branch.reads = branch.reads, branch.reads + 1
        event = self.record.reads.get((branch.path, index))
        if event is None or event.facts.get("source") != source:
            known = event.facts.get("source") if event is not None else None
            message = f"the code reads {source!r}, the record has {known!r} there"
            self._diverge(findings.uncontrolled_source(None, branch.path, message))
        branch.last_us = event.time_us
        value = event.value("value")
        if isinstance(value, Erased):
            self._diverge(
                findings.record_gap(None, branch.path, f"the value read from {source!r} was erased")
            )
        return from_plain(value)

    def violation(self, branch: Branch, policy_id: str, reason: str) -> None:
        """A replay is observational: nothing is written."""

    # --- matching -------------------------------------------------------------------------

    def _diverge(self, divergence: Divergence) -> NoReturn:
        """Stops the replay. The first divergence stands; what follows from it is not reported."""
        with self._lock:
            if self._stop is None:
                self._stop = ReplayStop(divergence)
                self.divergences.append(divergence)
                self.scheduler.abort(self._stop)
            stop = self._stop
        raise stop

    def _match(
        self, spec: SkillSpec, branch: Branch, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> RecordedStep:
        """The recorded step that this call is. Anything else stops the replay."""
        if self._stop is not None:
            raise self._stop
        lineage = (*branch.path, branch.next())
        data = snapshot_params(spec.bind(args, kwargs)).data
        step = self.record.steps.get(lineage)
        if step is None:
            self._extra(spec, lineage, data)
        if step.kind != spec.kind or step.skill_name != spec.name:
            self._other_skill(spec, step, data)
        self._note_start(lineage)
        try:
            equal, live = step.params_equal(data, self._minted)
        except RecordGapError as gap:
            self._diverge(findings.of_error(gap, lineage=lineage))
        if not equal:
            self._other_params(spec, step, live)
        if _OBJECT_TAG in data:
            self.uncertain.append(
                f"{spec.name} (step {step.index}) was given an object that can't be compared"
            )
        self.matched.append(step)
        branch.last_us = step.started.time_us
        return step

    def _note_start(self, lineage: Lineage) -> None:
        """Starts in another order than recorded are no divergence by themselves, but explain one."""
        expected = next(self._starts, None)
        if self._drift is None and expected != lineage:
            was = lineage_text(expected) if expected is not None else "nothing"
            self._drift = (f"step {was} started", f"step {lineage_text(lineage)} starts")

    def _asked(self, spec: SkillSpec, lineage: Lineage, data: bytes) -> Any:
        params = orjson.loads(data)
        if self._minted:
            params, _ = self._minted.replace(params)
        self.stopped_at = LiveStep(spec, lineage, params)
        return params

    def _extra(self, spec: SkillSpec, lineage: Lineage, data: bytes) -> NoReturn:
        params = self._asked(spec, lineage, data)
        total, done = len(self.record.steps), len(self.matched)
        if self.record.aborted is not None and done == total:
            message = f"the record was cut off after {total} steps; the code goes on with {spec.name}"
            self._diverge(findings.record_gap(total, lineage, message))
        if done == total:
            self._diverge(findings.late_end(total, lineage, total, total + 1, left=[spec.name]))
        index = self.record.index_of(lineage)
        self._diverge(
            findings.extra_step(
                index, lineage, spec.name, params, nearest=self._nearest(spec, params, lineage)
            )
        )

    def _other_skill(self, spec: SkillSpec, step: RecordedStep, data: bytes) -> NoReturn:
        params = self._asked(spec, step.lineage, data)
        where = step.index
        if step.kind != spec.kind:
            self._diverge(findings.kind_changed(where, step.lineage, step.kind, spec.kind))
        twin = self._same_elsewhere(spec, params, step)
        if twin is not None:
            message = f"{spec.name} comes here; on record it is step {twin.index}, here is {step.skill_name}"
            self._diverge(
                Divergence(
                    Code.REORDERED,
                    where,
                    step.lineage,
                    expected=step.skill_name,
                    actual=spec.name,
                    nearest=_brief(twin),
                    original_index=where,
                    replay_index=where,
                    message=message,
                )
            )
        self._diverge(
            findings.skill_changed(
                where,
                step.lineage,
                step.skill_name,
                spec.name,
                nearest=self._nearest(spec, params, step.lineage),
            )
        )

    def _other_params(self, spec: SkillSpec, step: RecordedStep, live: Any) -> NoReturn:
        self.stopped_at = LiveStep(spec, step.lineage, live)
        if self._drift is not None:
            self._diverge(findings.schedule_changed(step.index, step.lineage, *self._drift))
        self._diverge(findings.params_changed(step.index, step.lineage, step.params, live))

    def _unmatched(self) -> list[RecordedStep]:
        done = {step.lineage for step in self.matched}
        return [step for step in self.record.ordered if step.lineage not in done]

    def _same_elsewhere(self, spec: SkillSpec, params: Any, here: RecordedStep) -> RecordedStep | None:
        """The recorded step of this branch, still to come, that this call would be."""
        for step in self._unmatched():
            if step is here or step.lineage[:-1] != here.lineage[:-1] or step.skill_name != spec.name:
                continue
            if not isinstance(step.started.values.get("params"), Erased) and not diff_values(
                step.params, params
            ):
                return step
        return None

    def _nearest(self, spec: SkillSpec, params: Any, lineage: Lineage) -> dict[str, Any] | None:
        """What of the record comes closest: the same skill, with the fewest differences."""
        close = [
            (len(diff_values(step.params, params)), step)
            for step in self._unmatched()
            if step.skill_name == spec.name and not isinstance(step.started.values.get("params"), Erased)
        ]
        if not close:
            return None
        _, nearest = min(close, key=lambda pair: (pair[0], pair[1].index))
        return _brief(nearest)

    def _stalled(self, waiting: list[Waiter]) -> None:
        """Nothing can run, and the recorded next completion is of a step that was not asked for."""
        if self._cancel_from_outside(waiting):
            return
        head = self._order.head()
        step = self.record.steps.get(head[0]) if head is not None else None
        names = [lineage_text(waiter.key[0]) for waiter in waiting]
        if step is not None:
            index, lineage, name = step.index, step.lineage, step.skill_name
        else:
            index, lineage, name = len(self.record.steps), (), "any recorded step"
        try:
            self._diverge(findings.replay_stalled(index, lineage, name, names))
        except ReplayStop:
            pass  # the waiters have been failed with it

    def _cancel_from_outside(self, waiting: list[Waiter]) -> bool:
        """A step that was cancelled on record, which no code of the agent cancels: whoever did it
        stood outside (a server's time-out, Ctrl-C), so the replay does it in their place."""
        for waiter in waiting:
            step = self.record.steps.get(waiter.key[0])
            task = self._tasks.get(waiter.key)
            if step is not None and not step.delivered and step.finished is not None and task is not None:
                task.cancel()
                return True
        return False

    # --- serving --------------------------------------------------------------------------

    def _finished(self, step: RecordedStep) -> dict[str, Any]:
        """The facts of the step's end. A step that never ended is never executed again."""
        if step.finished is None:
            self._diverge(findings.indeterminate_step(step.index, step.lineage, step.skill_name))
        return step.finished.facts

    def _serve(self, spec: SkillSpec, step: RecordedStep) -> Any:
        """The recorded outcome as the live call returned it, or the recorded error raised."""
        facts = self._finished(step)
        finished = step.finished
        assert finished is not None
        if step.kind == "llm":
            self._minted.learn(lineage_text(step.lineage), finished.value("outcome_data"))
        if facts["status"] == "failure":
            raise self._error(spec, step)
        if facts["status"] != "success":
            raise RecordedError(
                f"{step.skill_name} was {facts['status']} on record", code=facts["outcome_code"]
            )
        outcome = finished.value("outcome_data")
        if isinstance(outcome, Erased):
            self._diverge(
                findings.record_gap(step.index, step.lineage, f"the outcome of {step.skill_name} was erased")
            )
        if facts.get("wrapped"):
            outcome = outcome["value"]
        return restore(outcome, spec.annotation)

    def _error(self, spec: SkillSpec, step: RecordedStep) -> BaseException:
        assert step.finished is not None
        value = step.finished.value("error")
        return rebuild_error(value, step.finished.facts.get("outcome_code"), spec.raises)

    def _ended(self, branch: Branch, step: RecordedStep) -> None:
        if step.finished is not None:
            branch.last_us = step.finished.time_us

    def call(self, spec: SkillSpec, branch: Branch, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        worker = branch.worker
        step = self._match(spec, branch, args, kwargs)
        key: DeliveryKey = (step.lineage, "end")
        self._finished(step)
        if worker is None:
            self._order.served(key)
        else:
            worker.pause()
            worker.resume(key, _nothing)
        self._ended(branch, step)
        return self._serve(spec, step)

    async def acall(
        self, spec: SkillSpec, branch: Branch, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        step = self._match(spec, branch, args, kwargs)
        self._finished(step)
        await self._turn((step.lineage, "end"))
        self._ended(branch, step)
        return self._serve(spec, step)

    async def _turn(self, key: DeliveryKey) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks[key] = task
        try:
            await self.scheduler.turn(key, _nothing)
        finally:
            self._tasks.pop(key, None)

    def stream(
        self, spec: SkillSpec, branch: Branch, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Iterator[Any]:
        step = self._match(spec, branch, args, kwargs)
        seen = 0
        try:
            for seen, _ in enumerate(step.chunks, start=1):
                self._order.served((step.lineage, seen - 1))
                yield self._chunk(spec, branch, step, seen - 1)
        except GeneratorExit:
            self._closed(step, seen)
            raise
        self._check_end(step)
        self._order.served((step.lineage, "end"))
        self._ended(branch, step)
        return self._stream_end(spec, step)

    async def astream(
        self, spec: SkillSpec, branch: Branch, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> AsyncIterator[Any]:
        step = self._match(spec, branch, args, kwargs)
        seen = 0
        try:
            for seen, _ in enumerate(step.chunks, start=1):
                await self._turn((step.lineage, seen - 1))
                yield self._chunk(spec, branch, step, seen - 1)
        except GeneratorExit:
            self._closed(step, seen)
            raise
        self._check_end(step)
        await self._turn((step.lineage, "end"))
        self._ended(branch, step)
        self._stream_end(spec, step)

    def _chunk(self, spec: SkillSpec, branch: Branch, step: RecordedStep, index: int) -> Any:
        event = step.chunks[index]
        branch.last_us = event.time_us
        value = event.value("chunk")
        if isinstance(value, Erased):
            message = f"chunk {index} of {step.skill_name} was erased"
            self._diverge(findings.record_gap(step.index, step.lineage, message))
        if step.kind == "llm":
            self._minted.learn(lineage_text(step.lineage), value)
        return restore(value, spec.annotation)

    def _check_end(self, step: RecordedStep) -> None:
        """The code wants more of a stream than the record has."""
        if self._finished(step).get("closed_early"):
            message = f"the code reads on after chunk {len(step.chunks)} of {step.skill_name}, where it stopped on record"
            self._diverge(findings.stream_changed(step.index, step.lineage, message, partial=True))

    def _stream_end(self, spec: SkillSpec, step: RecordedStep) -> Any:
        assert step.finished is not None
        if step.finished.facts["status"] == "failure":
            raise self._error(spec, step)
        outcome = step.finished.value("outcome_data")
        if step.kind == "llm":
            self._minted.learn(lineage_text(step.lineage), outcome)
        return from_plain(outcome["return"]) if isinstance(outcome, dict) and "return" in outcome else None

    def _closed(self, step: RecordedStep, seen: int) -> None:
        """The code closed a stream; on record it may have read further."""
        facts = step.finished.facts if step.finished is not None else {}
        for index in range(seen, len(step.chunks)):
            self._order.served((step.lineage, index))
        self._order.served((step.lineage, "end"))
        if seen != len(step.chunks) or not facts.get("closed_early"):
            message = f"the code stops {step.skill_name} after {seen} of {len(step.chunks)} recorded chunks"
            self.divergences.append(findings.stream_changed(step.index, step.lineage, message))

    def timer(
        self, name: str, branch: Branch, delay: float | None, when: float, fired: Callable[[], None]
    ) -> ServedTimer:
        step = self._match(timer_spec(name), branch, () if delay is None else (delay,), {})
        return ServedTimer(self, branch, step, fired)


class ServedTimer:
    """A timer that fires in its recorded turn, without waiting; or never, if it was cancelled."""

    def __init__(self, player: Player, branch: Branch, step: RecordedStep, fired: Callable[[], None]) -> None:
        self._player = player
        self._branch = branch
        self._step = step
        self._fired = fired
        self._done = False
        self._task = asyncio.current_task()
        self._waiter = Waiter((step.lineage, "end"), self._fire, self._fail, asyncio.get_running_loop())
        player.scheduler.offer(self._waiter)

    def _fire(self) -> None:
        if not self._done:
            self._done = True
            self._player._ended(self._branch, self._step)
            self._fired()

    def _fail(self, error: BaseException) -> None:
        # The scope's task waits for something else, which is failed likewise.
        self._done = True

    def cancel(self) -> None:
        if not self._done:
            self._done = True
            self._player.scheduler.withdraw(self._waiter)


def _nothing() -> None:
    """A served completion writes nothing."""


def _brief(step: RecordedStep) -> dict[str, Any]:
    value = step.started.value("params", {})
    return {
        "step_index": step.index,
        "skill_name": step.skill_name,
        "lineage": list(step.lineage),
        "params": value.to_dict() if isinstance(value, Erased) else value,
    }


__all__ = ["Player", "ReplayStop", "current_branch"]
