"""Which recorded step a live call is: by its lineage, then kind, skill and params. Nothing is guessed."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any, NoReturn

import orjson

from isotrace.compare import findings
from isotrace.compare.divergence import Code, Divergence, Severity
from isotrace.compare.pseudonyms import pattern_of, without
from isotrace.errors import RecordGapError
from isotrace.events import lineage_text
from isotrace.hashing import params_digest
from isotrace.jsondiff import diff_values
from isotrace.minted import MintedIds
from isotrace.models import Erased, Lineage
from isotrace.record.context import Branch, in_thread
from isotrace.record.snapshot import snapshot_params
from isotrace.record.spec import SkillSpec
from isotrace.replay.recorded import RecordedRun, RecordedStep
from isotrace.replay.stop import Stop

_OBJECT_TAG = b'"$iso:object"'


class LiveStep:
    """The step at which the code parted from the record, as the code asked for it."""

    def __init__(self, spec: SkillSpec, params: Any) -> None:
        self.skill_name = spec.name
        self.kind = spec.kind
        self.params = params


class Matcher:
    """Finds the recorded step of each live call; stops the replay where there is none.

    `matched` are the steps found so far, `uncertain` what their equality can't vouch for.

    A call that is exactly a later step of its branch came too early, or those before that are left out: only
    the code can tell, by what it asks for next. With `looks_ahead` it is served that step, and those behind
    it, as long as it asks for just these; `passed_over` are the steps before, of which the first is the
    divergence. Where the calls behind it turn out to be those of their own places, nothing was left out:
    that one call was another.
    """

    def __init__(
        self, record: RecordedRun, minted: MintedIds, stop: Stop, *, looks_ahead: bool = False
    ) -> None:
        self.matched: list[RecordedStep] = []
        self.stopped_at: LiveStep | None = None
        self.uncertain: list[str] = []
        self.passed_over: list[RecordedStep] = []
        self._looks_ahead = looks_ahead
        self._twin: RecordedStep | None = None
        self._last: RecordedStep | None = None
        self._instead: Divergence | None = None
        self._in_place = True
        self._record = record
        self._minted = minted
        self._stop = stop
        self._starts = iter([one for one in record.starts if not in_thread(one)])
        self._drift: tuple[str, str] | None = None
        self._lock = threading.Lock()

    @property
    def exhausted(self) -> bool:
        """Whether every recorded step was asked for."""
        return len(self.matched) == len(self._record.steps)

    def match(
        self, spec: SkillSpec, branch: Branch, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> RecordedStep:
        """The recorded step that this call is."""
        lineage = (*branch.path, branch.next_step())
        data = self.asked(spec, args, kwargs)
        if self._last is not None and lineage[:-1] == self._last.lineage[:-1]:
            step = self._behind(spec, self._last, lineage, data)
        elif self._record.is_partial:
            with self._lock:
                step = self.find(spec, self._in_order(spec, branch, data), data)
        else:
            step = self.find(spec, lineage, data)
        branch.last_us = step.started.time_us
        return step

    def asked(self, spec: SkillSpec, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """The params of a call, as they would be on record."""
        return self._record.as_recorded(snapshot_params(spec.params(args, kwargs)).data, "params", spec.name)

    def _in_order(self, spec: SkillSpec, branch: Branch, data: bytes) -> Lineage:
        """The lineage of the next step on a record without branches. Of those that run beside others,
        one may ask first for what came back later."""
        done = {step.lineage for step in self.matched}
        left = [step for step in self._record.ordered if step.lineage not in done]
        if not left:
            return (len(self._record.ordered),)
        if branch.path:
            params = self._minted.replace(orjson.loads(data))[0]
            for step in left:
                if (step.kind, step.skill_name) == (spec.kind, spec.name) and step.asks(params):
                    return step.lineage
        return left[0].lineage

    def find(self, spec: SkillSpec, lineage: Lineage, data: bytes) -> RecordedStep:
        """The recorded step of this lineage; `data` are the params of the call that it has to be, as they
        would be on record."""
        step = self._record.steps.get(lineage)
        if step is None:
            self._extra(spec, lineage, data)
        if step.kind != spec.kind or step.skill_name != spec.name:
            return self._other_skill(spec, step, data)
        self._note_start(lineage)
        try:
            equal, live = step.params_equal(data, self._minted)
        except RecordGapError as gap:
            self._stop(findings.of_error(gap, lineage=lineage))
        if not (
            equal
            or self._record.held.asks_the_same(spec.name, spec.kind, step.params, live)
            or self._equal_without_keys(spec, step, data)
        ):
            return self._other_params(spec, step, live)
        if _OBJECT_TAG in data:
            self.uncertain.append(
                f"{spec.name} (step {step.index}) was given an object that can't be compared"
            )
        self.matched.append(step)
        return step

    def _equal_without_keys(self, spec: SkillSpec, step: RecordedStep, data: bytes) -> bool:
        """Whether only pseudonyms differ, which can't be made again: that is no divergence, and no match."""
        redaction = self._record.redaction
        if redaction is None or self._record.keyless is None:
            return False
        live = orjson.loads(data)
        if self._minted:
            live, _ = self._minted.replace(live)
        pattern = pattern_of(redaction.names)
        if params_digest(without(step.params, pattern)) != params_digest(without(live, pattern)):
            return False
        self.uncertain.append(f"{spec.name} (step {step.index}): {self._record.keyless}")
        return True

    def not_on_record(self, spec: SkillSpec, lineage: Lineage, data: bytes, index: int) -> NoReturn:
        """A request, about to be step `index`, that no recorded step has made, or none that is left."""
        params = self._asked(spec, data)
        nearest = self._nearest(spec, params)
        self._stop(findings.extra_step(index, lineage, spec.name, params, nearest=nearest))

    def _note_start(self, lineage: Lineage) -> None:
        """Starts in another order than recorded are no divergence by themselves, but explain one. Not those
        in threads that isotrace does not order: they come otherwise each time, and explain nothing."""
        if in_thread(lineage):
            return
        expected = next(self._starts, None)
        if self._drift is None and expected != lineage and not self._record.is_partial:
            was = lineage_text(expected) if expected is not None else "nothing"
            self._drift = (f"step {was} started", f"step {lineage_text(lineage)} starts")

    def _asked(self, spec: SkillSpec, data: bytes) -> Any:
        params = orjson.loads(data)
        if self._minted:
            params, _ = self._minted.replace(params)
        self.stopped_at = LiveStep(spec, params)
        return params

    def _extra(self, spec: SkillSpec, lineage: Lineage, data: bytes) -> NoReturn:
        params = self._asked(spec, data)
        total = len(self._record.steps)
        if self.exhausted and self._record.finished is None:
            message = f"the record was cut off after {total} steps; the code goes on with {spec.name}"
            self._stop(findings.record_gap(total, lineage, message))
        if self.exhausted:
            self._stop(findings.late_end(total, lineage, (total, total + 1), [spec.name]))
        index = self._record.index_of(lineage)
        nearest = self._nearest(spec, params)
        here = self._next_of(lineage[:-1])
        if here is None or (here.kind, here.skill_name) != (spec.kind, spec.name):
            self._stop(findings.extra_step(index, lineage, spec.name, params, nearest=nearest))
        # The same step of the same branch: the code opens more branches before it, or fewer.
        if not here.asks(params):
            self._stop(findings.params_changed(here.index, here.lineage, here.params, params))
        was, now = lineage_text(here.lineage), lineage_text(lineage)
        moved = (
            f"{spec.name} comes as {now}, on record it is {was}: other tasks or branches are opened before it"
        )
        extra = findings.extra_step(here.index, lineage, spec.name, params, nearest=nearest)
        self._stop(replace(extra, message=moved))

    def _next_of(self, path: Lineage) -> RecordedStep | None:
        """The first step that is left of the record, if it is one of this branch itself."""
        done = {step.lineage for step in self.matched}
        left = next((step for step in self._record.ordered if step.lineage not in done), None)
        return left if left is not None and left.lineage[:-1] == path else None

    def _other_skill(self, spec: SkillSpec, step: RecordedStep, data: bytes) -> RecordedStep:
        params = self._asked(spec, data)
        twin = self._same_elsewhere(spec, params, step)
        where, lineage = step.index, step.lineage
        if step.kind != spec.kind:
            changed = findings.kind_changed(where, lineage, step.kind, spec.kind)
        else:
            nearest = self._nearest(spec, params)
            changed = findings.skill_changed(where, lineage, step.skill_name, spec.name, nearest=nearest)
        if twin is None:
            self._stop(changed)
        if self._pass_over(step, twin, changed):
            return twin
        return self._stop(changed if step.kind != spec.kind else _reordered(step, twin))

    def _other_params(self, spec: SkillSpec, step: RecordedStep, live: Any) -> RecordedStep:
        self.stopped_at = LiveStep(spec, live)
        if self._drift is not None:
            # Between two records this is a warning; here the code can't go on.
            changed = findings.schedule_changed(step.index, step.lineage, *self._drift)
            self._stop(replace(changed, severity=Severity.ERROR))
        changed = findings.params_changed(step.index, step.lineage, step.params, live)
        twin = self._same_elsewhere(spec, live, step) if self._looks_ahead else None
        if twin is not None and self._pass_over(step, twin, changed):
            return twin
        return self._stop(changed)

    # --- a step too early -----------------------------------------------------------------

    def _pass_over(self, here: RecordedStep, twin: RecordedStep, changed: Divergence) -> bool:
        """Takes a call at the place of `here` for the later step that it is, if all between them are
        steps of the same branch; whether it did. `changed`: what it is if it stands at its own place."""
        between = self._record.ordered[here.index : twin.index]
        if not self._looks_ahead or any(step.lineage[:-1] != here.lineage[:-1] for step in between):
            return False
        self._twin = self._last = twin
        self._instead = changed
        self.passed_over, self.stopped_at = between, None
        self.matched.append(twin)
        return True

    def _behind(self, spec: SkillSpec, last: RecordedStep, lineage: Lineage, data: bytes) -> RecordedStep:
        """What the code asks for behind a step that came too early: what followed that on record, or the
        end of the replay."""
        params = self._asked(spec, data)

        def is_asked(step: RecordedStep) -> bool:
            return (step.kind, step.skill_name) == (spec.kind, spec.name) and step.asks(params)

        if any(map(is_asked, self.passed_over)):
            assert self._twin is not None
            self._stop(_reordered(self.passed_over[0], self._twin))
        place = self._record.steps.get(lineage)
        self._in_place = self._in_place and place is not None and is_asked(place)
        following = self._record.ordered[last.index + 1 : last.index + 2]
        if not following or following[0].lineage[:-1] != last.lineage[:-1] or not is_asked(following[0]):
            self._stop(self._left_out() if self._instead is None or not self._in_place else self._instead)
        self._last, self.stopped_at = following[0], None
        self.matched.append(following[0])
        return following[0]

    def _left_out(self) -> Divergence:
        first = self.passed_over[0]
        params = first.started.value("params", {})
        given = params.to_dict() if isinstance(params, Erased) else params
        return findings.missing_step(first.index, first.lineage, first.skill_name, given)

    def standing(self, divergence: Divergence) -> Divergence:
        """The first divergence, where this one follows from it."""
        itself = divergence.code is Code.REORDERED or divergence is self._instead
        follows = self._twin is not None and not itself
        return self._left_out() if follows else divergence

    # --- what comes closest ---------------------------------------------------------------

    def _left(self, skill_name: str) -> list[RecordedStep]:
        """Steps of this skill that were not asked for yet and whose params are known."""
        done = {step.lineage for step in self.matched}
        return [
            step
            for step in self._record.ordered
            if step.lineage not in done and step.skill_name == skill_name and not step.params_erased
        ]

    def _same_elsewhere(self, spec: SkillSpec, params: Any, here: RecordedStep) -> RecordedStep | None:
        """The recorded step of this branch, still to come, that this call would be."""
        for step in self._left(spec.name):
            same_branch = step is not here and step.lineage[:-1] == here.lineage[:-1]
            if same_branch and step.kind == spec.kind and not diff_values(step.params, params):
                return step
        return None

    def _nearest(self, spec: SkillSpec, params: Any) -> dict[str, Any] | None:
        """What of the record comes closest: the same skill, with the fewest differences."""
        close = [(diff_values(step.params, params), step) for step in self._left(spec.name)]
        if not close:
            return None
        changes, nearest = min(close, key=lambda pair: (len(pair[0]), pair[1].index))
        return {**_brief(nearest), "pointers": [change.pointer for change in changes]}


def _reordered(step: RecordedStep, twin: RecordedStep) -> Divergence:
    message = f"{twin.skill_name} comes here; on record it is step {twin.index}, here is {step.skill_name}"
    return Divergence(
        Code.REORDERED,
        step.index,
        step.lineage,
        expected=step.skill_name,
        actual=twin.skill_name,
        nearest={**_brief(twin), "pointers": []},
        original_index=twin.index,
        replay_index=step.index,
        message=message,
    )


def _brief(step: RecordedStep) -> dict[str, Any]:
    value = step.started.value("params", {})
    return {
        "step_index": step.index,
        "skill_name": step.skill_name,
        "lineage": list(step.lineage),
        "params": value.to_dict() if isinstance(value, Erased) else value,
    }
