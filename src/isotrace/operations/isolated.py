"""Replays a run in a child process, which cuts itself off from the network first.

The parent sends the request on the child's stdin and reads the result, as JSON, from a pipe of its
own: the agent may print what it likes, and may even take its process down.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from isotrace import errors
from isotrace.compare import Code, Divergence, Severity, Verdict, first_divergence
from isotrace.contracts import TraceStore
from isotrace.errors import IsotraceError, ReplayError
from isotrace.ledger import SealedRun, project
from isotrace.operations.goldens import read_golden
from isotrace.operations.opening import IN_MEMORY, open_store
from isotrace.operations.programs import replay_again
from isotrace.operations.relocating import Relocation
from isotrace.record import flush
from isotrace.record.sources.seeds import adopt_hash_seed
from isotrace.replay import Plan, guard_process
from isotrace.replay.ending import raised_note

_PLAN_FIELDS = [field.name for field in fields(Plan)]
_LEFT = (
    "the code left its process at once, as os._exit does, so that nothing after it could be compared: "
    "leave by sys.exit, or replay a function that returns before that with --entry"
)
_ERROR_FIELDS = ("where", "pointer", "run_id", "step", "expected", "got", "nearest", "hint")


@dataclass(frozen=True, slots=True)
class Replayed:
    """A replay's result as the child reported it: `data` is `ReplayResult.to_dict()`. `strays`: modules that
    came from the checkout although the code was to be looked for elsewhere. `reached`: `Reached` as a dict,
    None where steps were executed."""

    data: dict[str, Any]
    strays: list[str] = field(default_factory=list)
    reached: dict[str, Any] | None = None

    @property
    def verdict(self) -> Verdict:
        return Verdict(self.data["verdict"])

    @property
    def exit_code(self) -> int:
        """0 match, 1 diverged, 2 invalid record, 125 inconclusive."""
        return self.verdict.exit_code

    @property
    def divergences(self) -> list[Divergence]:
        """In order."""
        return [_divergence(one) for one in self.data["divergences"]]

    @property
    def first(self) -> Divergence | None:
        """The divergence that decided the verdict; without such a one the first warning, if any."""
        return first_divergence(self.divergences)


def _divergence(data: dict[str, Any]) -> Divergence:
    fields = {key: value for key, value in data.items() if key != "group"}
    fields["code"] = Code(data["code"])
    fields["severity"] = Severity(data["severity"])
    fields["lineage"] = tuple(data["lineage"])
    return Divergence(**fields)


def replay_in_child(
    run_id: str,
    plan: Plan,
    *,
    store_url: str | None,
    tenant: str,
    entry: str | None,
    golden: str | None = None,
    program: dict[str, Any] | None = None,
    folder: str | None = None,
    environment: dict[str, str] | None = None,
    relocation: Relocation | None = None,
    quiet: bool = False,
    timeout_s: float | None = None,
) -> Replayed:
    """Replays a stored run in a process of its own, with this environment, else the one that is here. What
    the agent prints goes to stderr, or nowhere if `quiet`. With `relocation` the agent's code is taken from
    another folder than the recorded one. With `golden` the run is the one in that golden file; `program` is
    started in place of the recorded entry point, as `program_entry` gives it; `folder` is where the process
    starts. After `timeout_s` seconds the process is killed.

    Raises what the replay raised, and `ReplayError` if the child ended without a result.
    """
    request = {
        "run_id": run_id,
        "store_url": store_url,
        "tenant": tenant,
        "entry": entry,
        "golden": golden,
        "program": program,
        "plan": {name: getattr(plan, name) for name in _PLAN_FIELDS},
        "relocation": None if relocation is None else asdict(relocation),
    }
    reading, writing = os.pipe()
    sys.stdout.flush()
    with (
        os.fdopen(reading, "rb") as pipe,
        subprocess.Popen(
            [sys.executable, "-m", "isotrace.operations.isolated", str(writing)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL if quiet else 2,
            stderr=subprocess.DEVNULL if quiet else None,
            pass_fds=[writing],
            env=environment,
            cwd=folder,
        ) as child,
        _killed_in_the_end(child, timeout_s) as late,
    ):
        os.close(writing)
        assert child.stdin is not None
        child.stdin.write(json.dumps(request).encode())
        child.stdin.close()
        answer = pipe.read()
        child.wait()
    if late.is_set():
        raise ReplayError("the replay took too long", run_id=run_id, expected=f"at most {timeout_s:g} s")
    if not answer:
        raise ReplayError(
            "the replay's process ended without a verdict",
            run_id=run_id,
            got=_ended(child.returncode),
            hint=_LEFT if child.returncode >= 0 else None,
        )
    data = json.loads(answer)
    if "error" in data:
        raise _error(data["error"])
    return Replayed(data["result"], data["strays"], data["reached"])


@contextmanager
def _killed_in_the_end(child: subprocess.Popen[bytes], timeout_s: float | None) -> Iterator[threading.Event]:
    """Around a child that must not outlive the block, also where that is left by Ctrl-C. Gives what is set
    if it took longer than `timeout_s`."""
    late = threading.Event()

    def kill() -> None:
        late.set()
        child.kill()

    timer = threading.Timer(timeout_s, kill) if timeout_s is not None else None
    if timer is not None:
        timer.daemon = True
        timer.start()
    try:
        yield late
    except BaseException:
        child.kill()
        raise
    finally:
        if timer is not None:
            timer.cancel()


def _ended(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"


def _error(data: dict[str, Any]) -> IsotraceError:
    """The child's error again: of its class if that is one of ours."""
    found = getattr(errors, data["type"], None)
    kind = found if isinstance(found, type) and issubclass(found, IsotraceError) else ReplayError
    return kind(data["what"], **{name: data[name] for name in _ERROR_FIELDS})


# --- in the child ---------------------------------------------------------------------


def _child(request: dict[str, Any]) -> dict[str, Any]:
    given, elsewhere = request["plan"], request["relocation"]
    relocation = None if elsewhere is None else Relocation(**elsewhere)
    moved = tuple(given["moved"]) if given["moved"] is not None else None
    if relocation is not None:
        moved = (relocation.target, relocation.source)
    plan = Plan(**{**given, "allow": tuple(given["allow"]), "moved": moved})
    store, run_id = _store_of(request)
    try:
        if relocation is not None:
            relocation.enter()
        # From here on nothing gets out of this process but what steps do that are really executed: the
        # agent's module is imported under guard.
        guard_process(steps_go_out=not plan.is_strict)
        result = replay_again(
            store,
            run_id,
            plan,
            tenant_id=request["tenant"],
            entry=request["entry"],
            program=request["program"],
            relocation=relocation,
        )
        flush()
    finally:
        store.close()
    return {
        "result": result.to_dict(),
        "strays": [] if relocation is None else relocation.strays(),
        "reached": None if result.reached is None else asdict(result.reached),
    }


def _store_of(request: dict[str, Any]) -> tuple[TraceStore, str]:
    """The store with the run, and the run's id in it; a golden run gets a store of its own."""
    if request["golden"] is None:
        return open_store(request["store_url"]), request["run_id"]
    ledger = read_golden(request["golden"]).owned_by(request["tenant"])
    store = open_store(IN_MEMORY)
    run = SealedRun(ledger, project(ledger))
    store.put(run)
    return store, run.run_id


def _end_with_parent() -> None:
    """Has this process end when the one that waits for it is killed and can see to nothing. Linux only."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


_PR_SET_PDEATHSIG = 1


def _main(writing: int) -> None:
    _end_with_parent()
    adopt_hash_seed()
    request = json.loads(sys.stdin.buffer.read())
    try:
        answer = _child(request)
    except IsotraceError as error:
        answer = {"error": _error_data(error)}
    except (Exception, SystemExit) as error:  # noqa: BLE001  # the agent's: it never came to its run
        traceback.print_exc()
        what = raised_note(error) or "the program ended"
        failed = ReplayError(f"{what}, before its run began", run_id=request["run_id"])
        answer = {"error": _error_data(failed)}
    with os.fdopen(writing, "wb") as pipe:
        pipe.write(json.dumps(answer).encode())


def _error_data(error: IsotraceError) -> dict[str, Any]:
    data: dict[str, Any] = {"type": type(error).__name__, "what": error.what}
    for name in _ERROR_FIELDS:
        value = getattr(error, name)
        data[name] = value if value is None or isinstance(value, str | int) else str(value)
    return data


if __name__ == "__main__":
    _main(int(sys.argv[1]))
