"""The driver of a live run: calls what is really there, and has written down what came of it.

Nothing here may change what the agent sees.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Callable, Generator
from functools import partial
from typing import Any
from weakref import WeakSet

from isotrace.clock import Clock
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
from isotrace.record.journal import AnyJournal
from isotrace.record.scheduler import ArrivalOrder, Scheduler
from isotrace.record.spec import SkillSpec
from isotrace.record.streams import LiveStream
from isotrace.record.timers import RecordedTimer, timer_spec
from isotrace.record.writer import UNDELIVERED, RunWriter

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
        self.writer = RunWriter(info, journal, clock)
        self.scheduler = Scheduler(ArrivalOrder(), self.writer.note)
        self.streams: set[LiveStream] = set()
        self._now_ns = clock.monotonic_ns
        self._ended = ended
        _live.add(self)

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

    def violation(self, branch: Branch, policy_id: str, reason: str) -> None:
        self.writer.violation(branch, current_step.get(), policy_id, reason)

    # --- plain functions --------------------------------------------------------------

    def call(self, spec: SkillSpec, branch: Branch, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        writer, now_ns = self.writer, self._now_ns
        step = writer.begin(spec, branch, args, kwargs)
        worker = branch.control.worker
        if worker is not None:
            worker.pause()
        started = now_ns()
        tokens = enter_body(step)
        ending: Ending | None = None
        try:
            value = self._retry(step, args, kwargs) if spec.retries else spec.function(*args, **kwargs)
            duration_ms = (now_ns() - started) / 1e6
            ending = writer.succeeded(step, value)
            return value
        except BaseException as error:
            duration_ms = (now_ns() - started) / 1e6
            ending = ending or writer.failed(step, error)
            raise
        finally:
            leave_body(tokens)
            assert ending is not None
            ending.duration_ms = duration_ms
            if worker is None:
                writer.finish(ending)
            else:
                worker.resume((step.lineage, "end"), partial(writer.finish, ending))

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
        step = self.writer.begin(spec, branch, args, kwargs)
        started = self._now_ns()
        tokens = enter_body(step)
        problem: BaseException | None = None
        value: Any = None
        try:
            if spec.retries:
                value = await self._aretry(step, args, kwargs)
            else:
                value = await spec.function(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001  # raised again when it has been written down
            problem = error
        finally:
            leave_body(tokens)
        duration_ms = (self._now_ns() - started) / 1e6
        if problem is None:
            await self.deliver(self.writer.succeeded(step, value), duration_ms)
            return value
        await self.deliver_error(self.writer.failed(step, problem), problem, duration_ms)
        raise problem

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

    async def deliver_error(self, ending: Ending, problem: BaseException, duration_ms: float) -> None:
        """Waits for the turn of a failure, unless it was the agent that ended the step."""
        if ended_by_agent(problem):
            ending.facts += UNDELIVERED
            ending.duration_ms = duration_ms
            self.writer.finish(ending)
        else:
            await self.deliver(ending, duration_ms)

    async def deliver(self, ending: Ending, duration_ms: float) -> None:
        """Waits for the completion's turn. Cancelled meanwhile, the agent never got the outcome."""
        ending.duration_ms = duration_ms
        written = False

        def complete() -> None:
            nonlocal written
            written = True
            self.writer.finish(ending)

        try:
            await self.scheduler.turn((ending.step.lineage, "end"), complete)
        except BaseException as error:
            if not written:
                lost = self.writer.failed(ending.step, error, delivered=False)
                lost.extra, lost.duration_ms = ending.extra, duration_ms
                self.writer.finish(lost)
            raise

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
        step = self.writer.begin(timer_spec(name), branch, () if delay is None else (delay,), {})
        return RecordedTimer(self, step, when, fired, self._now_ns)


def _let_go() -> None:
    """In a forked child: the open runs are the parent's, and calls of skills are plain calls."""
    for recorder in list(_live):
        recorder.closed = True


os.register_at_fork(after_in_child=_let_go)
