"""What is left to compare when a replayed run has ended: steps never asked for, and the result."""

from __future__ import annotations

import os
import traceback
from pathlib import Path
from typing import Any

import orjson

from isotrace.compare import findings
from isotrace.compare.divergence import Divergence
from isotrace.hashing import outcome_digest
from isotrace.jsondiff import MISSING, Change
from isotrace.models import Erased
from isotrace.record.context import RunEnding
from isotrace.record.outcomes import classify, error_value
from isotrace.record.snapshot import snapshot
from isotrace.replay.recorded import RecordedRun, RecordedStep


def ending_divergences(
    record: RecordedRun, matched: list[RecordedStep], ending: RunEnding, *, result: bool
) -> list[Divergence]:
    """Divergences that show only at the run's end; empty where it ended as recorded. `result`: whether
    the code could say what the run came to."""
    done = {step.lineage for step in matched}
    left = [step for step in record.ordered if step.lineage not in done]
    if left:
        return [_left_over(record, left, len(done))]
    if record.is_partial:
        return []
    if record.finished is None:
        message = "the record was cut off before the run's end; the code came to its end"
        return [findings.record_gap(None, (), message)]
    return _result(record, ending, result=result)


def _left_over(record: RecordedRun, left: list[RecordedStep], done: int) -> Divergence:
    first = left[0]
    if first.index == len(record.ordered) - len(left):
        names = [step.skill_name for step in left]
        return findings.early_end(first.index, first.lineage, (len(record.ordered), done), names)
    params = first.started.value("params", {})
    return findings.missing_step(first.index, first.lineage, first.skill_name, params)


def _result(record: RecordedRun, ending: RunEnding, *, result: bool) -> list[Divergence]:
    assert record.finished is not None
    end = len(record.ordered)
    recorded_status = record.finished.facts["status"]
    live_status = "failed" if ending.failed else "completed"
    if recorded_status != live_status:
        live = ending.error
        detail = str(_recorded_error(record)) if live is None else record.text_as_recorded(_named(live))
        return [findings.status_changed(end, (), recorded_status, live_status, detail=detail)]
    if ending.error is not None and ending.failed:
        return _errors(record, ending.error, end)
    if not result:
        return []
    expected = record.finished.value("result", MISSING)
    if isinstance(expected, Erased):
        return [findings.record_gap(end, (), "the result of the run was erased", pointers=["/result"])]
    actual = MISSING
    if ending.has_result:
        actual = orjson.loads(record.as_recorded(snapshot(ending.result, around=1).data, "result"))
    return _results(record, expected, actual, end)


def _results(record: RecordedRun, expected: Any, actual: Any, end: int) -> list[Divergence]:
    if MISSING not in (expected, actual) and outcome_digest(expected) == outcome_digest(actual):
        return []
    before, after = ({} if one is MISSING else {"result": one} for one in (expected, actual))
    changes = record.held.result_changes(before, after)
    return [findings.final_result_changed(end, expected, actual, changes=changes)] if changes else []


def _recorded_error(record: RecordedRun) -> Any:
    assert record.finished is not None
    value = record.finished.value("error")
    return value.get("type") if isinstance(value, dict) else None


def _recorded_args(record: RecordedRun) -> list[Any]:
    assert record.finished is not None
    value = record.finished.value("error")
    args = value.get("args") if isinstance(value, dict) else None
    return args if isinstance(args, list) else []


def message_note(record: RecordedRun, error: BaseException | None) -> str | None:
    """A sentence for a run that ended with the recorded error, but with another message."""
    if error is None or record.finished is None or isinstance(error, SystemExit):
        return None
    value = record.finished.value("error")
    before = value.get("message") if isinstance(value, dict) else None
    after = record.text_as_recorded(error_value(error)["message"])
    if before in (None, after) or _recorded_error(record) != type(error).__qualname__:
        return None
    return f"the run ended with the recorded error, and another message: {before[:120]!r} → {after[:120]!r}"


def _named(error: BaseException) -> str:
    return f"{type(error).__qualname__}: {error}"[:200]


def raised_note(error: BaseException | None) -> str | None:
    """What the agent raised and where, None for a program that just left. The place is the innermost
    frame that is not isotrace's."""
    if error is None or (isinstance(error, SystemExit) and not error.code):
        return None
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_own(frame.filename)]
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"the agent raised {_named(error)}{place}"


_HERE = str(Path(__file__).parents[1])


def _is_own(file: str) -> bool:
    """Whether a frame is isotrace's, or the interpreter's own: `<frozen runpy>`."""
    return file.startswith((f"{_HERE}{os.sep}", "<"))


def _errors(record: RecordedRun, error: BaseException, end: int) -> list[Divergence]:
    recorded = _recorded_error(record)
    if isinstance(error, SystemExit) and recorded == "SystemExit":
        before = _recorded_args(record)
        after = record.text_as_recorded(error.code) if isinstance(error.code, str) else error.code
        same = not before or before == [after]
        return [] if same else [findings.error_changed(end, (), [Change("/error/code", before[0], after)])]
    if recorded is None or is_recorded(record, error):
        return []
    return [findings.error_changed(end, (), [Change("/error/type", recorded, type(error).__qualname__)])]


def is_recorded(record: RecordedRun, error: BaseException) -> bool:
    """Whether the record too ended with an error of this class."""
    return record.finished is not None and _recorded_error(record) in {
        type(error).__qualname__,
        classify(error)[1],
    }
