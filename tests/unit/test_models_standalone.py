"""The models and what they stand on need the standard library only; public names load when they are used."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import isotrace

SOURCE = Path(isotrace.__file__).parents[1]

ALONE = f"""
import sys
sys.path.insert(0, {str(SOURCE)!r})
from datetime import datetime
import isotrace.models as models
from isotrace import TraceRecord, TraceStatus, TraceStep, compare_traces
from isotrace import canonical, clock, errors, hashing, jsondiff

moment = datetime(2026, 1, 1)
step = TraceStep(0, "s", {{"x": 1.5}}, TraceStatus.SUCCESS, "SUCCESS", None, {{}}, 0.0, 0.0, 0, moment)
record = TraceRecord("r", "c", "t", None, [], [step], moment, None, "completed")
assert TraceRecord.from_dict(record.to_dict()) == record
assert compare_traces(record, record).is_parity
foreign = {{name.partition(".")[0] for name in sys.modules}} - set(sys.stdlib_module_names) - {{"isotrace"}}
assert not foreign - {{"__main__"}}, foreign
print(sorted(name for name in sys.modules if name.startswith("isotrace")))
"""


def test_the_models_work_with_nothing_but_the_standard_library() -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-I", "-c", ALONE], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    loaded = set(ast.literal_eval(done.stdout))
    above = {"isotrace.events", "isotrace.record", "isotrace.stores", "isotrace.operations", "isotrace.cli"}
    assert not loaded & above


def test_importing_the_package_loads_nothing_of_it() -> None:
    code = f"import sys; sys.path.insert(0, {str(SOURCE)!r}); import isotrace; print(isotrace.__version__);"
    code += "print([name for name in sys.modules if name.startswith('isotrace.')])"
    done = subprocess.run(
        [sys.executable, "-S", "-I", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [isotrace.__version__, "[]"]


@pytest.mark.parametrize("name", sorted(set(isotrace.__all__) - {"__version__", "errors"}))
def test_every_public_name_is_the_one_at_home(name: str) -> None:
    home = import_module(isotrace._HOME[name])
    assert getattr(isotrace, name) is getattr(home, name)
    assert name in dir(isotrace)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'reply'"):
        _ = isotrace.reply
    with pytest.raises(ImportError):
        exec("from isotrace import reply")


def test_types_are_declared_for_every_name_that_loads_late() -> None:
    tree = ast.parse(Path(isotrace.__file__).read_text(encoding="utf-8"))
    declared = {
        alias.name: node.module
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert (declared.pop("errors"), declared.pop("Any")) == ("isotrace", "typing")
    assert declared == isotrace._HOME


def test_replay_is_the_function_although_a_package_has_that_name() -> None:
    package = import_module("isotrace.replay")
    assert isotrace.replay is import_module("isotrace.operations").replay
    assert sys.modules["isotrace.replay"] is package
    namespace: dict[str, object] = {}
    exec("from isotrace import replay\nfrom isotrace.replay import __doc__ as text", namespace)
    assert namespace["replay"] is isotrace.replay
    assert namespace["text"] == package.__doc__
