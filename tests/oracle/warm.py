"""Replays a recorded program many times, in processes that have its libraries already:

    python warm.py STORE LIBRARY...

Reads the id of a run from each line of stdin, replays it in a fork of this process that is cut off from the
network as that of `isotrace replay` is, and writes the result as one line of JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from isotrace.operations import open_store
from isotrace.operations.programs import replay_again
from isotrace.record import flush
from isotrace.record.sources.seeds import adopt_hash_seed
from isotrace.replay import guard_process


def replayed(url: str, run_id: str) -> dict[str, Any]:
    """What a replay says of the run, in this process."""
    store = open_store(url)
    try:
        guard_process()
        result = replay_again(store, run_id, tenant_id="default")
        flush()
    finally:
        store.close()
    return result.to_dict()


def in_a_fork(url: str, run_id: str) -> bytes:
    """The same of a process that ends with it; an error as `{"error": …}`."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        with Path(os.devnull).open("r+b", buffering=0) as nowhere:
            os.dup2(nowhere.fileno(), 0)
            os.dup2(nowhere.fileno(), 1)
        try:
            answer = replayed(url, run_id)
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


def main(url: str, libraries: list[str]) -> None:
    adopt_hash_seed()
    for library in libraries:
        importlib.import_module(library)
    for line in sys.stdin:
        sys.stdout.write(in_a_fork(url, line.strip()).decode() + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
