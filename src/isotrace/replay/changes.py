"""Other values in the place of recorded ones: at the step where a fork begins, and in what models are
asked."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import orjson

from isotrace.errors import UsageError
from isotrace.jsondiff import pointer_split
from isotrace.record.annotations import parameter_annotations
from isotrace.record.binding import skill_signature
from isotrace.record.edge import Edge
from isotrace.record.restore import restore
from isotrace.record.snapshot import snapshot_params
from isotrace.record.spec import SkillSpec

_SYSTEM_ROLES = ("system", "developer")


def with_changes(value: Any, changes: Mapping[str, Any], under: str) -> Any:
    """A copy of `value` with the changes whose pointers begin with `/{under}`; keys may be new, places in
    lists must be there (`-` is behind the last). Raises `UsageError` where a pointer leads nowhere."""
    for pointer, new in changes.items():
        first, *parts = pointer_split(pointer)
        if first == under:
            value = _set(copy.deepcopy(value), parts, new, pointer)
    return value


def _set(value: Any, parts: list[str], new: Any, pointer: str) -> Any:
    if not parts:
        return new
    key, *rest = parts
    match value:
        case dict():
            if rest and key not in value:
                raise _leads_nowhere(pointer, key)
            value[key] = _set(value.get(key), rest, new, pointer)
        case list():
            if key == "-" and not rest:
                value.append(new)
            elif key.isdecimal() and int(key) < len(value):
                value[int(key)] = _set(value[int(key)], rest, new, pointer)
            else:
                raise _leads_nowhere(pointer, key)
        case _:
            raise _leads_nowhere(pointer, key)
    return value


def other_arguments(
    spec: SkillSpec, args: tuple[Any, ...], kwargs: dict[str, Any], params: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A call's arguments with these params in their place, as the types that the annotations name.

    Raises `UsageError` for a param that the skill does not have, `RestoreError` for one that does not
    fit its annotation.
    """
    if isinstance(spec, Edge):
        args[0].ask(params)
        return args, kwargs
    before = orjson.loads(snapshot_params(spec.params(args, kwargs)).data)
    signature, annotations = skill_signature(spec.function), parameter_annotations(spec.function)
    bound = signature.bind(*args, **kwargs)
    for name, value in params.items():
        if name in before and before[name] == value:
            continue
        if name not in signature.parameters:
            raise UsageError("the skill has no such parameter", where=spec.name, got=name)
        bound.arguments[name] = restore(value, annotations.get(name))
    return bound.args, bound.kwargs


def _leads_nowhere(pointer: str, key: str) -> UsageError:
    return UsageError("a change leads nowhere in the recorded step", got=pointer, hint=f"there is no {key!r}")


def asked_otherwise(params: dict[str, Any], model: str | None, prompt: str | None) -> dict[str, Any]:
    """Params of a call to a model with another model, another system prompt, or both.

    The prompt goes where this call has its own: `instructions` (OpenAI responses), `system` (Anthropic),
    `systemInstruction` (Google), else a message of role `system` at the head of `messages`. What a
    call does not have a place for stays as it is.
    """
    changed = dict(params)
    if model is not None and isinstance(params.get("model"), str):
        changed["model"] = model
    if prompt is not None:
        _set_prompt(changed, prompt)
    return changed


def _set_prompt(params: dict[str, Any], prompt: str) -> None:
    for name in ("instructions", "system", "system_prompt"):
        if name in params:
            params[name] = prompt
            return
    if "contents" in params:
        name = "system_instruction" if "system_instruction" in params else "systemInstruction"
        params[name] = {"parts": [{"text": prompt}]}
    elif isinstance(params.get("messages"), list):
        params["messages"] = _with_system(params["messages"], prompt)
    elif isinstance(params.get("input"), str | list):
        params["instructions"] = prompt


def _with_system(messages: list[Any], prompt: str) -> list[Any]:
    first = messages[0] if messages else None
    if isinstance(first, dict) and first.get("role") in _SYSTEM_ROLES:
        return [{**first, "content": prompt}, *messages[1:]]
    return [{"role": "system", "content": prompt}, *messages]
