"""The project's own redactors: `[redact]` in `isotrace.toml`, or `[tool.isotrace.redact]` in
`pyproject.toml`.

[redact]
use = ["secrets", "email", "pattern:order", "keys:login", "place:query"]

[redact.patterns]
order = 'ORD-\\d{8}'

[redact.keys]
login = ["password", "pin"]

[redact.places]
query = ["search:/query", "/input/task"]
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from isotrace.errors import UsageError
from isotrace.redact.rules import KeyRule, PatternRedactor, PlaceRule, bare, digest_of, named_texts
from isotrace.redact.targets import place_of
from isotrace.redact.wanted import configuration, current_folder

MAX_FILE: Final = 1024 * 1024
_SETTINGS: Final = ("entries", "redact")
_TABLES: Final = ("use", "patterns", "keys", "places")


@dataclass(frozen=True, slots=True)
class Config:
    """What a project says about redaction. `where`: the file, None where no file says anything.

    The rules stand under their names as they are asked for: `pattern:order`, `keys:login`, `place:query`.
    """

    where: str | None = None
    use: tuple[str, ...] = ()
    patterns: dict[str, PatternRedactor] = field(default_factory=dict)
    keys: dict[str, KeyRule] = field(default_factory=dict)
    places: dict[str, PlaceRule] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """The names of its rules."""
        return [*self.patterns, *self.keys, *self.places]


_read: dict[str, tuple[tuple[int, int], Config]] = {}


def project_config(folder: str | None = None) -> Config:
    """What the nearest file at or above this folder (the current one unless given) says; an `isotrace.toml`
    goes before a `pyproject.toml` beside it, and one that does not speak of redaction does not count.

    Raises `UsageError` for a file that is no TOML, and for a rule that is none, with its place.
    """
    found = configuration(current_folder() if folder is None else folder)
    if found is None:
        return Config()
    path, section, stat = found
    seen = stat.st_mtime_ns, stat.st_size
    known = _read.get(path)
    if known is None or known[0] != seen:
        known = _read[path] = (seen, _parsed(path, section, stat.st_size))
    return known[1]


def _parsed(path: str, section: tuple[str, ...], size: int) -> Config:
    if size > MAX_FILE:
        raise UsageError("a configuration is too large", where=path, expected=f"{MAX_FILE} bytes")
    try:
        table: Any = tomllib.loads(Path(path).read_bytes().decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError("a configuration is no TOML", where=path, got=str(error)) from error
    for name in section:
        table = table.get(name) if isinstance(table, dict) else None
    # A table of another name is a slip, and nothing would be redacted.
    for name in table if isinstance(table, dict) else ():
        if name not in _SETTINGS:
            raise UsageError(
                "there is no such table of settings", where=path, got=name, expected=", ".join(_SETTINGS)
            )
    table = table.get("redact") if isinstance(table, dict) else None
    return Config() if table is None else config_of(table, path)


def config_of(table: Any, where: str) -> Config:
    """The configuration that such a table is. Raises `UsageError`."""
    if not isinstance(table, dict):
        raise UsageError("redact is a table", where=where, got=type(table).__name__)
    for name in table:
        if name not in _TABLES:
            raise UsageError("unknown option of redact", where=where, got=name, expected=", ".join(_TABLES))
    config = Config(where, _used(table.get("use", []), where))
    for name, texts in named_texts(table.get("patterns", {}), "redact.patterns", where):
        place = f"{where}, redact.patterns.{name}"
        if len(texts) > 1:
            raise UsageError("a pattern is one text", where=place, got=texts, hint="join them with |")
        config.patterns[f"pattern:{name}"] = PatternRedactor(name, texts[0], place)
        config.digests[f"pattern:{name}"] = digest_of(texts)
    for name, texts in named_texts(table.get("keys", {}), "redact.keys", where):
        config.keys[f"keys:{name}"] = KeyRule(name, frozenset(map(bare, texts)))
        config.digests[f"keys:{name}"] = digest_of(map(bare, texts))
    for name, texts in named_texts(table.get("places", {}), "redact.places", where):
        place = f"{where}, redact.places.{name}"
        config.places[f"place:{name}"] = PlaceRule(name, tuple(place_of(text, place) for text in texts))
        config.digests[f"place:{name}"] = digest_of(texts)
    return config


def _used(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise UsageError("redact.use is a list of names", where=where, got=value)
    return tuple(value)
