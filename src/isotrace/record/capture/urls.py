"""Addresses as they may stand in a record: without what must not be kept."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_plus

HIDDEN: Final = "***"

_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_SECRET: Final = re.compile(
    r"(?:^|[^a-z])(?:key|keyid|sig|auth|pwd|pass|code|jwt|sid|session)(?:$|[^a-z])"
    r"|apikey|api_key|app_?id|accesskey|access_key|secret|passw|passphrase|token(?!s)|signature|credential|authori[sz]ation"
)


def is_secret_name(name: str) -> bool:
    """Whether a parameter of this name holds what must not be kept: `key`, `api_key`, `X-Amz-Signature`, …"""
    return _SECRET.search(_CAMEL.sub("_", name).lower()) is not None


def without_secrets(url: str) -> str:
    """The URL with `***` in place of its user's name and password, and of secret parameters' values.

    Parameters stand in the query or in the fragment. All else is kept letter by letter.
    """
    if "?" not in url and "@" not in url and "#" not in url:
        return url
    head, mark, fragment = url.partition("#")
    head, question, query = head.partition("?")
    head = re.sub(r"^([^/]*//)[^/]*@", rf"\1{HIDDEN}@", head)
    return head + question + _parameters(query) + mark + _parameters(fragment)


def form_without_secrets(text: str) -> str:
    """A form's fields (`name=value&…`) with `***` in place of the secret ones' values."""
    return _parameters(text)


def _parameters(text: str) -> str:
    return "".join(_parameter(part) for part in re.split(r"([&;])", text))


def _parameter(part: str) -> str:
    name, equals, _ = part.partition("=")
    return f"{name}={HIDDEN}" if equals and is_secret_name(unquote_plus(name)) else part
