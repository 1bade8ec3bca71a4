"""The redactors of one run, and what they make of its values."""

from __future__ import annotations

import hmac
import os
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

import orjson

from isotrace.canonical import value_bytes
from isotrace.errors import CanonicalizationError, PluginError, RedactorError, UsageError
from isotrace.redact.config import Config, project_config
from isotrace.redact.engine import Engine, Named
from isotrace.redact.finders import BUILT_IN, VERSION
from isotrace.redact.pieces import redacted_pieces
from isotrace.redact.rules import KeyFinder, KeyRule, PlaceRule, checked_name, quote_of
from isotrace.redact.values import Texts, Walk
from isotrace.registry import redactor as redactor_of

MAX_REDACTORS: Final = 100
"""How many redactors a record may name."""

KEY_VARIABLE: Final = "ISOTRACE_REDACT_KEY"
"""The variable that holds the key of pseudonyms."""

_LABEL: Final = b"isotrace/v1/pseudonym\0\0fingerprint"
_RUN_VALUES: Final = frozenset({"input", "plan", "result", "metadata"})
_OWN_KEYS: Final = frozenset({"params", "error", "transport"})
"""Values whose first keys are names of parameters, or the record's own words."""
_TOO_LARGE: Final = b'"[redacted: beyond the limits of a value]"'


class _BuiltIn:
    def __init__(self, name: str) -> None:
        self.name = name
        self.version = VERSION
        self.find = BUILT_IN[name]


class Redaction:
    """The redactors of a run, by the names that they are asked for.

    `problems`: sentences about redactors that failed, for the run's grade. Safe to use from several threads.
    """

    def __init__(self, names: Sequence[str], config: Config, key: bytes | None) -> None:
        self.names = tuple(dict.fromkeys(names))
        self.digests: dict[str, str] = {}
        named: list[Named] = []
        self._keys: list[KeyRule] = []
        self._places: list[PlaceRule] = []
        shorts: dict[str, str] = {}
        for name in self.names:
            short, digest = self._add(name, config, named)
            if short in shorts:
                raise UsageError(
                    "two redactors have one name", where=config.where, got=f"{shorts[short]}, {name}"
                )
            shorts[short] = name
            self.digests[name] = digest
        self._key = key
        self._engine = Engine(named, shorts, key)

    def _add(self, name: str, config: Config, named: list[Named]) -> tuple[str, str]:
        """Takes one in; the short name that it leaves in texts, and the digest of what it is."""
        if name in config.patterns:
            pattern = config.patterns[name]
            named.append(Named(pattern.name, pattern, numbers=True))
            return pattern.name, config.digests[name]
        if name in config.keys:
            keys = config.keys[name]
            self._keys.append(keys)
            named.append(Named(keys.short, KeyFinder(keys), quote=quote_of))
            return keys.short, config.digests[name]
        if name in config.places:
            self._places.append(config.places[name])
            return config.places[name].short, config.digests[name]
        found: Any
        if name in BUILT_IN:
            found = _BuiltIn(name)
        else:
            found = _of_entry_points(name, config)
        named.append(Named(checked_name(found.name, name), found, numbers=name == "card"))
        return found.name, str(found.version)

    # --- what the run says of it ------------------------------------------------------------

    def facts(self) -> dict[str, Any]:
        """What stands in the run's facts: the redactors by name, with a digest of what each is, and the
        fingerprint of the key where there is one."""
        facts: dict[str, Any] = {"use": [[name, self.digests[name]] for name in self.names]}
        return facts if self._key is None else {**facts, "key": fingerprint(self._key)}

    @property
    def problems(self) -> list[str]:
        return list(self._engine.problems)

    # --- values ---------------------------------------------------------------------------

    def data(self, data: bytes, name: str, skill: str | None = None) -> bytes:
        """Value bytes without what has to go; `name` says what value it is (`params`, `result`, …) and
        `skill` of which skill's step, None for the run's own. The same bytes where nothing had to go."""
        value = orjson.loads(data)
        made = self.value(value, name, skill)
        if made == value:
            return data
        try:
            return value_bytes(made)
        except CanonicalizationError:
            return _TOO_LARGE

    def value(self, value: Any, name: str, skill: str | None = None) -> Any:
        """A plain value without what has to go, as `data`."""
        texts = lambda _path, text: self._engine.text(text)  # noqa: E731 - a parameter of the walk
        return self._walk(name, skill, texts).value(value, self._path(name, skill))

    def text(self, text: str) -> str:
        """A text without what has to go."""
        return self._engine.text(text)

    def pieces(self, pieces: Sequence[bytes], skill: str, *, joined: bool) -> list[bytes]:
        """The pieces of a stream without what has to go, also where that was cut. As many as there were.

        `joined`: they are an answer in pieces, and no pieces by themselves.
        """

        def walker(texts: Texts) -> Any:
            walk = self._walk("chunk", skill, texts, cut=True)
            return walk.value

        values = [orjson.loads(piece) for piece in pieces]
        made = redacted_pieces(self._engine, walker, values, joined=joined)
        return [
            piece if new == value else value_bytes(new)
            for piece, value, new in zip(pieces, values, made, strict=True)
        ]

    def _walk(self, name: str, skill: str | None, texts: Texts, *, cut: bool = False) -> Walk:
        structure = 1 if name in _OWN_KEYS else 0
        return Walk(self._engine, self._keys, self._places, skill, texts, structure=structure, cut=cut)

    @staticmethod
    def _path(name: str, skill: str | None) -> tuple[str, ...]:
        return (name,) if skill is None and name in _RUN_VALUES else ()


def _of_entry_points(name: str, config: Config) -> Any:
    kind, colon, _ = name.partition(":")
    if colon and kind in ("pattern", "keys", "place"):
        raise UsageError(
            "there is no such rule",
            where=config.where,
            got=name,
            expected=", ".join(config.names) or None,
            hint="rules stand in isotrace.toml, below [redact.patterns], [redact.keys] and [redact.places]",
        )
    return redactor_of(name, [*BUILT_IN, *config.names])


def fingerprint(key: bytes) -> str:
    """What tells one key from another, and nothing of the key."""
    return hmac.new(key, _LABEL, sha256).hexdigest()[:16]


def key_here() -> bytes | None:
    """The key of pseudonyms in this process's environment, None where there is none."""
    return os.environ.get(KEY_VARIABLE, "").encode(errors="surrogateescape") or None


def redaction_of(names: Sequence[str]) -> Redaction:
    """The redactors of these names, as the project has them. Raises `UsageError` and `PluginError` for a name
    that there is not, and for a rule that is none."""
    return Redaction(names, project_config(), key_here())


def recorded(facts: Any, run_id: str) -> tuple[Redaction | None, str | None]:
    """The redactors that a run's facts name, for its replay; and a sentence where its pseudonyms can't be
    made again, because the key is another one or none.

    Raises `RedactorError` where one is not there, or is another by now.
    """
    if facts is None:
        return None, None
    names = _names_of(facts, run_id)
    key = key_here()
    mark = facts.get("key")
    try:
        found = Redaction(list(names), project_config(), None if mark is None else key or b"\0")
    except (UsageError, PluginError) as error:
        raise RedactorError(
            "the run was redacted by a redactor that is not there",
            run_id=run_id,
            expected=", ".join(names),
            hint=f"{error}. Rules of a project are looked for from the current folder upwards",
        ) from error
    for name, digest in names.items():
        if found.digests[name] != digest:
            raise RedactorError(
                "the run was redacted by a redactor that is another by now",
                run_id=run_id,
                where=name,
                expected=digest,
                got=found.digests[name],
                hint="record the run again, or bring the rule back",
            )
    if mark is None or (key is not None and fingerprint(key) == mark):
        return found, None
    why = f"{KEY_VARIABLE} holds another" if key is not None else f"{KEY_VARIABLE} is not set"
    return found, f"pseudonyms were compared without their keys: the run has the key {mark}, and {why}"


def _names_of(facts: Any, run_id: str) -> Mapping[str, str]:
    use = facts.get("use") if isinstance(facts, dict) else None
    if (
        not isinstance(use, list)
        or len(use) > MAX_REDACTORS
        or not all(
            isinstance(one, list) and len(one) == 2 and all(isinstance(text, str) for text in one)
            for one in use
        )
    ):
        raise RedactorError("what the run says of its redactors can't be read", run_id=run_id, got=use)
    return dict(use)
