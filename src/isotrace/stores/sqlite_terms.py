"""What a run can be found by, as rows of one inverted index.

Each equality that `RunQuery` knows is a *term*: a field and a value. `terms` lists the runs of each
term in the order of recording, so every filter, and every combination of filters, is answered by
the same index, and a new one needs no migration.
"""

from __future__ import annotations

import hashlib
import math
import re
from enum import IntEnum
from typing import Any, NamedTuple

from isotrace.canonical import MAX_INT, value_bytes
from isotrace.contracts import RunQuery, Scalar
from isotrace.ledger import SealedRun


class Field(IntEnum):
    """The fields of terms. Their numbers stand in files: none is ever used again."""

    AGENT = 1
    STATUS = 2
    CORRELATION = 3
    SKILL = 4
    SIGNATURE = 5
    ROOT = 6
    POLICY = 7
    VIOLATED = 8
    METADATA = 9


class Term(NamedTuple):
    """A field, and a value as SQLite keeps it."""

    field: int
    value: str | bytes | int


_LONGEST = 96
# RFC 8259, section 6.
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_LITERALS = frozenset(("true", "false", "null"))


def terms_of(run: SealedRun) -> set[Term]:
    """Everything that this run can be found by."""
    projection, summary = run.projection, run.projection.summary
    policies = {event.facts["policy_id"] for event in run.ledger.events if event.type == "violation"}
    terms = {
        Term(Field.STATUS, summary.status),
        Term(Field.CORRELATION, _short(summary.correlation_id)),
        Term(Field.ROOT, bytes.fromhex(run.ledger.root_hash)),
        Term(Field.VIOLATED, int(bool(policies))),
        *(Term(Field.SKILL, _short(skill)) for skill in {row.skill_name for row in projection.steps}),
        *(Term(Field.POLICY, _short(policy)) for policy in policies),
    }
    if summary.agent_id is not None:
        terms.add(Term(Field.AGENT, _short(summary.agent_id)))
    if projection.signature is not None:
        terms.add(Term(Field.SIGNATURE, bytes.fromhex(projection.signature)))
    for key, value in projection.metadata.items():
        terms.update(_metadata_terms(key, value))
    return terms


def terms_asked(query: RunQuery) -> list[list[Term]]:
    """For each equality that the query asks for, the terms of which a run must have one."""
    asked: list[list[Term]] = []
    if query.agent_id is not None:
        asked.append([Term(Field.AGENT, _short(query.agent_id))])
    if query.status is not None:
        asked.append([Term(Field.STATUS, query.status)])
    if query.correlation_id is not None:
        asked.append([Term(Field.CORRELATION, _short(query.correlation_id))])
    if query.skill is not None:
        asked.append([Term(Field.SKILL, _short(query.skill))])
    if query.signature is not None:
        asked.append([Term(Field.SIGNATURE, bytes.fromhex(query.signature))])
    if query.root_hash is not None:
        asked.append([Term(Field.ROOT, bytes.fromhex(query.root_hash))])
    if isinstance(query.violation, bool):
        asked.append([Term(Field.VIOLATED, int(query.violation))])
    elif query.violation is not None:
        asked.append([Term(Field.POLICY, _short(query.violation))])
    asked.extend(_metadata_asked(key, value) for key, value in query.metadata.items())
    return asked


def _short(text: str) -> str | bytes:
    """The text, or its digest where it is long: an index entry must fit a page several times."""
    data = text.encode()
    return text if len(data) <= _LONGEST else hashlib.sha256(data).digest()


# A metadata value is found by itself ("is"), and a string also by the number, bool or null that it
# reads like ("reads"), so that 13 and "13" find each other while "1.10" and "1.1" do not.


def _metadata_terms(key: str, value: Any) -> list[Term]:
    if isinstance(value, str):
        read = _read(value)
        spelled = [] if read is None else [_metadata_term(key, "reads", read)]
        return [_metadata_term(key, "text", value), *spelled]
    if isinstance(value, bool | int | float | None):
        return [_metadata_term(key, "is", _spelling(value))]
    return []


def _metadata_asked(key: str, value: Scalar) -> list[Term]:
    if isinstance(value, str):
        read = _read(value)
        spelled = [] if read is None else [_metadata_term(key, "is", read)]
        return [_metadata_term(key, "text", value), *spelled]
    spelling = _spelling(value)
    return [_metadata_term(key, "is", spelling), _metadata_term(key, "reads", spelling)]


def _metadata_term(key: str, how: str, text: str) -> Term:
    return Term(Field.METADATA, _short(value_bytes([key, how, text]).decode()))


def _spelling(value: bool | float | None) -> str:
    """One text for equal values: `1` and `1.0` are one number."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) <= MAX_INT:
        value = int(value)
    return repr(value)


def _read(text: str) -> str | None:
    """The spelling of what a string reads like in JSON, None for plain words."""
    if text in _LITERALS:
        return text
    if not _NUMBER.fullmatch(text):
        return None
    number = float(text)
    return _spelling(number) if math.isfinite(number) else None
