"""Figures beside their floors: `python tests/benchmarks/run.py`."""
