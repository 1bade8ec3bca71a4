"""What each built-in redactor finds, and what it leaves alone."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isotrace.redact.config import Config, config_of
from isotrace.redact.finders import BUILT_IN
from isotrace.redact.redaction import Redaction

RULES = config_of(
    {
        "patterns": {"order": r"ORD-\d{4}"},
        "keys": {"login": ["password", "PIN"]},
        "places": {"query": ["search:/query", "/input/task"]},
    },
    "isotrace.toml",
)
ALL = Redaction([*BUILT_IN, "pattern:order", "keys:login", "place:query"], RULES, None)
KEYED = Redaction([*BUILT_IN, "pattern:order", "keys:login", "place:query"], RULES, b"k1")

FOUND = [
    ("email", "mail alice@example.com.", "mail [email]."),
    ("email", "<bob.o-x+tag@mail.example.co.uk>", "<[email]>"),
    ("email", "ann@x.org…bob@y.org、eva@z.org", "[email]…[email]、[email]"),
    ("email", "/x?to=ann%40example.com&n=1", "/x?to=[email]&n=1"),
    ("card", "/x?n=4111+1111+1111+1111", "/x?n=[card]"),
    ("email", "jörg@münchen.example", "[email]"),
    ("email", '{"a":"line\\nann@x.org"}', '{"a":"line\\n[email]"}'),
    ("phone", "call +49 30 901820 now", "call [phone] now"),
    ("phone", "(415) 555-2671, 415-555-2671", "[phone], [phone]"),
    ("card", "4111 1111 1111 1111", "[card]"),
    ("card", "378282246310005/5555555555554444", "[card]/[card]"),
    ("card", "card 4111-1111-1111-1111 123", "card [card] 123"),
    ("iban", "to DE89 3704 0044 0532 0130 00 please", "to [iban] please"),
    ("iban", "GB29NWBK60161331926819", "[iban]"),
    ("ip", "from 10.1.2.3:80 and 2001:db8::17", "from [ip]:80 and [ip]"),
    ("ip", "fe80::1%eth0", "[ip]%eth0"),
    ("ssn", "SSN 078-05-1120.", "SSN [ssn]."),
    ("secrets", "key sk-proj-abc123def456ghi789!", "key [secrets]!"),
    ("secrets", "ghp_16C7e42F292c6912E7710c838347Ae178B4a", "[secrets]"),
    ("secrets", "npm_a1b2c3d4e5f6a7b8c9d0", "[secrets]"),
    ("secrets", "AKIAIOSFODNN7EXAMPLE", "[secrets]"),
    ("secrets", "Authorization: Bearer abcd1234efgh5678ijkl", "Authorization: Bearer [secrets]"),
    ("secrets", "authorization: basic dXNlcjpwYXNz", "authorization: basic [secrets]"),
    ("secrets", "postgres://app:s3cret@db/prod", "postgres://app:[secrets]@db/prod"),
    ("secrets", "Server=db;User=app;Password=s3cret;", "Server=db;User=app;Password=[secrets];"),
    ("secrets", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln-nat_ure", "[secrets]"),
    (
        "secrets",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIB+abc/def==\n-----END RSA PRIVATE KEY-----\nafter",
        "[secrets]\nafter",
    ),
    ("secrets", "-----BEGIN PRIVATE KEY-----\\nMIIBcut", "[secrets]"),
]

ESCAPED = [
    ("card", "4111 1111 1111 1111"),
    ("iban", "GB29NWBK60161331926819"),
    ("ip", "10.1.2.3"),
    ("ip", "2001:db8::17"),
    ("phone", "+49 30 901820"),
    ("phone", "(415) 555-2671"),
    ("secrets", "sk-proj-abc123def456ghi789"),
    ("secrets", "AKIAIOSFODNN7EXAMPLE"),
    ("ssn", "078-05-1120"),
    ("email", "ann@x.org"),
]

LEFT = [
    ("email", "git@github.com:a/b.git, icon@2x.png, pkg@1.2.3, a @ b.c, 12-@pytest.fixture"),
    ("phone", "5551234567, 2024-01-15, 1700000000, order 123-456-7890, 12.34.56"),
    ("card", "4111 1111 1111 1112, 1700000000000, 0000000000000000, 4111111111111111x"),
    ("iban", "DE89 3704 0044 0532 0130 01, GB29, AB12CDEF"),
    ("ip", "127.0.0.1, ::1, 2.0.0.0, [1::2], [::2], 1.2.3.4.5, 999.1.1.1, 12:34:56, v1.2.3.4, std::map"),
    ("ssn", "000-12-3456, 666-12-3456, 912-12-3456, 123-00-4567, 123-45-0000, 1123-45-6789"),
    (
        "secrets",
        "eyJhIjoxMjM0NTY3ODkwfQ, sk-learn-and-some-more-words, basic test, bearer of good news everywhere, https://x.y/z:1@2",
    ),
]


@pytest.mark.parametrize(("name", "text", "expected"), FOUND)
def test_a_redactor_finds(name: str, text: str, expected: str) -> None:
    assert Redaction([name], Config(), None).text(text) == expected


@pytest.mark.parametrize(("name", "text"), ESCAPED)
@pytest.mark.parametrize("before", ["\n", "\t", "\r\n", "\u0001", '"', "\\"])
def test_in_json_that_is_a_text_what_stands_behind_an_escape_is_found(
    name: str, text: str, before: str
) -> None:
    value = {"a": f"x{before}{text}{before}y", "b": [text]}
    whole = orjson.dumps(value).decode()
    made = Redaction([name], Config(), None).text(whole)
    assert orjson.loads(made) == {"a": f"x{before}[{name}]{before}y", "b": [f"[{name}]"]}


@pytest.mark.parametrize(("name", "text"), LEFT)
def test_a_redactor_leaves_alone(name: str, text: str) -> None:
    assert Redaction([name], Config(), None).text(text) == text


PIECES = st.sampled_from(
    [text for _, text, _ in FOUND]
    + [text for _, text in LEFT]
    + ["[email]", "[card", "]", "@", "a", "1", "4", " ", "-", ".", ":", "\\", '"', "\n", "ORD-1234"]
    + ['"password":"x"', '\\"pin\\": 12', "password=x&", "é", "[redactor email failed]"]
)
TEXTS = st.one_of(st.text(max_size=60), st.lists(PIECES, max_size=6).map("".join))


@given(TEXTS)
def test_what_was_redacted_is_not_changed_by_being_redacted_again(text: str) -> None:
    for redaction in (ALL, KEYED):
        once = redaction.text(text)
        assert redaction.text(once) == once


@given(TEXTS, TEXTS)
@settings(max_examples=50)
def test_the_same_text_is_redacted_the_same_anywhere(text: str, other: str) -> None:
    again = Redaction(ALL.names, RULES, None)
    again.text(other)
    assert again.text(text) == ALL.text(text)


@given(TEXTS)
def test_nothing_is_left_that_a_redactor_finds(text: str) -> None:
    left = ALL.text(text)
    for placeholder in ("[email]", "[card]", "[order]"):
        left = left.replace(placeholder, "\0")
    for part in left.split("\0"):
        assert "ORD-1234" not in part
        assert not list(BUILT_IN["card"](part))


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.floats(-1e9, 1e9), TEXTS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.one_of(TEXTS, st.just("password")), inner, max_size=4)
    ),
    max_leaves=12,
)


def _shape(value: object) -> object:
    if isinstance(value, dict):
        return [_shape(one) for one in value.values()]
    return [_shape(one) for one in value] if isinstance(value, list) else None


@given(JSON)
def test_the_structure_of_a_value_stays_and_redacting_it_again_changes_nothing(value: object) -> None:
    redaction = Redaction([*BUILT_IN, "pattern:order"], RULES, None)
    once = redaction.value(value, "outcome_data", "search")
    assert _shape(once) == _shape(value)
    assert redaction.value(once, "outcome_data", "search") == once


@given(st.lists(st.sampled_from("23 @.-ax:/"), max_size=40).map("".join), st.data())
def test_pieces_make_what_the_whole_text_makes(text: str, data: st.DataObject) -> None:
    text = f"say {text}alice@example.com, 4111 1111 1111 1111; sk-proj-abc123def456ghi789 {text}"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    texts = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    pieces = [orjson.dumps({"delta": {"content": one}}) for one in texts]
    made = [_content(piece) for piece in ALL.pieces(pieces, "llm", joined=True)]
    assert len(made) == len(texts)
    whole = "".join(made)
    assert "alice@" not in whole
    assert "1111" not in whole
    assert "sk-proj" not in whole
    assert ALL.text(whole) == whole


def _content(piece: bytes) -> str:
    return str(orjson.loads(piece)["delta"]["content"])


HUGE = ["4444 " * 60_000, "a@" * 150_000, "1.2.3.4" * 40_000, "-" * 300_000, "eyJ" * 90_000]


@pytest.mark.parametrize("name", sorted(BUILT_IN))
@pytest.mark.parametrize("text", HUGE)
def test_a_huge_text_is_done_with(name: str, text: str) -> None:
    made = Redaction([name], Config(), None).text(text)
    assert Redaction([name], Config(), None).text(made) == made
