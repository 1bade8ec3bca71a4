"""What is run again: a function that is given, or the recorded entry point of a run that was sealed here."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import isotrace
from isotrace.contracts import RunQuery
from isotrace.errors import AmbiguousRunError, NoEntryPointError, ReplayError, RunNotFoundError, UsageError
from isotrace.formats.jsonl import JsonlExporter
from isotrace.models import TraceRecord
from isotrace.operations import open_store
from isotrace.replay import ReplayResult, named_function, recorded_call

executed: list[Any] = []


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A store of its own, modules that can be imported from here, and nothing left loaded."""
    executed.clear()
    monkeypatch.setenv("ISOTRACE_STORE", str(tmp_path / "traces.db"))
    monkeypatch.syspath_prepend(str(tmp_path))
    loaded = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - loaded:
        if str(getattr(sys.modules[name], "__file__", "") or "").startswith(str(tmp_path)):
            del sys.modules[name]
    sys.path[:] = [folder for folder in sys.path if not folder.startswith(str(tmp_path))]


@isotrace.skill(effect="read")
def ask(what: Any) -> Any:
    executed.append(what)
    return {"said": what}


@isotrace.agent("support")
def support(task: str, /, *more: str, tone: str = "kind", **options: Any) -> Any:
    return ask([task, list(more), tone, options])


@isotrace.agent
async def asupport(task: str = "nothing") -> Any:
    await asyncio.sleep(0.001)
    return ask(task)


def last() -> str:
    isotrace.flush()
    store = open_store()
    try:
        return store.resolve("@last", tenant_id="default")
    finally:
        store.close()


def runs() -> int:
    isotrace.flush()
    store = open_store()
    try:
        return store.count(RunQuery())
    finally:
        store.close()


def matched(result: ReplayResult, value: Any) -> None:
    assert (result.verdict, result.divergences, result.error) == ("MATCH", [], None)
    assert result.value == value
    assert len(executed) == 1, "only while recording"


# --- by name ----------------------------------------------------------------------------------------


def test_an_agent_is_found_by_its_recorded_entry_point() -> None:
    value = support("a", "b", "c", tone="firm", lang="de")
    matched(isotrace.replay(last()), value)
    assert runs() == 1, "a replay writes nothing"


def test_an_async_agent_is_found_and_gets_a_loop() -> None:
    value = asyncio.run(asupport("x"))
    matched(isotrace.replay(last()), value)


def test_an_async_agent_is_replayed_inside_a_loop_by_areplay() -> None:
    value = asyncio.run(asupport("x"))
    run_id = last()

    async def main() -> ReplayResult:
        with pytest.raises(ReplayError, match="event loop"):
            isotrace.replay(run_id)
        return await isotrace.areplay(run_id)

    matched(asyncio.run(main()), value)


def test_an_agent_that_was_called_without_arguments_is_called_so_again() -> None:
    value = asyncio.run(asupport())
    matched(isotrace.replay(last()), value)


@pytest.mark.parametrize("name", ["@last", "prefix", "id"])
def test_a_run_is_named_by_id_prefix_or_place(name: str) -> None:
    value = support("a")
    run_id = last()
    matched(isotrace.replay({"@last": "@last", "prefix": run_id[:8], "id": run_id}[name]), value)


def test_a_run_is_given_as_a_record() -> None:
    value = support("a")
    store = open_store()
    record = store.ledger(last(), tenant_id="default").record()
    store.close()
    matched(isotrace.replay(record), value)
    matched(isotrace.replay(TraceRecord.from_dict(json.loads(json.dumps(record.to_dict()))), support), value)


def test_a_run_is_looked_for_in_the_store_that_is_given(tmp_path: Path) -> None:
    other = str(tmp_path / "other.db")
    with isotrace.run("by hand", store=other, run_id="there"):
        ask("a")
    isotrace.flush()

    def body() -> None:
        with isotrace.run("by hand"):
            ask("a")

    assert isotrace.replay("there", body, store=other).verdict == "MATCH"
    store = open_store(other)
    assert isotrace.replay("there", body, store=store).verdict == "MATCH"
    store.close()
    with pytest.raises(RunNotFoundError):
        isotrace.replay("there", body)


def test_a_run_of_another_tenant_does_not_exist() -> None:
    with isotrace.run("by hand", tenant_id="acme", run_id="theirs"):
        ask("a")
    isotrace.flush()
    with pytest.raises(RunNotFoundError):
        isotrace.replay("theirs", lambda: ask("a"))
    assert isotrace.replay("theirs", lambda: ask("a"), tenant_id="acme").verdict == "MATCH"


def test_what_names_no_run_or_several_is_an_error() -> None:
    with isotrace.run("by hand", run_id="abc-1"):
        pass
    with isotrace.run("by hand", run_id="abc-2"):
        pass
    isotrace.flush()
    with pytest.raises(AmbiguousRunError):
        isotrace.replay("abc", lambda: None)
    with pytest.raises(RunNotFoundError):
        isotrace.replay("nowhere", lambda: None)


def test_an_unknown_mode_lists_the_modes() -> None:
    support("a")
    with pytest.raises(UsageError) as raised:
        isotrace.replay(last(), mode="lenient")
    assert raised.value.expected == "strict, tools-live, model-live, live"


# --- by function ------------------------------------------------------------------------------------------


def recorded_by_hand(body: Callable[[], Any]) -> str:
    with isotrace.run("by hand"):
        body()
    return last()


def test_a_function_may_open_the_run_or_be_its_body() -> None:
    run_id = recorded_by_hand(lambda: ask("a"))

    def opens() -> Any:
        with isotrace.run("by hand"):
            return ask("a")

    matched(isotrace.replay(run_id, opens), {"said": "a"})
    matched(isotrace.replay(run_id, lambda: ask("a")), {"said": "a"})
    assert runs() == 1


def test_an_async_function_may_open_the_run_or_be_its_body() -> None:
    @isotrace.skill(effect="read")
    async def fetch(what: Any) -> Any:
        executed.append(what)
        await asyncio.sleep(0.001)
        return what

    async def body() -> list[Any]:
        return list(await asyncio.gather(fetch("a"), fetch("b")))

    async def opens() -> list[Any]:
        async with isotrace.run("by hand"):
            return await body()

    asyncio.run(opens())
    run_id = last()
    del executed[1:]

    async def inside(function: Any) -> ReplayResult:
        return await isotrace.areplay(run_id, function)

    for function in (opens, body, lambda: body(), lambda: asyncio.run(opens())):
        matched(isotrace.replay(run_id, function), ["a", "b"])
    for function in (opens, body, lambda: body()):
        matched(asyncio.run(inside(function)), ["a", "b"])


def test_a_body_that_starts_its_own_loop_is_as_it_was_recorded() -> None:
    async def part() -> Any:
        await asyncio.sleep(0.001)
        return ask("a")

    run_id = recorded_by_hand(lambda: asyncio.run(part()))
    matched(isotrace.replay(run_id, lambda: asyncio.run(part())), {"said": "a"})


def test_a_body_has_a_run_to_ask() -> None:
    seen: list[Any] = []

    def body() -> None:
        me = isotrace.current_run()
        assert me is not None
        seen.append([me.run_id, me.now(), me.random.random()])
        me.set_result("done")
        ask("a")

    run_id = recorded_by_hand(body)
    assert isotrace.replay(run_id, body).verdict == "MATCH"
    assert seen[0] == seen[1]


def test_a_body_that_does_nothing_has_ended_early() -> None:
    run_id = recorded_by_hand(lambda: ask("a"))
    result = isotrace.replay(run_id, lambda: None)
    assert [str(one.code) for one in result.divergences] == ["EARLY_END"]


def test_a_body_that_takes_another_path_stops_there() -> None:
    run_id = recorded_by_hand(lambda: ask("a"))
    result = isotrace.replay(run_id, lambda: ask("b"))
    assert [(str(one.code), one.pointers) for one in result.divergences] == [("PARAMS_CHANGED", ["/what"])]


def test_a_function_may_call_the_agent() -> None:
    value = support("a")
    matched(isotrace.replay(last(), lambda: support("a")), value)
    asyncio.run(asupport("x"))
    executed.pop()

    async def calls() -> Any:
        return await asupport("x")

    matched(isotrace.replay(last(), calls), {"said": "x"})


def test_an_agent_that_is_given_is_called_with_the_recorded_input() -> None:
    value = support("a", tone="firm")
    matched(isotrace.replay(last(), support), value)


def test_an_agent_as_the_first_step_of_a_body_is_served() -> None:
    with isotrace.run("by hand", run_id="outer"):
        support("a")
    isotrace.flush()
    result = isotrace.replay("outer", lambda: support("a"))
    assert (result.verdict, len(executed)) == ("MATCH", 1)


def test_an_input_that_changes_shows(tmp_path: Path) -> None:
    support("a")
    result = isotrace.replay(last(), lambda: support("b"))
    assert [str(one.code) for one in result.divergences] == ["INPUT_CHANGED", "PARAMS_CHANGED"]


def test_erased_input_leaves_nothing_to_call_an_agent_with() -> None:
    support("a")
    store = open_store()
    store.erase(last(), [(0, "input")], tenant_id="default", reason="asked for")
    store.close()
    with pytest.raises(ReplayError, match="erased"):
        isotrace.replay(last())


@dataclass
class Order:
    id: str
    cents: int


@isotrace.agent
def typed(order: Order, tags: tuple[str, ...] = ()) -> str:
    ask([type(order).__name__, order.cents, list(tags)])
    return f"{order.id} {tags!r}"


def test_arguments_come_back_in_their_types() -> None:
    value = typed(Order("W-1", 5), ("a", "b"))
    matched(isotrace.replay(last()), value)


def test_recorded_arguments_are_passed_as_they_were() -> None:
    calls: list[Any] = []

    def function(a: Any, /, b: Any = 1, *rest: Any, c: Any = 2, **more: Any) -> None:
        calls.append((a, b, rest, c, more))

    for given in (
        {"a": 1},
        {"a": 1, "b": 5},
        {"a": 1, "rest": [7, 8]},
        {"a": 1, "b": 5, "rest": [7], "c": 9, "more": {"d": 1}},
    ):
        recorded_call(function, given)()
    assert calls == [(1, 1, (), 2, {}), (1, 5, (), 2, {}), (1, 1, (7, 8), 2, {}), (1, 5, (7,), 9, {"d": 1})]


# --- where there is nothing to follow -----------------------------------------------------------------


def test_a_run_by_hand_has_no_entry_point() -> None:
    run_id = recorded_by_hand(lambda: ask("a"))
    with pytest.raises(NoEntryPointError) as raised:
        isotrace.replay(run_id)
    assert raised.value.run_id == run_id
    assert raised.value.hint


def test_an_imported_run_s_entry_point_is_not_followed(tmp_path: Path) -> None:
    value = support("a")
    run_id = last()
    store, other = open_store(), open_store(str(tmp_path / "other.db"), create=True)
    file = tmp_path / "run.jsonl"
    with file.open("wb") as stream:
        JsonlExporter().write([store.ledger(run_id, tenant_id="default")], stream)
    store.close()
    other.close()
    from isotrace.operations import import_files

    other = open_store(str(tmp_path / "other.db"))
    import_files(other, "jsonl", [file], tenant_id="default")
    with pytest.raises(NoEntryPointError, match="not recorded on this machine"):
        isotrace.replay(run_id, store=other)
    matched(isotrace.replay(run_id, support, store=other), value)
    other.close()


def written(folder: Path, name: str, source: str) -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(textwrap.dedent(source))
    return file


AGENT = """
import isotrace

@isotrace.skill(effect="read")
def ask(what):
    print("really asked", what)
    return what + "!"

@isotrace.agent("greeter")
def greet(name="you"):
    return ask(name)
"""


def recorded_elsewhere(folder: Path, *command: str) -> str:
    """Records in a process of its own; the newest run."""
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return last()


def test_a_module_of_another_process_is_imported(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(here, "pack/__init__.py", "")
    written(here, "pack/greeter.py", AGENT)
    run_id = recorded_elsewhere(here, "-c", "from pack.greeter import greet; greet('Ada')")
    sys.path[:] = [folder for folder in sys.path if folder != str(here)]
    result = isotrace.replay(run_id)
    assert (result.verdict, result.value) == ("MATCH", "Ada!")
    assert capsys.readouterr().out == ""


def test_a_script_is_loaded_without_being_started(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = written(
        here, "greeter.py", AGENT + "\nif __name__ == '__main__':\n    print('started')\n    greet('Ada')\n"
    )
    run_id = recorded_elsewhere(here, str(script))
    result = isotrace.replay(run_id)
    assert (result.verdict, result.value) == ("MATCH", "Ada!")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda source: None, "gone"),
        (lambda source: source.replace('@isotrace.agent("greeter")', ""), "no function marked @agent"),
        (lambda source: source.replace("def greet", "def welcome"), "no function marked @agent"),
        (lambda source: "raise RuntimeError('no')", "can't be imported"),
        (lambda source: "import sys; sys.exit(3)", "can't be imported"),
        (lambda source: "def broken(:", "can't be imported"),
        (lambda source: source + "\ngreet('at import')", "opens a run"),
        (lambda source: source + "\ntry:\n    greet('x')\nexcept Exception:\n    pass\n", None),
        (lambda source: source + "\nask('at import')", "calls a skill"),
    ],
)
def test_an_entry_point_that_is_not_there_any_more_is_named(
    here: Path, change: Any, says: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    script = written(here, "greeter.py", AGENT + "\nif __name__ == '__main__':\n    greet('Ada')\n")
    run_id = recorded_elsewhere(here, str(script))
    source = change(script.read_text())
    if source is None:
        script.unlink()
    else:
        script.write_text(source)
    if says is None:
        assert isotrace.replay(run_id).verdict == "MATCH"
    else:
        with pytest.raises(NoEntryPointError) as raised:
            isotrace.replay(run_id)
        assert says in str(raised.value)
        assert raised.value.hint or says == "gone"
    assert capsys.readouterr().out == ""
    assert runs() == 1


def test_a_module_is_imported_under_guard(here: Path) -> None:
    script = written(here, "greeter.py", AGENT + "\nif __name__ == '__main__':\n    greet('Ada')\n")
    run_id = recorded_elsewhere(here, str(script))
    script.write_text("import socket\nsocket.gethostbyname('example.com')\n" + AGENT)
    with pytest.raises(NoEntryPointError, match="look up a host"):
        isotrace.replay(run_id)


def test_a_program_s_run_needs_the_command_line(here: Path) -> None:
    script = written(
        here, "plain.py", AGENT.replace("@isotrace.agent", "#") + "\nwith isotrace.run('x'):\n    ask('a')\n"
    )
    run_id = recorded_elsewhere(here, "-m", "isotrace.cli", "run", str(script))
    with pytest.raises(NoEntryPointError, match="program"):
        isotrace.replay(run_id)


def test_a_function_is_named_for_the_command_line(here: Path) -> None:
    script = written(here, "greeter.py", AGENT)
    assert named_function(f"{script}:greet").__name__ == "greet"
    assert named_function("json:dumps") is json.dumps
    for wrong in (
        "greet",
        "greeter.py:",
        ":x",
        "json:nothing",
        "nowhere.at.all:f",
        "json:__name__",
        f"{here}/no.py:f",
    ):
        with pytest.raises(UsageError):
            named_function(wrong)
    written(here, "bad.py", "1/0")
    with pytest.raises(UsageError, match="ZeroDivisionError"):
        named_function(f"{here}/bad.py:f")
