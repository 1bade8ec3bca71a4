"""Child processes: recorded as they really ran, and replayed with none."""

from __future__ import annotations

import gc
import multiprocessing
import os
import platform
import signal
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from isotrace.errors import UncontrolledSourceError
from isotrace.record import skill

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.record.lab import Lab, Taken

pytestmark = pytest.mark.usefixtures("captured")

PYTHON = sys.executable


def assert_replays_without_processes(
    lab: Lab, agent: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, grade: Any = "replayable"
) -> Taken:
    """Records an agent, takes every program away, and replays it: the same value, and nothing started."""
    taken = lab.record(agent)
    assert taken.error is None
    assert taken.grade == grade
    with monkeypatch.context() as patched:
        patched.setenv("PATH", "/nowhere")
        result = lab.replay(taken, agent)
    assert (result.error, result.divergences, str(result.verdict)) == (None, [], "MATCH")
    assert result.value == taken.value
    assert [type(one) for one in _flat(result.value)] == [type(one) for one in _flat(taken.value)]
    assert (result.receipt.blocked, result.receipt.served) == (0, len(taken.steps))
    return taken


def _flat(value: Any) -> list[Any]:
    if not isinstance(value, list | tuple):
        return [value]
    return [value, *(part for one in value for part in _flat(one))]


def attributes(error: BaseException) -> list[Any]:
    """What a program may look at in an error."""
    names = (
        "args",
        "cmd",
        "returncode",
        "timeout",
        "output",
        "stdout",
        "stderr",
        "errno",
        "filename",
        "strerror",
    )
    return [type(error).__name__, str(error), *(getattr(error, name, "none") for name in names)]


# --- one step for each command -----------------------------------------------------------------


def test_what_waits_for_its_end_is_one_step(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def agent() -> list[Any]:
        done = subprocess.run(["sh", "-c", "echo out; echo err >&2; exit 3"], capture_output=True, text=True)
        return [
            [done.args, done.returncode, done.stdout, done.stderr],
            subprocess.run(["printf", r"\377\n"], stdout=subprocess.PIPE).stdout,
            subprocess.run("tr a-z A-Z", shell=True, input=b"shout", capture_output=True).stdout,
            subprocess.call(["sh", "-c", "exit 4"]),
            subprocess.check_call(["true"]),
            subprocess.check_output(["echo", "grüß dich"], encoding="utf-8"),
            subprocess.getoutput("echo one; echo two >&2"),
            subprocess.getstatusoutput("echo three; exit 5"),
            os.system("exit 6"),
            subprocess.run(["true"]).stdout,
        ]

    taken = assert_replays_without_processes(lab, agent, monkeypatch)
    assert taken.value[1:] == [
        b"\xff\n", b"SHOUT", 4, 0, "grüß dich\n", "one\ntwo", (5, "three"), 6 << 8, None,
    ]  # fmt: skip
    assert [name for _, name, _, _ in taken.steps] == [
        "sh", "printf", "tr", "sh", "true", "echo", "echo", "echo", "exit", "true",
    ]  # fmt: skip
    first = taken.record.steps[0]
    assert first.context is not None
    assert (first.context.kind, first.context.effect) == ("process", "write")
    assert first.params == {
        "argv": ["sh", "-c", "echo out; echo err >&2; exit 3"],
        "stdout": "PIPE",
        "stderr": "PIPE",
        "text": True,
    }
    assert first.outcome_data == {"returncode": 3, "stdout": "out\n", "stderr": "err\n"}
    assert (first.status.value, first.outcome_category, first.outcome_code) == ("failure", "PERMANENT", "3")


def test_errors_are_raised_again_with_all_that_they_say(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = "import sys, time; print('begun', flush=True); time.sleep(60)"
    gone = str(Path("/nowhere/at/all"))

    def agent() -> list[Any]:
        seen = []
        for start in (
            lambda: subprocess.run(
                ["sh", "-c", "echo no; exit 2"], check=True, capture_output=True, text=True
            ),
            lambda: subprocess.check_call(["sh", "-c", "exit 2"]),
            lambda: subprocess.run([PYTHON, "-c", slow], capture_output=True, timeout=1),
            lambda: subprocess.call(["sleep", "60"], timeout=0.05),
            lambda: subprocess.run([gone]),
            lambda: subprocess.run(["true"], cwd=gone),
            lambda: subprocess.Popen([gone]),
            lambda: subprocess.run(["true"], input="text", stdin=subprocess.PIPE),
        ):
            with pytest.raises((OSError, ValueError, subprocess.SubprocessError)) as raised:
                start()
            seen.append(attributes(raised.value))
        return seen

    taken = assert_replays_without_processes(lab, agent, monkeypatch)
    assert [error[0] for error in taken.value] == [
        "CalledProcessError", "CalledProcessError", "TimeoutExpired", "TimeoutExpired",
        "FileNotFoundError", "FileNotFoundError", "FileNotFoundError", "ValueError",
    ]  # fmt: skip
    assert taken.value[2][6] == b"begun\n"


def test_a_command_is_recorded_without_secrets_and_where_it_runs(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "below").mkdir()
    monkeypatch.setenv("MY_OWN", "same")

    def agent() -> None:
        env = {**os.environ, "API_TOKEN": "hush-1", "LEVEL": "3", "DB": "pg://me:hush-2@db/x"}
        del env["MY_OWN"]
        subprocess.run(["true"], env=env, cwd="below")
        subprocess.run(["true"], env={"LEVEL": "4"}, cwd="/")
        subprocess.run(
            ["true", "--token", "hush-3", "--password=hush-4", "https://me:hush-5@host/x?api_key=hush-6"]
        )
        subprocess.run(
            "KEY=1 API_KEY=hush-7 true -H 'Authorization: Bearer hush-8' --exit-code HEAD", shell=True
        )

    taken = assert_replays_without_processes(lab, agent, monkeypatch)
    assert [params for _, _, params, _ in taken.steps] == [
        {
            "argv": ["true"],
            "cwd": "below",
            "env": {"API_TOKEN": "***", "DB": "pg://***@db/x", "LEVEL": "3", "MY_OWN": None},
        },
        {"argv": ["true"], "cwd": "/", "env": {"LEVEL": "4"}, "env_only": True},
        {"argv": ["true", "--token", "***", "--password=***", "https://***@host/x?api_key=***"]},
        {"shell": "KEY=*** API_KEY=*** true -H 'Authorization: ***' --exit-code HEAD"},
    ]


def test_a_moved_checkout_still_matches(lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("here", "there"):
        (tmp_path / name / "src").mkdir(parents=True)

    def agent() -> str:
        return subprocess.check_output(["pwd"], cwd=Path.cwd() / "src", text=True)

    monkeypatch.chdir(tmp_path / "here")
    taken = lab.record(agent)
    monkeypatch.chdir(tmp_path / "there")
    result = lab.replay(taken, agent)
    assert (str(result.verdict), result.value) == ("MATCH", f"{tmp_path}/here/src\n")


@pytest.mark.parametrize(
    ("commands", "code", "index"),
    [
        ([["echo", "a"], ["echo", "x"]], "PARAMS_CHANGED", 1),
        ([["echo", "a"], ["printf", "b"]], "SKILL_CHANGED", 1),
        ([["echo", "a"]], "EARLY_END", 1),
        ([["echo", "a"], ["echo", "b"], ["echo", "c"]], "LATE_END", 2),
    ],
)
def test_another_command_is_found_at_its_step(
    lab: Lab, commands: list[list[str]], code: str, index: int
) -> None:
    asked = [["echo", "a"], ["echo", "b"]]

    def agent() -> None:
        for command in asked:
            subprocess.run(command, capture_output=True)

    taken = lab.record(agent)
    asked[:] = commands
    result = lab.replay(taken, agent)
    first = result.divergences[0]
    assert (str(result.verdict), first.code, first.index, result.receipt.blocked) == (
        "DIVERGED",
        code,
        index,
        0,
    )


def test_a_process_inside_a_skill_belongs_to_that_skill(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    @skill
    def look() -> str:
        with subprocess.Popen(["echo", "inside"], stdout=subprocess.PIPE, text=True) as process:
            return process.communicate()[0] + subprocess.check_output(["echo", "too"], text=True)

    taken = assert_replays_without_processes(lab, look, monkeypatch)
    assert [(name, outcome) for _, name, _, outcome in taken.steps] == [("look", {"value": "inside\ntoo\n"})]


# --- Popen ----------------------------------------------------------------------------------------


def test_a_process_that_is_talked_to(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    echo = "import sys\nfor line in sys.stdin: print(line.strip()[::-1], flush=True)"

    def agent() -> list[Any]:
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen([PYTHON, "-c", echo], **pipes, text=True, bufsize=1) as process:
            assert process.stdin
            assert process.stdout
            seen: list[Any] = [process.pid, process.poll(), isinstance(process, subprocess.Popen)]
            for word in ("abc", "déf"):
                process.stdin.write(f"{word}\n")
                seen.append(process.stdout.readline())
            process.stdin.close()
            seen.append(process.stdout.read())
        return [*seen, process.returncode, process.wait(), process.poll()]

    taken = assert_replays_without_processes(lab, agent, monkeypatch)
    assert taken.value[1:] == [None, True, "cba\n", "féd\n", "", 0, 0, 0]
    done = [params["do"] for _, _, params, _ in taken.steps]
    assert done == ["start", "write", "read", "write", "wait"]
    assert taken.steps[1][2]["data"] == "abc\n"


def test_output_comes_in_the_same_pieces(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = "import sys, time\nfor n in range(4): sys.stdout.buffer.write(bytes([200 + n]) * (n + 1)); "
    pieces += "sys.stdout.flush(); time.sleep(0.05)"

    def agent() -> list[Any]:
        with subprocess.Popen([PYTHON, "-c", pieces], stdout=subprocess.PIPE, bufsize=0) as process:
            assert process.stdout
            read = process.stdout.read
            return list(iter(lambda: read(100), b""))

    taken = assert_replays_without_processes(lab, agent, monkeypatch)
    assert b"".join(taken.value) == b"\xc8" + b"\xc9" * 2 + b"\xca" * 3 + b"\xcb" * 4
    assert len(taken.value) > 1


def test_communicating_with_a_time_out_and_killing(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def agent() -> list[Any]:
        slow = subprocess.Popen(["sh", "-c", "echo begun; exec sleep 60"], stdout=subprocess.PIPE, text=True)
        with pytest.raises(subprocess.TimeoutExpired) as late:
            slow.communicate(timeout=0.3)
        slow.kill()
        seen = [attributes(late.value), slow.communicate(), slow.returncode]
        other = subprocess.Popen(["sleep", "60"])
        other.terminate()
        with other:
            seen.append(other.poll() in (None, -15))
        group = subprocess.Popen(["sleep", "60"], start_new_session=True)
        os.killpg(os.getpgid(group.pid), signal.SIGKILL)
        with pytest.raises(ProcessLookupError):
            os.kill(subprocess.Popen(["true"]).wait() or _ended(), 0)
        return [*seen, other.returncode, group.wait()]

    def _ended() -> int:
        process = subprocess.Popen(["true"])
        process.wait()
        ended.append(process)
        return process.pid

    ended: list[Any] = []
    taken = assert_replays_without_processes(lab, agent, monkeypatch)
    assert taken.value[1:] == [("begun\n", None), -9, True, -15, -9]


def test_a_pipeline(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def agent() -> Any:
        first = subprocess.Popen(["printf", "b\\na\\n"], stdout=subprocess.PIPE)
        second = subprocess.Popen(["sort"], stdin=first.stdout, stdout=subprocess.PIPE, text=True)
        assert first.stdout
        first.stdout.close()
        out = second.communicate()[0]
        with os.popen("echo popen; exit 2") as pipe:
            return [out, first.wait(), pipe.read(), pipe.close()]

    taken = assert_replays_without_processes(lab, agent, monkeypatch)
    assert taken.value == ["a\nb\n", 0, "popen\n", 2 << 8]


def test_what_goes_to_a_file_is_marked(lab: Lab, tmp_path: Path) -> None:
    def agent() -> int:
        with (tmp_path / "log").open("w") as log:
            return subprocess.run(["echo", "logged"], stdout=log).returncode

    taken = lab.record(agent)
    assert (tmp_path / "log").read_text() == "logged\n"
    assert taken.grade == ["echo: what it writes goes to a file, which a replay does not write (stdout)"]


def test_the_programs_own_pipes_are_passed_through_and_refused_later(lab: Lab) -> None:
    def agent() -> bytes:
        reading, writing = os.pipe()
        subprocess.run(["echo", "mine"], stdout=writing)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            return pipe.read()

    taken = lab.record(agent)
    assert (taken.value, taken.steps) == (b"mine\n", [])
    assert taken.grade == ["process: echo was given a pipe of the program's own"]
    result = lab.replay(taken, agent)
    assert (str(result.verdict), result.divergences[0].code) == ("DIVERGED", "UNCONTROLLED_SOURCE")


def test_what_was_there_comes_back() -> None:
    from isotrace.record import instrument

    # The fixture has put it on; what is on may be put on again.
    instrument()()
    assert subprocess.run(["true"]).returncode == 0


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_what_is_not_captured_works_while_recording(lab: Lab) -> None:
    def agent() -> list[Any]:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            seen: list[Any] = [pool.submit(abs, -3).result()]
        if (child := os.fork()) == 0:
            os._exit(subprocess.run(["sh", "-c", "exit 7"]).returncode)
        return [*seen, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])]

    taken = lab.record(agent)
    assert (taken.error, taken.value, taken.steps) == (None, [3, 7], [])


def test_reading_in_threads_belongs_to_their_branches(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def agent() -> list[Any]:
        command = ["sh", "-c", "for n in 1 2 3; do echo out$n; echo err$n >&2; done"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        seen: dict[str, list[str]] = {}

        def read(name: str) -> None:
            with getattr(process, name) as stream:
                seen[name] = list(stream)

        threads = [threading.Thread(target=read, args=(name,)) for name in ("stdout", "stderr")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        while process.poll() is None:
            time.sleep(0.01)
        return [seen["stdout"], seen["stderr"], process.returncode]

    grade = ["thread: sh was called from a thread that isotrace does not order"]
    taken = assert_replays_without_processes(lab, agent, monkeypatch, grade)
    assert taken.value == [["out1\n", "out2\n", "out3\n"], ["err1\n", "err2\n", "err3\n"], 0]
    assert [lineage for lineage, _, _, _ in taken.steps] == [(0,), (0, "thread 000", 0), (0, "thread 001", 0)]


def test_odd_bytes_and_texts_come_back_as_they_were(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def agent() -> list[Any]:
        odd = ["printf", r"a\r\nb\000\377\303\274"]
        return [
            subprocess.check_output(odd),
            subprocess.check_output(odd, encoding="utf-8", errors="surrogateescape"),
            subprocess.check_output(odd, encoding="latin-1"),
            subprocess.run(["cat"], input=b"\xff\x00", capture_output=True).stdout,
            subprocess.run(["true"], capture_output=True, text=True).stdout,
        ]

    taken = assert_replays_without_processes(lab, agent, monkeypatch)
    assert taken.value == [b"a\r\nb\0\xff\xc3\xbc", "a\nb\0\udcffü", "a\nb\0ÿÃ¼", b"\xff\0", ""]


def test_a_process_that_outlives_its_run_is_the_real_one(lab: Lab) -> None:
    kept: list[Any] = []

    def agent() -> None:
        kept.append(subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        kept[0].stdin.write(b"after ")

    lab.record(agent)
    assert kept[0].communicate(b"all") == (b"after all", None)


def test_other_writes_to_a_process_are_found(lab: Lab) -> None:
    words = ["one", "two"]

    def agent() -> None:
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdin
            for word in words:
                process.stdin.write(word)
                process.stdin.flush()
            process.communicate()

    taken = lab.record(agent)
    words[1] = "three"
    result = lab.replay(taken, agent)
    first = result.divergences[0]
    assert (first.code, first.index, first.pointers) == ("PARAMS_CHANGED", 2, ["/data"])


def test_what_a_library_asks_of_the_machine_is_no_step(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    asking = vars(platform)["_Processor"].from_subprocess  # once in a process, where nothing else did
    taken = assert_replays_without_processes(lab, lambda: (asking(), None)[1], monkeypatch)
    assert taken.steps == []
    taken = assert_replays_without_processes(
        lab, lambda: subprocess.run(["uname", "-p"], capture_output=True).stdout, monkeypatch
    )
    assert [name for _, name, _, _ in taken.steps] == ["uname"]


def test_a_pipe_that_is_let_go_is_closed_at_once(lab: Lab) -> None:
    def agent() -> list[Any]:
        process = subprocess.Popen(["sh", "-c", "echo first; exec yes"], stdout=subprocess.PIPE)
        assert process.stdout
        first = process.stdout.readline()
        descriptor = process.stdout.raw.name  # type: ignore[attr-defined]  # a FileIO's
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            process.stdout = None
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)
        return [first, process.wait()]

    gc.disable()
    try:
        taken, result = lab.again(agent)
    finally:
        gc.enable()
    assert (taken.error, taken.value) == (None, [b"first\n", -13])
    assert (str(result.verdict), result.value) == ("MATCH", taken.value)


def test_what_is_served_is_not_used_outside_of_its_run(lab: Lab) -> None:
    kept: list[Any] = []

    def agent() -> None:
        kept.append(subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE))

    taken = lab.record(agent)
    assert str(lab.replay(taken, agent).verdict) == "MATCH"
    real, served = kept
    assert served.pid == real.pid
    for use in (
        served.wait,
        served.poll,
        served.kill,
        served.stdout.read,
        lambda: served.stdin.write(b"x" * 9_999),
    ):
        with pytest.raises(UncontrolledSourceError, match="cat was served from the record"):
            use()
    assert real.communicate(b"still there")[0] == b"still there"
    served.stdin.detach().close()
    served.stdout.close()
