"""The tour: every line that begins with `$` is run as it stands."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from isotrace.cli.demo import stand_in_model, support_agent
from isotrace.errors import IsotraceError, UsageError

TASK = "Please refund my order W-1042. I am ada@example.com."
PROMPT_BEFORE = "Be brief."
PROMPT_AFTER = "Be brief and apologise."

_RUNS = 4
_MOST_RUNS = 12
"""Runs that are made at most until two of them part: all twelve alike is one chance in 2,000."""

_SHOP = """
CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT, email TEXT);
CREATE TABLE orders (id TEXT PRIMARY KEY, customer_id INTEGER, item TEXT, cents INTEGER, status TEXT);
CREATE TABLE refunds (order_id TEXT, cents INTEGER);
INSERT INTO customers VALUES (1, 'Ada', 'ada@example.com'), (2, 'Bob', 'bob@example.com');
INSERT INTO orders VALUES ('W-1042', 1, 'lamp', 4990, 'delivered'), ('W-1043', 1, 'bulb', 590, 'sent'),
                          ('W-1044', 2, 'desk', 19900, 'delivered');
"""


class Tour:
    """Runs the demo in a folder of its own. With `quiet`, commands are run and nothing is shown."""

    def __init__(self, folder: Path, store: str, tenant: str, *, quiet: bool) -> None:
        self.folder = folder
        self.quiet = quiet
        self.env = {**os.environ, "ISOTRACE_STORE": store, "ISOTRACE_TENANT": tenant, "SHOP_DB": "shop.db"}
        self.found: dict[str, Any] = {"folder": str(folder), "store": store}

    def take(self) -> dict[str, Any]:
        """The whole tour. Returns what it came to.

        Raises `UsageError` for a folder that can't be written, `IsotraceError` where a step of it
        did not give what it is there to show.
        """
        self._make_folder()
        self._say(f"A support agent in {self.folder}/: its tools work on a SQLite file, its model is")
        self._say("a scripted stand-in (no model at all), served over HTTP on this machine.")
        with self._model() as url:
            first, second = self._record(url)
        self._compare(first, second)
        self._replay(second)
        self._replay_changed(second)
        command = "isotrace" if shutil.which("isotrace") else str(Path(sys.argv[0]).absolute())
        self._say("", "Look around:", f"  cd {self.folder} && {command} show @last")
        return self.found

    # --- the stations ------------------------------------------------------------------

    def _record(self, url: str) -> tuple[str, str]:
        """Records until two runs part; the ids of two that did."""
        self._head("The same task, several times. The model draws, so runs may differ.")
        self.env["MODEL_URL"] = url
        paths: dict[str, str] = {}
        for count in range(1, _MOST_RUNS + 1):
            self._reset_shop()
            self._isotrace("run", "support_agent.py", TASK)
            run = self._json("ls", "--agent", "support", "--limit", "1")[0]["run_id"]
            paths.setdefault(self._tool_path(run), run)
            if count >= _RUNS and len(paths) > 1:
                break
        else:
            raise IsotraceError("all runs of the demo took the same path, which is very unlikely; try again")
        self._head("What was recorded:")
        self._show_or_keep("ls", "ls", "--agent", "support", "--limit", str(count))
        self.found["runs"] = count
        first, second = list(paths.values())[:2]
        return first, second

    def _compare(self, first: str, second: str) -> None:
        self._head("Where did two of them part, and how?")
        self._show_or_keep("diff", "diff", first[:12], second[:12], expected=1)

    def _replay(self, run: str) -> None:
        self._head(
            "The model server is gone. The agent's own code runs again, its steps served from the record:"
        )
        self.env.pop("MODEL_URL")
        self._show_or_keep("replay", "replay", run[:12])

    def _replay_changed(self, run: str) -> None:
        self._head(f"Now the prompt is changed: {PROMPT_BEFORE!r} becomes {PROMPT_AFTER!r}.")
        source = self.folder / "support_agent.py"
        source.write_text(source.read_text("utf-8").replace(PROMPT_BEFORE, PROMPT_AFTER), "utf-8")
        self._show_or_keep("replay_changed", "replay", run[:12], expected=1)

    # --- what they need ----------------------------------------------------------------

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # Only what it holds: a copied mode might forbid to change the prompt later.
            shutil.copyfile(Path(support_agent.__file__), self.folder / "support_agent.py")
            self._reset_shop()
        except (OSError, sqlite3.Error) as error:
            raise UsageError(
                "the demo can't write to its folder",
                where=str(self.folder),
                got=error.strerror if isinstance(error, OSError) else str(error),
                hint="name another one with --folder",
            ) from error

    @contextmanager
    def _model(self) -> Iterator[str]:
        """The stand-in's URL; its process is ended with the block."""
        with subprocess.Popen(
            [sys.executable, stand_in_model.__file__], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            try:
                yield process.stdout.readline().strip()
            finally:
                process.terminate()

    def _reset_shop(self) -> None:
        (self.folder / "shop.db").unlink(missing_ok=True)
        connection = sqlite3.connect(self.folder / "shop.db")
        connection.executescript(_SHOP)
        connection.close()

    def _tool_path(self, run: str) -> str:
        steps = self._json("show", run)["steps"]
        return json.dumps(
            [[step["skill_name"], step["params"]] for step in steps if step["context"]["kind"] == "tool"]
        )

    def _show_or_keep(self, key: str, *arguments: str, expected: int = 0) -> None:
        """Shows what a command says to people, or keeps what it says to programs."""
        if self.quiet:
            self.found[key] = self._json(*arguments, expected=expected)
        else:
            self._isotrace(*arguments, expected=expected)

    def _isotrace(self, *arguments: str, expected: int = 0) -> None:
        """Shows a command and runs it."""
        self._say(f"$ isotrace {shlex.join(arguments)}")
        done = subprocess.run(
            [sys.executable, "-m", "isotrace.cli", *arguments],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=self.quiet,
            check=False,
        )
        self._check(arguments, done, expected)

    def _json(self, *arguments: str, expected: int = 0) -> Any:
        done = subprocess.run(
            [sys.executable, "-m", "isotrace.cli", *arguments, "--json"],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        self._check(arguments, done, expected)
        return json.loads(done.stdout)

    def _check(
        self, arguments: tuple[str, ...], done: subprocess.CompletedProcess[bytes], expected: int
    ) -> None:
        if done.returncode != expected:
            raise IsotraceError(
                f"`isotrace {shlex.join(arguments)}` ended with {done.returncode}",
                expected=str(expected),
                got=done.stderr.decode("utf-8", "replace").strip() if done.stderr else None,
            )

    def _head(self, text: str) -> None:
        self._say("", f"--- {text}")

    def _say(self, *lines: str) -> None:
        if not self.quiet:
            for line in lines:
                print(line, flush=True)
