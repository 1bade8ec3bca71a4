"""Files of rules, YAML or TOML. Nothing in such a file is trusted: it is bounded, it has no tags, aliases or
dates, and every error names the place."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NoReturn, cast

from isotrace import registry
from isotrace.contracts import Policy as AnyPolicy
from isotrace.errors import PolicyError
from isotrace.policy.judging import Policy
from isotrace.policy.rules import PolicyRule, nearest

MAX_BYTES: Final = 256 * 1024
MAX_DEPTH: Final = 16
_TOO_DEEP: Final = "a file of rules is nested too deeply"
SUFFIXES: Final = (".yaml", ".yml", ".toml")

Place = tuple[int, int]
Path_ = tuple[str | int, ...]


def policy_of(given: Any) -> AnyPolicy:
    """The policy that is meant: one as it is, rules, the path of a file of rules, or the name of an installed
    extension. Raises `PolicyError` and `PluginError`."""
    if hasattr(given, "opened") and hasattr(given, "looks_at"):
        return cast("AnyPolicy", given)
    if isinstance(given, PolicyRule):
        return Policy([given])
    if isinstance(given, list | tuple):
        return Policy(
            given if all(isinstance(one, PolicyRule) for one in given) else map(PolicyRule.of, given)
        )
    if not isinstance(given, str | os.PathLike):
        raise PolicyError(
            "this is no policy", expected="rules, a file of rules, or a Policy", got=type(given).__name__
        )
    text = os.fspath(given)
    if isinstance(given, os.PathLike) or os.sep in text or text.endswith(SUFFIXES):
        return read_policy(text)
    return registry.policy(text)


def read_policy(path: str | os.PathLike[str]) -> Policy:
    """The rules of a file. Raises `PolicyError` for a file that can't be read and one that is not right."""
    where = os.fspath(path)
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise PolicyError("a file of rules can't be read", where=where, got=str(error)) from error
    return parse_policy(data, where=where, toml=where.endswith(".toml"))


def parse_policy(data: bytes, *, where: str = "rules", toml: bool = False) -> Policy:
    """The rules that a YAML or TOML text says. Raises `PolicyError` with line and column where the parser
    tells them (YAML: of everything, TOML: of its syntax), the rule's id, and the place in a condition."""
    if len(data) > MAX_BYTES:
        raise PolicyError("a file of rules is too large", where=where, expected=f"at most {MAX_BYTES} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PolicyError("a file of rules is no UTF-8", where=where, got=str(error)) from error
    content, places = (_toml if toml else _yaml)(text, where)
    return _Reading(where, places).policy(content)


class _Reading:
    """Makes a policy of what stands in a file, and says where it can't."""

    def __init__(self, where: str, places: dict[Path_, Place]) -> None:
        self._where = where
        self._places = places

    def policy(self, content: Any) -> Policy:
        if not isinstance(content, Mapping) or "rules" not in content:
            self._refuse("a file of rules has a list `rules`", ())
        for key in content:
            if key not in ("version", "rules"):
                near = nearest(key, ("version", "rules"))
                self._refuse(
                    "unknown key", (key,), expected="version, rules", got=str(key)[:80], nearest=near
                )
        if content.get("version", 1) != 1 or isinstance(content.get("version"), bool):
            self._refuse("unknown version", ("version",), expected=1, got=repr(content["version"])[:80])
        given = content["rules"]
        if not isinstance(given, list) or not given:
            self._refuse("`rules` is a list of rules", ("rules",))
        rules: list[PolicyRule] = []
        ids: set[str] = set()
        for index, one in enumerate(given):
            rule = self._rule(one, index)
            if rule.id in ids:
                self._refuse("two rules have one id", ("rules", index, "id"), rule=rule.id)
            ids.add(rule.id)
            rules.append(rule)
        try:
            return Policy(rules, name=self._where)
        except PolicyError as error:
            error.where = error.where or self._where
            raise

    def _rule(self, data: Any, index: int) -> PolicyRule:
        try:
            return PolicyRule.of(data)
        except PolicyError as error:
            steps = [part for part in (error.pointer or "").split("/") if part]
            path: Path_ = ("rules", index, *(int(part) if part.isdigit() else part for part in steps))
            name = data.get("id") if isinstance(data, Mapping) else None
            error.where = self._at(path, str(name)[:80] if name else f"number {index + 1}", error.where)
            raise

    def _refuse(self, what: str, path: Path_, rule: str | None = None, **data: Any) -> NoReturn:
        raise PolicyError(what, where=self._at(path, rule), **data)

    def _at(self, path: Path_, rule: str | None = None, inside: str | None = None) -> str:
        """`rules.yaml:12:5, rule no-refund, line 1, column 4 of the expression`."""
        while path and path not in self._places:
            path = path[:-1]
        place = self._places.get(path)
        text = self._where if place is None else f"{self._where}:{place[0]}:{place[1]}"
        parts = (text, f"rule {rule}" if rule else None, inside)
        return ", ".join(part for part in parts if part)


# --- TOML ---------------------------------------------------------------------------------------

_TOML_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)")


def _toml(text: str, where: str) -> tuple[Any, dict[Path_, Place]]:
    try:
        content = tomllib.loads(text)
    except (ValueError, RecursionError, OverflowError) as error:
        found = _TOML_PLACE.search(str(error))
        at = f"{where}:{found[1]}:{found[2]}" if found and found[1] else where
        what = _TOML_PLACE.sub("", str(error))[:200]
        raise PolicyError(f"a file of rules is no TOML: {what}", where=at) from error
    _check_depth(content, where)
    return content, {}


def _check_depth(content: Any, where: str) -> None:
    level = [content]
    for _ in range(MAX_DEPTH):
        inner = [one for one in level if isinstance(one, dict | list)]
        level = [part for one in inner for part in (one.values() if isinstance(one, dict) else one)]
    if level:
        raise PolicyError(
            "a file of rules is nested too deeply", where=where, expected=f"at most {MAX_DEPTH}"
        )


# --- YAML ---------------------------------------------------------------------------------------

_INT = re.compile(r"[-+]?[0-9]{1,20}\Z")
_FLOAT = re.compile(r"[-+]?[0-9]{1,20}(?:\.[0-9]{0,20})?(?:[eE][-+]?[0-9]{1,3})?\Z")
_NAMES = ("str", "int", "float", "bool", "null", "timestamp", "map", "seq")
_TAGS = frozenset(f"tag:yaml.org,2002:{name}" for name in _NAMES)


def _yaml(text: str, where: str) -> tuple[Any, dict[Path_, Place]]:
    try:
        import yaml  # noqa: PLC0415 - an optional extra, loaded where a file is in YAML
    except ImportError as error:
        raise PolicyError(
            "rules in YAML need the library pyyaml",
            where=where,
            hint="pip install 'isotrace[policy]', or use TOML",
        ) from error
    places: dict[Path_, Place] = {}
    try:
        _check_events(yaml, text, where)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except PolicyError:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = where if mark is None else f"{where}:{mark.line + 1}:{mark.column + 1}"
        raise PolicyError(
            f"a file of rules is no YAML: {error.problem or error.context}", where=at
        ) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        what = str(error).partition("\n")[0][:200]
        raise PolicyError(f"a file of rules is no YAML: {what}", where=where) from error
    return _value(root, (), places, where), places


def _check_events(yaml: Any, text: str, where: str) -> None:
    """Refuses what makes a document larger, or deeper, than it looks."""
    depth = documents = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        mark = event.start_mark
        at = f"{where}:{mark.line + 1}:{mark.column + 1}"
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise PolicyError("anchors and aliases have no place in a file of rules", where=at)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        documents += isinstance(event, yaml.DocumentStartEvent)
        if depth > MAX_DEPTH:
            raise PolicyError(
                "a file of rules is nested too deeply", where=at, expected=f"at most {MAX_DEPTH}"
            )
        if documents > 1:
            raise PolicyError("a file of rules is one document", where=at)


def _value(node: Any, path: Path_, places: dict[Path_, Place], where: str) -> Any:
    if node is None:
        return None
    mark = node.start_mark
    places[path] = (mark.line + 1, mark.column + 1)
    at = f"{where}:{mark.line + 1}:{mark.column + 1}"
    if node.tag not in _TAGS:
        raise PolicyError("a file of rules has no tags", where=at, got=str(node.tag)[:80])
    if node.id == "sequence":
        return [_value(one, (*path, index), places, where) for index, one in enumerate(node.value)]
    if node.id == "scalar":
        return node.value if node.style is not None else _scalar(node.value)
    found: dict[str, Any] = {}
    for key, value in node.value:
        line, column = key.start_mark.line + 1, key.start_mark.column + 1
        if key.id != "scalar":
            raise PolicyError("a key is a text", where=f"{where}:{line}:{column}")
        if key.value in found:
            raise PolicyError(
                "a key stands there twice", where=f"{where}:{line}:{column}", got=key.value[:80]
            )
        found[key.value] = _value(value, (*path, key.value), places, where)
    return found


def _scalar(text: str) -> Any:
    """A scalar without quotes: true and false, numbers in decimal, else text. YAML's other spellings (yes,
    on, 1:30, 0o17, dates) are texts, so that none is taken for what it was not meant to be."""
    if text in ("true", "false"):
        return text == "true"
    if text in ("", "null", "~"):
        return None
    if _INT.match(text):
        return int(text)
    return float(text) if _FLOAT.match(text) else text
