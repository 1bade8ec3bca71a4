"""Golden files: a run as a text for people, from which it replays."""

from __future__ import annotations

import asyncio
import io
import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import isotrace
from isotrace.canonical import value_bytes
from isotrace.compare import Verdict, diff_traces
from isotrace.contracts import ImportedRun
from isotrace.errors import ImportFormatError, SchemaUnsupportedError, UsageError
from isotrace.events import Event
from isotrace.formats.golden import GoldenExporter, GoldenImporter, golden_text, read_golden_bytes
from isotrace.formats.source import Bounds
from isotrace.ledger import Ledger, erase, seal, verify
from isotrace.models import Erased
from isotrace.replay import Replay

PROMPT = "You are a support agent.\nNever refund twice.\n\n\tBe kind: \u202e \r\nEnd. "


def ledger_of(*rows: tuple[str, dict[str, Any], dict[str, Any]], run_id: str = "run-1") -> Ledger:
    started = {
        "scheme": "iso1",
        "run_id": run_id,
        "origin_run_id": run_id,
        "correlation_id": "c",
        "tenant_id": "default",
        "agent_id": "support",
        "seed": 12,
        "frozen_timestamp": None,
        "entry_point": {"module": "m"},
        "parent": None,
    }
    whole = [("run_started", started, {"input": {"order": "W-1"}, "environment": {"python": "3"}}), *rows]
    whole.append(("run_finished", {"status": "completed", "step_count": 1}, {"result": "done"}))
    events = [
        Event(
            seq,
            type_,
            1_700_000_000_000_000 + 17 * seq,
            dict(facts),
            {
                name: value if isinstance(value, bytes | Erased) else value_bytes(value)
                for name, value in values.items()
            },
        )
        for seq, (type_, facts, values) in enumerate(whole)
    ]
    return seal(events, bytes(32)).ledger


def step(
    lineage: list[int | str], params: Any, outcome: Any, skill: str = "chat", **facts: Any
) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    ended = {
        "lineage": lineage,
        "status": "success",
        "outcome_category": "SUCCESS",
        "outcome_code": None,
        "cost_cents": 0.0,
        "duration_ms": 1.5,
        "retry_count": 0,
        **facts,
    }
    return [
        (
            "step_started",
            {"lineage": lineage, "kind": "llm", "skill_name": skill, "effect": "read"},
            {"params": params},
        ),
        ("step_finished", ended, {"outcome_data": outcome}),
    ]


def asked(prompt: str, *more: Any) -> dict[str, Any]:
    return {"model": "gpt", "messages": [{"role": "system", "content": prompt}, *more], "temperature": 1e-07}


def read(text: str | bytes) -> Ledger:
    data = text.encode() if isinstance(text, str) else text
    return read_golden_bytes(data, "f.golden")


def comparable(ledger: Ledger) -> list[Any]:
    """The events without what follows from the file."""
    return [
        (
            event.seq,
            event.type,
            event.time_us,
            {name: fact for name, fact in event.facts.items() if name != "run_id"},
            event.values,
        )
        for event in ledger.events
    ]


def test_every_type_of_event_comes_back_byte_for_byte():
    ledger = ledger_of(
        *step([0], b'{"z":20.0,"a":1E-07,"k":{"x":[]}}', b'{"value":"\\u001f\\\\\\""}', "get"),
        ("value_read", {"lineage": [], "gap": 1, "source": "clock"}, {"value": {"first": [1, 2]}}),
        ("value_read", {"lineage": [], "index": 0, "source": "rate"}, {"value": 1.5}),
        (
            "step_started",
            {"lineage": [1, "e<u>\"'", 0], "kind": "llm", "skill_name": "ask me", "effect": "write"},
            {"params": asked(PROMPT), "raw_ids": {"0#0": "call_1"}},
        ),
        (
            "step_attempt",
            {"lineage": [1, "e<u>\"'", 0], "attempt": 0, "outcome_category": "TRANSIENT"},
            {"error": "e"},
        ),
        ("step_chunk", {"lineage": [1, "e<u>\"'", 0], "index": 0}, {"chunk": "x"}),
        (
            "step_finished",
            {
                **step([1, "e<u>\"'", 0], {}, {})[1][1],
                "stream": True,
                "child_run_id": "r2",
                "marks": ["a mark"],
                "usage": {"input_tokens": 3},
            },
            {"transport": {"status": 200}},
        ),
        *step([2], asked(PROMPT, {"role": "user", "content": "x" * 100}), {"text": PROMPT}),
        ("violation", {"lineage": [2], "policy_id": "pii/no-email"}, {"reason": "an e-mail address"}),
    )
    back = read(golden_text(ledger))
    assert comparable(back) == comparable(ledger)
    verify(back)
    assert read(golden_text(ledger)).root_hash == back.root_hash
    assert golden_text(back) == golden_text(ledger)


def test_what_a_person_sees():
    ledger = ledger_of(
        *step([0], asked("You are kind.\nNever refund twice."), {"content": "Hello.\nHow can I help?"}),
        *step([1], asked("You are kind.\nNever refund twice."), {"content": "ok"}),
    )
    assert golden_text(ledger).splitlines() == [
        "isotrace golden 1 iso1",
        'run_started agent_id=support input: {"order": "W-1"}',
        "step_started lineage=[0] kind=llm skill_name=chat effect=read",
        "  params: {",
        '    "model": "gpt",',
        '    "messages": [',
        "      {",
        '        "role": "system",',
        '        "content": <text>',
        "          | You are kind.",
        "          | Never refund twice.",
        "      }",
        "    ],",
        '    "temperature": 1e-07',
        "  }",
        "step_finished lineage=[0] status=success outcome_category=SUCCESS",
        "  outcome_data: {",
        '    "content": <text>',
        "      | Hello.",
        "      | How can I help?",
        "  }",
        "step_started lineage=[1] kind=llm skill_name=chat effect=read",
        "  params: {",
        '    "model": "gpt",',
        '    "messages": [',
        '      <first 1 of step [0] "/params/messages">',
        "    ],",
        '    "temperature": 1e-07',
        "  }",
        'step_finished lineage=[1] status=success outcome_category=SUCCESS outcome_data: {"content": "ok"}',
        'run_finished status=completed step_count=1 result: "done"',
        "",
        'recorded at="2023-11-14T22:13:20.000000Z"',
        '  origin_run_id="run-1"',
        '  correlation_id="c"',
        '  tenant_id="default"',
        "  seed=12",
        '  entry_point={"module": "m"}',
        "  times=[0, 17, 34, 51, 68, 85]",
        '  durations={"2": 1.5, "4": 1.5}',
        '  0.environment: {"python": "3"}',
    ]


def test_a_conversation_that_is_sent_again_with_each_call_is_written_once():
    messages: list[Any] = [{"role": "system", "content": "You are kind.\nNever refund twice."}]
    rows: list[Any] = []
    for at in range(60):
        messages.append({"role": "user", "content": f"question {at}: {'.' * 80}"})
        rows += step([at], {"model": "gpt", "messages": list(messages)}, {"content": f"answer {at}\n"})
        messages.append({"role": "assistant", "content": f"answer {at}\n"})
    ledger = ledger_of(*rows)
    text = golden_text(ledger)
    assert text.count("Never refund twice.") == 1
    assert text.count("question 7: ") == 1
    assert text.count("  <first ") == 59
    assert '      <first 114 of step [56] "/params/messages">,' in text.splitlines()
    assert len(text.splitlines()) < 60 * 30
    assert comparable(read(text)) == comparable(ledger)


def test_lists_that_are_equal_in_python_alone_are_written_apart():
    begin = "x" * 80
    values = [
        b'{"a":["%s",%s]}' % (begin.encode(), one) for one in (b"1", b"true", b"1.0", b"1E0", b"1e0", b"-0.0")
    ]
    ledger = ledger_of(*(one for at, data in enumerate(values) for one in step([at], data, {})))
    text = golden_text(ledger)
    assert text.count("<first 1 of ") == 5
    assert [event.values["params"] for event in read(text).events if event.type == "step_started"] == values


def test_conversations_side_by_side_go_on_from_their_own():
    rows: list[Any] = []
    said: dict[str, list[str]] = {"a": [], "b": []}
    for at in range(3):
        for who, texts in said.items():
            texts.append(f"{who} says {at}: {'.' * 80}")
            rows += step([at, who], {"said": list(texts)}, {})
    text = golden_text(ledger_of(*rows))
    assert '<first 2 of step [1, "a"] "/params/said">,' in text
    assert '<first 2 of step [1, "b"] "/params/said">,' in text
    assert text.count(" says 0: ") == 2


def changed_lines(one: Ledger, other: Ledger) -> list[tuple[str, str]]:
    before, after = golden_text(one).splitlines(), golden_text(other).splitlines()
    assert len(before) == len(after)
    return [pair for pair in zip(before, after, strict=True) if pair[0] != pair[1]]


def test_a_changed_sentence_of_a_prompt_that_every_step_repeats_is_one_changed_line():
    long = (
        "You are a support agent. Ask for the order first. Look it up. "
        "Then say what can be done about it, kindly. Never promise what you can't keep."
    )

    def run(prompt: str) -> Ledger:
        return ledger_of(*(one for at in range(5) for one in step([at], asked(prompt), {"at": at})))

    assert changed_lines(run(long), run(long.replace("Look it up.", "Guess."))) == [
        ("          >  Look it up.", "          >  Guess.")
    ]
    assert changed_lines(run("a\nb\nc"), run("a\nB\nc")) == [("          | b", "          | B")]


def test_another_recording_of_the_same_behaviour_differs_in_the_last_section_alone():
    one = ledger_of(*step([0], asked(PROMPT), {"text": "ok"}))
    other = ledger_of(*step([0], asked(PROMPT), {"text": "ok"}, duration_ms=9.25), run_id="run-2")
    other.events[0].facts["seed"] = 99
    for event in other.events:
        event.time_us += 1_000_000 + event.seq
    events = golden_text(one).partition("\nrecorded ")[0]
    assert golden_text(other).partition("\nrecorded ")[0] == events
    assert golden_text(other) != golden_text(one)


def test_what_is_erased_stays_so():
    ledger = erase(ledger_of(*step([0], asked(PROMPT), {"text": "ok"})), {(1, "params")})
    back = read(golden_text(ledger))
    assert comparable(back) == comparable(ledger)
    assert back.seed is None
    verify(back)


def test_the_exporter_takes_one_run():
    ledger = ledger_of()
    stream = io.BytesIO()
    assert GoldenExporter().write([ledger], stream) == 1
    with pytest.raises(UsageError, match="one run"):
        GoldenExporter().write([ledger, ledger], io.BytesIO())
    (run,) = GoldenImporter().read(io.BytesIO(stream.getvalue()), where="f", tenant_id="default")
    assert isinstance(run, ImportedRun)
    assert run.run_id not in ("run-1", "")
    (refused,) = GoldenImporter().read(io.BytesIO(stream.getvalue()), where="f", tenant_id="other")
    assert "another tenant" in str(refused)
    (taken,) = GoldenImporter().read(
        io.BytesIO(stream.getvalue()), where="f", tenant_id="other", as_tenant=True
    )
    assert isinstance(taken, ImportedRun)
    assert taken.sealed is not None
    assert taken.sealed.ledger.record().tenant_id == "other"


def test_line_ends_of_another_system_do_no_harm():
    text = golden_text(ledger_of(*step([0], asked(PROMPT), {"text": "ok"})))
    assert read(text.replace("\n", "\r\n")).root_hash == read(text).root_hash


def test_a_value_changed_by_hand_is_read_as_it_stands():
    text = golden_text(ledger_of(*step([0], asked(PROMPT), {"total": 20})))
    steps = read(text.replace('{"total": 20}', '{"total":  21.50 }')).record().steps
    assert steps[0].outcome_data == {"total": 21.5}


def test_a_run_written_by_hand_needs_no_last_section():
    text = golden_text(ledger_of(*step([0], {"a": 1}, {"b": 2})))
    ledger = read(text.partition("\nrecorded ")[0])
    facts = ledger.events[0].facts
    assert facts["origin_run_id"] == facts["correlation_id"] == facts["run_id"]
    assert [event.time_us for event in ledger.events] == [0, 0, 0, 0]


WRONG: list[tuple[str, str, int, str]] = [
    ("isotrace golden 1", "isotrace golden 2", 0, "newer isotrace"),
    ("isotrace golden 1 iso1", "isotrace golden 1 iso9", 0, "newer isotrace"),
    ("isotrace golden 1 iso1", "{}", 0, "not a golden file"),
    ("step_started ", "<<<<<<< HEAD\nstep_started ", 0, "a merge left its marks"),
    ("step_started ", "step_begun ", 0, "neither an event of a run nor indented"),
    ("effect=read", "effect", 0, "neither a fact nor a value"),
    ("effect=read", "effect=read kind=tool", 0, "names something twice"),
    ("effect=read", "", 0, "the fact effect of step_started is missing"),
    ("lineage=[0] kind", 'lineage="0" kind', 0, "the fact lineage of step_started"),
    ('"model": "gpt",', '"model": "gpt', 0, "a string has no end"),
    ('"model": "gpt",', '"model": "gpt"', 1, "is not JSON"),
    ('"model": "gpt",', '"model": 1, "model": 2,', -1, "names a key twice"),
    ('"model": "gpt",', '"model": NaN,', -1, "no such number"),
    ('"model": "gpt",', '"model": "\\ud800",', -1, "surrogate"),
    ("| Never", "Never", 0, "is not JSON"),
    ("| Never", "|Never", 0, "a line of a text can't be read"),
    ("          | You are kind.\n          | Never refund twice.\n", "", -1, "a text without lines"),
    ("| You are", "> You are", 0, "a text begins with"),
    ('"content": <text>', '"content": <txt>', 0, "an unknown mark"),
    (
        "<text>\n          | You are kind.\n          | Never refund twice.",
        '<as step [7] "/params">',
        0,
        "a reference leads to nothing",
    ),
    (
        '"model": "gpt",',
        '"model": [<first 2 of step [0] "/params/messages">],',
        0,
        "a reference leads to nothing",
    ),
    (
        "<text>\n          | You are kind.\n          | Never refund twice.",
        '<as run "/input">',
        0,
        "a reference leads to nothing",
    ),
    ("step_finished lineage=[0]", "step_finished lineage=[1]", 0, "never started"),
    ("status=success", "status=great", 0, "the fact status"),
    ("outcome_data: {", "outcome_data: 3 {", 0, "outcome_data has the wrong type"),
    ('"total": 20', '"total": 20}', 1, "neither a fact nor a value"),
    ("run_finished", "violation", 0, "the fact policy_id of violation"),
    ("run_started", "run_finished", 0, "the fact status of run_finished"),
    ('at="2023-11-14T22:13:20.000000Z"', "at=yesterday", 0, "time of the recording"),
    ("times=[0, 17,", "times=[0,", 0, "a number for each event"),
    ("times=[0, 17,", "times=[0, -17e3,", 0, "a time is out of range"),
    ("times=[0, 17,", "times=[0, 999999999999999999,", 0, "a time is out of range"),
    ('durations={"2"', 'durations={"1"', 0, "no step's end"),
    ("0.environment", "9.environment", 0, "an event that there is not"),
    ("0.environment", "1.environment", 0, "no such entry for a step_started"),
    ("seed=12", "seed=-1", 0, "the seed is out of range"),
    ("seed=12", "sead=12", 0, "no such entry"),
    ('tenant_id="default"', 'tenant_id=""', 0, "tenant_id is empty"),
]


@pytest.mark.parametrize(("old", "new", "below", "message"), WRONG, ids=[one[3] for one in WRONG])
def test_each_error_names_the_line_and_what_is_wrong(old, new, below, message):
    text = golden_text(ledger_of(*step([0], asked("You are kind.\nNever refund twice."), {"total": 20})))
    text = text.replace(
        'outcome_category=SUCCESS outcome_data: {"total": 20}',
        'outcome_category=SUCCESS outcome_data: {\n    "total": 20\n  }',
    )
    line = text[: text.index(old)].count("\n") + 1 + below
    with pytest.raises(ImportFormatError, match=message) as raised:
        read(text.replace(old, new, 1))
    assert raised.value.where == f"f.golden:{line}"


@pytest.mark.parametrize("style", ["merge", "diff3"])
def test_an_open_merge_conflict_is_named_with_its_line(style):
    lines = golden_text(ledger_of(*step([0], asked("You are kind."), {"total": 20}))).split("\n")
    at = next(at for at, line in enumerate(lines) if "You are kind." in line)
    base = ["||||||| base", lines[at]] if style == "diff3" else []
    ours = ["<<<<<<< HEAD", lines[at], *base, "=======", lines[at].replace("kind", "calm"), ">>>>>>> branch"]
    with pytest.raises(ImportFormatError, match=r"a merge left its marks.*resolve the conflict") as raised:
        read("\n".join([*lines[:at], *ours, *lines[at + 1 :]]))
    assert raised.value.where == f"f.golden:{at + 1}"


def test_merge_marks_in_a_recorded_text_are_a_text():
    text = golden_text(
        ledger_of(*step([0], asked("<<<<<<< HEAD\na\n=======\nb\n>>>>>>> branch"), {"total": 20}))
    )
    assert golden_text(read(text)) == text


def test_a_newer_version_is_told_apart():
    with pytest.raises(ImportFormatError) as raised:
        read("isotrace golden 2 iso1\n")
    assert isinstance(raised.value.__cause__, SchemaUnsupportedError)


def test_references_can_not_make_a_file_larger_than_its_bound():
    ledger = ledger_of(*(one for at in range(50) for one in step([at], {"text": "x" * 5000}, {})))
    text = golden_text(ledger)
    assert len(text) < 20_000
    with pytest.raises(ImportFormatError, match="the run is too large"):
        read_golden_bytes(text.encode(), "f", bounds=Bounds(ledger=100_000))
    with pytest.raises(ImportFormatError, match="the file is too large"):
        read_golden_bytes(text.encode(), "f", bounds=Bounds(total=1000))


def test_depth_and_length_without_content():
    for source in (
        "[" * 200_000,
        '{"a":' * 100_000,
        '"' * 200_001,
        '"\\' * 100_001,
        "<as <" * 100_000,
        "1" * 10_000,
    ):
        with pytest.raises(ImportFormatError):
            read(f"isotrace golden 1 iso1\nrun_started input: {source}\n")
        with pytest.raises(ImportFormatError):
            read(f"isotrace golden 1 iso1\nrun_started\n  input: {source}\n")


# --- any run, any bytes ---------------------------------------------------------------------

TEXTS = st.text(max_size=12) | st.sampled_from(
    [
        PROMPT,
        "a\n",
        "\n",
        "| x",
        "> x",
        "<text>",
        "a. b" * 40,
        " ",
        "\\",
        '"',
        "\x00\x1b",
        "👩\u200d💻" * 30,
        "x" * 80,
    ]
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(
    params=st.lists(st.dictionaries(TEXTS, JSON, max_size=4), min_size=1, max_size=4),
    outcome=st.dictionaries(TEXTS, JSON, max_size=3),
    key=st.text(max_size=3),
)
def test_any_values_come_back_byte_for_byte_and_no_line_holds_what_can_not_be_seen(params, outcome, key):
    rows = [one for at, each in enumerate(params) for one in step([at, key], orjson.dumps(each), outcome)]
    ledger = ledger_of(*rows)
    text = golden_text(ledger)
    assert comparable(read(text)) == comparable(ledger)
    for line in text.split("\n"):
        assert line.replace("\t", "").isprintable()
        assert line == line.rstrip()


SOURCE = golden_text(
    ledger_of(
        *step([0], asked(PROMPT), {"text": "x" * 90}),
        ("value_read", {"lineage": [], "gap": 1, "source": "clock"}, {"value": {"first": [1, 2]}}),
        *step([1, "eu"], asked(PROMPT), {"text": "x" * 90}),
    )
).encode()


def outcome_of(data: bytes) -> None:
    try:
        ledger = read(data)
    except ImportFormatError as error:
        where = str(error.where)
    else:
        where = "f.golden:"
        verify(ledger)
        ledger.record()
    assert where.startswith("f.golden:")


@settings(max_examples=500, deadline=None)
@given(data=st.data())
def test_any_byte_changed_cut_or_line_repeated_gives_a_run_or_a_named_error(data):
    raw = bytearray(SOURCE)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw) - 1))
        match data.draw(st.sampled_from(["flip", "cut", "swap", "repeat", "put"])):
            case "flip":
                raw[at] ^= 1 << data.draw(st.integers(0, 7))
            case "cut":
                del raw[at : at + data.draw(st.integers(1, 60))]
            case "put":
                raw[at:at] = data.draw(
                    st.sampled_from([b'"', b"<as ", b"|", b"\n", b"{", b"-", b"1e999", b"\xff"])
                )
            case way:
                lines = bytes(raw).split(b"\n")
                one = data.draw(st.integers(0, len(lines) - 1))
                lines.insert(data.draw(st.integers(0, len(lines) - 1)), lines[one])
                if way == "swap":
                    del lines[one]
                raw = bytearray(b"\n".join(lines))
    outcome_of(bytes(raw))


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=100), lines=st.lists(TEXTS | JSON.map(json.dumps), max_size=5))
def test_any_bytes_behind_the_first_line(data, lines):
    outcome_of(data)
    outcome_of(b"isotrace golden 1 iso1\n" + data)
    outcome_of(("isotrace golden 1 iso1\nrun_started input: " + "\n ".join(lines)).encode("utf-8", "replace"))


# --- replay ---------------------------------------------------------------------------------


@isotrace.skill(effect="read")
async def look(order: str, prompt: str) -> dict[str, Any]:
    await asyncio.sleep(0)
    return {"order": order, "note": PROMPT, "total": 20.5}


asks = {"prompt": PROMPT}


@isotrace.agent("golden-agent")
async def agent(order: str) -> str:
    run = isotrace.current_run()
    assert run is not None
    found = await asyncio.gather(*(look(f"{order}-{at}", asks["prompt"]) for at in range(3)))
    return f"{run.now().isoformat()} {run.random.random()} {run.uuid4()} {run.run_id} {len(found)}"


def test_what_was_recorded_matches_from_its_golden_file_and_a_changed_prompt_does_not(tmp_path, monkeypatch):
    monkeypatch.setenv("ISOTRACE_STORE", str(tmp_path / "traces.db"))
    store = isotrace.open_store(str(tmp_path / "traces.db"))
    asyncio.run(agent("W"))
    isotrace.flush()
    run_id = store.resolve("@last", tenant_id="default")
    ledger = store.ledger(run_id, tenant_id="default")
    back = read(golden_text(ledger))
    assert diff_traces(ledger.record(), back.record(), level="exact").verdict is Verdict.MATCH

    def again() -> Any:
        return Replay(back).run(lambda: asyncio.run(agent("W")))

    assert again().verdict is Verdict.MATCH
    monkeypatch.setitem(asks, "prompt", "another")
    diverged = again()
    assert [str(one.code) for one in diverged.divergences][:1] == ["PARAMS_CHANGED"]
