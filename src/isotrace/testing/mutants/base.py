"""What mutants are made from."""

from __future__ import annotations

from typing import ClassVar

from isotrace.ledger import SealedRun
from isotrace.stores.memory import Kept, MemoryStore


class Mutant(MemoryStore):
    """A store that breaks one promise."""

    caught_by: ClassVar[str]

    def _kept_of(self, run: SealedRun) -> Kept | None:
        return self._kept.get((run.tenant_id, run.run_id))
