"""Whole values: keys, places, numbers, bytes, tags; and streams that cut what has to go."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from isotrace.compare.pseudonyms import pattern_of, without
from isotrace.plain import from_plain, to_plain
from isotrace.redact.config import Config, config_of
from isotrace.redact.engine import Engine, Named
from isotrace.redact.redaction import Redaction, fingerprint

RULES = config_of(
    {
        "patterns": {"customer": r"\b7\d{5}\b", "tail": r"id-(\d+)"},
        "keys": {"login": ["password", "api-key"]},
        "places": {"query": ["search:/query/*", "/input/task"]},
    },
    "isotrace.toml",
)


def made(value: Any, *names: str, of: str = "params", skill: str | None = "search") -> Any:
    return Redaction(names, RULES, None).value(value, of, skill)


def test_what_stands_under_a_key_goes_whatever_it_is() -> None:
    value = {"password": "hunter2", "a": [{"API_KEY": {"x": 1}, "apikey": 7, "passwords": "many"}], "b": None}
    assert made(value, "keys:login") == {
        "password": "[login]",
        "a": [{"API_KEY": "[login]", "apikey": "[login]", "passwords": "many"}],
        "b": None,
    }


def test_keys_are_found_in_json_and_forms_that_are_texts() -> None:
    text = '{"user":"ann","password":"hu\\"nter2","api_key": 12, "n": {"Password" : true}}'
    redacted = made({"arguments": text}, "keys:login")["arguments"]
    assert orjson.loads(redacted) == {
        "user": "ann",
        "password": "[login]",
        "api_key": "[login]",
        "n": {"Password": "[login]"},
    }
    within = orjson.dumps({"body": text}).decode()
    assert orjson.loads(orjson.loads(made(within, "keys:login", of="value"))["body"])["password"] == "[login]"
    assert made("user=ann&password=hunter2&x=1", "keys:login", of="value") == "user=ann&password=[login]&x=1"


def test_a_header_goes_by_its_name() -> None:
    transport = {"status": 200, "headers": [["api-key", "abc"], ["etag", "x"]], "names": ["password", "etag"]}
    assert made(transport, "keys:login", of="transport") == {
        "status": 200,
        "headers": [["api-key", "[login]"], ["etag", "x"]],
        "names": ["password", "etag"],
    }


def test_what_stands_at_a_place_goes_in_that_skill_alone() -> None:
    value = {"query": {"text": "abc", "top": 3}, "task": "x"}
    assert made(value, "place:query") == {"query": {"text": "[query]", "top": "[query]"}, "task": "x"}
    assert made(value, "place:query", skill="other") == value
    assert made({"task": ["a", "b"]}, "place:query", of="input", skill=None) == {"task": "[query]"}
    assert made({"task": "a"}, "place:query", of="result", skill=None) == {"task": "a"}


def test_numbers_go_where_a_card_or_a_pattern_is_one() -> None:
    value = {"card": 4111111111111111, "at": 1700000000000, "customer": 712345, "few": 7123, "f": 712345.5}
    assert made(value, "card", "pattern:customer") == {
        "card": "[card]",
        "at": 1700000000000,
        "customer": "[customer]",
        "few": 7123,
        "f": 712345.5,
    }


def test_of_a_pattern_with_a_group_the_group_goes() -> None:
    assert made("see id-44 and id-x", "pattern:tail", of="value") == "see id-[tail] and id-x"


def test_keys_of_objects_are_redacted_and_stay_apart() -> None:
    value = {"by": {"a@x.org": 1, "b@x.org": 2, "c": 3}}
    assert made(value, "email") == {"by": {"[email]": 1, "[email]#2": 2, "c": 3}}
    assert made({"by": {"a@x.org": 1, "[email]": 2}}, "email") == {"by": {"[email]": 1, "[email]#2": 2}}


def test_bytes_that_are_text_are_redacted_and_an_image_stays() -> None:
    image = bytes(range(256)) * 4 + b" ann@x.org "
    for coding in ("utf-8", "utf-16", "latin-1"):
        value = to_plain({"body": "größe ann@x.org".encode(coding), "image": image})
        redacted = from_plain(made(value, "email"))
        assert redacted["body"].decode(coding) == "größe [email]"
        assert redacted["image"] == image


def test_what_only_tags_can_say_stays_what_it_is() -> None:
    value = to_plain({"set": {"a@x.org", "b@x.org"}, "map": {1: "a@x.org"}, "big": 4111111111111111 * 10**40})
    redacted = from_plain(made(value, "email", "card"))
    assert redacted == {"set": {"[email]"}, "map": {1: "[email]"}, "big": 4111111111111111 * 10**40}


def test_a_secret_that_is_cut_goes_where_it_begins() -> None:
    redaction = Redaction(["email", "secrets"], Config(), None)
    cut = [orjson.dumps(one) for one in ("I am al", "ice@exam", "ple.com", " and sk-a", "b1cd2ef3gh4ij5!")]
    told = [orjson.loads(one) for one in redaction.pieces(cut, "say", joined=False)]
    assert told == ["I am [email]", "", "", " and [secrets]", "!"]


def test_an_escape_that_is_cut_stays_one() -> None:
    redaction = Redaction(["email"], Config(), None)
    cut = [orjson.dumps(one) for one in ('{"a":"x\\', 'nann@x.org"}')]
    told = "".join(orjson.loads(one) for one in redaction.pieces(cut, "say", joined=True))
    assert orjson.loads(told) == {"a": "x\n[email]"}


def test_bytes_that_are_cut_are_looked_at_as_one() -> None:
    redaction = Redaction(["email"], Config(), None)
    data = "grüße an ann@x.org".encode()
    cut = [data[:4], data[4:12], data[12:]]
    pieces = [orjson.dumps({"$iso:bytes": base64.b64encode(one).decode()}) for one in cut]
    told = redaction.pieces(pieces, "get", joined=True)
    assert b"".join(from_plain(orjson.loads(one)) for one in told).decode() == "grüße an [email]"


def test_texts_that_are_whole_by_themselves_stay_apart() -> None:
    redaction = Redaction(["email"], Config(), None)
    told = redaction.pieces([b'"alice@x.com"', b'"bob@y.org"', b'"x"'], "list", joined=False)
    assert told == [b'"[email]"', b'"[email]"', b'"x"']
    told = redaction.pieces([b'{"to":"alice@x.com"}', b'{"to":"hello"}'], "list", joined=False)
    assert told == [b'{"to":"[email]"}', b'{"to":"hello"}']


def test_mixed_answers_are_put_together_by_their_number() -> None:
    redaction = Redaction(["email"], Config(), None)
    texts = [(0, "al"), (1, "no"), (0, "ice@x.com"), (1, "thing")]
    pieces = [orjson.dumps({"choices": [{"index": i, "delta": {"content": t}}]}) for i, t in texts]
    told = [orjson.loads(one)["choices"][0] for one in redaction.pieces(pieces, "chat", joined=True)]
    assert [(one["index"], one["delta"]["content"]) for one in told] == [
        (0, "[email]"),
        (1, "no"),
        (0, ""),
        (1, "thing"),
    ]


def test_pseudonyms_keep_equality_visible_and_depend_on_the_key() -> None:
    one, other = (Redaction(["email"], Config(), key) for key in (b"one", b"other"))
    first = one.text("a@x.org b@x.org a@x.org").split(" ")
    assert first[0] == first[2] != first[1]
    assert first[0].startswith("[email:")
    assert other.text("a@x.org") != first[0]
    assert one.text(first[0]) == first[0]
    value = {"a": first, first[0]: 1, "b": to_plain(first[1].encode())}
    plain = without(value, pattern_of(["email"]))
    assert plain == {"a": ["[email]"] * 3, "[email]": 1, "b": to_plain(b"[email]")}
    assert one.facts() == {"use": [["email", "1"]], "key": fingerprint(b"one")}
    assert fingerprint(b"one") != fingerprint(b"other")


class _Broken:
    name = "broken"
    version = "1"

    def __init__(self, how: str) -> None:
        self.how = how

    def find(self, text: str) -> Iterator[tuple[int, int]]:
        if "secret" not in text:
            return
        if self.how == "raises":
            raise ValueError(text)
        yield (0, len(text) + 5) if self.how == "beyond" else (3, 2)


@pytest.mark.parametrize("how", ["raises", "beyond", "backwards"])
def test_a_redactor_that_fails_has_the_text_withheld(how: str) -> None:
    engine = Engine([Named("broken", _Broken(how))], ["broken"], None)
    assert engine.text("a secret") == "[redactor broken failed]"
    assert engine.text("[redactor broken failed]") == "[redactor broken failed]"
    assert engine.text("nothing") == "nothing"
    assert list(engine.problems) == ["redactor broken failed: texts that it was given were withheld"]
