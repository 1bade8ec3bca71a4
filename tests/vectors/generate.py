"""Writes the vector files beside it: `python tests/vectors/generate.py`.

The vectors are part of scheme `iso1`. If running this changes a file, the scheme has changed: that needs
a new scheme name, not a new file. A test holds the files against this code and against a second,
naive implementation that shares none of it.
"""

from __future__ import annotations

import json
import struct
from hashlib import sha256
from pathlib import Path
from typing import Any

from isotrace import hashing
from isotrace.canonical import canonical_bytes, parse_json, value_bytes
from isotrace.events import Event
from isotrace.ledger import envelope, seal
from isotrace.minted import strip_volatile

HERE = Path(__file__).parent

NUMBERS = """
0000000000000000 8000000000000000 0000000000000001 8000000000000001 7fefffffffffffff ffefffffffffffff
4340000000000000 c340000000000000 4430000000000000 44b52d02c7e14af5 44b52d02c7e14af6 44b52d02c7e14af7
444b1ae4d6e2ef4e 444b1ae4d6e2ef4f 444b1ae4d6e2ef50 3eb0c6f7a0b5ed8c 3eb0c6f7a0b5ed8d 41b3de4355555553
41b3de4355555554 41b3de4355555555 41b3de4355555556 41b3de4355555557 becbf647612f3696 43143ff3c1cb0959
3ff0000000000000 3fb999999999999a 3fd3333333333333 3fd3333333333334 4059000000000000 40c81cd6e631f8a1
3f1a36e2eb1c432d 3f1a36e2eb1c432c 3ee4f8b588e368f1 3e7ad7f29abcaf48 4341c37937e08000 430c6bf526340000
430c6bf526340001 433fffffffffffff 0010000000000000 000fffffffffffff 4415af1d78b58c40 3e45798ee2308c3a
""".split()  # noqa: SIM905  # they read best in columns

CANONICAL = {
    "empty object": "{}",
    "empty array": "[]",
    "white space goes, order of an array stays": '{ "b" : [ 3, 1, 2 ], "a" : { } }',
    "keys sort by UTF-16 code units: U+1F600 before U+FB33": '{"\\ufb33": 2, "\\ud83d\\ude00": 1}',
    "keys sort by UTF-16 code units, from the second character on": (
        '{"k\\ufb33": 2, "k\\ud83d\\ude00": 1, "k": 0}'
    ),
    "keys sort by code units, not by words": '{"a1": 1, "a10": 2, "a2": 3, "B": 4, "": 5, "ä": 6, "\\r": 7}',
    "escapes": (
        '{"text": "\\u0000\\u0007\\b\\t\\n\\u000b\\f\\r\\u001f'
        '\\u007f\\u0080\\"\\\\\\/<>&\'\\u2028\\ud83d\\ude00"}'
    ),
    "characters stand as they are": '["€", "é", "e\\u0301", "日本", "\\ufeff"]',
    "numbers": "[1, 1.0, 1e0, 100, 1E2, -0.0, 0.1, 1e21, 1e20, 1e-6, 1e-7, 4.50, 2e-3, 0.0000000000000001]",
    "integers to the edge": "[9007199254740991, -9007199254740991]",
    "literals": '{"t": true, "f": false, "n": null}',
    "nested": '{"z": [{"y": [[], {}, [{"x": null}]]}], "a": "b"}',
}

NORMALIZED = {
    "six places": "[1.23456749, 1.2345675, 0.1, 100.0, -2.71828182845]",
    "half to even on the exact binary value": "[0.0078125, 0.0234375, 0.0000005, 0.0000015, 0.5000005]",
    "negative zero": '{"a": -0.0, "b": -0.0000001}',
    "small values collapse": "[1e-7, 4.9e-7, 5.1e-7, 1e-300]",
    "small values that stay": "[0.000001, 0.000012, 0.00012]",
    "large values stay": "[123456789.123456789, 1234567890.1234567, 99999999999.1, 1e15, 1e22, 1e308]",
    "only floats": '{"n": 1, "t": true, "s": "1.23456789", "deep": [{"x": [1.00000049, null]}]}',
}

REJECTED = {
    "a key twice": ('{"a": 1, "b": {"c": 1, "c": 2}}', "DuplicateKeyError", "/b/c"),
    "not a number": ('{"a": [NaN]}', "NonFiniteError", "/a/0"),
    "infinity": ("[-Infinity]", "NonFiniteError", "/0"),
    "a number beyond any float": ('{"a": 1e400}', "NonFiniteError", "/a"),
    "an integer beyond 2^53 - 1": ('{"id": [9007199254740992]}', "IntegerRangeError", "/id/0"),
    "a lone surrogate in a value": ('["ok", "\\ud800"]', "InvalidUnicodeError", "/1"),
    "a lone surrogate in a key": ('{"a": {"\\udc00": 1}}', "InvalidUnicodeError", "/a/\\udc00"),
    "cut short": ('{"a": ', "JsonSyntaxError", None),
    "two values": ("{} {}", "JsonSyntaxError", None),
    "a trailing comma": ("[1,]", "JsonSyntaxError", None),
    "a byte order mark": ("\ufeff{}", "JsonSyntaxError", None),
    "nothing": ("", "JsonSyntaxError", None),
    "too deep": ("[" * 129 + "]" * 129, "LimitError", "/0" * 128),
}

STEPS: list[dict[str, Any]] = [
    {
        "skill_name": "search_flights",
        "params": '{"to": "Rome", "from": "Paris", "max_price": 120.0000004, "stops": [0, 1]}',
        "status": "success",
        "outcome_category": "SUCCESS",
        "outcome_code": None,
        "retry_count": 0,
    },
    {
        "skill_name": "llm",
        "params": '{"model": "m", "messages": [{"role": "user", "content": "Größe? 😀"}], "top_p": 0.7}',
        "status": "success",
        "outcome_category": "SUCCESS",
        "outcome_code": None,
        "retry_count": 1,
    },
    {
        "skill_name": 'book "it"\n→',
        "params": "{}",
        "status": "failure",
        "outcome_category": "TRANSIENT",
        "outcome_code": "TimeoutError",
        "retry_count": 2,
    },
    {
        "skill_name": "refund",
        "params": '{"order": {"$iso:id": "0.1#0"}}',
        "status": "skipped",
        "outcome_category": "POLICY",
        "outcome_code": "no-refunds",
        "retry_count": 0,
    },
]

OUTCOMES = [
    "{}",
    '{"value": null}',
    '{"value": 20.0}',
    '{"rows": [{"price": 9.9999999, "name": "a"}], "ok": true}',
    # A provider's own ids and times are no behaviour; the words are.
    (
        '{"id": "chatcmpl-9Xk2", "object": "chat.completion", "created": 1700000000, "model": "m", '
        '"choices": [{"index": 0, "finish_reason": "tool_calls", "message": '
        '{"role": "assistant", "content": null, '
        '"tool_calls": [{"id": "call_a1B2c3", "type": "function", '
        '"function": {"name": "get", "arguments": "{}"}}]}}]}'
    ),
]

LINEAGES: list[list[int | str]] = [[0], [0, "eu", 1], [12, 0]]

SEED = bytes(range(32))

VALUES = [
    (0, "plan", "[]"),
    (1, "params", '{"z":1,"a":20.0}'),
    (2, "outcome_data", '{"value":"Größe 😀"}'),
    (2**40, "chunk", '""'),
]


def numbers() -> list[dict[str, str]]:
    """IEEE 754 doubles as 16 hex digits (big-endian), and how they are written."""
    return [
        {"ieee": digits, "text": canonical_bytes(struct.unpack(">d", bytes.fromhex(digits))[0]).decode()}
        for digits in NUMBERS
    ]


def canonical() -> list[dict[str, str]]:
    """A JSON text, its canonical text and value bytes, and the canonical bytes' SHA-256."""
    found = []
    for name, text in CANONICAL.items():
        value = parse_json(text)
        data = canonical_bytes(value)
        found.append(
            {
                "name": name,
                "input": text,
                "canonical": data.decode(),
                "sha256": sha256(data).hexdigest(),
                "value_bytes": value_bytes(value).decode(),
            }
        )
    return found


def normalization() -> list[dict[str, Any]]:
    """A JSON text, the canonical text of its normalised value, and where a float was changed."""
    return [
        {
            "name": name,
            "input": text,
            "canonical": canonical_bytes(hashing.normalize(parse_json(text))).decode(),
            "rounded": [one.pointer for one in hashing.explain_normalization(parse_json(text))],
        }
        for name, text in NORMALIZED.items()
    ]


def parity() -> dict[str, Any]:
    """Steps with their hashes, the paths after 0, 1, 2, … of them, and digests of outcomes."""
    steps = []
    path = hashing.path_start()
    paths = [path.hex()]
    for step in STEPS:
        digest = hashing.params_digest(parse_json(step["params"]))
        facts = {key: value for key, value in step.items() if key != "params"}
        step_hash = hashing.step_hash(params_digest=digest, **facts)
        steps.append({**step, "params_digest": digest, "determinism_hash": step_hash})
        path = hashing.path_next(path, bytes.fromhex(step_hash))
        paths.append(path.hex())
    return {
        "steps": steps,
        "paths": paths,
        "signature": hashing.signature(step["determinism_hash"] for step in steps),
        "outcomes": [
            {
                "outcome_data": text,
                "hashed": canonical_bytes(strip_volatile(parse_json(text)), digits=6).decode(),
                "outcome_digest": hashing.outcome_digest(parse_json(text)),
            }
            for text in OUTCOMES
        ],
    }


def integrity() -> dict[str, Any]:
    """Salts and commitments, Merkle roots of 0 to 8 leaves, and every inclusion proof of them."""
    commitments = []
    for seq, name, text in VALUES:
        salt = hashing.salt(SEED, seq, name)
        commitments.append(
            {
                "seq": seq,
                "name": name,
                "value": text,
                "salt": salt.hex(),
                "commit": hashing.commitment(salt, text.encode()).hex(),
            }
        )
    leaves = [bytes([index]) * index for index in range(8)]
    trees = [
        {
            "size": size,
            "root": hashing.merkle_root(leaves[:size]).hex(),
            "proofs": [
                [node.hex() for node in hashing.inclusion_proof(leaves[:size], index)]
                for index in range(size)
            ],
        }
        for size in range(len(leaves) + 1)
    ]
    return {
        "seed": SEED.hex(),
        "commitments": commitments,
        "leaves": [leaf.hex() for leaf in leaves],
        "trees": trees,
    }


def identity() -> dict[str, Any]:
    """Ids of imported runs and idempotency keys."""
    digest = sha256(b"a source run").hexdigest()
    params = hashing.params_digest({"order": 7})
    return {
        "imports": [
            {
                "format": name,
                "tenant": tenant,
                "source_digest": digest,
                "run_id": hashing.import_run_id(name, tenant, digest),
            }
            for name, tenant in (("jsonl", "default"), ("tau-bench", "acme"), ("tau-bench", 'ac"me'))
        ],
        "idempotency": [
            {
                "tenant": "acme",
                "origin_run_id": "r-1",
                "lineage": lineage,
                "params_digest": params,
                "key": hashing.idempotency_key("acme", "r-1", lineage, params),
            }
            for lineage in LINEAGES
        ],
    }


def run() -> dict[str, Any]:
    """A whole run: its values, the envelopes and leaf hashes of its events, root and signature."""
    start = 1_700_000_000_000_000
    step: dict[str, Any] = {"lineage": [0]}
    events = [
        Event(
            0,
            "run_started",
            start,
            {
                "scheme": hashing.SCHEME,
                "run_id": "run-1",
                "origin_run_id": "run-1",
                "correlation_id": "corr-1",
                "tenant_id": "acme",
                "agent_id": None,
                "seed": 7,
                "frozen_timestamp": None,
            },
            {"plan": b"[]", "input": b'"Book it"', "metadata": b"{}"},
        ),
        Event(
            1,
            "step_started",
            start + 10,
            {**step, "kind": "tool", "skill_name": "book", "effect": "write"},
            {"params": '{"city":"Zürich","price":20.0}'.encode()},
        ),
        Event(
            2,
            "step_finished",
            start + 2010,
            {
                **step,
                "status": "success",
                "outcome_category": "SUCCESS",
                "outcome_code": None,
                "cost_cents": 0.25,
                "duration_ms": 2.0,
                "retry_count": 0,
            },
            {"outcome_data": b'{"value":{"z":1,"a":[2.50]}}'},
        ),
        Event(
            3, "run_finished", start + 3000, {"status": "completed", "step_count": 1}, {"result": b'"done"'}
        ),
    ]
    sealed = seal(events, SEED)
    return {
        "seed": SEED.hex(),
        "events": [
            {
                "envelope": (body := envelope(event, sealed.ledger)),
                "values": {
                    name: {"salt": sealed.ledger.salt_of(event.seq, name).hex(), "json": data.decode()}
                    for name, data in event.values.items()
                    if isinstance(data, bytes)
                },
                "leaf_data": hashing.leaf_data(body).hex(),
                "leaf_hash": hashing.leaf_hash(hashing.leaf_data(body)).hex(),
            }
            for event in sealed.ledger.events
        ],
        "root_hash": sealed.ledger.root_hash,
        "signature": sealed.projection.signature,
    }


def vectors() -> dict[str, Any]:
    """The content of each file, by name."""
    return {
        "numbers.json": numbers(),
        "canonical.json": canonical(),
        "normalization.json": normalization(),
        "rejected.json": [
            {"name": name, "input": text, "error": error, "pointer": pointer}
            for name, (text, error, pointer) in REJECTED.items()
        ],
        "parity.json": parity(),
        "integrity.json": integrity(),
        "identity.json": identity(),
        "run.json": run(),
    }


def text_of(content: Any) -> str:
    """A vector file's text: ASCII, so that no editor or mail can change it."""
    return json.dumps(content, indent=2) + "\n"


if __name__ == "__main__":
    for name, content in vectors().items():
        (HERE / name).write_text(text_of(content), encoding="ascii")
