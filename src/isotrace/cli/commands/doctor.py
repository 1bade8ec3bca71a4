"""`isotrace doctor`"""

from __future__ import annotations

import click

from isotrace.cli.face import Face, with_face
from isotrace.operations import examine


@click.command("doctor")
@with_face
def command(face: Face) -> int:
    """Check this machine, the store, and journals that wait.

    Exits with 2 if something is broken; what is merely missing is a warning.
    """
    checks = examine(face.store_url)
    failed = any(check.status == "fail" for check in checks)
    if face.json:
        face.print_json({"healthy": not failed, "checks": [check.to_dict() for check in checks]})
    else:
        from isotrace.report.terminal.console import make_console
        from isotrace.report.terminal.tables import print_checks

        print_checks(make_console(), checks)
    return 2 if failed else 0
