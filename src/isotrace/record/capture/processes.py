"""Calls that concern a process, as exchanges: what came of one in plain values, and out of them again.

Output is kept as text where it is UTF-8, else as bytes; which of the two the program got stands beside it.
A process that ends with an exit code other than 0 makes a failed step, which is served as that answer.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from subprocess import CalledProcessError, TimeoutExpired
from typing import Any, Final

from isotrace.errors import UncontrolledSourceError
from isotrace.record.capture.command import KIND, Command
from isotrace.record.context import Branch, current_step
from isotrace.record.edge import Edge, Exchange, edge
from isotrace.record.outcomes import classify
from isotrace.record.spec import Shape

LIBRARY: Final = "subprocess"
_BYTES: Final = "bytes"


def step_of(program: str, shape: Shape = "call", raises: tuple[type[BaseException], ...] = ()) -> Edge:
    """What a call that concerns a process of this program is as a step. A write, whatever it does: what is
    served is never followed by anything real."""
    return edge(LIBRARY, program, KIND, "write", shape, raises)


def kept(data: str | bytes) -> str | bytes:
    """Data as it is recorded: text where it is text."""
    if isinstance(data, str):
        return data
    try:
        return bytes(data).decode()
    except UnicodeDecodeError:
        return bytes(data)


def octets(value: str | bytes) -> bytes:
    """The bytes that were kept as this value."""
    return value.encode() if isinstance(value, str) else value


class Call(Exchange):
    """One call that concerns a process. `happened` says whether the real call was made; then `value` is
    what it returned, or `error` what it raised."""

    __slots__ = ("error", "happened", "marks", "value")

    def __init__(
        self, params: dict[str, Any], real: Callable[[Exchange], Any], marks: tuple[str, ...] = ()
    ) -> None:
        super().__init__(params, real)
        self.marks = marks
        self.happened = False
        self.value: Any = None
        self.error: BaseException | None = None

    def begin(self) -> None:
        """The real call is about to be made."""
        self.happened = True
        step = current_step.get()
        if step is not None and self.marks:
            step.marks = (*step.marks, *self.marks)

    # --- while it is recorded -----------------------------------------------------------------

    def ended(
        self,
        returncode: int | None = None,
        stdout: str | bytes | None = None,
        stderr: str | bytes | None = None,
        **more: Any,
    ) -> dict[str, Any]:
        """The outcome of a call after which this is known of the process."""
        outcome = dict(more)
        if returncode is not None:
            outcome["returncode"] = returncode
        if returncode and self.failure is None:
            self.failure = ("PERMANENT", str(returncode))
        as_bytes = []
        for name, data in (("stdout", stdout), ("stderr", stderr)):
            if data is not None:
                outcome[name] = kept(data)
                if not isinstance(data, str):
                    as_bytes.append(name)
        self.transport = {_BYTES: as_bytes, **(self.transport or {})}
        return outcome

    def raised(self, error: BaseException) -> dict[str, Any]:
        """The outcome of a call that raised one of `ANSWERS`. Raises the error where it says no more than
        its arguments do."""
        if isinstance(error, CalledProcessError):
            self.error = error
            return self.ended(error.returncode, error.output, error.stderr)
        if isinstance(error, TimeoutExpired):
            self.error = error
            self.failure = classify(error)
            return self.ended(None, error.output, error.stderr, timed_out=True)
        if isinstance(error, OSError) and isinstance(error.errno, int) and error.filename is not None:
            self.error = error
            self.failure = classify(error)
            return self.ended(errno=error.errno, filename=os.fsdecode(error.filename))
        raise error

    # --- while it is replayed -------------------------------------------------------------------

    def output(self, outcome: dict[str, Any], name: str) -> Any:
        """Recorded output, as the program got it."""
        value = outcome.get(name)
        as_bytes = (self.transport or {}).get(_BYTES, ())
        return octets(value) if value is not None and name in as_bytes else value

    def raise_again(self, outcome: dict[str, Any], args: Any, timeout: float | None) -> None:
        """Raises what the recorded call raised, as far as that is no matter of `check`."""
        if outcome.get("timed_out"):
            raise TimeoutExpired(
                args,
                timeout,  # type: ignore[arg-type]  # a number where it ran out
                output=self.output(outcome, "stdout"),
                stderr=self.output(outcome, "stderr"),
            )
        if "errno" in outcome:
            number = outcome["errno"]
            raise OSError(number, os.strerror(number), outcome.get("filename"))


ANSWERS: Final = (CalledProcessError, TimeoutExpired, OSError)


def made(
    branch: Branch, command: Command, params: dict[str, Any], real: Callable[[], Any], outcome_of: Any
) -> Any:
    """Makes one plain call as a step: the call, and its outcome in plain values."""

    def body(exchange: Any) -> Any:
        exchange.begin()
        try:
            exchange.value = real()
        except ANSWERS as error:
            return exchange.raised(error)
        return outcome_of(exchange, exchange.value)

    call = Call(params, body, command.marks)
    outcome = branch.driver.call(step_of(command.program), branch, (call,), {})
    if call.error is not None:
        raise call.error
    return call, outcome


async def amade(
    branch: Branch, command: Command, params: dict[str, Any], real: Callable[[], Any], outcome_of: Any
) -> Any:
    """The same for a call that is awaited."""

    async def body(exchange: Any) -> Any:
        exchange.begin()
        try:
            exchange.value = await real()
        except ANSWERS as error:
            return exchange.raised(error)
        return outcome_of(exchange, exchange.value)

    call = Call(params, body, command.marks)
    outcome = await branch.driver.acall(step_of(command.program, "acall"), branch, (call,), {})
    if call.error is not None:
        raise call.error
    return call, outcome


def not_there(program: str) -> UncontrolledSourceError:
    """The error for using a process that was served from the record where nothing more can be served."""
    return UncontrolledSourceError(
        f"{program} was served from the record, so there is no process",
        hint="use it inside the run that started it, as often as on record, and fork before its start",
    )
