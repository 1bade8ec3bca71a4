"""`isotrace run` in an interpreter whose hash seed is known.

The order of a set of texts depends on the seed of the interpreter's hash, which is chosen when that starts,
at random, and can't be asked for. So this process starts over with a seed that it has chosen: the same
process id, the same terminal, nothing in between. `isotrace.record.sources.seeds` takes the traces away.
"""

from __future__ import annotations

import os
import sys

HASH_SEED = "PYTHONHASHSEED"
CHOSEN = "ISOTRACE_HASH_SEED_BEFORE"
"""Set while a chosen seed is in the environment: what stood there before."""


def restart_with_hash_seed() -> None:
    """Does not return where this interpreter's hash seed is nobody's choice, and a new one can be started."""
    before = os.environ.get(HASH_SEED, "")
    chosen_by_user = before not in ("", "random")
    if CHOSEN in os.environ or chosen_by_user or sys.flags.ignore_environment or not sys.executable:
        return
    seed = int.from_bytes(os.urandom(4), "big") or 1  # 0 turns randomization off
    environment = {**os.environ, HASH_SEED: str(seed), CHOSEN: before}
    try:
        os.execve(sys.executable, sys.orig_argv, environment)  # noqa: S606  # ourselves
    except OSError:
        pass  # then sets come in an order that a replay can't know
