"""The agents in `examples/`, changed: what changes their behaviour fails its check with the right code at the
right step, and what doesn't passes."""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest


def _module(name: str) -> Any:
    """A module beside this one: test folders are no packages."""
    full = f"isotrace_oracle_{name}"
    spec = spec_from_file_location(full, Path(__file__).with_name(f"{name}.py"))
    assert spec
    assert spec.loader
    sys.modules[full] = module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


bench = _module("bench")
CHANGES = _module("behaviour_changes").CHANGES
REFACTORINGS = _module("refactorings").REFACTORINGS
UNSEEN = _module("unseen").UNSEEN
EVERYTHING = [*CHANGES, *REFACTORINGS, *UNSEEN]

QUICK = ("openai_chat", "coding_agent")
"""The examples whose libraries load quickly: `make test` tries these."""


def rows(changes: list[Any]) -> list[Any]:
    """One test for each row; those of one example stand together, so that it is recorded once."""
    names = list(bench.LIBRARIES)
    return [
        pytest.param(
            one,
            id=f"{one.example}: {one.what}",
            marks=() if one.example in QUICK else (pytest.mark.slow,),
        )
        for one in sorted(changes, key=lambda one: names.index(one.example))
    ]


@pytest.fixture(scope="module")
def benches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Any]]:
    """The examples, each recorded when it is first asked for."""
    there: dict[str, Any] = {}

    def bench_of(name: str) -> Any:
        for library in bench.LIBRARIES[name]:
            if find_spec(library.partition(".")[0]) is None:
                pytest.skip(f"needs {library}")
        if name not in there:
            there[name] = bench.Bench(name, tmp_path_factory.mktemp(name))
        return there[name]

    yield bench_of
    for one in there.values():
        one.close()


def changed(change: Any) -> str:
    """The source of the example with the change in it."""
    source = (bench.EXAMPLES / change.example / change.file).read_text("utf-8")
    assert source.count(change.old) == 1, "the table has what stands in the example, once"
    text = source.replace(change.old, change.new)
    assert ast.dump(ast.parse(text)) != ast.dump(ast.parse(source)), "it is another program"
    return text


@pytest.mark.parametrize("change", rows(CHANGES))
def test_a_change_of_behaviour_fails_with_its_code_at_its_step(change: Any, benches: Any) -> None:
    seen = benches(change.example).check(changed(change))
    assert (seen.verdict, seen.code, seen.index) == ("DIVERGED", change.code, change.index), seen.sentence
    assert change.says in seen.sentence


@pytest.mark.parametrize("change", rows(REFACTORINGS))
def test_a_refactoring_passes(change: Any, benches: Any) -> None:
    seen = benches(change.example).check(changed(change))
    assert (seen.verdict, seen.code) == ("MATCH", None), seen.sentence


@pytest.mark.parametrize("change", rows(UNSEEN))
def test_what_a_replay_does_not_run_it_does_not_see(change: Any, benches: Any) -> None:
    seen = benches(change.example).check(changed(change))
    assert (seen.verdict, seen.code) == ("MATCH", None), seen.sentence


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    {one.example: one for one in CHANGES}.values(),
    ids=lambda one: f"{one.example}: {one.what}",
)
def test_the_command_says_the_same(change: Any, benches: Any) -> None:
    source = changed(change)
    seen = benches(change.example).command(source)
    assert (seen.verdict, seen.code, seen.index) == ("DIVERGED", change.code, change.index), seen.sentence
    assert seen == benches(change.example).check(source)


def test_the_tables_are_of_all_examples() -> None:
    examples = {path.parent.name for path in bench.EXAMPLES.glob("*/agent.py")}
    assert set(bench.LIBRARIES) == examples
    for table in (CHANGES, REFACTORINGS):
        assert len(table) == 30
        assert min(Counter(one.example for one in table).values()) >= 3
        assert {one.example for one in table} == examples
    assert len({(one.example, one.what) for one in EVERYTHING}) == len(EVERYTHING)
    assert len({one.code for one in CHANGES}) >= 8


@pytest.mark.parametrize("change", EVERYTHING, ids=lambda one: f"{one.example}: {one.what}")
def test_each_row_is_a_change_that_compiles(change: Any) -> None:
    compile(changed(change), change.file, "exec")
