"""Zip archives that nobody vouches for: a list of members, and each member's bytes, bounded.

The standard library finds the members. Their content is decompressed here, because there a zstd member is
expanded as far as it goes before anyone can say stop. Members are stored, deflated or zstd (method 93 of
APPNOTE.TXT, section 4.4.5).
"""

from __future__ import annotations

import io
import struct
import zlib
from mmap import mmap
from typing import BinaryIO, Final, cast
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from isotrace.errors import ImportFormatError
from isotrace.formats.source import Bounds, SourceStream, read_up_to

MAGIC: Final = b"PK\x03\x04"
ZSTD: Final = 93
MAX_RATIO: Final = 2_000
_RATIO_FROM: Final = 4 * 1024 * 1024
_DIRECTORY_BYTES: Final = 16 * 1024 * 1024
_ENCRYPTED: Final = 1
_LOCAL_HEADER: Final = struct.Struct("<4s5H3L2H")
_NAME_LENGTH: Final = 500


class _Directory(io.RawIOBase):
    """What `zipfile` reads an archive's directory from; it asks for all of it at once."""

    def __init__(self, data: bytes | mmap) -> None:
        super().__init__()
        self._data = data
        self._at = 0

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: len(self._data)}[whence]
        if base + offset < 0:
            raise BadZipFile("a place before the file's beginning")
        self._at = base + offset
        return self._at

    def read(self, size: int = -1, /) -> bytes:
        left = max(0, len(self._data) - self._at)
        size = left if size < 0 else min(size, left)
        # Each entry of the directory becomes an object ten times as large as itself.
        if size > _DIRECTORY_BYTES:
            raise BadZipFile(f"its directory is larger than {_DIRECTORY_BYTES} bytes")
        data = self._data[self._at : self._at + size]
        self._at += size
        return data


class Archive:
    """The members of a zip archive by name; of two with one name the last counts, as it replaces the first.

    `bounds.run` is the most that one member may hold, `bounds.total` all that are read. Nothing is
    written anywhere, so a name is only a name. Raises `ImportFormatError` for an archive that can't be read.
    """

    def __init__(self, data: bytes | mmap, where: str, bounds: Bounds) -> None:
        self._data = data
        self._where = where
        self._bounds = bounds
        self._left = bounds.total
        try:
            with ZipFile(cast("BinaryIO", _Directory(data))) as archive:
                self._members = {info.filename: info for info in archive.infolist()}
        except (BadZipFile, NotImplementedError, ValueError, OverflowError, struct.error) as error:
            raise ImportFormatError(
                "the archive can't be read: it is damaged, cut off or too large",
                where=where,
                pointer="",
                got=str(error),
            ) from None

    def names(self) -> list[str]:
        """The members' names as the directory has them, in its order."""
        return list(self._members)

    def place(self, name: str) -> str:
        """What errors call a member: its name may be anything, but not what moves a terminal's cursor."""
        shown = "".join(
            char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in name[:_NAME_LENGTH]
        )
        return f"{self._where}/{shown}"

    def read(self, name: str) -> bytes:
        """A member's content. Raises `ImportFormatError` if it is absent, damaged, encrypted or too large."""
        info = self._members.get(name)
        if info is None:
            raise ImportFormatError("the archive has no such member", where=self.place(name), pointer="")
        if info.flag_bits & _ENCRYPTED:
            raise self._fail(name, "a member is encrypted")
        limit = min(self._bounds.run, self._left)
        if info.compress_size * MAX_RATIO > _RATIO_FROM:
            limit = min(limit, info.compress_size * MAX_RATIO)
        else:
            limit = min(limit, _RATIO_FROM)
        data = self._content(name, info, limit)
        self._left -= min(len(data), limit)
        if len(data) > limit:
            raise self._fail(name, "a member is too large once decompressed", f"at most {limit} bytes")
        if len(data) != info.file_size or zlib.crc32(data) != info.CRC:
            raise self._fail(name, "a member is damaged", "the size and checksum that the directory states")
        return data

    def _fail(self, name: str, what: str, expected: str | None = None) -> ImportFormatError:
        return ImportFormatError(what, where=self.place(name), pointer="", expected=expected)

    def _raw(self, name: str, info: ZipInfo) -> bytes:
        header = self._data[info.header_offset : info.header_offset + _LOCAL_HEADER.size]
        if len(header) < _LOCAL_HEADER.size or not header.startswith(MAGIC):
            raise self._fail(name, "a member is damaged", "a header where the directory says it is")
        name_length, extra_length = _LOCAL_HEADER.unpack(header)[-2:]
        begin = info.header_offset + _LOCAL_HEADER.size + name_length + extra_length
        raw = self._data[begin : begin + info.compress_size]
        if len(raw) < info.compress_size:
            raise self._fail(name, "a member is cut off")
        return raw

    def _content(self, name: str, info: ZipInfo, limit: int) -> bytes:
        """The content, at most one byte more than `limit`."""
        raw = self._raw(name, info)
        if info.compress_type == ZIP_STORED:
            return raw[: limit + 1]
        if info.compress_type == ZIP_DEFLATED:
            try:
                return zlib.decompressobj(wbits=-zlib.MAX_WBITS).decompress(raw, limit + 1)
            except zlib.error as error:
                raise ImportFormatError(
                    "the compressed data is damaged", where=self.place(name), got=str(error)
                ) from None
        if info.compress_type == ZSTD:
            stream = SourceStream(io.BytesIO(raw), self.place(name), Bounds(total=limit + 1))
            data, failure = read_up_to(stream, limit + 1)
            if failure is not None:
                raise failure
            return data
        raise ImportFormatError(
            "a member is compressed in a way that is not read",
            where=self.place(name),
            expected="stored, deflate (8) or zstd (93)",
            got=str(info.compress_type),
        )
