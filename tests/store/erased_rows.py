"""Keeps 240 runs in a store and erases a third of them: what of the erased values is left in its files?"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

from isotrace.clock import ManualClock
from isotrace.stores.sqlite import SqliteStore
from isotrace.testing.contract_keeping import T
from isotrace.testing.runs import make_run, tool

WINDOW = 12


def main(path: Path, seed: int) -> None:
    rng = random.Random(seed)
    alive: dict[str, str] = {}
    gone: list[str] = []
    with SqliteStore(path, compression=0, clock=ManualClock()) as store:
        for number in range(240):
            secret = rng.randbytes(rng.randint(8, 30)).hex()
            metadata = {rng.choice("abcdef") * rng.randint(1, 9): secret}
            run = make_run(
                f"{rng.randbytes(3).hex()}-{number}", metadata=metadata, steps=[tool("t", metadata)]
            )
            store.put(run)
            alive[run.run_id] = secret
            if number % 3 == 2:
                run_id = rng.choice(sorted(alive))
                store.erase(run_id, [(0, "metadata"), (1, "params")], tenant_id=T, reason="test")
                gone.append(alive.pop(run_id))
        disk = b"".join(found.read_bytes() for found in sorted(path.parent.glob(f"{path.name}*")))
    windows = {disk[start : start + WINDOW] for start in range(len(disk))}
    left = [
        secret
        for secret in gone
        if any(
            secret[start : start + WINDOW].encode() in windows for start in range(len(secret) - WINDOW + 1)
        )
    ]
    found = all(secret.encode() in disk for secret in alive.values())  # or the search would find nothing
    print(json.dumps({"erased": len(gone), "left": left, "alive": found}))


main(Path(sys.argv[1]), int(sys.argv[2]))
