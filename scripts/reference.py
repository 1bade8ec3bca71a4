"""Writes docs/reference from the code: `python scripts/reference.py`, or `--check` to compare only.

The pages are committed, so that they can be read and reviewed; a test fails where one is stale.
"""

from __future__ import annotations

import argparse
import dataclasses
import enum
import inspect
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import click

import isotrace
from isotrace import errors
from isotrace.cli.app import COMMANDS, app
from isotrace.compare import CODES, Group, Verdict
from isotrace.record import capture, sources
from isotrace.record.capture.about import About

REFERENCE = Path(__file__).parents[1] / "docs/reference"
_WIDTH = 100
NOTE = "<!-- Written by scripts/reference.py from the code: change it there. -->\n"


def cell(text: str) -> str:
    """Text that can stand in a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


# --- the command line -----------------------------------------------------------------


def cli_page() -> str:
    """Every command with its arguments and options."""
    context = click.Context(app, info_name="isotrace")
    parts = [
        NOTE,
        "# Command line\n",
        f"{app.help}\n",
        f"{app.epilog}\n",
        "| command | what it does |\n|---|---|",
        *(f"| [`{name}`](#isotrace-{name}) | {cell(text)} |" for name, (_, text) in COMMANDS.items()),
        "",
    ]
    for name in COMMANDS:
        command = app.get_command(context, name)
        assert command is not None
        parts += list(_command(command, click.Context(command, info_name=f"isotrace {name}")))
    return "\n".join(parts) + "\n"


def _command(command: click.Command, context: click.Context) -> Iterator[str]:
    pieces = " ".join(command.collect_usage_pieces(context))
    yield f"## isotrace {command.name}\n"
    yield f"```text\nisotrace {command.name} {pieces}\n```\n"
    yield inspect.cleandoc(command.help or "") + "\n"
    options = [one for one in command.params if isinstance(one, click.Option)]
    yield "| option | |\n|---|---|"
    for option in options:
        yield f"| {_option_names(option)} | {cell(_option_help(option, context))} |"
    yield ""


def _option_names(option: click.Option) -> str:
    names = ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
    return names if option.is_flag else f"{names} `{cell(option.make_metavar(click.Context(app)))}`"


def _option_help(option: click.Option, context: click.Context) -> str:
    record = option.get_help_record(context)
    text = record[1] if record else option.help or ""
    return re.sub(r"\s*\[x>=\d+\]", "", text)


# --- errors ---------------------------------------------------------------------------


def errors_page() -> str:
    """The tree of errors, with what each of them means."""
    tree = inspect.cleandoc(errors.__doc__ or "").split("\n\n")[1]
    parts = [
        NOTE,
        "# Errors\n",
        "Every error of isotrace is an `IsotraceError` from `isotrace.errors`. It carries data: `what`, and",
        "where they are known `where`, `pointer` (a JSON Pointer), `run_id`, `step`, `expected`, `got`,",
        "`nearest`, `hint`. On the command line it is one paragraph on stderr and exit code 2, and with",
        '`--json` an object `{"error": {"type", "message", …}}` on stdout.\n',
        f"```text\n{inspect.cleandoc(tree)}\n```\n",
        "| error | also a | when |\n|---|---|---|",
    ]
    for kind in _classes(errors, BaseException):
        bases = [base.__name__ for base in kind.__bases__ if base.__module__ == "builtins"]
        also = ", ".join(f"`{base}`" for base in bases if base != "Exception")
        parts.append(f"| `{kind.__name__}` | {also} | {cell(_first_paragraph(kind))} |")
    return "\n".join(parts) + "\n"


def _classes(module: Any, base: type) -> list[type]:
    """The module's own classes below `base`, in the order of its source."""
    found = [
        one
        for one in vars(module).values()
        if isinstance(one, type) and issubclass(one, base) and one.__module__ == module.__name__
    ]
    return sorted(found, key=lambda one: inspect.getsourcelines(one)[1])


def _first_paragraph(thing: Any) -> str:
    return inspect.cleandoc(thing.__doc__ or "").split("\n\n")[0]


# --- divergences ----------------------------------------------------------------------


def divergences_page() -> str:
    """The closed list of codes, group by group."""
    verdicts = ", ".join(f"`{one}` (exit code {one.exit_code})" for one in Verdict)
    parts = [
        NOTE,
        "# Divergence codes\n",
        f"A comparison ends in one of four verdicts: {verdicts}.\n",
        "Each difference has one of these codes. The first one is that with the smallest index; at one step",
        "the groups go in the order below; what concerns the record or its surroundings as a whole comes",
        "first. `error` decides the verdict, `warning` and `info` do not. JSON Pointers of a divergence",
        "lead into what the last column names.\n",
    ]
    for group in Group:
        parts += [
            f"## {group.value.capitalize()}\n",
            "| code | usually | means | pointers into |\n|---|---|---|---|",
        ]
        for code, info in CODES.items():
            if info.group is group:
                row = (f"`{code}`", info.severity.value, cell(info.definition), cell(info.pointers))
                parts.append(f"| {' | '.join(row)} |")
        parts.append("")
    return "\n".join(parts)


# --- Python ---------------------------------------------------------------------------


def python_page() -> str:
    """What `import isotrace` offers: signatures and docstrings."""
    parts = [
        NOTE,
        "# Python\n",
        "What `import isotrace` offers. Everything else may change between versions.\n",
    ]
    names = sorted((name for name in isotrace.__all__ if not name.startswith("_")), key=_section_of)
    section = None
    for name in names:
        if _section_of(name)[0] != section:
            section = _section_of(name)[0]
            parts.append(f"## {_SECTIONS[section]}\n")
        parts += list(_entry(name, getattr(isotrace, name)))
    return "\n".join(parts) + "\n"


_SECTIONS = ("Functions", "Classes", "Constants and types", "Modules")


def _section_of(name: str) -> tuple[int, str]:
    thing = getattr(isotrace, name)
    if inspect.ismodule(thing):
        return (3, name)
    if inspect.isclass(thing):
        return (1, name.lower())
    return (0, name.lower()) if callable(thing) else (2, name)


def _entry(name: str, thing: Any) -> Iterator[str]:
    if inspect.ismodule(thing):
        yield f"### `isotrace.{name}`\n\n{_first_paragraph(thing).splitlines()[0]}\n"
    elif inspect.isclass(thing):
        yield f"### `{name}`\n"
        yield _doc(thing)
        yield from _members(thing)
    elif callable(thing):
        yield f"### `{name}`\n"
        yield f"```text\n{name}{_signature(thing)}\n```\n"
        yield _doc(thing)
    else:
        value = f"`{thing!r}`" if isinstance(thing, str) else f"`{str(thing).replace('typing.', '')}`"
        yield f"### `{name}`\n\n{value}\n"


def _doc(thing: Any) -> str:
    return inspect.cleandoc(thing.__doc__ or "") + "\n"


def _signature(thing: Any) -> str:
    try:
        found = inspect.signature(thing)
    except (TypeError, ValueError):
        return "(…)"
    text = _unquoted(str(found))
    if len(text) < _WIDTH:
        return text
    result = _unquoted(str(found.replace(parameters=[])))[2:]
    lines = []
    for name, parameter in found.parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY and "    *," not in lines:
            lines.append("    *,")
        lines.append(f"    {_unquoted(str(parameter))},")
        assert name in lines[-1]
    return "(\n" + "\n".join(lines) + f"\n){result}"


def _unquoted(text: str) -> str:
    """Annotations, enum members and default objects as they stand in the source."""
    text = re.sub(r"<[\w.]*?(\w+) object at 0x[0-9a-f]+>", r"\1()", text)
    text = re.sub(r"(: |-> )'([^']*)'", r"\1\2", text)
    return re.sub(r"<(\w+\.\w+): [^>]*>", r"\1", text)


def _members(kind: type) -> Iterator[str]:
    if issubclass(kind, enum.Enum):
        yield ", ".join(f"`{member.name}`" for member in kind) + "\n"
        return
    if dataclasses.is_dataclass(kind):
        shown = [f"{field.name}: {_annotation(field.type)}" for field in dataclasses.fields(kind)]
        yield "```text\n" + "\n".join(shown) + "\n```\n"
    rows = []
    for name, member in vars(kind).items():
        plain = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        if name.startswith("_") or not (inspect.isfunction(plain) or isinstance(plain, property)):
            continue
        call = "" if isinstance(plain, property) else "()"
        rows.append(f"| `{name}{call}` | {cell(_first_paragraph(plain))} |")
    if rows:
        yield "| | |\n|---|---|"
        yield "\n".join(rows) + "\n"


def _annotation(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))


# --- captures and sources --------------------------------------------------------------

CAPTURED = {
    "HTTP": ("capture.httpx", "capture.urllib3", "capture.aiohttp"),
    "MCP": ("capture.mcp",),
    "Tools that a framework calls": ("capture.langchain", "capture.openai_agents", "capture.pydantic_ai"),
    "Child processes": ("capture.subprocess", "capture.asyncio_subprocess", "capture.anyio"),
    "Telemetry": ("capture.opentelemetry",),
    "What a program reads by itself": (
        "sources.wall_clock",
        "sources.uuids",
        "sources.uuid_utils",
        "sources.entropy",
        "sources.numpy_random",
        "sources.seeds",
        "sources.variables",
        "sources.files",
        "sources.keys",
    ),
}
"""The chapters of the page, and the modules of `isotrace.record` that they are made of."""

_CAPTURED_LEADS = {
    "HTTP": """
Model SDKs go through one of these, so none has a capture of its own. A call of a model is named by its
operation (`chat`, `generate_content`, `embeddings`), and its params and outcome are the provider's JSON;
any other request is named by method and host. A redirect or a retry is a request of its own.""",
    "MCP": "What a server is asked, whatever the transport.",
    "Tools that a framework calls": """
The step is the call of the tool, with the arguments that the model chose; what the tool asks is inside of it.
Tools of other frameworks are steps by
[two lines of your own](../how-to/capture-an-agent.md#frameworks).""",
    "Child processes": "What a process does is not looked at: a step is what went in and what came out.",
    "Telemetry": "What a program tells an observability service is no part of what its agent does.",
    "What a program reads by itself": """
None of this is a step. While a run is recorded the program gets the real thing. Reads between two steps are
one event, and in a step's body nothing is noted; outside of runs only what is read before the first one.""",
}
_CAPTURED_INTRO = """
`isotrace run` and `isotrace.instrument()` make steps of what a program does at its edges: they wrap the
libraries below, once those are imported. What is not here is in no record: another library's sockets, gRPC,
a database driver. While recording it goes on as without isotrace; a replay refuses what would leave the
process, and its receipt says so.
[Capture an agent as it is](../how-to/capture-an-agent.md) shows all of it at work.

- **A step inside a step** is not recorded twice: what a skill or a captured call does belongs to it.
- **Outside of a run** calls are plain calls. `isotrace.instrument()` gives the way back, which restores all.
- **A version that is built otherwise** is left alone, and a `RecordingWarning` names it.
- **The effect** says what a partly live replay may do again: a `read`, never a `write`.
"""


def captured_page() -> str:
    """What each capture and each source says of itself."""
    parts = [NOTE, "# What is captured, and what is not\n", _CAPTURED_INTRO.lstrip()]
    for chapter, names in CAPTURED.items():
        parts += [f"## {chapter}\n", f"{_CAPTURED_LEADS[chapter].strip()}\n"]
        abouts = [_about(name) for name in names]
        parts += _sources(abouts) if names[0].startswith("sources.") else _captures(abouts)
    return "\n".join(parts)


def modules_with_captures() -> set[str]:
    """The modules that wrap something, and so must say what: those in `CAPTURES`, and every source that
    is put on."""
    registered = {name.removeprefix("isotrace.record.") for name in capture.CAPTURES.values()}
    found = (f"sources.{one.name}" for one in iter_modules(sources.__path__))
    return registered | {
        name for name in found if hasattr(_module(name), "control") or hasattr(_module(name), "ABOUT")
    }


def _module(name: str) -> Any:
    return import_module(f"isotrace.record.{name}")


def _about(name: str) -> About:
    about = getattr(_module(name), "ABOUT", None)
    if not isinstance(about, About):
        raise TypeError(f"isotrace.record.{name} has no ABOUT: it must say what it captures, and what not")
    return about


def _captures(abouts: list[About]) -> Iterator[str]:
    """One section for each library; where all make the same steps, one table for all."""
    if len({about.steps for about in abouts}) == 1 < len(abouts):
        yield "| libraries | versions |\n|---|---|"
        yield from (_row(about.libraries, about.versions) for about in abouts)
        yield ""
        yield from _steps(abouts[0])
        yield "Not captured:\n"
        yield from (f"- **{_name(about)}**: {_sentences(about)}" for about in abouts)
        yield ""
        return
    for about in abouts:
        yield f"### {_name(about)}\n"
        yield f"{_escaped(f'{about.libraries}; {about.versions}.')}\n"
        yield from _steps(about)
        yield "Not captured:\n"
        yield from (f"- {_escaped(one)}" for one in about.not_captured)
        yield ""


def _steps(about: About) -> Iterator[str]:
    if not about.steps:
        return
    yield "| what is called | kind of step | effect |\n|---|---|---|"
    yield from (_row(what, f"`{kind}`", f"`{effect}`") for what, kind, effect in about.steps)
    yield ""


def _sources(abouts: list[About]) -> Iterator[str]:
    yield "| source | what is read | while it is recorded | in a replay |\n|---|---|---|---|"
    for about in abouts:
        yield from (_row("" if number else about.libraries, *row) for number, row in enumerate(about.steps))
    yield "\nWhat is left alone of each, and with which versions the rest was tested:\n"
    yield from (f"- **{about.libraries}** ({about.versions}): {_sentences(about)}" for about in abouts)
    yield ""


def _name(about: About) -> str:
    """The library without what else is said of it."""
    return re.split(r"[,:] | \(", about.libraries)[0]


def _sentences(about: About) -> str:
    return _escaped(" ".join(about.not_captured))


def _row(*cells: str) -> str:
    return f"| {' | '.join(_escaped(cell(one)) for one in cells)} |"


def _escaped(text: str) -> str:
    """Asterisks outside of code are themselves."""
    return "".join(
        part if number % 2 else part.replace("*", "\\*")
        for number, part in enumerate(re.split(r"(`[^`]*`)", text))
    )


# --- writing --------------------------------------------------------------------------

PAGES = {
    "captured.md": captured_page,
    "cli.md": cli_page,
    "errors.md": errors_page,
    "divergences.md": divergences_page,
    "python-api.md": python_page,
}


def main() -> int:
    """Writes the pages; with `--check` returns 1 if one of them is not what it would write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, say what is stale")
    check = parser.parse_args().check
    stale = []
    for name, page in PAGES.items():
        path, text = REFERENCE / name, page()
        if path.exists() and path.read_text("utf-8") == text:
            continue
        stale.append(name)
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
    for name in stale:
        print(f"{'stale' if check else 'wrote'} docs/reference/{name}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
