"""A run as a comparison at some level and under some rules sees it: a sequence of keys.

Two runs have equal keys if, and only if, `compare.diff_traces` says parity of them. That is `MATCH`, unless
both leave something open in the same way: a step that never ended, an object that is known by its type.

What it calls equal is no equivalence in two places, and equal here only where both sides say the same: at
level `exact`, an input that just one of the two runs recorded, and an answer that came as a stream in one
of them only, or was cut off in one of them. Tolerances are refused:
1.0 and 1.1 may be equal, and 1.1 and 1.2, but not 1.0 and 1.2.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from isotrace import hashing
from isotrace.compare.fitting import fitted
from isotrace.compare.rules import Lens, Level, Rules
from isotrace.compare.steps import attempts_of
from isotrace.compare.streams import content_of, ending_of
from isotrace.compare.views import kind_of, view_of
from isotrace.compare.whole import check_record, inputs_of, plain_values, results_of
from isotrace.errors import LimitError, UsageError
from isotrace.minted import strip_volatile
from isotrace.models import Erased, TraceRecord, TraceStep
from isotrace.models.steps import stream_chunks
from isotrace.population.behaviour import SeenStep

RESULT: Final = "result"
"""The kind and skill of what stands for the run's own result, behind its last step."""

NOTHING: Final = "without a compared step"
ERASED: Final = "with erased steps"
NO_RESULT: Final = "without a recorded result"
BROKEN: Final = "that contradict themselves"


def check_rules(rules: Rules) -> None:
    """Raises `UsageError` for rules that many runs can't be grouped by."""
    if rules.tolerance:
        raise UsageError(
            "runs can't be grouped with a tolerance: a may be near b and b near c, but not a near c",
            hint="leave the numbers out with an ignore rule, or compare two runs with `isotrace diff`",
        )


def seen(
    record: TraceRecord,
    *,
    level: Level = Level.DECISIONS,
    rules: Rules | None = None,
    kinds: Collection[str] = (),
) -> tuple[SeenStep, ...] | str:
    """What the comparison sees of the run, or why it sees nothing: one of this module's reasons.

    At level `exact` the run's result and input follow its steps, at level `outcome` its result is all.
    Raises `CanonicalizationError` if params are not plain values.
    """
    if check_record(record, "run") is not None:
        return BROKEN
    try:
        return _seen(record, level, rules or Rules(), kinds)
    except (LimitError, RecursionError):
        return _seen(fitted(record), level, rules or Rules(), kinds)


def signature_of(steps: Collection[SeenStep]) -> str:
    """The end of the path over the keys, in hex: the run's own signature where they are its hashes."""
    path = hashing.path_start()
    for step in steps:
        path = hashing.path_next(path, step.key)
    return path.hex()


def key_of_step(level: Level, skill: str, status: str, determinism_hash: bytes | None) -> bytes | None:
    """The key of a step without rules, from what a store's row says of it; None where it is erased."""
    return _digest([status, skill]) if level is Level.SKELETON else determinism_hash


def _seen(
    record: TraceRecord, level: Level, rules: Rules, kinds: Collection[str]
) -> tuple[SeenStep, ...] | str:
    if level is Level.OUTCOME:
        return _result_of(record, rules)
    view = view_of(record, level, rules, kinds or None, {})
    if not view.steps:
        return NOTHING
    found = []
    for step, place in zip(view.steps, view.places, strict=True):
        key: bytes | None = None
        if level is Level.SKELETON:
            key = key_of_step(level, step.skill_name, step.status.value, None)
        elif isinstance(place.digest, str):
            key = bytes.fromhex(place.digest)
        if key is not None and level is Level.EXACT:
            key = _exact(key, step, rules.lens(step.skill_name))
        if key is None:
            return ERASED
        found.append(SeenStep(key, step.skill_name, kind_of(step), step.status.value))
    if level is not Level.EXACT:
        return tuple(found)
    result = _result_of(record, rules, inputs_of(record))
    return result if isinstance(result, str) else (*found, *result)


def _exact(digest: bytes, step: TraceStep, lens: Lens | None) -> bytes | None:
    """The key of a step whose outcome counts too; None where it is erased."""
    if isinstance(step.outcome_data, Erased) or any(
        isinstance(chunk, Erased) for chunk in stream_chunks(step) or ()
    ):
        return None
    content = content_of(step)
    return _digest(
        [
            digest.hex(),
            None if content is None else [_under(strip_volatile(content), lens)],
            ending_of(step),
            attempts_of(step),
        ]
    )


def _result_of(
    record: TraceRecord, rules: Rules, inputs: dict[str, Any] | None = None
) -> tuple[SeenStep, ...] | str:
    values = results_of(record)
    both = [*values.values(), *(inputs or {}).values()]
    if any(isinstance(value, Erased) for value in both):
        return ERASED
    if inputs is None and values.keys() == {"status"}:
        return NO_RESULT
    seen_values = [_under(plain_values(one), rules.lens(None)) for one in (values, inputs or {})]
    return (SeenStep(_digest(seen_values), RESULT, RESULT, record.status),)


def _under(value: Any, lens: Lens | None) -> Any:
    return value if lens is None else lens.key(hashing.normalize(value))


def _digest(value: Any) -> bytes:
    return bytes.fromhex(hashing.params_digest(value))
