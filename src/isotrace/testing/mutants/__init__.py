"""Stores that are wrong in one way each. The store contract must fail them all, or it promises nothing.

Each names, in `caught_by`, the test of the contract that must fail for it. Whoever adds a promise
to the contract adds the store that breaks it here.
"""

from __future__ import annotations

from isotrace.testing.mutants import counting, erasing, finding, keeping
from isotrace.testing.mutants.base import Mutant

__all__ = ["MUTANTS", "Mutant", "counting", "erasing", "finding", "keeping"]


def _mutants(cls: type[Mutant]) -> list[type[Mutant]]:
    found = [cls] if "caught_by" in vars(cls) else []
    return found + [mutant for child in cls.__subclasses__() for mutant in _mutants(child)]


MUTANTS: tuple[type[Mutant], ...] = tuple(_mutants(Mutant))
"""Every store of this package that breaks a promise."""
