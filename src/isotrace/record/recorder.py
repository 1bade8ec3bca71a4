"""The driver of a live run: calls what is really there, and has written down what came of it.

Nothing here may change what the agent sees.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Callable, Generator
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from isotrace.clock import Clock
from isotrace.record.body import first_leg, rest
from isotrace.record.context import (
    Branch,
    Ending,
    RunEnding,
    RunInfo,
    Step,
    current_step,
    ended_by_agent,
    enter_body,
    leave_body,
)
from isotrace.record.memory_journal import AnyJournal
from isotrace.record.scheduler import ArrivalOrder, Scheduler
from isotrace.record.shapes import AT_ONCE
from isotrace.record.sources.noted import EARLY
from isotrace.record.sources.surroundings import surroundings
from isotrace.record.spec import SkillSpec
from isotrace.record.streams import LiveStream
from isotrace.record.timers import RecordedTimer, timer_args, timer_spec
from isotrace.record.writer import UNDELIVERED, RunWriter

if TYPE_CHECKING:
    from isotrace.record.threads import Worker

_live: WeakSet[Recorder] = WeakSet()


class Recorder:
    """Records one run into one journal. Safe to use from several tasks and threads.

    `ended` gets the journal when the run is over, and whether recording had stopped before.
    """

    def __init__(
        self, info: RunInfo, journal: AnyJournal, clock: Clock, ended: Callable[[AnyJournal, bool], None]
    ) -> None:
        self.info = info
        self.closed = False
        self.run: Any = None
        self.step: Step | None = None
        self.writer = self.new_writer(info, journal, clock)
        self.scheduler = self.new_scheduler()
        self.streams: set[LiveStream] = set()
        self._now_ns = clock.monotonic_ns
        self._ended = ended
        _live.add(self)

    def new_writer(self, info: RunInfo, journal: AnyJournal, clock: Clock) -> RunWriter:
        """What writes this run's events; it has written the first."""
        return RunWriter(info, journal, clock)

    def new_scheduler(self) -> Scheduler:
        """Whose turn it is: first finished, first delivered."""
        return Scheduler(ArrivalOrder(), self.writer.note)

    def close(self, ending: RunEnding) -> None:
        """Writes the run's end and hands the journal over to be sealed."""
        if self.closed:
            return  # a forked child: the run is its parent's
        for stream in list(self.streams):
            stream.abandoned()
        self.closed = True
        self.scheduler.close()
        self.writer.run_finished(ending)
        self._ended(self.writer.journal, self.writer.failure is not None)

    def read(self, branch: Branch, source: str, function: Callable[[], Any]) -> Any:
        value = function()
        self.writer.value_read(branch, source, value)
        return value

    def noted(self, branch: Branch, source: str, function: Callable[[], Any]) -> Any:
        value = function()
        self.writer.noted(branch, source, value)
        if self.info.provisional and source in EARLY:
            surroundings.early(source, value)
        return value

    def note(self, reason: str) -> None:
        self.writer.note(reason)

    def violation(self, branch: Branch, policy_id: str, reason: str) -> None:
        self.writer.violation(branch, current_step.get(), policy_id, reason)

    # --- plain functions --------------------------------------------------------------

    def call(self, spec: SkillSpec, branch: Branch, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        writer, now_ns = self.writer, self._now_ns
        step = writer.begin(spec, branch, args, kwargs)
        worker = step.branch.control.worker
        if worker is not None:
            worker.pause()
        tokens = enter_body(step)
        started = now_ns()
        try:
            try:
                value = self._retry(step, args, kwargs) if spec.retries else spec.function(*args, **kwargs)
            finally:
                took_ns = now_ns() - started
                leave_body(tokens)
            if worker is None:
                writer.finish_at_once(step, value, took_ns)
            else:
                self._in_turn(worker, writer.succeeded(step, value), took_ns)
        except BaseException as error:
            if not step.ended:
                self._in_turn(worker, writer.failed(step, error), took_ns)
            raise
        return value

    def _in_turn(self, worker: Worker | None, ending: Ending, took_ns: int) -> None:
        """Writes an end; in a thread of ours, when it is the thread's turn to go on."""
        ending.step.ended = True
        if worker is None:
            self.writer.finish(ending, took_ns)
        else:
            worker.resume((ending.step.lineage, "end"), partial(self.writer.finish, ending, took_ns))

    def _retry(self, step: Step, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        spec = step.spec
        for attempt in range(spec.retries):
            try:
                return spec.function(*args, **kwargs)
            except spec.retry_on as error:
                self.writer.attempt_failed(step, error)
                if spec.backoff_s:
                    time.sleep(spec.backoff_s * 2**attempt)
        return spec.function(*args, **kwargs)

    # --- coroutine functions ------------------------------------------------------------

    async def acall(
        self, spec: SkillSpec, branch: Branch, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        writer, now_ns = self.writer, self._now_ns
        step = writer.begin(spec, branch, args, kwargs)
        waits = False
        tokens = enter_body(step)
        started = now_ns()
        try:
            try:
                waits, steps, value = first_leg(
                    self._aretry(step, args, kwargs) if spec.retries else spec.function(*args, **kwargs)
                )
                if waits:
                    value = await rest(step, steps, value)
            finally:
                took_ns = now_ns() - started
                leave_body(tokens)
            if waits:
                await self.deliver(writer.succeeded(step, value), took_ns)
            else:
                writer.finish_at_once(step, value, took_ns, AT_ONCE)
        except BaseException as error:
            if not step.ended:
                await self._deliver_error(step, error, took_ns, at_once=not waits)
            raise
        return value

    async def _deliver_error(self, step: Step, error: BaseException, took_ns: int, *, at_once: bool) -> None:
        ending = self.writer.failed(step, error)
        if at_once:
            # Without a turn: nothing else ran since the step began, and waiting would let it.
            ending.extra = {"at_once": True}
            self.writer.finish(ending, took_ns)
        else:
            await self.deliver_error(ending, error, took_ns)

    async def _aretry(self, step: Step, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        spec = step.spec
        for attempt in range(spec.retries):
            try:
                return await spec.function(*args, **kwargs)
            except spec.retry_on as error:
                self.writer.attempt_failed(step, error)
                if spec.backoff_s:
                    await asyncio.sleep(spec.backoff_s * 2**attempt)
        return await spec.function(*args, **kwargs)

    async def deliver_error(self, ending: Ending, problem: BaseException, took_ns: int) -> None:
        """Waits for the turn of a failure, unless it was the agent that ended the step."""
        if ended_by_agent(ending.step, problem):
            ending.facts |= UNDELIVERED
            self.writer.finish(ending, took_ns)
        else:
            await self.deliver(ending, took_ns)

    async def deliver(self, ending: Ending, took_ns: int) -> None:
        """Waits for the completion's turn. Cancelled meanwhile, the agent never got the outcome."""
        step = ending.step
        step.survives()
        try:
            await self.turn(step, "end", partial(self.writer.finish, ending, took_ns))
        except BaseException as error:
            if not step.ended:
                lost = self.writer.failed(step, error, delivered=False)
                lost.extra = ending.extra
                self.writer.finish(lost, took_ns)
            raise

    async def turn(self, step: Step, what: int | str, complete: Callable[[], None]) -> None:
        """Waits for the turn of a step's end, or of a piece of it; `complete` is called just before."""
        await self.scheduler.turn((step.lineage, what), complete)

    # --- streams ------------------------------------------------------------------------

    def stream(
        self, spec: SkillSpec, branch: Branch, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Generator[Any, Any, Any]:
        return LiveStream(self, self.writer.begin(spec, branch, args, kwargs), self._now_ns).run(args, kwargs)

    def astream(
        self, spec: SkillSpec, branch: Branch, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> AsyncGenerator[Any, Any]:
        return LiveStream(self, self.writer.begin(spec, branch, args, kwargs), self._now_ns).arun(
            args, kwargs
        )

    # --- timers -------------------------------------------------------------------------

    def timer(
        self,
        name: str,
        branch: Branch,
        delay: float | None,
        when: float,
        fired: Callable[[], None],
        failed: Callable[[BaseException], None],
    ) -> RecordedTimer:
        step = self.writer.begin(timer_spec(name), branch, timer_args(delay), {})
        return RecordedTimer(self, step, when, fired, self._now_ns)


def _let_go() -> None:
    """In a forked child: the open runs are the parent's, and calls of skills are plain calls."""
    for recorder in list(_live):
        recorder.closed = True


os.register_at_fork(after_in_child=_let_go)
