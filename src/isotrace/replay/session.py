"""Replays one run: attaches a player to the run that the code opens, and says what came of it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from isotrace.compare import findings
from isotrace.compare.divergence import Divergence, Verdict, first_divergence, in_order, verdict_of
from isotrace.errors import RecordGapError, ReplayError, UncontrolledSourceError, UsageError
from isotrace.hashing import params_digest, path_next, path_start, step_hash
from isotrace.ledger import Ledger
from isotrace.models import ParityResult, TraceRecord
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
from isotrace.replay.ending import raised_note
from isotrace.replay.guard import Guard, active_guard, guarded
from isotrace.replay.player import Player
from isotrace.replay.recorded import RecordedRun, RecordedStep, recorded_run
from isotrace.replay.result import Receipt, ReplayResult
from isotrace.replay.sleeping import no_waiting
from isotrace.replay.stop import ReplayStop

MODES = ("strict",)
_SERVED = ("pure", "read")


class Attachment:
    """Gives the player to the first run that opens; runs after it, or inside it, are refused."""

    def __init__(self, player: Player) -> None:
        self.player = player
        self.attached = False

    def __call__(self, info: RunInfo) -> Driver | None:
        if self.attached or self.player.begun:
            self.player.fail(
                ReplayError(
                    "the code opens a second run, but one recorded run is being replayed",
                    run_id=self.player.info.run_id,
                    hint="replay each run by itself, or make the inner run an @agent",
                )
            )
        self.attached = True
        return self.player.attach(info)

    def outside(self, spec: SkillSpec) -> None:
        """A skill is called outside of the run: a plain call, unless it writes."""
        if spec.effect not in _SERVED and spec.kind != "agent":
            index = len(self.player.record.steps)
            self.player.stop(findings.effect_blocked(index, (), spec.name, spec.effect))


class Replay:
    """One replay of one recorded run. `run` for plain functions, `arun` inside an event loop."""

    def __init__(
        self, source: Ledger | TraceRecord, *, mode: str = "strict", stall_after_s: float = 2.0
    ) -> None:
        if mode not in MODES:
            raise UsageError("unknown replay mode", expected=", ".join(MODES), got=mode)
        self.mode = mode
        self.record: RecordedRun = recorded_run(source)
        self.player = Player(self.record, stall_after_s=stall_after_s)
        self._attachment = Attachment(self.player)

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

    def _body(self, wanted: bool) -> AbstractContextManager[Any]:
        """The run that a function may be the body of, until it opens one itself."""
        if not wanted:
            return nullcontext()
        return run_of(self.player.imply())

    def _run_coroutine(self, coroutine: Any) -> Any:
        if asyncio._get_running_loop() is not None:
            coroutine.close()
            raise ReplayError(
                "an event loop is running here, so a coroutine can't get one of its own",
                run_id=self.player.info.run_id,
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
            self.player.scheduler.look(loop)
            self.player.root_task = asyncio.current_task()
        tokens = set_all([(current_branch, root)])
        try:
            return await coroutine
        finally:
            reset_all(tokens)

    @contextmanager
    def _scope(self) -> Iterator[Guard]:
        """The context in which replayed code runs: guarded, outside of any run, with a player waiting."""
        outer = active_guard()
        guarding: AbstractContextManager[Guard] = guarded() if outer is None else nullcontext(outer)
        with guarding as guard:
            undo = [instrument()] if self.record.captured else []
            if self.record.sources:
                undo += [control(), no_waiting()]
            tokens = set_all([(run_opener, self._attachment), (current_branch, None), (current_step, None)])
            try:
                yield guard
            finally:
                reset_all(tokens)
                while undo:
                    undo.pop()()

    def _keep(self, raised: BaseException) -> BaseException | None:
        """What the agent raised is a result; what ends the replay itself is not the agent's."""
        if isinstance(raised, ReplayStop) or self.player.stopped:
            return None
        if isinstance(raised, ReplayError) and not isinstance(raised, UncontrolledSourceError):
            raise raised
        if isinstance(raised, (KeyboardInterrupt, SystemExit)) and not self._attachment.attached:
            raise raised
        return raised

    def _uncancel(self) -> None:
        """This task was cancelled for the replay's sake, where nothing else would have ended the code."""
        task = asyncio.current_task()
        if task is not None and task is self.player.root_task:
            for _ in range(min(self.player.root_cancelled, task.cancelling())):
                task.uncancel()

    # --- what came of it --------------------------------------------------------------------

    def _result(self, guard: Guard, value: Any, error: BaseException | None) -> ReplayResult:
        if self.player.failure is not None:
            raise self.player.failure
        if not (self._attachment.attached or self.player.begun or self.player.stopped):
            if error is not None:
                raise error
            if not self.player.implied:
                raise ReplayError(
                    "the function opened no run, so there was nothing to replay",
                    run_id=self.player.info.run_id,
                    hint="it must call an @agent function, or stand for the body of a `with isotrace.run():`",
                )
        matcher = self.player.matcher
        divergences = self._divergences(guard)
        verdict = verdict_of(divergences)
        if verdict is Verdict.MATCH and matcher.uncertain:
            verdict = Verdict.INCONCLUSIVE
        return ReplayResult(
            run_id=self.record.facts["run_id"],
            mode=self.mode,
            verdict=verdict,
            parity=self._parity(divergences),
            divergences=divergences,
            receipt=Receipt(
                served=len(matcher.matched),
                executed=0,
                missed=len(self.record.steps) - len(matcher.matched),
                blocked=len(guard.blocked),
                guard=guard.kind,
            ),
            notes=self._notes(None if verdict is Verdict.MATCH else self.player.raised or error),
            value=value if verdict is Verdict.MATCH else None,
            error=error,
        )

    def _notes(self, error: BaseException | None) -> list[str]:
        """`error`: what the agent raised, where that did not just happen as recorded."""
        raised = raised_note(error)
        grade = self.record.grade
        recorded = [f"recorded: {reason}" for reason in grade] if isinstance(grade, list) else []
        return list(
            dict.fromkeys(
                [*([raised] if raised else ()), *self.player.matcher.uncertain, *self.player.marks, *recorded]
            )
        )

    def _divergences(self, guard: Guard) -> list[Divergence]:
        blocked = [
            findings.uncontrolled_source(None, (), f"the code tried to {what}")
            for what in dict.fromkeys(guard.blocked)
        ]
        return in_order([*self.player.divergences, *blocked])

    def _parity(self, divergences: list[Divergence]) -> ParityResult:
        """The signatures of both sides: the replay's is over the steps that its code asked for."""
        matcher = self.player.matcher
        original = _signature(self.record.ordered)
        if matcher.stopped_at is None and matcher.exhausted:
            replayed = original
        else:
            replayed = _signature(sorted(matcher.matched, key=lambda step: step.index), matcher.stopped_at)
        if original and original == replayed:
            return ParityResult(True, original, replayed, None, None)
        first = first_divergence(divergences)
        step, reason = (None, None) if first is None else (first.index, first.reason)
        return ParityResult(False, original, replayed, step, reason)


def _signature(steps: list[RecordedStep], stopped_at: Any = None) -> str:
    """The path over these steps, and over the one at which the code parted: that one as a success,
    since its outcome is not known. Empty where params were erased, as the path ends there."""
    path = path_start()
    try:
        for step in steps:
            facts = step.finished.facts if step.finished is not None else _UNFINISHED
            path = path_next(path, _hash(step.skill_name, step.digest, facts))
    except RecordGapError:
        return ""
    if stopped_at is not None:
        path = path_next(path, _hash(stopped_at.skill_name, params_digest(stopped_at.params), _SUCCEEDED))
    return path.hex()


_UNFINISHED = {"status": "failure", "outcome_category": "INDETERMINATE", "outcome_code": None}
_SUCCEEDED = {"status": "success", "outcome_category": "SUCCESS", "outcome_code": None}


def _hash(skill_name: str, digest: str, facts: dict[str, Any]) -> bytes:
    return bytes.fromhex(
        step_hash(
            skill_name=skill_name,
            params_digest=digest,
            status=facts["status"],
            outcome_category=facts["outcome_category"],
            outcome_code=facts.get("outcome_code"),
            retry_count=facts.get("retry_count", 0),
        )
    )
