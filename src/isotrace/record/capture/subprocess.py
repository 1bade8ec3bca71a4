"""Child processes: `subprocess`, `os.system` and `os.popen`.

A call that starts a process and waits for it is one step: what was started, and what came out of it. A
`Popen` object takes several steps (`isotrace.record.capture.popen`): its start, and each thing that is
done with it. Nothing is started in a replay. What processes are on asyncio is in
`isotrace.record.capture.asyncio_subprocess`.
"""

from __future__ import annotations

import inspect
import os
import subprocess
from collections.abc import Callable, Mapping
from typing import Any

from isotrace.record.capture import popen
from isotrace.record.capture.about import About
from isotrace.record.capture.command import captured
from isotrace.record.capture.processes import Call, kept, made
from isotrace.record.context import calling_branch, live_branch
from isotrace.record.patches import patch, swap_code

ABOUT = About(
    libraries="subprocess, os.system, os.popen",
    versions="the standard library's, Python 3.11 and newer",
    steps=(
        ("run, call, check_call, check_output, getoutput, getstatusoutput, os.system", "process", "write"),
        ("the start of a Popen object; os.popen makes one", "process", "write"),
        (
            "its communicate, wait, send_signal, terminate, kill; os.kill and os.killpg on it",
            "process",
            "write",
        ),
        ("its output, read by the program: one step for each of stdout and stderr", "process", "write"),
        ("each write to its stdin", "process", "write"),
    ),
    not_captured=(
        (
            "multiprocessing, ProcessPoolExecutor, os.fork, os.exec*, os.spawn*, pty: they work while "
            "recording, and a replay refuses them."
        ),
        (
            "What a process changes on disk: a replay starts none, so a file that the program reads by "
            "itself afterwards is as it finds it. Output that goes to a file is among that, and marked."
        ),
        (
            "Processes whose stdin, stdout or stderr is a pipe, a socket or a terminal that the program "
            "opened itself: marked, and refused in a replay."
        ),
        "Waiting for output by its file descriptor (select, os.read): marked.",
        "os.wait and os.waitpid.",
    ),
)


def install(library: Any) -> list[Callable[[], None]]:
    """Wraps what starts processes; the ways back."""
    capture = _Capture(library)
    return [
        swap_code(library.run, capture.run),
        swap_code(library.call, capture.call),
        patch(os, "system", capture.system),
        *popen.install(library),
    ]


class _Capture:
    """`subprocess.run` and `call`, by which the other functions of that module go, and `os.system`."""

    def __init__(self, library: Any) -> None:
        self._signature = inspect.signature(library.Popen)

    def _options(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments of `Popen` by name, with those that `run` has instead of them."""
        options = dict(kwargs)
        for name in ("input", "timeout", "check"):
            options.pop(name, None)
        if options.pop("capture_output", False):
            options["stdout"] = options["stderr"] = subprocess.PIPE
        return self._signature.bind(*args, **options).arguments

    def run(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        branch = calling_branch()
        command = None if branch is None else captured(lambda: self._options(args, kwargs), branch)
        if branch is None or command is None:
            return original(*args, **kwargs)
        given, timeout = args[0] if args else kwargs["args"], kwargs.get("timeout")
        call, outcome = made(
            branch,
            command,
            {**command.params, **_fed(kwargs.get("input")), **_within(timeout)},
            lambda: original(*args, **kwargs),
            lambda call, done: call.ended(done.returncode, done.stdout, done.stderr),
        )
        if call.happened:
            return call.value
        call.raise_again(outcome, given, timeout)
        code, output, errors = (
            outcome["returncode"],
            call.output(outcome, "stdout"),
            call.output(outcome, "stderr"),
        )
        if kwargs.get("check") and code:
            raise subprocess.CalledProcessError(code, given, output=output, stderr=errors)
        return subprocess.CompletedProcess(given, code, output, errors)

    def call(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        branch = calling_branch()
        command = None if branch is None else captured(lambda: self._options(args, kwargs), branch)
        if branch is None or command is None:
            return original(*args, **kwargs)
        given, timeout = args[0] if args else kwargs["args"], kwargs.get("timeout")
        call, outcome = made(
            branch,
            command,
            {**command.params, **_within(timeout)},
            lambda: original(*args, **kwargs),
            lambda call, code: call.ended(code),
        )
        if call.happened:
            return call.value
        call.raise_again(outcome, given, timeout)
        return outcome["returncode"]

    def system(self, plain: Callable[..., int]) -> Callable[..., int]:
        def system(command: Any) -> int:
            branch = live_branch()
            known = None if branch is None else captured(lambda: {"args": command, "shell": True}, branch)
            if branch is None or known is None:
                return plain(command)
            call, outcome = made(branch, known, known.params, lambda: plain(command), _status)
            return int(call.value if call.happened else outcome["status"])

        return system


def _status(call: Call, status: int) -> dict[str, Any]:
    """The outcome of `os.system`, which gives a wait status."""
    return call.ended(os.waitstatus_to_exitcode(status), status=status)


def _fed(given: Any) -> dict[str, Any]:
    return {} if given is None else {"input": kept(given)}


def _within(timeout: float | None) -> dict[str, Any]:
    return {} if timeout is None else {"timeout": timeout}
