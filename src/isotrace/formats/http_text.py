"""Recorded HTTP messages: hosts of URLs, bodies out of their encodings, dates."""

from __future__ import annotations

import re
import sys
import zlib
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

from isotrace.errors import LimitError
from isotrace.events import microseconds_of

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def host_of(url: str) -> str | None:
    """Host and port of an absolute URL, in lower case; None if it names no host."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
        port = parts.port
    except ValueError:
        return None
    if not host:
        return None
    return host if port is None else f"{host}:{port}"


def decoded(data: bytes, encoding: str, limit: int) -> bytes | None:
    """A body without its content encodings; None where one of them is not known here, or is damaged.

    Bytes that are not in the encoding that the header names come back as they are: a recorder may have
    decoded them and kept the header. Raises `LimitError` where more than `limit` bytes come out.
    """
    for name in reversed([part.strip().lower() for part in encoding.split(",")]):
        if name in ("", "identity"):
            continue
        found = _without(data, name, limit)
        if found is None:
            return None
        data = found
    return data


def _without(data: bytes, name: str, limit: int) -> bytes | None:
    try:
        if name in ("gzip", "x-gzip"):
            return _inflated(data, 31, limit) if data.startswith(b"\x1f\x8b") else data
        if name == "deflate":
            # RFC 9110, 8.4.1.2: zlib's format; some servers send the bare data.
            is_zlib = len(data) > 1 and data[0] & 15 == 8 and (data[0] << 8 | data[1]) % 31 == 0
            return _inflated(data, zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS, limit)
        if name == "zstd":
            return _unzstd(data, limit) if data.startswith(b"\x28\xb5\x2f\xfd") else data
    except (zlib.error, zstd.ZstdError):
        return data if _is_text(data) else None
    return data if _is_text(data) else None


def _inflated(data: bytes, wbits: int, limit: int) -> bytes:
    inflate = zlib.decompressobj(wbits)
    out = inflate.decompress(data, limit + 1)
    if len(out) > limit:
        raise _too_large(limit)
    if not inflate.eof:
        raise zlib.error("the data is cut off")
    return out


def _unzstd(data: bytes, limit: int) -> bytes:
    decompressor = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: 27})
    out = decompressor.decompress(data, limit + 1)
    if len(out) > limit:
        raise _too_large(limit)
    if not decompressor.eof:
        raise zlib.error("the data is cut off")
    return out


def _too_large(limit: int) -> LimitError:
    return LimitError("a body is too large once decompressed", expected=f"at most {limit} bytes")


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return b"\0" not in data


_FIELD: Final = re.compile(r"(?:data|event|id|retry)?:")


def is_event_stream(text: str) -> bool:
    """Whether a body begins as server-sent events do."""
    return _FIELD.match(text.lstrip("\ufeff\r\n")) is not None


def date_us(text: str) -> int | None:
    """Microseconds since 1970 of a `date` header; None of anything else."""
    try:
        us = microseconds_of(parsedate_to_datetime(text[:64]))
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
    return us if us >= 0 else None
