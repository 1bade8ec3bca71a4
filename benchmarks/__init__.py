"""What isotrace costs, measured: `python -m benchmarks`, or `make bench`.

One file per question, each with a function `measure` that returns its figures. How they are taken,
and what they were here, stands in `docs/explanation/performance.md`.
"""
