"""Scheme `iso1`: the hashes of steps, paths, values and records.

Two families that are never derived from each other. *Parity* asks whether two runs took the same
path: it sees skill, params, status, category, code and retries, with floats rounded, and neither
times nor outcomes. *Integrity* asks whether a record is what was recorded: it sees every byte.

A scheme has no options. Whoever changes a rule here makes a new scheme with a new name.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import sha256
from json.encoder import encode_basestring as _quoted
from typing import Any, Final, NamedTuple

from isotrace.canonical import MAX_DEPTH, MAX_INT, MAX_NODES, canonical_bytes, pointer_to
from isotrace.errors import CycleError, LimitError
from isotrace.minted import strip_volatile

SCHEME: Final = "iso1"
DIGITS: Final = 6
"""Decimal places that parity keeps of a float."""

_PARAMS = b"isotrace/v1/params\0"
_OUTCOME = b"isotrace/v1/outcome\0"
_STEP = b"isotrace/v1/step\0"
_PATH = b"isotrace/v1/path\0"
_SALT = b"isotrace/v1/salt\0"
_COMMITMENT = b"isotrace/v1/commitment\0"
_EVENT = b"isotrace/v1/event\0"


def H(label: str, *parts: bytes) -> bytes:  # noqa: N802  # the name that the scheme gives it
    """SHA-256 over the ASCII label, a NUL and the parts: 32 bytes.

    All parts but the last must have a length fixed by the label, or two lists of parts could
    meet in one hash. Raises `ValueError` for a label that is not ASCII or holds a NUL.
    """
    name = label.encode("ascii")
    if b"\0" in name:
        raise ValueError("a label holds no NUL")
    return sha256(b"".join((name, b"\0", *parts))).digest()


# --- normalisation ------------------------------------------------------------------


class Rounded(NamedTuple):
    """A float that parity sees as another one."""

    pointer: str
    before: float
    after: float


def normalize(value: Any) -> Any:
    """The value with every float rounded to 6 places (half to even on its exact binary value).

    Dicts, lists and tuples are copied, other values stay as they are. Idempotent. Raises
    `CycleError` or `LimitError` where the value is not a tree within the limits of `canonical`.
    """
    return _Normalization().of(value)


def explain_normalization(value: Any) -> list[Rounded]:
    """What `normalize` takes away, in the value's own order. Raises the same errors."""
    walk = _Normalization()
    walk.of(value)
    return walk.rounded


class _Normalization:
    """One walk through a value. Bounded before it descends, so at most 128 calls deep."""

    def __init__(self) -> None:
        self.rounded: list[Rounded] = []
        self.path: list[Any] = []
        self.enclosing: set[int] = set()
        self.nodes = MAX_NODES

    def of(self, value: Any) -> Any:
        if isinstance(value, float):
            return self._float(value)
        if isinstance(value, dict | list) or type(value) is tuple:
            return self._container(value)
        return value

    def _float(self, value: float) -> float:
        before = float(value)
        # Adding 0.0 turns −0.0 into 0.0 and changes nothing else.
        after = round(before, DIGITS) + 0.0
        if after != before or repr(after) != repr(before):
            self.rounded.append(Rounded(pointer_to(self.path), before, after))
        return after

    def _container(self, value: Any) -> Any:
        if id(value) in self.enclosing:
            raise CycleError("a container holds itself", pointer=pointer_to(self.path))
        self.nodes -= len(value)
        if len(self.path) >= MAX_DEPTH or self.nodes <= 0:
            raise LimitError(
                "a value is nested too deeply or too large",
                pointer=pointer_to(self.path),
                expected=f"at most {MAX_DEPTH} levels and {MAX_NODES} nodes",
            )
        self.enclosing.add(id(value))
        self.path.append(None)
        is_dict = isinstance(value, dict)
        items = []
        for key, child in value.items() if is_dict else enumerate(value):
            self.path[-1] = key
            items.append((key, self.of(child)))
        self.path.pop()
        self.enclosing.discard(id(value))
        if is_dict:
            return dict(items)
        children = [child for _, child in items]
        return tuple(children) if isinstance(value, tuple) else children


# --- parity -------------------------------------------------------------------------


def params_digest(params: Any) -> str:
    """64 hex digits of a step's normalised params. Raises as `canonical_bytes` does."""
    return params_digest_of(canonical_bytes(params, digits=DIGITS))


def outcome_digest(outcome: Any) -> str:
    """64 hex digits of a step's normalised outcome, without the fields that providers mint afresh.

    Raises as `canonical_bytes` does.
    """
    return outcome_digest_of(canonical_bytes(strip_volatile(outcome), digits=DIGITS))


def params_digest_of(canonical: bytes) -> str:
    """The digest of params whose canonical bytes, with floats rounded, somebody wrote already."""
    return sha256(_PARAMS + canonical).hexdigest()


def outcome_digest_of(canonical: bytes) -> str:
    """The digest of an outcome that is stripped of what is volatile, and written already."""
    return sha256(_OUTCOME + canonical).hexdigest()


def step_hash(
    *,
    skill_name: str,
    params_digest: str,
    status: str,
    outcome_category: str,
    outcome_code: str | None,
    retry_count: int,
) -> str:
    """64 hex digits of what a step did: its determinism hash. Its place in the run is not in it.

    Raises as `canonical_bytes` does.
    """
    if type(retry_count) is int and -MAX_INT <= retry_count <= MAX_INT:
        # The canonical form of exactly these keys, written out: a fifth of the general writer's cost.
        before, after = _around_digest(skill_name, status, outcome_category, outcome_code, retry_count)
        try:
            return sha256((before + _quoted(params_digest) + after).encode()).hexdigest()
        except UnicodeEncodeError:
            pass
    body = {
        "outcome_category": outcome_category,
        "outcome_code": outcome_code,
        "params_digest": params_digest,
        "retry_count": retry_count,
        "skill_name": skill_name,
        "status": status,
    }
    return sha256(_STEP + canonical_bytes(body)).hexdigest()


# Steps that differ in their params alone come again and again.
@lru_cache(maxsize=512)
def _around_digest(skill: str, status: str, category: str, code: str | None, retries: int) -> tuple[str, str]:
    """What stands before and after the params' digest in what a step's hash is taken of."""
    text = "null" if code is None else _quoted(code)
    return (
        f'{_STEP.decode()}{{"outcome_category":{_quoted(category)},"outcome_code":{text},"params_digest":',
        f',"retry_count":{retries},"skill_name":{_quoted(skill)},"status":{_quoted(status)}}}',
    )


def path_start() -> bytes:
    """The path of a run without steps: 32 bytes."""
    return _PATH_START


_PATH_START: Final = sha256(_PATH).digest()


def path_next(path: bytes, digest: bytes) -> bytes:
    """The path after one more step, whose determinism hash is `digest`: 32 bytes."""
    return sha256(_PATH + path + digest).digest()


def signature(digests: Iterable[str]) -> str:
    """64 hex digits: the path's end over the steps' determinism hashes, in order."""
    path = _PATH_START
    for digest in digests:
        path = path_next(path, bytes.fromhex(digest))
    return path.hex()


# --- integrity ----------------------------------------------------------------------


# HMAC (RFC 2104) over SHA-256, whose block is 64 bytes. `hmac.digest` takes half as long again.
_INNER = bytes(byte ^ 0x36 for byte in range(256))
_OUTER = bytes(byte ^ 0x5C for byte in range(256))


def _hmac(key: bytes, message: bytes) -> bytes:
    if len(key) > 64:
        return hmac.digest(key, message, "sha256")
    block = key.ljust(64, b"\0")
    inner = sha256(block.translate(_INNER) + message).digest()
    return sha256(block.translate(_OUTER) + inner).digest()


def salt(seed: bytes, seq: int, name: str) -> bytes:
    """The 32-byte salt of the value `name` of event `seq`, from the 32-byte run seed."""
    return _hmac(seed, _SALT + seq.to_bytes(8, "big") + name.encode())


def commitment(salt: bytes, data: bytes) -> bytes:
    """32 bytes that stand for value bytes, and that say nothing of them without the salt."""
    return _hmac(salt, _COMMITMENT + sha256(data).digest())


def leaf_data(envelope: dict[str, Any]) -> bytes:
    """What the Merkle tree hashes of an event: a label and the canonical bytes of its envelope.

    Raises as `canonical_bytes` does.
    """
    return leaf_data_of(canonical_bytes(envelope))


def leaf_data_of(canonical: bytes) -> bytes:
    """The leaf data of an event whose envelope's canonical bytes somebody wrote already."""
    return _EVENT + canonical


def leaf_hash(data: bytes) -> bytes:
    """A leaf of the tree (RFC 6962 section 2.1): 32 bytes."""
    return sha256(b"\0" + data).digest()


def _node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\1" + left + right).digest()


def _parents(level: list[bytes]) -> list[bytes]:
    parents = [_node_hash(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
    # An odd one out moves up as it is: the same tree as splitting at the largest power of two.
    return [*parents, level[-1]] if len(level) % 2 else parents


def merkle_root(leaf_datas: Iterable[bytes]) -> bytes:
    """MTH of RFC 6962 section 2.1 over the leaf data, by `seq`: 32 bytes."""
    level = [leaf_hash(data) for data in leaf_datas]
    if not level:
        return sha256(b"").digest()
    while len(level) > 1:
        level = _parents(level)
    return level[0]


def inclusion_proof(leaf_datas: Sequence[bytes], index: int) -> list[bytes]:
    """The nodes that lead from leaf `index` to the root (RFC 9162 section 2.1.3.1), nearest first.

    Raises `IndexError` beyond the leaves.
    """
    if not 0 <= index < len(leaf_datas):
        raise IndexError(f"leaf {index} of a tree of {len(leaf_datas)}")
    level = [leaf_hash(data) for data in leaf_datas]
    proof: list[bytes] = []
    while len(level) > 1:
        sibling = index ^ 1
        if sibling < len(level):
            proof.append(level[sibling])
        level = _parents(level)
        index //= 2
    return proof


def verify_inclusion(leaf_data: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Whether `path` leads from the leaf to the root of `size` leaves (RFC 9162 section 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    place, last = index, size - 1
    node = leaf_hash(leaf_data)
    for sibling in path:
        if last == 0:
            return False
        if place & 1 or place == last:
            node = _node_hash(sibling, node)
            while not place & 1 and place:
                place >>= 1
                last >>= 1
        else:
            node = _node_hash(node, sibling)
        place >>= 1
        last >>= 1
    return last == 0 and hmac.compare_digest(node, root)


# --- identity -----------------------------------------------------------------------


def idempotency_key(tenant: str, origin_run_id: str, lineage: Iterable[int | str], params_digest: str) -> str:
    """64 hex digits under which one logical call may be made at most once, in a run and its replays."""
    parts = [tenant, origin_run_id, list(lineage), params_digest]
    return H("isotrace/v1/idempotency", canonical_bytes(parts)).hex()


def import_run_id(format: str, tenant: str, source_digest: str) -> str:  # noqa: A002  # its word for it
    """The run id of an imported run: the same source gives the same id. 64 hex digits."""
    return H("isotrace/v1/import", canonical_bytes([format, tenant, source_digest])).hex()
