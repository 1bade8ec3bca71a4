"""The redactors that are built in: what each of them finds in a text.

Every one is precise rather than complete: what has a checksum is checked, what has a plan of numbers is held
against it, and what depends on the words around it is left to rules of the user's own.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, Final

import re2

from isotrace.redact.forms import BARE_TEXT, BODY, MARKED_TEXT

Span = tuple[int, int]

_MAX_MEMORY: Final = 64 * 1024 * 1024


def compiled(pattern: str) -> Any:
    """An RE2 pattern, which takes linear time on any text. Raises `re2.error` for what is none."""
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MAX_MEMORY
    return re2.compile(pattern, options)


_compiled = cache(compiled)

# RE2 looks neither behind nor ahead: what stands before is matched, what stands after is looked at. A text
# may be JSON, in which the letter of an escape (a backslash and an n) stands before.
_ESCAPE: Final = r"\\[bfnrt]|\\u[0-9A-Fa-f]{4}"
_NO_WORD: Final = rf"(?:^|{_ESCAPE}|[^0-9A-Za-z_.+-])"
_NO_TOKEN: Final = rf"(?:^|{_ESCAPE}|[^A-Za-z0-9_-])"
# Of other scripts, without what stands between words in them.
_LETTER: Final = r"A-Za-z\x{C0}-\x{1FFF}\x{3040}-\x{D7FF}"


def _spans(pattern: str, text: str, group: int = 1) -> Iterator[Span]:
    for match in _compiled(pattern).finditer(text):
        yield match.span(group)


def _goes_on(text: str, end: int, marks: str = "") -> bool:
    """Whether a word or a number goes on at `end`, or beyond one of the marks there."""
    if end < len(text) and (text[end].isalnum() or text[end] == "_"):
        return True
    return end + 1 < len(text) and text[end] in marks and text[end + 1].isalnum()


# --- secrets ----------------------------------------------------------------------------

_TOKEN = rf"{_NO_TOKEN}((?:{MARKED_TEXT}|{BARE_TEXT}|SG\.){BODY}{{12,}}(?:\.{BODY}+)*)"
_PEM = r"(-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----(?:[^-]|-[^-])*(?:-----END [A-Z0-9 ]*-----)?)"
_BEARER = rf"(?i:(?:^|{_ESCAPE}|[^a-z0-9])(?:bearer|token|apikey)\s+)([A-Za-z0-9+/_.~-]{{16,}}=*)"
_BASIC = rf"(?i:(?:^|{_ESCAPE}|[^a-z0-9])basic\s+)([A-Za-z0-9+/]{{4,}}=*)"
_IN_URL = r"(?:^|[^A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]*://[^\s/:@\"'\\<>\[\]]*:([^\s/@\"'\\<>\[\]]+)@"
_AWS = r"(?i:aws_?secret_?access_?key[\\\"'\s:=]{1,8})([A-Za-z0-9/+=]{40})"
_CONNECTION = r"(?i:(?:^|;)\s*(?:password|pwd|accountkey|sharedaccesskey)\s*=\s*)([^;\s\"'\\\[\]]+)(?:;|$)"


def secrets(text: str) -> Iterator[Span]:
    """Tokens of known services, private keys, JWTs, values of `Authorization`, passwords in addresses."""
    for start, end in _spans(_TOKEN, text):
        # Words that are joined by hyphens are no token, and JSON in base64 alone is none either.
        part = text[start:end]
        if any(letter.isdigit() for letter in part) and ("." in part or not part.startswith("eyJ")):
            yield start, end
    if "-----BEGIN" in text:
        yield from _spans(_PEM, text)
    for start, end in _spans(_BEARER, text):
        if any(letter.isdigit() for letter in text[start:end]):
            yield start, end
    for start, end in _spans(_BASIC, text):
        if _is_basic(text[start:end]):
            yield start, end
    if "://" in text:
        yield from _spans(_IN_URL, text)
    yield from _spans(_AWS, text)
    if ";" in text:
        yield from _spans(_CONNECTION, text)


def _is_basic(text: str) -> bool:
    """Whether this is `name:password` in base64 (RFC 7617)."""
    try:
        decoded = base64.b64decode(text, validate=True).decode()
        return ":" in decoded and decoded.isprintable()
    except (binascii.Error, ValueError):
        return False


# --- people -----------------------------------------------------------------------------

_EMAIL = rf"([{_LETTER}0-9._%+\-]*[{_LETTER}0-9_+](?:@|%40)(?:[{_LETTER}0-9\-]+\.)+[{_LETTER}]+)"
_FILES = frozenset(
    ["css", "csv", "gif", "html", "ico", "jpeg", "jpg", "js", "json", "md", "pdf", "png", "py"]
)
_FILES |= {"svg", "toml", "ts", "txt", "webp", "xml", "yaml", "yml", "zip"}


def email(text: str) -> Iterator[Span]:
    """Addresses of mail, in a URL too. Not files such as `icon@2x.png`, nor `git@` of a repository."""
    if "@" not in text and "%40" not in text:
        return
    for start, end in _spans(_EMAIL, text):
        top = text[text.rfind(".", start, end) + 1 : end].lower()
        if top not in _FILES and len(top) > 1 and not text.startswith("git@", start):
            yield start, end


_WORLD = rf"{_NO_WORD}(\+[1-9]\d{{0,2}}[ .-]?(?:\(\d{{1,4}}\)[ .-]?)?\d(?:[ .-]?\d){{5,12}})"
_NORTH = rf"{_NO_WORD}(\(?[2-9]\d\d(?:\) ?|[ .-])[2-9]\d\d[ .-]\d{{4}})"


def phone(text: str) -> Iterator[Span]:
    """Telephone numbers: international ones with their `+` (E.164: 8 to 15 digits), and those of North
    America in groups of 3, 3 and 4. Digits in a row are none."""
    for pattern in (_WORLD, _NORTH):
        for start, end in _spans(pattern, text):
            digits = sum(map(str.isdigit, text[start:end]))
            if 8 <= digits <= 15 and not _goes_on(text, end, "-."):
                yield start, end


_SSN = rf"{_NO_WORD}(\d{{3}}-\d\d-\d{{4}})"


def ssn(text: str) -> Iterator[Span]:
    """Social security numbers of the USA, as they are written with hyphens, within the ranges that were given
    out (no 000, 666, 9xx; no 00; no 0000)."""
    for start, end in _spans(_SSN, text):
        area, group, serial = text[start:end].split("-")
        given = area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"
        if given and not _goes_on(text, end, "-."):
            yield start, end


# --- money ------------------------------------------------------------------------------

_CARD = rf"(?:^|{_ESCAPE}|[^0-9A-Za-z_.])((?:[3-6]\d{{3}}|2[2-7]\d\d)[ +-]?\d\d)"
_CARD_LENGTHS: Final = (19, 16, 15, 14, 13)


def card(text: str) -> Iterator[Span]:
    """Numbers of payment cards: by the issuer's range, its lengths and the check digit (Luhn)."""
    done = 0
    for start, _ in _spans(_CARD, text):
        if start < done:
            continue
        digits, ends = _digits(text, start)
        for length in _CARD_LENGTHS:
            if length <= len(digits) and _is_card(digits[:length]) and not _goes_on(text, ends[length - 1]):
                done = ends[length - 1]
                yield start, done
                break


def _digits(text: str, start: int) -> tuple[str, list[int]]:
    """At most 19 digits from here, single blanks (in a URL `+`) and hyphens between them left out; the end of
    each."""
    digits, ends = "", list[int]()
    place = start
    while place < len(text) and len(digits) < 19:
        letter = text[place]
        if "0" <= letter <= "9":
            digits += letter
            ends.append(place + 1)
        elif letter not in " +-" or text[place - 1] in " +-":
            break
        place += 1
    return digits, ends


def _is_card(digits: str) -> bool:
    return len(digits) in _lengths(digits) and _luhn(digits)


def _lengths(digits: str) -> tuple[int, ...]:
    """How long numbers of this issuer are."""
    two, four = int(digits[:2]), int(digits[:4])
    if digits[0] == "4":
        return (13, 16, 19)
    if 51 <= two <= 55 or 2221 <= four <= 2720:
        return (16,)
    if two in (34, 37):
        return (15,)
    if two in (36, 38) or 300 <= int(digits[:3]) <= 305:
        return (14,)
    return (16, 19) if two in (35, 62, 64, 65) or four == 6011 else ()


def _luhn(digits: str) -> bool:
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return len(set(digits)) > 1 and (sum(map(int, digits[-1::-2])) + sum(doubled)) % 10 == 0


_IBAN = rf"(?:^|{_ESCAPE}|[^0-9A-Za-z])([A-Z]{{2}}\d\d ?[A-Z0-9]{{4}})"
_IBAN_LENGTHS: Final = {
    **dict.fromkeys(("NO",), 15),
    **dict.fromkeys(("BE",), 16),
    **dict.fromkeys(("DK", "FI", "FO", "GL", "NL"), 18),
    **dict.fromkeys(("MK", "SI"), 19),
    **dict.fromkeys(("AT", "BA", "EE", "KZ", "LT", "LU", "XK"), 20),
    **dict.fromkeys(("CH", "HR", "LI", "LV"), 21),
    **dict.fromkeys(("BG", "BH", "CR", "DE", "GB", "GE", "IE", "ME", "RS", "VA"), 22),
    **dict.fromkeys(("AE", "GI", "IL", "IQ", "TL"), 23),
    **dict.fromkeys(("AD", "CZ", "ES", "MD", "PK", "RO", "SA", "SE", "SK", "TN", "VG"), 24),
    **dict.fromkeys(("PT", "ST"), 25),
    **dict.fromkeys(("IS", "TR"), 26),
    **dict.fromkeys(("FR", "GR", "IT", "MC", "MR", "SM"), 27),
    **dict.fromkeys(("AL", "AZ", "BY", "CY", "DO", "GT", "HU", "LB", "PL", "SV"), 28),
    **dict.fromkeys(("BR", "EG", "PS", "QA", "UA"), 29),
    **dict.fromkeys(("JO", "KW", "MU"), 30),
    **dict.fromkeys(("MT", "SC"), 31),
}
"""By country, from the IBAN registry (ISO 13616)."""


def iban(text: str) -> Iterator[Span]:
    """Numbers of bank accounts: by the country's length and the check digits (ISO 13616, mod 97)."""
    for start, _ in _spans(_IBAN, text):
        length = _IBAN_LENGTHS.get(text[start : start + 2], 0)
        letters, place = "", start
        while place < len(text) and len(letters) < length:
            if text[place].isascii() and text[place].isalnum():
                letters += text[place]
            elif text[place] != " ":
                break
            place += 1
        if length and len(letters) == length and _mod97(letters) and not _goes_on(text, place):
            yield start, place


def _mod97(letters: str) -> bool:
    return int("".join(str(int(letter, 36)) for letter in letters[4:] + letters[:4])) % 97 == 1


# --- machines ---------------------------------------------------------------------------

_IP4 = rf"{_NO_WORD}(\d{{1,3}}\.\d{{1,3}}\.\d{{1,3}}\.\d{{1,3}})"
_HEX = r"[0-9A-Fa-f]{0,4}"
_IP6 = rf"(?:^|{_ESCAPE}|[^0-9A-Za-z_:.])({_HEX}(?::{_HEX}){{2,8}}(?:\.\d{{1,3}}){{0,3}})"


def ip(text: str) -> Iterator[Span]:
    """Addresses of machines, of version 4 and 6. Not those that name no machine (loopback, unspecified, whole
    networks), nor what rather is a number of a version or a slice (`2.0.0.0`, `1::2`)."""
    for pattern, mark, marks in ((_IP4, ".", "-."), (_IP6, ":", ":.")):
        if mark not in text:
            continue
        for start, end in _spans(pattern, text):
            try:
                found = ipaddress.ip_address(text[start:end])
            except ValueError:
                continue
            names_none = found.is_loopback or found.is_unspecified or not _is_machine(text[start:end], found)
            if not (names_none or _goes_on(text, end, marks)):
                yield start, end


def _is_machine(text: str, found: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if found.version == 4:
        return not text.endswith(".0.0")
    return sum(map(bool, text.split(":"))) >= 3 or found.is_private


BUILT_IN: Final[dict[str, Callable[[str], Iterator[Span]]]] = {
    "card": card,
    "email": email,
    "iban": iban,
    "ip": ip,
    "phone": phone,
    "secrets": secrets,
    "ssn": ssn,
}
VERSION: Final = "1"
"""Of all of them: another number wherever one finds something else than before."""
