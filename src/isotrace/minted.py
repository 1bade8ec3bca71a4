"""Ids that a model's provider mints afresh in every run, and fields that say nothing about behaviour.

A `tool_call_id` differs between two runs that took the same path, so hashes must not see it.
Before hashing, an id becomes a reference to who minted it: `{"$iso:id": "0.2#1"}` is the second
id in the outcome of the step with lineage 0.2. Ids that no step of the run minted stay.

The table below is part of scheme `iso1`: a change to it is a new scheme. Paths name fields by
dots, `*` stands for every element of a list.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

_Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Provider:
    """How one provider's outcomes are recognised, where ids stand in them, and what is volatile."""

    name: str
    fits: Callable[[Mapping[str, Any]], bool]
    minted: tuple[_Path, ...]
    volatile: tuple[_Path, ...]


def _paths(text: str, *prefixes: str) -> tuple[_Path, ...]:
    return tuple(tuple((prefix + path).split(".")) for prefix in prefixes or ("",) for path in text.split())


def _is_openai_chat(node: Mapping[str, Any]) -> bool:
    choices = node.get("choices")
    return isinstance(choices, list) and any(
        isinstance(choice, dict) and ("message" in choice or "delta" in choice) for choice in choices
    )


def _is_openai_message(node: Mapping[str, Any]) -> bool:
    return node.get("role") == "assistant" and isinstance(node.get("tool_calls"), list)


def _is_openai_response(node: Mapping[str, Any]) -> bool:
    return node.get("object") == "response" and isinstance(node.get("output"), list)


def _is_openai_event(node: Mapping[str, Any]) -> bool:
    kind = node.get("type")
    return isinstance(kind, str) and kind.startswith("response.")


def _is_anthropic_message(node: Mapping[str, Any]) -> bool:
    return (
        node.get("type") == "message"
        and node.get("role") == "assistant"
        and isinstance(node.get("content"), list)
    )


_ANTHROPIC_EVENTS = frozenset(
    {"message_start", "message_delta", "content_block_start", "content_block_delta"}
)


def _is_anthropic_event(node: Mapping[str, Any]) -> bool:
    kind = node.get("type")
    return isinstance(kind, str) and kind in _ANTHROPIC_EVENTS


_GOOGLE_CANDIDATE = frozenset({"content", "finishReason", "finish_reason"})


def _is_google(node: Mapping[str, Any]) -> bool:
    candidates = node.get("candidates")
    return isinstance(candidates, list) and any(
        isinstance(candidate, dict) and not _GOOGLE_CANDIDATE.isdisjoint(candidate)
        for candidate in candidates
    )


def _is_mistral_conversation(node: Mapping[str, Any]) -> bool:
    return node.get("object") == "conversation.response" and isinstance(node.get("outputs"), list)


_OPENAI_OUTPUT = "id call_id approval_request_id"
_OPENAI_OUTPUT_VOLATILE = "encrypted_content"
_OPENAI_RESPONSE_VOLATILE = "created_at completed_at usage service_tier previous_response_id"
_ANTHROPIC_BLOCK = "id tool_use_id"
_ANTHROPIC_BLOCK_VOLATILE = "signature data content.*.encrypted_content citations.*.encrypted_index"

PROVIDERS: Final[tuple[Provider, ...]] = (
    Provider(
        # Also Mistral's, DeepSeek's and other servers' that speak this protocol, whole or as stream chunks.
        "openai chat",
        _is_openai_chat,
        minted=_paths("id") + _paths("tool_calls.*.id audio.id", "choices.*.message.", "choices.*.delta."),
        volatile=_paths("created system_fingerprint service_tier usage _request_id")
        + _paths("audio.expires_at", "choices.*.message.", "choices.*.delta.")
        + _paths("obfuscation"),
    ),
    Provider("openai message", _is_openai_message, minted=_paths("tool_calls.*.id"), volatile=()),
    Provider(
        "openai responses",
        _is_openai_response,
        minted=_paths("id") + _paths(_OPENAI_OUTPUT, "output.*."),
        volatile=_paths(_OPENAI_RESPONSE_VOLATILE) + _paths(_OPENAI_OUTPUT_VOLATILE, "output.*."),
    ),
    Provider(
        "openai responses stream",
        _is_openai_event,
        minted=_paths("response.id item_id call_id") + _paths(_OPENAI_OUTPUT, "item.", "response.output.*."),
        volatile=_paths("obfuscation")
        + _paths(_OPENAI_RESPONSE_VOLATILE, "response.")
        + _paths(_OPENAI_OUTPUT_VOLATILE, "item.", "response.output.*."),
    ),
    Provider(
        "anthropic messages",
        _is_anthropic_message,
        minted=_paths("id container.id") + _paths(_ANTHROPIC_BLOCK, "content.*."),
        volatile=_paths("usage container.expires_at _request_id")
        + _paths(_ANTHROPIC_BLOCK_VOLATILE, "content.*."),
    ),
    Provider(
        "anthropic messages stream",
        _is_anthropic_event,
        minted=_paths("message.id") + _paths(_ANTHROPIC_BLOCK, "content_block."),
        volatile=_paths("message.usage usage delta.signature")
        + _paths(_ANTHROPIC_BLOCK_VOLATILE, "content_block."),
    ),
    Provider(
        "google genai",
        _is_google,
        minted=_paths("responseId response_id")
        + _paths("functionCall.id function_call.id", "candidates.*.content.parts.*."),
        volatile=_paths(
            "createTime create_time usageMetadata usage_metadata sdkHttpResponse sdk_http_response"
        )
        + _paths("thoughtSignature thought_signature", "candidates.*.content.parts.*."),
    ),
    Provider(
        "mistral conversations",
        _is_mistral_conversation,
        minted=_paths("conversation_id") + _paths("id tool_call_id", "outputs.*."),
        volatile=_paths("usage") + _paths("created_at completed_at", "outputs.*."),
    ),
)

# A provider's object may be wrapped: {"value": …}, {"chunks": […]}, a message with the raw response in it.
_SEARCH_DEPTH = 6
_MARKERS = frozenset({"choices", "tool_calls", "output", "outputs", "candidates", "type"})

ID_TAG: Final = "$iso:id"
_PAIRS_TAG = "$iso:dict"
_PREFIX = "$iso:"
_MIN_ID, _MAX_ID = 6, 256
# Within a longer text only what no word would be by chance is taken for an id.
_MIN_EMBEDDED = 9
_TOKEN = re.compile(r"[A-Za-z0-9_-]{9,}")
_HEAD = re.compile(r"[A-Za-z0-9]{1,11}[_-]")
_MAX_HEADS = 12
_OPEN = "$iso:id("
_ESCAPED_OPEN = "$iso:id(!)"
_REFERENCE = re.compile(r"\$iso:id\(([^()]*)\)")
_UNSAFE = re.compile(r"[()%\"\\\x00-\x1f]")


def _provider_of(node: Mapping[str, Any]) -> Provider | None:
    if _MARKERS.isdisjoint(node):
        return None
    for provider in PROVIDERS:
        if provider.fits(node):
            return provider
    return None


def _found(node: Any, depth: int = _SEARCH_DEPTH) -> Iterator[tuple[Provider, dict[str, Any]]]:
    """The outermost provider objects in a value, in document order."""
    if isinstance(node, dict):
        provider = _provider_of(node)
        if provider is not None:
            yield provider, node
            return
        children: Any = node.values()
    elif isinstance(node, list | tuple):
        children = node
    else:
        return
    if depth > 0:
        for child in children:
            if isinstance(child, dict | list | tuple):
                yield from _found(child, depth - 1)


def _at(node: Any, path: _Path, at: int = 0) -> Iterator[tuple[dict[str, Any], str]]:
    """The dicts that hold the last part of a path, with that part."""
    part = path[at]
    if part == "*":
        if isinstance(node, list):
            for child in node:
                yield from _at(child, path, at + 1)
    elif isinstance(node, dict) and part in node:
        if at == len(path) - 1:
            yield node, part
        else:
            yield from _at(node[part], path, at + 1)


def _minted_ids(outcome: Any) -> list[str]:
    """The ids that an outcome mints, each once, in the order of the table and then of the document."""
    ids: dict[str, None] = {}
    for provider, node in _found(outcome):
        for path in provider.minted:
            for holder, name in _at(node, path):
                text = holder[name]
                if isinstance(text, str) and text and not _is_name(text, holder):
                    ids.setdefault(text)
    return list(ids)


def _is_name(text: str, call: Mapping[str, Any]) -> bool:
    # Some servers that mint no ids for calls put the function's name there.
    function = call.get("function")
    return text == call.get("name") or (isinstance(function, dict) and text == function.get("name"))


def strip_volatile(outcome: Any) -> Any:
    """The outcome as its digest sees it: minted ids numbered, volatile fields left out.

    What no provider of the table made comes back as it is, and the argument is never changed.
    """
    if not _holds_provider_object(outcome):
        return outcome
    numbers = {text: number for number, text in enumerate(_minted_ids(outcome))}
    return _stripped(outcome, numbers, _SEARCH_DEPTH)


def _holds_provider_object(outcome: Any) -> bool:
    """Whether `_found` would find anything. A plain loop: every step has an outcome, most hold nothing."""
    level = [outcome]
    for _ in range(_SEARCH_DEPTH + 1):
        deeper: list[Any] = []
        for node in level:
            if isinstance(node, dict):
                if not _MARKERS.isdisjoint(node) and _provider_of(node) is not None:
                    return True
                deeper += [child for child in node.values() if type(child) not in _SCALARS]
            elif isinstance(node, list | tuple):
                deeper += [child for child in node if type(child) not in _SCALARS]
        if not deeper:
            return False
        level = deeper
    return False


def may_hold_provider_object(data: bytes) -> bool:
    """Whether value bytes can hold what `strip_volatile` would change: False saves the reading of them."""
    # A marker that is written with escapes does not look like itself.
    if b"\\" in data and b"\\u" in data:
        return True
    for marker in _MARKERS_IN_JSON:  # noqa: SIM110  # `any` with a generator takes half as long again
        if marker in data:
            return True
    return False


# "output" begins "outputs" too.
_MARKERS_IN_JSON = tuple(f'"{marker}'.encode() for marker in sorted(_MARKERS - {"outputs"}))

_SCALARS = frozenset({str, int, float, bool, type(None)})


def _stripped(node: Any, numbers: dict[str, int], depth: int) -> Any:
    if isinstance(node, dict):
        provider = _provider_of(node)
        if provider is not None:
            return _stripped_object(provider, node, numbers)
        if depth == 0:
            return node
        pairs = {key: _stripped(child, numbers, depth - 1) for key, child in node.items()}
        return pairs if any(pairs[key] is not node[key] for key in node) else node
    if isinstance(node, list | tuple) and depth > 0:
        children = [_stripped(child, numbers, depth - 1) for child in node]
        return children if any(a is not b for a, b in zip(children, node, strict=True)) else node
    return node


def _stripped_object(provider: Provider, node: dict[str, Any], numbers: dict[str, int]) -> dict[str, Any]:
    copy: dict[str, Any] = _copied(node)
    for path in provider.volatile:
        for holder, name in list(_at(copy, path)):
            holder.pop(name, None)
    for path in provider.minted:
        for holder, name in _at(copy, path):
            number = numbers.get(holder[name]) if isinstance(holder[name], str) else None
            if number is not None:
                holder[name] = {ID_TAG: f"#{number}"}
    return copy


def _copied(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _copied(child) for key, child in node.items()}
    if isinstance(node, list | tuple):
        return [_copied(child) for child in node]
    return node


class MintedIds:
    """The ids that one run's steps have minted so far. Not safe to change from two threads at once."""

    def __init__(self) -> None:
        self._references: dict[str, str] = {}
        self._counts: dict[str, int] = {}
        self._heads: set[str] = set()

    def __len__(self) -> int:
        return len(self._references)

    def learn(self, lineage_text: str, outcome: Any) -> None:
        """Takes in the ids of a plain outcome of the step with this lineage, or of one chunk of it.

        They are numbered in the order in which they are learnt; an id that was learnt before
        keeps its reference. Ids under 6 characters are left alone: they can't be told from
        words. Never raises for what is in the outcome.
        """
        for text in _minted_ids(outcome):
            if _MIN_ID <= len(text) <= _MAX_ID and text not in self._references:
                number = self._counts.get(lineage_text, 0)
                self._counts[lineage_text] = number + 1
                self._references[text] = f"{lineage_text}#{number}"
                head = _HEAD.match(text)
                self._heads.add(head[0] if head else text[:4])

    def may_occur_in(self, data: bytes) -> bool:
        """Whether value bytes can hold one of the ids: False saves the reading of them."""
        if not self._references:
            return False
        return len(self._heads) > _MAX_HEADS or any(
            # An id that JSON would write with escapes does not look like itself.
            not head.isascii() or head.encode() in data
            for head in self._heads
        )

    def replace(self, params: Any) -> tuple[Any, dict[str, str]]:
        """The plain params with references in place of ids, and the raw id of each reference.

        A string that is an id becomes `{"$iso:id": reference}`; an id of 9 or more characters
        within a longer string (arguments as JSON text, a prompt) becomes the text
        `$iso:id(reference)`; a dict with an id as a key becomes `{"$iso:dict": [[key, value], …]}`.
        Where there are none, params come back as they are, with an empty dict. `restore` is the inverse.
        """
        if not self._references:
            return params, {}
        raw: dict[str, str] = {}
        replaced = self._replaced(params, raw)
        return (replaced, raw) if raw else (params, {})

    def _replaced(self, node: Any, raw: dict[str, str]) -> Any:
        if isinstance(node, str):
            return self._replaced_text(node, raw)
        if isinstance(node, dict):
            pairs = [
                (self._replaced_text(key, raw), self._replaced(child, raw)) for key, child in node.items()
            ]
            # A key that now begins as a tag does would be taken for one.
            if any(new != old and not _is_plain_key(new) for (new, _), old in zip(pairs, node, strict=True)):
                return {_PAIRS_TAG: [[key, child] for key, child in pairs]}
            return dict(pairs)
        if isinstance(node, list | tuple):
            return [self._replaced(child, raw) for child in node]
        return node

    def _replaced_text(self, text: str, raw: dict[str, str]) -> Any:
        reference = self._references.get(text)
        if reference is not None:
            raw[reference] = text
            return {ID_TAG: reference}
        if len(text) <= _MIN_EMBEDDED:
            return text
        if _OPEN in text:
            text = text.replace(_OPEN, _ESCAPED_OPEN)
        if len(self._heads) <= _MAX_HEADS and not any(head in text for head in self._heads):
            return text
        return _TOKEN.sub(lambda match: self._embedded_id(match[0], raw), text)

    def _embedded_id(self, token: str, raw: dict[str, str]) -> str:
        reference = self._references.get(token)
        if reference is None:
            return token
        raw[reference] = token
        return f"{_OPEN}{_embedded(reference)})"


def _embedded(reference: str) -> str:
    """A reference as it may stand in brackets and in JSON text: the key of a branch can hold anything."""
    return _UNSAFE.sub(lambda match: f"%{ord(match[0]):02x}", reference)


def restore(plain: Any, raw_ids: Mapping[str, str]) -> Any:
    """The params that `MintedIds.replace` was given, from what it gave back."""
    if not raw_ids:
        return plain
    return _restored(plain, raw_ids, {_embedded(reference): raw for reference, raw in raw_ids.items()})


def _restored(plain: Any, raw_ids: Mapping[str, str], embedded: Mapping[str, str]) -> Any:
    if isinstance(plain, str):
        return _restored_text(plain, embedded)
    if isinstance(plain, dict):
        if len(plain) == 1:
            reference = plain.get(ID_TAG)
            if isinstance(reference, str) and reference in raw_ids:
                return raw_ids[reference]
            pairs = plain.get(_PAIRS_TAG)
            if isinstance(pairs, list):
                return _restored_pairs(pairs, raw_ids, embedded)
        return {
            _restored_text(key, embedded): _restored(child, raw_ids, embedded) for key, child in plain.items()
        }
    if isinstance(plain, list | tuple):
        return [_restored(child, raw_ids, embedded) for child in plain]
    return plain


def _restored_text(text: str, embedded: Mapping[str, str]) -> str:
    return _REFERENCE.sub(lambda match: _OPEN if match[1] == "!" else embedded.get(match[1], match[0]), text)


def _restored_pairs(pairs: list[Any], raw_ids: Mapping[str, str], embedded: Mapping[str, str]) -> Any:
    restored = [_restored(pair, raw_ids, embedded) for pair in pairs]
    # to_plain writes pairs only for keys that JSON can't have; where all can, replace wrote them.
    if all(isinstance(pair, list) and len(pair) == 2 and _is_plain_key(pair[0]) for pair in restored):
        return dict(restored)
    return {_PAIRS_TAG: restored}


def _is_plain_key(key: Any) -> bool:
    return isinstance(key, str) and not key.startswith(_PREFIX)
