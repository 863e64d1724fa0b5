"""Benchmarks. Each module with a `main` measures one thing: `python -m bench.latency --help`.

`python -m bench` runs all of them in a short form. See README.md beside this file.
"""
