"""The surroundings in which the process of a replay starts, as far as the recorded ones are known."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from isotrace.contracts import TraceStore
from isotrace.ledger import Ledger
from isotrace.record.sources import files, seeds, variables
from isotrace.record.sources.surroundings import FILES, GAP, VARIABLES


def replay_environment(store: TraceStore, run_id: str, *, tenant_id: str) -> dict[str, str]:
    """The environment for a process that replays a stored run: this process's own, with what was recorded.

    A run that was not sealed on this machine decides nothing but its hash seed.
    """
    ledger = store.ledger(run_id, tenant_id=tenant_id)
    environment = dict(os.environ)
    if store.get(run_id, tenant_id=tenant_id).local:
        environment = variables.restored(_noted(ledger, VARIABLES), environment)
    return environment | _hash_seed(ledger)


def environment_of(ledger: Ledger, *, placeholders: bool) -> dict[str, str]:
    """The same for a run that comes from a file: this process's own environment, with the run's hash seed.
    With `placeholders`, each secret that was set, and is not here, has a value that is none."""
    environment = dict(os.environ)
    if placeholders:
        environment |= variables.placeholders(_noted(ledger, VARIABLES), environment)
    return environment | _hash_seed(ledger)


def changed_files(store: TraceStore, run_id: str, *, tenant_id: str) -> list[str]:
    """A sentence for each file that the run's code had read and that is not what it was. No file is looked
    at because a run says so that was not sealed on this machine."""
    if not store.get(run_id, tenant_id=tenant_id).local:
        return []
    return files.changed(_noted(store.ledger(run_id, tenant_id=tenant_id), FILES))


def _noted(ledger: Ledger, source: str) -> dict[str, Any]:
    """What the program had read of its surroundings, by name."""
    found: dict[str, Any] = {}
    for event in ledger.events:
        if (
            event.type == "value_read"
            and event.facts.get("gap") == GAP
            and event.facts.get("source") == source
        ):
            value = event.value("value")
            found |= value if isinstance(value, dict) else {}
    return found


def _hash_seed(ledger: Ledger) -> dict[str, str]:
    """The one that isotrace chose for the program, else the one that its user did."""
    started = ledger.events[0]
    entry = started.facts.get("entry_point")
    for place in (entry, _inside(entry, "program")):
        chosen = seeds.hash_seed_of(_inside(_inside(place, "seeds"), "hash"))
        if chosen is not None:
            return seeds.chosen_hash_seed(chosen)
    given = seeds.hash_seed_of(_inside(started.value("environment"), "hash_seed"))
    return {} if given is None else {seeds.HASH_SEED: str(given)}


def _inside(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else None
