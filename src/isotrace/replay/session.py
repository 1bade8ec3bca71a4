"""Replays one run: attaches a player to the run that the code opens, and says what came of it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from isotrace.compare import Level, Rules, findings
from isotrace.contracts import TraceStore
from isotrace.errors import ReplayError, UncontrolledSourceError
from isotrace.ledger import Ledger
from isotrace.models import TraceRecord
from isotrace.record import hooks
from isotrace.record.capture import instrument
from isotrace.record.context import (
    Branch,
    Driver,
    RunInfo,
    current_branch,
    current_step,
    reset_all,
    run_opener,
    set_all,
)
from isotrace.record.runs import run_of
from isotrace.record.sources import control
from isotrace.record.spec import SkillSpec
from isotrace.replay.guard import Guard, active_guard, guarded
from isotrace.replay.plan import READS, Plan
from isotrace.replay.player import Player
from isotrace.replay.recorded import Held, RecordedRun, recorded_run
from isotrace.replay.rerun import Rerun
from isotrace.replay.result import ReplayResult
from isotrace.replay.sleeping import no_waiting
from isotrace.replay.stop import ReplayStop
from isotrace.replay.verdict import Ended, rerun_result, strict_result


class Attachment:
    """Gives its driver to the first run that opens; runs after it, or inside it, are refused, unless a step
    that is really executed opens them.
    """

    def __init__(self, driving: Player | Rerun, plan: Plan) -> None:
        self.driving = driving
        self._plan = plan
        self.attached = False

    def __call__(self, info: RunInfo) -> Driver | None:
        if self.attached and current_step.get() is not None and isinstance(self.driving, Rerun):
            return self.driving.inner(info)
        if self.attached or self.driving.begun:
            self.driving.fail(
                ReplayError(
                    "the code opens a second run, but one recorded run is being replayed",
                    run_id=self.driving.info.run_id,
                    hint="replay each run by itself, or make the inner run an @agent",
                )
            )
        self.attached = True
        return self.driving.attach(info)

    def noted(self, source: str, function: Callable[[], Any]) -> Any:
        """The lines that lead to the run read what they read on record."""
        return function() if self.attached else self.driving.noted_reads.early(source, function)

    def outside(self, spec: SkillSpec) -> None:
        """A skill is called outside of the run: a plain call, unless it writes."""
        if spec.effect in READS or spec.kind == "agent":
            return
        if not self._plan.executes(spec.kind, spec.name, spec.effect):
            index, mode = len(self.driving.record.steps), self._plan.mode
            self.driving.stop(findings.effect_blocked(index, (), spec.name, spec.effect, mode=mode))


class Replay:
    """One replay of one recorded run. `run` for plain functions, `arun` inside an event loop.

    `alone`: nothing else of this process needs the network meanwhile, so that threads which the replayed code
    does not start, but may feed, are refused it as well.
    """

    def __init__(
        self,
        source: Ledger | TraceRecord,
        plan: Plan | None = None,
        *,
        store: TraceStore | str | None = None,
        stall_after_s: float = 2.0,
        alone: bool = False,
    ) -> None:
        self.plan = plan or Plan()
        self._alone = alone and self.plan.is_strict
        self.record: RecordedRun = recorded_run(source)
        self.record.moved = self.plan.moved
        self.record.use_redactors()
        self.record.held = Held(Level.of(self.plan.level), Rules.parse(**self.plan.rules))
        self._source = source
        self.driving: Player | Rerun
        if self.plan.is_strict:
            self.driving = Player(self.record, stall_after_s=stall_after_s)
        else:
            self.driving = Rerun(self.record, self.plan, store=store, stall_after_s=stall_after_s)
        self._attachment = Attachment(self.driving, self.plan)
        self.block_result: ReplayResult | None = None

    def run(self, function: Callable[[], Any], *, body: bool = False) -> ReplayResult:
        """Calls `function`, which opens the run; a coroutine function gets an event loop of its own.
        With `body` it may also be the body of a run, which is opened around it.

        Raises `ReplayError` if it opens no run, or opens two, or if it is a coroutine function and
        an event loop is running here already; `RestoreError` if a recorded value does not fit the code.
        """
        with self._scope() as guard:
            value, error = None, None
            try:
                with self._body(body):
                    value = function()
                    if inspect.iscoroutine(value):
                        value = self._run_coroutine(value)
            except BaseException as raised:  # noqa: BLE001  # whatever the agent raises is a result
                error = self._keep(raised)
        return self._result(guard, value, error)

    async def arun(self, function: Callable[[], Any], *, body: bool = False) -> ReplayResult:
        """`run` for code that is inside an event loop."""
        with self._scope() as guard:
            guard.look_at(asyncio.get_running_loop())
            value, error = None, None
            try:
                with self._body(body):
                    value = function()
                    if inspect.isawaitable(value):
                        value = await value
            except BaseException as raised:  # noqa: BLE001  # whatever the agent raises is a result
                error = self._keep(raised)
                self._uncancel()
        return self._result(guard, value, error)

    @contextmanager
    def block(self, *, body: bool) -> Iterator[None]:
        """The code is that of the `with` block: what opens the run or, with `body`, its body. What it raises
        ends the block, and stands in `block_result`; so does what the replay ends it with.

        Raises as `run` does. For an `async with`, it may be entered inside an event loop.
        """
        error: BaseException | None = None
        with self._scope() as guard:
            loop = asyncio._get_running_loop()
            if loop is not None:
                guard.look_at(loop)
            with self._body(body):
                try:
                    yield
                except BaseException as raised:  # noqa: BLE001  # who wrote the block asks for it
                    # The block's, not that of the run whose body it may be: it has no part in the record.
                    error = raised
            if error is not None:
                error = self._keep(error)
                if loop is not None:
                    self._uncancel()
        # What is raised around a run that the code has opened is none of that run's.
        around = self._attachment.attached
        self.block_result = self._result(guard, None, None if around else error)
        self.block_result.error = error

    def _body(self, wanted: bool) -> AbstractContextManager[Any]:
        """The run that a function may be the body of, until it opens one itself."""
        if not wanted:
            return nullcontext()
        return run_of(self.driving.imply())

    def _run_coroutine(self, coroutine: Any) -> Any:
        if asyncio._get_running_loop() is not None:
            coroutine.close()
            raise ReplayError(
                "an event loop is running here, so a coroutine can't get one of its own",
                run_id=self.driving.info.run_id,
                hint="await isotrace.areplay(...) instead",
            )
        # The loop's first task is where the code begins, no branch of it.
        root = current_branch.get()
        tokens = set_all([(current_branch, None)])
        try:
            return asyncio.run(self._as_root(coroutine, root))
        finally:
            reset_all(tokens)

    async def _as_root(self, coroutine: Any, root: Branch | None) -> Any:
        if root is not None:
            loop = asyncio.get_running_loop()
            hooks.cover(loop)
            self.driving.scheduler.look(loop)
            self.driving.root_task = asyncio.current_task()
        tokens = set_all([(current_branch, root)])
        try:
            return await coroutine
        finally:
            reset_all(tokens)

    @contextmanager
    def _scope(self) -> Iterator[Guard]:
        """The context in which replayed code runs: guarded, outside of any run, with a player waiting."""
        outer = active_guard()
        guarding: AbstractContextManager[Guard] = (
            guarded(steps_go_out=not self.plan.is_strict, others=self._alone)
            if outer is None
            else nullcontext(outer)
        )
        with guarding as guard:
            undo = [instrument()] if self.record.captured else []
            if self.record.sources:
                undo.append(control())
            if self.record.sources or self.record.is_partial:
                undo.append(no_waiting())
            tokens = set_all([(run_opener, self._attachment), (current_branch, None), (current_step, None)])
            try:
                yield guard
            finally:
                reset_all(tokens)
                while undo:
                    undo.pop()()

    def _keep(self, raised: BaseException) -> BaseException | None:
        """What the agent raised is a result; what ends the replay itself is not the agent's."""
        if isinstance(raised, ReplayStop) or self.driving.stopped:
            return None
        if isinstance(raised, ReplayError) and not isinstance(raised, UncontrolledSourceError):
            raise raised
        if isinstance(raised, (KeyboardInterrupt, SystemExit)) and not self._attachment.attached:
            raise raised
        return raised

    def _uncancel(self) -> None:
        """This task was cancelled for the replay's sake, where nothing else would have ended the code."""
        task = asyncio.current_task()
        if task is not None and task is self.driving.root_task:
            for _ in range(min(self.driving.root_cancelled, task.cancelling())):
                task.uncancel()

    # --- what came of it --------------------------------------------------------------------

    def _result(self, guard: Guard, value: Any, error: BaseException | None) -> ReplayResult:
        if self.driving.failure is not None:
            raise self.driving.failure
        if not (self._attachment.attached or self.driving.begun or self.driving.stopped):
            if error is not None:
                raise error
            if not self.driving.implied:
                raise ReplayError(
                    "the function opened no run, so there was nothing to replay",
                    run_id=self.driving.info.run_id,
                    hint="it must call an @agent function, or stand for the body of a `with isotrace.run():`",
                )
        ended = Ended(self._source, guard, value, error)
        driving = self.driving
        return rerun_result(driving, ended) if isinstance(driving, Rerun) else strict_result(driving, ended)
