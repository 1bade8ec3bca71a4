"""Templates into one file that needs no other: its style and script are inside, and nothing else may be."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from isotrace.errors import MissingExtraError
from isotrace.population.wording import percent
from isotrace.report.figures import cost, duration, moment, short_id, tokens
from isotrace.report.safe import visible

if TYPE_CHECKING:
    from jinja2 import Environment


def render(template: str, **view: Any) -> str:
    """The page. Raises `MissingExtraError` where jinja2 is not installed."""
    return _environment().get_template(template).render(view)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    # The extra is optional, and nobody who draws no page should wait for it.
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415  # optional
    except ImportError:
        raise MissingExtraError(
            "pages can't be drawn without jinja2", hint="pip install 'isotrace[html]'"
        ) from None
    environment = Environment(
        autoescape=True,
        loader=PackageLoader("isotrace.report.html"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "visible": lambda value: visible(str(value)),
        "duration": duration,
        "cost": cost,
        "tokens": tokens,
        "moment": moment,
        "percent": percent,
        "short": short_id,
        "share": lambda value: f"{value * 100:.3f}".rstrip("0").rstrip(".") + "%",
        "count": lambda number, noun: f"{number:,} {noun}{'' if number == 1 else 's'}",
    }
    environment.globals |= _inside()
    return environment


def _inside() -> dict[str, str]:
    """The style and the script as text, and the policy under which a browser runs these two alone."""
    folder = files("isotrace.report.html") / "templates"
    style, script = ((folder / name).read_text("utf-8").strip() for name in ("page.css", "page.js"))
    policy = (
        "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; "
        f"style-src '{_hash(style)}'; script-src '{_hash(script)}'"
    )
    return {"style": style, "script": script, "policy": policy}


def _hash(text: str) -> str:
    return f"sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
