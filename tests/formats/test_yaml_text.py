from __future__ import annotations

import base64
import json
from collections import Counter

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from isotrace.contracts import ImportedRun
from isotrace.errors import (
    CycleError,
    DuplicateKeyError,
    ImportFormatError,
    IsotraceError,
    LimitError,
    NonFiniteError,
    NonStringKeyError,
    UnsupportedTypeError,
)
from isotrace.formats.vcr import VcrImporter
from isotrace.formats.yaml_text import read_yaml
from isotrace.ledger import seal, verify
from isotrace.plain import to_plain

LIMIT = 1_000_000


def parsed(text):
    data = text if isinstance(text, bytes) else text.encode()
    return read_yaml(data, "f.yaml", max_bytes=LIMIT)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
    | st.binary(max_size=20)
    | st.sampled_from(["yes", "1_000", "0o7", "1:30", "2025-01-01", "=", "<<", "~", ".inf", "1e3"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


@given(value=JSON, style=st.sampled_from([None, "'", '"', "|", ">"]), flow=st.booleans())
def test_whatever_a_recorder_writes_comes_back(value, style, flow):
    # Sorted keys would be another order of the pairs that stand for a dict with a key of isotrace's own.
    text = yaml.dump(
        value, Dumper=yaml.SafeDumper, default_style=style, default_flow_style=flow, sort_keys=False
    )
    assert parsed(text) == to_plain(value)


def test_values_that_look_like_others_are_what_json_has():
    assert parsed("[1, -0, 1.5, 1e3, true, Yes, ~, '1', 0x1F, 1_000, 1:30, 2025-01-01, .5, +1.]") == [
        *(1, 0, 1.5, "1e3", True, True, None, "1"),
        *("0x1F", "1_000", "1:30", "2025-01-01", 0.5, 1.0),
    ]
    assert parsed("a: !!binary |\n  aGk=\n") == {"a": {"$iso:bytes": base64.b64encode(b"hi").decode()}}
    assert parsed("") is None


def test_an_alias_stands_for_its_value():
    assert parsed("a: &x [1, {b: 2}]\nc: *x\nd: &y text\ne: *y\n") == {
        "a": [1, {"b": 2}],
        "c": [1, {"b": 2}],
        "d": "text",
        "e": "text",
    }


def bomb(levels, width, first):
    lines = [f"a0: &a0 {first}"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * width)}]" for n in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("levels", "width", "first"),
    [
        (10, 10, "lol"),  # a billion laughs
        (3, 1100, "x"),  # quadratic: many nodes
        (2, 900, "x" * 2000),  # few nodes, many bytes
        (101, 1, "x"),  # each a level deeper
    ],
)
def test_aliases_that_expand_are_refused_before_they_do(levels, width, first):
    with pytest.raises(LimitError, match="aliases written out") as caught:
        parsed(bomb(levels, width, first))
    assert caught.value.pointer


@pytest.mark.parametrize(
    ("text", "error", "pointer"),
    [
        ("a: &x [*x]", CycleError, "/a/0"),
        ("a: *x", IsotraceError, None),
        ("a: [1, !!python/object/apply:os.system ['true']]", UnsupportedTypeError, "/a/1"),
        ("a: !!python/unicode x", UnsupportedTypeError, "/a"),
        ("a: !!python/name:os.system ''", UnsupportedTypeError, "/a"),
        ("a: !!python/tuple [1]", UnsupportedTypeError, "/a"),
        ("a: !local {b: 1}", UnsupportedTypeError, "/a"),
        ("a: !!set {b}", UnsupportedTypeError, "/a"),
        ("b: &b {c: 1}\na: {<<: *b}", UnsupportedTypeError, "/a"),
        ("a: !!binary '='", UnsupportedTypeError, "/a"),
        ("a: !!int x", UnsupportedTypeError, "/a"),
        ("a: " + "9" * 401, UnsupportedTypeError, "/a"),
        ("a: .nan", NonFiniteError, "/a"),
        ("a: {b: 1, b: 2}", DuplicateKeyError, "/a/b"),
        ("a: {1: 2}", NonStringKeyError, "/a"),
        ("a: {[1]: 2}", NonStringKeyError, "/a"),
        ("a: {? {b: 1} : 2}", NonStringKeyError, "/a"),
        ("[" * 101 + "]" * 101, LimitError, None),
        ("- a\n" * 1_000_001, LimitError, None),
        ("--- 1\n--- 2\n", LimitError, None),
        ("a: [", ImportFormatError, None),
        ("a: b: c", ImportFormatError, None),
        ("a: \x07", ImportFormatError, None),
        (b"a: \xff", ImportFormatError, None),
        ('a: "\\ud800"', ImportFormatError, None),
    ],
)
def test_what_is_not_allowed_is_a_named_error(text, error, pointer):
    with pytest.raises(error) as caught:
        read_yaml(text if isinstance(text, bytes) else text.encode(), "f.yaml", max_bytes=8_000_000)
    if pointer is not None:
        assert caught.value.pointer == pointer


@given(data=st.binary(max_size=60) | st.text("ab:-[]{}&*!|>\"'\n ,?#%@`0.", max_size=60).map(str.encode))
def test_any_bytes_are_a_value_or_a_named_error(data):
    try:
        parsed(data)
    except IsotraceError:
        pass


def test_a_tag_of_python_is_refused_by_its_name():
    with pytest.raises(UnsupportedTypeError, match=r"tag:yaml\.org,2002:python/object/apply:os\.system"):
        parsed("a: !!python/object/apply:os.system [ls]")


# --- cassettes ------------------------------------------------------------------------


def test_a_cassette_in_yaml_is_the_same_run_as_in_json(read, cassette):
    (a,) = read(VcrImporter(), cassette)
    (b,) = read(VcrImporter(), yaml.safe_dump(cassette, sort_keys=False).encode())
    assert (a.run_id, a.events) == (b.run_id, b.events)


def test_bytes_of_a_body_are_read_and_shared_headers_too(read_one, cassette):
    one = cassette["interactions"][0]
    answer = one["response"]["body"]["string"]
    one["response"]["body"]["string"] = answer.encode()
    one["request"]["body"] = one["request"]["body"].encode()
    # The same object twice: an anchor and an alias.
    cassette["interactions"][1]["response"]["headers"] = one["response"]["headers"]
    text = yaml.safe_dump(cassette)
    assert "!!binary" in text
    assert "*id001" in text
    record, _ = read_one(VcrImporter(), text.encode())
    assert record.steps[0].outcome_data == json.loads(answer)


def test_a_cassette_that_is_cut_off_at_a_line_is_told(read, cassette):
    text = yaml.safe_dump(cassette).encode()
    with pytest.raises(ImportFormatError, match="cut off"):
        read(VcrImporter(), text[: text.index(b"version: 1")])


def test_a_bomb_in_a_cassette_is_an_import_error_whose_cause_says_more(read):
    with pytest.raises(ImportFormatError) as caught:
        read(VcrImporter(), bomb(10, 10, "lol").encode() + b"\ninteractions: []\nversion: 1\n", "f.yaml")
    assert caught.value.where == "f.yaml"
    assert isinstance(caught.value.__cause__, LimitError)


def test_every_real_cassette_is_a_run_that_verifies(data, read_file):
    kinds: Counter[tuple[str, str, str | None]] = Counter()
    streams = 0
    paths = sorted((data / "vcr").rglob("*.yaml"))
    for path in paths:
        with path.open("rb") as file:
            assert VcrImporter().detect(file.read(65536), str(path))
        (run,) = read_file(VcrImporter(), path)
        assert isinstance(run, ImportedRun), run
        ledger = seal(run.events, run.seed or b"").ledger
        verify(ledger)
        for step in ledger.record().steps:
            assert step.context is not None
            assert step.outcome_data is not None
            kinds[step.context.kind, step.skill_name, step.outcome_code] += 1
            streams += step.context.chunks is not None
    assert len(paths) == 39
    assert streams == 8  # one of them was refused: its answer came in one piece
    assert kinds == {
        ("llm", "chat", None): 76,
        ("llm", "chat", "400"): 5,
        ("llm", "generate_content", None): 1,
        ("http", "POST mcp.deepwiki.com", None): 17,
        ("http", "POST api.anthropic.com", None): 1,
        ("http", "POST api.anthropic.com", "404"): 1,
        ("http", "POST api.openai.com", None): 1,
        ("http", "DELETE api.openai.com", None): 1,
    }
