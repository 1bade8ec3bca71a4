from __future__ import annotations

import io
import struct
import sys
import zlib
from zipfile import ZIP_BZIP2, ZIP_DEFLATED, ZIP_STORED, ZipFile

import pytest

from isotrace.errors import ImportFormatError
from isotrace.formats.source import Bounds
from isotrace.formats.zipped import ZSTD, Archive

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

BOUNDS = Bounds(total=1_000_000, run=500_000)


def archive(*members: tuple[str, bytes], method: int = ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with ZipFile(out, "w", method) as file:
        for name, content in members:
            file.writestr(name, content)
    return out.getvalue()


def with_zstd(name: str, content: bytes, compressed: bytes | None = None) -> bytes:
    """An archive with one member that is compressed by zstd, built byte by byte."""
    raw = zstd.compress(content) if compressed is None else compressed
    fields = (0, ZSTD, 0, 33, zlib.crc32(content), len(raw), len(content), len(name), 0)
    local = struct.pack("<4s5H3L2H", b"PK\x03\x04", 63, *fields) + name.encode() + raw
    entry = struct.pack("<4s6H3L5H2L", b"PK\x01\x02", 63, 63, *fields, 0, 0, 0, 0, 0) + name.encode()
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, len(entry), len(local), 0)
    return local + entry + end


@pytest.mark.parametrize("method", [ZIP_STORED, ZIP_DEFLATED])
def test_stored_and_deflated_members_come_back(method):
    found = Archive(archive(("a.json", b"[1]"), ("b", b"x" * 10_000), method=method), "f.eval", BOUNDS)
    assert found.names() == ["a.json", "b"]
    assert [found.read("a.json"), found.read("b")] == [b"[1]", b"x" * 10_000]


def test_a_zstd_member_comes_back():
    assert Archive(with_zstd("a", b"hello " * 100), "f", BOUNDS).read("a") == b"hello " * 100


def test_of_two_members_with_one_name_the_last_counts():
    with pytest.warns(UserWarning, match="Duplicate"):
        data = archive(("a", b"1"), ("a", b"2"))
    assert Archive(data, "f", BOUNDS).read("a") == b"2"


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (archive(("a", b"x" * 500_001)), "a member is too large once decompressed"),
        (with_zstd("a", b"x" * 500_001), "a member is too large once decompressed"),
        (archive(("a", b"x"), method=ZIP_BZIP2), "a member is compressed in a way that is not read"),
        (with_zstd("a", b"hello", zstd.compress(b"jello")), "a member is damaged"),
        (with_zstd("a", b"hello", zstd.compress(b"hello")[:-3]), "the compressed data is cut off"),
        (archive(("a", b"hello" * 9)).replace(b"PK\x03\x04", b"PK\x03\x05"), "a member is damaged"),
    ],
)
def test_what_can_not_be_read_is_a_named_error_about_the_member(data, what):
    found = Archive(data, "f.eval", BOUNDS)
    with pytest.raises(ImportFormatError) as caught:
        found.read("a")
    assert (caught.value.what, caught.value.where) == (what, "f.eval/a")


def test_all_members_together_are_bounded():
    data = archive(*((name, b"x" * 400_000) for name in "abc"), method=ZIP_STORED)
    found = Archive(data, "f", BOUNDS)
    found.read("a")
    found.read("b")
    with pytest.raises(ImportFormatError, match="too large"):
        found.read("c")


def test_a_members_name_is_printable_in_errors():
    found = Archive(archive(("a\x1b[2J", b"x"), method=ZIP_BZIP2), "f.eval", BOUNDS)
    with pytest.raises(ImportFormatError) as caught:
        found.read("a\x1b[2J")
    assert caught.value.where == "f.eval/a\ufffd[2J"


def test_what_a_bad_member_took_counts_too():
    data = archive(("a", b"x" * 499_000), ("b", b"x" * 499_000), ("c", b"x" * 99_000))
    broken = data.replace(zlib.crc32(b"x" * 499_000).to_bytes(4, "little"), b"\0\0\0\0")
    found = Archive(broken, "f", BOUNDS)
    for name in "ab":
        with pytest.raises(ImportFormatError, match="damaged"):
            found.read(name)
    with pytest.raises(ImportFormatError, match="too large"):
        found.read("c")


def test_a_member_that_expands_too_far_is_refused_before_it_does():
    content = b"\0" * 200_000_000
    found = Archive(with_zstd("a", content), "f", Bounds(run=1_000_000_000))
    with pytest.raises(ImportFormatError, match="too large"):
        found.read("a")


def test_an_archive_that_is_cut_off_is_a_named_error():
    data = archive(("a", b"x" * 1000), ("b", b"y"))
    for end in range(4, len(data), 7):
        with pytest.raises(ImportFormatError, match="the archive can't be read"):
            Archive(data[:end], "f", BOUNDS)


def test_a_directory_beyond_its_bound_is_not_read():
    name = "n" * 60_000
    data = archive(*((f"{index}{name}", b"") for index in range(300)), method=ZIP_STORED)
    with pytest.raises(ImportFormatError, match="directory is larger"):
        Archive(data, "f", BOUNDS)


def test_an_archive_with_any_byte_changed_gives_its_members_or_named_errors():
    for data in (archive(("a", b"hello " * 9), ("b", b"")), with_zstd("a", b"hello " * 9)):
        for at in range(len(data)):
            changed = bytearray(data)
            changed[at] ^= 0xFF
            try:
                found = Archive(bytes(changed), "f", BOUNDS)
            except ImportFormatError:
                continue
            for name in found.names():
                try:
                    assert found.read(name) in (b"hello " * 9, b"")
                except ImportFormatError:
                    pass
