"""Pages: one HTML file each, which needs no other file, no other host and no script to be read."""

from isotrace.report.html.run import render_run

__all__ = ["render_run"]
