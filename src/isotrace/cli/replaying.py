"""Replays a run in a child process, which cuts itself off from the network first.

The parent sends the request on the child's stdin and reads the result, as JSON, from a pipe of its
own: the agent may print what it likes, and may even take its process down.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, fields
from typing import Any

from isotrace import errors
from isotrace.compare import Code, Divergence, Severity, Verdict
from isotrace.errors import IsotraceError, ReplayError
from isotrace.operations import open_store, replay_again
from isotrace.record import flush
from isotrace.record.sources.seeds import adopt_hash_seed
from isotrace.replay import Plan, guard_process

_PLAN_FIELDS = [field.name for field in fields(Plan)]
_ERROR_FIELDS = ("where", "pointer", "run_id", "step", "expected", "got", "nearest", "hint")


@dataclass(frozen=True, slots=True)
class Replayed:
    """A replay's result as the child reported it: `data` is `ReplayResult.to_dict()`."""

    data: dict[str, Any]

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
    environment: dict[str, str] | None = None,
) -> Replayed:
    """Replays a stored run in a process of its own, with this environment, else the one that is here. What
    the agent prints goes to stderr.

    Raises what the replay raised, and `ReplayError` if the child ended without a result.
    """
    request = {
        "run_id": run_id,
        "store_url": store_url,
        "tenant": tenant,
        "entry": entry,
        "plan": {name: getattr(plan, name) for name in _PLAN_FIELDS},
    }
    reading, writing = os.pipe()
    sys.stdout.flush()
    with (
        os.fdopen(reading, "rb") as pipe,
        subprocess.Popen(
            [sys.executable, "-m", "isotrace.cli.replaying", str(writing)],
            stdin=subprocess.PIPE,
            stdout=2,
            pass_fds=[writing],
            env=environment,
        ) as child,
    ):
        os.close(writing)
        assert child.stdin is not None
        child.stdin.write(json.dumps(request).encode())
        child.stdin.close()
        answer = pipe.read()
    if not answer:
        raise ReplayError(
            "the replay's process ended without a verdict", run_id=run_id, got=_ended(child.returncode)
        )
    data = json.loads(answer)
    if "error" in data:
        raise _error(data["error"])
    return Replayed(data["result"])


def _ended(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"


def _error(data: dict[str, Any]) -> IsotraceError:
    """The child's error again: of its class if that is one of ours."""
    found = getattr(errors, data["type"], None)
    kind = found if isinstance(found, type) and issubclass(found, IsotraceError) else ReplayError
    return kind(data["what"], **{name: data[name] for name in _ERROR_FIELDS})


# --- in the child ---------------------------------------------------------------------


def _child(request: dict[str, Any]) -> dict[str, Any]:
    given = request["plan"]
    plan = Plan(**{**given, "allow": tuple(given["allow"])})
    store = open_store(request["store_url"])
    try:
        if plan.is_strict:
            # From here on nothing gets out of this process: the agent's module is imported under guard.
            guard_process()
        result = replay_again(
            store,
            request["run_id"],
            plan,
            tenant_id=request["tenant"],
            entry=request["entry"],
        )
        flush()
    finally:
        store.close()
    return {"result": result.to_dict()}


def _main(writing: int) -> None:
    adopt_hash_seed()
    request = json.loads(sys.stdin.buffer.read())
    try:
        answer = _child(request)
    except IsotraceError as error:
        answer = {"error": _error_data(error)}
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
