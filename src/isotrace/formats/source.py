"""Opening files that nobody vouches for: decompression, and bounds on what comes out of it.

A compressed file of a few kilobytes can hold gigabytes, so every bound is checked on the
decompressed side, chunk by chunk, before the bytes are kept.
"""

from __future__ import annotations

import io
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from os import PathLike
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, BinaryIO, Final, Protocol

from isotrace.contracts import Importer
from isotrace.errors import ImportFormatError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

CHUNK: Final = 64 * 1024
_IN_MEMORY: Final = 4 * 1024 * 1024
HEAD_BYTES: Final = 64 * 1024
"""How much of a file `Importer.detect` is shown."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What an importer takes from one file, in bytes.

    `total`: the whole file, decompressed. `run`: one run as it stands in the file. `ledger`: all
    values of one run's events together; each LLM step repeats the messages so far, so a short
    file of many messages can ask for very much.
    """

    total: int = 1024 * 1024 * 1024
    run: int = 64 * 1024 * 1024
    ledger: int = 1024 * 1024 * 1024


DEFAULT_BOUNDS: Final = Bounds()


class _Decompressor(Protocol):
    """The interface of the standard library's incremental decompressors."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /, max_length: int = -1) -> bytes: ...


class _GzipMember:
    """One gzip member, behind the interface that the newer decompressors share."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(wbits=31)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._inflate.eof

    @property
    def unused_data(self) -> bytes:
        return self._inflate.unused_data

    def decompress(self, data: bytes, /, max_length: int = -1) -> bytes:
        out = self._inflate.decompress(self._inflate.unconsumed_tail + data, max(max_length, 0))
        # zlib may hold output back without any input left over, so only an empty answer asks for more.
        self.needs_input = not out and not self._inflate.unconsumed_tail
        return out


_GZIP_MAGIC: Final = b"\x1f\x8b"
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_MAGIC_BYTES: Final = 4
# The largest window that zstd itself grants by default (128 MiB): a frame may ask for far more memory.
_ZSTD_OPTIONS: Final[dict[int, int]] = {zstd.DecompressionParameter.window_log_max: 27}


def _decompressor_for(head: bytes) -> _Decompressor | None:
    if head.startswith(_GZIP_MAGIC):
        return _GzipMember()
    if head.startswith(_ZSTD_MAGIC):
        return zstd.ZstdDecompressor(options=_ZSTD_OPTIONS)
    return None


class SourceStream(io.RawIOBase):
    """A readable stream of a file's content, decompressed, that ends in a named error past its bounds.

    Reading raises `ImportFormatError` where the compressed data is damaged or cut off, or where
    more than `bounds.total` bytes come out. What was readable before that place has been returned
    by then, so that complete runs before a cut are not lost.
    """

    def __init__(self, raw: BinaryIO, where: str, bounds: Bounds = DEFAULT_BOUNDS) -> None:
        super().__init__()
        self._raw = raw
        self._where = where
        self._left = bounds.total
        self._bounds = bounds
        self._pending = self._more()
        while self._pending and len(self._pending) < _MAGIC_BYTES and (more := self._more()):
            self._pending += more
        self._decompressor = _decompressor_for(self._pending)
        self._ended = False

    def _more(self) -> bytes:
        try:
            return self._raw.read(CHUNK)
        except OSError as error:
            raise _unreadable(self._where, error) from None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        data = b"" if self._ended or not len(view) else self._some(min(len(view), CHUNK))
        self._left -= len(data)
        if self._left < 0:
            raise ImportFormatError(
                "the file is too large once decompressed",
                where=self._where,
                expected=f"at most {self._bounds.total} bytes",
            )
        view[: len(data)] = data
        return len(data)

    def _some(self, size: int) -> bytes:
        """1..`size` bytes, or none at the end."""
        if self._decompressor is None:
            if not self._pending:
                self._pending = self._more()
            data, self._pending = self._pending[:size], self._pending[size:]
            return data
        try:
            return self._inflated(self._decompressor, size)
        except (zlib.error, zstd.ZstdError) as error:
            raise ImportFormatError(
                "the compressed data is damaged", where=self._where, got=str(error)
            ) from None

    def _inflated(self, decompressor: _Decompressor, size: int) -> bytes:
        while True:
            if decompressor.eof:
                following = self._next_member(decompressor.unused_data + self._pending)
                if following is None:
                    return b""
                decompressor = self._decompressor = following
            if decompressor.needs_input and not self._pending:
                self._pending = self._more()
                if not self._pending:
                    raise ImportFormatError("the compressed data is cut off", where=self._where)
            data, self._pending = self._pending, b""
            if out := decompressor.decompress(data, size):
                return out

    def _next_member(self, rest: bytes) -> _Decompressor | None:
        """What reads on after a member or frame has ended; None at the end of the file."""
        while len(rest) < _MAGIC_BYTES and (more := self._more()):
            rest += more
        # gzip files may be padded with zeros, as those on tape are.
        if not rest.strip(b"\0"):
            self._pending = b""
            self._ended = True
            return None
        self._pending = rest
        following = _decompressor_for(rest)
        if following is None:
            raise ImportFormatError("bytes follow the end of the compressed data", where=self._where)
        return following


@contextmanager
def open_source(path: str | PathLike[str], bounds: Bounds = DEFAULT_BOUNDS) -> Iterator[SourceStream]:
    """The content of a file as a bounded stream; gzip and zstd are told by their first bytes.

    Raises `ImportFormatError` for a file that can't be opened or read.
    """
    where = str(path)
    try:
        raw = Path(path).open("rb")  # noqa: SIM115  # closed below; errors of the caller's are not ours to name
    except OSError as error:
        raise _unreadable(where, error) from None
    with raw, SourceStream(raw, where, bounds) as stream:
        yield stream


def _unreadable(where: str, error: OSError) -> ImportFormatError:
    return ImportFormatError(
        "the file can't be read", where=where, got=error.strerror or type(error).__name__
    )


def detect_format(path: str | PathLike[str], importers: Iterable[Importer]) -> Importer | None:
    """The first of these importers that takes the file for its own, by its decompressed beginning.

    Raises `ImportFormatError` for a file that can't be opened, read or decompressed.
    """
    with open_source(path) as stream:
        head, failure = read_up_to(stream, HEAD_BYTES)
    if failure is not None and not head:
        raise failure
    return next((importer for importer in importers if importer.detect(head, str(path))), None)


def read_up_to(stream: BinaryIO | SourceStream, limit: int) -> tuple[bytes, ImportFormatError | None]:
    """The first `limit` bytes, and the error that ended the reading before that, if one did."""
    chunks: list[bytes] = []
    left = limit
    try:
        while left > 0 and (chunk := stream.read(min(CHUNK, left))):
            chunks.append(chunk)
            left -= len(chunk)
    except ImportFormatError as error:
        return b"".join(chunks), error
    return b"".join(chunks), None


def read_all(
    stream: BinaryIO | SourceStream, where: str, limit: int
) -> tuple[bytes, ImportFormatError | None]:
    """The whole content, and the error that ended the reading, if one did: damage, or more than `limit`."""
    data, failure = read_up_to(stream, limit + 1)
    return (data[:limit], _too_large(where, limit)) if len(data) > limit else (data, failure)


def _too_large(where: str, limit: int) -> ImportFormatError:
    return ImportFormatError("the file is too large", where=where, expected=f"at most {limit} bytes")


def map_all(
    stream: BinaryIO | SourceStream, where: str, limit: int
) -> tuple[bytes | mmap, ImportFormatError | None]:
    """As `read_all`, for files that may be larger than memory: beyond 4 MiB the content lies in a
    temporary file without a name, and the system keeps in memory what it has room for.

    Raises `ImportFormatError` where the temporary file can't be written.
    """
    head, failure = read_up_to(stream, min(limit, _IN_MEMORY) + 1)
    if len(head) > limit:
        return head[:limit], _too_large(where, limit)
    if len(head) <= _IN_MEMORY:
        return head, failure
    try:
        with TemporaryFile(prefix="isotrace-") as file:
            failure = _copy(head, stream, file, where, limit) or failure
            file.flush()
            return mmap(file.fileno(), 0, access=ACCESS_READ), failure
    except OSError as error:
        raise ImportFormatError(
            "the file's content can't be put into a temporary file",
            where=where,
            got=error.strerror or type(error).__name__,
            hint="make room for it, or set TMPDIR to a folder that has room",
        ) from None


def _copy(
    head: bytes, stream: BinaryIO | SourceStream, file: IO[bytes], where: str, limit: int
) -> ImportFormatError | None:
    """Writes `limit` bytes at most; the error that ended it before the content did."""
    left = limit - file.write(head)
    try:
        while chunk := stream.read(CHUNK):
            file.write(chunk[:left])
            left -= len(chunk)
            if left < 0:
                return _too_large(where, limit)
    except ImportFormatError as error:
        return error
    return None


_COMPRESSION_SUFFIXES: Final = (".gz", ".zst", ".zstd")
_TEXT_SUFFIXES: Final = (".json", ".jsonl", ".traj", ".eval")


def label_of(where: str) -> str | None:
    """What a file's name says: `runs/l0-4o.json.gz` gives `l0-4o`. None where there is no name."""
    name = Path(where).name
    if not name or name == "-" or name.startswith("<"):
        return None
    for suffixes in (_COMPRESSION_SUFFIXES, _TEXT_SUFFIXES, _TEXT_SUFFIXES):
        for suffix in suffixes:
            if name.endswith(suffix) and name != suffix:
                name = name.removesuffix(suffix)
                break
    return name
