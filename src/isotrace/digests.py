"""Canonical bytes by compiled code: what sealing hashes of each step, in a fifth of the time.

`isotrace.canonical` says what canonical form is and needs nothing but the standard library. Most of
what a run holds can be written by orjson with the same result: JSON text without white space, the
shortest escapes, keys by code point. What it would write differently is either replaced before
(floats) or looked for (large integers, depth, keys whose order differs in UTF-16), and whatever is
found goes to `isotrace.canonical`, which also says what is wrong with it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec
import orjson

from isotrace import hashing
from isotrace.canonical import MAX_BYTES, MAX_DEPTH, MAX_NODES, canonical_bytes
from isotrace.canonical.fast import NotFast, float_form
from isotrace.minted import may_hold_provider_object, strip_volatile


def params_digest(data: bytes) -> str:
    """`hashing.params_digest` of the value that these value bytes are of. Raises the same errors."""
    return hashing.params_digest_of(_rounded_bytes(data))


def outcome_digest(data: bytes) -> str:
    """`hashing.outcome_digest` of the value that these value bytes are of. Raises the same errors."""
    if may_hold_provider_object(data):
        outcome = orjson.loads(data)
        stripped = strip_volatile(outcome)
        if stripped is not outcome:
            return hashing.outcome_digest_of(canonical_bytes(stripped, digits=hashing.DIGITS))
    return hashing.outcome_digest_of(_rounded_bytes(data))


def leaf_data(envelope: Mapping[str, Any]) -> bytes:
    """`hashing.leaf_data`. Raises the same errors."""
    body = dict(envelope)
    try:
        for key, value in envelope.items():
            if type(value) not in _WRITTEN_ALIKE:
                body[key] = _fact(value)
        text = orjson.dumps(body, option=_CANONICAL)
    except (NotFast, TypeError):
        pass
    else:
        if len(text) <= MAX_BYTES and _keys_sort_alike(text):
            return hashing.leaf_data_of(text)
    return hashing.leaf_data(dict(envelope))


# OPT_STRICT_INTEGER refuses what is beyond 2^53 − 1.
_CANONICAL = orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER
_exactly = float_form(None)
_rounded = float_form(hashing.DIGITS)


def _rounded_bytes(data: bytes) -> bytes:
    """`canonical_bytes` of these value bytes' value, with floats rounded as parity sees them."""
    containers = data.count(b"{") + data.count(b"[")
    # Each node but the first stands at the beginning of a container or after a comma.
    if len(data) < MAX_NODES or containers + data.count(b",") < MAX_NODES:
        try:
            value = _read(data)
            if containers <= MAX_DEPTH or not _is_too_deep(value):
                text = orjson.dumps(value, option=_CANONICAL)
                if len(text) <= MAX_BYTES and _keys_sort_alike(text):
                    return text
        except (NotFast, msgspec.MsgspecError, TypeError, ValueError, RecursionError):
            pass
    return canonical_bytes(orjson.loads(data), digits=hashing.DIGITS)


@lru_cache(maxsize=4096)
def _fragment(text: str) -> orjson.Fragment:
    """A float of JSON in canonical form, ready to be written. Floats of one run often recur."""
    return orjson.Fragment(_rounded(float(text)))


_read = msgspec.json.Decoder(float_hook=_fragment).decode


def _is_too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for node in level
            for child in (node.values() if type(node) is dict else node)
            if type(child) is dict or type(child) is list
        ]
        if not level:
            return False
    return True


_BEYOND_SURROGATES = re.compile(rb"[\xee\xef]")
_TWO_UNITS = re.compile(rb"[\xf0-\xf4]")


def _keys_sort_alike(text: bytes) -> bool:
    """Whether keys are surely in the order of UTF-16 code units (RFC 8785 section 3.2.3).

    Code points give the same one unless characters from U+10000 up, which take two units, are held
    against those from U+E000 to U+FFFF. In UTF-8 both are known by their first byte.
    """
    return text.isascii() or not (_TWO_UNITS.search(text) and _BEYOND_SURROGATES.search(text))


_WRITTEN_ALIKE = frozenset({str, int, bool, type(None)})


def _fact(value: Any) -> Any:
    """A number, lineage or commitment of an envelope as orjson writes it in canonical form.

    Raises `NotFast` for what is none.
    """
    kind = type(value)
    if kind is float:
        return _exact_fragment(value)
    if kind is not list and kind is not dict:
        raise NotFast
    for part in value.values() if kind is dict else value:
        if type(part) not in _WRITTEN_ALIKE:
            raise NotFast
    return value


# 0.0 and −0.0 are one key here, and one text in canonical form.
@lru_cache(maxsize=4096)
def _exact_fragment(value: float) -> orjson.Fragment:
    return orjson.Fragment(_exactly(value))
