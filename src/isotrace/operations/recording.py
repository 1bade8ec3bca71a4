"""Running the code of a golden run live once more, in a process of its own, and what that recorded."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from isotrace.contracts import RunQuery
from isotrace.errors import ReplayError
from isotrace.ledger import Ledger
from isotrace.models import Erased
from isotrace.operations.entries import Entry, is_whole_program, program_of
from isotrace.operations.opening import open_store
from isotrace.operations.programs import record_program, use_redactors
from isotrace.operations.surroundings import environment_of
from isotrace.record import flush
from isotrace.record.capture import instrument
from isotrace.record.context import Driver, RunInfo, run_opener
from isotrace.record.sources import control
from isotrace.record.sources.seeds import adopt_hash_seed
from isotrace.record.spec import SkillSpec
from isotrace.replay import named_function, recorded_call
from isotrace.replay.recorded import recorded_run

_MOST_RUNS = 10_000


def record_again(
    golden: Ledger, entry: Entry, *, quiet: bool = True, timeout_s: float | None = None
) -> Ledger:
    """The run that comes about when the agent is given what the golden run was. It is really executed. Its
    program prints to stderr, or nowhere if `quiet`. The run is in no store of the user's.

    Raises `ReplayError` where no run of this agent comes about, or it takes longer than `timeout_s`.
    """
    facts = golden.events[0].facts
    with TemporaryDirectory(prefix="isotrace-record-") as folder:
        store_url = str(Path(folder) / "traces.db")
        request = Path(folder) / "request.json"
        request.write_text(json.dumps(_request(golden, entry)))
        environment = environment_of(golden, placeholders=False) | {
            "ISOTRACE_STORE": store_url,
            "ISOTRACE_TENANT": str(facts["tenant_id"]),
        }
        code = _run(request, entry, environment, quiet=quiet, timeout_s=timeout_s)
        try:
            return _found(store_url, golden)
        except LookupError:
            raise ReplayError(
                f"the code made no run of agent {facts.get('agent_id')!r}",
                where=entry.text,
                got=f"exit code {code}",
                hint="run it by hand to see why, or with --verbose",
            ) from None


def _request(golden: Ledger, entry: Entry) -> dict[str, Any]:
    """What the child is told."""
    given = golden.events[0].value("input")
    if isinstance(given, Erased):
        raise ReplayError("the run's input was erased, so the agent can't be called with it")
    run = recorded_run(golden)
    return {
        "function": entry.function,
        "program": entry.program(golden),
        "agent_id": golden.events[0].facts.get("agent_id"),
        "redactors": [name for name, _ in redactors_of(golden)],
        "whole": is_whole_program(golden),
        "input": given,
        "seed": golden.events[0].facts["seed"],
        "captured": run.captured,
        "controlled": bool(run.sources),
    }


def redactors_of(ledger: Ledger) -> list[tuple[str, str]]:
    """The names of the redactors that a run was recorded with, and what each of them was."""
    facts = ledger.events[0].facts.get("redactors")
    used = facts.get("use") if isinstance(facts, dict) else None
    rows = used if isinstance(used, list) else []
    return [(str(one[0]), str(one[1])) for one in rows if isinstance(one, list) and len(one) == 2]


def _run(
    request: Path, entry: Entry, environment: dict[str, str], *, quiet: bool, timeout_s: float | None
) -> int:
    try:
        return subprocess.run(
            [sys.executable, "-m", "isotrace.operations.recording", str(request)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if quiet else 2,
            stderr=subprocess.DEVNULL if quiet else None,
            cwd=entry.folder,
            env=environment,
            timeout=timeout_s,
            check=False,
        ).returncode
    except ValueError as error:  # a NUL in the tenant's name
        raise ReplayError("the run can't be recorded anew", where=entry.text, got=str(error)) from None
    except subprocess.TimeoutExpired:
        raise ReplayError(
            "the run took too long", where=entry.text, expected=f"at most {timeout_s:g} s"
        ) from None


def _found(store_url: str, golden: Ledger) -> Ledger:
    """The run of the golden's agent that the code made: of several the one of the same number."""
    facts = golden.events[0].facts
    program = program_of(golden) or {}
    number = program.get("index", 0)
    store = open_store(store_url, create=True)
    try:
        tenant = str(facts["tenant_id"])
        page = store.query(RunQuery(tenant_id=tenant, agent_id=facts.get("agent_id"), limit=_MOST_RUNS))
        ledgers = [store.ledger(item.summary.run_id, tenant_id=tenant) for item in reversed(page.runs)]
    finally:
        store.close()
    same = [one for one in ledgers if (program_of(one) or {}).get("index", 0) == number]
    for ledger in sorted(same or ledgers, key=lambda one: one.events[0].time_us):
        return ledger
    raise LookupError


# --- in the child ---------------------------------------------------------------------


class _SameSeed:
    """Gives the agent's first run the seed of the golden one: what the code draws from `run.random` is then
    the same. Everything is recorded as it would be."""

    def __init__(self, agent_id: str | None, seed: int) -> None:
        self._agent_id = agent_id
        self._seed: int | None = seed

    def __call__(self, info: RunInfo) -> Driver | None:
        if self._seed is not None and info.agent_id == self._agent_id:
            info.seed, self._seed = self._seed, None
        return None

    def noted(self, source: str, function: Callable[[], Any]) -> Any:
        return function()

    def outside(self, spec: SkillSpec) -> None:
        pass


def _main(path: str) -> None:
    request = json.loads(Path(path).read_text())
    run_opener.set(_SameSeed(request["agent_id"], request["seed"]))
    if request["redactors"]:
        use_redactors(request["redactors"])
    program = request["program"]
    if program is not None:
        program = {name: program[name] for name in program if name != "agent"}
        whole = request["agent_id"] if request["whole"] else None
        record_program(program, agent_id=None if whole == _own_name(program) else whole)
        return
    adopt_hash_seed()
    restore = [instrument()] if request["captured"] else []
    if request["controlled"]:
        restore.append(control())
    try:
        value = recorded_call(named_function(request["function"]), request["input"])()
        if hasattr(value, "__await__"):
            import asyncio  # noqa: PLC0415 - start-up time of every other recording

            asyncio.run(value)
    finally:
        while restore:
            restore.pop()()


def _own_name(program: dict[str, Any]) -> str:
    """What a program's run is called without `--agent`."""
    target = str(program["target"])
    return target.rpartition(".")[2] if program["module"] else Path(target).stem


if __name__ == "__main__":
    try:
        _main(sys.argv[1])
    finally:
        flush()
