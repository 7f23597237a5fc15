"""Benchmarks: `python -m scripts.bench.NAME`; the last line of stdout is one JSON object (scripts/bench/report.py)."""
