"""Checks a golden run of a program many times, in processes that have its libraries already:

    python warm.py GOLDEN ENTRY LIBRARY...

For each line of stdin the golden run is replayed in a fork of this process that is cut off from the network,
as `isotrace check` does it in a process of its own; the result is one line of JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from isotrace.ledger import SealedRun, project
from isotrace.operations.entries import Entry
from isotrace.operations.goldens import read_golden
from isotrace.operations.programs import replay_again
from isotrace.record import flush
from isotrace.record.sources.seeds import adopt_hash_seed
from isotrace.replay import guard_process
from isotrace.stores.memory import MemoryStore


def replayed(golden: str, entry: str) -> dict[str, Any]:
    """What a replay says of the golden run, in this process; `entry` is found from here."""
    ledger, store = read_golden(golden), MemoryStore()
    run = SealedRun(ledger, project(ledger))
    store.put(run)
    program = Entry.of(entry, Path.cwd()).program(ledger)
    guard_process()
    result = replay_again(store, run.run_id, tenant_id="default", program=program)
    flush()
    return result.to_dict()


def in_a_fork(golden: str, entry: str) -> bytes:
    """The same of a process that ends with it; an error as `{"error": …}`."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        with Path(os.devnull).open("r+b", buffering=0) as nowhere:
            os.dup2(nowhere.fileno(), 0)
            os.dup2(nowhere.fileno(), 1)
        try:
            answer = replayed(golden, entry)
        except BaseException:  # whatever it is, the one that waits is told
            answer = {"error": traceback.format_exc()}
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(json.dumps(answer).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer_line = pipe.read()
    os.waitpid(child, 0)
    return answer_line


def main(golden: str, entry: str, libraries: list[str]) -> None:
    adopt_hash_seed()
    for library in libraries:
        importlib.import_module(library)
    for _ in sys.stdin:
        sys.stdout.write(in_a_fork(golden, entry).decode() + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
