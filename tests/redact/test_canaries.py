"""Texts full of what has to go, next to whatever stands between words, whole and cut: nothing of it stays."""

from __future__ import annotations

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from isotrace.redact.config import Config
from isotrace.redact.finders import BUILT_IN
from isotrace.redact.redaction import Redaction

CANARIES = [
    "4111 1111 1111 1111",
    "378282246310005",
    "alice.canary@example.com",
    "bob+canary@mail.example.org",
    "DE89 3704 0044 0532 0130 00",
    "GB29NWBK60161331926819",
    "203.0.113.77",
    "2001:db8:85a3::8a2e:370:7334",
    "+49 30 90182077",
    "(415) 555-2671",
    "sk-proj-c4n4ryc4n4ryc4n4ry",
    "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
    "078-05-1120",
]
BETWEEN = [
    " ",
    " and ",
    "\n",
    ", ",
    '"',
    "(",
    ")",
    "<",
    ">",
    "; ",
    "|",
    "\t",
    "'",
    "[",
    "]",
    "{",
    "}",
    "\\n",
    "…",
]
ALL = Redaction(list(BUILT_IN), Config(), None)

between = st.sampled_from(BETWEEN)
texts = st.lists(
    st.tuples(between, st.sampled_from(CANARIES), between).map("".join), min_size=1, max_size=6
).map("".join)


@given(texts)
def test_no_canary_stays_in_a_text(text: str) -> None:
    made = ALL.text(text)
    assert [one for one in CANARIES if one in made] == []
    assert ALL.text(made) == made


@given(texts, st.data())
@settings(max_examples=150)
def test_no_canary_stays_in_pieces_however_they_are_cut(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    parts = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    answer = ALL.pieces([orjson.dumps({"delta": {"content": one}}) for one in parts], "chat", joined=True)
    joined = "".join(orjson.loads(one)["delta"]["content"] for one in answer)
    assert joined == ALL.text(text), "an answer in pieces is what it would be as a whole"
    said = ALL.pieces([orjson.dumps(one) for one in parts], "say", joined=False)
    told = ALL.pieces([orjson.dumps({"text": one}) for one in parts], "say", joined=False)
    for whole in (
        joined,
        "".join(orjson.loads(one) for one in said),
        "".join(orjson.loads(one)["text"] for one in told),
    ):
        assert [one for one in CANARIES if one in whole] == []
