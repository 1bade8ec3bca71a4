from __future__ import annotations

import errno
import gzip
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isotrace.errors import ImportFormatError, StoreUnavailableError
from isotrace.formats.jsonl import JsonlImporter
from isotrace.formats.mini_swe_agent import MiniSweAgentImporter
from isotrace.formats.source import (
    Bounds,
    SourceStream,
    detect_format,
    label_of,
    map_all,
    open_source,
    read_all,
)
from isotrace.formats.tau2 import Tau2Importer
from isotrace.formats.tau_bench import TauBenchImporter
from isotrace.formats.vcr import VcrImporter

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ALL: list[Any] = [JsonlImporter(), TauBenchImporter(), Tau2Importer(), MiniSweAgentImporter(), VcrImporter()]


class Failing(io.BytesIO):
    """A file on a disk that is going bad."""

    def read(self, size: int | None = -1, /) -> bytes:
        raise OSError(5, "Input/output error")


def test_a_disk_that_fails_while_reading_is_a_named_error():
    with pytest.raises(ImportFormatError, match="can't be read \\(x\\); got Input/output error"):
        SourceStream(Failing(), "x")


def content(raw: bytes, bounds: Bounds = Bounds()) -> tuple[bytes, ImportFormatError | None]:  # noqa: B008  # frozen
    return read_all(SourceStream(io.BytesIO(raw), "x", bounds), "x", bounds.total)


@given(st.binary(max_size=300), st.sampled_from(["plain", "gzip", "zstd"]), st.integers(1, 3))
def test_what_was_compressed_comes_back_whatever_the_number_of_members(data, form, members):
    if form == "plain":
        if data[:2] == b"\x1f\x8b" or data[:4] == b"\x28\xb5\x2f\xfd":
            return
        assert content(data) == (data, None)
        return
    pack = gzip.compress if form == "gzip" else zstd.compress
    assert content(b"".join([pack(data)] * members)) == (data * members, None)


def test_a_large_member_comes_back_whole():
    data = os.urandom(300_000) + bytes(2_000_000)
    assert content(gzip.compress(data)) == (data, None)
    assert content(zstd.compress(data)) == (data, None)


def test_zeros_after_a_gzip_member_are_padding_and_anything_else_is_refused():
    packed = gzip.compress(b"abc")
    assert content(packed + bytes(100_000)) == (b"abc", None)
    data, error = content(packed + b"tail")
    assert (data, str(error)) == (b"abc", "bytes follow the end of the compressed data (x)")


@pytest.mark.parametrize("pack", [gzip.compress, zstd.compress])
def test_of_compressed_data_that_is_cut_off_the_readable_part_is_kept(pack):
    data = os.urandom(500_000)
    kept, error = content(pack(data)[:-100_000])
    assert str(error) == "the compressed data is cut off (x)"
    assert len(kept) > 250_000
    assert data.startswith(kept)


def test_damaged_compressed_data_is_named_as_such():
    packed = bytearray(gzip.compress(b"abc" * 1000))
    packed[-6] ^= 1
    _, error = content(bytes(packed))
    assert str(error).startswith("the compressed data is damaged (x); got ")


@pytest.mark.parametrize("pack", [gzip.compress, zstd.compress])
def test_a_bomb_stops_at_the_bound(pack):
    bomb = pack(bytes(50_000_000))
    assert len(bomb) < 100_000
    kept, error = content(bomb, Bounds(total=1_000_000))
    assert len(kept) <= 1_000_000
    assert str(error) == "the file is too large once decompressed (x); expected at most 1000000 bytes"


def test_a_file_that_is_not_there_or_is_a_folder_is_a_named_error(tmp_path):
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(ImportFormatError, match="the file can't be read") as caught, open_source(path):
            pass
        assert caught.value.where == str(path)


def test_an_error_inside_the_with_block_is_left_alone(tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    with pytest.raises(StoreUnavailableError), open_source(tmp_path / "a"):
        raise StoreUnavailableError("an OSError too, but not of this file")


@pytest.mark.parametrize(
    ("where", "label"),
    [
        ("runs/tool-calling-l0-4.1.json.gz", "tool-calling-l0-4.1"),
        ("a/lib__lib-1.traj.json.gz", "lib__lib-1"),
        ("x.jsonl.zst", "x"),
        ("plain", "plain"),
        (".json", ".json"),
        ("-", None),
        ("<stdin>", None),
        ("", None),
    ],
)
def test_a_label_is_the_file_name_without_what_says_how_it_is_stored(where, label):
    assert label_of(where) == label


def test_each_format_is_told_by_its_beginning(tmp_path, tau_bench_run, tau2_file, mini_file, cassette):
    import json

    files = {
        "tau-bench": [tau_bench_run],
        "tau2-bench": tau2_file,
        "mini-swe-agent": mini_file,
        "vcr": cassette,
    }
    for name, source in files.items():
        path = tmp_path / name
        path.write_bytes(gzip.compress(json.dumps(source, indent=1).encode()))
        found = detect_format(path, ALL)
        assert found is not None
        assert found.name == name
    bare = tmp_path / "bare"
    bare.write_text(json.dumps(tau2_file["simulations"]))
    assert detect_format(bare, ALL) is ALL[2]


@pytest.mark.parametrize("text", ["", "[]", "{}", "hello", '{"a": 1}', "\x00\x01", '[{"role": "user"}]'])
def test_what_is_of_no_format_is_taken_by_none(tmp_path, text):
    path = tmp_path / "some"
    path.write_text(text)
    assert detect_format(path, ALL) is None


# --- memory ---------------------------------------------------------------------------------------

IMPORTS = """
import json, resource, sys
from pathlib import Path
from isotrace.formats.source import open_source
from isotrace.registry import importer

def data_bytes():
    line = next(one for one in open("/proc/self/status") if one.startswith("VmData:"))
    return int(line.split()[1]) * 1024

name, small, large, allowed = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
reader = importer(name)

def runs(path):
    with open_source(path) as stream:
        return sum(bool(run.run_id) for run in reader.read(stream, where=path, tenant_id="default"))

assert runs(small) == 2
limit = data_bytes() + allowed
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
print(runs(large))
"""


def _results(name: str, runs: int, size: int) -> bytes:
    """A file of so many runs, each with one message of `size` characters."""
    message = {"role": "user", "content": "x" * size}
    if name == "tau-bench":
        run = {"task_id": 1, "reward": 1.0, "trial": 0, "info": {}, "traj": [message]}
        return json.dumps([{**run, "task_id": number} for number in range(runs)]).encode()
    simulation = {"task_id": "1", "trial": 0, "reward_info": {"reward": 1.0}, "messages": [message]}
    simulations = [{**simulation, "id": str(number)} for number in range(runs)]
    return json.dumps({"info": {}, "tasks": [], "simulations": simulations}).encode()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems don't bound what a process allocates")
@pytest.mark.parametrize("compressed", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["tau-bench", "tau2-bench"])
def test_a_results_file_takes_the_memory_of_one_of_its_runs(
    tmp_path: Path, name: str, compressed: bool
) -> None:
    size, count = 512 * 1024, 80
    small, large = tmp_path / "small.json", tmp_path / "large.json"
    small.write_bytes(_results(name, 2, size))
    content = _results(name, count, size)
    large.write_bytes(gzip.compress(content, 1) if compressed else content)
    allowed = len(content) // 2
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS, name, str(small), str(large), str(allowed)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, f"{count}\n"), done.stderr


@pytest.mark.parametrize("size", [0, 1, 4 * 2**20, 4 * 2**20 + 1, 5 * 2**20])
def test_mapped_content_is_the_content(size: int) -> None:
    content = b"ab" * (size // 2) + b"c" * (size % 2)
    data, failure = map_all(io.BytesIO(content), "x", 2**30)
    assert (data[:], failure) == (content, None)


def test_mapped_content_ends_at_the_limit_and_at_damage() -> None:
    limit = 5 * 2**20
    data, failure = map_all(io.BytesIO(b"x" * (limit + 1)), "x", limit)
    assert (len(data), str(failure)) == (limit, f"the file is too large (x); expected at most {limit} bytes")
    cut = gzip.compress(os.urandom(limit), 1)[:-1000]
    data, failure = map_all(SourceStream(io.BytesIO(cut), "x"), "x", 2**30)
    assert limit - 100_000 < len(data) < limit
    assert failure is not None
    assert failure.what == "the compressed data is cut off"


def test_a_full_disk_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("isotrace.formats.source.TemporaryFile", full)
    with pytest.raises(ImportFormatError, match=r"No space left on device\. make room .*TMPDIR"):
        map_all(io.BytesIO(bytes(5 * 2**20)), "x", 2**30)
