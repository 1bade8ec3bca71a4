"""The fold from events to a record, and the ledger that seals them."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest

from isotrace.errors import RecordCorruptError, RecordGapError, SchemaUnsupportedError
from isotrace.events import Event, datetime_of, fold, lineage_key, lineage_text, time_text
from isotrace.hashing import outcome_digest
from isotrace.ledger import Ledger, erase, project, prove, seal, verify
from isotrace.models import Erased, TraceRecord, TraceStatus
from isotrace.testing.runs import make_events, tool

SEED = bytes(range(32))


def events() -> list[Event]:
    return make_events(
        "run-1",
        steps=[
            tool("find", {"q": "kettle"}, {"id": 7}),
            tool(
                "pay",
                {"cents": 4990},
                status="failure",
                category="TRANSIENT",
                code="TimeoutError",
                error="late",
            ),
            tool("pay", {"cents": 4990}, {"ok": True}, retry_count=1),
        ],
        metadata={"task": "1"},
    )


def sealed() -> Ledger:
    return seal(events(), SEED).ledger


# --- the fold -------------------------------------------------------------------------


def test_a_record_read_from_its_dictionary_is_the_folded_one() -> None:
    record = fold(events())
    assert TraceRecord.from_dict(record.to_dict()) == record
    assert [step.skill_name for step in record.steps] == ["find", "pay", "pay"]


def test_an_error_with_its_arguments_folds_to_its_message() -> None:
    log = events()
    failed = next(event for event in log if event.type == "step_finished" and "error" in event.values)
    failed.values["error"] = b'{"type":"TimeoutError","message":"late","args":["late",3]}'
    record = fold(log)
    context = record.steps[1].context
    assert context is not None
    assert context.error == "late"
    assert TraceRecord.from_dict(record.to_dict()) == record


def test_a_step_without_an_end_is_an_indeterminate_failure() -> None:
    record = fold(events()[:-2])
    last = record.steps[-1]
    assert (last.status, last.outcome_category, last.outcome_data) == (
        TraceStatus.FAILURE,
        "INDETERMINATE",
        None,
    )
    assert record.status == "running"


def test_steps_stand_in_the_order_of_their_lineages_whatever_the_schedule() -> None:
    record = fold(
        make_events(
            "r", steps=[tool("b", lineage=(1, 0)), tool("a", lineage=(0, 5)), tool("c", lineage=(0, "eu", 0))]
        )
    )
    assert [step.skill_name for step in record.steps] == ["c", "a", "b"]


@pytest.mark.parametrize(
    ("lineage", "text"), [((), ""), ((0,), "0"), ((0, 2, 1), "0.2.1"), ((0, 2, "eu", 1), "0.2[eu].1")]
)
def test_a_lineage_reads_as_numbers_and_keys(lineage: tuple[int | str, ...], text: str) -> None:
    assert lineage_text(lineage) == text


def test_a_keyed_branch_sorts_before_the_numbers_of_its_place() -> None:
    lineages: list[tuple[int | str, ...]] = [(2, 1), (10,), (2,), (2, "b"), (2, "a", 3)]
    assert sorted(lineages, key=lineage_key) == [(2,), (2, "a", 3), (2, "b"), (2, 1), (10,)]


def test_an_event_of_a_newer_version_is_named() -> None:
    log = events()
    log[1] = Event(1, "step_dreamt", log[1].time_us, dict(log[1].facts))
    with pytest.raises(SchemaUnsupportedError, match="step_dreamt"):
        fold(log)


def _twice(log: list[Event]) -> None:
    log[3].facts["lineage"] = log[1].facts["lineage"]


def _no_beginning(log: list[Event]) -> None:
    del log[0]


def _end_without_start(log: list[Event]) -> None:
    log[2].facts["lineage"] = [99]


@pytest.mark.parametrize("harm", [_twice, _no_beginning, _end_without_start])
def test_events_that_contradict_each_other_are_corrupt(harm: Callable[[list[Event]], None]) -> None:
    log = events()
    harm(log)
    with pytest.raises(RecordCorruptError):
        fold(log)


@pytest.mark.parametrize(("seq", "fact"), [(0, "seed"), (1, "kind"), (2, "status"), (7, "status")])
def test_an_event_that_lacks_a_fact_is_corrupt(seq: int, fact: str) -> None:
    log = events()
    del log[seq].facts[fact]
    with pytest.raises(RecordCorruptError, match=f"lacks a fact.*event {seq}.*{fact}"):
        fold(log)


@pytest.mark.parametrize(("fact", "value"), [("status", "dreamt"), ("lineage", [{"a": 1}]), ("lineage", 7)])
def test_a_fact_of_another_kind_is_corrupt(fact: str, value: object) -> None:
    log = events()
    log[2].facts[fact] = value
    with pytest.raises(RecordCorruptError, match="event 2"):
        fold(log)


# --- the ledger -----------------------------------------------------------------------


def test_sealing_twice_gives_the_same_root_and_rows() -> None:
    one, other = seal(events(), SEED), seal(events(), SEED)
    assert one == other
    verify(one.ledger)


def test_another_seed_gives_another_root_and_the_same_signature() -> None:
    one, other = seal(events(), SEED), seal(events(), bytes(32))
    assert one.ledger.root_hash != other.ledger.root_hash
    assert one.projection.signature == other.projection.signature


def _flip(ledger: Ledger) -> None:
    data = ledger.events[1].values["params"]
    assert isinstance(data, bytes)
    ledger.events[1].values["params"] = data.replace(b"kettle", b"kettlf")


def _fact(ledger: Ledger) -> None:
    ledger.events[2].facts["retry_count"] = 1


def _time(ledger: Ledger) -> None:
    ledger.events[2].time_us += 1


def _drop(ledger: Ledger) -> None:
    del ledger.events[3]


def _drop_and_renumber(ledger: Ledger) -> None:
    del ledger.events[3:5]
    for seq, event in enumerate(ledger.events):
        event.seq = seq


def _swap(ledger: Ledger) -> None:
    ledger.events[2], ledger.events[3] = ledger.events[3], ledger.events[2]


def _cut(ledger: Ledger) -> None:
    del ledger.events[-1]


def _empty(ledger: Ledger) -> None:
    ledger.events.clear()


@pytest.mark.parametrize(
    ("harm", "named"),
    [
        (_flip, "altered"),
        (_fact, "altered"),
        (_time, "altered"),
        (_drop, "missing or out of order"),
        (_drop_and_renumber, "altered"),
        (_swap, "missing or out of order"),
        (_cut, "tail is cut"),
        (_empty, "holds no events"),
    ],
)
def test_a_tampered_ledger_is_found_and_named(harm: Callable[[Ledger], None], named: str) -> None:
    ledger = copy.deepcopy(sealed())
    harm(ledger)
    with pytest.raises(RecordCorruptError, match=named):
        verify(ledger)


def test_every_event_can_be_proven_and_no_proof_fits_another_event() -> None:
    ledger = sealed()
    for seq in range(len(ledger.events)):
        proof = prove(ledger, seq)
        assert proof.holds()
        proof.leaf_index = (seq + 1) % len(ledger.events)
        assert not proof.holds()


def test_erasing_a_value_leaves_the_root_verifiable_and_the_others_readable() -> None:
    whole = sealed()
    left = erase(whole, {(1, "params")})
    verify(left)
    assert left.root_hash == whole.root_hash
    assert left.seed is None
    assert isinstance(left.events[1].values["params"], Erased)
    assert left.record().steps[1].params == {"cents": 4990}


def test_erasing_params_ends_the_path_and_takes_the_signature() -> None:
    projection = project(erase(sealed(), {(3, "params")}))
    assert [row.path is None for row in projection.steps] == [False, True, True]
    assert projection.signature is None


def test_erasing_what_is_not_there_is_refused() -> None:
    with pytest.raises(RecordGapError, match="no such value"):
        erase(sealed(), {(1, "outcome_data")})


def test_an_erased_value_whose_commitment_was_replaced_does_not_verify() -> None:
    ledger = erase(sealed(), {(1, "params")})
    ledger.events[1].values["params"] = Erased("00" * 32)
    with pytest.raises(RecordCorruptError):
        verify(ledger)


@pytest.mark.parametrize(
    ("kept", "text"),
    [
        (b'"late"', "late"),
        (b"null", None),
        (b'{"type":"E","message":"late"}', "late"),
        (b'{"type":"E","message":null}', None),
        (b'{"type":"E"}', '{"type":"E"}'),
        (b'{"message":{"$iso:str":"x"}}', '{"$iso:str":"x"}'),
        (b"[1]", "[1]"),
    ],
)
def test_the_error_of_a_step_is_a_text_whatever_it_was_recorded_as(kept: bytes, text: str | None) -> None:
    facts = {"skill_name": "s", "kind": "tool", "effect": "read", "lineage": [0]}
    ended = {"lineage": [0], "status": "failure", "outcome_category": "PERMANENT"}
    record = fold(
        [
            Event(0, "run_started", 0, {"run_id": "r", "correlation_id": "c", "tenant_id": "t", "seed": 0}),
            Event(1, "step_started", 1, facts, {"params": b"{}"}),
            Event(2, "step_finished", 2, ended, {"error": kept}),
        ]
    )
    context = record.steps[0].context
    assert context is not None
    assert context.error == text


def test_a_record_without_contents_lacks_params_and_outcomes_but_those_of_streams() -> None:
    steps = [tool("search", {"q": 1}, {"hits": 2.0}, error="no"), tool("listen", {"q": 2}, chunks=[1, 2])]
    events = make_events("r", steps=steps, metadata={"task": "t"}, result=3)
    whole, bare = fold(events), fold(events, contents=False)
    for step in whole.steps:
        step.params = {}
    whole.steps[0].outcome_data = None
    assert bare == whole
    assert bare.steps[1].outcome_data == {"chunks": [1, 2]}


def test_rows_hold_the_digests_of_the_record() -> None:
    steps = [
        tool("search", {"q": [1.50000004, "é"]}, {"hits": -0.0}, retry_count=2),
        tool("listen", {"q": 2}, chunks=[{"a": 0.5}, 2]),
        tool("pass", {}, None, code="Timeout", status="failure"),
    ]
    ledger = seal(make_events("r", steps=steps), bytes(32)).ledger
    record = ledger.record()
    rows = project(ledger).steps
    assert [row.determinism_hash for row in rows] == [
        bytes.fromhex(step.determinism_hash()) for step in record.steps
    ]
    assert [row.outcome_digest for row in rows] == [
        step.outcome_data and bytes.fromhex(outcome_digest(step.outcome_data)) for step in record.steps
    ]
    assert project(ledger).signature == record.determinism_signature()


@pytest.mark.parametrize("time_us", [0, 1, -1, 999_999, 1_700_000_000_000_000, -62_135_596_800_000_000])
def test_a_time_has_six_digits_and_a_z(time_us: int) -> None:
    text = datetime_of(time_us).replace(tzinfo=None).isoformat("T", "microseconds")
    assert time_text(time_us) == f"{text}Z"
