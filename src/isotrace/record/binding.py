"""A call's arguments by name, as the record keeps them: a generated `inspect.Signature.bind`.

`Signature.bind` costs several microseconds. The function that is generated here for one signature
costs a fraction of one: the interpreter itself binds the arguments, because the generated function
has the same parameters. Nothing goes into generated code but parameter names, which are identifiers.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from inspect import Parameter, Signature
from keyword import iskeyword
from typing import Any

Binder = Callable[..., dict[str, Any]]
"""Takes a call's arguments; gives the params by name, without defaults."""

_ANYTHING = Signature(
    [Parameter("args", Parameter.VAR_POSITIONAL), Parameter("kwargs", Parameter.VAR_KEYWORD)]
)
_COMPARED_DEPTH = 16


def skill_signature(function: Callable[..., Any]) -> Signature:
    """The signature that calls of a function are bound by; `(*args, **kwargs)` where it tells none."""
    try:
        return inspect.signature(function)
    except (ValueError, TypeError):
        return _ANYTHING


def is_default(value: Any, default: Any) -> bool:
    """Whether passing an argument says no more than leaving it out would.

    True, 1 and 1.0 are told apart, also inside lists and dicts. A value whose comparison raises
    or gives no plain answer (an array) is not the default.
    """
    return value is default or _same(value, default, _COMPARED_DEPTH)


def _same(value: Any, other: Any, depth: int) -> bool:
    kind = type(value)
    if kind is not type(other) or depth == 0:
        return False
    try:
        if kind is list or kind is tuple:
            return len(value) == len(other) and all(
                _same(a, b, depth - 1) for a, b in zip(value, other, strict=True)
            )
        if kind is dict:
            return len(value) == len(other) and all(
                key in other and _same(child, other[key], depth - 1) for key, child in value.items()
            )
        return (value == other) is True
    except Exception:  # noqa: BLE001  # a caller's `__eq__` may raise anything
        return False


def make_binder(function: Callable[..., Any], *, method: bool) -> Binder:
    """A function that binds the arguments of one call of `function`.

    What it gives equals `inspect.signature(function).bind(*args, **kwargs).arguments` without
    the first parameter of a method and without arguments equal to their default. `*args` stand
    under their name as a list and `**kwargs` under theirs as a dict, where not empty. It raises
    `TypeError` for a call that the function would refuse too: make the call then, so that the
    function's own error surfaces.
    """
    signature = skill_signature(function)
    try:
        return _generated(list(signature.parameters.values()), method=method)
    except (SyntaxError, ValueError):
        # A made-up `__signature__` can hold names that no function could have.
        return _slow_binder(signature, method=method)


def _generated(parameters: list[Parameter], *, method: bool) -> Binder:
    for parameter in parameters:
        if not parameter.name.isidentifier() or iskeyword(parameter.name):
            raise ValueError(f"not a parameter's name: {parameter.name!r}")
    own = "_"
    while any(parameter.name.startswith(own) for parameter in parameters):
        own += "_"
    namespace: dict[str, Any] = {f"{own}list": list, f"{own}type": type, f"{own}is_default": is_default}
    for number, parameter in enumerate(parameters):
        if parameter.default is not Parameter.empty:
            namespace[f"{own}{number}"] = parameter.default
    lines = [f"def {own}bind({_head(parameters, own)}):", *_body(parameters, own, method=method)]
    exec(compile("\n    ".join(lines), "<isotrace binder>", "exec"), namespace)  # noqa: S102  # names only
    return namespace[f"{own}bind"]  # type: ignore[no-any-return]  # generated to give a dict


def _head(parameters: list[Parameter], own: str) -> str:
    """The parameter list as source, with `{own}{number}` as the default of parameter `number`."""
    parts: list[str] = []
    previous: Parameter | None = None
    starred = False
    for number, parameter in enumerate(parameters):
        kind, name = parameter.kind, parameter.name
        if previous is not None and previous.kind is Parameter.POSITIONAL_ONLY and kind is not previous.kind:
            parts.append("/")
        if kind is Parameter.KEYWORD_ONLY and not starred:
            parts.append("*")
            starred = True
        if kind is Parameter.VAR_POSITIONAL:
            name, starred = f"*{name}", True
        elif kind is Parameter.VAR_KEYWORD:
            name = f"**{name}"
        elif parameter.default is not Parameter.empty:
            name = f"{name}={own}{number}"
        parts.append(name)
        previous = parameter
    if previous is not None and previous.kind is Parameter.POSITIONAL_ONLY:
        parts.append("/")
    return ", ".join(parts)


def _body(parameters: list[Parameter], own: str, *, method: bool) -> list[str]:
    """The statements that put the arguments into a dict, in the order of the signature."""
    kept = list(enumerate(parameters))
    drop_from: str | None = None
    if method and kept:
        if parameters[0].kind is Parameter.VAR_POSITIONAL:
            drop_from = parameters[0].name
        else:
            kept = kept[1:]
    first: list[str] = []
    while kept and kept[0][1].default is Parameter.empty and kept[0][1].kind in _SINGLE:
        first.append(f'"{kept[0][1].name}": {kept[0][1].name}')
        kept = kept[1:]
    literal = "{" + ", ".join(first) + "}"
    if not kept:
        return [f"return {literal}"]
    out = f"{own}out"
    lines = [f"{out} = {literal}"]
    if drop_from is not None:
        lines.append(f"{drop_from} = {drop_from}[1:]")
    for number, parameter in kept:
        name = parameter.name
        if parameter.kind is Parameter.VAR_POSITIONAL:
            lines.append(f'if {name}: {out}["{name}"] = {own}list({name})')
        elif parameter.kind is Parameter.VAR_KEYWORD:
            lines.append(f'if {name}: {out}["{name}"] = {name}')
        elif parameter.default is Parameter.empty:
            lines.append(f'{out}["{name}"] = {name}')
        else:
            lines.append(f'if {_differs(parameter, number, own)}: {out}["{name}"] = {name}')
    return [*lines, f"return {out}"]


def _differs(parameter: Parameter, number: int, own: str) -> str:
    """The condition that an argument is not its default; `is_default` written out for scalars."""
    name, default = parameter.name, f"{own}{number}"
    if parameter.default is None:
        return f"{name} is not {default}"
    if type(parameter.default) in (bool, int, float, str):
        kinds_differ = f"{own}type({name}) is not {own}type({default})"
        return f"{name} is not {default} and ({kinds_differ} or {name} != {default})"
    return f"{name} is not {default} and not {own}is_default({name}, {default})"


_SINGLE = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


def _slow_binder(signature: Signature, *, method: bool) -> Binder:
    def bind(*args: Any, **kwargs: Any) -> dict[str, Any]:
        bound = signature.bind(*args, **kwargs).arguments
        out: dict[str, Any] = {}
        for number, (name, parameter) in enumerate(signature.parameters.items()):
            if name not in bound:
                continue
            value = bound[name]
            if parameter.kind is Parameter.VAR_POSITIONAL:
                value = list(value[1:] if method and number == 0 else value)
                if not value:
                    continue
            elif (method and number == 0) or is_default(value, parameter.default):
                continue
            out[name] = value
        return out

    return bind
