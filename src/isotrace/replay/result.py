"""What a replay comes to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from isotrace.compare.cause import Cause
from isotrace.compare.divergence import Divergence, Verdict, first_divergence
from isotrace.ledger import Ledger
from isotrace.models import ParityResult, TraceRecord


@dataclass(slots=True)
class Receipt:
    """What a replay did: steps served from the record, really executed, missed (on record, never asked
    for), attempts to reach outside that were blocked, and the guard that held."""

    served: int
    executed: int
    missed: int
    blocked: int
    guard: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "served": self.served,
            "executed": self.executed,
            "missed": self.missed,
            "blocked": self.blocked,
            "guard": self.guard,
        }


@dataclass(frozen=True, slots=True)
class Reached:
    """How far a strict replay came: the indexes of the recorded steps that its code asked for, in order, and
    the step at which it parted, as the code asked for it."""

    matched: list[int]
    skill_name: str | None = None
    kind: str | None = None
    params: Any = None


@dataclass(slots=True)
class ReplayResult:
    """The verdict on one replay.

    `parity` compares signatures, as `compare_traces` does. `divergences` are in order; the first that is
    an error decided the verdict. `notes` say what the verdict can't vouch for. `value` is what the
    function returned, `error` what it raised by itself; both None after a divergence. `cause` says why the
    run parted from the record, where it did and that can be told. Where steps were executed, `new_run`
    is the run that came about, `new_ledger` its events, and `kept` says whether it is in the store.
    `stopped`: the code did not come to its end, the replay ended it. `crash` says what ended the code of a
    strict replay early: an exception that the record has not, raised by the code itself after it had asked
    for recorded steps alone.
    `reached`: how far a strict replay came, and any that was stopped.
    """

    run_id: str
    mode: str
    verdict: Verdict
    parity: ParityResult
    divergences: list[Divergence]
    receipt: Receipt
    notes: list[str] = field(default_factory=list)
    cause: Cause | None = None
    new_run: TraceRecord | None = None
    new_ledger: Ledger | None = None
    kept: bool = False
    stopped: bool = False
    crash: str | None = None
    reached: Reached | None = None
    value: Any = None
    error: BaseException | None = None

    @property
    def first(self) -> Divergence | None:
        """The divergence that decided the verdict; without such a one the first warning, if any."""
        return first_divergence(self.divergences)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, without the function's value."""
        return {
            "run_id": self.run_id,
            "mode": self.mode,
            "verdict": self.verdict.value,
            "parity": self.parity.to_dict(),
            "divergences": [divergence.to_dict() for divergence in self.divergences],
            "cause": None if self.cause is None else self.cause.to_dict(),
            "receipt": self.receipt.to_dict(),
            "notes": list(self.notes),
            "stopped": self.stopped,
            "crash": self.crash,
            "kept_run_id": self.new_run.run_id if self.new_run is not None and self.kept else None,
        }
