"""What a replay comes to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from isotrace.compare.divergence import Divergence, Verdict, first_divergence
from isotrace.models import ParityResult


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


@dataclass(slots=True)
class ReplayResult:
    """The verdict on one replay.

    `parity` compares signatures, as `compare_traces` does. `divergences` are in order; the first that is
    an error decided the verdict. `notes` say what the verdict can't vouch for. `value` is what the
    function returned, `error` what it raised by itself; both None after a divergence.
    """

    run_id: str
    mode: str
    verdict: Verdict
    parity: ParityResult
    divergences: list[Divergence]
    receipt: Receipt
    notes: list[str] = field(default_factory=list)
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
            "receipt": self.receipt.to_dict(),
            "notes": list(self.notes),
        }
