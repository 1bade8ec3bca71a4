"""A multipart body as its parts: the boundary between them is made anew each time, and says nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from hashlib import sha256
from typing import Any, Final

from isotrace.record.capture.urls import HIDDEN, is_secret_name

_MAX_DEPTH: Final = 8
_BOUNDARY = re.compile(r';\s*boundary=(?:"([^"]*)"|([^\s;]*))', re.IGNORECASE)
_NAME = re.compile(r'\bname="([^"]*)"')


def read_multipart(
    data: bytes, content_type: str, read: Callable[[bytes, str], Any], depth: int = 0
) -> dict[str, Any] | None:
    """`{"parts": [{"headers": …, "body": …}, …]}` of a multipart body, whose boundary stands in its type
    (RFC 2046, section 5.1); None where it has not that form.

    `read` makes a value of a part's body by its type. Fields with a secret's name are hidden.
    """
    found = _BOUNDARY.search(content_type)
    if found is None or depth > _MAX_DEPTH or not content_type.lower().startswith("multipart/"):
        return None
    boundary = (found[1] or found[2] or "").encode("latin-1", "replace")
    before, *parts = (b"\r\n" + data).split(b"\r\n--" + boundary)
    if not boundary or before or not parts or not parts.pop().startswith(b"--"):
        return None
    values: list[Any] = []
    for part in parts:
        if not part.startswith(b"\r\n"):
            return None
        values.append(_part(part, read, depth))
    return {"parts": values}


def _part(part: bytes, read: Callable[[bytes, str], Any], depth: int) -> dict[str, Any]:
    head, _, body = part.partition(b"\r\n\r\n")
    headers = {}
    for line in head.decode(errors="replace").split("\r\n"):
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    field = _NAME.search(headers.get("content-disposition", ""))
    if field is not None and is_secret_name(field[1]):
        return {"headers": _stable(headers), "body": HIDDEN}
    kind = headers.get("content-type", "text/plain")
    nested = read_multipart(body, kind, read, depth + 1)
    return {"headers": _stable(headers), "body": read(body, kind) if nested is None else nested}


def write_multipart(value: Any, write: Callable[[Any], bytes]) -> tuple[str, bytes] | None:
    """The type and the bytes of a form for which `read_multipart` gives this value; None where it is none.

    `write` makes bytes of a part's body.
    """
    parts = value["parts"] if isinstance(value, dict) and value.keys() == {"parts"} else None
    if not isinstance(parts, list) or not parts or not all(map(_is_field, parts)):
        return None
    lines = []
    for part in parts:
        head = "".join(f"{name}: {text}\r\n" for name, text in part["headers"].items())
        lines.append(f"\r\n{head}\r\n".encode() + write(part["body"]) + b"\r\n")
    boundary = sha256(b"".join(lines)).hexdigest()[:32]
    mark = f"--{boundary}".encode()
    data = b"".join(mark + line for line in lines) + mark + b"--\r\n"
    return f"multipart/form-data; boundary={boundary}", data


def _is_field(part: Any) -> bool:
    if not isinstance(part, dict) or part.keys() != {"headers", "body"}:
        return False
    headers = part["headers"]
    return isinstance(headers, dict) and "content-disposition" in headers


def _stable(headers: dict[str, str]) -> dict[str, str]:
    return {name: _BOUNDARY.sub("", value) for name, value in headers.items()}
