"""Where stores and formats are found by name: a built-in table first, entry points after it.

Back-ends stand above this module, so they are named here as text and loaded when asked for. The
metadata of installed packages is read only for a name that is not built in: that scan takes
longer than opening a store.

Entry points: `isotrace.stores` (the URL's scheme; called with the URL), `isotrace.importers`,
`isotrace.exporters` (the format's name), `isotrace.policies` and `isotrace.redactors`; all but the first are
called without arguments.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, cast

from isotrace.contracts import Exporter, Importer, Policy, Redactor, TraceStore
from isotrace.errors import IsotraceError, PluginError, UsageError

DEFAULT_STORE = ".isotrace/traces.db"
"""Where runs are kept if nobody says otherwise, from the current folder."""

_STORES = {
    "memory": "isotrace.stores.memory:MemoryStore",
    "sqlite": "isotrace.stores.sqlite:SqliteStore",
}
_IMPORTERS = {
    "claude-code": "isotrace.formats.claude_code:ClaudeCodeImporter",
    "golden": "isotrace.formats.golden:GoldenImporter",
    "inspect": "isotrace.formats.inspect_logs:InspectImporter",
    "jsonl": "isotrace.formats.jsonl:JsonlImporter",
    "langfuse": "isotrace.formats.langfuse:LangfuseImporter",
    "mini-swe-agent": "isotrace.formats.mini_swe_agent:MiniSweAgentImporter",
    "openai-agents": "isotrace.formats.openai_agents:OpenAIAgentsImporter",
    "swe-agent": "isotrace.formats.swe_agent:SweAgentImporter",
    "tau-bench": "isotrace.formats.tau_bench:TauBenchImporter",
    "tau2-bench": "isotrace.formats.tau2:Tau2Importer",
    "temporal": "isotrace.formats.temporal:TemporalImporter",
    "vcr": "isotrace.formats.vcr:VcrImporter",
}
_ALIASES = {"tau2": "tau2-bench"}
_EXPORTERS = {
    "golden": "isotrace.formats.golden:GoldenExporter",
    "jsonl": "isotrace.formats.jsonl:JsonlExporter",
    "vcr": "isotrace.formats.vcr_export:VcrExporter",
}

# Two letters at least: C:\traces.db is a file.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")


def open_store(
    url: str | os.PathLike[str] | None = None, *, create: bool = True, compression: int | None = None
) -> TraceStore:
    """The store at a URL, opened.

    None is `./.isotrace/traces.db`; a path, or `sqlite:///path` (a fourth slash begins an absolute
    path), is a SQLite file; `memory:` is a new store that lives as long as the process. Any other
    scheme is looked up in the entry points `isotrace.stores`. `create=False` opens a file only
    if it is there. `compression` is a zstd level for the runs that are put through this object.

    Raises `PluginError` for a scheme that nobody serves, `UsageError` for a malformed URL, and
    store errors as the store does.
    """
    text = DEFAULT_STORE if url is None else os.fspath(url)
    match = _SCHEME.match(text) if isinstance(url, str) else None
    if match is None:
        return _sqlite(text, create, compression)
    scheme = match[1].lower()
    if scheme == "sqlite":
        return _sqlite(_path_of(text, match.end()), create, compression)
    if scheme == "memory":
        return cast("TraceStore", _load(_STORES[scheme], "store", scheme)())
    make = _found("store", scheme, _STORES, hint=f"a file of that name is ./{text}")
    return cast("TraceStore", make(text))


def _sqlite(path: str, create: bool, compression: int | None) -> TraceStore:
    make = _load(_STORES["sqlite"], "store", "sqlite")
    return cast("TraceStore", make(path, create=create, compression=compression))


def _path_of(url: str, start: int) -> str:
    if not url.startswith("///", start) or len(url) == start + 3:
        raise UsageError(
            "a SQLite URL names a file after three slashes",
            expected="sqlite:///traces.db, sqlite:////home/me/traces.db",
            got=url,
        )
    return url[start + 3 :]


def importer(name: str) -> Importer:
    """The importer of this name. Raises `PluginError`, which lists the known names."""
    known = _ALIASES.get(name, name)
    return cast("Importer", _found("importer", known, _IMPORTERS)())


def importers() -> dict[str, Importer]:
    """All importers by name, built-in ones first. Raises `PluginError` if one can't be loaded."""
    made = {name: _load(target, "importer", name)() for name, target in _IMPORTERS.items()}
    for point in _points("importer"):
        if point.name not in made:
            made[point.name] = _load(point, "importer", point.name)()
    return made


def exporter(name: str) -> Exporter:
    """The exporter of this name. Raises `PluginError`, which lists the known names."""
    return cast("Exporter", _found("exporter", name, _EXPORTERS)())


def policy(name: str) -> Policy:
    """The policy that an extension calls so. Raises `PluginError`, which lists the known names."""
    hint = f"a file of rules ends in .yaml, .yml or .toml, or is written ./{name}"
    return cast("Policy", _found("policy", name, {}, hint)())


def redactor(name: str, built_in: Iterable[str] = ()) -> Redactor:
    """The redactor of this name from the entry points. Raises `PluginError`, which lists the known names,
    `built_in` among them."""
    points = {point.name: point for point in _points("redactor")}
    if name not in points:
        raise _unknown("redactor", name, {*built_in, *points}, None)
    return cast("Redactor", _load(points[name], "redactor", name)())


def _found(kind: str, name: str, built_in: Mapping[str, str], hint: str | None = None) -> Callable[..., Any]:
    if name in built_in:
        return _load(built_in[name], kind, name)
    points = {point.name: point for point in _points(kind)}
    if name in points:
        return _load(points[name], kind, name)
    raise _unknown(kind, name, {*built_in, *points}, hint)


def _unknown(kind: str, name: str, known: Iterable[str], hint: str | None) -> PluginError:
    return PluginError(
        f"there is no {kind} of this name", expected=", ".join(sorted(known)), got=name, hint=hint
    )


def _points(kind: str) -> list[EntryPoint]:
    group = "policies" if kind == "policy" else f"{kind}s"
    return list(entry_points(group=f"isotrace.{group}"))


def _load(target: str | EntryPoint, kind: str, name: str) -> Callable[..., Any]:
    try:
        if isinstance(target, str):
            module, _, attribute = target.partition(":")
            return cast("Callable[..., Any]", getattr(import_module(module), attribute))
        return cast("Callable[..., Any]", target.load())
    except IsotraceError:
        raise
    except Exception as error:  # an extension's module may raise anything
        raise PluginError(
            f"the {kind} can't be loaded", where=name, got=f"{type(error).__name__}: {error}"
        ) from error
