"""Benchmarks, which are described in README.md."""
