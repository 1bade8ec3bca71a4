"""The command line. `main` is the entry point; nothing heavier than click loads before a command runs."""

from __future__ import annotations

import sys

from isotrace.cli.restarting import restart_with_hash_seed


def main(argv: list[str] | None = None) -> int:
    """Runs one command. Returns its exit code: 0 done or match, 1 diverged, 2 invalid record, bad usage
    or another error, 125 inconclusive, 130 interrupted."""
    if argv is None and sys.argv[1:2] == ["run"]:
        restart_with_hash_seed()
    # Imported here: the rooms inside can then be imported without click.
    from isotrace.cli.app import app  # noqa: PLC0415 - start-up time

    code: int = app.main(argv, standalone_mode=False)
    return code
