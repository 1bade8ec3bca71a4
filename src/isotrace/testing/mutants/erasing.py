"""Stores that erase too little, too much or not for good, or that rebuild something else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from isotrace.contracts import RunItem
from isotrace.errors import RecordGapError
from isotrace.ledger import Ledger, SealedRun
from isotrace.models import Erased
from isotrace.stores.memory import ValueKey
from isotrace.testing.mutants.base import Mutant


class KeepsTheBytes(Mutant):
    """An erased value can still be read by name."""

    caught_by = "test_an_erased_value_leaves_its_commitment_and_the_root_stays_true"

    def __init__(self) -> None:
        super().__init__()
        self._attic: dict[tuple[str, ValueKey], bytes] = {}

    def erase(self, run_id: str, targets: Iterable[ValueKey], *, tenant_id: str, reason: str) -> None:
        wanted = list(targets)
        for key, value in super().values(run_id, wanted, tenant_id=tenant_id).items():
            self._attic[run_id, key] = value
        super().erase(run_id, wanted, tenant_id=tenant_id, reason=reason)

    def values(self, run_id: str, wanted: Sequence[ValueKey], *, tenant_id: str) -> dict[ValueKey, bytes]:
        found = super().values(run_id, wanted, tenant_id=tenant_id)
        return found | {key: self._attic[run_id, key] for key in wanted if (run_id, key) in self._attic}


class _KeepsPart(Mutant):
    """Erases the ledger, and keeps a part of it, or of what was derived from it, as it was before."""

    part: ClassVar[tuple[str, str]]
    """`ledger` or `projection`, and the field of it that is kept."""

    def erase(self, run_id: str, targets: Iterable[ValueKey], *, tenant_id: str, reason: str) -> None:
        of, name = self.part
        before = getattr(getattr(self._find(run_id, tenant_id).run, of), name)
        super().erase(run_id, targets, tenant_id=tenant_id, reason=reason)
        kept = self._find(run_id, tenant_id)
        stale: dict[str, Any] = {of: replace(getattr(kept.run, of), **{name: before})}
        kept.run = replace(kept.run, **stale)


class KeepsTheDigests(_KeepsPart):
    """Hashes that could confirm a guess stay after erasing."""

    caught_by = "test_erasing_params_takes_the_hash_the_path_from_there_on_and_the_signature"
    part = ("projection", "steps")


class KeepsTheSignature(_KeepsPart):
    """The signature, which an erased value's hash went into, stays."""

    caught_by = "test_erasing_params_takes_the_hash_the_path_from_there_on_and_the_signature"
    part = ("projection", "signature")


class KeepsTheSeed(_KeepsPart):
    """The seed, which gives the salt of the erased value, stays."""

    caught_by = "test_the_seed_goes_and_only_the_salts_of_what_is_left_stay"
    part = ("ledger", "seed")


class KeepsTheMetadata(_KeepsPart):
    """Erased metadata is still listed and found."""

    caught_by = "test_erased_metadata_is_no_longer_listed_nor_found"
    part = ("projection", "metadata")


class ErasesToNull(Mutant):
    """An erased value reads back as null."""

    caught_by = "test_an_erased_value_leaves_its_commitment_and_the_root_stays_true"

    def ledger(self, run_id: str, *, tenant_id: str) -> Ledger:
        ledger = super().ledger(run_id, tenant_id=tenant_id)
        for event in ledger.events:
            for name, value in event.values.items():
                if isinstance(value, Erased):
                    event.values[name] = b"null"
        return ledger


class ErasesWhatItFinds(Mutant):
    """Targets that are not there are passed over."""

    caught_by = "test_a_value_that_is_not_there_is_named_and_nothing_is_erased"

    def erase(self, run_id: str, targets: Iterable[ValueKey], *, tenant_id: str, reason: str) -> None:
        for target in targets:
            try:
                super().erase(run_id, [target], tenant_id=tenant_id, reason=reason)
            except RecordGapError:
                continue


class ErasesHalf(Mutant):
    """A target that is not there is found only after others were erased."""

    caught_by = "test_a_value_that_is_not_there_is_named_and_nothing_is_erased"

    def erase(self, run_id: str, targets: Iterable[ValueKey], *, tenant_id: str, reason: str) -> None:
        wanted = list(targets)
        if not wanted:
            super().erase(run_id, wanted, tenant_id=tenant_id, reason=reason)
        for target in wanted:
            super().erase(run_id, [target], tenant_id=tenant_id, reason=reason)


class BringsBackTheErased(Mutant):
    """Putting the run again undoes what was erased."""

    caught_by = "test_putting_an_erased_run_again_does_not_bring_its_values_back"

    def put(self, run: SealedRun) -> bool:
        added = super().put(run)
        self._kept[run.tenant_id, run.run_id].run = replace(run)
        return added


class ForgetsWhy(Mutant):
    """A tombstone does not keep its reason."""

    caught_by = "test_a_tombstone_says_what_was_erased_when_and_why"

    def erase(self, run_id: str, targets: Iterable[ValueKey], *, tenant_id: str, reason: str) -> None:
        super().erase(run_id, targets, tenant_id=tenant_id, reason="")


class RebuildLosesRuns(Mutant):
    """Rebuilding keeps only what was completed."""

    caught_by = "test_rebuilding_gives_the_same_runs_again"

    def rebuild(self) -> int:
        self._kept = {
            key: kept for key, kept in self._kept.items() if kept.run.projection.summary.status == "completed"
        }
        return super().rebuild()


class RebuildDoesNothing(Mutant):
    """Rebuilding counts the runs and leaves them as they are."""

    caught_by = "test_rebuilding_takes_everything_from_the_ledger"

    def rebuild(self) -> int:
        return len(self._kept)


class StaleItems(Mutant):
    """Listings are kept from before a rebuild."""

    caught_by = "test_rebuilding_takes_everything_from_the_ledger"

    def __init__(self) -> None:
        super().__init__()
        self._cache: dict[tuple[str, str], RunItem] = {}

    def get(self, run_id: str, *, tenant_id: str) -> RunItem:
        key = (tenant_id, run_id)
        if key not in self._cache:
            self._cache[key] = super().get(run_id, tenant_id=tenant_id)
        return self._cache[key]

    def put(self, run: SealedRun) -> bool:
        added = super().put(run)
        self.get(run.run_id, tenant_id=run.tenant_id)
        return added
