"""Benchmarks: what Torc costs, beside a yardstick measured in the same run. Never a timed test.

Run them with `benchmarks/run`; each measure is a module in `benchmarks.measures`.
"""
