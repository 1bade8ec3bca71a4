"""What people write to say which runs they mean: `agent=support status=failed task=13 since=2d`.

A term is KEY=VALUE. A key is a field of the listing or, where there is no such field, a metadata key.
The same key again means: or that one. All keys together must fit.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from isotrace.clock import SYSTEM
from isotrace.contracts import RunQuery, Scalar
from isotrace.errors import UsageError
from isotrace.events import datetime_of
from isotrace.operations.runs import Selection, moment

STATUSES = ("running", "completed", "failed", "aborted")

SEVERAL = {
    "agent": "agent_id",
    "status": "status",
    "skill": "skill",
    "correlation": "correlation_id",
    "signature": "signature",
    "root": "root_hash",
    "policy": "violation",
}
"""Terms of which any may fit, and the field of a `RunQuery` that each stands for."""

ONCE = {
    "since": "since",
    "until": "until",
    "min-cost": "min_cost_cents",
    "max-cost": "max_cost_cents",
    "violations": "violation",
    "limit": "limit",
}
"""Terms that can be given once."""

_EXPECTED = (
    f"KEY=VALUE, where KEY is one of {', '.join([*SEVERAL, *ONCE])} or a metadata key such as task or model"
)
_YES_NO = {"yes": True, "true": True, "no": False, "false": False}


def select(
    terms: str | Iterable[str],
    *,
    tenant_id: str = "default",
    metadata: Mapping[str, Sequence[Scalar]] | None = None,
    limit: int | None = None,
    now: datetime | None = None,
) -> Selection:
    """The runs that terms mean: a list of them, or one text, in which quotes hold spaces together.

    No term means all runs. `metadata` holds keys and values beside the terms, and can name a key that
    is a field's. `limit` holds where no term says another; ages such as `since=2d` count back from
    `now`. Raises `UsageError` for a term that means nothing.
    """
    several: dict[str, list[Any]] = {}
    once: dict[str, Any] = {}
    chosen: dict[str, list[Scalar]] = {key: list(values) for key, values in (metadata or {}).items()}
    for term in split(terms) if isinstance(terms, str) else terms:
        key, value = _parted(term)
        if key in SEVERAL:
            several.setdefault(SEVERAL[key], []).append(_known_status(value) if key == "status" else value)
        elif key in ONCE:
            if ONCE[key] in once:
                raise UsageError(f"{key} can be given once", got=term)
            once[ONCE[key]] = _read(key, value, now or datetime_of(SYSTEM.now_us()))
        else:
            chosen.setdefault(key, []).append(value)
    if "violation" in several and not once.pop("violation", True):
        raise UsageError("a run without violations has violated no policy", got="violations=no policy=…")
    limit = once.pop("limit", limit)
    return Selection(RunQuery(tenant_id=tenant_id, **once), chosen, limit, several)


def split(text: str) -> list[str]:
    """The terms of one text, taken apart as a shell would. Raises `UsageError` for an open quote."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise UsageError(f"{text!r} can't be taken apart: {error}", expected=_EXPECTED) from None


def _parted(term: str) -> tuple[str, str]:
    key, equals, value = term.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"{term!r} is not a term of a query", expected=_EXPECTED)
    return key.strip(), value


def _known_status(value: str) -> str:
    if value not in STATUSES:
        raise UsageError(f"{value!r} is no status of a run", expected=", ".join(STATUSES))
    return value


def _read(key: str, value: str, now: datetime) -> Any:
    if key in ("since", "until"):
        return moment(value, now)
    if key == "violations":
        if value.lower() not in _YES_NO:
            raise UsageError(f"violations={value} is neither yes nor no", expected="yes or no")
        return _YES_NO[value.lower()]
    if key == "limit":
        if not (value.isascii() and value.isdecimal() and int(value[:20]) > 0):
            raise UsageError(f"limit={value} is no number of runs", expected="a whole number from 1 on")
        return int(value[:20])
    try:
        cents = float(value)
    except ValueError:
        cents = math.nan
    if not math.isfinite(cents):
        raise UsageError(f"{key}={value} is no cost", expected="a number of cents")
    return cents
