"""Many runs: groups of one path, and what can be said of them. Standard library only; no store."""

from __future__ import annotations

from isotrace.population.behaviour import EXAMPLES, Behaviour, SeenStep, Tally, passed, tally_of

__all__ = ["EXAMPLES", "Behaviour", "SeenStep", "Tally", "passed", "tally_of"]
