"""Which code a golden run is replayed with: what the command line or the project's own settings say.

A record is never followed because it names its code. The settings are the user's, and so is the code that
they name:

    [tool.isotrace.entries]        # in pyproject.toml; in isotrace.toml: [entries]
    support = "agents.support:main"
    nightly = "agents/nightly.py --dry-run"
"""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from isotrace.errors import NoEntryPointError, UsageError
from isotrace.ledger import Ledger

SETTINGS: Final = "isotrace.toml"
PROJECT: Final = "pyproject.toml"
FORMS: Final = "MODULE:FUNCTION, FILE.py:FUNCTION, FILE.py [ARGUMENT]…, or -m MODULE [ARGUMENT]…"

_FUNCTION: Final = re.compile(r"[^\s:]\S*:[A-Za-z_][A-Za-z0-9_.]*")


@dataclass(frozen=True, slots=True)
class Entry:
    """The code of an agent: a function, or a program that is started in `folder`.

    `arguments` None: those that the recorded program was given.
    """

    text: str
    folder: Path
    function: str | None = None
    target: str | None = None
    module: bool = False
    arguments: tuple[str, ...] | None = None

    @classmethod
    def of(cls, text: str, folder: Path) -> Entry:
        """What a text names. Raises `UsageError` for one that names nothing."""
        if _FUNCTION.fullmatch(text):
            return cls(text, folder, function=text)
        try:
            words = shlex.split(text)
        except ValueError as error:
            raise UsageError("an entry can't be read", expected=FORMS, got=f"{text} ({error})") from None
        module = words[:1] == ["-m"]
        target, *arguments = (words[1:] if module else words) or [""]
        if not target or not (module or target.endswith(".py") or (folder / target).exists()):
            raise UsageError("an entry names code", expected=FORMS, got=repr(text))
        return cls(
            text,
            folder,
            target=target,
            module=module,
            arguments=tuple(arguments) if arguments else None,
        )

    def program(self, ledger: Ledger) -> dict[str, Any] | None:
        """The entry point to start again for this run, None for a function. What the record adds are data:
        the seeds that the program began with, and what it was given."""
        if self.target is None:
            return None
        recorded = program_of(ledger) or {}
        given = recorded.get("arguments")
        arguments = list(self.arguments or (given if isinstance(given, list) else ()))
        entry: dict[str, Any] = {
            "kind": "program",
            "target": self.target if self.module else str(self.folder / self.target),
            "module": self.module,
            "arguments": [str(argument) for argument in arguments],
            "cwd": str(self.folder),
        }
        if not self.module:
            entry["spelled"] = self.target
        if isinstance(recorded.get("seeds"), dict):
            entry["seeds"] = recorded["seeds"]
        if is_whole_program(ledger):
            entry["agent"] = ledger.events[0].facts.get("agent_id")
        return entry


def entry_point_of(ledger: Ledger) -> Mapping[str, Any]:
    """The recorded entry point, empty where there is none."""
    found = ledger.events[0].facts.get("entry_point")
    return found if isinstance(found, dict) else {}


def is_whole_program(ledger: Ledger) -> bool:
    """Whether the run is a whole program, not an agent in one."""
    return entry_point_of(ledger).get("kind") == "program"


def program_of(ledger: Ledger) -> Mapping[str, Any] | None:
    """The program that a run is, or that was started for it; None where no program was."""
    entry = entry_point_of(ledger)
    beside = entry if entry.get("kind") == "program" else entry.get("program")
    return beside if isinstance(beside, dict) else None


@dataclass(frozen=True, slots=True)
class Entries:
    """The agents of a project and their code. `file`: where that stands, or would; `folder`: the project."""

    folder: Path
    file: Path
    by_agent: Mapping[str, str] = field(default_factory=dict)
    given: str | None = None

    def of(self, ledger: Ledger) -> Entry:
        """The code of a run's agent. Raises `NoEntryPointError`, with the lines to add, where nothing names
        it."""
        if self.given is not None:
            return Entry.of(self.given, self.folder)
        agent = str(ledger.events[0].facts.get("agent_id") or "")
        if agent in self.by_agent:
            try:
                return Entry.of(self.by_agent[agent], self.folder)
            except UsageError as error:
                error.where = f"{self.file}, agent {agent}"
                raise
        table = "entries" if self.file.name == SETTINGS else "tool.isotrace.entries"
        suggestion = suggested(ledger)
        line = f"{_key(agent)} = {_quoted(suggestion or 'MODULE:FUNCTION')}"
        look = "it is what the run says of itself, so look first" if suggestion else "name the code there"
        raise NoEntryPointError(
            f"nothing says which code agent {agent!r} is",
            where=_from_here(self.file),
            hint=f"Add these lines to it, or pass --entry; {look}:\n\n    [{table}]\n    {line}",
        )


def _from_here(file: Path) -> str:
    here = Path.cwd()
    return str(file.relative_to(here) if file.is_relative_to(here) else file)


def _key(text: str) -> str:
    return text if re.fullmatch(r"[A-Za-z0-9_-]+", text) else _quoted(text)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(char if char.isprintable() else f"\\U{ord(char):08x}" for char in escaped) + '"'


def suggested(ledger: Ledger) -> str | None:
    """What the record says the code was, as settings would have it: a hint, which nobody follows unasked."""
    program, entry = program_of(ledger), entry_point_of(ledger)
    if program is not None and isinstance(program.get("target"), str):
        target = program["target"]
        if program.get("module"):
            return f"-m {target}"
        cwd = program.get("cwd")
        inside = isinstance(cwd, str) and target.startswith(f"{cwd}/")
        return shlex.quote(target[len(str(cwd)) + 1 :] if inside else Path(target).name)
    module, qualname = entry.get("module"), entry.get("qualname")
    if not isinstance(module, str) or not isinstance(qualname, str):
        return None
    if module == "__main__" and isinstance(entry.get("file"), str):
        return f"{Path(entry['file']).name}:{qualname}"
    return f"{module}:{qualname}"


def project_entries(start: Path | None = None, *, given: str | None = None) -> Entries:
    """The entries of the project that a folder (the current one) belongs to: of the nearest `isotrace.toml`
    or `pyproject.toml` upwards. `given` stands for all of them, from the command line; it is looked for in
    the current folder.

    Raises `UsageError` for a file that can't be read, and for entries that are no texts.
    """
    here = (start or Path.cwd()).absolute()
    if given is not None:
        return Entries(here, here / PROJECT, given=given)
    for folder in (here, *here.parents):
        for name in (SETTINGS, PROJECT):
            if (folder / name).is_file():
                return Entries(folder, folder / name, _entries_in(folder / name))
    return Entries(here, here / PROJECT)


def _entries_in(file: Path) -> dict[str, str]:
    try:
        with file.open("rb") as stream:
            found: Any = tomllib.load(stream)
    except (OSError, ValueError) as error:
        raise UsageError("the project's settings can't be read", where=str(file), got=str(error)) from error
    path = ("entries",) if file.name == SETTINGS else ("tool", "isotrace", "entries")
    for name in path:
        found = found.get(name, {}) if isinstance(found, dict) else None
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise UsageError(
            "entries are a table of texts", where=str(file), expected=f'[{".".join(path)}] agent = "{FORMS}"'
        )
    return found
