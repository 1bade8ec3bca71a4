"""Records that hold values beyond the limits of hashing.

Recording cuts such a value down, and keeps of what it cuts the type alone. A record that was built by
hand, or came from another system, may hold one whole. It is then compared as recording would have kept
it: everything else is compared, and what was cut is named as known by type only.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from isotrace.canonical import check
from isotrace.errors import CanonicalizationError, LimitError
from isotrace.jsondiff import MISSING
from isotrace.models import Erased, RunContext, TraceRecord
from isotrace.plain import Conversion

_AROUND = 1
"""Containers that a comparison puts around a value: the input stands under the name `input`."""


def fitted(record: TraceRecord) -> TraceRecord:
    """The record with every value cut down to the limits, at the part that is to blame; the record
    itself stays as it is."""
    steps = [
        replace(step, params=_fit(step.params), outcome_data=_fit(step.outcome_data)) for step in record.steps
    ]
    return replace(record, steps=steps, plan=_fit(record.plan), context=_context(record.context))


def _context(context: RunContext | None) -> RunContext | None:
    if context is None:
        return None
    return replace(
        context,
        input=_fit(context.input),
        environment=_fit(context.environment),
        result=_fit(context.result),
        error=_fit(context.error),
    )


def _fit(value: Any) -> Any:
    if value is None or value is MISSING or isinstance(value, Erased):
        return value
    try:
        check([value])
    except LimitError:
        return Conversion(_AROUND).run(value)
    except CanonicalizationError:
        # Chunks that were erased one by one; or it is no plain value, which hashing it will say.
        pass
    return value
