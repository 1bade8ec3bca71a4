"""Replays one run: attaches a player to the run that the code opens, and says what came of it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from isotrace.compare import findings
from isotrace.compare.divergence import Divergence, Severity, Verdict, in_order, verdict_of
from isotrace.errors import ReplayError, UncontrolledSourceError, UsageError
from isotrace.hashing import params_digest, path_next, path_start, step_hash
from isotrace.ledger import Ledger
from isotrace.models import ParityResult, TraceRecord
from isotrace.record.context import Driver, RunInfo, current_branch, current_step, run_opener
from isotrace.replay.guard import Guard, active_guard, guarded
from isotrace.replay.player import Player, ReplayStop
from isotrace.replay.recorded import RecordedRun, RecordedStep, recorded_run
from isotrace.replay.result import Receipt, ReplayResult

MODES = ("strict",)


class _Attachment:
    """Gives the player to the first run that opens; runs after it, or inside it, are refused."""

    def __init__(self, player: Player) -> None:
        self.player = player
        self.attached = False

    def __call__(self, info: RunInfo) -> Driver | None:
        if self.attached:
            raise ReplayError(
                "the code opens a second run, but one recorded run is being replayed",
                run_id=self.player.info.run_id,
                hint="replay each run by itself, or make the inner run an @agent",
            )
        self.attached = True
        self.player.attach(info)
        return self.player


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
        self._attachment = _Attachment(self.player)

    def run(self, function: Callable[[], Any]) -> ReplayResult:
        """Calls `function`, which opens the run; a coroutine function gets an event loop of its own.

        Raises `ReplayError` if it opens no run, or if an event loop is already running here.
        """
        with self._scope() as guard:
            value, error = None, None
            try:
                value = function()
                if inspect.iscoroutine(value):
                    value = asyncio.run(value)
            except BaseException as raised:
                error = self._keep(raised)
        return self._result(guard, value, error)

    async def arun(self, function: Callable[[], Any]) -> ReplayResult:
        """`run` for code that is inside an event loop."""
        with self._scope() as guard:
            value, error = None, None
            try:
                value = function()
                if inspect.isawaitable(value):
                    value = await value
            except BaseException as raised:
                error = self._keep(raised)
        return self._result(guard, value, error)

    def _scope(self) -> _Scope:
        return _Scope(self._attachment)

    def _keep(self, raised: BaseException) -> BaseException | None:
        """What the agent raised is a result; what stops the replay itself is not the agent's."""
        if isinstance(raised, ReplayStop):
            return None
        if isinstance(raised, ReplayError) and not isinstance(raised, UncontrolledSourceError):
            raise raised
        if isinstance(raised, (KeyboardInterrupt, SystemExit)) and not self._attachment.attached:
            raise raised
        if isinstance(raised, BaseExceptionGroup) and raised.subgroup(ReplayStop) is not None:
            return None
        return raised

    def _result(self, guard: Guard, value: Any, error: BaseException | None) -> ReplayResult:
        if not self._attachment.attached:
            if error is not None:
                raise error
            raise ReplayError(
                "the function opened no run, so there was nothing to replay",
                run_id=self.player.info.run_id,
                hint="it must call an @agent function, or stand for the body of a `with isotrace.run():`",
            )
        divergences = self._divergences(guard)
        verdict = verdict_of(divergences)
        notes = list(dict.fromkeys([*self.player.uncertain, *self.player.marks]))
        if verdict is Verdict.MATCH and self.player.uncertain:
            verdict = Verdict.INCONCLUSIVE
        matched = len(self.player.matched)
        if verdict is not Verdict.MATCH:
            value = None
        return ReplayResult(
            run_id=self.record.facts["run_id"],
            mode=self.mode,
            verdict=verdict,
            parity=self._parity(divergences),
            divergences=divergences,
            receipt=Receipt(
                served=matched,
                executed=0,
                missed=len(self.record.steps) - matched,
                blocked=len(guard.blocked),
                guard=guard.kind,
            ),
            notes=notes,
            value=value,
            error=error,
        )

    def _divergences(self, guard: Guard) -> list[Divergence]:
        found = list(self.player.divergences)
        for what in dict.fromkeys(guard.blocked):
            found.append(findings.uncontrolled_source(None, (), f"the code tried to {what}"))
        return in_order(found)

    def _parity(self, divergences: list[Divergence]) -> ParityResult:
        """The signatures of both sides: the replay's is over the steps that its code asked for."""
        original = _signature(self.record.ordered)
        stopped_at, matched = self.player.stopped_at, self.player.matched
        if stopped_at is None and len(matched) == len(self.record.ordered):
            replayed = original
        else:
            replayed = _signature(sorted(matched, key=lambda step: step.index), stopped_at)
        first = next((one for one in divergences if one.severity is Severity.ERROR), None)
        return ParityResult(
            is_parity=original == replayed and first is None,
            original_signature=original,
            replay_signature=replayed,
            divergence_step=first.index if first is not None else None,
            divergence_reason=first.reason if first is not None else None,
        )


class _Scope:
    """The context in which replayed code runs: guarded, outside of any run, with a player waiting."""

    def __init__(self, attachment: _Attachment) -> None:
        self._attachment = attachment
        outer = active_guard()
        self._guarded: Any = guarded() if outer is None else nullcontext(outer)
        self._tokens: list[Any] = []

    def __enter__(self) -> Guard:
        guard: Guard = self._guarded.__enter__()
        self._tokens = [
            (variable, variable.set(value))
            for variable, value in (
                (run_opener, self._attachment),
                (current_branch, None),
                (current_step, None),
            )
        ]
        return guard

    def __exit__(self, *problem: Any) -> None:
        for variable, token in reversed(self._tokens):
            variable.reset(token)
        self._guarded.__exit__(*problem)


def _signature(steps: list[RecordedStep], stopped_at: Any = None) -> str:
    """The path over these steps, and over the one at which the code parted: that one as a success,
    since its outcome is not known."""
    path = path_start()
    for step in steps:
        facts = step.finished.facts if step.finished is not None else _UNFINISHED
        path = path_next(path, _hash(step.skill_name, step.digest, facts))
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
