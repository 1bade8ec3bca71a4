from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isotrace.errors import ImportFormatError
from isotrace.formats.scan import JsonText

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=9), inner), max_leaves=6
)


@given(st.lists(VALUES), st.sampled_from([None, 1]), st.sampled_from(["", "\ufeff", " \n"]))
def test_the_elements_found_are_those_that_a_reader_finds(values, indent, before):
    text = JsonText((before + json.dumps(values, indent=indent) + "\n").encode(), "x")
    spans = list(text.elements(text.begin))
    text.check_end()
    assert [json.loads(text.data[span.begin : span.end]) for span in spans] == values
    assert [span.pointer for span in spans] == [f"/{i}" for i in range(len(values))]


@given(st.dictionaries(st.text(max_size=9), VALUES))
def test_the_members_found_are_those_that_a_reader_finds(value):
    text = JsonText(json.dumps(value).encode(), "x")
    found = {key: json.loads(text.data[at : text.end_of(at, "")]) for key, at in text.members(text.begin)}
    text.check_end()
    assert found == value


@given(st.lists(VALUES, min_size=1), st.data())
def test_of_a_text_cut_anywhere_all_whole_elements_are_found_and_the_cut_is_named(values, data):
    whole = json.dumps(values).encode()
    cut = data.draw(st.integers(1, len(whole) - 1))
    text = JsonText(whole[:cut], "x")
    spans: list[Any] = []
    with pytest.raises(ImportFormatError) as caught:
        spans.extend(text.elements(text.begin))
    found = [json.loads(whole[span.begin : span.end]) for span in spans]
    assert caught.value.what == "the file is cut off"
    assert found == values[: len(found)]
    # A number that ends at the cut may have gone on.
    spans = list(JsonText(whole, "x").elements(0))
    closed = [
        span for span in spans if span.end < cut or (span.end == cut and whole[cut - 1 : cut] in b'"]}')
    ]
    assert len(found) == len(closed)


@pytest.mark.parametrize(
    ("source", "what"),
    [
        (b'[{"a": 1}} ]', "not JSON (x, at '/0'); expected ',' or ']'; got b'} ]' at byte 9"),
        (b"[1 2]", "not JSON (x, at '/0'); expected ',' or ']'; got b'2]' at byte 3"),
        (b"[[1}]", "not JSON (x, at '/0'); expected the other bracket; got b'}]' at byte 3"),
        (b"[1,]", "not JSON (x, at '/1'); expected a value; got b']' at byte 3"),
    ],
)
def test_a_broken_array_says_where(source, what):
    text = JsonText(source, "x")
    with pytest.raises(ImportFormatError) as caught:
        list(text.elements(text.begin))
    assert str(caught.value) == what


def test_deep_or_unfinished_text_takes_time_in_proportion_to_its_length():
    for source in (b"[" * 1_000_000, b'["' + b"\\" * 1_000_001, b'[{"a":' * 300_000, b'["' * 400_000):
        with pytest.raises(ImportFormatError, match=r"cut off|not JSON"):
            list(JsonText(source, "x").elements(0))
