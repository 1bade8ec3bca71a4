"""What a program reads of its surroundings: variables, the time zone, files, and bytes that may be keys."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from isotrace.record.sources import variables
from isotrace.record.sources.variables import WITHHELD, kept, restored
from isotrace.record.withheld import PLACEHOLDER

if TYPE_CHECKING:
    from tests.sources.conftest import Programs

NEEDED = httpx  # by the programs

READS = """
import os, time
print(sorted(os.environ)[0])
for name, value in os.environ.items():
    pass
os.environ["MINE"] = "set here"
ask([
    os.environ["COLOUR"], os.getenv("SHAPE"), os.environ.get("SIZE", "medium"), "TASTE" in os.environ,
    os.environ["MINE"], len(os.environ["API_TOKEN"]) > 0, time.tzname, time.localtime().tm_hour,
])
ask(os.environ.get("COLOUR"))
"""
HERE: dict[str, str | None] = {
    "COLOUR": "blue",
    "SHAPE": "round",
    "SIZE": None,
    "TASTE": None,
    "MINE": "from outside",
    "API_TOKEN": "very-secret-1",
    "UNREAD": "never-asked-for",
    "TZ": "Asia/Tokyo",
    "LANG": "C.UTF-8",
}
ELSEWHERE: dict[str, str | None] = {
    "COLOUR": "red",
    "SHAPE": None,
    "SIZE": "huge",
    "TASTE": "sweet",
    "MINE": None,
    "API_TOKEN": None,
    "UNREAD": None,
    "TZ": "Europe/Paris",
}


def readings(programs: Programs, source: str) -> dict[str, Any]:
    """What the last run kept of a source."""
    found: dict[str, Any] = {}
    for line in programs.events:
        if line["event"]["type"] == "value_read" and line["event"]["source"] == source:
            found |= json.loads(line["values"]["value"]["json"])
    return found


def test_variables_and_time_zone_are_the_recorded_ones(programs: Programs) -> None:
    asked = programs.record(READS, env=HERE)
    assert asked[0].startswith("['blue', 'round', 'medium', False, 'set here', True, ('JST', 'JST')")
    result = programs.replay(env=ELSEWHERE)
    assert (result.verdict, result.data["divergences"]) == ("MATCH", []), result.data
    assert programs.grade == "replayable"


def test_each_name_is_noted_once_and_no_secret_is_kept(programs: Programs) -> None:
    programs.record(READS, env=HERE)
    noted = readings(programs, "environment")
    names = ("COLOUR", "SHAPE", "SIZE", "TASTE", "MINE", "API_TOKEN", "UNREAD", "TZ", "LANG")
    assert {name: noted.get(name, "unread") for name in names} == {
        "COLOUR": "blue",
        "SHAPE": "round",
        "SIZE": None,
        "TASTE": None,
        "MINE": "unread",
        "API_TOKEN": WITHHELD,
        "UNREAD": "unread",
        "TZ": "Asia/Tokyo",
        "LANG": "C.UTF-8",
    }
    assert sum(line["event"]["type"] == "value_read" for line in programs.events) < 5
    for file in programs.folder.rglob("*"):
        assert not file.is_file() or b"very-secret-1" not in file.read_bytes(), file


def test_a_client_that_wants_a_key_gets_one_that_is_none(programs: Programs) -> None:
    code = "import os\nkey = os.environ['OPENAI_API_KEY']\nask('hello')\nprint('with', key)"
    programs.record(code, env={"OPENAI_API_KEY": "sk-real"})
    result = programs.replay(env={"OPENAI_API_KEY": None})
    assert (result.verdict, f"with {PLACEHOLDER}" in result.out) == ("MATCH", True)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("COLOUR", "blue", "blue"),
        ("COLOUR", None, None),
        ("OPENAI_API_KEY", "x", WITHHELD),
        ("GITHUB_TOKEN", "x", WITHHELD),
        ("PGPASSWORD", "x", WITHHELD),
        ("DB_PASS", "x", WITHHELD),
        ("AWS_SECRET_ACCESS_KEY", "x", WITHHELD),
        ("DATABASE_URL", "postgres://me:secret@host/db", WITHHELD),
        ("BASE_URL", "https://host/v1", "https://host/v1"),
        ("CALLBACK", "https://host/?token=abc", WITHHELD),
        ("SETTING", "ghp_abcdef", WITHHELD),
        ("SETTING", "sk-proj-1", WITHHELD),
        ("LONG", "x" * 5000, WITHHELD),
        ("ODD", "a\udcff", WITHHELD),
    ],
)
def test_what_is_kept_of_a_variable(name: str, value: str | None, expected: Any) -> None:
    assert kept(name, value) == expected


def test_what_is_isotrace_s_or_the_interpreter_s_is_not_set_by_a_record() -> None:
    noted = {"PYTHONPATH": "/evil", "LD_PRELOAD": "/evil.so", "ISOTRACE_STORE": "x", "A=B": "c", "A": "b"}
    assert restored(noted, {"PATH": "/bin"}) == {"PATH": "/bin", "A": "b"}


def test_the_zone_is_set_only_where_it_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variables, "local_zone", lambda: "Europe/Berlin")
    assert restored({"TZ": None, "time zone": "Europe/Berlin"}, {"TZ": "UTC"}) == {}
    assert restored({"TZ": None, "time zone": "Asia/Tokyo"}, {}) == {"TZ": "Asia/Tokyo"}


def test_files_that_are_read_stand_in_the_grade_and_a_replay_names_those_that_differ(
    programs: Programs,
) -> None:
    (programs.folder / "prompt.txt").write_text("Be brief.")
    (programs.folder / "notes.md").write_text("old")
    (programs.folder / "helper.py").write_text("WORD = 'x'")
    (programs.folder / "log.txt").write_text("before")
    programs.record(
        "import helper, os, pathlib, json\n"
        "open('made.txt', 'w').write('by the program'); open('log.txt', 'a').write('more')\n"
        "ask([open('prompt.txt').read(), pathlib.Path('notes.md').exists(), open('made.txt').read()])\n"
        "pathlib.Path('notes.md').read_bytes(); open('prompt.txt')\n"
        "open('/etc/hostname'); open('/dev/null')\n"
    )
    assert programs.grade == [
        "files: what the code read by itself is not recorded: prompt.txt, notes.md",
    ]
    assert readings(programs, "files") == {
        str(programs.folder / "prompt.txt"): {
            "size": 9,
            "sha256": hashlib.sha256(b"Be brief.").hexdigest(),
        },
        str(programs.folder / "notes.md"): {"size": 3, "sha256": hashlib.sha256(b"old").hexdigest()},
    }
    (programs.folder / "notes.md").write_text("new")
    result = programs.replay()
    assert result.verdict == "MATCH"
    assert [note for note in result.data["notes"] if "notes.md is not what it was" in note]
    (programs.folder / "prompt.txt").write_text("Be very brief.")
    changed = json.loads(programs.call("replay", "@last", "--json").stdout)
    assert (changed["verdict"], changed["divergences"][0]["code"]) == ("DIVERGED", "PARAMS_CHANGED")
    assert any("prompt.txt is not what it was" in note for note in changed["notes"])


def test_random_bytes_that_may_be_keys_stand_in_the_grade(programs: Programs) -> None:
    (programs.folder / "helper.py").write_text("import os\nos.urandom(4)")
    programs.record(
        "import random, secrets, uuid, tempfile\n"
        "secrets.token_hex(8); secrets.choice('ab'); random.SystemRandom().random()\n"
        "uuid.uuid4(); tempfile.mktemp(); random.Random(); import helper; ask(1)"
    )
    assert programs.grade == [
        "secrets: random bytes that program.py drew are not recorded, they may be a key",
        "secrets: random bytes that helper.py drew are not recorded, they may be a key",
    ]


def test_nothing_is_noted_where_a_program_is_started_otherwise(programs: Programs) -> None:
    code = (
        "import isotrace, os\nisotrace.instrument()\nfrom asking import ask\n"
        "with isotrace.run('a'): ask(os.environ['COLOUR']); open('program.py').read()"
    )
    (programs.folder / "program.py").write_text(code)
    subprocess.run(
        [sys.executable, "program.py"], cwd=programs.folder, env={**os.environ, "COLOUR": "blue"}, check=True
    )
    assert programs.grade == "replayable"
    assert readings(programs, "environment") == {}
