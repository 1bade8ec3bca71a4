"""Golden files on disk."""

from __future__ import annotations

import pytest

from isotrace.errors import ImportFormatError, UsageError
from isotrace.formats.golden import golden_text
from isotrace.ledger import Ledger
from isotrace.operations.goldens import (
    candidate_of,
    golden_of,
    goldens_in,
    read_golden,
    same_behaviour,
    write_golden,
)
from isotrace.testing.runs import llm, make_run, tool


def run(run_id: str = "run-1", *, asked: str = "hi", answer: str = "hello", **more: object) -> Ledger:
    steps = [llm({"prompt": asked}, {"text": answer}), tool("look", {"q": 1}, {"hits": []}, duration_ms=2.0)]
    return make_run(run_id, steps=steps, **more).ledger  # type: ignore[arg-type]  # arguments of make_events


def test_what_is_written_is_read_and_nothing_is_left_beside_it(tmp_path):
    path = tmp_path / "a" / "b.golden"
    assert write_golden(path, run(result="done")) is True
    back = read_golden(path)
    assert [(event.type, event.time_us, event.values) for event in back.events] == [
        (event.type, event.time_us, event.values) for event in run(result="done").events
    ]
    assert sorted(tmp_path.rglob("*")) == [path.parent, path]


def test_the_same_behaviour_leaves_the_file_byte_for_byte(tmp_path):
    path = tmp_path / "b.golden"
    write_golden(path, run(result="done"))
    before = path.read_bytes()
    again = run("run-2", result="done", seed=7, started_us=1_800_000_000_000_000, step_us=900)
    assert golden_text(again).encode() != before
    assert write_golden(path, again) is False
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "other",
    [
        run(asked="hey", result="done"),
        run(answer="hm", result="done"),
        run(result="else"),
        run(result="done", input={"a": 1}),
        run(result="done", status="failed"),
    ],
    ids=["path", "outcome", "result", "input", "status"],
)
def test_another_path_outcome_or_result_is_written(tmp_path, other):
    path = tmp_path / "b.golden"
    write_golden(path, run(result="done", input={"a": 0}))
    assert write_golden(path, other) is True
    assert path.read_text() == golden_text(other)


def test_what_can_not_be_compared_is_the_same_if_it_reads_the_same():
    one, same = run(result={"$iso:object": "m.C"}), run("run-2", result={"$iso:object": "m.C"})
    assert same_behaviour(one, same)
    assert not same_behaviour(one, run(result={"$iso:object": "m.D"}))


def test_a_golden_file_that_a_merge_damaged_is_written_anew_and_any_other_file_is_left(tmp_path):
    path = tmp_path / "b.golden"
    path.write_text(golden_text(run()).replace("step_finished", "<<<<<<< HEAD\nstep_finished", 1))
    assert write_golden(path, run()) is True
    assert len(read_golden(path).events) == 6
    for text in ("what I have to do today\n", "isotrace golden 2 iso1\n"):
        path.write_text(text)
        with pytest.raises(ImportFormatError):
            write_golden(path, run())
        assert path.read_text() == text


def test_a_file_that_is_not_there_is_a_named_error(tmp_path):
    with pytest.raises(UsageError, match="can't be read"):
        read_golden(tmp_path / "none.golden")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="can't be written"):
        write_golden(tmp_path / "file" / "x.golden", run())


def test_a_candidate_stands_beside_its_golden(tmp_path):
    assert candidate_of("g/refund.golden").as_posix() == "g/refund.golden.new"
    assert golden_of("g/refund.golden.new").as_posix() == "g/refund.golden"


def test_goldens_are_listed_in_order_each_once(tmp_path):
    names = ["b.golden", "a.golden", "sub/z.golden", "sub/deep/c.golden", "Z.golden"]
    others = ["a.golden.new", "notes.txt", ".venv/x.golden", "sub/z.golden.new"]
    for name in names + others:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    def listed(*paths: str, **options: bool) -> list[str]:
        found = goldens_in([tmp_path / path for path in paths], **options)
        return [path.relative_to(tmp_path).as_posix() for path in found]

    assert listed("") == ["Z.golden", "a.golden", "b.golden", "sub/z.golden", "sub/deep/c.golden"]
    assert listed("b.golden", "a.golden", "b.golden") == ["b.golden", "a.golden"]
    assert listed("", candidates=True) == ["a.golden.new", "sub/z.golden.new"]
    assert listed("a.golden", "sub/z.golden.new", candidates=True) == ["a.golden.new", "sub/z.golden.new"]


def test_what_is_no_golden_is_said(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.golden").touch()
    (tmp_path / "notes.txt").touch()
    for path, message in (
        ("empty", r"no \.golden file in the folder"),
        ("none.golden", "there is no such golden file"),
        ("none", "there is no such file or folder"),
        ("notes.txt", "not named as a golden file"),
    ):
        with pytest.raises(UsageError, match=message):
            goldens_in([tmp_path / path])
    with pytest.raises(UsageError, match=r"has no candidate.*check --record"):
        goldens_in([tmp_path / "a.golden"], candidates=True)


def test_names_that_differ_in_case_only_are_named(tmp_path):
    for name in ("a.golden", "A.golden"):
        (tmp_path / name).touch()
    with pytest.raises(UsageError, match="upper and lower case") as raised:
        goldens_in([tmp_path])
    assert "a.golden" in str(raised.value)
    assert "A.golden" in str(raised.value)
