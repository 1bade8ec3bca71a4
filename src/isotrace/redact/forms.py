"""How tokens of widely used services look: one table, for what captures withhold and for what redactors find.

Standard library only: captures read it at start-up.
"""

from __future__ import annotations

import re
from typing import Final

_MARKED: Final = ("sk", "pk", "rk", "ghp", "gho", "github_pat", "glpat", "xox[abprs]", "hf")
"""What stands before a `-` or a `_` in tokens of OpenAI, Anthropic, Stripe, GitHub, GitLab, Slack, Hugging
Face."""

_MORE_MARKED: Final = (
    "ghs",
    "ghu",
    "ghr",
    "xapp",
    "npm",
    "pypi",
    "dop_v1",
    "shpat",
    "shpss",
    "sq0atp",
    "whsec",
)
"""The same, where plain words begin so too: they count only in the middle of a text, with all that
follows."""

_BARE: Final = ("AKIA", "ASIA", "AIza", "eyJ")
"""How keys of AWS and Google begin, and JSON in base64, which tokens (JWT) are made of."""

BODY: Final = r"[-_A-Za-z0-9]"

SECRET_FORM: Final = re.compile(rf"(?:{'|'.join((*_MARKED, *_BARE))}){BODY}")
"""How tokens of widely used services begin: a whole value that does is taken for one."""

MARKED_TEXT: Final = rf"(?:{'|'.join((*_MARKED, *_MORE_MARKED))})[-_]"
BARE_TEXT: Final = rf"(?:{'|'.join(_BARE)})"

SECRET_TEXT: Final = re.compile(
    rf"(?<![A-Za-z0-9_-])(?:{MARKED_TEXT}(?=[-_A-Za-z]*\d)|{BARE_TEXT}){BODY}{{12,}}"
)
"""What such tokens look like in the middle of a text. Words that are joined by hyphens hold no digit."""
