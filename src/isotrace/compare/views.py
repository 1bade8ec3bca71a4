"""A run as one comparison sees it: which of its steps, and when two of them count as equal."""

from __future__ import annotations

from collections.abc import Collection, Hashable
from dataclasses import dataclass

from isotrace import hashing
from isotrace.compare.alignment import Place
from isotrace.compare.findings import lineage_of
from isotrace.compare.rules import Level, Rules
from isotrace.models import Erased, TraceRecord, TraceStep


@dataclass(frozen=True, eq=False, slots=True)
class _Absent:
    """Stands for the digest of a step whose params are absent. It is equal to nothing but itself."""

    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(slots=True)
class View:
    """The compared steps of one run.

    `hashes` are those of `steps`, None where params are absent; `places` carry what counts as
    equal at the level and under the rules. `signature` is the whole run's, empty where it has none.
    """

    record: TraceRecord
    steps: list[TraceStep]
    hashes: list[str | None]
    places: list[Place]
    signature: str


def kind_of(step: TraceStep) -> str:
    """llm, tool, …; a step that does not say is a tool call."""
    return step.context.kind if step.context else "tool"


def view_of(
    record: TraceRecord,
    level: Level,
    rules: Rules,
    kinds: Collection[str] | None,
    known_digests: dict[str, str],
) -> View:
    """Hashes each step once. `known_digests`, from hashes to digests under the rules, is read and added to.

    Raises `CanonicalizationError` if params are not plain values.
    """
    hashes = [None if isinstance(step.params, Erased) else step.determinism_hash() for step in record.steps]
    known = [one for one in hashes if one is not None]
    chosen = [
        (step, digest)
        for step, digest in zip(record.steps, hashes, strict=True)
        if kinds is None or kind_of(step) in kinds
    ]
    return View(
        record=record,
        steps=[step for step, _ in chosen],
        hashes=[digest for _, digest in chosen],
        places=[
            Place(step.skill_name, _digest(step, digest, level, rules, known_digests), lineage_of(step))
            for step, digest in chosen
        ],
        signature=hashing.signature(known) if len(known) == len(hashes) else "",
    )


def _digest(
    step: TraceStep, digest: str | None, level: Level, rules: Rules, known: dict[str, str]
) -> Hashable:
    if level is Level.SKELETON:
        return f"{step.status.value} {step.skill_name}"
    if digest is None:
        return _Absent(f"absent {step.params}")
    lens = rules.lens(step.skill_name)
    if lens is None:
        return digest
    if digest not in known:
        known[digest] = hashing.step_hash(
            skill_name=step.skill_name,
            params_digest=hashing.params_digest(lens.key(hashing.normalize(step.params))),
            status=step.status.value,
            outcome_category=step.outcome_category,
            outcome_code=step.outcome_code,
            retry_count=step.retry_count,
        )
    return known[digest]
