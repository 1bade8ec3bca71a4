"""A command in plain values: what is started, where, and with what environment.

What differs from machine to machine is left out where it can be: a folder below the one in which the run
began is relative to that, and of the environment only what the program changes for its child is kept.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from types import FrameType
from typing import Any, Final

from isotrace.record.capture.urls import HIDDEN, is_secret_name, without_secrets
from isotrace.record.context import Branch
from isotrace.record.withheld import hidden
from isotrace.redact.forms import SECRET_FORM, SECRET_TEXT

KIND: Final = "process"


@dataclass(frozen=True, slots=True)
class Command:
    """A command as steps name it: by its program, and by `params`, which say what is started and how.
    `call` are those that every later step of the same process has. `marks` are reasons why a
    replay may differ."""

    program: str
    params: dict[str, Any]
    call: dict[str, Any]
    marks: tuple[str, ...] = field(default=())


def captured(options: Callable[[], Mapping[str, Any]], branch: Branch) -> Command | None:
    """The command that these arguments of `subprocess.Popen`, by name, start; None if it is to be started
    as if nobody looked. Where that is because it can't be captured, the run's grade says so."""
    try:
        return _command_of(options(), branch)
    except NotCapturedError as reason:
        branch.driver.note(f"process: {reason}")
    except Exception as error:  # noqa: BLE001  # what is wrong with the arguments, the real call says itself
        branch.driver.note(
            f"process: it was started with arguments that can't be read: {type(error).__name__}"
        )
    return None


class NotCapturedError(Exception):
    """A process that can't be captured; the text says why."""


def _command_of(options: Mapping[str, Any], branch: Branch) -> Command | None:
    given = options["args"]
    if isinstance(given, list | tuple) and asks_about_the_machine(given):
        return None
    if not isinstance(given, str | bytes | os.PathLike | list | tuple):
        raise NotCapturedError("its arguments can be read only once")
    shell = bool(options.get("shell"))
    words = [given] if isinstance(given, str | bytes | os.PathLike) else given
    texts = [os.fsdecode(word) for word in words]
    call: dict[str, Any] = {"shell": _hidden_line(texts[0])} if shell else {"argv": hidden_words(texts)}
    if shell and texts[1:]:
        call["argv"] = hidden_words(texts[1:])
    streams = {name: _stream(options.get(name)) for name in ("stdin", "stdout", "stderr")}
    if PIPED in streams.values():
        raise NotCapturedError(f"{texts[0]} was given a pipe of the program's own")
    params = {**call, **_place(options, branch), **_environment(options.get("env"))}
    params |= {name: value for name, value in streams.items() if value is not None}
    params |= _reading(options)
    if options.get("executable") is not None:
        params["executable"] = os.fsdecode(options["executable"])
    marks = tuple(
        f"what it writes goes to a file, which a replay does not write ({name})"
        for name in ("stdout", "stderr")
        if streams[name] == FILE
    )
    return Command(_program_of_line(texts[0]) if shell else _base_name(texts[0]), params, call, marks)


_QUESTIONS: Final = frozenset(
    {("/sbin/ldconfig", "-p"), ("uname", "-p"), ("uname", "-rs"), ("lsb_release", "-a")}
)
_ASKERS: Final = frozenset({"ctypes.util", "platform", "distro", "distro.distro"})
_BETWEEN: Final = ("isotrace.", "subprocess")


def asks_about_the_machine(words: Sequence[Any]) -> bool:
    """Whether this command is `platform`, `ctypes.util` or `distro` asking what the machine is: for a module
    that is imported, or once in a process for what an SDK says of itself. It is no doing of an agent, and
    a step of the first run only."""
    if tuple(words) not in _QUESTIONS:
        return False
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and str(frame.f_globals.get("__name__")).startswith(_BETWEEN):
        frame = frame.f_back
    return frame is not None and frame.f_globals.get("__name__") in _ASKERS


def _base_name(word: str) -> str:
    return PurePath(word).name.encode(errors="replace").decode() or "process"


_ASSIGNMENT: Final = re.compile(r"^\w+=")
_WORD: Final = re.compile(r"^[\w./+@-]+$")


def _program_of_line(line: str) -> str:
    """The first program that a shell is told to start; `sh` for what is no simple command."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError:
        words = line.split()
    for word in words:
        if not _ASSIGNMENT.match(word):
            return _base_name(word) if _WORD.match(word) else "sh"
    return "sh"


# --- where, with what environment, from where to where ----------------------------------------


def _place(options: Mapping[str, Any], branch: Branch) -> dict[str, str]:
    start = Path(branch.driver.info.folder).resolve()
    given = options.get("cwd")
    here = (Path.cwd() if given is None else Path(os.fsdecode(given))).resolve()
    if here == start:
        return {}
    return {"cwd": str(here.relative_to(start) if here.is_relative_to(start) else here)}


def _environment(given: Mapping[Any, Any] | None) -> dict[str, Any]:
    """What a command's environment has otherwise than ours: variables set, and None for those taken away.
    `env_only`: it was not made of ours, so that what is not in it was never meant to be."""
    if given is None:
        return {}
    theirs = {os.fsdecode(name): os.fsdecode(value) for name, value in given.items()}
    ours = dict(os.environ)
    changed: dict[str, str | None] = {
        name: HIDDEN if is_secret_name(name) or SECRET_FORM.match(value) else hidden(without_secrets(value))
        for name, value in sorted(theirs.items())
        if ours.get(name) != value
    }
    missing = sorted(ours.keys() - theirs.keys())
    alone = len(missing) * 2 > len(ours)
    if not alone:
        changed |= dict.fromkeys(missing)
    return {**({"env": changed} if changed else {}), **({"env_only": True} if alone else {})}


PIPED: Final = "piped"
FILE: Final = "file"
_NAMES: Final = {subprocess.PIPE: "PIPE", subprocess.DEVNULL: "DEVNULL", subprocess.STDOUT: "STDOUT"}
_STANDARD: Final = 2


def _stream(given: Any) -> Any:
    """A stream of a child as it is asked for: None where it is ours, `PIPED` for what somebody else
    reads or feeds."""
    if given is None:
        return None
    if isinstance(given, int) and given in _NAMES:
        return _NAMES[given]
    buffer = getattr(given, "buffer", given)
    named = getattr(getattr(buffer, "raw", buffer), "captured_as", None)
    if named is not None:
        return named  # the output of another captured process
    descriptor = given if isinstance(given, int) else given.fileno()
    if descriptor <= _STANDARD:
        return None
    mode = os.fstat(descriptor).st_mode
    return FILE if (mode & 0o170000) == 0o100000 else PIPED


def _reading(options: Mapping[str, Any]) -> dict[str, Any]:
    """How output becomes text, where it does."""
    said = {name: options[name] for name in ("encoding", "errors") if options.get(name) is not None}
    text = bool(said or options.get("text") or options.get("universal_newlines"))
    return {"text": True, **said} if text else {}


# --- secrets --------------------------------------------------------------------------------

_OPTION: Final = re.compile(
    r"^--?[\w-]*(?:password|passwd|passphrase|secret|token|api-?key|credential)$", re.IGNORECASE
)
_HEADER: Final = re.compile(
    r"(\b(?:proxy-)?authorization|\bcookie|\b[\w-]*(?:api-?key|token|secret))(\s*:\s*)[^\s\"'][^\"'\n]*",
    re.IGNORECASE,
)
_VARIABLE: Final = re.compile(r"(?<![\w-])(-{0,2}[A-Za-z][\w-]*=)(\"[^\"]*\"|'[^']*'|[^\s\"';|&]+)")
_ADDRESS: Final = re.compile(r"\b[a-zA-Z][a-zA-Z0-9+.-]*://[^\s\"'`<>|;()]+")
_AFTER: Final = re.compile(
    r"(--?[\w-]*(?:password|passwd|passphrase|secret|token|api-?key|credential)\s+)"
    r"(\"[^\"]*\"|'[^']*'|[^\s\"';|&-][^\s\"';|&]*)",
    re.IGNORECASE,
)


def hidden_words(words: Sequence[str]) -> list[str]:
    """Words of a command with `***` for passwords and tokens: after `--token`, in `TOKEN=…`, in a header's
    `Authorization: …` and in addresses. What is no such place is kept letter by letter."""
    hidden: list[str] = []
    for word in words:
        after = bool(hidden) and _OPTION.match(hidden[-1]) is not None and not word.startswith("-")
        hidden.append(HIDDEN if after else _hidden_word(word))
    return hidden


def _hidden_word(word: str) -> str:
    name, equals, _ = word.partition("=")
    if equals and re.fullmatch(r"-{0,2}[A-Za-z][\w-]*", name) and _is_strong(name):
        return f"{name}={HIDDEN}"
    return _hidden_line(word)


def _hidden_line(line: str) -> str:
    """The same for a line that a shell is given."""
    line = SECRET_TEXT.sub(HIDDEN, hidden(line))
    if "://" in line:
        line = _ADDRESS.sub(lambda found: without_secrets(found[0]), line)
    line = _HEADER.sub(rf"\1\2{HIDDEN}", line)
    line = _AFTER.sub(rf"\1{HIDDEN}", line)
    return _VARIABLE.sub(lambda found: found[1] + HIDDEN if _is_strong(found[1][:-1]) else found[0], line)


_STRONG: Final = re.compile(
    r"passw|passphrase|secret|token(?!s)|api_?key|access_?key|credential|authori[sz]ation"
)


def _is_strong(name: str) -> bool:
    """Whether a name says that a secret follows. `--code` and `--key` do not; as a variable, `KEY` does."""
    name = name.strip("-").replace("-", "_")
    return _STRONG.search(name.lower()) is not None or (name.isupper() and is_secret_name(name))
