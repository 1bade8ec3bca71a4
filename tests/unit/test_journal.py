"""A live run's journal: what was appended is there, whatever happens to the process or the disk."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import textwrap
import threading
from typing import Any

import pytest

from isotrace.errors import (
    JournalError,
    RecordCorruptError,
    RecordingWarning,
    RunInUseError,
    SchemaUnsupportedError,
)
from isotrace.events import Event
from isotrace.record import adopt_journals
from isotrace.record.journal import (
    Journal,
    journal_name,
    quarantine,
    read_journal,
    scan,
    try_adopt,
)
from isotrace.record.lines import JournalHeader, framed
from isotrace.record.memory_journal import MemoryJournal
from isotrace.stores.sqlite import SqliteStore

SEED = bytes(range(32))
EVENTS = [
    (
        "run_started",
        1_700_000_000_000_000,
        b'"run_id":"r1","seed":7',
        {"plan": b"[]", "input": b'{"a":1.50}'},
    ),
    (
        "step_started",
        1_700_000_000_000_001,
        b'"lineage":[0],"kind":"tool"',
        {"params": '{"é":1e+16}'.encode()},
    ),
    ("step_finished", 1_700_000_000_000_002, b'"lineage":[0],"status":"success"', {"outcome_data": b"null"}),
    ("run_finished", 1_700_000_000_000_003, b'"status":"completed","step_count":1', {}),
]


def written(folder, events=EVENTS, **options):
    journal = Journal.create(folder, "r1", "acme", SEED, **options)
    for event in events:
        journal.append(*event)
    return journal


def data_of(journal):
    return journal.path.read_bytes()


def test_what_was_appended_is_read_back_to_the_byte(tmp_path):
    journal = written(tmp_path / "journals")
    content = read_journal(journal.path)
    assert content.header == JournalHeader("r1", "acme", SEED, os.getpid())
    assert not content.torn
    assert content.events == [
        Event(
            0,
            "run_started",
            1_700_000_000_000_000,
            {"run_id": "r1", "seed": 7},
            {"plan": b"[]", "input": b'{"a":1.50}'},
        ),
        Event(
            1,
            "step_started",
            1_700_000_000_000_001,
            {"lineage": [0], "kind": "tool"},
            {"params": '{"é":1e+16}'.encode()},
        ),
        Event(
            2,
            "step_finished",
            1_700_000_000_000_002,
            {"lineage": [0], "status": "success"},
            {"outcome_data": b"null"},
        ),
        Event(3, "run_finished", 1_700_000_000_000_003, {"status": "completed", "step_count": 1}, {}),
    ]
    assert journal.content() == content
    memory = MemoryJournal("r1", "acme", SEED)
    assert [memory.append(*event) for event in EVENTS] == [0, 1, 2, 3]
    assert memory.content() == content


def test_the_file_is_private_and_its_name_says_nothing(tmp_path):
    journal = written(tmp_path / "state" / "journals")
    assert journal.path.name == journal_name("r1", "acme")
    assert "r1" not in journal.path.name
    assert journal.path.stat().st_mode & 0o777 == 0o600
    assert journal.path.parent.stat().st_mode & 0o777 == 0o700
    assert list(journal.path.parent.iterdir()) == [journal.path]
    assert journal_name("r1", "other") != journal_name("r1", "acme")


def test_a_second_journal_of_one_run_is_refused_and_the_first_goes_on(tmp_path):
    journal = written(tmp_path)
    with pytest.raises(RunInUseError) as caught:
        Journal.create(tmp_path, "r1", "acme", bytes(32))
    assert caught.value.run_id == "r1"
    assert caught.value.where == str(journal.path)
    journal.append("violation", 1, b'"policy_id":"p"', {})
    assert len(journal.content().events) == 5
    assert list(tmp_path.iterdir()) == [journal.path]
    Journal.create(tmp_path, "r1", "other tenant", bytes(32)).remove()


def test_a_live_journal_is_not_adopted_and_an_ended_one_is(tmp_path):
    journal = written(tmp_path)
    assert scan(tmp_path) == [journal.path]
    assert try_adopt(journal.path) is None
    journal.close()
    adopted = try_adopt(journal.path)
    assert adopted is not None
    assert adopted.content().events == read_journal(journal.path).events
    assert try_adopt(journal.path) is None  # the adopter's lock holds too
    with pytest.raises(JournalError):
        adopted.append("violation", 1, b"", {})
    adopted.remove()
    assert scan(tmp_path) == []
    assert try_adopt(journal.path) is None


def test_a_journal_that_was_replaced_while_it_was_locked_is_left_alone(tmp_path, monkeypatch):
    old = written(tmp_path)
    old.close()
    real = fcntl.flock

    fresh = []

    def replaced_meanwhile(fd, operation):
        # Another process adopts and seals the old journal; then the run id is used again.
        monkeypatch.setattr(fcntl, "flock", real)
        old.path.unlink()
        fresh.append(written(tmp_path))
        return real(fd, operation)

    monkeypatch.setattr(fcntl, "flock", replaced_meanwhile)
    assert try_adopt(old.path) is None
    assert len(fresh[0].content().events) == 4


def test_removing_takes_only_ones_own_file(tmp_path):
    journal = written(tmp_path)
    journal.path.unlink()
    other = written(tmp_path)
    journal.remove()
    assert other.path.exists()
    assert [event.seq for event in journal_after(other).events] == [0, 1, 2, 3]


def journal_after(journal: Journal):
    journal.close()
    return read_journal(journal.path)


def test_a_closed_journal_takes_no_more_and_closing_twice_is_fine(tmp_path):
    journal = written(tmp_path)
    journal.close()
    journal.close()
    with pytest.raises(JournalError):
        journal.append(*EVENTS[1])
    with pytest.raises(JournalError):
        journal.content()
    assert len(read_journal(journal.path).events) == 4


# --- damage -------------------------------------------------------------------------------


def test_cut_anywhere_a_journal_is_a_prefix_of_itself(tmp_path):
    journal = written(tmp_path)
    whole = journal.content()
    data = data_of(journal)
    ends = [at + 1 for at, byte in enumerate(data) if byte == ord("\n")]
    path = tmp_path / "cut.journal"
    for length in range(ends[0], len(data)):
        path.write_bytes(data[:length])
        content = read_journal(path)
        complete = sum(end <= length for end in ends) - 1
        assert content.events == whole.events[:complete]
        assert content.torn is (length not in ends)


def test_a_journal_without_a_whole_header_is_corrupt(tmp_path):
    journal = written(tmp_path)
    header_end = data_of(journal).index(b"\n") + 1
    path = tmp_path / "cut.journal"
    for length in range(header_end):
        path.write_bytes(data_of(journal)[:length])
        with pytest.raises(RecordCorruptError):
            read_journal(path)
        with pytest.raises(RecordCorruptError):
            try_adopt(path)


def test_every_changed_byte_is_found_and_none_is_taken_for_a_torn_line(tmp_path):
    journal = written(tmp_path)
    data = data_of(journal)
    path = tmp_path / "damaged.journal"
    for at in range(len(data)):
        for change in (0x01, 0x20, 0x80):
            path.write_bytes(data[:at] + bytes([data[at] ^ change]) + data[at + 1 :])
            with pytest.raises(RecordCorruptError) as caught:
                read_journal(path)
            assert str(caught.value.where).startswith(str(path))


def test_a_dropped_or_swapped_line_is_found(tmp_path):
    journal = written(tmp_path)
    header, first, second, third, last = data_of(journal).splitlines(keepends=True)
    path = tmp_path / "damaged.journal"
    for lines in (
        [header, second, third, last],
        [header, first, third, second, last],
        [header, first, first],
    ):
        path.write_bytes(b"".join(lines))
        with pytest.raises(RecordCorruptError, match="out of order"):
            read_journal(path)


def test_a_last_line_that_a_power_cut_left_as_zeros_is_torn(tmp_path):
    journal = written(tmp_path)
    data = data_of(journal)
    start = data.rindex(b"\n", 0, len(data) - 1) + 1
    path = tmp_path / "zeros.journal"
    for tail in (
        bytes(len(data) - start),
        data[start : start + 30] + bytes(len(data) - start - 30),
        data[start : start + 30] + bytes(len(data) - start - 31) + b"\n",
    ):
        path.write_bytes(data[:start] + tail)
        content = read_journal(path)
        assert content.torn
        assert [event.seq for event in content.events] == [0, 1, 2]


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"{}",
        b'{"q":0,"t":"x","u":1,"f":[],"v":{}}',
        b'{"q":0,"t":"x","u":1,"f":{},"v":{},"d":{"a":[0,1,0,""]}}',
        b'{"q":0,"t":"x","u":1,"f":{},"v":{},"d":{"a":[64,0,0,""]}}',
        b'{"q":0,"t":"x","u":1,"f":{},"v":{},"d":{"a":[-1,0,0,""]}}',
        b'{"q":1,"t":"x","u":1,"f":{},"v":{}}',
        b'{"q":0,"t":"x","u":1,"f":' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b',"v":{}}',
        b"\xff",
        b"",
    ],
)
def test_a_line_that_is_whole_but_no_event_is_corrupt(tmp_path, body):
    journal = written(tmp_path, events=[])
    path = tmp_path / "odd.journal"
    path.write_bytes(data_of(journal) + framed(body))
    with pytest.raises(RecordCorruptError) as caught:
        read_journal(path)
    assert caught.value.where == f"{path}, line 2"


def test_a_length_without_bounds_does_not_make_the_reader_allocate(tmp_path):
    journal = written(tmp_path)
    path = tmp_path / "long.journal"
    path.write_bytes(data_of(journal) + b"ffffffff 00000000 {}\n")
    with pytest.raises(RecordCorruptError):
        read_journal(path)


def test_a_journal_of_a_newer_version_is_named_as_such(tmp_path):
    path = tmp_path / "newer.journal"
    path.write_bytes(framed(b'{"format":"isotrace-journal","version":3,"new":true}'))
    with pytest.raises(SchemaUnsupportedError, match="version 2"):
        read_journal(path)
    path.write_bytes(framed(b'{"format":"something else","version":1}'))
    with pytest.raises(RecordCorruptError, match="not a journal"):
        read_journal(path)


def test_a_journal_of_a_newer_version_stays_where_it_is_and_stops_no_store_from_opening(tmp_path):
    folder = tmp_path / "journals"
    folder.mkdir()
    newer = folder / journal_name("r9", "acme")
    newer.write_bytes(framed(b'{"format":"isotrace-journal","version":3,"new":true}'))
    facts = b'"scheme":"iso1","run_id":"r1","correlation_id":"c","tenant_id":"acme","agent_id":null,"seed":7'
    written(folder, [("run_started", 1, facts, {})]).close()
    store = SqliteStore(tmp_path / "traces.db")
    with pytest.warns(RecordingWarning, match="newer isotrace"):
        assert adopt_journals(store) == ["r1"]
    store.close()
    assert scan(folder) == [newer]


POISON = {
    "a lineage that is no list": (b'"lineage":7,"kind":"tool","skill_name":"s","effect":"read"', b"{}"),
    "a fact missing": (b'"lineage":[0]', b"{}"),
    "params that are no JSON": (b'"lineage":[0],"kind":"tool","skill_name":"s","effect":"read"', b"{"),
}


@pytest.mark.parametrize("kind", POISON)
def test_a_journal_that_can_t_be_sealed_stops_neither_the_others_nor_the_store(tmp_path, kind):
    """Ten whole journals around one poisoned one: all ten are adopted, the one is put aside by name."""
    store = SqliteStore(str(tmp_path / "traces.db"))
    started = (
        b'"scheme":"iso1","run_id":"%b","origin_run_id":"%b","correlation_id":"c","tenant_id":"acme",'
        b'"agent_id":null,"seed":1,"frozen_timestamp":null,"entry_point":null,"parent":null'
    )
    facts, params = POISON[kind]
    for name in [b"bad", *(b"good %d" % number for number in range(10))]:
        journal = Journal.create(tmp_path / "journals", name.decode(), "acme", SEED)
        journal.append("run_started", 1, started % (name, name), {})
        if name == b"bad":
            journal.append("step_started", 2, facts, {"params": params})
        journal.close()
    try:
        with pytest.warns(RecordingWarning, match=journal_name("bad", "acme")):
            adopted = adopt_journals(store)
        assert sorted(adopted) == [f"good {number}" for number in range(10)]
        assert scan(tmp_path / "journals") == []
        assert [path.name for path in (tmp_path / "journals").iterdir()] == [
            journal_name("bad", "acme") + ".corrupt"
        ]
        assert adopt_journals(store) == []
    finally:
        store.close()


def test_a_corrupt_journal_is_put_aside_and_never_overwritten(tmp_path):
    journal = written(tmp_path)
    first = quarantine(journal.path)
    journal.close()
    assert first.name == f"{journal_name('r1', 'acme')}.corrupt"
    assert first.read_bytes()
    second = quarantine(written(tmp_path).path, "corrupt")
    assert second.name == f"{journal_name('r1', 'acme')}.2.corrupt"
    assert scan(tmp_path) == []


def test_what_a_process_left_that_died_while_making_a_journal_is_swept(tmp_path):
    left = tmp_path / f".{journal_name('r1', 'acme')}.1.0.tmp"
    left.write_bytes(b"half a header")
    live = tmp_path / f".{journal_name('r2', 'acme')}.1.0.tmp"
    with live.open("wb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert scan(tmp_path) == []
        assert live.exists()
    assert not left.exists()


def test_scanning_no_folder_finds_nothing(tmp_path):
    assert scan(tmp_path / "missing") == []


# --- disks and folders ----------------------------------------------------------------------


def in_child(code: str, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *args],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def started(code: str, *args: str) -> Any:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_full_disk_leaves_no_half_line_and_refuses_what_follows(tmp_path):
    # A limit on the file's size makes real short writes and real errors, without a disk of our own.
    child = in_child(
        """
        import resource, signal, sys
        from isotrace.errors import JournalError
        from isotrace.record.journal import Journal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        journal = Journal.create(sys.argv[1], "r1", "acme", bytes(32))
        appended = 0
        try:
            while True:
                facts = b'"index":%d' % appended
                journal.append("step_chunk", appended, facts, {"chunk": b'"%b"' % (b"x" * 700)})
                appended += 1
        except JournalError as error:
            print(appended, error.errno, isinstance(error, OSError))
        try:
            journal.append("step_chunk", 0, b"", {})
        except JournalError as error:
            print(error.got)
        print(len(journal.content().events), journal.content().torn)
        """,
        str(tmp_path),
    )
    lines = child.stdout.splitlines()
    appended = int(lines[0].split()[0])
    assert appended > 5, child.stderr
    assert lines == [f"{appended} {errno.EFBIG} True", os.strerror(errno.EFBIG), f"{appended} False"]
    content = read_journal(scan(tmp_path)[0])
    assert [event.facts["index"] for event in content.events] == list(range(appended))
    assert not content.torn


def test_a_folder_that_nobody_may_write_to_is_a_named_error(tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o500)
    tmp_path.chmod(0o755)
    child = in_child(
        """
        import os, sys
        from isotrace.errors import JournalError
        from isotrace.record.journal import Journal
        if os.geteuid() == 0:
            for parent in reversed(__import__("pathlib").Path(sys.argv[1]).parents):
                if not os.stat(parent).st_mode & 1:
                    os.chmod(parent, os.stat(parent).st_mode | 0o011)
            os.setuid(65534)
        try:
            Journal.create(sys.argv[1], "r1", "acme", bytes(32))
        except JournalError as error:
            print(error.errno, error.where.startswith(sys.argv[1]), error.hint)
        """,
        str(folder),
    )
    assert child.stdout.startswith(f"{errno.EACCES} True choose a store"), child.stderr


def test_a_file_in_the_folders_place_is_a_named_error(tmp_path):
    (tmp_path / "journals").write_text("not a folder")
    with pytest.raises(JournalError) as caught:
        Journal.create(tmp_path / "journals", "r1", "acme", SEED)
    assert caught.value.errno in (errno.EEXIST, errno.ENOTDIR)
    assert caught.value.where == str(tmp_path / "journals")


def test_a_run_id_that_is_no_text_is_a_named_error(tmp_path):
    with pytest.raises(JournalError):
        Journal.create(tmp_path, "\ud800", "acme", SEED)


def test_durability_power_syncs_every_event(tmp_path, monkeypatch):
    synced = []
    real = os.fdatasync

    def counted(fd):
        synced.append(fd)
        real(fd)

    monkeypatch.setattr(os, "fdatasync", counted)
    written(tmp_path / "power", durability="power")
    assert len(synced) == len(EVENTS)
    written(tmp_path / "process")
    assert len(synced) == len(EVENTS)


def test_a_failed_sync_is_a_failed_append(tmp_path, monkeypatch):
    journal = written(tmp_path, durability="power")

    def fails(fd):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fails)
    with pytest.raises(JournalError) as caught:
        journal.append(*EVENTS[1])
    assert caught.value.errno == errno.EIO
    assert len(journal.content().events) == 4


def test_threads_append_whole_lines_with_numbers_of_their_own(tmp_path):
    journal = Journal.create(tmp_path, "r1", "acme", SEED)
    numbers: list[int] = []

    def work(who: int) -> None:
        for index in range(100):
            facts = b'"who":%d,"index":%d' % (who, index)
            numbers.append(
                journal.append("step_chunk", 1, facts, {"chunk": b'"%b"' % (b"y" * 3000)}, str(who))
            )

    threads = [threading.Thread(target=work, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    events = journal.content().events
    assert sorted(numbers) == [event.seq for event in events] == list(range(400))
    for who in range(4):
        assert [event.facts["index"] for event in events if event.facts["who"] == who] == list(range(100))


# --- interruptions ---------------------------------------------------------------------------


@pytest.mark.parametrize("error", ["KeyboardInterrupt", "TimeoutError", "ValueError"])
@pytest.mark.parametrize("length", [5, 3000])
def test_what_a_signals_handler_raises_in_the_middle_of_an_append_costs_at_most_that_event(
    tmp_path, error, length
):
    child = in_child(
        """
        import signal, sys
        from isotrace.record.journal import Journal
        error = getattr(__builtins__, sys.argv[2])
        def late(*_):
            raise error
        signal.signal(signal.SIGALRM, late)
        journal = Journal.create(sys.argv[1], "r1", "acme", bytes(32))
        number, done = 0, []
        def work():
            global number
            while True:
                number += 1
                data = b'"%b%d"' % (b"x" * int(sys.argv[3]), number)
                journal.append("step_chunk", 1, b'"index":%d' % number, {"chunk": data})
                done.append(number)
        for turn in range(300):
            try:
                try:
                    signal.setitimer(signal.ITIMER_REAL, 1e-4 + turn % 100 * 1e-6)
                    work()
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
            except error:
                pass
        found = [event.facts["index"] for event in journal.content().events]
        print(set(done) <= set(found), found == sorted(set(found)), len(found) - len(done) <= 300)
        """,
        str(tmp_path),
        error,
        str(length),
    )
    assert child.stdout.split() == ["True"] * 3, child.stderr


def test_events_in_the_middle_of_another_ones_append_come_right_after_it(tmp_path):
    # The collector and signal handlers run code of the agent's at any point, and that may make steps.
    child = in_child(
        """
        import signal, sys
        from isotrace.record.journal import Journal
        journal = Journal.create(sys.argv[1], "r1", "acme", bytes(32))
        own, others = 0, 0
        def append(who, number):
            data = b'"%b%d"' % (b"y" * 3000, number)
            journal.append("step_chunk", 1, b'"who":"%b","index":%d' % (who, number), {"chunk": data})
        def ring(*_):
            global others
            others += 1
            append(b"other", others)
        signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)
        while others < 500:
            own += 1
            append(b"own", own)
        signal.setitimer(signal.ITIMER_REAL, 0)
        append(b"own", own + 1)
        events = journal.content().events
        for who, last in (("own", own + 1), ("other", others)):
            found = [event.facts["index"] for event in events if event.facts["who"] == who]
            # A handler may be interrupted by the next one.
            print(sorted(found) == list(range(1, last + 1)))
        """,
        str(tmp_path),
    )
    assert child.stdout.split() == ["True"] * 2, child.stderr


# --- processes ------------------------------------------------------------------------------


def test_a_forked_child_lets_go_of_its_parents_journal(tmp_path):
    child = in_child(
        """
        import os, signal, sys
        from isotrace.errors import JournalError
        from isotrace.record.journal import Journal, try_adopt
        journal = Journal.create(sys.argv[1], "r1", "acme", bytes(32))
        journal.append("step_chunk", 1, b'"who":"parent"', {})
        gone, tell = os.pipe()
        wait, release = os.pipe()
        pid = os.fork()
        if pid == 0:
            assert journal.inert
            assert journal.append("step_chunk", 2, b'"who":"child"', {}) == -1
            journal.remove()
            journal.close()
            try:
                journal.content()
                os._exit(2)
            except JournalError:
                pass
            own = Journal.create(sys.argv[1], "r2", "acme", bytes(32))
            own.append("step_chunk", 3, b'"who":"child"', {})
            own.remove()
            os.write(tell, b"x")
            os.read(wait, 1)
            os._exit(0)
        os.read(gone, 1)
        journal.append("step_chunk", 4, b'"who":"parent"', {})
        print([event.facts["who"] for event in journal.content().events])
        print(try_adopt(journal.path))
        journal.close()
        # The child is alive, and holds nothing.
        print(try_adopt(journal.path) is not None)
        os.write(release, b"x")
        print(os.waitpid(pid, 0)[1])
        """,
        str(tmp_path),
    )
    assert child.stdout.splitlines() == ["['parent', 'parent']", "None", "True", "0"], child.stderr


def test_of_two_processes_that_make_one_journal_exactly_one_succeeds(tmp_path):
    code = """
        import sys
        from isotrace.errors import RunInUseError
        from isotrace.record.journal import Journal
        sys.stdin.readline()
        try:
            journals = [Journal.create(sys.argv[1], f"r{n}", "acme", bytes(32)) for n in range(1)]
            print("made", flush=True)
        except RunInUseError:
            print("refused", flush=True)
        sys.stdin.readline()
        """
    children = [started(code, str(tmp_path)) for _ in range(3)]
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    said = sorted(child.stdout.readline().strip() for child in children)
    assert said == ["made", "refused", "refused"]
    for child in children:
        child.communicate("\n", timeout=30)


WRITER = """
    import os, random, signal, sys, time
    from isotrace.record.journal import Journal

    folder, kills = sys.argv[1], int(sys.argv[2])
    for number in range(kills):
        # The parent forks writers and kills them, so that one import serves all of them.
        reports, report = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reports)
            journal = Journal.create(folder, f"run {number}", "acme", bytes(32))
            history, seq = b"", 0
            while True:
                history += b'{"role":"user","content":"%d %b"},' % (seq, os.urandom(40).hex().encode())
                note = b'"%b"' % (b"n" * (seq * 37 % 9000))
                values = {"params": b'{"messages":[%b0]}' % history, "note": note}
                assert journal.append("step_started", seq, b'"lineage":[%d]' % seq, values, "llm") == seq
                os.write(report, seq.to_bytes(8, "big"))
                seq += 1
        os.close(report)
        os.read(reports, 8)
        time.sleep(random.random() * 0.03)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        last = 0
        while data := os.read(reports, 8):
            last = int.from_bytes(data, "big")
        os.close(reports)
        print(number, last, flush=True)
"""


def test_kill_9_loses_no_event_whose_append_had_returned(tmp_path):
    child = in_child(WRITER, str(tmp_path), "40")
    reports = [tuple(map(int, line.split())) for line in child.stdout.splitlines()]
    assert len(reports) == 40, child.stderr
    assert max(last for _, last in reports) > 20
    for number, last in reports:
        adopted = try_adopt(tmp_path / journal_name(f"run {number}", "acme"))
        assert adopted is not None
        content = adopted.content()
        seqs = [event.seq for event in content.events]
        # At most one event more: written, but killed before it could say so.
        assert last <= seqs[-1] <= last + 1
        assert seqs == list(range(len(seqs)))
        assert len(content.events[last].value("params")["messages"]) == last + 2
        adopted.remove()


def test_a_journal_is_adoptable_as_soon_as_its_process_is_dead(tmp_path):
    code = """
        import sys
        from isotrace.record.journal import Journal
        journal = Journal.create(sys.argv[1], "r1", "acme", bytes(32))
        print("up", flush=True)
        sys.stdin.read()
        """
    child = started(code, str(tmp_path))
    child.stdout.readline()
    path = tmp_path / journal_name("r1", "acme")
    assert try_adopt(path) is None
    child.kill()
    child.wait()
    adopted = try_adopt(path)
    assert adopted is not None
    assert adopted.header.pid == child.pid
    child.stdin.close()
    child.stdout.close()
