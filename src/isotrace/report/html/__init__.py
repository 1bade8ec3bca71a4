"""Pages: one HTML file each, which needs no other file, no other host and no script to be read."""

from isotrace.report.html.behaviours import render_behaviours
from isotrace.report.html.run import render_run
from isotrace.report.html.sides import render_diff

__all__ = ["render_behaviours", "render_diff", "render_run"]
