"""What a replay came to: what differs, why, and what it did."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from isotrace.compare import Level, Rules, diff_traces, findings
from isotrace.compare.cause import Cause, cause_of
from isotrace.compare.codes import Code
from isotrace.compare.divergence import Divergence, Verdict, first_divergence, in_order, verdict_of
from isotrace.errors import CanonicalizationError, RecordGapError, ReplayError
from isotrace.hashing import outcome_digest, params_digest, path_next, path_start, step_hash
from isotrace.ledger import Ledger
from isotrace.models import Erased, ParityResult, StepContext, TraceRecord, TraceStatus, TraceStep
from isotrace.replay.driving import Driving
from isotrace.replay.ending import is_recorded, message_note, raised_note
from isotrace.replay.guard import Guard
from isotrace.replay.matching import LiveStep
from isotrace.replay.player import Player
from isotrace.replay.recorded import RecordedStep
from isotrace.replay.rerun import Rerun
from isotrace.replay.result import Reached, Receipt, ReplayResult
from isotrace.replay.stop import ReplayStop

_WITHOUT_CAUSE = {
    Code.SCHEMA_UNSUPPORTED,
    Code.RECORD_CORRUPT,
    Code.RECORD_GAP,
    Code.INDETERMINATE_STEP,
    Code.EFFECT_BLOCKED,
    Code.REPLAY_STALLED,
}
"""These say by themselves why a replay ended."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The replayed code has come to its end: what it returned or raised, and the guard over it."""

    source: Ledger | TraceRecord
    guard: Guard
    value: Any
    error: BaseException | None

    @property
    def original(self) -> TraceRecord:
        """The recorded run."""
        return self.source.record() if isinstance(self.source, Ledger) else self.source

    def blocked(self) -> list[Divergence]:
        """Attempts to reach outside."""
        return [
            findings.uncontrolled_source(None, (), f"the code tried to {what}")
            for what in dict.fromkeys(self.guard.blocked)
        ]


# --- a strict replay ----------------------------------------------------------------------


def strict_result(player: Player, ended: Ended) -> ReplayResult:
    """Of a replay in which everything was served."""
    matcher = player.matcher
    divergences = in_order([*player.divergences, *ended.blocked()])
    verdict = verdict_of(divergences)
    if verdict is Verdict.MATCH and matcher.uncertain:
        verdict = Verdict.INCONCLUSIVE
    return ReplayResult(
        run_id=player.record.facts["run_id"],
        mode="strict",
        verdict=verdict,
        parity=_strict_parity(player, divergences),
        divergences=divergences,
        receipt=Receipt(
            served=len(matcher.matched),
            executed=0,
            missed=len(player.record.steps) - len(matcher.matched),
            blocked=len(ended.guard.blocked),
            guard=ended.guard.kind,
        ),
        notes=_notes(player, None if verdict is Verdict.MATCH else player.raised or ended.error),
        cause=_strict_cause(player, ended.original, divergences) if verdict is Verdict.DIVERGED else None,
        stopped=player.stopped,
        crash=_crash(player, ended, divergences),
        reached=_reached(player),
        value=ended.value if verdict is Verdict.MATCH else None,
        error=ended.error,
    )


def _reached(driving: Driving) -> Reached:
    matched = sorted(step.index for step in driving.matcher.matched)
    live = driving.matcher.stopped_at
    return Reached(matched) if live is None else Reached(matched, live.skill_name, live.kind, live.params)


_CRASHED = {Code.EARLY_END, Code.MISSING_STEP, Code.STATUS_CHANGED, Code.ERROR_CHANGED}
"""What an exception leaves behind that ends the code: steps never asked for, or another ending."""


def _crash(player: Player, ended: Ended, divergences: list[Divergence]) -> str | None:
    """What the code raised, where that is not on record and all that differs follows from it.

    Code that asked for another step than the recorded one was stopped there: that is a divergence,
    whatever it would have raised later. So is an ending without an exception, or with the recorded one.
    """
    error, first = player.raised or ended.error, first_divergence(divergences)
    if player.stopped or error is None or first is None or first.code not in _CRASHED:
        return None
    return None if is_recorded(player.record, error) else raised_note(error)


def _strict_cause(player: Player, original: TraceRecord, divergences: list[Divergence]) -> Cause | None:
    """All that the code observed was as recorded, so what it asked for tells why it parted."""
    first = first_divergence(divergences)
    if first is None or first.code in _WITHOUT_CAUSE:
        return None
    matcher = player.matcher
    steps = [original.steps[step.index] for step in sorted(matcher.matched, key=lambda one: one.index)]
    if matcher.stopped_at is not None:
        live = matcher.stopped_at
        steps.append(asked_step(len(steps), live.skill_name, live.kind, live.params))
    return cause_of(original, replace(original, steps=steps), divergences, Rules())


def asked_step(index: int, skill_name: str, kind: str, params: Any) -> TraceStep:
    """A step as the code asked for it, where it parted: what would have come of it is not known."""
    return TraceStep(
        step_index=index,
        skill_name=skill_name,
        params=params,
        status=TraceStatus.SUCCESS,
        outcome_category="SUCCESS",
        outcome_code=None,
        outcome_data=None,
        cost_cents=0.0,
        duration_ms=0.0,
        retry_count=0,
        timestamp=_NO_TIME,
        context=StepContext(kind=kind),
    )


_NO_TIME = datetime.fromtimestamp(0, UTC)


def _strict_parity(player: Player, divergences: list[Divergence]) -> ParityResult:
    """The signatures of both sides: the replay's is over the steps that its code asked for."""
    matcher = player.matcher
    original = _signature(player.record.ordered)
    if matcher.stopped_at is None and matcher.exhausted:
        replayed = original
    else:
        replayed = _signature(sorted(matcher.matched, key=lambda step: step.index), matcher.stopped_at)
    if original and original == replayed:
        return ParityResult(True, original, replayed, None, None)
    return _no_parity(original, replayed, divergences)


def _no_parity(original: str, replayed: str, divergences: list[Divergence]) -> ParityResult:
    first = first_divergence(divergences)
    step, reason = (None, None) if first is None else (first.index, first.reason)
    return ParityResult(False, original, replayed, step, reason)


def _signature(steps: Iterable[RecordedStep], stopped_at: LiveStep | None = None) -> str:
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


# --- a replay of which a part was executed -----------------------------------------------------


def rerun_result(rerun: Rerun, ended: Ended) -> ReplayResult:
    """Of a replay that made a new run, which is compared with the original as a whole.

    In mode `model-live` the calls of models are not compared: they ask another model, or ask otherwise.
    Raises `ReplayError` where the code took no step at all.
    """
    original, ledger = ended.original, rerun.new_ledger()
    if ledger is None:
        raise ReplayError("the code opened no run of its own and took no step", run_id=original.run_id)
    new = ledger.record()
    if rerun.redaction is not None and rerun.redaction is not rerun.record.redaction:
        from isotrace.replay.redacted import redacted_record  # noqa: PLC0415 - start-up time: RE2 for those who redact

        original = redacted_record(original, rerun.redaction)
    kinds = _compared_kinds(rerun, original, new)
    diff = diff_traces(original, new, level=_level(rerun), rules=_rules(rerun), kinds=kinds)
    if rerun.stopped:
        divergences = in_order([*rerun.divergences, *ended.blocked()])
        verdict, cause = verdict_of(divergences), diff.cause
        parity = _no_parity(diff.parity.original_signature, diff.parity.replay_signature, divergences)
    else:
        divergences = in_order([*diff.divergences, *ended.blocked()])
        verdict, parity, cause = verdict_of(divergences), diff.parity, diff.cause
        if verdict is Verdict.MATCH:
            verdict = diff.verdict
    unmade = _could_not_be_made(original, new)
    if unmade and verdict is Verdict.DIVERGED:
        verdict, cause = Verdict.INCONCLUSIVE, None
    first = first_divergence(divergences)
    asked = {step.context.lineage for step in new.steps if step.context is not None}
    return ReplayResult(
        run_id=original.run_id,
        mode=rerun.plan.mode,
        verdict=verdict,
        parity=parity,
        divergences=divergences,
        receipt=Receipt(
            served=rerun.served_count,
            executed=rerun.executed_count,
            missed=sum(lineage not in asked for lineage in rerun.record.steps),
            blocked=len(ended.guard.blocked),
            guard=ended.guard.kind,
        ),
        notes=[*unmade, *_notes(rerun, rerun.raised or ended.error), *_answered_otherwise(original, new)],
        cause=None if first is None or first.code in _WITHOUT_CAUSE else cause,
        new_run=new,
        new_ledger=ledger,
        reached=_reached(rerun) if rerun.stopped else None,
        kept=rerun.kept,
        stopped=rerun.stopped,
        value=None if rerun.stopped else ended.value,
        error=ended.error,
    )


def _level(rerun: Rerun) -> Level:
    """Where nothing was executed, all that came about is the code's own doing, the result too."""
    level = Level.of(rerun.plan.level) if rerun.plan.extends else Level.DECISIONS
    whole = rerun.plan.extends and not rerun.executed_count and level is Level.DECISIONS
    return Level.EXACT if whole else level


def _rules(rerun: Rerun) -> Rules | None:
    return Rules.parse(**rerun.plan.rules) if rerun.plan.extends else None


def _compared_kinds(rerun: Rerun, original: TraceRecord, new: TraceRecord) -> set[str] | None:
    if rerun.plan.mode != "model-live":
        return None
    kinds = {step.context.kind for run in (original, new) for step in run.steps if step.context is not None}
    return (kinds - {"llm"}) or {"tool"}


def _could_not_be_made(original: TraceRecord, new: TraceRecord) -> list[str]:
    """Sentences for executed steps that nobody answered, as against an answer that says that they failed: a
    server that is down tells nothing about the agent."""
    before = {step.context.lineage: step for step in original.steps if step.context is not None}
    found: list[str] = []
    for step in new.steps:
        context = step.context
        if step.outcome_category != "TRANSIENT" or context is None or context.transport is not None:
            continue
        there = before.get(context.lineage)
        if there is None or there.outcome_code != step.outcome_code:
            what = f"step {step.step_index} ({step.skill_name}) could not be made: {step.outcome_code}"
            found.append(f"{what}. That tells nothing about the agent")
    return found


def _answered_otherwise(original: TraceRecord, new: TraceRecord) -> list[str]:
    """Steps that were asked the same as on record and answered otherwise."""
    before = {step.context.lineage: step for step in original.steps if step.context is not None}
    changed: list[str] = []
    for step in new.steps:
        there = before.get(step.context.lineage) if step.context is not None else None
        if there is not None and there.params == step.params and not _same(there, step):
            changed.append(f"step {step.step_index} ({step.skill_name}) answered otherwise than on record")
    return changed


def _same(before: TraceStep, after: TraceStep) -> bool:
    one: Any = before.outcome_data
    other: Any = after.outcome_data
    if one == other or isinstance(one, Erased):
        return True
    try:
        return one is not None and other is not None and outcome_digest(one) == outcome_digest(other)
    except CanonicalizationError:
        return False


def _notes(driving: Driving, error: BaseException | None) -> list[str]:
    """`error`: what the agent raised, where that did not just happen as recorded."""
    raised = None if isinstance(error, ReplayStop) else raised_note(error)
    other = message_note(driving.record, driving.raised) if error is None else None
    grade = driving.record.grade
    recorded = [f"recorded: {reason}" for reason in grade] if isinstance(grade, list) else []
    first = [one for one in (raised, other) if one]
    said = [*first, *driving.matcher.uncertain, *driving.marks, *recorded]
    return list(dict.fromkeys(said))
